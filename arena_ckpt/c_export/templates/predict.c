
int ${name}_predict(float *out)
{
    int32_t i;
    int status = check_inputs(${NAME}_PASS_SAMPLES);
    if (status != ${NAME}_OK) {
        return status;
    }
$standardize
$clear
    CONTROL[FRACTION] = 1.0;
$clear_labels
    $run();
$copy
    return ${NAME}_OK;
}
