/* The mean of what is a loss already, and its derivative. */

/* kernel mean_loss.mean_loss(terms, scale, loss, terms.size)
 * loss[0] += scale[0] * sum(terms). */
void ac_mean_loss(const float *terms, const double *scale, double *loss, int32_t n)
{
    double lanes[AC_LANES];
    int32_t start, j;
    ac_clear(lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            lanes[j] += (double)terms[start + j];
        }
    }
    loss[0] += scale[0] * ac_total(lanes, n);
}

/* kernel mean_loss.mean_derivative(scale, dx, dx.size)
 * dx = scale[0]. */
void ac_mean_derivative(const double *scale, float *dx, int32_t n)
{
    float factor = (float)scale[0];
    int32_t i;
    for (i = 0; i < n; i++) {
        dx[i] = factor;
    }
}
