/* Trains on the batches of a project's test and saves after each step, in two files that
 * the emulator may be killed over; goes on from the newer one that is whole. */
#include "board.h"
#include "data.h"

static int files[2];

static int write_slot(void *context, int slot, uint32_t position, const uint8_t *bytes,
    uint32_t n)
{
    (void)context;
    return board_write(files[slot], position, bytes, n);
}

static int read_slot(void *context, int slot, uint32_t position, uint8_t *bytes,
    uint32_t n)
{
    (void)context;
    return board_read(files[slot], position, bytes, n);
}

static int feed(void *context, int32_t first, int32_t n)
{
    static const int32_t elements[NET_INPUTS] = NET_INPUT_ELEMENTS;
    int32_t batch = (int32_t)net_iteration() % N_BATCHES;
    const float *source = test_input0 + (batch * NET_BATCH + first) * elements[0];
    const float *label = test_label + (batch * NET_BATCH + first) * NET_LABEL_ELEMENTS;
    int32_t i;
    (void)context;
    for (i = 0; i < n * elements[0]; i++) {
        net_input(0)[i] = source[i];
    }
    for (i = 0; i < n * NET_LABEL_ELEMENTS; i++) {
        net_label()[i] = label[i];
    }
    return 0;
}

int board_main(void)
{
    net_slots storage = {write_slot, read_slot, 0};
    int status;
    files[0] = board_open("slot0", 1);
    files[1] = board_open("slot1", 1);
    net_init();
    status = net_restore_slot(&storage);
    if (status != NET_OK && status != NET_STATE_CORRUPT) {
        board_say_number("restore", (uint32_t)status);
        return 1;
    }
    board_say_number("begins at", net_iteration());
    while (net_iteration() < N_STEPS) {
        if (net_train(1, feed, 0) != NET_OK || net_save_slot(&storage) != NET_OK) {
            board_say("training or saving has failed\n");
            return 1;
        }
        board_say_number("saved", net_iteration());
    }
    return 0;
}
