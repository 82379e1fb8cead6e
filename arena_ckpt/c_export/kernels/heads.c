/* What attention does to given queries, keys and scores: rotary positions, masks. */

/* kernel heads.rotate(x, x.size, turns, sign, y, t, heads, width)
 * Pairs of both halves of each head are turned by the angles of their position, of
 * which `turns` has the cosines, then the sines; y may be x. */
void ac_rotate(const float *x, int32_t n_x, const float *turns, float sign,
    float *y, int32_t t, int32_t heads, int32_t width)
{
    int32_t half = width / 2;
    int32_t r, h, j;
    for (r = 0; r < n_x / (heads * width); r++) {
        const float *cosines = turns + (r % t) * width;
        const float *sines = cosines + half;
        for (h = 0; h < heads; h++) {
            int32_t at = (r * heads + h) * width;
            for (j = 0; j < half; j++) {
                float a = x[at + j], b = x[at + half + j];
                float sine = sign * sines[j];
                y[at + j] = a * cosines[j] - b * sine;
                y[at + half + j] = b * cosines[j] + a * sine;
            }
        }
    }
}

/* kernel heads.masked_softmax(x, x.size, mask, y, heads, t, s, mask_sample, mask_head,
 * has_mask, causal)
 * Softmax of x + mask in each row; 0 in rows that are forbidden; y may be x. */
void ac_masked_softmax(const float *x, int32_t n_x, const float *mask, float *y,
    int32_t heads, int32_t t, int32_t s, int32_t mask_sample, int32_t mask_head,
    int32_t has_mask, int32_t causal)
{
    float lanes[AC_LANES];
    int32_t r, c, start;
    for (r = 0; r < n_x / s; r++) {
        int32_t i = r % t;
        int32_t seen = causal != 0 && i + 1 < s ? i + 1 : s;
        float most, inverse;
        if (has_mask != 0) {
            const float *added = mask + r / (heads * t) * mask_sample
                + r / t % heads * mask_head + i * s;
            for (c = 0; c < seen; c++) {
                y[c] = x[c] + added[c];
            }
        } else {
            for (c = 0; c < seen; c++) {
                y[c] = x[c];
            }
        }
        most = ac_most_of(y, seen);
        if (most < -3.4028234663852886e38f) {
            for (c = 0; c < s; c++) {
                y[c] = 0.0f;
            }
        } else {
            ac_clear_floats(lanes);
            for (start = 0; start < seen; start += AC_LANES) {
                int32_t width = ac_width(seen, start);
                for (c = 0; c < width; c++) {
                    float value = ac_exp(y[start + c] - most);
                    y[start + c] = value;
                    lanes[c] += value;
                }
            }
            inverse = 1.0f / ac_float_total(lanes, seen);
            for (c = 0; c < seen; c++) {
                y[c] *= inverse;
            }
            for (c = seen; c < s; c++) {
                y[c] = 0.0f;
            }
        }
        x += s;
        y += s;
    }
}
