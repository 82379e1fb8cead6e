/* Elementary functions of double, after arena_ckpt/operations/elementary.py. */

AC_INLINE double ac_not_a_number(void)
{
    return ac_double_of_bits(UINT64_C(0x7ff8000000000000));
}

AC_INLINE double ac_infinity(void)
{
    return ac_double_of_bits(UINT64_C(0x7ff0000000000000));
}

/* 2**n of a normal number. */
AC_INLINE double ac_double_power_of_two(int32_t n)
{
    return ac_double_of_bits((uint64_t)(n + 1023) << 52);
}

/* The greatest whole number that is not above x, for abs(x) < 2**31. */
AC_INLINE int32_t ac_floor(double x)
{
    int32_t n = (int32_t)x;
    return (double)n > x ? n - 1 : n;
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

/* e**x; inf above 709.78, 0 below -745.13. */
double ac_exp_double(double x)
{
    /* 1 / 2!, 1 / 3! and so on. */
    static const double factorials[] = {0.5, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720,
        1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800,
        1.0 / 479001600, 1.0 / 6227020800.0, 1.0 / 87178291200.0};
    double k, high, low, r, p, value;
    int32_t n;
    if (!(x < 709.782712893384)) {
        return x > 709.0 ? ac_infinity() : x;
    }
    if (x < -745.2) {
        return 0.0;
    }
    n = ac_floor(x * 1.4426950408889634 + 0.5);
    k = (double)n;
    high = x - k * 0.6931471803691238;
    low = k * 1.9082149292705877e-10;
    r = high - low;
    p = r * r * ac_polynomial(r, factorials, 13);
    value = 1.0 + (high - (low - p));
    if (n < -1021) {
        value = value * ac_double_power_of_two(n + 1000);
        return value * ac_double_power_of_two(-1000);
    }
    if (n > 1023) { /* 1024: the power alone has no double */
        return value * 2.0 * ac_double_power_of_two(1023);
    }
    return value * ac_double_power_of_two(n);
}

/* x**y for x > 0; 1 where y is 0. */
double ac_power(double x, double y)
{
    return y != 0.0 ? ac_exp_double(y * ac_log(x)) : 1.0;
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

/* What an angle has beside its quarter turns, within pi / 4. */
static double ac_rest_of_angle(double x, int32_t quarter)
{
    double k = (double)quarter;
    return ((x - k * 1.5707963267341256) - k * 6.077100506303966e-11)
        - k * 2.0222662487959506e-21;
}

static double ac_sine_of_rest(double r)
{
    /* 1 / 3!, -1 / 5! and so on. */
    static const double shares[] = {1.0 / 6, -1.0 / 120, 1.0 / 5040, -1.0 / 362880,
        1.0 / 39916800, -1.0 / 6227020800.0, 1.0 / 1307674368000.0};
    double q = r * r;
    return r - r * (q * ac_polynomial(q, shares, 7));
}

static double ac_cosine_of_rest(double r)
{
    /* 1 / 4!, -1 / 6! and so on. */
    static const double shares[] = {1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800,
        1.0 / 479001600, -1.0 / 87178291200.0, 1.0 / 20922789888000.0,
        -1.0 / 6402373705728000.0};
    double q = r * r;
    double half = 0.5 * q;
    double one = 1.0 - half;
    return one + (((1.0 - one) - half) + q * q * ac_polynomial(q, shares, 8));
}

/* The sine of an angle below 2**20; NaN of any other. */
double ac_sine(double x)
{
    int32_t quarter, turn;
    double r, value;
    if (!(-1048576.0 < x && x < 1048576.0)) {
        return ac_not_a_number();
    }
    quarter = ac_floor(x * 0.6366197723675814 + 0.5);
    r = ac_rest_of_angle(x, quarter);
    turn = (int32_t)((uint32_t)quarter & 3);
    value = (turn & 1) == 0 ? ac_sine_of_rest(r) : ac_cosine_of_rest(r);
    return turn < 2 ? value : -value;
}

/* The cosine of an angle below 2**20; NaN of any other. */
double ac_cosine(double x)
{
    int32_t quarter, turn;
    double r, value;
    if (!(-1048576.0 < x && x < 1048576.0)) {
        return ac_not_a_number();
    }
    quarter = ac_floor(x * 0.6366197723675814 + 0.5);
    r = ac_rest_of_angle(x, quarter);
    turn = (int32_t)((uint32_t)quarter & 3);
    value = (turn & 1) == 0 ? ac_cosine_of_rest(r) : ac_sine_of_rest(r);
    return turn == 1 || turn == 2 ? -value : value;
}
