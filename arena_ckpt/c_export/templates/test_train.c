
static int32_t batch_number;

static int feed(void *context, int32_t first, int32_t n)
{
    (void)context;
    load_inputs(batch_number, first, n);
$copy_labels
    return 0;
}

static uint8_t slots[2][${NAME}_STATE_BYTES];
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
    const uint8_t *crc = slots[0] + ${NAME}_STATE_BYTES - 4;
    is_right(${name}_save(write_first, 0) == ${NAME}_OK, "save has failed");
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
        status = ${name}_train(1, feed, 0);
        loss = ${name}_loss();
        if (!is_equal((uint64_t)status, ${NAME}_OK, 32, "status of step", (uint32_t)step)
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
    uint32_t step = ${NAME}_STATE_BYTES / 61 + 1, place;
    state_now();
    for (place = 0; place < ${NAME}_STATE_BYTES; place += place < 64 ? 1 : step) {
        slots[0][place] ^= 0x10;
        is_right(${name}_restore(read_first, 0) != ${NAME}_OK, "a damaged state is taken");
        slots[0][place] ^= 0x10;
    }
    is_right(${name}_restore(read_first, 0) == ${NAME}_OK, "a whole state is refused");
}

/* The power goes while a state is saved: the one from before is there. */
static void lose_power(void)
{
    ${name}_slots storage = {write_slot, read_slot, 0};
    uint32_t i, before = ${name}_iteration();
    long at;
    for (i = 0; i < ${NAME}_STATE_BYTES; i++) {
        slots[0][i] = slots[1][i] = 0;
    }
    is_right(${name}_restore_slot(&storage) == ${NAME}_STATE_CORRUPT, "empty slots");
    is_right(${name}_save_slot(&storage) == ${NAME}_OK, "save_slot has failed");
    for (at = 0; at < (long)${NAME}_STATE_BYTES; at += (long)${NAME}_STATE_BYTES / 7 + 1) {
        is_right(${name}_train(1, feed, 0) == ${NAME}_OK, "training has stopped");
        left_to_write = at;
        is_right(${name}_save_slot(&storage) == ${NAME}_IO, "a lost write is not seen");
        left_to_write = -1;
        is_right(${name}_restore_slot(&storage) == ${NAME}_OK, "no state is left");
        is_right(${name}_iteration() == before, "another state is left");
    }
}

/* Samples of which one value is NaN, in the last micro-batch. */
static int feed_nan(void *context, int32_t first, int32_t n)
{
    static const uint32_t nan = 0x7fc00000u;
    int status = feed(context, first, n);
    if (first + n == ${NAME}_BATCH) {
        copy_bytes(${name}_input(0), &nan, sizeof nan);
    }
    return status;
}

static void train(void)
{
    static uint8_t half_way[${NAME}_STATE_BYTES];
    int32_t middle = N_STEPS / 2;
    if (!train_from(0)) {
        return;
    }
    /* The same steps from a state on. */
    ${name}_init();
    for (batch_number = 0; batch_number < middle; batch_number++) {
        int32_t step = batch_number;
        batch_number = step % N_BATCHES;
        is_right(${name}_train(1, feed, 0) == ${NAME}_OK, "training has stopped");
        batch_number = step;
    }
    state_now();
    copy_bytes(half_way, slots[0], sizeof half_way);
    ${name}_init();
    copy_bytes(slots[0], half_way, sizeof half_way);
    is_right(${name}_restore(read_first, 0) == ${NAME}_OK, "restore has failed");
    train_from(middle);
    damage_states();
    lose_power();
    /* NaN among the samples is refused, and changes nothing. */
    batch_number = 0;
    {
        uint32_t before = state_now();
        is_right(${name}_train(1, feed_nan, 0) == ${NAME}_NONFINITE_INPUT, "NaN is taken");
        is_right(state_now() == before, "NaN has changed the state");
    }
}
