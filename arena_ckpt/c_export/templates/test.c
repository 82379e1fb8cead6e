/* Trains as the model was trained here, and compares every bit after each step.
 *
 * It calls no library: main.c shows what it says on a computer, and a board can show it
 * in a way of its own.
 */
#include "test.h"

#define ${NAME}_OFFSETS
#include "$name.h"
#include "data.h"

static const struct { const char *name; uint32_t found, planned; } offsets[] = {
$offsets
};

static int n_wrong;

/* Says a number of some bits, in hexadecimal digits, and then a text. */
static void say_number(uint64_t number, int n_bits, const char *then)
{
    char text[17];
    char *end = text;
    while (n_bits > 0) {
        n_bits -= 4;
        *end++ = "0123456789abcdef"[(number >> n_bits) & 15];
    }
    *end = 0;
    test_say(text);
    test_say(then);
}

static int is_right(int holds, const char *what)
{
    if (!holds) {
        test_say(what);
        test_say("\n");
        n_wrong++;
    }
    return holds;
}

/* Compares two numbers of a step or a batch. */
static int is_equal(uint64_t found, uint64_t expected, int n_bits, const char *what,
    uint32_t place)
{
    if (found == expected) {
        return 1;
    }
    n_wrong++;
    test_say(what);
    test_say(" 0x");
    say_number(place, 16, ": found 0x");
    say_number(found, n_bits, ", expected 0x");
    say_number(expected, n_bits, "\n");
    return 0;
}

static void copy_bytes(void *to, const void *from, uint32_t n)
{
    uint8_t *target = to;
    const uint8_t *source = from;
    while (n > 0) {
        *target++ = *source++;
        n--;
    }
}

static void compare_offsets(void)
{
    uint32_t i;
    for (i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        if (offsets[i].found != offsets[i].planned) {
            n_wrong++;
            test_say(offsets[i].name);
            test_say(" lies at 0x");
            say_number(offsets[i].found, 32, ", and the plan says 0x");
            say_number(offsets[i].planned, 32, "\n");
        }
    }
}

/* Puts samples of a batch where the model reads them. */
static void load_inputs(int32_t batch, int32_t first, int32_t n)
{
$load_inputs
}

/* The CRC-32 of bytes. */
static uint32_t crc_of(const void *from, uint32_t n)
{
    const uint8_t *bytes = from;
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
    load_inputs(batch, 0, ${NAME}_PASS_SAMPLES);
    if (is_right(${name}_predict(out) == ${NAME}_OK, "predict has failed")) {
        is_equal(crc_of(out, sizeof out), test_prediction[batch], 32,
            "CRC of the prediction for batch", (uint32_t)batch);
    }
}
$test_train
int test_run(void)
{
    int32_t batch;
    n_wrong = 0;
    compare_offsets();
    ${name}_init();
$run_train
    for (batch = 0; batch < N_BATCHES; batch++) {
        compare_prediction(batch);
    }
    if (n_wrong == 0) {
        test_say("$success\n");
    }
    return n_wrong;
}
