/* -- data ---------------------------------------------------------------------------- */

/* Whether all x are finite; -inf is allowed in a mask. */
static int are_finite(const float *x, int32_t n, int is_mask)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        if (!(x[i] - x[i] == 0.0f || (is_mask && x[i] < 0.0f))) {
            return 0;
        }
    }
    return 1;
}
