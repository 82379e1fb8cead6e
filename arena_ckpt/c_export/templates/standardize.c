
/* Gives features mean 0 and deviation 1; each has run values, one after the other. */
static void standardize(float *x, int32_t n, const float *mean, const float *factor,
    int32_t features, int32_t run)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        int32_t feature = i / run % features;
        x[i] = (x[i] - mean[feature]) * factor[feature];
    }
}
