
static int32_t batch_number;

static int feed(void *context, int32_t first, int32_t n)
{
    (void)context;
    load_inputs(batch_number, first, n);
    memcpy(${name}_label(),
        test_label + ((size_t)batch_number * ${NAME}_BATCH + (size_t)first)
            * ${NAME}_LABEL_ELEMENTS,
        sizeof(float) * (size_t)n * ${NAME}_LABEL_ELEMENTS);
    return 0;
}

static uint8_t slots[2][${NAME}_STATE_BYTES];
static long left_to_write = -1; /* bytes until the power goes; -1 for never */

static int write_slot(void *context, int slot, uint32_t position, const uint8_t *bytes,
    uint32_t n)
{
    (void)context;
    if (left_to_write >= 0 && (long)n > left_to_write) {
        memcpy(slots[slot] + position, bytes, (size_t)left_to_write);
        left_to_write = 0;
        return 1;
    }
    if (left_to_write >= 0) {
        left_to_write -= (long)n;
    }
    memcpy(slots[slot] + position, bytes, n);
    return 0;
}

static int read_slot(void *context, int slot, uint32_t position, uint8_t *bytes, uint32_t n)
{
    (void)context;
    memcpy(bytes, slots[slot] + position, n);
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
    memcpy(&bits, &number, sizeof bits);
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
        if (status != ${NAME}_OK) {
            printf("step %d: status %d\n", (int)step, status);
            return is_right(0, "training has stopped");
        }
        if (bits_of(loss) != test_loss[step]) {
            printf("step %d: the loss is %.17g, which has other bits than expected\n",
                (int)step, loss);
            return is_right(0, "the loss differs");
        }
        state = state_now();
        if (state != test_state[step]) {
            printf("step %d: the state has CRC %08lx, expected %08lx\n", (int)step,
                (unsigned long)state, (unsigned long)test_state[step]);
            return is_right(0, "weights or states of the optimizer differ");
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
    uint32_t before = ${name}_iteration();
    long at;
    memset(slots, 0, sizeof slots);
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
        memcpy(${name}_input(0), &nan, sizeof nan);
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
    memcpy(half_way, slots[0], sizeof half_way);
    ${name}_init();
    memcpy(slots[0], half_way, sizeof half_way);
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
