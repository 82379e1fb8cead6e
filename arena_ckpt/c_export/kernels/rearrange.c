/* Copies that put elements elsewhere: parts of tensors, and axes in another order. */

/* kernel rearrange.copy_rows(x, y, n0, n1, n2, width, x_from, x0, x1, x2,
 *     y_from, y0, y1, y2)
 * Copy n0 * n1 * n2 rows of `width` elements.
 *
 * Row (i, j, k) of x begins at x_from + i x0 + j x1 + k x2, that of y likewise. */
void ac_copy_rows(const float *x, float *y,
    int32_t n0, int32_t n1, int32_t n2, int32_t width,
    int32_t x_from, int32_t x0, int32_t x1, int32_t x2,
    int32_t y_from, int32_t y0, int32_t y1, int32_t y2)
{
    int32_t i, j, k, c;
    for (i = 0; i < n0; i++) {
        for (j = 0; j < n1; j++) {
            for (k = 0; k < n2; k++) {
                const float *x_row = x + x_from + i * x0 + j * x1 + k * x2;
                float *y_row = y + y_from + i * y0 + j * y1 + k * y2;
                for (c = 0; c < width; c++) {
                    y_row[c] = x_row[c];
                }
            }
        }
    }
}

/* kernel rearrange.place_rows(x, y, rows, width, start, y_width)
 * Copy rows of `width` to `start` in rows of `y_width`, with 0 around them. */
void ac_place_rows(const float *x, float *y, int32_t rows, int32_t width,
    int32_t start, int32_t y_width)
{
    int32_t r, c;
    for (r = 0; r < rows; r++) {
        for (c = 0; c < start; c++) {
            y[c] = 0.0f;
        }
        for (c = 0; c < width; c++) {
            y[start + c] = x[c];
        }
        for (c = start + width; c < y_width; c++) {
            y[c] = 0.0f;
        }
        x += width;
        y += y_width;
    }
}

/* kernel rearrange.transpose(x, y, n0, n1, rows, columns, x0, x1, x_row,
 *     y0, y1, y_column)
 * Transpose n0 * n1 matrices of rows * columns.
 *
 * Element (r, c) of matrix (i, j) is that of x at i x0 + j x1 + r x_row + c, and that
 * of y at i y0 + j y1 + c y_column + r. */
void ac_transpose(const float *x, float *y,
    int32_t n0, int32_t n1, int32_t rows, int32_t columns,
    int32_t x0, int32_t x1, int32_t x_row, int32_t y0, int32_t y1, int32_t y_column)
{
    int32_t i, j, r, c;
    for (i = 0; i < n0; i++) {
        for (j = 0; j < n1; j++) {
            const float *from = x + i * x0 + j * x1;
            float *to = y + i * y0 + j * y1;
            for (c = 0; c < columns; c++) {
                for (r = 0; r < rows; r++) {
                    to[c * y_column + r] = from[r * x_row + c];
                }
            }
        }
    }
}
