/* Layer, root-mean-square and batch normalization, after
 * arena_ckpt/kernels/normalization.py, which has the formulas. */

/* 1 / sqrt(variance + epsilon). */
static float ac_inverse_deviation(double variance, double epsilon)
{
    return (float)(1.0 / ac_double_sqrt(variance + epsilon));
}

/* sum + beta * so_far, beta 0 or 1; at 0, so_far may be anything. */
static inline float ac_add_unless_first(double sum, float beta, float so_far)
{
    double before = beta == 0.0f ? 0.0 : (double)so_far;
    return (float)(before + sum);
}

/* The sum of a row, in lanes. */
static float ac_row_sum(const float *x, int32_t n)
{
    float lanes[AC_LANES];
    int32_t start, j;
    ac_clear_floats(lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            lanes[j] += x[start + j];
        }
    }
    return ac_float_folded(lanes);
}

/* sum(x - middle), and sum((x - middle)**2) in squares[0]. */
static float ac_deviation_sums(const float *x, float middle, int32_t n, float *squares)
{
    float lanes[AC_LANES], square_lanes[AC_LANES];
    int32_t start, j;
    ac_clear_floats(lanes);
    ac_clear_floats(square_lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            float deviation = x[start + j] - middle;
            lanes[j] += deviation;
            square_lanes[j] += deviation * deviation;
        }
    }
    squares[0] = ac_float_folded(square_lanes);
    return ac_float_folded(lanes);
}

/* sum(gamma * dy * (x - mean)). */
static float ac_weighted_deviation_sum(const float *x, float mean, const float *gamma,
    const float *dy, int32_t n)
{
    float lanes[AC_LANES];
    int32_t start, j;
    ac_clear_floats(lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            int32_t i = start + j;
            lanes[j] += gamma[i] * dy[i] * (x[i] - mean);
        }
    }
    return ac_float_folded(lanes);
}

/* kernel normalization.layer_norm_forward(x, gamma, beta, epsilon, mean, inverse, y,
    y.rows, y.columns)
 * Normalize each row; y may be x. */
void ac_layer_norm_forward(const float *x, const float *gamma, const float *beta,
    double epsilon, float *mean, float *inverse, float *y,
    int32_t rows, int32_t columns)
{
    float n = (float)columns;
    int32_t r, j;
    for (r = 0; r < rows; r++) {
        float squares;
        float middle = ac_row_sum(x, columns) / n;
        /* What the rounded mean lacks: */
        float rest = ac_deviation_sums(x, middle, columns, &squares) / n;
        float variance = squares / n - rest * rest;
        float slope = ac_inverse_deviation((double)variance, epsilon);
        mean[r] = middle + rest;
        inverse[r] = slope;
        for (j = 0; j < columns; j++) {
            y[j] = ((x[j] - middle) - rest) * slope * gamma[j] + beta[j];
        }
        x += columns;
        y += columns;
    }
}

/* kernel normalization.layer_norm_gradient(x, dy, mean, inverse, beta, d_gamma,
    d_beta, x.rows, x.columns)
 * Gradients of gamma and beta; `beta` 0 writes, 1 adds. */
void ac_layer_norm_gradient(const float *x, const float *dy, const float *mean,
    const float *inverse, float beta, float *d_gamma, float *d_beta,
    int32_t rows, int32_t columns)
{
    int32_t r, j;
    for (j = 0; j < columns; j++) {
        double products = 0.0, sums = 0.0;
        for (r = 0; r < rows; r++) {
            float slope = dy[r * columns + j];
            float x_hat = (x[r * columns + j] - mean[r]) * inverse[r];
            products += (double)(slope * x_hat);
            sums += (double)slope;
        }
        d_gamma[j] = ac_add_unless_first(products, beta, d_gamma[j]);
        d_beta[j] = ac_add_unless_first(sums, beta, d_beta[j]);
    }
}

/* kernel normalization.layer_norm_derivative(x, gamma, dy, mean, inverse, dx, x.rows,
    x.columns)
 * The derivative of the input; dx may be dy. */
void ac_layer_norm_derivative(const float *x, const float *gamma, const float *dy,
    const float *mean, const float *inverse, float *dx, int32_t rows, int32_t columns)
{
    float n = (float)columns;
    int32_t r, j;
    for (r = 0; r < rows; r++) {
        float middle = mean[r], slope = inverse[r];
        float average = ac_inner_product(gamma, dy, columns) / n;
        float tilt = ac_weighted_deviation_sum(x, middle, gamma, dy, columns) / n;
        tilt = tilt * slope * slope;
        for (j = 0; j < columns; j++) {
            float g = gamma[j] * dy[j] - average;
            dx[j] = slope * (g - (x[j] - middle) * tilt);
        }
        x += columns;
        dy += columns;
        dx += columns;
    }
}

/* kernel normalization.strided_norm_forward(x, gamma, beta, epsilon, mean, mean.size,
    inverse, y, n_p, n_b, n_q)
 * Normalize (a, p, b, q) over p and q; y may be x. */
void ac_strided_norm_forward(const float *x, const float *gamma, const float *beta,
    double epsilon, float *mean, int32_t n_mean, float *inverse, float *y,
    int32_t n_p, int32_t n_b, int32_t n_q)
{
    double n = (double)(n_p * n_q);
    int32_t i, p, q;
    for (i = 0; i < n_mean; i++) { /* i = a * n_b + b */
        int32_t first = (i / n_b * n_p * n_b + i % n_b) * n_q;
        double total = 0.0, middle;
        float slope;
        for (p = 0; p < n_p; p++) {
            const float *row = x + first + p * n_b * n_q;
            for (q = 0; q < n_q; q++) {
                total += (double)row[q];
            }
        }
        middle = total / n;
        total = 0.0;
        for (p = 0; p < n_p; p++) {
            const float *row = x + first + p * n_b * n_q;
            for (q = 0; q < n_q; q++) {
                double deviation = (double)row[q] - middle;
                total += deviation * deviation;
            }
        }
        slope = ac_inverse_deviation(total / n, epsilon);
        mean[i] = (float)middle;
        inverse[i] = slope;
        for (p = 0; p < n_p; p++) {
            int32_t at = first + p * n_b * n_q;
            for (q = 0; q < n_q; q++) {
                float x_hat = (float)((double)x[at + q] - middle) * slope;
                y[at + q] = x_hat * gamma[p * n_q + q] + beta[p * n_q + q];
            }
        }
    }
}

/* kernel normalization.strided_norm_gradient(x, dy, mean, mean.size, inverse, beta,
    d_gamma, d_beta, n_p, n_b, n_q)
 * Gradients of gamma and beta, both (p, q); `beta` 0 writes, 1 adds. */
void ac_strided_norm_gradient(const float *x, const float *dy, const float *mean,
    int32_t n_mean, const float *inverse, float beta, float *d_gamma, float *d_beta,
    int32_t n_p, int32_t n_b, int32_t n_q)
{
    int32_t p, q, a, b;
    for (p = 0; p < n_p; p++) {
        for (q = 0; q < n_q; q++) {
            int32_t to = p * n_q + q;
            double products = 0.0, sums = 0.0;
            for (a = 0; a < n_mean / n_b; a++) {
                for (b = 0; b < n_b; b++) {
                    int32_t at = ((a * n_p + p) * n_b + b) * n_q + q;
                    int32_t i = a * n_b + b;
                    float x_hat = (x[at] - mean[i]) * inverse[i];
                    products += (double)(dy[at] * x_hat);
                    sums += (double)dy[at];
                }
            }
            if (beta != 0.0f) {
                products += (double)d_gamma[to];
                sums += (double)d_beta[to];
            }
            d_gamma[to] = (float)products;
            d_beta[to] = (float)sums;
        }
    }
}

/* kernel normalization.strided_norm_derivative(x, gamma, dy, mean, mean.size,
    inverse, dx, n_p, n_b, n_q)
 * The derivative of the input; dx may be dy. */
void ac_strided_norm_derivative(const float *x, const float *gamma, const float *dy,
    const float *mean, int32_t n_mean, const float *inverse, float *dx,
    int32_t n_p, int32_t n_b, int32_t n_q)
{
    double n = (double)(n_p * n_q);
    int32_t i, p, q;
    for (i = 0; i < n_mean; i++) { /* i = a * n_b + b */
        int32_t first = (i / n_b * n_p * n_b + i % n_b) * n_q;
        float middle = mean[i], slope = inverse[i];
        double average_sum = 0.0, tilt_sum = 0.0;
        float average, tilt;
        for (p = 0; p < n_p; p++) {
            int32_t at = first + p * n_b * n_q;
            for (q = 0; q < n_q; q++) {
                float g = gamma[p * n_q + q] * dy[at + q];
                average_sum += (double)g;
                tilt_sum += (double)(g * ((x[at + q] - middle) * slope));
            }
        }
        average = (float)(average_sum / n);
        tilt = (float)(tilt_sum / n);
        for (p = 0; p < n_p; p++) {
            int32_t at = first + p * n_b * n_q;
            for (q = 0; q < n_q; q++) {
                float g = gamma[p * n_q + q] * dy[at + q];
                float x_hat = (x[at + q] - middle) * slope;
                dx[at + q] = slope * (g - average - x_hat * tilt);
            }
        }
    }
}

/* kernel normalization.rms_norm_forward(x, gamma, epsilon, inverse, y, y.rows,
    y.columns)
 * Divide each row by its root mean square; y may be x. */
void ac_rms_norm_forward(const float *x, const float *gamma, double epsilon,
    float *inverse, float *y, int32_t rows, int32_t columns)
{
    int32_t r, j;
    for (r = 0; r < rows; r++) {
        float mean_square = ac_inner_product(x, x, columns) / (float)columns;
        float slope = ac_inverse_deviation((double)mean_square, epsilon);
        inverse[r] = slope;
        for (j = 0; j < columns; j++) {
            y[j] = x[j] * slope * gamma[j];
        }
        x += columns;
        y += columns;
    }
}

/* kernel normalization.rms_norm_gradient(x, dy, inverse, beta, d_gamma, x.rows,
    x.columns)
 * The gradient of gamma; `beta` 0 writes, 1 adds. */
void ac_rms_norm_gradient(const float *x, const float *dy, const float *inverse,
    float beta, float *d_gamma, int32_t rows, int32_t columns)
{
    int32_t r, j;
    for (j = 0; j < columns; j++) {
        double products = 0.0;
        for (r = 0; r < rows; r++) {
            float x_hat = x[r * columns + j] * inverse[r];
            products += (double)(dy[r * columns + j] * x_hat);
        }
        d_gamma[j] = ac_add_unless_first(products, beta, d_gamma[j]);
    }
}

/* kernel normalization.rms_norm_derivative(x, gamma, dy, inverse, dx, x.rows,
    x.columns)
 * The derivative of the input; dx may be dy. */
void ac_rms_norm_derivative(const float *x, const float *gamma, const float *dy,
    const float *inverse, float *dx, int32_t rows, int32_t columns)
{
    float n = (float)columns;
    int32_t r, j;
    for (r = 0; r < rows; r++) {
        float slope = inverse[r];
        float tilt = ac_weighted_deviation_sum(x, 0.0f, gamma, dy, columns) / n;
        tilt = tilt * slope * slope;
        for (j = 0; j < columns; j++) {
            dx[j] = slope * (gamma[j] * dy[j] - x[j] * tilt);
        }
        x += columns;
        dy += columns;
        dx += columns;
    }
}

/* kernel normalization.batch_norm_statistics(x, x.size, epsilon, mean, inverse,
    mean.size, size, begin, end)
 * Mean and inverse deviation of the channels [begin, end) of (samples, channels, size),
 * in double. The sums are of differences to the channel's first value. */
void ac_batch_norm_statistics(const float *x, int32_t n_x, double epsilon, float *mean,
    float *inverse, int32_t channels, int32_t size, int32_t begin, int32_t end)
{
    double sums[AC_LANES], squares[AC_LANES];
    int32_t samples = n_x / (channels * size);
    double number = (double)(samples * size);
    int32_t c, n, start, j;
    for (c = begin; c < end; c++) {
        double first = (double)x[c * size], middle, variance;
        ac_clear(sums);
        ac_clear(squares);
        for (n = 0; n < samples; n++) {
            const float *plane = x + (n * channels + c) * size;
            for (start = 0; start < size; start += AC_LANES) {
                int32_t width = ac_width(size, start);
                for (j = 0; j < width; j++) {
                    double value = (double)plane[start + j] - first;
                    sums[j] += value;
                    squares[j] += value * value;
                }
            }
        }
        if (size > 1) {
            sums[0] = ac_folded(sums);
            squares[0] = ac_folded(squares);
        }
        middle = sums[0] / number;
        variance = squares[0] / number - middle * middle;
        mean[c] = (float)(first + middle);
        inverse[c] = ac_inverse_deviation(variance < 0.0 ? 0.0 : variance, epsilon);
    }
}

/* kernel normalization.moving_statistics(moving_mean, moving_variance, epsilon, mean,
    inverse, mean.size)
 * Take the moving statistics as those of the batch. */
void ac_moving_statistics(const float *moving_mean, const float *moving_variance,
    double epsilon, float *mean, float *inverse, int32_t channels)
{
    int32_t c;
    for (c = 0; c < channels; c++) {
        mean[c] = moving_mean[c];
        inverse[c] = ac_inverse_deviation((double)moving_variance[c], epsilon);
    }
}

/* kernel normalization.move_statistics(mean, inverse, epsilon, momentum, correction,
    moving_mean, moving_variance, mean.size)
 * Let the moving statistics keep a share `momentum`; the rest is the batch's. The
 * variance comes from the inverse deviation; below 2**-22 of epsilon it is rounding,
 * and taken as 0. */
void ac_move_statistics(const float *mean, const float *inverse, double epsilon,
    double momentum, double correction, float *moving_mean, float *moving_variance,
    int32_t channels)
{
    double least = epsilon * 2.384185791015625e-07;
    int32_t c;
    for (c = 0; c < channels; c++) {
        double slope = (double)inverse[c];
        double given = 1.0 / (slope * slope) - epsilon;
        double variance = given >= least ? correction * given : 0.0;
        double moved = momentum * (double)moving_mean[c];
        moved += (1.0 - momentum) * (double)mean[c];
        moving_mean[c] = ac_zero_if_subnormal((float)moved);
        moved = momentum * (double)moving_variance[c] + (1.0 - momentum) * variance;
        moving_variance[c] = ac_zero_if_subnormal((float)moved);
    }
}

/* kernel normalization.batch_norm_forward(x, gamma, beta, mean, inverse, y, y.size,
    mean.size, size)
 * Normalize each channel with the given statistics; y may be x. */
void ac_batch_norm_forward(const float *x, const float *gamma, const float *beta,
    const float *mean, const float *inverse, float *y, int32_t n_y,
    int32_t channels, int32_t size)
{
    int32_t at, c, j;
    for (at = 0; at < n_y;) {
        for (c = 0; c < channels; c++) {
            float middle = mean[c], slope = inverse[c] * gamma[c], shift = beta[c];
            for (j = 0; j < size; j++) {
                y[at + j] = (x[at + j] - middle) * slope + shift;
            }
            at += size;
        }
    }
}

/* kernel normalization.batch_norm_sums(x, dy, x.size, mean, inverse, sums, mean.size,
    size, begin, end)
 * sums = sum(dy * x_hat) of all channels, then sum(dy) of all; those of the channels
 * [begin, end) are written. */
void ac_batch_norm_sums(const float *x, const float *dy, int32_t n_x, const float *mean,
    const float *inverse, float *sums, int32_t channels, int32_t size, int32_t begin,
    int32_t end)
{
    double products[AC_LANES], plain[AC_LANES];
    int32_t samples = n_x / (channels * size);
    int32_t c, n, start, j;
    for (c = begin; c < end; c++) {
        float middle = mean[c];
        ac_clear(products);
        ac_clear(plain);
        for (n = 0; n < samples; n++) {
            int32_t first = (n * channels + c) * size;
            for (start = 0; start < size; start += AC_LANES) {
                int32_t width = ac_width(size, start);
                for (j = 0; j < width; j++) {
                    float slope = dy[first + start + j];
                    float deviation = x[first + start + j] - middle;
                    products[j] += (double)(slope * deviation);
                    plain[j] += (double)slope;
                }
            }
        }
        if (size > 1) {
            products[0] = ac_folded(products);
            plain[0] = ac_folded(plain);
        }
        sums[c] = (float)(products[0] * (double)inverse[c]);
        sums[channels + c] = (float)plain[0];
    }
}

/* kernel normalization.batch_norm_gradient(sums, beta, d_gamma, d_beta, d_gamma.size)
 * The sums are the gradients: written where `beta` is 0, added where it is 1. */
void ac_batch_norm_gradient(const float *sums, float beta, float *d_gamma,
    float *d_beta, int32_t channels)
{
    int32_t c;
    for (c = 0; c < channels; c++) {
        d_gamma[c] = sums[c] + (beta == 0.0f ? 0.0f : d_gamma[c]);
        d_beta[c] = sums[channels + c] + (beta == 0.0f ? 0.0f : d_beta[c]);
    }
}

/* kernel normalization.batch_norm_derivative(x, gamma, dy, mean, inverse, sums, dx,
    dx.size, mean.size, size, count)
 * The derivative through the statistics of `count` values; dx may be dy. */
void ac_batch_norm_derivative(const float *x, const float *gamma, const float *dy,
    const float *mean, const float *inverse, const float *sums, float *dx, int32_t n_dx,
    int32_t channels, int32_t size, int32_t count)
{
    float share = 1.0f / (float)count;
    int32_t at, c, j;
    for (at = 0; at < n_dx;) {
        for (c = 0; c < channels; c++) {
            float middle = mean[c], slope = gamma[c] * inverse[c];
            float tilt = sums[c] * share * inverse[c];
            float average = sums[channels + c] * share;
            for (j = 0; j < size; j++) {
                float g = dy[at + j] - average - (x[at + j] - middle) * tilt;
                dx[at + j] = slope * g;
            }
            at += size;
        }
    }
}

/* kernel normalization.scale_channels(gamma, dy, inverse, dx, dx.size, gamma.size,
    size)
 * The derivative where the statistics are constant; dx may be dy. */
void ac_scale_channels(const float *gamma, const float *dy, const float *inverse,
    float *dx, int32_t n_dx, int32_t channels, int32_t size)
{
    int32_t at, c, j;
    for (at = 0; at < n_dx;) {
        for (c = 0; c < channels; c++) {
            float slope = gamma[c] * inverse[c];
            for (j = 0; j < size; j++) {
                dx[at + j] = slope * dy[at + j];
            }
            at += size;
        }
    }
}
