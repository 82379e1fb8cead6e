
/* Sets what the kernels of the optimizer read in the coming iteration. */
static int set_hyperparameters(void)
{
    uint32_t iteration = ${name}_iteration();
    double rate = learning_rate(iteration);
    if (!(rate <= 3.4028234663852886e+38)) {
        return ${NAME}_NONFINITE_LOSS;
    }
$hyperparameters
    return ${NAME}_OK;
}

/* Runs one pass forward, and backward if its loss is finite. */
static int run_pass(int32_t pass)
{
    int32_t n = $n_samples;
    int status = check_inputs(n);
    double loss;
    if (status == ${NAME}_OK) {
        status = check_labels(n);
    }
    if (status != ${NAME}_OK) {
        return status;
    }
$standardize
$count_terms
    CONTROL[FRACTION] = $fraction;
    CONTROL[FIRST_SAMPLE] = (double)(pass * ${NAME}_PASS_SAMPLES);
    $forward
    loss = $loss;
    if (!(loss - loss == 0.0)) {
        return ${NAME}_NONFINITE_LOSS;
    }
    $backward
    return ${NAME}_OK;
}

int ${name}_step_from(${name}_feed feed, void *context, double *loss)
{
    int status = set_hyperparameters();
    int32_t pass;
    if (status != ${NAME}_OK) {
        return status;
    }
$begin
$remember
    for (pass = 0; pass < ${NAME}_PASSES; pass++) {
        int32_t first = pass * ${NAME}_PASS_SAMPLES;
        int32_t n = ${NAME}_BATCH - first;
        if (n > ${NAME}_PASS_SAMPLES) {
            n = ${NAME}_PASS_SAMPLES;
        }
        if (feed != 0 && feed(context, first, n) != 0) {
            status = ${NAME}_FEED_ENDED;
        } else {
            status = run_pass(pass);
        }
        if (loss != 0) {
            *loss = $loss;
        }
        if (status != ${NAME}_OK) {
$put_back
            return status;
        }
    }
    update_steps();
    return ${NAME}_OK;
}

int ${name}_train(int32_t steps, ${name}_feed feed, void *context)
{
    int status = ${NAME}_OK;
    int32_t step;
    for (step = 0; step < steps && status == ${NAME}_OK; step++) {
        status = ${name}_step_from(feed, context, 0);
    }
    return status;
}

double ${name}_loss(void)
{
    return $loss;
}

uint32_t ${name}_iteration(void)
{
    return (uint32_t)CONTROL[ITERATION];
}
