/* Batches, and what training on them gives. */
#ifndef TEST_DATA_H
#define TEST_DATA_H

#include <stdint.h>
#include "digits.h"

#define N_STEPS 20 /* the batches come again from the first on */
#define N_BATCHES 4

extern const float test_input0[8192]; /* samples of all batches */
extern const float test_label[1280]; /* labels of all batches */
extern const uint64_t test_loss[20]; /* bits of the loss of each step */
extern const uint32_t test_state[20]; /* CRC-32 of the state after each step */
extern const uint32_t test_prediction[4]; /* CRC-32 of the prediction for each batch, after all steps */
#endif
