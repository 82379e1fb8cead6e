/* digits, a model that trains.
 *
 * Written by arena-ckpt export --to c; README.md says how it is used. Nothing here calls
 * the C library, and all memory is static.
 */
#ifndef DIGITS_H
#define DIGITS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What functions return. */
#define DIGITS_OK 0
#define DIGITS_NONFINITE_INPUT 2 /* NaN or infinity in the samples; nothing changed */
#define DIGITS_BAD_ID 3          /* an id or label is out of range; nothing changed */
#define DIGITS_NONFINITE_LOSS 1  /* the loss is NaN or infinite; no weight changed */
#define DIGITS_FEED_ENDED 4      /* the feed had no more samples; no weight changed */
#define DIGITS_STATE_CORRUPT 5   /* a state is damaged or incomplete */
#define DIGITS_OTHER_PLAN 6      /* a state is whole, but of another plan */
#define DIGITS_IO 7              /* a read or write callback failed */

#define DIGITS_BATCH 32 /* samples of one step */
#define DIGITS_PASSES 1 /* micro-batches of one step */
#define DIGITS_LABEL_ELEMENTS 10 /* of one sample */
#define DIGITS_STATE_BYTES 30516

#define DIGITS_ARENA_BYTES 238208
#define DIGITS_CONSTANT_BYTES 0
#define DIGITS_PASS_SAMPLES 32 /* samples that the inputs hold */
#define DIGITS_INPUTS 1
#define DIGITS_INPUT_ELEMENTS {64} /* of one sample, by input */
#define DIGITS_OUTPUT_ELEMENTS 10 /* of one sample */

/* Puts the initial weights in place: call it first. */
void digits_init(void);

/* Where the samples of an input go, float32, one after another; 0 where there is no such
 * input. Fill it anew before each step and each prediction: the memory is used for other
 * things in between. */
float *digits_input(int32_t i);

/* Predicts for DIGITS_PASS_SAMPLES samples; `out` has room for
 * DIGITS_PASS_SAMPLES * DIGITS_OUTPUT_ELEMENTS floats. */
int digits_predict(float *out);

/* Where the labels of the samples go: 1 for the class of each, 0 for the others. */
float *digits_label(void);

/* One step of training on the DIGITS_BATCH samples in the inputs and their labels; sets
 * *loss, unless it is 0. */
int digits_step(double *loss);

/* Brings samples first to first + n - 1 of a batch into digits_input(i) and
 * digits_label(); returns 0, or anything else where there are no more. */
typedef int (*digits_feed)(void *context, int32_t first, int32_t n);

/* One step with samples from a feed, which is asked once for each micro-batch. */
int digits_step_from(digits_feed feed, void *context, double *loss);

/* Steps with samples from a feed, until one of them does not return DIGITS_OK. */
int digits_train(int32_t steps, digits_feed feed, void *context);

/* The loss of the last step, until the next prediction. */
double digits_loss(void);

/* Steps made so far, also before a restored state was saved. */
uint32_t digits_iteration(void);

/* Write and read n bytes of a state from a position on; return 0, or anything else where
 * that failed. A state is written from its beginning to its end, and is valid with its
 * last four bytes. It is read twice: nothing changes unless it is whole. */
typedef int (*digits_write)(void *context, uint32_t position, const uint8_t *bytes,
    uint32_t n);
typedef int (*digits_read)(void *context, uint32_t position, uint8_t *bytes, uint32_t n);

/* Save and restore weights, states of the optimizer and the iteration:
 * DIGITS_STATE_BYTES bytes. After DIGITS_IO from the second reading call digits_init
 * or restore again. */
int digits_save(digits_write write, void *context);
int digits_restore(digits_read read, void *context);

/* Two places for states, 0 and 1. A state is saved over the older one, so that a power
 * loss at any moment leaves one that is whole. */
typedef struct {
    int (*write)(void *context, int slot, uint32_t position, const uint8_t *bytes,
        uint32_t n);
    int (*read)(void *context, int slot, uint32_t position, uint8_t *bytes, uint32_t n);
    void *context;
} digits_slots;

int digits_save_slot(const digits_slots *slots);

/* Restores the newer of the whole states; DIGITS_STATE_CORRUPT where there is none. */
int digits_restore_slot(const digits_slots *slots);

#if defined(DIGITS_OFFSETS)
/* Offsets in bytes of all that lies in memory, each while it lives. */
#define DIGITS_MODEL_CONTROL 30144
#define DIGITS_CONV1_FILTER 29184
#define DIGITS_CONV1_FILTER_FIRST_MOMENT 29504
#define DIGITS_CONV1_FILTER_SECOND_MOMENT 29824
#define DIGITS_CONV1_BIAS 30272
#define DIGITS_CONV1_BIAS_FIRST_MOMENT 30336
#define DIGITS_CONV1_BIAS_SECOND_MOMENT 30400
#define DIGITS_CONV2_FILTER 15360
#define DIGITS_CONV2_FILTER_FIRST_MOMENT 17664
#define DIGITS_CONV2_FILTER_SECOND_MOMENT 19968
#define DIGITS_CONV2_BIAS 30464
#define DIGITS_CONV2_BIAS_FIRST_MOMENT 30528
#define DIGITS_CONV2_BIAS_SECOND_MOMENT 30592
#define DIGITS_CONV3_FILTER 22272
#define DIGITS_CONV3_FILTER_FIRST_MOMENT 24576
#define DIGITS_CONV3_FILTER_SECOND_MOMENT 26880
#define DIGITS_CONV3_BIAS 30656
#define DIGITS_CONV3_BIAS_FIRST_MOMENT 30720
#define DIGITS_CONV3_BIAS_SECOND_MOMENT 30784
#define DIGITS_LOGITS_WEIGHT 0
#define DIGITS_LOGITS_WEIGHT_FIRST_MOMENT 5120
#define DIGITS_LOGITS_WEIGHT_SECOND_MOMENT 10240
#define DIGITS_LOGITS_BIAS 30848
#define DIGITS_LOGITS_BIAS_FIRST_MOMENT 30912
#define DIGITS_LOGITS_BIAS_SECOND_MOMENT 30976
#define DIGITS_LOSS_LABEL 204352
#define DIGITS_IN_OUT0 31040
#define DIGITS_CONV1_OUT0 39232
#define DIGITS_ACT1_OUT0 39232
#define DIGITS_CONV2_OUT0 104768
#define DIGITS_ACT2_OUT0 39232
#define DIGITS_CONV3_OUT0 170304
#define DIGITS_ACT3_OUT0 186688
#define DIGITS_FLAT_OUT0 186688
#define DIGITS_LOGITS_OUT0 203072
#define DIGITS_LOSS_OUT0 203072
#define DIGITS_LOGITS_OUT0_GRAD 203072
#define DIGITS_LOGITS_WEIGHT_GRAD 204352
#define DIGITS_LOGITS_BIAS_GRAD 209472
#define DIGITS_FLAT_OUT0_GRAD 186688
#define DIGITS_ACT3_OUT0_GRAD 186688
#define DIGITS_CONV3_OUT0_GRAD 186688
#define DIGITS_CONV3_FILTER_GRAD 170304
#define DIGITS_CONV3_BIAS_GRAD 172608
#define DIGITS_ACT2_OUT0_GRAD 39232
#define DIGITS_CONV2_OUT0_GRAD 39232
#define DIGITS_CONV1_OUT0_1 104768
#define DIGITS_ACT1_OUT0_1 170304
#define DIGITS_CONV2_FILTER_GRAD 235840
#define DIGITS_CONV2_BIAS_GRAD 238144
#define DIGITS_ACT1_OUT0_GRAD 170304
#define DIGITS_CONV1_OUT0_GRAD 170304
#define DIGITS_CONV1_FILTER_GRAD 39232
#define DIGITS_CONV1_BIAS_GRAD 39552
#endif

/* The weights of the first step. */
extern const float digits_conv1_filter[72];
extern const float digits_conv1_bias[8];
extern const float digits_conv2_filter[576];
extern const float digits_conv2_bias[8];
extern const float digits_conv3_filter[576];
extern const float digits_conv3_bias[8];
extern const float digits_logits_weight[1280];
extern const float digits_logits_bias[10];
#ifdef __cplusplus
}
#endif

#endif
