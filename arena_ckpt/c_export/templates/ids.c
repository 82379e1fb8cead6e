
/* Whether all x are whole numbers in [least, limit), or equal to another one. */
static int are_numbers(const float *x, int32_t n, float least, float limit,
    float other)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        if (x[i] == other) {
            continue;
        }
        if (!(x[i] >= least && x[i] < limit && (float)(int32_t)x[i] == x[i])) {
            return 0;
        }
    }
    return 1;
}
