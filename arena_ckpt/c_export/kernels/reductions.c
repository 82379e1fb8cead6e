/* Sums over tensors, and what is made of them: clipping, L2 penalty, bias gradient. */

/* The sum of the squares of n numbers. */
static double ac_sum_of_squares(const float *x, int32_t n)
{
    double lanes[AC_LANES];
    int32_t start, j;
    ac_clear(lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            double v = (double)x[start + j];
            lanes[j] += v * v;
        }
    }
    return ac_total(lanes, AC_LANES);
}

/* kernel reductions.square_sum(x, sum_so_far, x.size)
 * sum_so_far[0] += sum(x**2). */
void ac_square_sum(const float *x, double *sum_so_far, int32_t n)
{
    sum_so_far[0] += ac_sum_of_squares(x, n);
}

/* kernel reductions.clip_scale(square_norm, max_norm, scale)
 * scale[0] = min(1, max_norm / (sqrt(square_norm[0]) + 1e-6)), NaN if that is. */
void ac_clip_scale(const double *square_norm, double max_norm, double *scale)
{
    double ratio = max_norm / (ac_double_sqrt(square_norm[0]) + 1e-6);
    scale[0] = ratio > 1.0 ? 1.0 : ratio;
}

/* kernel reductions.l2_penalty(weight, constant, fraction, loss, weight.size)
 * loss[0] += constant / 2 * fraction[0] * sum(weight**2). */
void ac_l2_penalty(const float *weight, double constant, const double *fraction,
    double *loss, int32_t n)
{
    loss[0] += 0.5 * constant * fraction[0] * ac_sum_of_squares(weight, n);
}

/* kernel reductions.l2_gradient(weight, constant, fraction, gradient, gradient.size)
 * gradient += constant * fraction[0] * weight. */
void ac_l2_gradient(const float *weight, double constant, const double *fraction,
    float *gradient, int32_t n)
{
    float factor = (float)(constant * fraction[0]);
    int32_t i;
    for (i = 0; i < n; i++) {
        gradient[i] += factor * weight[i];
    }
}

/* kernel reductions.count_nonfinite(x, count, x.size)
 * count[0] = how many elements are NaN or infinite. */
void ac_count_nonfinite(const float *x, int64_t *count, int32_t n)
{
    int32_t found = 0;
    int32_t i;
    for (i = 0; i < n; i++) {
        /* inf - inf and NaN - NaN are NaN, which differs from 0. */
        found += x[i] - x[i] != 0.0f;
    }
    count[0] = found;
}

/* kernel reductions.count_unusable_in_mask(x, count, x.size)
 * count[0] = how many elements are NaN or +inf. */
void ac_count_unusable_in_mask(const float *x, int64_t *count, int32_t n)
{
    int32_t found = 0;
    int32_t i;
    for (i = 0; i < n; i++) {
        found += !(x[i] <= FLT_MAX);
    }
    count[0] = found;
}

/* kernel reductions.bias_gradient(dy, beta, db, dy.rows, dy.columns)
 * db = sum of the rows of dy + beta * db, beta 0 or 1; at 0, db is only written. */
void ac_bias_gradient(const float *dy, float beta, float *db,
    int32_t rows, int32_t columns)
{
    double lanes[AC_LANES];
    int32_t start, r, j;
    for (start = 0; start < columns; start += AC_LANES) {
        int32_t width = ac_width(columns, start);
        for (j = 0; j < width; j++) {
            lanes[j] = 0.0;
        }
        for (r = 0; r < rows; r++) {
            for (j = 0; j < width; j++) {
                lanes[j] += (double)dy[r * columns + start + j];
            }
        }
        for (j = 0; j < width; j++) {
            double before = (double)db[start + j];
            db[start + j] = (float)(beta == 0.0f ? lanes[j] : before + lanes[j]);
        }
    }
}
