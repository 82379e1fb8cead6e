/* IEEE arithmetic as the kernels need it: nothing here calls the C library.
 *
 * Compilers may neither join a multiplication and an addition nor reorder sums: the
 * same source gives the same bits on every processor. Where a product and a sum are to
 * be rounded once, the source says ac_fma.
 */
#ifndef AC_MATH_H
#define AC_MATH_H

#include <float.h>
#include <stdint.h>

/* What the linker calls them: other projects may be there as well. */
#define ac_exact_fma digits_ac_exact_fma
#define ac_exact_double_sqrt digits_ac_exact_double_sqrt
#define ac_exact_sqrt digits_ac_exact_sqrt

#if defined(__FAST_MATH__)
#error "built with -ffast-math, which changes results: leave it out"
#endif
/* 16 is about numbers of 16 bits, of which there are none here. */
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "this processor computes floats with more digits: on x86 add -msse2 -mfpmath=sse"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
/* Assemblers take the conditional vcvtne.f64.f32 for vcvtn of Cortex-M55's vectors. */
#if defined(__ARM_FEATURE_MVE)
#pragma GCC optimize("no-if-conversion2")
#endif
#endif

#if defined(__GNUC__)
#define AC_RESTRICT __restrict__
#define AC_INLINE static inline __attribute__((always_inline, unused))
#else
#define AC_RESTRICT restrict
#define AC_INLINE static inline
#endif

typedef char ac_float_has_4_bytes[sizeof(float) == 4 ? 1 : -1];
typedef char ac_double_has_8_bytes[sizeof(double) == 8 ? 1 : -1];

/* Which instructions the processor has. */
#if defined(__GNUC__) && (defined(__FMA__) || defined(__ARM_FEATURE_FMA) || \
    defined(__aarch64__) || (defined(__riscv_flen) && __riscv_flen >= 32))
#define AC_HAS_FMA
#endif
#if defined(__GNUC__) && (defined(__SSE2__) || defined(__aarch64__) || \
    (defined(__arm__) && defined(__ARM_FP) && (__ARM_FP & 4)) || \
    (defined(__riscv_flen) && __riscv_flen >= 32))
#define AC_HAS_SQRT
#endif
#if defined(__GNUC__) && (defined(__SSE2__) || defined(__aarch64__) || \
    (defined(__arm__) && defined(__ARM_FP) && (__ARM_FP & 8)) || \
    (defined(__riscv_flen) && __riscv_flen >= 64))
#define AC_HAS_DOUBLE_SQRT
#endif

/* What stands in their place, in ac_math.c. */
float ac_exact_fma(float a, float b, float c);
float ac_exact_sqrt(float x);
double ac_exact_double_sqrt(double x);

/* The bits of a number, and the number of bits. */
AC_INLINE uint32_t ac_bits(float x)
{
    union { float number; uint32_t bits; } both;
    both.number = x;
    return both.bits;
}

AC_INLINE float ac_of_bits(uint32_t bits)
{
    union { float number; uint32_t bits; } both;
    both.bits = bits;
    return both.number;
}

AC_INLINE uint64_t ac_double_bits(double x)
{
    union { double number; uint64_t bits; } both;
    both.number = x;
    return both.bits;
}

AC_INLINE double ac_double_of_bits(uint64_t bits)
{
    union { double number; uint64_t bits; } both;
    both.bits = bits;
    return both.number;
}

/* a * b + c, rounded once. */
AC_INLINE float ac_fma(float a, float b, float c)
{
#if defined(AC_HAS_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return ac_exact_fma(a, b, c);
#endif
}

/* The square root, rounded to the nearest; NaN below 0. */
AC_INLINE float ac_sqrt(float x)
{
#if !defined(AC_HAS_SQRT)
    return ac_exact_sqrt(x);
#elif defined(__SSE2__)
    float y;
    __asm__("sqrtss %1, %0" : "=x"(y) : "x"(x));
    return y;
#elif defined(__aarch64__)
    float y;
    __asm__("fsqrt %s0, %s1" : "=w"(y) : "w"(x));
    return y;
#elif defined(__arm__)
    float y;
    __asm__("vsqrt.f32 %0, %1" : "=t"(y) : "t"(x));
    return y;
#else
    float y;
    __asm__("fsqrt.s %0, %1" : "=f"(y) : "f"(x));
    return y;
#endif
}

AC_INLINE double ac_double_sqrt(double x)
{
#if !defined(AC_HAS_DOUBLE_SQRT)
    return ac_exact_double_sqrt(x);
#elif defined(__SSE2__)
    double y;
    __asm__("sqrtsd %1, %0" : "=x"(y) : "x"(x));
    return y;
#elif defined(__aarch64__)
    double y;
    __asm__("fsqrt %d0, %d1" : "=w"(y) : "w"(x));
    return y;
#elif defined(__arm__)
    double y;
    __asm__("vsqrt.f64 %P0, %P1" : "=w"(y) : "w"(x));
    return y;
#else
    double y;
    __asm__("fsqrt.d %0, %1" : "=f"(y) : "f"(x));
    return y;
#endif
}

AC_INLINE float ac_abs(float x)
{
    return ac_of_bits(ac_bits(x) & UINT32_C(0x7fffffff));
}

/* x, or 0 where it is subnormal; NaN stays. */
AC_INLINE float ac_zero_if_subnormal(float x)
{
    return ac_abs(x) < 1.17549435e-38f ? 0.0f : x;
}

#endif
