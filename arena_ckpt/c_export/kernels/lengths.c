/* Sequences of several lengths in one batch, after arena_ckpt/kernels/lengths.py.
 * x is (n, steps, columns), of which the kernels touch width columns from start on;
 * counts says how many steps of each sample are valid, which come first. */

/* kernel lengths.count_steps(lengths, steps, counts, counts.size, loss)
 * Round lengths to integers; NaN to the loss, and 1 step, where one is no such. */
void ac_count_steps(const float *lengths, int32_t steps, int32_t *counts,
    int32_t n_counts, double *loss)
{
    int32_t r;
    for (r = 0; r < n_counts; r++) {
        float length = lengths[r];
        int32_t count = 0;
        if (length >= 1.0f && length <= (float)steps) {
            count = (int32_t)length;
        }
        if (count < 1 || (float)count != length) {
            loss[0] = ac_double_of_bits(UINT64_C(0x7ff8000000000000));
            count = 1;
        }
        counts[r] = count;
    }
}

/* kernel lengths.fill_masked(x, counts, value, n, steps, columns, start, width)
 * Write value to the steps that are not valid. */
void ac_fill_masked(float *x, const int32_t *counts, double value, int32_t n,
    int32_t steps, int32_t columns, int32_t start, int32_t width)
{
    int32_t r, t, j;
    for (r = 0; r < n; r++) {
        for (t = counts[r]; t < steps; t++) {
            float *row = x + (r * steps + t) * columns + start;
            for (j = 0; j < width; j++) {
                row[j] = (float)value;
            }
        }
    }
}

/* kernel lengths.reverse_valid(x, counts, n, steps, columns, start, width)
 * Put the valid steps of each sample in the opposite order, in place. */
void ac_reverse_valid(float *x, const int32_t *counts, int32_t n, int32_t steps,
    int32_t columns, int32_t start, int32_t width)
{
    int32_t r, t, j;
    for (r = 0; r < n; r++) {
        float *first = x + r * steps * columns + start;
        for (t = 0; t < counts[r] / 2; t++) {
            float *a = first + t * columns;
            float *b = first + (counts[r] - 1 - t) * columns;
            for (j = 0; j < width; j++) {
                float value = a[j];
                a[j] = b[j];
                b[j] = value;
            }
        }
    }
}

/* kernel lengths.take_last(x, counts, y, n, steps, width, y_columns, y_start)
 * Copy the last valid step of each sample to a row of y; x is width wide. */
void ac_take_last(const float *x, const int32_t *counts, float *y, int32_t n,
    int32_t steps, int32_t width, int32_t y_columns, int32_t y_start)
{
    int32_t r, j;
    for (r = 0; r < n; r++) {
        const float *from = x + (r * steps + counts[r] - 1) * width;
        float *row = y + r * y_columns + y_start;
        for (j = 0; j < width; j++) {
            row[j] = from[j];
        }
    }
}

/* kernel lengths.add_last(dy, counts, dx, n, steps, width, y_columns, y_start)
 * Add a row of dy to the last valid step of each sample; dx is width wide. */
void ac_add_last(const float *dy, const int32_t *counts, float *dx, int32_t n,
    int32_t steps, int32_t width, int32_t y_columns, int32_t y_start)
{
    int32_t r, j;
    for (r = 0; r < n; r++) {
        float *to = dx + (r * steps + counts[r] - 1) * width;
        const float *row = dy + r * y_columns + y_start;
        for (j = 0; j < width; j++) {
            to[j] += row[j];
        }
    }
}

/* kernel lengths.last_cells(gates, cells, counts, y, n, steps, unit, y_columns,
 *     y_start)
 * Make the cell state of an lstm behind the last valid step of each sample. cells are
 * those that each step began with, gates the activated ones. */
void ac_last_cells(const float *gates, const float *cells, const int32_t *counts,
    float *y, int32_t n, int32_t steps, int32_t unit, int32_t y_columns,
    int32_t y_start)
{
    int32_t r, j;
    for (r = 0; r < n; r++) {
        int32_t at = r * steps + counts[r] - 1;
        const float *gate = gates + at * 4 * unit;
        float *row = y + r * y_columns + y_start;
        for (j = 0; j < unit; j++) {
            float kept = gate[unit + j] * cells[at * unit + j];
            row[j] = kept + gate[j] * gate[2 * unit + j];
        }
    }
}
