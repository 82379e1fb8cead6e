/* $name, a model that $does.
 *
 * Written by arena-ckpt export --to c; README.md says how it is used. Nothing here calls
 * the C library, and all memory is static.
 */
#ifndef ${NAME}_H
#define ${NAME}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What functions return. */
#define ${NAME}_OK 0
#define ${NAME}_NONFINITE_INPUT 2 /* NaN or infinity in the samples; nothing changed */
#define ${NAME}_BAD_ID 3          /* an id or label is out of range; nothing changed */
$train_codes
#define ${NAME}_ARENA_BYTES $arena_bytes
#define ${NAME}_CONSTANT_BYTES $constant_bytes
#define ${NAME}_PASS_SAMPLES $pass_samples /* samples that the inputs hold */
#define ${NAME}_INPUTS $n_inputs
#define ${NAME}_INPUT_ELEMENTS {$input_elements} /* of one sample, by input */
#define ${NAME}_OUTPUT_ELEMENTS $output_elements /* of one sample */$class_names

/* Puts the initial weights in place: call it first. */
void ${name}_init(void);

/* Where the samples of an input go, float32, one after another; 0 where there is no such
 * input. Fill it anew before each step and each prediction: the memory is used for other
 * things in between.$raw */
float *${name}_input(int32_t i);

/* Predicts for ${NAME}_PASS_SAMPLES samples; `out` has room for
 * ${NAME}_PASS_SAMPLES * ${NAME}_OUTPUT_ELEMENTS floats$output_help. */
int ${name}_predict(float *out);
$train_api
#if defined(${NAME}_OFFSETS)
/* Offsets in bytes of all that lies in memory, each while it lives. */
$offsets
#endif

$weights
#ifdef __cplusplus
}
#endif

#endif
