/* Kernels along one axis, after arena_ckpt/kernels/axiswise.py.
 *
 * A tensor is (outer, length, inner), where `length` is the size of the axis. What has
 * one number for each line along the axis is (outer, inner). */

/* kernel axiswise.axis_softmax_forward(x, y, outer, length, inner)
 * y = exp(x) / sum(exp(x)) along the axis; y may be x. */
void ac_axis_softmax_forward(const float *x, float *y, int32_t outer, int32_t length,
    int32_t inner)
{
    float most[AC_LANES], sums[AC_LANES];
    int32_t o, start, t, j;
    for (o = 0; o < outer; o++) {
        for (start = 0; start < inner; start += AC_LANES) {
            int32_t width = ac_width(inner, start);
            const float *x_row = x + o * length * inner + start;
            float *y_row = y + o * length * inner + start;
            for (j = 0; j < width; j++) {
                most[j] = x_row[j];
                sums[j] = 0.0f;
            }
            for (t = 1; t < length; t++) {
                for (j = 0; j < width; j++) {
                    float v = x_row[t * inner + j];
                    most[j] = (v > most[j] ? v : most[j]) + 0.0f;
                }
            }
            for (t = 0; t < length; t++) {
                for (j = 0; j < width; j++) {
                    float v = ac_exp(x_row[t * inner + j] - most[j]);
                    y_row[t * inner + j] = v;
                    sums[j] += v;
                }
            }
            for (j = 0; j < width; j++) {
                sums[j] = 1.0f / sums[j];
            }
            for (t = 0; t < length; t++) {
                for (j = 0; j < width; j++) {
                    y_row[t * inner + j] *= sums[j];
                }
            }
        }
    }
}

/* kernel axiswise.axis_softmax_backward(y, dy, dx, outer, length, inner)
 * dx = y * (dy - sum(y * dy)) along the axis; dx may be dy or y. */
void ac_axis_softmax_backward(const float *y, const float *dy, float *dx,
    int32_t outer, int32_t length, int32_t inner)
{
    float sums[AC_LANES];
    int32_t o, start, t, j;
    for (o = 0; o < outer; o++) {
        for (start = 0; start < inner; start += AC_LANES) {
            int32_t width = ac_width(inner, start);
            int32_t at = o * length * inner + start;
            ac_clear_floats(sums);
            for (t = 0; t < length; t++) {
                for (j = 0; j < width; j++) {
                    sums[j] += y[at + t * inner + j] * dy[at + t * inner + j];
                }
            }
            for (t = 0; t < length; t++) {
                for (j = 0; j < width; j++) {
                    int32_t i = at + t * inner + j;
                    dx[i] = y[i] * (dy[i] - sums[j]);
                }
            }
        }
    }
}

/* kernel axiswise.axis_extreme_forward(x, sign, y, outer, length, inner)
 * The maximum of each line for sign 1, the minimum for -1; NaN if an element is. */
void ac_axis_extreme_forward(const float *x, float sign, float *y, int32_t outer,
    int32_t length, int32_t inner)
{
    int32_t o, j, t;
    for (o = 0; o < outer; o++) {
        for (j = 0; j < inner; j++) {
            const float *line = x + o * length * inner + j;
            float best = line[0];
            for (t = 1; t < length; t++) {
                float v = line[t * inner];
                float better = sign * v > sign * best ? v : best;
                best = v != v ? v : better;
            }
            y[o * inner + j] = best;
        }
    }
}

/* kernel axiswise.axis_extreme_derivative(x, y, dy, dx, outer, length, inner)
 * Share dy among the elements of a line that are its extreme; dx may be x. */
void ac_axis_extreme_derivative(const float *x, const float *y, const float *dy,
    float *dx, int32_t outer, int32_t length, int32_t inner)
{
    int32_t o, j, t;
    for (o = 0; o < outer; o++) {
        for (j = 0; j < inner; j++) {
            int32_t at = o * length * inner + j;
            float best = y[o * inner + j];
            float count = 0.0f;
            float share;
            for (t = 0; t < length; t++) {
                count += x[at + t * inner] == best ? 1.0f : 0.0f;
            }
            share = dy[o * inner + j] / count;
            for (t = 0; t < length; t++) {
                dx[at + t * inner] = x[at + t * inner] == best ? share : 0.0f;
            }
        }
    }
}

/* kernel axiswise.axis_product_forward(x, y, outer, length, inner)
 * Multiply the elements of each line, in order. */
void ac_axis_product_forward(const float *x, float *y, int32_t outer, int32_t length,
    int32_t inner)
{
    int32_t o, j, t;
    for (o = 0; o < outer; o++) {
        for (j = 0; j < inner; j++) {
            float product = 1.0f;
            for (t = 0; t < length; t++) {
                product *= x[(o * length + t) * inner + j];
            }
            y[o * inner + j] = product;
        }
    }
}

/* kernel axiswise.axis_product_derivative(x, dy, dx, outer, length, inner)
 * Multiply dy by all elements of the line but that of dx, without a division. */
void ac_axis_product_derivative(const float *x, const float *dy, float *dx,
    int32_t outer, int32_t length, int32_t inner)
{
    int32_t o, j, t;
    for (o = 0; o < outer; o++) {
        for (j = 0; j < inner; j++) {
            int32_t at = o * length * inner + j;
            float before = 1.0f;
            float behind = dy[o * inner + j];
            for (t = 0; t < length; t++) {
                dx[at + t * inner] = before;
                before *= x[at + t * inner];
            }
            for (t = length - 1; t >= 0; t--) {
                dx[at + t * inner] *= behind;
                behind *= x[at + t * inner];
            }
        }
    }
}

/* kernel axiswise.axis_norm_forward(x, y, outer, length, inner)
 * y = sqrt(sum(x * x)) of each line. */
void ac_axis_norm_forward(const float *x, float *y, int32_t outer, int32_t length,
    int32_t inner)
{
    int32_t o, j, t;
    for (o = 0; o < outer; o++) {
        for (j = 0; j < inner; j++) {
            double total = 0.0;
            for (t = 0; t < length; t++) {
                double v = (double)x[(o * length + t) * inner + j];
                total += v * v;
            }
            y[o * inner + j] = (float)ac_double_sqrt(total);
        }
    }
}

/* kernel axiswise.axis_norm_derivative(x, y, dy, dx, outer, length, inner)
 * dx = dy * x / y, 0 of a line of zeros; dx may be x. */
void ac_axis_norm_derivative(const float *x, const float *y, const float *dy,
    float *dx, int32_t outer, int32_t length, int32_t inner)
{
    int32_t o, j, t;
    for (o = 0; o < outer; o++) {
        for (j = 0; j < inner; j++) {
            float norm = y[o * inner + j];
            float factor = norm == 0.0f ? 0.0f : dy[o * inner + j] / norm;
            for (t = 0; t < length; t++) {
                int32_t i = (o * length + t) * inner + j;
                dx[i] = x[i] * factor;
            }
        }
    }
}

/* kernel axiswise.running_sum(x, y, outer, length, inner, reverse)
 * Sum each line up to an element, or from it on if `reverse` is 1; y may be x. */
void ac_running_sum(const float *x, float *y, int32_t outer, int32_t length,
    int32_t inner, int32_t reverse)
{
    int32_t o, j, t;
    for (o = 0; o < outer; o++) {
        for (j = 0; j < inner; j++) {
            double total = 0.0;
            for (t = 0; t < length; t++) {
                int32_t place = reverse != 0 ? length - 1 - t : t;
                int32_t i = (o * length + place) * inner + j;
                total += (double)x[i];
                y[i] = (float)total;
            }
        }
    }
}

/* The place along an axis that a float names, or -1 if there is none. */
static int32_t ac_place_of(float number, int32_t length)
{
    if (number >= 0.0f && number < (float)length) {
        int32_t place = (int32_t)number;
        return place < length && (float)place == number ? place : -1;
    }
    return -1;
}

/* kernel axiswise.gather_forward(x, ids, ids.size, y, loss, n, outer, length, inner)
 * Take places ids[sample] along the axis; NaN, the loss too, of no such place. x is
 * (n, outer, length, inner), ids (n, k), y (n, outer, k, inner). */
void ac_gather_forward(const float *x, const float *ids, int32_t n_ids, float *y,
    double *loss, int32_t n, int32_t outer, int32_t length, int32_t inner)
{
    int32_t k = n_ids / n;
    int32_t row, j;
    for (row = 0; row < n * outer * k; row++) {
        int32_t place = ac_place_of(ids[row / (k * outer) * k + row % k], length);
        const float *line = x + (row / k * length + (place < 0 ? 0 : place)) * inner;
        for (j = 0; j < inner; j++) {
            y[j] = place < 0 ? ac_of_bits(UINT32_C(0x7fc00000)) : line[j];
        }
        if (place < 0) {
            loss[0] = ac_double_of_bits(UINT64_C(0x7ff8000000000000));
        }
        y += inner;
    }
}

/* kernel axiswise.gather_derivative(ids, ids.size, dy, dx, n, outer, length, inner)
 * Add each part of dy to the place that it was taken from, in order. */
void ac_gather_derivative(const float *ids, int32_t n_ids, const float *dy, float *dx,
    int32_t n, int32_t outer, int32_t length, int32_t inner)
{
    int32_t k = n_ids / n;
    int32_t row, j;
    for (j = 0; j < n * outer * length * inner; j++) {
        dx[j] = 0.0f;
    }
    for (row = 0; row < n * outer * k; row++) {
        int32_t place = ac_place_of(ids[row / (k * outer) * k + row % k], length);
        if (place >= 0) {
            float *line = dx + (row / k * length + place) * inner;
            for (j = 0; j < inner; j++) {
                line[j] += dy[row * inner + j];
            }
        }
    }
}

/* What the cosine of two lines is made of. */
typedef struct {
    double a_norm;
    double b_norm;
    double product;
} ac_lines;

static ac_lines ac_compare_lines(const float *a, const float *b, int32_t length,
    int32_t inner)
{
    ac_lines lines;
    double aa = 0.0, bb = 0.0, ab = 0.0;
    int32_t t;
    for (t = 0; t < length; t++) {
        double v = (double)a[t * inner];
        double w = (double)b[t * inner];
        aa += v * v;
        bb += w * w;
        ab += v * w;
    }
    lines.a_norm = ac_double_sqrt(aa);
    lines.b_norm = ac_double_sqrt(bb);
    lines.product = ab;
    return lines;
}

/* kernel axiswise.axis_cosine_forward(a, b, epsilon, y, outer, length, inner)
 * y = a . b / (max(|a|, epsilon) max(|b|, epsilon)) of each line. */
void ac_axis_cosine_forward(const float *a, const float *b, double epsilon, float *y,
    int32_t outer, int32_t length, int32_t inner)
{
    int32_t o, j;
    for (o = 0; o < outer; o++) {
        for (j = 0; j < inner; j++) {
            int32_t at = o * length * inner + j;
            ac_lines lines = ac_compare_lines(a + at, b + at, length, inner);
            double a_norm = lines.a_norm < epsilon ? epsilon : lines.a_norm;
            double b_norm = lines.b_norm < epsilon ? epsilon : lines.b_norm;
            y[o * inner + j] = (float)(lines.product / (a_norm * b_norm));
        }
    }
}

/* kernel axiswise.axis_cosine_derivative(a, b, epsilon, dy, da, outer, length, inner)
 * Differentiate the cosine by a; da may be a or b. */
void ac_axis_cosine_derivative(const float *a, const float *b, double epsilon,
    const float *dy, float *da, int32_t outer, int32_t length, int32_t inner)
{
    int32_t o, j, t;
    for (o = 0; o < outer; o++) {
        for (j = 0; j < inner; j++) {
            int32_t at = o * length * inner + j;
            ac_lines lines = ac_compare_lines(a + at, b + at, length, inner);
            double norm = lines.a_norm;
            double b_norm = lines.b_norm < epsilon ? epsilon : lines.b_norm;
            double of_b = (double)dy[o * inner + j]
                / ((norm < epsilon ? epsilon : norm) * b_norm);
            double of_a = norm < epsilon ? 0.0
                : of_b * lines.product / (norm * norm);
            for (t = 0; t < length; t++) {
                int32_t i = at + t * inner;
                da[i] = (float)(of_b * (double)b[i] - of_a * (double)a[i]);
            }
        }
    }
}
