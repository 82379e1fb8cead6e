/* Exact fused multiply-add and square roots, for processors without an instruction. */
#include "ac_math.h"

#if !defined(AC_HAS_FMA)
/* Rounding to double so that the last bit tells whether digits were lost lets the
 * rounding to float that follows come out as if there had been one (Boldo and
 * Melquiond, "Emulation of FMA and correctly rounded sums", 2008). A product of two
 * floats is exact as a double. */
float ac_exact_fma(float a, float b, float c)
{
    double product = (double)a * (double)b;
    double addend = (double)c;
    double sum = product + addend;
    uint64_t bits = ac_double_bits(sum);
    if (((bits >> 52) & 0x7ff) == 0x7ff || (bits & 1) != 0) {
        return (float)sum;
    }
    /* What the rounded sum lacks, exactly (Knuth, TAOCP 2, 4.2.2). */
    double share = sum - product;
    double lost = (product - (sum - share)) + (addend - share);
    if (lost != 0.0) {
        /* The sum is even: go to its odd neighbour on the side of what was lost. */
        if ((lost > 0.0) == (sum > 0.0)) {
            bits += 1;
        } else {
            bits -= 1;
        }
        sum = ac_double_of_bits(bits);
    }
    return (float)sum;
}
#endif

#if !defined(AC_HAS_DOUBLE_SQRT)
/* The first 54 bits of the root of high * 2**64, bit by bit. */
static uint64_t ac_root_of(uint64_t high)
{
    uint64_t root = 0;
    uint64_t rest = 0;
    int i;
    for (i = 0; i < 54; i++) {
        uint64_t trial;
        rest = (rest << 2) | (high >> 62);
        high <<= 2;
        root <<= 1;
        trial = (root << 1) | 1;
        if (rest >= trial) {
            rest -= trial;
            root |= 1;
        }
    }
    return root;
}

double ac_exact_double_sqrt(double x)
{
    uint64_t bits = ac_double_bits(x);
    uint64_t mantissa = bits & UINT64_C(0xfffffffffffff);
    int exponent = (int)((bits >> 52) & 0x7ff);
    uint64_t root;
    if (exponent == 0x7ff || (bits << 1) == 0) { /* NaN, infinity, 0 */
        if (bits == UINT64_C(0xfff0000000000000)) {
            return ac_double_of_bits(UINT64_C(0x7ff8000000000000));
        }
        return x;
    }
    if ((bits >> 63) != 0) {
        return ac_double_of_bits(UINT64_C(0x7ff8000000000000));
    }
    if (exponent == 0) {
        exponent = 1;
        while ((mantissa >> 52) == 0) {
            mantissa <<= 1;
            exponent -= 1;
        }
    } else {
        mantissa |= UINT64_C(1) << 52;
    }
    exponent -= 1023;
    if ((exponent & 1) != 0) {
        mantissa <<= 1;
        exponent -= 1;
    }
    /* One digit more than a double has; it is never followed by zeros alone, so that
     * it says which way to round. */
    root = ac_root_of(mantissa << 10);
    root = (root >> 1) + (root & 1);
    return ac_double_of_bits(((uint64_t)(exponent / 2 + 1022) << 52) + root);
}
#endif

#if !defined(AC_HAS_SQRT)
float ac_exact_sqrt(float x)
{
    /* 53 digits of the root of 24 are more than 2 * 24 + 2: rounding twice is right
     * (Figueroa, "When is double rounding innocuous?", 1995). */
    return (float)ac_double_sqrt((double)x);
}
#endif
