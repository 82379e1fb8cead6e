/* Trains as the model was trained here, and compares every bit after each step. */
#include <stdio.h>
#include <string.h>

#define ${NAME}_OFFSETS
#include "$name.h"
#include "data.h"

static const struct { const char *name; uint32_t found, planned; } offsets[] = {
$offsets
};

static int n_wrong;

static int is_right(int holds, const char *what)
{
    if (!holds) {
        printf("%s\n", what);
        n_wrong++;
    }
    return holds;
}

static void compare_offsets(void)
{
    size_t i;
    for (i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        if (offsets[i].found != offsets[i].planned) {
            printf("%s lies at %lu, and the plan says %lu\n", offsets[i].name,
                (unsigned long)offsets[i].found, (unsigned long)offsets[i].planned);
            n_wrong++;
        }
    }
}

/* Puts samples of a batch where the model reads them. */
static void load_inputs(int32_t batch, int32_t first, int32_t n)
{
$load_inputs
}

/* The CRC-32 of bytes. */
static uint32_t crc_of(const void *from, size_t n)
{
    const unsigned char *bytes = from;
    uint32_t crc = 0xffffffffu;
    for (; n > 0; n--) {
        int bit;
        crc ^= *bytes++;
        for (bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
        }
    }
    return ~crc;
}

/* Compares the prediction for the first samples of a batch. */
static void compare_prediction(int32_t batch)
{
    static float out[${NAME}_PASS_SAMPLES * ${NAME}_OUTPUT_ELEMENTS];
    uint32_t crc;
    load_inputs(batch, 0, ${NAME}_PASS_SAMPLES);
    if (!is_right(${name}_predict(out) == ${NAME}_OK, "predict has failed")) {
        return;
    }
    crc = crc_of(out, sizeof out);
    if (crc != test_prediction[batch]) {
        printf("the prediction for batch %d has CRC %08lx, expected %08lx\n", (int)batch,
            (unsigned long)crc, (unsigned long)test_prediction[batch]);
        n_wrong++;
    }
}
$test_train
int main(void)
{
    int32_t batch;
    compare_offsets();
    ${name}_init();
$run_train
    for (batch = 0; batch < N_BATCHES; batch++) {
        compare_prediction(batch);
    }
    if (n_wrong == 0) {
        printf("$success\n", N_STEPS);
    }
    return n_wrong != 0;
}
