/* Trains some steps on the batches of a project's test; says how many instructions one
 * step takes, and what the stack was used for. */
#include "board.h"
#include "data.h"

static int32_t batch;

static int feed(void *context, int32_t first, int32_t n)
{
    static const int32_t elements[NET_INPUTS] = NET_INPUT_ELEMENTS;
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
    static float out[NET_PASS_SAMPLES * NET_OUTPUT_ELEMENTS];
    uint32_t before;
    int status;
    board_paint_stack();
    net_init();
    before = board_instructions();
    status = net_train(1, feed, 0);
    board_say_number("instructions", board_instructions() - before);
    if (status == NET_OK) {
        status = net_predict(out);
    }
    board_say_number("stack", board_stack_bytes());
    return status;
}
