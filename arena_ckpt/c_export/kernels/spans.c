/* Pooling over spans of rows and columns, after arena_ckpt/kernels/spans.py: windows,
 * or, where the kernel is 0, equal shares of a plane. */

/* The first element of a span. */
AC_INLINE int32_t ac_span_begin(int32_t out, int32_t size, int32_t outs,
    int32_t kernel, int32_t stride, int32_t before)
{
    int32_t begin = out * stride - before;
    if (kernel == 0) {
        return out * size / outs;
    }
    return begin < 0 ? 0 : begin;
}

/* One more than the last element of a span. */
AC_INLINE int32_t ac_span_end(int32_t out, int32_t size, int32_t outs,
    int32_t kernel, int32_t stride, int32_t before)
{
    int32_t end = out * stride - before + kernel;
    if (kernel == 0) {
        return ((out + 1) * size + outs - 1) / outs;
    }
    return end < size ? end : size;
}

/* kernel spans.span_average_forward(x, y, planes, height, width, kernel_height,
    kernel_width, stride_height, stride_width, top, left, out_height, out_width)
 * y = the mean of each span, summed in double. */
void ac_span_average_forward(const float *x, float *y,
    int32_t planes, int32_t height, int32_t width,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    int32_t p, r, c, a, b;
    for (p = 0; p < planes; p++) {
        for (r = 0; r < out_height; r++) {
            int32_t first = ac_span_begin(r, height, out_height, kernel_height,
                stride_height, top);
            int32_t last = ac_span_end(r, height, out_height, kernel_height,
                stride_height, top);
            int32_t rows = kernel_height > 0 ? kernel_height : last - first;
            for (c = 0; c < out_width; c++) {
                int32_t begin = ac_span_begin(c, width, out_width, kernel_width,
                    stride_width, left);
                int32_t end = ac_span_end(c, width, out_width, kernel_width,
                    stride_width, left);
                int32_t columns = kernel_width > 0 ? kernel_width : end - begin;
                double total = 0.0;
                for (a = first; a < last; a++) {
                    for (b = begin; b < end; b++) {
                        total += (double)x[a * width + b];
                    }
                }
                *y++ = (float)(total / (double)(rows * columns));
            }
        }
        x += height * width;
    }
}

/* kernel spans.span_average_derivative(dy, dx, planes, height, width, kernel_height,
    kernel_width, stride_height, stride_width, top, left, out_height, out_width)
 * dx: each span's elements share its derivative. */
void ac_span_average_derivative(const float *dy, float *dx,
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
            int32_t first = ac_span_begin(r, height, out_height, kernel_height,
                stride_height, top);
            int32_t last = ac_span_end(r, height, out_height, kernel_height,
                stride_height, top);
            int32_t rows = kernel_height > 0 ? kernel_height : last - first;
            for (c = 0; c < out_width; c++) {
                int32_t begin = ac_span_begin(c, width, out_width, kernel_width,
                    stride_width, left);
                int32_t end = ac_span_end(c, width, out_width, kernel_width,
                    stride_width, left);
                int32_t columns = kernel_width > 0 ? kernel_width : end - begin;
                float share = *dy++ / (float)(rows * columns);
                for (a = first; a < last; a++) {
                    for (b = begin; b < end; b++) {
                        dx[a * width + b] += share;
                    }
                }
            }
        }
        dx += height * width;
    }
}

/* kernel spans.span_max_forward(x, y, place, planes, height, width, out_height,
    out_width)
 * y = the greatest of each share, place = where it stands in its plane. */
void ac_span_max_forward(const float *x, float *y, int32_t *place,
    int32_t planes, int32_t height, int32_t width,
    int32_t out_height, int32_t out_width)
{
    int32_t p, r, c, a, b;
    for (p = 0; p < planes; p++) {
        for (r = 0; r < out_height; r++) {
            int32_t first = ac_span_begin(r, height, out_height, 0, 1, 0);
            int32_t last = ac_span_end(r, height, out_height, 0, 1, 0);
            for (c = 0; c < out_width; c++) {
                int32_t begin = ac_span_begin(c, width, out_width, 0, 1, 0);
                int32_t end = ac_span_end(c, width, out_width, 0, 1, 0);
                int32_t at = first * width + begin;
                float best = x[at];
                for (a = first; a < last; a++) {
                    for (b = begin; b < end; b++) {
                        float v = x[a * width + b];
                        if (v > best || v != v) {
                            best = v;
                            at = a * width + b;
                        }
                    }
                }
                *y++ = best;
                *place++ = at;
            }
        }
        x += height * width;
    }
}

/* kernel spans.span_max_derivative(dy, place, dx, planes, size, outs)
 * dx: each derivative is added where the forward pass found its greatest. */
void ac_span_max_derivative(const float *dy, const int32_t *place, float *dx,
    int32_t planes, int32_t size, int32_t outs)
{
    int32_t p, i;
    for (p = 0; p < planes; p++) {
        for (i = 0; i < size; i++) {
            dx[i] = 0.0f;
        }
        for (i = 0; i < outs; i++) {
            dx[*place++] += *dy++;
        }
        dx += size;
    }
}
