/* Works on samples that are made up: put your own where make_samples is. */
#include <stdio.h>

#include "$name.h"

static void fill(float *x, int32_t n, int32_t start)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        x[i] = (float)((i + start) % 2);
    }
}

/* Puts samples first to first + n - 1 where the model reads them. */
static void make_samples(int32_t first, int32_t n)
{
$make_samples
}
$example_train
int main(void)
{
    static float out[${NAME}_PASS_SAMPLES * ${NAME}_OUTPUT_ELEMENTS];
    int status = ${NAME}_OK;
    ${name}_init();
$example_run
    if (status == ${NAME}_OK) {
        make_samples(0, ${NAME}_PASS_SAMPLES);
        status = ${name}_predict(out);
    }
    if (status != ${NAME}_OK) {
        printf("status %d\n", status);
        return 1;
    }
    printf("the first output is %g\n", (double)out[0]);
    return 0;
}
