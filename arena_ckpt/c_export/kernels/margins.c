/* Planes with margins around them, after arena_ckpt/kernels/margins.py. */

/* Which element of a line stands at `at`; -1 for a zero. */
AC_INLINE int32_t ac_margin_source(int32_t at, int32_t size, int32_t mode)
{
    if (at >= 0 && at < size) {
        return at;
    }
    if (mode == 1) { /* mirrored, without the last element */
        return at < 0 ? -at : 2 * (size - 1) - at;
    }
    if (mode == 2) { /* the last element */
        return at < 0 ? 0 : size - 1;
    }
    return -1;
}

/* kernel margins.pad_forward(x, y, planes, height, width, top, left, out_height,
    out_width, mode)
 * y = x, and beyond it what the mode says. */
void ac_pad_forward(const float *x, float *y, int32_t planes, int32_t height,
    int32_t width, int32_t top, int32_t left, int32_t out_height, int32_t out_width,
    int32_t mode)
{
    int32_t p, r, c;
    for (p = 0; p < planes; p++) {
        for (r = 0; r < out_height; r++) {
            int32_t row = ac_margin_source(r - top, height, mode);
            for (c = 0; c < out_width; c++) {
                int32_t column = ac_margin_source(c - left, width, mode);
                *y++ = row >= 0 && column >= 0 ? x[row * width + column] : 0.0f;
            }
        }
        x += height * width;
    }
}

/* kernel margins.pad_derivative(dy, dx, planes, height, width, top, left, out_height,
    out_width, mode)
 * dx: each element gets the sum of what came of it. */
void ac_pad_derivative(const float *dy, float *dx, int32_t planes, int32_t height,
    int32_t width, int32_t top, int32_t left, int32_t out_height, int32_t out_width,
    int32_t mode)
{
    int32_t p, r, c, i;
    for (p = 0; p < planes; p++) {
        for (i = 0; i < height * width; i++) {
            dx[i] = 0.0f;
        }
        for (r = 0; r < out_height; r++) {
            int32_t row = ac_margin_source(r - top, height, mode);
            for (c = 0; c < out_width; c++) {
                int32_t column = ac_margin_source(c - left, width, mode);
                if (row >= 0 && column >= 0) {
                    dx[row * width + column] += *dy;
                }
                dy++;
            }
        }
        dx += height * width;
    }
}
