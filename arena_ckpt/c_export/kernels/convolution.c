/* kernel convolution.conv_bias_gradient(dy, beta, db, db.size, n, plane)
 * db[f] = the sum of dy[:, f] over samples and plane, in double lanes, + beta * db[f];
 * beta is 0 or 1, and at 0, db is only written. */
void ac_conv_bias_gradient(const float *dy, float beta, float *db, int32_t filters,
    int32_t n, int32_t plane)
{
    double lanes[AC_LANES];
    int32_t f, i, start, j;
    for (f = 0; f < filters; f++) {
        double so_far = beta == 0.0f ? 0.0 : (double)db[f];
        ac_clear(lanes);
        for (i = 0; i < n; i++) {
            const float *row = dy + (i * filters + f) * plane;
            for (start = 0; start < plane; start += AC_LANES) {
                int32_t width = ac_width(plane, start);
                for (j = 0; j < width; j++) {
                    lanes[j] += (double)row[start + j];
                }
            }
        }
        db[f] = (float)(so_far + ac_total(lanes, AC_LANES));
    }
}
