/* Normalization of groups of channels of one sample, after
 * arena_ckpt/kernels/group_norm.py. */

/* kernel group_norm.group_norm_forward(x, x.size, gamma, beta, gamma.size, mean,
    mean.size, inverse, y, size)
 * Normalize each channel with the statistics of its group; y may be x. */
void ac_group_norm_forward(const float *x, int32_t n_x, const float *gamma,
    const float *beta, int32_t channels, const float *mean, int32_t groups,
    const float *inverse, float *y, int32_t size)
{
    int32_t rows = n_x / size, per_group = rows / groups;
    int32_t row, j;
    for (row = 0; row < rows; row++) {
        int32_t c = row % channels, group = row / per_group;
        float middle = mean[group], slope = inverse[group] * gamma[c], shift = beta[c];
        for (j = 0; j < size; j++) {
            y[j] = (x[j] - middle) * slope + shift;
        }
        x += size;
        y += size;
    }
}

/* Add dy * x_hat and dy, each times `factor`, of a row to lanes. */
static void ac_add_row_products(const float *x, const float *dy, float middle,
    float slope, float factor, int32_t size, double *products, double *sums)
{
    int32_t start, j;
    for (start = 0; start < size; start += AC_LANES) {
        int32_t width = ac_width(size, start);
        for (j = 0; j < width; j++) {
            float g = factor * dy[start + j];
            products[j] += (double)(g * ((x[start + j] - middle) * slope));
            sums[j] += (double)g;
        }
    }
}

/* kernel group_norm.group_norm_gradient(x, x.size, dy, mean, mean.size, inverse, beta,
    d_gamma, d_beta, d_gamma.size, size)
 * Gradients of gamma and beta; `beta` 0 writes, 1 adds. */
void ac_group_norm_gradient(const float *x, int32_t n_x, const float *dy,
    const float *mean, int32_t groups, const float *inverse, float beta,
    float *d_gamma, float *d_beta, int32_t channels, int32_t size)
{
    double products[AC_LANES], sums[AC_LANES];
    int32_t rows = n_x / size, per_group = rows / groups;
    int32_t c, row;
    for (c = 0; c < channels; c++) {
        ac_clear(products);
        ac_clear(sums);
        for (row = c; row < rows; row += channels) {
            int32_t group = row / per_group;
            ac_add_row_products(x + row * size, dy + row * size, mean[group],
                inverse[group], 1.0f, size, products, sums);
        }
        products[0] = ac_folded(products);
        sums[0] = ac_folded(sums);
        if (beta != 0.0f) {
            products[0] += (double)d_gamma[c];
            sums[0] += (double)d_beta[c];
        }
        d_gamma[c] = (float)products[0];
        d_beta[c] = (float)sums[0];
    }
}

/* kernel group_norm.group_norm_derivative(x, x.size, gamma, gamma.size, dy, mean,
    mean.size, inverse, dx, size)
 * The derivative through the statistics of the groups; dx may be dy. */
void ac_group_norm_derivative(const float *x, int32_t n_x, const float *gamma,
    int32_t channels, const float *dy, const float *mean, int32_t groups,
    const float *inverse, float *dx, int32_t size)
{
    double products[AC_LANES], sums[AC_LANES];
    int32_t per_group = n_x / size / groups;
    double n = (double)(per_group * size);
    int32_t group, row, j;
    for (group = 0; group < groups; group++) {
        float middle = mean[group], slope = inverse[group];
        int32_t first = group * per_group;
        float tilt, average;
        ac_clear(products);
        ac_clear(sums);
        for (row = first; row < first + per_group; row++) {
            ac_add_row_products(x + row * size, dy + row * size, middle, slope,
                gamma[row % channels], size, products, sums);
        }
        tilt = (float)(ac_folded(products) / n);
        average = (float)(ac_folded(sums) / n);
        for (row = first; row < first + per_group; row++) {
            float factor = gamma[row % channels];
            for (j = row * size; j < (row + 1) * size; j++) {
                float g = factor * dy[j] - average;
                dx[j] = slope * (g - (x[j] - middle) * slope * tilt);
            }
        }
    }
}
