#include <stdio.h>
#include "digits.h"

static FILE *samples;

/* Bring the next batch to where the plan has its place. */
static int feed(void *context, int32_t first, int32_t n)
{
    size_t inputs = 64u * (size_t)n, labels = 10u * (size_t)n;
    (void)context;
    (void)first;
    return fread(digits_input(0), sizeof(float), inputs, samples) != inputs
        || fread(digits_label(), sizeof(float), labels, samples) != labels;
}

static int write(void *file, uint32_t position, const uint8_t *bytes, uint32_t n)
{
    return fseek(file, (long)position, SEEK_SET) != 0 || fwrite(bytes, 1, n, file) != n;
}

int main(void)
{
    FILE *state = fopen("board.state", "wb");
    int status = DIGITS_OK;
    samples = fopen("samples.bin", "rb");
    digits_init();
    while (status == DIGITS_OK) {
        status = digits_train(1, feed, 0);
    }
    printf("%lu steps, then status %d\n", (unsigned long)digits_iteration(), status);
    status = digits_save(write, state);
    fclose(state);
    return status;
}
