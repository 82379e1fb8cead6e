/* The steps of $name, a model that $does.
 *
 * Map of the memory: what lies where, in which steps. What lies in the same bytes does so
 * in turn, or is the same tensor after an operation in place.
 *
$map
 */
#define ${NAME}_OFFSETS
$preamble
#include "$name.h"
#include "ac_kernels.h"

/* Called between steps, for example to feed a watchdog: -D'${NAME}_YIELD()=feed_dog()'. */
#ifndef ${NAME}_YIELD
#define ${NAME}_YIELD() ((void)0)
#endif

#if defined(__GNUC__)
#define ALIGNED(n) __attribute__((aligned(n)))
#elif !defined(ALIGNED)
#error "say how this compiler aligns an array, with -D'ALIGNED(n)=...'"
#endif

$arrays

/* Numbers that change from step to step. */
#define CONTROL $control
enum {
$control_places
};

#define RUN(step) do { step(); ${NAME}_YIELD(); } while (0)

/* -- steps --------------------------------------------------------------------------- */

$steps
$sequences
$common
float *${name}_input(int32_t i)
{
    switch (i) {
$input_cases
    default: return 0;
    }
}

$moving
void ${name}_init(void)
{
    int32_t i;
    for (i = 0; i < $control_length; i++) {
        CONTROL[i] = 0.0;
    }
$init
}
$predict$train
