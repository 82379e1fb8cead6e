/* Batches, and what training on them gives. */
#ifndef TEST_DATA_H
#define TEST_DATA_H

#include <stdint.h>
#include "$name.h"

#define N_STEPS $n_steps /* the batches come again from the first on */
#define N_BATCHES $n_batches

$declarations
#endif
