/* Sums over samples: the derivative of what every sample reads. */

/* kernel table_sums.sum_samples(x, y, samples, x_sample, x_from, rows, x_row, width)
 * y = rows of a part of each sample, summed over the samples. Row r of sample i begins
 * at x_from + i x_sample + r x_row. */
void ac_sum_samples(const float *x, float *y, int32_t samples, int32_t x_sample,
    int32_t x_from, int32_t rows, int32_t x_row, int32_t width)
{
    double lanes[AC_LANES];
    int32_t r, start, i, j;
    for (r = 0; r < rows; r++) {
        for (start = 0; start < width; start += AC_LANES) {
            int32_t count = ac_width(width, start);
            ac_clear(lanes);
            for (i = 0; i < samples; i++) {
                const float *part = x + x_from + i * x_sample + r * x_row + start;
                for (j = 0; j < count; j++) {
                    lanes[j] += (double)part[j];
                }
            }
            for (j = 0; j < count; j++) {
                y[r * width + start + j] = (float)lanes[j];
            }
        }
    }
}
