
/* Whether all x are in [0, 1]. */
static int are_probabilities(const float *x, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        if (!(x[i] >= 0.0f && x[i] <= 1.0f)) {
            return 0;
        }
    }
    return 1;
}
