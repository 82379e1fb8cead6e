
int ${name}_predict(float *out)
{
    int32_t i;
    int status = check_inputs(${NAME}_PASS_SAMPLES);
    if (status != ${NAME}_OK) {
        return status;
    }
$standardize
    CONTROL[LOSS] = 0.0;
    CONTROL[SCALE] = 0.0;
    CONTROL[FRACTION] = 1.0;
$clear_label
    $run();
    for (i = 0; i < ${NAME}_PASS_SAMPLES * ${NAME}_OUTPUT_ELEMENTS; i++) {
        out[i] = $prediction[i];
    }
    return ${NAME}_OK;
}
