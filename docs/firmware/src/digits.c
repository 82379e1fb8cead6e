/* The steps of digits, a model that trains.
 *
 * Map of the memory: what lies where, in which steps. What lies in the same bytes does so
 * in turn, or is the same tensor after an operation in place.
 *
 * arena, 238,208 bytes
 *     offset      bytes  steps      what
 *          0       5120  0-41       logits:weight
 *       5120       5120  0-41       logits:weight:first_moment
 *      10240       5120  0-41       logits:weight:second_moment
 *      15360       2304  0-41       conv2:filter
 *      17664       2304  0-41       conv2:filter:first_moment
 *      19968       2304  0-41       conv2:filter:second_moment
 *      22272       2304  0-41       conv3:filter
 *      24576       2304  0-41       conv3:filter:first_moment
 *      26880       2304  0-41       conv3:filter:second_moment
 *      29184        288  0-41       conv1:filter
 *      29504        288  0-41       conv1:filter:first_moment
 *      29824        288  0-41       conv1:filter:second_moment
 *      30144        128  0-41       model:control
 *      30272         32  0-41       conv1:bias
 *      30336         32  0-41       conv1:bias:first_moment
 *      30400         32  0-41       conv1:bias:second_moment
 *      30464         32  0-41       conv2:bias
 *      30528         32  0-41       conv2:bias:first_moment
 *      30592         32  0-41       conv2:bias:second_moment
 *      30656         32  0-41       conv3:bias
 *      30720         32  0-41       conv3:bias:first_moment
 *      30784         32  0-41       conv3:bias:second_moment
 *      30848         40  0-41       logits:bias
 *      30912         40  0-41       logits:bias:first_moment
 *      30976         40  0-41       logits:bias:second_moment
 *      31040       8192  0-36       in:out0
 *      39232      65536  1-2        conv1:out0
 *      39232      65536  2-3        act1:out0
 *      39232      65536  4-22       act2:out0
 *      39232      65536  23-26      act2:out0:grad
 *      39232      65536  26-31      conv2:out0:grad
 *      39232        288  36-38      conv1:filter:grad
 *      39552         32  36-38      conv1:bias:grad
 *     104768      65536  3-26       conv2:out0
 *     104768      65536  28-34      conv1:out0, life 1
 *     170304      16384  5-20       conv3:out0
 *     170304       2304  22-24      conv3:filter:grad
 *     170304      65536  29-30      act1:out0, life 1
 *     170304      65536  31-34      act1:out0:grad
 *     170304      65536  34-36      conv1:out0:grad
 *     172608         32  22-24      conv3:bias:grad
 *     186688      16384  6-7        act3:out0
 *     186688      16384  7-13       flat:out0
 *     186688      16384  14-17      flat:out0:grad
 *     186688      16384  17-20      act3:out0:grad
 *     186688      16384  20-23      conv3:out0:grad
 *     203072       1280  8-9        logits:out0
 *     203072       1280  9-11       loss:out0
 *     203072       1280  11-14      logits:out0:grad
 *     204352       1280  0-11       loss:label
 *     204352       5120  13-15      logits:weight:grad
 *     209472         40  13-15      logits:bias:grad
 *     235840       2304  30-32      conv2:filter:grad
 *     238144         32  30-32      conv2:bias:grad
 */
#define DIGITS_OFFSETS
/* One memory holds tensors of different types, one after the other. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-strict-aliasing")
/* The float vectors of Cortex-M55 and M85 set subnormal numbers to 0. */
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#pragma GCC optimize("no-tree-vectorize")
#endif
#endif

#include "digits.h"
#include "ac_kernels.h"

/* Called between steps, for example to feed a watchdog: -D'DIGITS_YIELD()=feed_dog()'. */
#ifndef DIGITS_YIELD
#define DIGITS_YIELD() ((void)0)
#endif

#if defined(__GNUC__)
#define ALIGNED(n) __attribute__((aligned(n)))
#elif !defined(ALIGNED)
#error "say how this compiler aligns an array, with -D'ALIGNED(n)=...'"
#endif

#if defined(DIGITS_ARENA_SECTION)
#elif defined(__GNUC__) && defined(__ELF__)
#define DIGITS_ARENA_SECTION __attribute__((section(".bss.digits_arena")))
#else
#define DIGITS_ARENA_SECTION
#endif
static uint8_t digits_arena[238208] ALIGNED(64) DIGITS_ARENA_SECTION;
typedef char memories_are_as_planned[
    sizeof digits_arena == DIGITS_ARENA_BYTES ? 1 : -1];

/* Pointers to the elements at an offset. */
#define F(offset) ((float *)(void *)(digits_arena + (offset)))
#define D(offset) ((double *)(void *)(digits_arena + (offset)))
#define I(offset) ((int32_t *)(void *)(digits_arena + (offset)))

/* Numbers that change from step to step. */
#define CONTROL D(DIGITS_MODEL_CONTROL)
enum {
    LOSS = 0,
    SCALE = 1,
    FRACTION = 2,
    SQUARE_NORM = 3,
    NONFINITE = 4,
    ITERATION = 5,
    FIRST_SAMPLE = 6,
    HYPER = 8
};

#define RUN(step) do { step(); DIGITS_YIELD(); } while (0)

/* -- steps --------------------------------------------------------------------------- */

/* step 1, forward of conv1 */
static void step_1(void)
{
    ac_direct_forward(F(DIGITS_IN_OUT0), F(DIGITS_CONV1_FILTER), F(DIGITS_CONV1_BIAS),
        1, F(DIGITS_CONV1_OUT0), 32, 1, 8, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 8, 8);
}

/* step 2, forward of act1 */
static void step_2(void)
{
    ac_gelu_forward(F(DIGITS_CONV1_OUT0), F(DIGITS_CONV1_OUT0), 16384);
}

/* step 3, forward of conv2 */
static void step_3(void)
{
    ac_direct_forward(F(DIGITS_ACT1_OUT0), F(DIGITS_CONV2_FILTER), F(DIGITS_CONV2_BIAS),
        1, F(DIGITS_CONV2_OUT0), 32, 8, 8, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 8, 8);
}

/* step 4, forward of act2 */
static void step_4(void)
{
    ac_gelu_forward(F(DIGITS_CONV2_OUT0), F(DIGITS_ACT2_OUT0), 16384);
}

/* step 5, forward of conv3 */
static void step_5(void)
{
    ac_direct_forward(F(DIGITS_ACT2_OUT0), F(DIGITS_CONV3_FILTER), F(DIGITS_CONV3_BIAS),
        1, F(DIGITS_CONV3_OUT0), 32, 8, 8, 8, 8, 3, 3, 2, 2, 1, 1, 0, 0, 4, 4);
}

/* step 6, forward of act3 */
static void step_6(void)
{
    ac_gelu_forward(F(DIGITS_CONV3_OUT0), F(DIGITS_ACT3_OUT0), 4096);
}

/* step 8, forward of logits */
static void step_8(void)
{
    ac_matmul(F(DIGITS_FLAT_OUT0), F(DIGITS_LOGITS_WEIGHT), F(DIGITS_LOGITS_OUT0), 32,
        10, 128);
    ac_add_bias(F(DIGITS_LOGITS_OUT0), F(DIGITS_LOGITS_BIAS), F(DIGITS_LOGITS_OUT0), 32,
        10);
}

/* step 9, forward of loss */
static void step_9(void)
{
    ac_cross_softmax_loss(F(DIGITS_LOGITS_OUT0), F(DIGITS_LOSS_LABEL),
        F(DIGITS_LOGITS_OUT0), D(DIGITS_MODEL_CONTROL + 8), D(DIGITS_MODEL_CONTROL), 32,
        10);
}

/* step 11, calc_derivative of loss */
static void step_11(void)
{
    ac_cross_softmax_derivative(F(DIGITS_LOSS_OUT0), F(DIGITS_LOSS_LABEL),
        D(DIGITS_MODEL_CONTROL + 8), F(DIGITS_LOSS_OUT0), 32, 10);
}

/* step 13, calc_gradient of logits */
static void step_13(void)
{
    ac_matmul_transposed_a(F(DIGITS_FLAT_OUT0), F(DIGITS_LOGITS_OUT0_GRAD), 0.0f,
        F(DIGITS_LOGITS_WEIGHT_GRAD), 128, 10, 32);
    ac_bias_gradient(F(DIGITS_LOGITS_OUT0_GRAD), 0.0f, F(DIGITS_LOGITS_BIAS_GRAD), 32,
        10);
}

/* step 14, calc_derivative of logits */
static void step_14(void)
{
    ac_matmul_transposed_b(F(DIGITS_LOGITS_OUT0_GRAD), F(DIGITS_LOGITS_WEIGHT),
        F(DIGITS_FLAT_OUT0_GRAD), 32, 128, 10);
}

/* step 15, apply_gradient of logits */
static void step_15(void)
{
    ac_adam(F(DIGITS_LOGITS_WEIGHT), F(DIGITS_LOGITS_WEIGHT_GRAD),
        F(DIGITS_LOGITS_WEIGHT_FIRST_MOMENT), F(DIGITS_LOGITS_WEIGHT_SECOND_MOMENT),
        0.0f, D(DIGITS_MODEL_CONTROL + 64), 1280);
    ac_adam(F(DIGITS_LOGITS_BIAS), F(DIGITS_LOGITS_BIAS_GRAD),
        F(DIGITS_LOGITS_BIAS_FIRST_MOMENT), F(DIGITS_LOGITS_BIAS_SECOND_MOMENT), 0.0f,
        D(DIGITS_MODEL_CONTROL + 64), 10);
}

/* step 20, calc_derivative of act3 */
static void step_20(void)
{
    ac_gelu_backward(F(DIGITS_CONV3_OUT0), F(DIGITS_ACT3_OUT0_GRAD),
        F(DIGITS_ACT3_OUT0_GRAD), 4096);
}

/* step 22, calc_gradient of conv3 */
static void step_22(void)
{
    ac_direct_gradient(F(DIGITS_ACT2_OUT0), F(DIGITS_CONV3_OUT0_GRAD), 0.0f,
        F(DIGITS_CONV3_FILTER_GRAD), 32, 8, 8, 8, 8, 3, 3, 2, 2, 1, 1, 0, 0, 4, 4);
    ac_conv_bias_gradient(F(DIGITS_CONV3_OUT0_GRAD), 0.0f, F(DIGITS_CONV3_BIAS_GRAD), 8,
        32, 16);
}

/* step 23, calc_derivative of conv3 */
static void step_23(void)
{
    ac_direct_derivative(F(DIGITS_CONV3_OUT0_GRAD), F(DIGITS_CONV3_FILTER),
        F(DIGITS_CONV3_FILTER), 0, F(DIGITS_ACT2_OUT0_GRAD), 32, 8, 8, 8, 8, 3, 3, 2, 2,
        1, 1, 0, 0, 4, 4);
}

/* step 24, apply_gradient of conv3 */
static void step_24(void)
{
    ac_adam(F(DIGITS_CONV3_FILTER), F(DIGITS_CONV3_FILTER_GRAD),
        F(DIGITS_CONV3_FILTER_FIRST_MOMENT), F(DIGITS_CONV3_FILTER_SECOND_MOMENT), 0.0f,
        D(DIGITS_MODEL_CONTROL + 64), 576);
    ac_adam(F(DIGITS_CONV3_BIAS), F(DIGITS_CONV3_BIAS_GRAD),
        F(DIGITS_CONV3_BIAS_FIRST_MOMENT), F(DIGITS_CONV3_BIAS_SECOND_MOMENT), 0.0f,
        D(DIGITS_MODEL_CONTROL + 64), 8);
}

/* step 26, calc_derivative of act2 */
static void step_26(void)
{
    ac_gelu_backward(F(DIGITS_CONV2_OUT0), F(DIGITS_ACT2_OUT0_GRAD),
        F(DIGITS_ACT2_OUT0_GRAD), 16384);
}

/* step 28, recompute of conv1 */
static void step_28(void)
{
    ac_direct_forward(F(DIGITS_IN_OUT0), F(DIGITS_CONV1_FILTER), F(DIGITS_CONV1_BIAS),
        1, F(DIGITS_CONV1_OUT0_1), 32, 1, 8, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 8, 8);
}

/* step 29, recompute of act1 */
static void step_29(void)
{
    ac_gelu_forward(F(DIGITS_CONV1_OUT0_1), F(DIGITS_ACT1_OUT0_1), 16384);
}

/* step 30, calc_gradient of conv2 */
static void step_30(void)
{
    ac_direct_gradient(F(DIGITS_ACT1_OUT0_1), F(DIGITS_CONV2_OUT0_GRAD), 0.0f,
        F(DIGITS_CONV2_FILTER_GRAD), 32, 8, 8, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 8, 8);
    ac_conv_bias_gradient(F(DIGITS_CONV2_OUT0_GRAD), 0.0f, F(DIGITS_CONV2_BIAS_GRAD), 8,
        32, 64);
}

/* step 31, calc_derivative of conv2 */
static void step_31(void)
{
    ac_direct_derivative(F(DIGITS_CONV2_OUT0_GRAD), F(DIGITS_CONV2_FILTER),
        F(DIGITS_CONV2_FILTER), 0, F(DIGITS_ACT1_OUT0_GRAD), 32, 8, 8, 8, 8, 3, 3, 1, 1,
        1, 1, 1, 1, 8, 8);
}

/* step 32, apply_gradient of conv2 */
static void step_32(void)
{
    ac_adam(F(DIGITS_CONV2_FILTER), F(DIGITS_CONV2_FILTER_GRAD),
        F(DIGITS_CONV2_FILTER_FIRST_MOMENT), F(DIGITS_CONV2_FILTER_SECOND_MOMENT), 0.0f,
        D(DIGITS_MODEL_CONTROL + 64), 576);
    ac_adam(F(DIGITS_CONV2_BIAS), F(DIGITS_CONV2_BIAS_GRAD),
        F(DIGITS_CONV2_BIAS_FIRST_MOMENT), F(DIGITS_CONV2_BIAS_SECOND_MOMENT), 0.0f,
        D(DIGITS_MODEL_CONTROL + 64), 8);
}

/* step 34, calc_derivative of act1 */
static void step_34(void)
{
    ac_gelu_backward(F(DIGITS_CONV1_OUT0_1), F(DIGITS_ACT1_OUT0_GRAD),
        F(DIGITS_ACT1_OUT0_GRAD), 16384);
}

/* step 36, calc_gradient of conv1 */
static void step_36(void)
{
    ac_direct_gradient(F(DIGITS_IN_OUT0), F(DIGITS_CONV1_OUT0_GRAD), 0.0f,
        F(DIGITS_CONV1_FILTER_GRAD), 32, 1, 8, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 8, 8);
    ac_conv_bias_gradient(F(DIGITS_CONV1_OUT0_GRAD), 0.0f, F(DIGITS_CONV1_BIAS_GRAD), 8,
        32, 64);
}

/* step 38, apply_gradient of conv1 */
static void step_38(void)
{
    ac_adam(F(DIGITS_CONV1_FILTER), F(DIGITS_CONV1_FILTER_GRAD),
        F(DIGITS_CONV1_FILTER_FIRST_MOMENT), F(DIGITS_CONV1_FILTER_SECOND_MOMENT), 0.0f,
        D(DIGITS_MODEL_CONTROL + 64), 72);
    ac_adam(F(DIGITS_CONV1_BIAS), F(DIGITS_CONV1_BIAS_GRAD),
        F(DIGITS_CONV1_BIAS_FIRST_MOMENT), F(DIGITS_CONV1_BIAS_SECOND_MOMENT), 0.0f,
        D(DIGITS_MODEL_CONTROL + 64), 8);
    ac_count_up(D(DIGITS_MODEL_CONTROL + 40));
}

/* The steps up to the loss. */
static void forward_steps(void)
{
    RUN(step_1);
    RUN(step_2);
    RUN(step_3);
    RUN(step_4);
    RUN(step_5);
    RUN(step_6);
    RUN(step_8);
    RUN(step_9);
}

/* Recomputes, gradients, derivatives, and updates. */
static void backward_steps(void)
{
    RUN(step_11);
    RUN(step_13);
    RUN(step_14);
    RUN(step_15);
    RUN(step_20);
    RUN(step_22);
    RUN(step_23);
    RUN(step_24);
    RUN(step_26);
    RUN(step_28);
    RUN(step_29);
    RUN(step_30);
    RUN(step_31);
    RUN(step_32);
    RUN(step_34);
    RUN(step_36);
    RUN(step_38);
}

/* The steps after all passes. */
static void update_steps(void)
{
}

/* -- data ---------------------------------------------------------------------------- */

/* Whether all x are finite; -inf is allowed in a mask. */
static int are_finite(const float *x, int32_t n, int is_mask)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        if (!(x[i] - x[i] == 0.0f || (is_mask && x[i] < 0.0f))) {
            return 0;
        }
    }
    return 1;
}

/* Whether all x are in [0, 1]. */
static int are_probabilities(const float *x, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        if (!(x[i] >= 0.0f && x[i] <= 1.0f)) {
            return 0;
        }
    }
    return 1;
}

/* What is wrong with the samples that are to be read. */
static int check_inputs(int32_t n)
{
    if (!are_finite(F(DIGITS_IN_OUT0), n * 64, 0)) {
        return DIGITS_NONFINITE_INPUT;
    }
    return DIGITS_OK;
}

/* What is wrong with their labels. */
static int check_labels(int32_t n)
{
    if (!are_finite(F(DIGITS_LOSS_LABEL), n * 10, 0)) {
        return DIGITS_NONFINITE_INPUT;
    }
    if (!are_probabilities(F(DIGITS_LOSS_LABEL), n * 10)) {
        return DIGITS_BAD_ID;
    }
    return DIGITS_OK;
}

float *digits_input(int32_t i)
{
    switch (i) {
    case 0: return F(DIGITS_IN_OUT0);
    default: return 0;
    }
}

static void copy(const float *from, float *to, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        to[i] = from[i];
    }
}

static void fill(float value, float *to, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        to[i] = value;
    }
}

void digits_init(void)
{
    int32_t i;
    for (i = 0; i < 16; i++) {
        CONTROL[i] = 0.0;
    }
    copy(digits_conv1_filter, F(DIGITS_CONV1_FILTER), 72);
    copy(digits_conv1_bias, F(DIGITS_CONV1_BIAS), 8);
    copy(digits_conv2_filter, F(DIGITS_CONV2_FILTER), 576);
    copy(digits_conv2_bias, F(DIGITS_CONV2_BIAS), 8);
    copy(digits_conv3_filter, F(DIGITS_CONV3_FILTER), 576);
    copy(digits_conv3_bias, F(DIGITS_CONV3_BIAS), 8);
    copy(digits_logits_weight, F(DIGITS_LOGITS_WEIGHT), 1280);
    copy(digits_logits_bias, F(DIGITS_LOGITS_BIAS), 10);
    fill(0.0f, F(DIGITS_CONV1_FILTER_FIRST_MOMENT), 72);
    fill(0.0f, F(DIGITS_CONV1_FILTER_SECOND_MOMENT), 72);
    fill(0.0f, F(DIGITS_CONV1_BIAS_FIRST_MOMENT), 8);
    fill(0.0f, F(DIGITS_CONV1_BIAS_SECOND_MOMENT), 8);
    fill(0.0f, F(DIGITS_CONV2_FILTER_FIRST_MOMENT), 576);
    fill(0.0f, F(DIGITS_CONV2_FILTER_SECOND_MOMENT), 576);
    fill(0.0f, F(DIGITS_CONV2_BIAS_FIRST_MOMENT), 8);
    fill(0.0f, F(DIGITS_CONV2_BIAS_SECOND_MOMENT), 8);
    fill(0.0f, F(DIGITS_CONV3_FILTER_FIRST_MOMENT), 576);
    fill(0.0f, F(DIGITS_CONV3_FILTER_SECOND_MOMENT), 576);
    fill(0.0f, F(DIGITS_CONV3_BIAS_FIRST_MOMENT), 8);
    fill(0.0f, F(DIGITS_CONV3_BIAS_SECOND_MOMENT), 8);
    fill(0.0f, F(DIGITS_LOGITS_WEIGHT_FIRST_MOMENT), 1280);
    fill(0.0f, F(DIGITS_LOGITS_WEIGHT_SECOND_MOMENT), 1280);
    fill(0.0f, F(DIGITS_LOGITS_BIAS_FIRST_MOMENT), 10);
    fill(0.0f, F(DIGITS_LOGITS_BIAS_SECOND_MOMENT), 10);
}

int digits_predict(float *out)
{
    int32_t i;
    int status = check_inputs(DIGITS_PASS_SAMPLES);
    if (status != DIGITS_OK) {
        return status;
    }
    CONTROL[LOSS] = 0.0;
    CONTROL[SCALE] = 0.0;
    CONTROL[FRACTION] = 1.0;
    fill(0.0f, F(DIGITS_LOSS_LABEL), 320);
    forward_steps();
    for (i = 0; i < DIGITS_PASS_SAMPLES * DIGITS_OUTPUT_ELEMENTS; i++) {
        out[i] = F(DIGITS_LOGITS_OUT0)[i];
    }
    return DIGITS_OK;
}

float *digits_label(void)
{
    return F(DIGITS_LOSS_LABEL);
}

/* The learning rate of the optimizer, in every iteration. */
static double learning_rate(uint32_t iteration)
{
    (void)iteration;
    return 0.003;
}

/* Sets what the kernels of the optimizer read in the coming iteration. */
static int set_hyperparameters(void)
{
    uint32_t iteration = digits_iteration();
    double rate = learning_rate(iteration);
    if (!(rate <= 3.4028234663852886e+38)) {
        return DIGITS_NONFINITE_LOSS;
    }
    CONTROL[HYPER + 0] = rate;
    CONTROL[HYPER + 1] = 1.0;
    CONTROL[HYPER + 2] = 0.9;
    CONTROL[HYPER + 3] = 0.999;
    CONTROL[HYPER + 4] = 1e-07;
    CONTROL[HYPER + 5] = 1.0 - ac_whole_power(0.9, (int64_t)iteration + 1);
    CONTROL[HYPER + 6] = 1.0 - ac_whole_power(0.999, (int64_t)iteration + 1);
    return DIGITS_OK;
}

/* Runs one pass forward, and backward if its loss is finite. */
static int run_pass(int32_t pass)
{
    int32_t n = 32;
    int status = check_inputs(n);
    double loss;
    if (status == DIGITS_OK) {
        status = check_labels(n);
    }
    if (status != DIGITS_OK) {
        return status;
    }
    CONTROL[FRACTION] = 1.0;
    CONTROL[FIRST_SAMPLE] = (double)(pass * DIGITS_PASS_SAMPLES);
    forward_steps();
    loss = CONTROL[LOSS];
    if (!(loss - loss == 0.0)) {
        return DIGITS_NONFINITE_LOSS;
    }
    backward_steps();
    return DIGITS_OK;
}

int digits_step_from(digits_feed feed, void *context, double *loss)
{
    int status = set_hyperparameters();
    int32_t pass;
    if (status != DIGITS_OK) {
        return status;
    }
    CONTROL[LOSS] = 0.0;
    CONTROL[SCALE] = 0.03125;
    for (pass = 0; pass < DIGITS_PASSES; pass++) {
        int32_t first = pass * DIGITS_PASS_SAMPLES;
        int32_t n = DIGITS_BATCH - first;
        if (n > DIGITS_PASS_SAMPLES) {
            n = DIGITS_PASS_SAMPLES;
        }
        if (feed != 0 && feed(context, first, n) != 0) {
            status = DIGITS_FEED_ENDED;
        } else {
            status = run_pass(pass);
        }
        if (loss != 0) {
            *loss = CONTROL[LOSS];
        }
        if (status != DIGITS_OK) {
            return status;
        }
    }
    update_steps();
    return DIGITS_OK;
}

int digits_train(int32_t steps, digits_feed feed, void *context)
{
    int status = DIGITS_OK;
    int32_t step;
    for (step = 0; step < steps && status == DIGITS_OK; step++) {
        status = digits_step_from(feed, context, 0);
    }
    return status;
}

double digits_loss(void)
{
    return CONTROL[LOSS];
}

uint32_t digits_iteration(void)
{
    return (uint32_t)CONTROL[ITERATION];
}

int digits_step(double *loss)
{
    return digits_step_from(0, 0, loss);
}

/* -- state --------------------------------------------------------------------------- */

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "a saved state is little-endian, and this processor is not"
#endif

#define HEADER_BYTES 56

/* What stands before the iteration: magic, version, bytes of the state, plan. */
static const uint8_t header[HEADER_BYTES - 8] = {
    0x41, 0x43, 0x53, 0x54, 0x41, 0x54, 0x45, 0x00, 0x01, 0x00, 0x00, 0x00,
    0x34, 0x77, 0x00, 0x00, 0x90, 0x77, 0x61, 0x7c, 0xff, 0xf0, 0x66, 0x2f,
    0x22, 0x41, 0x9c, 0x0a, 0x00, 0x86, 0x78, 0xa2, 0x3c, 0x74, 0x2e, 0xd8,
    0x1c, 0x46, 0x9a, 0xed, 0xa0, 0x57, 0xb4, 0x36, 0xec, 0x8b, 0xcc, 0xef,
};

/* What lasts from one iteration to the next, in the order of a saved state. */
static const struct { uint32_t memory, offset, bytes; } lasting[] = {
    {0, DIGITS_CONV1_FILTER, 288},
    {0, DIGITS_CONV1_FILTER_FIRST_MOMENT, 288},
    {0, DIGITS_CONV1_FILTER_SECOND_MOMENT, 288},
    {0, DIGITS_CONV1_BIAS, 32},
    {0, DIGITS_CONV1_BIAS_FIRST_MOMENT, 32},
    {0, DIGITS_CONV1_BIAS_SECOND_MOMENT, 32},
    {0, DIGITS_CONV2_FILTER, 2304},
    {0, DIGITS_CONV2_FILTER_FIRST_MOMENT, 2304},
    {0, DIGITS_CONV2_FILTER_SECOND_MOMENT, 2304},
    {0, DIGITS_CONV2_BIAS, 32},
    {0, DIGITS_CONV2_BIAS_FIRST_MOMENT, 32},
    {0, DIGITS_CONV2_BIAS_SECOND_MOMENT, 32},
    {0, DIGITS_CONV3_FILTER, 2304},
    {0, DIGITS_CONV3_FILTER_FIRST_MOMENT, 2304},
    {0, DIGITS_CONV3_FILTER_SECOND_MOMENT, 2304},
    {0, DIGITS_CONV3_BIAS, 32},
    {0, DIGITS_CONV3_BIAS_FIRST_MOMENT, 32},
    {0, DIGITS_CONV3_BIAS_SECOND_MOMENT, 32},
    {0, DIGITS_LOGITS_WEIGHT, 5120},
    {0, DIGITS_LOGITS_WEIGHT_FIRST_MOMENT, 5120},
    {0, DIGITS_LOGITS_WEIGHT_SECOND_MOMENT, 5120},
    {0, DIGITS_LOGITS_BIAS, 40},
    {0, DIGITS_LOGITS_BIAS_FIRST_MOMENT, 40},
    {0, DIGITS_LOGITS_BIAS_SECOND_MOMENT, 40},
};

#define N_LASTING ((int32_t)(sizeof lasting / sizeof lasting[0]))

static uint8_t *bytes_of(int32_t tensor)
{
    uint8_t *starts[1];
    starts[0] = digits_arena;
    return starts[lasting[tensor].memory] + lasting[tensor].offset;
}

/* CRC-32 of more bytes, after that of those before; 0 of none. */
static uint32_t crc_of(uint32_t crc, const uint8_t *bytes, uint32_t n)
{
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u,
        0x4db26158u, 0x5005713cu, 0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu,
        0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu
    };
    crc = ~crc;
    while (n > 0) {
        crc ^= *bytes++;
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
        n--;
    }
    return ~crc;
}

static void put_number(uint8_t *bytes, uint32_t number)
{
    bytes[0] = (uint8_t)number;
    bytes[1] = (uint8_t)(number >> 8);
    bytes[2] = (uint8_t)(number >> 16);
    bytes[3] = (uint8_t)(number >> 24);
}

static uint32_t number_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16
        | (uint32_t)bytes[3] << 24;
}

/* A storage, and the slot of it that is meant; -1 where there are no slots. */
typedef struct {
    digits_write write;
    digits_read read;
    const digits_slots *slots;
    void *context;
    int slot;
} Place;

static int put(const Place *place, uint32_t position, const uint8_t *bytes, uint32_t n)
{
    int failed = place->slots != 0
        ? place->slots->write(place->slots->context, place->slot, position, bytes, n)
        : place->write(place->context, position, bytes, n);
    return failed ? DIGITS_IO : DIGITS_OK;
}

static int get(const Place *place, uint32_t position, uint8_t *bytes, uint32_t n)
{
    int failed = place->slots != 0
        ? place->slots->read(place->slots->context, place->slot, position, bytes, n)
        : place->read(place->context, position, bytes, n);
    return failed ? DIGITS_IO : DIGITS_OK;
}

/* Writes what stands before the tensors; returns its CRC. */
static uint32_t fill_header(uint8_t *bytes, uint32_t iteration)
{
    int32_t i;
    for (i = 0; i < HEADER_BYTES - 8; i++) {
        bytes[i] = header[i];
    }
    put_number(bytes + HEADER_BYTES - 8, iteration);
    put_number(bytes + HEADER_BYTES - 4, 0);
    return crc_of(0, bytes, HEADER_BYTES);
}

static int save(const Place *place)
{
    uint8_t bytes[HEADER_BYTES];
    uint32_t position = HEADER_BYTES;
    uint32_t crc = fill_header(bytes, digits_iteration());
    int status = put(place, 0, bytes, HEADER_BYTES);
    int32_t i;
    for (i = 0; i < N_LASTING && status == DIGITS_OK; i++) {
        crc = crc_of(crc, bytes_of(i), lasting[i].bytes);
        status = put(place, position, bytes_of(i), lasting[i].bytes);
        position += lasting[i].bytes;
    }
    /* The last bytes make it valid. */
    put_number(bytes, crc);
    return status == DIGITS_OK ? put(place, position, bytes, 4) : status;
}

static int are_same(const uint8_t *a, const uint8_t *b, int32_t n)
{
    while (n > 0 && *a == *b) {
        a++;
        b++;
        n--;
    }
    return n == 0;
}

/* Reads a state without using it; says whether it is whole and of this plan. */
static int check(const Place *place, uint32_t *iteration, uint32_t *crc)
{
    uint8_t bytes[HEADER_BYTES];
    uint32_t position, n;
    int status, is_of_plan = 0;
    *crc = 0;
    for (position = 0; position < DIGITS_STATE_BYTES - 4; position += n) {
        n = DIGITS_STATE_BYTES - 4 - position;
        if (n > HEADER_BYTES) {
            n = HEADER_BYTES;
        }
        status = get(place, position, bytes, n);
        if (status != DIGITS_OK) {
            return status;
        }
        *crc = crc_of(*crc, bytes, n);
        if (position == 0) {
            if (!are_same(bytes, header, 12)) {
                return DIGITS_STATE_CORRUPT;
            }
            if (!are_same(bytes + 12, header + 12, 4)) {
                return DIGITS_OTHER_PLAN; /* it has another length */
            }
            is_of_plan = are_same(bytes + 16, header + 16, HEADER_BYTES - 24);
            *iteration = number_at(bytes + HEADER_BYTES - 8);
        }
    }
    status = get(place, position, bytes, 4);
    if (status != DIGITS_OK) {
        return status;
    }
    if (number_at(bytes) != *crc) {
        return DIGITS_STATE_CORRUPT;
    }
    return is_of_plan ? DIGITS_OK : DIGITS_OTHER_PLAN;
}

static int restore(const Place *place)
{
    uint8_t bytes[HEADER_BYTES];
    uint32_t iteration = 0, checked, crc, position = HEADER_BYTES;
    int32_t i;
    int status = check(place, &iteration, &checked);
    if (status != DIGITS_OK) {
        return status;
    }
    crc = fill_header(bytes, iteration);
    CONTROL[ITERATION] = (double)iteration;
    for (i = 0; i < N_LASTING && status == DIGITS_OK; i++) {
        status = get(place, position, bytes_of(i), lasting[i].bytes);
        crc = crc_of(crc, bytes_of(i), lasting[i].bytes);
        position += lasting[i].bytes;
    }
    if (status == DIGITS_OK && crc != checked) {
        status = DIGITS_STATE_CORRUPT; /* it was read otherwise than a moment ago */
    }
    return status;
}

int digits_save(digits_write write, void *context)
{
    Place place = {0, 0, 0, 0, -1};
    place.write = write;
    place.context = context;
    return save(&place);
}

int digits_restore(digits_read read, void *context)
{
    Place place = {0, 0, 0, 0, -1};
    place.read = read;
    place.context = context;
    return restore(&place);
}

/* Finds the newest whole state: its slot, or -1; `worst` says why there is none. */
static int newest_slot(const digits_slots *slots, int *worst)
{
    Place place = {0, 0, 0, 0, 0};
    uint32_t newest = 0, iteration = 0, crc;
    int found = -1;
    *worst = DIGITS_STATE_CORRUPT;
    place.slots = slots;
    for (place.slot = 0; place.slot < 2; place.slot++) {
        int status = check(&place, &iteration, &crc);
        if (status == DIGITS_OK) {
            if (found < 0 || iteration > newest) {
                found = place.slot;
                newest = iteration;
            }
        } else if (status != DIGITS_STATE_CORRUPT) {
            *worst = status;
        }
    }
    return found;
}

int digits_save_slot(const digits_slots *slots)
{
    Place place = {0, 0, 0, 0, 0};
    int worst;
    place.slots = slots;
    place.slot = newest_slot(slots, &worst) == 0 ? 1 : 0;
    return save(&place);
}

int digits_restore_slot(const digits_slots *slots)
{
    Place place = {0, 0, 0, 0, 0};
    int worst;
    place.slots = slots;
    place.slot = newest_slot(slots, &worst);
    return place.slot < 0 ? worst : restore(&place);
}

