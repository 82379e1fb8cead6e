if(CONFIG_$NAME)
  set(SOURCES $${CMAKE_CURRENT_LIST_DIR}/../src)
  zephyr_library_named($name)
  zephyr_library_sources(
    $${SOURCES}/$name.c $${SOURCES}/${name}_weights.c
    $${SOURCES}/ac_kernels.c $${SOURCES}/ac_math.c)
  zephyr_library_compile_options(-ffp-contract=off -fno-strict-aliasing)
  # These float vectors set subnormal numbers to 0.
  if(CONFIG_ARMV8_1_M_MVEF)
    zephyr_library_compile_options(-fno-tree-vectorize)
  endif()
  zephyr_include_directories($${SOURCES})
endif()
