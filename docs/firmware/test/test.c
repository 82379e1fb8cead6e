/* Trains as the model was trained here, and compares every bit after each step.
 *
 * It calls no library: main.c shows what it says on a computer, and a board can show it
 * in a way of its own.
 */
#include "test.h"

#define DIGITS_OFFSETS
#include "digits.h"
#include "data.h"

static const struct { const char *name; uint32_t found, planned; } offsets[] = {
    {"DIGITS_MODEL_CONTROL", DIGITS_MODEL_CONTROL, 30144},
    {"DIGITS_CONV1_FILTER", DIGITS_CONV1_FILTER, 29184},
    {"DIGITS_CONV1_FILTER_FIRST_MOMENT", DIGITS_CONV1_FILTER_FIRST_MOMENT, 29504},
    {"DIGITS_CONV1_FILTER_SECOND_MOMENT", DIGITS_CONV1_FILTER_SECOND_MOMENT, 29824},
    {"DIGITS_CONV1_BIAS", DIGITS_CONV1_BIAS, 30272},
    {"DIGITS_CONV1_BIAS_FIRST_MOMENT", DIGITS_CONV1_BIAS_FIRST_MOMENT, 30336},
    {"DIGITS_CONV1_BIAS_SECOND_MOMENT", DIGITS_CONV1_BIAS_SECOND_MOMENT, 30400},
    {"DIGITS_CONV2_FILTER", DIGITS_CONV2_FILTER, 15360},
    {"DIGITS_CONV2_FILTER_FIRST_MOMENT", DIGITS_CONV2_FILTER_FIRST_MOMENT, 17664},
    {"DIGITS_CONV2_FILTER_SECOND_MOMENT", DIGITS_CONV2_FILTER_SECOND_MOMENT, 19968},
    {"DIGITS_CONV2_BIAS", DIGITS_CONV2_BIAS, 30464},
    {"DIGITS_CONV2_BIAS_FIRST_MOMENT", DIGITS_CONV2_BIAS_FIRST_MOMENT, 30528},
    {"DIGITS_CONV2_BIAS_SECOND_MOMENT", DIGITS_CONV2_BIAS_SECOND_MOMENT, 30592},
    {"DIGITS_CONV3_FILTER", DIGITS_CONV3_FILTER, 22272},
    {"DIGITS_CONV3_FILTER_FIRST_MOMENT", DIGITS_CONV3_FILTER_FIRST_MOMENT, 24576},
    {"DIGITS_CONV3_FILTER_SECOND_MOMENT", DIGITS_CONV3_FILTER_SECOND_MOMENT, 26880},
    {"DIGITS_CONV3_BIAS", DIGITS_CONV3_BIAS, 30656},
    {"DIGITS_CONV3_BIAS_FIRST_MOMENT", DIGITS_CONV3_BIAS_FIRST_MOMENT, 30720},
    {"DIGITS_CONV3_BIAS_SECOND_MOMENT", DIGITS_CONV3_BIAS_SECOND_MOMENT, 30784},
    {"DIGITS_LOGITS_WEIGHT", DIGITS_LOGITS_WEIGHT, 0},
    {"DIGITS_LOGITS_WEIGHT_FIRST_MOMENT", DIGITS_LOGITS_WEIGHT_FIRST_MOMENT, 5120},
    {"DIGITS_LOGITS_WEIGHT_SECOND_MOMENT", DIGITS_LOGITS_WEIGHT_SECOND_MOMENT, 10240},
    {"DIGITS_LOGITS_BIAS", DIGITS_LOGITS_BIAS, 30848},
    {"DIGITS_LOGITS_BIAS_FIRST_MOMENT", DIGITS_LOGITS_BIAS_FIRST_MOMENT, 30912},
    {"DIGITS_LOGITS_BIAS_SECOND_MOMENT", DIGITS_LOGITS_BIAS_SECOND_MOMENT, 30976},
    {"DIGITS_LOSS_LABEL", DIGITS_LOSS_LABEL, 204352},
    {"DIGITS_IN_OUT0", DIGITS_IN_OUT0, 31040},
    {"DIGITS_CONV1_OUT0", DIGITS_CONV1_OUT0, 39232},
    {"DIGITS_ACT1_OUT0", DIGITS_ACT1_OUT0, 39232},
    {"DIGITS_CONV2_OUT0", DIGITS_CONV2_OUT0, 104768},
    {"DIGITS_ACT2_OUT0", DIGITS_ACT2_OUT0, 39232},
    {"DIGITS_CONV3_OUT0", DIGITS_CONV3_OUT0, 170304},
    {"DIGITS_ACT3_OUT0", DIGITS_ACT3_OUT0, 186688},
    {"DIGITS_FLAT_OUT0", DIGITS_FLAT_OUT0, 186688},
    {"DIGITS_LOGITS_OUT0", DIGITS_LOGITS_OUT0, 203072},
    {"DIGITS_LOSS_OUT0", DIGITS_LOSS_OUT0, 203072},
    {"DIGITS_LOGITS_OUT0_GRAD", DIGITS_LOGITS_OUT0_GRAD, 203072},
    {"DIGITS_LOGITS_WEIGHT_GRAD", DIGITS_LOGITS_WEIGHT_GRAD, 204352},
    {"DIGITS_LOGITS_BIAS_GRAD", DIGITS_LOGITS_BIAS_GRAD, 209472},
    {"DIGITS_FLAT_OUT0_GRAD", DIGITS_FLAT_OUT0_GRAD, 186688},
    {"DIGITS_ACT3_OUT0_GRAD", DIGITS_ACT3_OUT0_GRAD, 186688},
    {"DIGITS_CONV3_OUT0_GRAD", DIGITS_CONV3_OUT0_GRAD, 186688},
    {"DIGITS_CONV3_FILTER_GRAD", DIGITS_CONV3_FILTER_GRAD, 170304},
    {"DIGITS_CONV3_BIAS_GRAD", DIGITS_CONV3_BIAS_GRAD, 172608},
    {"DIGITS_ACT2_OUT0_GRAD", DIGITS_ACT2_OUT0_GRAD, 39232},
    {"DIGITS_CONV2_OUT0_GRAD", DIGITS_CONV2_OUT0_GRAD, 39232},
    {"DIGITS_CONV1_OUT0_1", DIGITS_CONV1_OUT0_1, 104768},
    {"DIGITS_ACT1_OUT0_1", DIGITS_ACT1_OUT0_1, 170304},
    {"DIGITS_CONV2_FILTER_GRAD", DIGITS_CONV2_FILTER_GRAD, 235840},
    {"DIGITS_CONV2_BIAS_GRAD", DIGITS_CONV2_BIAS_GRAD, 238144},
    {"DIGITS_ACT1_OUT0_GRAD", DIGITS_ACT1_OUT0_GRAD, 170304},
    {"DIGITS_CONV1_OUT0_GRAD", DIGITS_CONV1_OUT0_GRAD, 170304},
    {"DIGITS_CONV1_FILTER_GRAD", DIGITS_CONV1_FILTER_GRAD, 39232},
    {"DIGITS_CONV1_BIAS_GRAD", DIGITS_CONV1_BIAS_GRAD, 39552},
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
    copy_bytes(digits_input(0), test_input0
        + (batch * DIGITS_BATCH + first) * 64, 4u * (uint32_t)n * 64);
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
    static float out[DIGITS_PASS_SAMPLES * DIGITS_OUTPUT_ELEMENTS];
    load_inputs(batch, 0, DIGITS_PASS_SAMPLES);
    if (is_right(digits_predict(out) == DIGITS_OK, "predict has failed")) {
        is_equal(crc_of(out, sizeof out), test_prediction[batch], 32,
            "CRC of the prediction for batch", (uint32_t)batch);
    }
}

static int32_t batch_number;

static int feed(void *context, int32_t first, int32_t n)
{
    (void)context;
    load_inputs(batch_number, first, n);
    copy_bytes(digits_label(),
        test_label + (batch_number * DIGITS_BATCH + first) * DIGITS_LABEL_ELEMENTS,
        4u * (uint32_t)n * DIGITS_LABEL_ELEMENTS);
    return 0;
}

static uint8_t slots[2][DIGITS_STATE_BYTES];
static long left_to_write = -1; /* bytes until the power goes; -1 for never */

static int write_slot(void *context, int slot, uint32_t position, const uint8_t *bytes,
    uint32_t n)
{
    (void)context;
    if (left_to_write >= 0 && (long)n > left_to_write) {
        copy_bytes(slots[slot] + position, bytes, (uint32_t)left_to_write);
        left_to_write = 0;
        return 1;
    }
    if (left_to_write >= 0) {
        left_to_write -= (long)n;
    }
    copy_bytes(slots[slot] + position, bytes, n);
    return 0;
}

static int read_slot(void *context, int slot, uint32_t position, uint8_t *bytes, uint32_t n)
{
    (void)context;
    copy_bytes(bytes, slots[slot] + position, n);
    return 0;
}

static int write_first(void *context, uint32_t position, const uint8_t *bytes, uint32_t n)
{
    return write_slot(context, 0, position, bytes, n);
}

static int read_first(void *context, uint32_t position, uint8_t *bytes, uint32_t n)
{
    return read_slot(context, 0, position, bytes, n);
}

/* The CRC-32 of iteration, weights and states: the last bytes of a saved state. */
static uint32_t state_now(void)
{
    const uint8_t *crc = slots[0] + DIGITS_STATE_BYTES - 4;
    is_right(digits_save(write_first, 0) == DIGITS_OK, "save has failed");
    return (uint32_t)crc[0] | (uint32_t)crc[1] << 8 | (uint32_t)crc[2] << 16
        | (uint32_t)crc[3] << 24;
}

static uint64_t bits_of(double number)
{
    uint64_t bits;
    copy_bytes(&bits, &number, sizeof bits);
    return bits;
}

/* Trains from a step on; returns whether all is as expected. */
static int train_from(int32_t step)
{
    for (; step < N_STEPS; step++) {
        int status;
        uint32_t state;
        double loss;
        batch_number = step % N_BATCHES;
        status = digits_train(1, feed, 0);
        loss = digits_loss();
        if (!is_equal((uint64_t)status, DIGITS_OK, 32, "status of step", (uint32_t)step)
            || !is_equal(bits_of(loss), test_loss[step], 64, "bits of the loss of step",
                (uint32_t)step)) {
            return 0;
        }
        state = state_now();
        if (!is_equal(state, test_state[step], 32,
                "CRC of weights and states of the optimizer after step",
                (uint32_t)step)) {
            return 0;
        }
    }
    return 1;
}

/* A state that is damaged anywhere is refused, and one that is cut off. */
static void damage_states(void)
{
    uint32_t step = DIGITS_STATE_BYTES / 61 + 1, place;
    state_now();
    for (place = 0; place < DIGITS_STATE_BYTES; place += place < 64 ? 1 : step) {
        slots[0][place] ^= 0x10;
        is_right(digits_restore(read_first, 0) != DIGITS_OK, "a damaged state is taken");
        slots[0][place] ^= 0x10;
    }
    is_right(digits_restore(read_first, 0) == DIGITS_OK, "a whole state is refused");
}

/* The power goes while a state is saved: the one from before is there. */
static void lose_power(void)
{
    digits_slots storage = {write_slot, read_slot, 0};
    uint32_t i, before = digits_iteration();
    long at;
    for (i = 0; i < DIGITS_STATE_BYTES; i++) {
        slots[0][i] = slots[1][i] = 0;
    }
    is_right(digits_restore_slot(&storage) == DIGITS_STATE_CORRUPT, "empty slots");
    is_right(digits_save_slot(&storage) == DIGITS_OK, "save_slot has failed");
    for (at = 0; at < (long)DIGITS_STATE_BYTES; at += (long)DIGITS_STATE_BYTES / 7 + 1) {
        is_right(digits_train(1, feed, 0) == DIGITS_OK, "training has stopped");
        left_to_write = at;
        is_right(digits_save_slot(&storage) == DIGITS_IO, "a lost write is not seen");
        left_to_write = -1;
        is_right(digits_restore_slot(&storage) == DIGITS_OK, "no state is left");
        is_right(digits_iteration() == before, "another state is left");
    }
}

/* Samples of which one value is NaN, in the last micro-batch. */
static int feed_nan(void *context, int32_t first, int32_t n)
{
    static const uint32_t nan = 0x7fc00000u;
    int status = feed(context, first, n);
    if (first + n == DIGITS_BATCH) {
        copy_bytes(digits_input(0), &nan, sizeof nan);
    }
    return status;
}

static void train(void)
{
    static uint8_t half_way[DIGITS_STATE_BYTES];
    int32_t middle = N_STEPS / 2;
    if (!train_from(0)) {
        return;
    }
    /* The same steps from a state on. */
    digits_init();
    for (batch_number = 0; batch_number < middle; batch_number++) {
        int32_t step = batch_number;
        batch_number = step % N_BATCHES;
        is_right(digits_train(1, feed, 0) == DIGITS_OK, "training has stopped");
        batch_number = step;
    }
    state_now();
    copy_bytes(half_way, slots[0], sizeof half_way);
    digits_init();
    copy_bytes(slots[0], half_way, sizeof half_way);
    is_right(digits_restore(read_first, 0) == DIGITS_OK, "restore has failed");
    train_from(middle);
    damage_states();
    lose_power();
    /* NaN among the samples is refused, and changes nothing. */
    batch_number = 0;
    {
        uint32_t before = state_now();
        is_right(digits_train(1, feed_nan, 0) == DIGITS_NONFINITE_INPUT, "NaN is taken");
        is_right(state_now() == before, "NaN has changed the state");
    }
}

int test_run(void)
{
    int32_t batch;
    n_wrong = 0;
    compare_offsets();
    digits_init();
    train();
    for (batch = 0; batch < N_BATCHES; batch++) {
        compare_prediction(batch);
    }
    if (n_wrong == 0) {
        test_say("20 steps of training have the same bits\n");
    }
    return n_wrong;
}
