
if(ESP_PLATFORM)
    idf_component_register(
        SRCS src/$name.c src/${name}_weights.c src/ac_kernels.c src/ac_math.c
        INCLUDE_DIRS src)
    target_compile_options($${COMPONENT_LIB} PRIVATE
        -ffp-contract=off -fno-strict-aliasing)
    return()
endif()
