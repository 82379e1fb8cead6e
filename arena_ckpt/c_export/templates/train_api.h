
$label
$step_api
/* Brings samples first to first + n - 1 of a batch into ${name}_input(i) and
 * $label_words; returns 0, or anything else where there are no more. */
typedef int (*${name}_feed)(void *context, int32_t first, int32_t n);

/* One step with samples from a feed, which is asked once for each micro-batch. */
int ${name}_step_from(${name}_feed feed, void *context, double *loss);

/* Steps with samples from a feed, until one of them does not return ${NAME}_OK. */
int ${name}_train(int32_t steps, ${name}_feed feed, void *context);

/* The loss of the last step, until the next prediction. */
double ${name}_loss(void);

/* Steps made so far, also before a restored state was saved. */
uint32_t ${name}_iteration(void);

/* Write and read n bytes of a state from a position on; return 0, or anything else where
 * that failed. A state is written from its beginning to its end, and is valid with its
 * last four bytes. It is read twice: nothing changes unless it is whole. */
typedef int (*${name}_write)(void *context, uint32_t position, const uint8_t *bytes,
    uint32_t n);
typedef int (*${name}_read)(void *context, uint32_t position, uint8_t *bytes, uint32_t n);

/* Save and restore weights, states of the optimizer and the iteration:
 * ${NAME}_STATE_BYTES bytes. After ${NAME}_IO from the second reading call ${name}_init
 * or restore again. */
int ${name}_save(${name}_write write, void *context);
int ${name}_restore(${name}_read read, void *context);

/* Two places for states, 0 and 1. A state is saved over the older one, so that a power
 * loss at any moment leaves one that is whole. */
typedef struct {
    int (*write)(void *context, int slot, uint32_t position, const uint8_t *bytes,
        uint32_t n);
    int (*read)(void *context, int slot, uint32_t position, uint8_t *bytes, uint32_t n);
    void *context;
} ${name}_slots;

int ${name}_save_slot(const ${name}_slots *slots);

/* Restores the newer of the whole states; ${NAME}_STATE_CORRUPT where there is none. */
int ${name}_restore_slot(const ${name}_slots *slots);
