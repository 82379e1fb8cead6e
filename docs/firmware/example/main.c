/* Works on samples that are made up: put your own where make_samples is. */
#include <stdio.h>

#include "digits.h"

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
    fill(digits_input(0), n * 64, first);
}

static int feed(void *context, int32_t first, int32_t n)
{
    (void)context;
    make_samples(first, n);
    fill(digits_label(), n * DIGITS_LABEL_ELEMENTS, 0);
    return 0;
}

int main(void)
{
    static float out[DIGITS_PASS_SAMPLES * DIGITS_OUTPUT_ELEMENTS];
    int status = DIGITS_OK;
    digits_init();
    while (status == DIGITS_OK && digits_iteration() < 10) {
        status = digits_train(1, feed, 0);
        printf("step %lu: loss %g\n", (unsigned long)digits_iteration(), digits_loss());
    }

    if (status == DIGITS_OK) {
        make_samples(0, DIGITS_PASS_SAMPLES);
        status = digits_predict(out);
    }
    if (status != DIGITS_OK) {
        printf("status %d\n", status);
        return 1;
    }
    printf("the first output is %g\n", (double)out[0]);
    return 0;
}
