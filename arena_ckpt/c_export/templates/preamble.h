/* One memory holds tensors of different types, one after the other. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-strict-aliasing")
/* The float vectors of Cortex-M55 and M85 set subnormal numbers to 0. */
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#pragma GCC optimize("no-tree-vectorize")
#endif
#endif
