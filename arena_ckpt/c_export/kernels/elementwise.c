/* kernel elementwise.add_bias(x, bias, y, y.rows, y.columns)
 * y = x + bias; y may be x. */
void ac_add_bias(const float *x, const float *bias, float *y,
    int32_t rows, int32_t columns)
{
    int32_t r, c;
    for (r = 0; r < rows; r++) {
        for (c = 0; c < columns; c++) {
            y[r * columns + c] = x[r * columns + c] + bias[c];
        }
    }
}

/* kernel elementwise.copy(x, y, y.size)
 * y = x. */
void ac_copy(const float *x, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = x[i];
    }
}

/* kernel elementwise.add_to(x, y, y.size)
 * y += x. */
void ac_add_to(const float *x, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] += x[i];
    }
}

/* kernel elementwise.add(a, b, y, y.size)
 * y = a + b; y may be a or b. */
void ac_add(const float *a, const float *b, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = a[i] + b[i];
    }
}

/* kernel elementwise.fill(value, y, y.size)
 * y = value. */
void ac_fill(float value, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = value;
    }
}

/* kernel elementwise.fill_doubles(value, y, y.size)
 * y = value. */
void ac_fill_doubles(double value, double *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = value;
    }
}

/* kernel elementwise.count_up(counter)
 * counter[0] += 1. */
void ac_count_up(double *counter)
{
    counter[0] += 1.0;
}

/* kernel elementwise.one_hot(labels, y, y.rows, y.columns)
 * y[r, c] = 1 if labels[r] == c else 0; a label of no column gives zeros. */
void ac_one_hot(const int64_t *labels, float *y, int32_t rows, int32_t columns)
{
    int32_t r, c;
    for (r = 0; r < rows; r++) {
        for (c = 0; c < columns; c++) {
            y[r * columns + c] = labels[r] == c ? 1.0f : 0.0f;
        }
    }
}
