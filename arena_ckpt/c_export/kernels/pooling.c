/* Pooling and upsampling of planes, after arena_ckpt/kernels/pooling.py: among equal
 * maxima the first counts, NaN is greater than everything, padding is never the maximum
 * and an average does not count it. */

/* The first element of a window that is not padding. */
AC_INLINE int32_t ac_first_tap(int32_t out, int32_t stride, int32_t before)
{
    return out * stride < before ? before - out * stride : 0;
}

/* One more than the last element of a window that is not padding. */
AC_INLINE int32_t ac_last_tap(int32_t out, int32_t stride, int32_t before,
    int32_t size, int32_t kernel)
{
    int32_t last = size + before - out * stride;
    return last < kernel ? last : kernel;
}

/* The greatest of each window, and its place in the window: a byte for each output
 * if there are `bytes`, else a word. */
static void ac_max_windows(const float *x, float *y, uint8_t *bytes, int32_t *words,
    int32_t planes, int32_t height, int32_t width,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    int32_t p, r, c, a, b, out = 0;
    for (p = 0; p < planes; p++) {
        for (r = 0; r < out_height; r++) {
            int32_t first_row = ac_first_tap(r, stride_height, top);
            int32_t last_row = ac_last_tap(r, stride_height, top, height,
                kernel_height);
            for (c = 0; c < out_width; c++) {
                int32_t first = ac_first_tap(c, stride_width, left);
                int32_t last = ac_last_tap(c, stride_width, left, width, kernel_width);
                int32_t at = (r * stride_height + first_row - top) * width
                    + c * stride_width - left;
                int32_t place = first_row * kernel_width + first;
                float best = -ac_of_bits(UINT32_C(0x7f800000));
                for (a = first_row; a < last_row; a++) {
                    for (b = first; b < last; b++) {
                        float v = x[at + b];
                        if (v > best || v != v) {
                            best = v;
                            place = a * kernel_width + b;
                        }
                    }
                    at += width;
                }
                y[out] = best;
                if (bytes) {
                    bytes[out] = (uint8_t)place;
                } else {
                    words[out] = place;
                }
                out++;
            }
        }
        x += height * width;
    }
}

/* kernel pooling.max_forward(x, y, place, place.size, planes, height, width,
    kernel_height, kernel_width, stride_height, stride_width, top, left,
    out_height, out_width)
 * y = the greatest of each window, place = which it is: a byte for each output. */
void ac_max_forward(const float *x, float *y, int32_t *place, int32_t n_place,
    int32_t planes, int32_t height, int32_t width,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    uint8_t *bytes = (uint8_t *)place;
    int32_t i;
    ac_max_windows(x, y, bytes, place, planes, height, width, kernel_height,
        kernel_width, stride_height, stride_width, top, left, out_height, out_width);
    for (i = planes * out_height * out_width; i < 4 * n_place; i++) {
        bytes[i] = 0; /* what the last word has to spare */
    }
}

/* kernel pooling.max_forward_wide(x, y, place, planes, height, width,
    kernel_height, kernel_width, stride_height, stride_width, top, left,
    out_height, out_width)
 * ac_max_forward for windows of more than 256 elements: a word for each output. */
void ac_max_forward_wide(const float *x, float *y, int32_t *place,
    int32_t planes, int32_t height, int32_t width,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_max_windows(x, y, (uint8_t *)0, place, planes, height, width, kernel_height,
        kernel_width, stride_height, stride_width, top, left, out_height, out_width);
}

/* kernel pooling.max_derivative(dy, place, dx, planes, height, width,
    kernel_height, kernel_width, stride_height, stride_width, top, left,
    out_height, out_width)
 * dx: each derivative goes to the place that the forward pass noted. */
void ac_max_derivative(const float *dy, const int32_t *place, float *dx,
    int32_t planes, int32_t height, int32_t width,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    const uint8_t *bytes = (const uint8_t *)place;
    int32_t is_small = kernel_height * kernel_width <= 256;
    /* Windows of 2 x 2 side by side: what is written once keeps a zero's sign. */
    int32_t is_squares = kernel_height == 2 && kernel_width == 2 && stride_height == 2
        && stride_width == 2 && top == 0 && left == 0 && 2 * out_width <= width
        && 2 * out_height <= height;
    int32_t p, r, c, i, out = 0;
    for (p = 0; p < planes; p++) {
        for (i = 0; i < height * width; i++) {
            dx[i] = 0.0f;
        }
        for (r = 0; r < out_height; r++) {
            int32_t row = (r * stride_height - top) * width - left;
            for (c = 0; c < out_width; c++) {
                int32_t tap = is_small ? bytes[out] : place[out];
                int32_t at = row + c * stride_width + tap
                    + tap / kernel_width * (width - kernel_width);
                dx[at] = is_squares ? dy[out] : dx[at] + dy[out];
                out++;
            }
        }
        dx += height * width;
    }
}

/* kernel pooling.average_forward(x, y, planes, height, width,
    kernel_height, kernel_width, stride_height, stride_width, top, left,
    out_height, out_width)
 * y = the mean of what is not padding in each window. */
void ac_average_forward(const float *x, float *y,
    int32_t planes, int32_t height, int32_t width,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    int32_t p, r, c, a, b;
    for (p = 0; p < planes; p++) {
        for (r = 0; r < out_height; r++) {
            int32_t first_row = ac_first_tap(r, stride_height, top);
            int32_t last_row = ac_last_tap(r, stride_height, top, height,
                kernel_height);
            for (c = 0; c < out_width; c++) {
                int32_t first = ac_first_tap(c, stride_width, left);
                int32_t last = ac_last_tap(c, stride_width, left, width, kernel_width);
                int32_t at = (r * stride_height + first_row - top) * width
                    + c * stride_width - left;
                float sum = 0.0f;
                for (a = first_row; a < last_row; a++) {
                    for (b = first; b < last; b++) {
                        sum += x[at + b];
                    }
                    at += width;
                }
                *y++ = sum / (float)((last_row - first_row) * (last - first));
            }
        }
        x += height * width;
    }
}

/* kernel pooling.average_derivative(dy, row_of_dy, dx, planes, height, width,
    kernel_height, kernel_width, stride_height, stride_width, top, left,
    out_height, out_width)
 * dx: each window's elements share its derivative. A row of y is workspace. */
void ac_average_derivative(const float *dy, float *row_of_dy, float *dx,
    int32_t planes, int32_t height, int32_t width,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    int32_t p, r, c, a, b, i;
    for (p = 0; p < planes; p++) {
        for (i = 0; i < height * width; i++) {
            dx[i] = 0.0f;
        }
        for (r = 0; r < out_height; r++) {
            int32_t first_row = ac_first_tap(r, stride_height, top);
            int32_t last_row = ac_last_tap(r, stride_height, top, height,
                kernel_height);
            for (c = 0; c < out_width; c++) {
                int32_t first = ac_first_tap(c, stride_width, left);
                int32_t last = ac_last_tap(c, stride_width, left, width, kernel_width);
                row_of_dy[c] = *dy++
                    / (float)((last_row - first_row) * (last - first));
            }
            for (a = first_row; a < last_row; a++) {
                float *row = dx + (r * stride_height + a - top) * width;
                for (b = 0; b < kernel_width; b++) {
                    int32_t shift = b - left, begin = 0, end = out_width;
                    while (begin * stride_width + shift < 0) {
                        begin++;
                    }
                    while (end > begin && (end - 1) * stride_width + shift >= width) {
                        end--;
                    }
                    for (c = begin; c < end; c++) {
                        row[c * stride_width + shift] += row_of_dy[c];
                    }
                }
            }
        }
        dx += height * width;
    }
}

/* kernel pooling.plane_max_forward(x, y, place, planes, size)
 * y = the greatest of each plane, place = where it stands. */
void ac_plane_max_forward(const float *x, float *y, int32_t *place,
    int32_t planes, int32_t size)
{
    int32_t p, i;
    for (p = 0; p < planes; p++) {
        float best = x[0];
        int32_t at = 0;
        for (i = 1; i < size; i++) {
            if (x[i] > best || x[i] != x[i]) {
                best = x[i];
                at = i;
            }
        }
        y[p] = best;
        place[p] = at;
        x += size;
    }
}

/* kernel pooling.plane_max_derivative(dy, place, dx, planes, size)
 * dx: each derivative goes to the place that the forward pass noted. */
void ac_plane_max_derivative(const float *dy, const int32_t *place, float *dx,
    int32_t planes, int32_t size)
{
    int32_t p, i;
    for (p = 0; p < planes; p++) {
        for (i = 0; i < size; i++) {
            dx[i] = 0.0f;
        }
        dx[place[p]] = dy[p];
        dx += size;
    }
}

/* kernel pooling.plane_average_forward(x, y, planes, size)
 * y = the mean of each plane, summed in double. */
void ac_plane_average_forward(const float *x, float *y, int32_t planes, int32_t size)
{
    int32_t p;
    for (p = 0; p < planes; p++) {
        y[p] = (float)(ac_sum(x + p * size, size) / (double)size);
    }
}

/* kernel pooling.plane_average_derivative(dy, dx, planes, size)
 * dx: each plane's elements share its derivative. */
void ac_plane_average_derivative(const float *dy, float *dx,
    int32_t planes, int32_t size)
{
    int32_t p, i;
    for (p = 0; p < planes; p++) {
        float share = dy[p] / (float)size;
        for (i = 0; i < size; i++) {
            dx[i] = share;
        }
        dx += size;
    }
}

/* kernel pooling.nearest_forward(x, y, planes, height, width,
    factor_height, factor_width)
 * y: each element, factor_height x factor_width times. */
void ac_nearest_forward(const float *x, float *y, int32_t planes, int32_t height,
    int32_t width, int32_t factor_height, int32_t factor_width)
{
    int32_t r, a, i, b;
    for (r = 0; r < planes * height; r++) {
        for (a = 0; a < factor_height; a++) {
            for (i = 0; i < width; i++) {
                for (b = 0; b < factor_width; b++) {
                    *y++ = x[i];
                }
            }
        }
        x += width;
    }
}

/* kernel pooling.nearest_derivative(dy, dx, planes, height, width,
    factor_height, factor_width)
 * dx: the sum of an element's copies. */
void ac_nearest_derivative(const float *dy, float *dx, int32_t planes, int32_t height,
    int32_t width, int32_t factor_height, int32_t factor_width)
{
    int32_t out_width = width * factor_width;
    int32_t r, a, i, b;
    for (r = 0; r < planes * height; r++) {
        for (i = 0; i < width; i++) {
            const float *copies = dy + i * factor_width;
            float sum = 0.0f;
            for (a = 0; a < factor_height; a++) {
                for (b = 0; b < factor_width; b++) {
                    sum += copies[b];
                }
                copies += out_width;
            }
            *dx++ = sum;
        }
        dy += factor_height * out_width;
    }
}

/* The first of the two elements that an output lies between, the distance to the
 * second in step[0], and the share of the second in share[0]. The place is
 * (out + 0.5) / factor - 0.5: in whole numbers, its quotient and rest are exact, and
 * one division rounds the share as a calculation in double does, so long as
 * factor * factor * size < 2**24. */
AC_INLINE int32_t ac_between(int32_t out, int32_t factor, int32_t size,
    int32_t *step, float *share)
{
    int32_t doubled = 2 * out + 1 - factor, low;
    doubled = doubled < 0 ? 0 : doubled;
    low = doubled / (2 * factor);
    *step = low + 1 < size ? 1 : 0;
    *share = (float)(doubled % (2 * factor)) / (float)(2 * factor);
    return low;
}

/* kernel pooling.bilinear_forward(x, y, planes, height, width,
    factor_height, factor_width)
 * y: between the four nearest; pixels are areas, and edges are held. */
void ac_bilinear_forward(const float *x, float *y, int32_t planes, int32_t height,
    int32_t width, int32_t factor_height, int32_t factor_width)
{
    int32_t p, r, c, a, i, down_step, right_step;
    float down, right;
    for (p = 0; p < planes; p++) {
        for (r = 0; r < height * factor_height; r++) {
            a = ac_between(r, factor_height, height, &down_step, &down);
            for (c = 0; c < width * factor_width; c++) {
                const float *above, *below;
                float upper, lower;
                i = ac_between(c, factor_width, width, &right_step, &right);
                above = x + a * width + i;
                below = above + down_step * width;
                upper = (1.0f - right) * above[0] + right * above[right_step];
                lower = (1.0f - right) * below[0] + right * below[right_step];
                *y++ = (1.0f - down) * upper + down * lower;
            }
        }
        x += height * width;
    }
}

/* kernel pooling.bilinear_derivative(dy, dx, planes, height, width,
    factor_height, factor_width)
 * dx: what each element gave, weighted as in the forward pass. */
void ac_bilinear_derivative(const float *dy, float *dx, int32_t planes, int32_t height,
    int32_t width, int32_t factor_height, int32_t factor_width)
{
    int32_t p, r, c, a, i, down_step, right_step;
    float down, right;
    for (p = 0; p < planes; p++) {
        for (i = 0; i < height * width; i++) {
            dx[i] = 0.0f;
        }
        for (r = 0; r < height * factor_height; r++) {
            a = ac_between(r, factor_height, height, &down_step, &down);
            for (c = 0; c < width * factor_width; c++) {
                float *above, *below;
                float upper = (1.0f - down) * *dy, lower = down * *dy;
                dy++;
                i = ac_between(c, factor_width, width, &right_step, &right);
                above = dx + a * width + i;
                below = above + down_step * width;
                above[0] += (1.0f - right) * upper;
                above[right_step] += right * upper;
                below[0] += (1.0f - right) * lower;
                below[right_step] += right * lower;
            }
        }
        dx += height * width;
    }
}
