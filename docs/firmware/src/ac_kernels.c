/* The kernels of this program; written by arena-ckpt export --to c. */
/* One memory holds tensors of different types, one after the other. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-strict-aliasing")
/* The float vectors of Cortex-M55 and M85 set subnormal numbers to 0. */
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#pragma GCC optimize("no-tree-vectorize")
#endif
#endif
#include "ac_kernels.h"

AC_INLINE double ac_not_a_number(void)
{
    return ac_double_of_bits(UINT64_C(0x7ff8000000000000));
}

AC_INLINE double ac_infinity(void)
{
    return ac_double_of_bits(UINT64_C(0x7ff0000000000000));
}

/* coefficients[0] + x * (coefficients[1] + x * (...)), the last of n first. */
static double ac_polynomial(double x, const double *coefficients, int32_t n)
{
    double value = coefficients[--n];
    while (n > 0) {
        value = coefficients[--n] + x * value;
    }
    return value;
}

/* The natural logarithm; -inf of 0, NaN below it and of NaN. */
double ac_log(double x)
{
    static const double thirds[] = {1.0 / 3, 1.0 / 5, 1.0 / 7, 1.0 / 9, 1.0 / 11,
        1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21};
    double mantissa, f, s, q, p, e;
    int32_t exponent = 0;
    uint64_t bits;
    if (!(x > 0.0)) {
        return x == 0.0 ? -ac_infinity() : ac_not_a_number();
    }
    bits = ac_double_bits(x);
    if (bits == UINT64_C(0x7ff0000000000000)) {
        return x;
    }
    if ((bits >> 52) == 0) { /* subnormal: times 2**54 */
        bits = ac_double_bits(x * 18014398509481984.0);
        exponent = -54;
    }
    exponent += (int32_t)(bits >> 52) - 1022;
    bits = (bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x3fe0000000000000);
    mantissa = ac_double_of_bits(bits);
    if (mantissa < 0.7071067811865476) {
        mantissa = mantissa + mantissa;
        exponent -= 1;
    }
    f = mantissa - 1.0;
    s = f / (mantissa + 1.0);
    q = s * s;
    p = q * ac_polynomial(q, thirds, 10);
    e = (double)exponent;
    return e * 0.6931471803691238
        + (f - (s * (f - (p + p)) - e * 1.9082149292705877e-10));
}

/* x**n for n >= 0, by squaring. */
double ac_whole_power(double x, int64_t n)
{
    double value = 1.0;
    while (n > 0) {
        if (n % 2 == 1) {
            value *= x;
        }
        x *= x;
        n /= 2;
    }
    return value;
}

#define AC_LOG2_E 1.4426950408889634f
/* Adding 1.5 * 2**23 rounds to a whole number, which then stands in the low bits. */
#define AC_ROUNDER 12582912.0f
#define AC_ROUNDER_LESS_ONE 12582911.0f
/* ln 2 in two parts: a whole number below 2**15 times the first is exact. */
#define AC_LN2_HIGH 0.693359375f
#define AC_LN2_LOW -2.12194440e-4f
#define AC_EXP_LEAST -87.0f /* exp is 0 here */
#define AC_EXP_MOST 89.0f /* exp is inf here */
#define AC_INVERSE_SQRT_TWO_PI 0.3989422804014327f

/* 2**n for rounded = n + AC_ROUNDER, -126 <= n <= 127; 0 for n = -127. */
static inline float ac_power_of_two(float rounded)
{
    /* The low nine bits of AC_ROUNDER are 0, so shifting leaves only n. */
    return ac_of_bits((ac_bits(rounded) << 23) + UINT32_C(0x3f800000));
}

/* e**r - 1 for abs(r) <= ln(2) / 2, relative error 1.4e-8. */
static inline float ac_small_expm1(float r)
{
    float p = 0.0013882516650483012f;
    p = 0.008366547524929047f + r * p;
    p = 0.04166720062494278f + r * p;
    p = 0.1666654348373413f + r * p;
    p = 0.4999999701976776f + r * p;
    return r + r * r * p;
}

/* e**x, relative error 2e-7; 0 below -86.99, inf above 88.73. */
static inline float ac_exp(float x)
{
    float rounded, n, p;
    x = x < AC_EXP_LEAST ? AC_EXP_LEAST : x;
    x = x > AC_EXP_MOST ? AC_EXP_MOST : x;
    rounded = x * AC_LOG2_E + AC_ROUNDER_LESS_ONE;
    n = rounded - AC_ROUNDER_LESS_ONE;
    p = ac_small_expm1((x - n * AC_LN2_HIGH) - n * AC_LN2_LOW);
    /* As 2 * 2**(n - 1), n may be 128; no subnormal number arises. */
    return (2.0f + (p + p)) * ac_power_of_two(rounded);
}

/* exp(-x * x / 2). */
static inline float ac_bell(float x)
{
    return ac_exp(-0.5f * x * x);
}

/* The share of the normal distribution at and below x, given density = ac_bell(x);
 * of its tail, density * t * Q(t) for t = 1 / (1 + 0.26 x), the error is 2e-8. */
static inline float ac_normal_cdf(float x, float density)
{
    float t = 1.0f / (1.0f + 0.26f * ac_abs(x));
    float q = 0.1336411088705063f + t * (-0.07006936520338058f
        + t * (0.208211749792099f + t * -0.06817179918289185f));
    float tail;
    q = t * (0.10388366132974625f
        + t * (0.10329440981149673f + t * (0.08921022713184357f + t * q)));
    tail = density * q;
    return x < 0.0f ? tail : 1.0f - tail;
}

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

/* Rows and columns that are worked out together, in registers: a number that is loaded
 * is used several times. */
#define AC_TILE 4

/* The steps of a loop after this word are written one after another, also at -Os, so
 * that what it indexes may stand in registers. */
#if defined(__clang__)
#define AC_TILE_LOOP _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__) && __GNUC__ >= 8
#define AC_TILE_LOOP _Pragma("GCC unroll 4")
#else
#define AC_TILE_LOOP
#endif

#if defined(__GNUC__)
#define AC_NOINLINE __attribute__((noinline, unused))
#else
#define AC_NOINLINE
#endif

/* sums += alpha * op(a) @ op(b) for a tile, k > 0: op(a) has a_row numbers from a row to
 * the next and a_step to the next column, op(b) b_step and b_column. Where fewer rows or
 * columns are left, the last one is worked out several times. */
AC_NOINLINE static void ac_add_tile(int32_t rows, int32_t columns, int32_t k,
    float alpha, const float *a, int32_t a_row, int32_t a_step,
    const float *b, int32_t b_step, int32_t b_column, float *tile)
{
    float sums[AC_TILE][AC_TILE], v[AC_TILE];
    int32_t a_at[AC_TILE], b_at[AC_TILE];
    int32_t i, j;
    AC_TILE_LOOP
    for (i = 0; i < AC_TILE; i++) {
        a_at[i] = (i < rows ? i : rows - 1) * a_row;
        b_at[i] = (i < columns ? i : columns - 1) * b_column;
        AC_TILE_LOOP
        for (j = 0; j < AC_TILE; j++) {
            sums[i][j] = tile[i * AC_TILE + j];
        }
    }
    do {
        AC_TILE_LOOP
        for (j = 0; j < AC_TILE; j++) {
            v[j] = b[b_at[j]];
        }
        AC_TILE_LOOP
        for (i = 0; i < AC_TILE; i++) {
            float factor = alpha * a[a_at[i]];
            AC_TILE_LOOP
            for (j = 0; j < AC_TILE; j++) {
                sums[i][j] = ac_fma(factor, v[j], sums[i][j]);
            }
        }
        a += a_step;
        b += b_step;
    } while (--k > 0);
    AC_TILE_LOOP
    for (i = 0; i < AC_TILE; i++) {
        AC_TILE_LOOP
        for (j = 0; j < AC_TILE; j++) {
            tile[i * AC_TILE + j] = sums[i][j];
        }
    }
}

/* With vectors a tile has more columns, which lie side by side in a panel: op(b) is
 * copied there, piece by piece of k. */
#if defined(__AVX__)
#define AC_PANEL 32
#define AC_DEPTH 128
#if defined(__clang__) || !defined(__GNUC__)
#define AC_WIDE
#elif defined(__AVX512F__)
#define AC_WIDE __attribute__((noinline, optimize("O3", "fp-contract=off"), \
    target("prefer-vector-width=512")))
#else
#define AC_WIDE __attribute__((noinline, optimize("O3", "fp-contract=off")))
#endif
#endif

/* c += alpha * op(a) @ op(b) for up to AC_TILE rows, and columns of a panel. */
#if defined(__AVX__)
AC_WIDE static void ac_add_panel(int32_t rows, int32_t columns, int32_t k,
    float alpha, const float *a, int32_t a_row, int32_t a_step,
    const float *AC_RESTRICT panel, int32_t step, float *c, int32_t c_row)
{
    float sums[AC_TILE][AC_PANEL];
    int32_t i, j;
    AC_TILE_LOOP
    for (i = 0; i < AC_TILE; i++) {
        const float *from = c + (i < rows ? i : rows - 1) * c_row;
        for (j = 0; j < AC_PANEL; j++) {
            sums[i][j] = j < columns ? from[j] : 0.0f;
        }
    }
    for (; k > 0; k--) {
        AC_TILE_LOOP
        for (i = 0; i < AC_TILE; i++) {
            float factor = alpha * a[(i < rows ? i : rows - 1) * a_row];
            for (j = 0; j < AC_PANEL; j++) {
                sums[i][j] = ac_fma(factor, panel[j], sums[i][j]);
            }
        }
        a += a_step;
        panel += step;
    }
    AC_TILE_LOOP
    for (i = 0; i < AC_TILE; i++) {
        float *to = c + (i < rows ? i : rows - 1) * c_row;
        for (j = 0; j < AC_PANEL; j++) {
            if (j < columns) {
                to[j] = sums[i][j];
            }
        }
    }
}
#endif

/* Copies columns of op(b) side by side, and zeros beyond them. */
#if defined(__AVX__)
static void ac_copy_panel(const float *b, int32_t b_step, int32_t b_column, int32_t k,
    int32_t columns, float *panel)
{
    int32_t p, j;
    for (p = 0; p < k; p++) {
        for (j = 0; j < AC_PANEL; j++) {
            panel[p * AC_PANEL + j] = j < columns ? b[j * b_column] : 0.0f;
        }
        b += b_step;
    }
}
#endif

/* c = alpha * op(a) @ op(b) + beta * c, op(a) (m, k), op(b) (k, n); strides of rows. */
static void ac_product(int32_t transpose_a, int32_t transpose_b,
    int32_t m, int32_t n, int32_t k, float alpha, const float *a, int32_t a_stride,
    const float *b, int32_t b_stride, float beta, float *c, int32_t c_stride)
{
    int32_t a_row = transpose_a ? 1 : a_stride;
    int32_t a_step = transpose_a ? a_stride : 1;
    int32_t b_step = transpose_b ? 1 : b_stride;
    int32_t b_column = transpose_b ? b_stride : 1;
    int32_t i, j, r, q;
#if defined(__AVX__)
    float panel[AC_DEPTH * AC_PANEL];
    for (i = 0; i < m; i++) {
        float *to = c + i * c_stride;
        for (j = 0; j < n; j++) {
            to[j] = beta == 0.0f ? 0.0f : beta * to[j];
        }
    }
    for (q = 0; q < k; q += AC_DEPTH) {
        int32_t depth = k - q < AC_DEPTH ? k - q : AC_DEPTH;
        for (j = 0; j < n; j += AC_PANEL) {
            int32_t columns = n - j < AC_PANEL ? n - j : AC_PANEL;
            /* Far apart rows that are read often had better stand together. */
            int32_t lies_right = b_column == 1 && columns == AC_PANEL
                && (b_step <= AC_DEPTH || m <= 4 * AC_TILE);
            const float *from = b + q * b_step + j * b_column;
            if (!lies_right) {
                ac_copy_panel(from, b_step, b_column, depth, columns, panel);
            }
            for (r = 0; r < m; r += AC_TILE) {
                ac_add_panel(m - r, columns, depth, alpha,
                    a + r * a_row + q * a_step, a_row, a_step,
                    lies_right ? from : panel, lies_right ? b_step : AC_PANEL,
                    c + r * c_stride + j, c_stride);
            }
        }
    }
#else
    float tile[AC_TILE * AC_TILE];
    for (r = 0; r < m; r += AC_TILE) {
        int32_t rows = m - r < AC_TILE ? m - r : AC_TILE;
        for (q = 0; q < n; q += AC_TILE) {
            int32_t columns = n - q < AC_TILE ? n - q : AC_TILE;
            float *to = c + r * c_stride + q;
            for (i = 0; i < AC_TILE; i++) {
                AC_TILE_LOOP
                for (j = 0; j < AC_TILE; j++) {
                    tile[i * AC_TILE + j] = 0.0f;
                }
            }
            for (i = 0; i < AC_TILE * AC_TILE && beta != 0.0f; i++) {
                int32_t row = i / AC_TILE < rows ? i / AC_TILE : rows - 1;
                j = i % AC_TILE < columns ? i % AC_TILE : columns - 1;
                tile[i] = beta * to[row * c_stride + j];
            }
            if (k > 0) {
                ac_add_tile(rows, columns, k, alpha, a + r * a_row, a_row, a_step,
                    b + q * b_column, b_step, b_column, tile);
            }
            for (i = 0; i < rows; i++) {
                AC_TILE_LOOP
                for (j = 0; j < AC_TILE; j++) {
                    to[i * c_stride + (j < columns ? j : columns - 1)] =
                        tile[i * AC_TILE + j];
                }
            }
        }
    }
#endif
}

/* kernel chains.chain_matmul(a, b, c, a.rows, b.columns, a.columns)
 * c = a @ b, a (m, k), b (k, n). */
void ac_matmul(const float *a, const float *b, float *c,
    int32_t m, int32_t n, int32_t k)
{
    ac_product(0, 0, m, n, k, 1.0f, a, k, b, n, 0.0f, c, n);
}

/* kernel chains.chain_transposed_a(a, b, beta, c, a.columns, b.columns, a.rows)
 * c = a^T @ b + beta * c, a (k, m), b (k, n). */
void ac_matmul_transposed_a(const float *a, const float *b, float beta, float *c,
    int32_t m, int32_t n, int32_t k)
{
    ac_product(1, 0, m, n, k, 1.0f, a, m, b, n, beta, c, n);
}

/* kernel chains.chain_transposed_b(a, b, c, a.rows, b.rows, a.columns)
 * c = a @ b^T, a (m, k), b (n, k). */
void ac_matmul_transposed_b(const float *a, const float *b, float *c,
    int32_t m, int32_t n, int32_t k)
{
    ac_product(0, 1, m, n, k, 1.0f, a, k, b, k, 0.0f, c, n);
}

/* x, or the end of an interval that is beyond; NaN stays. */
AC_INLINE float ac_within(float least, float x, float most)
{
    x = x < least ? least : x;
    return x > most ? most : x;
}

static inline float ac_gelu(float x)
{
    return x * ac_normal_cdf(x, ac_bell(x));
}

static inline float ac_gelu_slope(float x, float dy)
{
    float density;
    x = ac_within(-14.0f, x, 14.0f); /* the slope is 0 or 1 beyond */
    density = ac_bell(x);
    return dy * (ac_normal_cdf(x, density) + x * density * AC_INVERSE_SQRT_TWO_PI);
}

/* kernel activations.forward(x, y, x.size)
 * y = f(x); y may be x. */
void ac_gelu_forward(const float *x, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = ac_gelu(x[i]);
    }
}

/* kernel activations.backward(saved, dy, dx, dx.size)
 * dx = dy * f'; dx may be dy or saved. */
void ac_gelu_backward(const float *saved, const float *dy, float *dx, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        dx[i] = ac_gelu_slope(saved[i], dy[i]);
    }
}

/* kernel convolution.conv_bias_gradient(dy, beta, db, db.size, n, plane)
 * db[f] = the sum of dy[:, f] over samples and plane, in double lanes, + beta * db[f];
 * beta is 0 or 1, and at 0, db is only written. */
void ac_conv_bias_gradient(const float *dy, float beta, float *db, int32_t filters,
    int32_t n, int32_t plane)
{
    double lanes[AC_LANES];
    int32_t f, i, start, j;
    for (f = 0; f < filters; f++) {
        double so_far = beta == 0.0f ? 0.0 : (double)db[f];
        ac_clear(lanes);
        for (i = 0; i < n; i++) {
            const float *row = dy + (i * filters + f) * plane;
            for (start = 0; start < plane; start += AC_LANES) {
                int32_t width = ac_width(plane, start);
                for (j = 0; j < width; j++) {
                    lanes[j] += (double)row[start + j];
                }
            }
        }
        db[f] = (float)(so_far + ac_total(lanes, AC_LANES));
    }
}

/* How many neighbouring columns are worked out together: as many as processors with
 * vectors like, else as many as registers hold. The steps of a short loop after one of
 * these words are written one after another, also at -Os, so that what it indexes may
 * stand in registers; with vectors, loops over columns become such, also at -O2. */
#if defined(__clang__) && !defined(__AVX__)
#define AC_UNROLLED _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 8
#define AC_UNROLLED _Pragma("GCC unroll 4")
#else
#define AC_UNROLLED
#endif
#if defined(__AVX__)
#define AC_COLUMNS 32
#define AC_UNROLLED_COLUMNS
#else
#define AC_COLUMNS 4
#define AC_UNROLLED_COLUMNS AC_UNROLLED
#endif
#if defined(__AVX__) && defined(__GNUC__) && !defined(__clang__)
#define AC_VECTORIZED __attribute__((optimize("O3", "fp-contract=off")))
#else
#define AC_VECTORIZED
#endif

/* What the kernels are given. Samples of x are x_sample elements apart, those of y
 * y_sample. */
typedef struct {
    int32_t n, channels, height, width, filters, kernel_height, kernel_width;
    int32_t stride_height, stride_width, dilation_height, dilation_width, top, left;
    int32_t out_height, out_width, x_sample, y_sample;
} ac_convolution;

/* Along one axis: the taps that an element gets something from, in order. The first
 * multiplies weight `weight` with source element `source`. */
typedef struct {
    int32_t n, weight, weight_step, source, source_step;
} ac_taps;

/* The taps of output element `at`. */
static ac_taps ac_taps_of_output(int32_t at, int32_t kernel, int32_t stride,
    int32_t dilation, int32_t before)
{
    ac_taps taps;
    taps.n = kernel;
    taps.weight = 0;
    taps.weight_step = 1;
    taps.source = at * stride - before;
    taps.source_step = dilation;
    return taps;
}

/* The taps by which input element `at` reached outputs, the first output first. With a
 * stride, only one in `period` taps did. */
static ac_taps ac_taps_of_input(int32_t at, int32_t kernel, int32_t stride,
    int32_t dilation, int32_t before)
{
    ac_taps taps;
    int32_t place = at + before - (kernel - 1) * dilation;
    int32_t period = 1;
    taps.weight = kernel - 1;
    while (taps.weight >= 0 && place % stride != 0) {
        taps.weight--;
        place += dilation;
    }
    while (period * dilation % stride != 0) {
        period++;
    }
    taps.n = taps.weight < 0 ? 0 : taps.weight / period + 1;
    taps.weight_step = -period;
    taps.source = place / stride;
    taps.source_step = period * dilation / stride;
    return taps;
}

/* The taps of an output, or of an input if its derivative is wanted. */
static ac_taps ac_taps_of(int32_t is_derivative, int32_t at, int32_t kernel,
    int32_t stride, int32_t dilation, int32_t before)
{
    return is_derivative ? ac_taps_of_input(at, kernel, stride, dilation, before)
        : ac_taps_of_output(at, kernel, stride, dilation, before);
}

/* AC_COLUMNS columns of one target row, of which the first `count` are wanted: the taps
 * of the row and of the first column; how far apart columns are in the source (step)
 * and in the target; size and number of source planes; how far apart weights are. */
typedef struct {
    ac_taps rows, columns;
    int32_t step, height, width, planes;
    int32_t row_weight, plane_weight, filter_weight;
    int32_t target_step, target_plane, count;
} ac_block;

/* target = the sums of a block, for 4 filters or 1 from `weight` on. What is loaded
 * from the source serves all filters, and a weight all columns. */
AC_INLINE void ac_sum_block(const ac_block *block, const float *source,
    const float *weight, const float *bias, float *target, const int32_t filters)
{
    float sums[4][AC_COLUMNS], v[AC_COLUMNS];
    int32_t plane, i, j, f, k;
    AC_UNROLLED
    for (f = 0; f < filters; f++) {
        float first = bias ? bias[f] : 0.0f;
        AC_UNROLLED_COLUMNS
        for (k = 0; k < AC_COLUMNS; k++) {
            sums[f][k] = first;
        }
    }
    for (plane = 0; plane < block->planes; plane++) {
        int32_t row = block->rows.source;
        const float *row_weight = weight + block->rows.weight * block->row_weight
            + block->columns.weight;
        for (i = 0; i < block->rows.n; i++) {
            int32_t is_inside = row >= 0 && row < block->height;
            int32_t width = is_inside ? block->width : 0;
            const float *line = source + (is_inside ? row * block->width : 0);
            const float *w = row_weight;
            int32_t column = block->columns.source;
            for (j = 0; j < block->columns.n; j++) {
                if (block->step == 1 && column >= 0 && column + AC_COLUMNS <= width) {
                    AC_UNROLLED_COLUMNS
                    for (k = 0; k < AC_COLUMNS; k++) {
                        v[k] = line[column + k];
                    }
                } else {
                    int32_t at = column;
                    AC_UNROLLED_COLUMNS
                    for (k = 0; k < AC_COLUMNS; k++) {
                        v[k] = at >= 0 && at < width ? line[at] : 0.0f;
                        at += block->step;
                    }
                }
                AC_UNROLLED
                for (f = 0; f < filters; f++) {
                    float factor = w[f * block->filter_weight];
                    AC_UNROLLED_COLUMNS
                    for (k = 0; k < AC_COLUMNS; k++) {
                        sums[f][k] = ac_fma(factor, v[k], sums[f][k]);
                    }
                }
                w += block->columns.weight_step;
                column += block->columns.source_step;
            }
            row_weight += block->rows.weight_step * block->row_weight;
            row += block->rows.source_step;
        }
        source += block->height * block->width;
        weight += block->plane_weight;
    }
    AC_UNROLLED
    for (f = 0; f < filters; f++) {
        float *to = target + f * block->target_plane;
        AC_UNROLLED_COLUMNS
        for (k = 0; k < AC_COLUMNS; k++) {
            if (k < block->count) {
                *to = sums[f][k];
            }
            to += block->target_step;
        }
    }
}

/* With vectors and many filters, these stand side by side in them. Some planes of the
 * source are copied with the zeros around them, and their weights filter by filter. */
#if defined(__AVX__)
#define AC_FILTERS 16
#define AC_PADDED 8192
#define AC_PACKED (256 * AC_FILTERS)
#if defined(__AVX512F__)
#define AC_SIDE_BY_SIDE 8
#else
#define AC_SIDE_BY_SIDE 4
#endif
#if defined(__clang__)
#define AC_EACH_COLUMN _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__) && __GNUC__ >= 8
#define AC_EACH_COLUMN _Pragma("GCC unroll 8")
#else
#define AC_EACH_COLUMN
#endif
#if defined(__clang__) || !defined(__GNUC__)
#define AC_IN_VECTORS
#elif defined(__AVX512F__)
#define AC_IN_VECTORS __attribute__((noinline, optimize("O3", "fp-contract=off"), \
    target("prefer-vector-width=512")))
#else
#define AC_IN_VECTORS __attribute__((noinline, optimize("O3", "fp-contract=off")))
#endif
#endif

/* Planes with zeros around them: the source element of the first one, rows, columns,
 * and how many planes there are. */
#if defined(__AVX__)
typedef struct {
    int32_t top, left, rows, columns, planes;
} ac_padded_planes;
#endif

/* Along one axis: the first source element that n targets read, and how many there are
 * up to the last. */
#if defined(__AVX__)
static int32_t ac_reach(int32_t is_derivative, int32_t n, int32_t kernel,
    int32_t stride, int32_t dilation, int32_t before, int32_t *first)
{
    int32_t at, low = 0, high = 0;
    for (at = 0; at < n; at++) {
        ac_taps taps = ac_taps_of(is_derivative, at, kernel, stride, dilation, before);
        int32_t last = taps.source + (taps.n - 1) * taps.source_step;
        if (taps.n > 0) {
            low = taps.source < low ? taps.source : low;
            high = last > high ? last : high;
        }
    }
    *first = low;
    return high - low + 1;
}
#endif

#if defined(__AVX__)
static void ac_pad(const ac_padded_planes *all, int32_t height, int32_t width,
    const float *source, float *padded)
{
    int32_t plane, i, j;
    for (plane = 0; plane < all->planes; plane++) {
        for (i = 0; i < all->rows; i++) {
            int32_t row = all->top + i;
            for (j = 0; j < all->columns; j++) {
                padded[j] = 0.0f;
            }
            if (row >= 0 && row < height) {
                int32_t n = all->columns + all->left;
                for (j = 0; j < (n < width ? n : width); j++) {
                    padded[j - all->left] = source[row * width + j];
                }
            }
            padded += all->columns;
        }
        source += height * width;
    }
}
#endif

/* Adds the products of some planes to AC_SIDE_BY_SIDE columns of up to AC_FILTERS
 * filters, which begin at their bias or 0 if these planes are the first. */
#if defined(__AVX__)
AC_IN_VECTORS static void ac_add_planes(const ac_block *block,
    const ac_padded_planes *all, const float *AC_RESTRICT padded,
    const float *AC_RESTRICT packed, int32_t taps, int32_t filters,
    int32_t is_first, const float *bias, float *target)
{
    float sums[AC_SIDE_BY_SIDE][AC_FILTERS];
    int32_t plane, i, j, f, k;
    int32_t step = block->step;
    AC_EACH_COLUMN
    for (k = 0; k < AC_SIDE_BY_SIDE; k++) {
        for (f = 0; f < AC_FILTERS; f++) {
            sums[k][f] = 0.0f;
            if (f < filters && k < block->count) {
                if (!is_first) {
                    sums[k][f] = target[f * block->target_plane
                        + k * block->target_step];
                } else if (bias) {
                    sums[k][f] = bias[f];
                }
            }
        }
    }
    for (plane = 0; plane < all->planes; plane++) {
        for (i = 0; i < block->rows.n; i++) {
            const float *v = padded + block->columns.source - all->left
                + (block->rows.source + i * block->rows.source_step - all->top)
                    * all->columns;
            const float *w = packed + AC_FILTERS * (block->columns.weight
                + (block->rows.weight + i * block->rows.weight_step)
                    * block->row_weight);
            for (j = 0; j < block->columns.n; j++) {
                AC_EACH_COLUMN
                for (k = 0; k < AC_SIDE_BY_SIDE; k++) {
                    float factor = v[k * step];
                    for (f = 0; f < AC_FILTERS; f++) {
                        sums[k][f] = ac_fma(w[f], factor, sums[k][f]);
                    }
                }
                v += block->columns.source_step;
                w += AC_FILTERS * block->columns.weight_step;
            }
        }
        padded += all->rows * all->columns;
        packed += AC_FILTERS * taps;
    }
    AC_EACH_COLUMN
    for (k = 0; k < AC_SIDE_BY_SIDE; k++) {
        if (k < block->count) {
            for (f = 0; f < filters; f++) {
                target[f * block->target_plane + k * block->target_step] = sums[k][f];
            }
        }
    }
}
#endif

/* What ac_correlate does, if there are filters enough and a plane is small; returns
 * whether it has done so. */
#if defined(__AVX__)
static int32_t ac_correlate_planes(const ac_convolution *all, int32_t is_derivative,
    const float *source, const float *weight, const float *bias, float *target)
{
    float padded[AC_PADDED], packed[AC_PACKED];
    int32_t taps = all->kernel_height * all->kernel_width;
    int32_t filters = is_derivative ? all->channels : all->filters;
    int32_t rows = is_derivative ? all->height : all->out_height;
    int32_t columns = is_derivative ? all->width : all->out_width;
    int32_t planes = is_derivative ? all->filters : all->channels;
    int32_t first, f, s, r, phase, c, i, j;
    ac_padded_planes some;
    ac_block block;
    block.step = is_derivative ? 1 : all->stride_width;
    block.height = is_derivative ? all->out_height : all->height;
    block.width = is_derivative ? all->out_width : all->width;
    block.row_weight = all->kernel_width;
    block.plane_weight = is_derivative ? all->channels * taps : taps;
    block.filter_weight = is_derivative ? taps : all->channels * taps;
    block.target_step = is_derivative ? all->stride_width : 1;
    block.target_plane = rows * columns;
    some.rows = ac_reach(is_derivative, rows, all->kernel_height, all->stride_height,
        all->dilation_height, all->top, &some.top);
    some.columns = ac_reach(is_derivative, columns, all->kernel_width,
        all->stride_width, all->dilation_width, all->left, &some.left)
        + (AC_SIDE_BY_SIDE - 1) * block.step;
    if (filters < 4 || taps > AC_PACKED / AC_FILTERS
        || some.rows > AC_PADDED / some.columns) {
        return 0;
    }
    some.planes = AC_PADDED / (some.rows * some.columns);
    if (some.planes > AC_PACKED / AC_FILTERS / taps) {
        some.planes = AC_PACKED / AC_FILTERS / taps;
    }
    for (first = 0; first < planes; first += some.planes) {
        some.planes = planes - first < some.planes ? planes - first : some.planes;
        for (f = 0; f < filters; f += AC_FILTERS) {
            int32_t n_filters = filters - f < AC_FILTERS ? filters - f : AC_FILTERS;
            for (i = 0; i < some.planes * taps; i++) {
                const float *w = weight + (first + i / taps) * block.plane_weight
                    + i % taps + f * block.filter_weight;
                for (j = 0; j < AC_FILTERS; j++) {
                    packed[i * AC_FILTERS + j] = j < n_filters
                        ? w[j * block.filter_weight] : 0.0f;
                }
            }
            for (s = 0; s < all->n; s++) {
                float *to = target + s * (is_derivative ? all->x_sample : all->y_sample);
                ac_pad(&some, block.height, block.width,
                    source + s * (is_derivative ? all->y_sample : all->x_sample)
                        + first * block.height * block.width, padded);
                for (r = 0; r < rows; r++) {
                    block.rows = ac_taps_of(is_derivative, r, all->kernel_height,
                        all->stride_height, all->dilation_height, all->top);
                    for (phase = 0; phase < block.target_step && phase < columns;
                            phase++) {
                        int32_t n = (columns - phase - 1) / block.target_step + 1;
                        for (c = 0; c < n; c += AC_SIDE_BY_SIDE) {
                            int32_t column = phase + c * block.target_step;
                            block.count = n - c;
                            block.columns = ac_taps_of(is_derivative, column,
                                all->kernel_width, all->stride_width,
                                all->dilation_width, all->left);
                            ac_add_planes(&block, &some, padded, packed, taps,
                                n_filters, first == 0, bias ? bias + f : bias,
                                to + (f * rows + r) * columns + column);
                        }
                    }
                }
            }
        }
    }
    return 1;
}
#endif

/* target = the sums of all planes and taps of source: outputs of x, or with
 * `is_derivative` inputs of dy, whose filters and channels change places. */
AC_VECTORIZED static void ac_correlate(const ac_convolution *all, int32_t is_derivative,
    const float *source, const float *weight, const float *bias, float *target)
{
    int32_t taps = all->kernel_height * all->kernel_width;
    int32_t filters = is_derivative ? all->channels : all->filters;
    int32_t rows = is_derivative ? all->height : all->out_height;
    int32_t columns = is_derivative ? all->width : all->out_width;
    int32_t s, r, phase, c, f;
    ac_block block;
#if defined(__AVX__)
    if (ac_correlate_planes(all, is_derivative, source, weight, bias, target)) {
        return;
    }
#endif
    block.step = is_derivative ? 1 : all->stride_width;
    block.height = is_derivative ? all->out_height : all->height;
    block.width = is_derivative ? all->out_width : all->width;
    block.planes = is_derivative ? all->filters : all->channels;
    block.row_weight = all->kernel_width;
    block.plane_weight = is_derivative ? all->channels * taps : taps;
    block.filter_weight = is_derivative ? taps : all->channels * taps;
    block.target_step = is_derivative ? all->stride_width : 1;
    block.target_plane = rows * columns;
    for (s = 0; s < all->n; s++) {
        for (r = 0; r < rows; r++) {
            block.rows = ac_taps_of(is_derivative, r, all->kernel_height,
                all->stride_height, all->dilation_height, all->top);
            for (phase = 0; phase < block.target_step && phase < columns; phase++) {
                int32_t n = (columns - phase - 1) / block.target_step + 1;
                for (c = 0; c < n; c += AC_COLUMNS) {
                    /* The last block repeats some columns, so that it is whole. */
                    int32_t first = c + AC_COLUMNS > n && n >= AC_COLUMNS
                        ? n - AC_COLUMNS : c;
                    int32_t column = phase + first * block.target_step;
                    block.count = n - first;
                    block.columns = ac_taps_of(is_derivative, column, all->kernel_width,
                        all->stride_width, all->dilation_width, all->left);
                    for (f = 0; f < filters;) {
                        const float *w = weight + f * block.filter_weight;
                        const float *first_sum = bias ? bias + f : bias;
                        float *to = target + (f * rows + r) * columns + column;
                        if (filters - f >= 4) {
                            ac_sum_block(&block, source, w, first_sum, to, 4);
                            f += 4;
                        } else {
                            ac_sum_block(&block, source, w, first_sum, to, 1);
                            f += 1;
                        }
                    }
                }
            }
        }
        source += is_derivative ? all->y_sample : all->x_sample;
        target += is_derivative ? all->x_sample : all->y_sample;
    }
}

/* Sums of 4 filters and 4 channels, for one tap: each gets the sum of dy times what the
 * tap reads of x. Where fewer are left, the last one is worked out several times. */
static void ac_sum_gradients(const ac_convolution *all, const float *x, const float *dy,
    int32_t row, int32_t column, int32_t filters, int32_t channels, float *tile)
{
    float sums[4][4], v[4];
    int32_t x_at[4], y_at[4];
    int32_t s, r, c, f, k;
    AC_UNROLLED
    for (f = 0; f < 4; f++) {
        x_at[f] = (f < channels ? f : channels - 1) * all->height * all->width;
        y_at[f] = (f < filters ? f : filters - 1) * all->out_height * all->out_width;
        AC_UNROLLED
        for (k = 0; k < 4; k++) {
            sums[f][k] = tile[4 * f + k];
        }
    }
    for (s = 0; s < all->n; s++) {
        const float *slope = dy;
        int32_t y = row;
        for (r = 0; r < all->out_height; r++) {
            int32_t is_inside = y >= 0 && y < all->height;
            int32_t width = is_inside ? all->width : 0;
            const float *line = x + (is_inside ? y * all->width : 0);
            int32_t at = column;
            for (c = 0; c < all->out_width; c++) {
                AC_UNROLLED
                for (k = 0; k < 4; k++) {
                    v[k] = 0.0f;
                }
                if (at >= 0 && at < width) {
                    AC_UNROLLED
                    for (k = 0; k < 4; k++) {
                        v[k] = line[at + x_at[k]];
                    }
                }
                AC_UNROLLED
                for (f = 0; f < 4; f++) {
                    float factor = slope[y_at[f]];
                    AC_UNROLLED
                    for (k = 0; k < 4; k++) {
                        sums[f][k] = ac_fma(factor, v[k], sums[f][k]);
                    }
                }
                slope++;
                at += all->stride_width;
            }
            y += all->stride_height;
        }
        x += all->x_sample;
        dy += all->y_sample;
    }
    AC_UNROLLED
    for (f = 0; f < 4; f++) {
        AC_UNROLLED
        for (k = 0; k < 4; k++) {
            tile[4 * f + k] = sums[f][k];
        }
    }
}

/* dw = the gradient of all weights; added to dw where beta is 1. */
static void ac_sum_all_gradients(const ac_convolution *all, const float *x,
    const float *dy, float beta, float *dw)
{
    int32_t taps = all->kernel_height * all->kernel_width;
    int32_t f, k, i, t;
    for (f = 0; f < all->filters; f += 4) {
        for (k = 0; k < all->channels; k += 4) {
            for (t = 0; t < taps; t++) {
                float tile[16];
                float *to = dw + (f * all->channels + k) * taps + t;
                for (i = 0; i < 16; i++) {
                    tile[i] = 0.0f;
                    if (beta != 0.0f && f + i / 4 < all->filters
                            && k + i % 4 < all->channels) {
                        tile[i] = to[(i / 4 * all->channels + i % 4) * taps];
                    }
                }
                ac_sum_gradients(all, x + k * all->height * all->width,
                    dy + f * all->out_height * all->out_width,
                    t / all->kernel_width * all->dilation_height - all->top,
                    t % all->kernel_width * all->dilation_width - all->left,
                    all->filters - f, all->channels - k, tile);
                for (i = 0; i < 16; i++) {
                    if (f + i / 4 < all->filters && k + i % 4 < all->channels) {
                        to[(i / 4 * all->channels + i % 4) * taps] = tile[i];
                    }
                }
            }
        }
    }
}

/* kernel direct.direct_forward(x, weight, bias, has_bias, y, n, channels, height,
    width, filters, kernel_height, kernel_width, stride_height, stride_width,
    dilation_height, dilation_width, top, left, out_height, out_width)
 * y = the convolution of x, with a bias of each filter if has_bias. */
void ac_direct_forward(const float *x, const float *weight, const float *bias,
    int32_t has_bias, float *y,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_convolution all = {n, channels, height, width, filters, kernel_height,
        kernel_width, stride_height, stride_width, dilation_height, dilation_width,
        top, left, out_height, out_width, channels * height * width,
        filters * out_height * out_width};
    ac_correlate(&all, 0, x, weight, has_bias ? bias : (const float *)0, y);
}

/* kernel direct.direct_derivative(dy, weight, bias, has_bias, dx, n, channels,
    height, width, filters, kernel_height, kernel_width, stride_height, stride_width,
    dilation_height, dilation_width, top, left, out_height, out_width)
 * dx = what reaches the input of dy, with a bias of each channel if has_bias. */
void ac_direct_derivative(const float *dy, const float *weight, const float *bias,
    int32_t has_bias, float *dx,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_convolution all = {n, channels, height, width, filters, kernel_height,
        kernel_width, stride_height, stride_width, dilation_height, dilation_width,
        top, left, out_height, out_width, channels * height * width,
        filters * out_height * out_width};
    ac_correlate(&all, 1, dy, weight, has_bias ? bias : (const float *)0, dx);
}

/* kernel direct.direct_gradient(x, dy, beta, dw, n, channels, height, width, filters,
    kernel_height, kernel_width, stride_height, stride_width, dilation_height,
    dilation_width, top, left, out_height, out_width)
 * dw = the gradient of the weight; at beta 1 it is added to dw. */
void ac_direct_gradient(const float *x, const float *dy, float beta, float *dw,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_convolution all = {n, channels, height, width, filters, kernel_height,
        kernel_width, stride_height, stride_width, dilation_height, dilation_width,
        top, left, out_height, out_width, channels * height * width,
        filters * out_height * out_width};
    ac_sum_all_gradients(&all, x, dy, beta, dw);
}

/* kernel elementwise.add_bias(x, bias, y, y.rows, y.columns)
 * y = x + bias; y may be x. */
void ac_add_bias(const float *x, const float *bias, float *y,
    int32_t rows, int32_t columns)
{
    int32_t r, c;
    for (r = 0; r < rows; r++) {
        for (c = 0; c < columns; c++) {
            y[r * columns + c] = x[r * columns + c] + bias[c];
        }
    }
}

/* kernel elementwise.count_up(counter)
 * counter[0] += 1. */
void ac_count_up(double *counter)
{
    counter[0] += 1.0;
}

/* probabilities = exp(logits - most), which may be the logits; returns their sum. */
static double ac_exponentials(const float *logits, float most, float *probabilities,
    int32_t n)
{
    int32_t c;
    for (c = 0; c < n; c++) {
        probabilities[c] = ac_exp(logits[c] - most);
    }
    return ac_sum(probabilities, n);
}

/* x *= factor. */
static void ac_scale(float *x, float factor, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        x[i] *= factor;
    }
}

/* kernel losses.cross_softmax_loss(logits, label, probabilities, scale, loss,
 *     logits.rows, logits.columns)
 * Cross entropy of softmax(logits) in rows; keeps the probabilities.
 *
 * loss[0] += scale[0] * sum(label * (logsumexp(row) - logits)); probabilities may be
 * logits. */
void ac_cross_softmax_loss(const float *logits, const float *label,
    float *probabilities, const double *scale, double *loss,
    int32_t rows, int32_t columns)
{
    double lanes[AC_LANES];
    double total = 0.0;
    int32_t r, j, start;
    if (columns == 0) {
        rows = 0;
    }
    for (r = 0; r < rows; r++) {
        float most = ac_most_of(logits, columns);
        double exponentials;
        /* The loss is read off before the probabilities may overwrite the logits. */
        ac_clear(lanes);
        for (start = 0; start < columns; start += AC_LANES) {
            int32_t width = ac_width(columns, start);
            for (j = 0; j < width; j++) {
                double below = (double)most - (double)logits[start + j];
                lanes[j] += (double)label[start + j] * below;
            }
        }
        total += ac_total(lanes, columns);
        exponentials = ac_exponentials(logits, most, probabilities, columns);
        total += ac_sum(label, columns) * ac_log(exponentials);
        ac_scale(probabilities, (float)(1.0 / exponentials), columns);
        logits += columns;
        label += columns;
        probabilities += columns;
    }
    loss[0] += scale[0] * total;
}

/* kernel losses.cross_softmax_derivative(probabilities, label, scale, dx,
 *     label.rows, label.columns)
 * dx = scale[0] * (probabilities * sum(label row) - label); dx may be probabilities. */
void ac_cross_softmax_derivative(const float *probabilities, const float *label,
    const double *scale, float *dx, int32_t rows, int32_t columns)
{
    float factor = (float)scale[0];
    int32_t r, c;
    for (r = 0; r < rows; r++) {
        float labels = (float)ac_sum(label, columns);
        for (c = 0; c < columns; c++) {
            dx[c] = factor * (probabilities[c] * labels - label[c]);
        }
        probabilities += columns;
        label += columns;
        dx += columns;
    }
}

/* kernel reductions.bias_gradient(dy, beta, db, dy.rows, dy.columns)
 * db = sum of the rows of dy + beta * db, beta 0 or 1; at 0, db is only written. */
void ac_bias_gradient(const float *dy, float beta, float *db,
    int32_t rows, int32_t columns)
{
    double lanes[AC_LANES];
    int32_t start, r, j;
    for (start = 0; start < columns; start += AC_LANES) {
        int32_t width = ac_width(columns, start);
        for (j = 0; j < width; j++) {
            lanes[j] = 0.0;
        }
        for (r = 0; r < rows; r++) {
            for (j = 0; j < width; j++) {
                lanes[j] += (double)dy[r * columns + start + j];
            }
        }
        for (j = 0; j < width; j++) {
            double before = (double)db[start + j];
            db[start + j] = (float)(beta == 0.0f ? lanes[j] : before + lanes[j]);
        }
    }
}

/* One step of Adam after w *= shrink. */
static void ac_adam_step(float *weight, const float *gradient, float *first,
    float *second, float decay, const double *hyper, float shrink, int32_t n)
{
    float scale = (float)hyper[1];
    float beta1 = (float)hyper[2];
    float beta2 = (float)hyper[3];
    float rest1 = (float)(1.0 - hyper[2]);
    float rest2 = (float)(1.0 - hyper[3]);
    float epsilon = (float)hyper[4];
    float rate = (float)(hyper[0] / hyper[5]);
    float root = (float)(1.0 / ac_double_sqrt(hyper[6]));
    int32_t i;
    for (i = 0; i < n; i++) {
        float w = weight[i] * shrink;
        float g = gradient[i] * scale + decay * w;
        float m = ac_zero_if_subnormal(beta1 * first[i] + rest1 * g);
        float v = ac_zero_if_subnormal(beta2 * second[i] + rest2 * (g * g));
        first[i] = m;
        second[i] = v;
        w = w - rate * m / (ac_sqrt(v) * root + epsilon);
        weight[i] = ac_zero_if_subnormal(w);
    }
}

/* kernel updates.adam(weight, gradient, first_moment, second_moment, decay, hyper,
 *     weight.size)
 * One step of Adam; hyper = learning_rate, gradient_scale, beta1, beta2, epsilon,
 * 1 - beta1**t, 1 - beta2**t (Kingma and Ba, 2015). */
void ac_adam(float *weight, const float *gradient, float *first_moment,
    float *second_moment, float decay, const double *hyper, int32_t n)
{
    ac_adam_step(weight, gradient, first_moment, second_moment, decay, hyper, 1.0f, n);
}
