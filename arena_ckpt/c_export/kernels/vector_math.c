/* Functions of float without branches, after arena_ckpt/kernels/vector_math.py.
 *
 * The polynomials were fitted for these kernels; clamps are written so that NaN goes
 * through. ac_log_fast and ac_exp_fast are in double, with fewer digits than those of
 * elementary.c. */

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

/* e**x - 1 for -80 <= x <= 80, small relative error also beside 0. */
static inline float ac_expm1(float x)
{
    float rounded = x * AC_LOG2_E + AC_ROUNDER;
    float n = rounded - AC_ROUNDER;
    float p = ac_small_expm1((x - n * AC_LN2_HIGH) - n * AC_LN2_LOW);
    float scale = ac_power_of_two(rounded);
    return scale * p + (scale - 1.0f);
}

/* log(1 + u) for 0 <= u <= 1, by atanh(s) = s + s**3 * P(s**2), error 5e-9. */
static inline float ac_log1p(float u)
{
    float s = u / (u + 2.0f);
    float square = s * s;
    float p = 0.20010849833488464f
        + square * (0.13999570906162262f + square * 0.14012229442596436f);
    p = square * (0.3333320617675781f + square * p);
    return 2.0f * (s + s * p);
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

/* log(x) of a normal double, error 1e-11; NaN unless 0 < x < inf. */
static inline double ac_log_fast(double x)
{
    uint64_t bits = ac_double_bits(x);
    /* Mantissas lie from sqrt(1/2), whose bits are subtracted, to sqrt(2). */
    uint64_t exponent = (bits + (UINT64_C(1024) << 52) - UINT64_C(0x3fe6a09e667f3bcd))
        >> 52;
    double m = ac_double_of_bits(bits - ((exponent - 1024) << 52));
    double s = (m - 1.0) / (m + 1.0);
    double q = s * s;
    /* atanh(s) = s + s**3 / 3 + s**5 / 5 + ..., abs(s) <= 0.172 */
    double p = q * (1.0 / 7
        + q * (1.0 / 9 + q * (1.0 / 11 + q * (1.0 / 13 + q * (1.0 / 15)))));
    p = 2.0 * (s + s * (q * (1.0 / 3 + q * (1.0 / 5 + p))));
    p = (double)((int32_t)exponent - 1024) * 0.6931471805599453 + p;
    return x > 0.0 && x < ac_infinity() ? p : ac_not_a_number();
}

/* e**x, relative error 2e-9, for abs(x) <= 700. */
static inline double ac_exp_fast(double x)
{
    /* Adding 1.5 * 2**52 rounds to a whole number, which stands in the low bits. */
    double rounded = x * (1.0 / 0.6931471805599453) + 6755399441055744.0;
    double r = x - (rounded - 6755399441055744.0) * 0.6931471805599453;
    double p = 1.0 / 120 + r * (1.0 / 720 + r * (1.0 / 5040 + r * (1.0 / 40320)));
    p = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6 + r * (1.0 / 24 + r * p))));
    return p * ac_double_of_bits(
        (ac_double_bits(rounded) << 52) + UINT64_C(0x3ff0000000000000));
}
