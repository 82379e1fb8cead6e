/* Random numbers of where they are used, after arena_ckpt/kernels/random_bits.py. */

/* 64 bits that depend on all bits of both. */
static uint64_t ac_mix(uint64_t state, uint64_t word)
{
    uint64_t x = state + (word + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* The key of one sample in one iteration of one layer. */
static uint64_t ac_sample_key(uint64_t key, uint64_t iteration, uint64_t sample)
{
    return ac_mix(ac_mix(ac_mix(0, key), iteration), sample);
}

/* The key of one row of a sample, given the key of the sample. */
static uint64_t ac_row_key(uint64_t sample, uint64_t row)
{
    return ac_mix(sample, row);
}

/* What ac_keep compares with, to drop with probability `rate` (0 to 1). */
static uint32_t ac_drop_threshold(double rate)
{
    return (uint32_t)(rate * 16777216.0 + 0.5);
}

/* `scale`, or 0 with the probability behind `threshold`. */
AC_INLINE float ac_keep(uint64_t key, uint32_t element, uint32_t threshold,
    float scale)
{
    uint32_t x = element ^ (uint32_t)key;
    x = (x ^ (x >> 16)) * UINT32_C(0x21f0aaad);
    x = (x ^ (x >> 15)) + (uint32_t)(key >> 32);
    x = x * UINT32_C(0x735a2d97);
    x = x ^ (x >> 15);
    return x >> 8 >= threshold ? scale : 0.0f;
}

/* What a layer drops of the rows of a sample: nothing where `threshold` is 0. */
typedef struct {
    uint64_t key; /* of the sample, or of a row of it */
    uint32_t threshold;
    float scale; /* of what is kept */
} ac_drops;

static void ac_set_drops(ac_drops *drops, double rate)
{
    drops->key = 0;
    drops->threshold = ac_drop_threshold(rate);
    drops->scale = (float)(1.0 / (1.0 - rate));
}

/* Take the key of one sample of an iteration; control is it and the first sample. */
static void ac_set_sample(ac_drops *drops, uint64_t key, const double *control,
    int32_t sample)
{
    drops->key = ac_sample_key(key, (uint64_t)(int64_t)control[0],
        (uint64_t)((int64_t)control[1] + sample));
}
