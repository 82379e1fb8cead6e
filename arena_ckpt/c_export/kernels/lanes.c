/* Sums in partial sums, after arena_ckpt/kernels/lanes.py: element i goes to lane
 * i % 32, and the lanes are combined in an order that the source fixes. */

#define AC_LANES 32

/* The number of elements from `start` on that go side by side to the lanes. */
AC_INLINE int32_t ac_width(int32_t n, int32_t start)
{
    return n - start < AC_LANES ? n - start : AC_LANES;
}

/* Set all to 0. */
static inline void ac_clear(double *lanes)
{
    int32_t j;
    for (j = 0; j < AC_LANES; j++) {
        lanes[j] = 0.0;
    }
}

/* Set all to 0. */
static inline void ac_clear_floats(float *lanes)
{
    int32_t j;
    for (j = 0; j < AC_LANES; j++) {
        lanes[j] = 0.0f;
    }
}

/* Combine the first n lanes, in order; all of them if there are not as many. */
static double ac_total(const double *lanes, int32_t n)
{
    double sum = 0.0;
    int32_t j;
    for (j = 0; j < ac_width(n, 0); j++) {
        sum += lanes[j];
    }
    return sum;
}

/* Combine the first n lanes, in order; all of them if there are not as many. */
static float ac_float_total(const float *lanes, int32_t n)
{
    float sum = 0.0f;
    int32_t j;
    for (j = 0; j < ac_width(n, 0); j++) {
        sum += lanes[j];
    }
    return sum;
}

/* Combine all lanes pairwise, halves first; this uses them up. */
static double ac_folded(double *lanes)
{
    int32_t half, j;
    for (half = 16; half > 2; half /= 2) {
        for (j = 0; j < half; j++) {
            lanes[j] += lanes[j + half];
        }
    }
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

/* Combine all lanes pairwise, halves first; this uses them up. */
static float ac_float_folded(float *lanes)
{
    int32_t half, j;
    for (half = 16; half > 2; half /= 2) {
        for (j = 0; j < half; j++) {
            lanes[j] += lanes[j + half];
        }
    }
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

/* The sum of n numbers. */
static double ac_sum(const float *x, int32_t n)
{
    double lanes[AC_LANES];
    int32_t start, j;
    ac_clear(lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            lanes[j] += (double)x[start + j];
        }
    }
    return ac_total(lanes, n);
}

/* The greatest of n > 0 numbers; any of them if one is NaN. */
static float ac_most_of(const float *x, int32_t n)
{
    float lanes[AC_LANES];
    float greatest;
    int32_t start, j;
    for (j = 0; j < AC_LANES; j++) {
        lanes[j] = x[j < n ? j : 0];
    }
    for (start = AC_LANES; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            /* 0 is added as in the other engines: it makes 0 of -0. */
            lanes[j] = (x[start + j] > lanes[j] ? x[start + j] : lanes[j]) + 0.0f;
        }
    }
    greatest = lanes[0];
    for (j = 1; j < AC_LANES; j++) {
        greatest = lanes[j] > greatest ? lanes[j] : greatest;
    }
    return greatest;
}

/* The sum of products of two rows. */
static float ac_inner_product(const float *a, const float *b, int32_t n)
{
    float lanes[AC_LANES];
    int32_t start, j;
    ac_clear_floats(lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            lanes[j] += a[start + j] * b[start + j];
        }
    }
    return ac_float_folded(lanes);
}
