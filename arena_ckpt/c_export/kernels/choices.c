/* Choices between tensors that broadcast, after arena_ckpt/kernels/choices.py.
 *
 * Tensors have four axes of sizes n0 to n3. Beside them stand the steps, in elements,
 * by which an operand moves along each axis; 0 where it is repeated or summed. */

/* kernel choices.extreme(a, b, sign, y, n0, n1, n2, n3, a0, a1, a2, a3,
 *     b0, b1, b2, b3)
 * y = max(a, b) for sign 1, min(a, b) for -1; NaN where either is. y may be an operand
 * that is not repeated. */
void ac_extreme(const float *a, const float *b, float sign, float *y,
    int32_t n0, int32_t n1, int32_t n2, int32_t n3,
    int32_t a0, int32_t a1, int32_t a2, int32_t a3,
    int32_t b0, int32_t b1, int32_t b2, int32_t b3)
{
    int32_t i0, i1, i2, j;
    for (i0 = 0; i0 < n0; i0++) {
        for (i1 = 0; i1 < n1; i1++) {
            for (i2 = 0; i2 < n2; i2++) {
                const float *a_row = a + i0 * a0 + i1 * a1 + i2 * a2;
                const float *b_row = b + i0 * b0 + i1 * b1 + i2 * b2;
                for (j = 0; j < n3; j++) {
                    float v = a_row[j * a3];
                    float w = b_row[j * b3];
                    float more = sign * v > sign * w ? v : w;
                    y[j] = v != v ? v : more;
                }
                y += n3;
            }
        }
    }
}

/* kernel choices.select(condition, a, b, y, n0, n1, n2, n3, c0, c1, c2, c3,
 *     a0, a1, a2, a3, b0, b1, b2, b3)
 * y = a where the condition is not 0, else b; y may be an operand that is not
 * repeated. */
void ac_select(const float *condition, const float *a, const float *b, float *y,
    int32_t n0, int32_t n1, int32_t n2, int32_t n3,
    int32_t c0, int32_t c1, int32_t c2, int32_t c3,
    int32_t a0, int32_t a1, int32_t a2, int32_t a3,
    int32_t b0, int32_t b1, int32_t b2, int32_t b3)
{
    int32_t i0, i1, i2, j;
    for (i0 = 0; i0 < n0; i0++) {
        for (i1 = 0; i1 < n1; i1++) {
            for (i2 = 0; i2 < n2; i2++) {
                const float *c_row = condition + i0 * c0 + i1 * c1 + i2 * c2;
                const float *a_row = a + i0 * a0 + i1 * a1 + i2 * a2;
                const float *b_row = b + i0 * b0 + i1 * b1 + i2 * b2;
                for (j = 0; j < n3; j++) {
                    float v = a_row[j * a3];
                    float w = b_row[j * b3];
                    y[j] = c_row[j * c3] != 0.0f ? v : w;
                }
                y += n3;
            }
        }
    }
}

/* Run `term` for all elements that are summed into each element of `result`, of which
 * the steps are y0 to y3. */
#define AC_SUM_CHOSEN(result, term) \
    int32_t i0, i1, i2, i3, p0, p1, p2, p3; \
    for (i0 = 0; i0 < (y0 != 0 ? n0 : 1); i0++) { \
        for (i1 = 0; i1 < (y1 != 0 ? n1 : 1); i1++) { \
            for (i2 = 0; i2 < (y2 != 0 ? n2 : 1); i2++) { \
                for (i3 = 0; i3 < (y3 != 0 ? n3 : 1); i3++) { \
                    double total = 0.0; \
                    for (p0 = i0; p0 < (y0 != 0 ? i0 + 1 : n0); p0++) { \
                        for (p1 = i1; p1 < (y1 != 0 ? i1 + 1 : n1); p1++) { \
                            for (p2 = i2; p2 < (y2 != 0 ? i2 + 1 : n2); p2++) { \
                                int32_t at = ((p0 * n1 + p1) * n2 + p2) * n3; \
                                for (p3 = i3; p3 < (y3 != 0 ? i3 + 1 : n3); p3++) { \
                                    total += (double)(term); \
                                } \
                            } \
                        } \
                    } \
                    result[i0 * y0 + i1 * y1 + i2 * y2 + i3 * y3] = (float)total; \
                } \
            } \
        } \
    }

/* The share that the first of two numbers has in the derivative of the greater one. */
static inline float ac_share(float v, float w)
{
    float share = v > w ? 1.0f : 0.0f;
    return v == w ? 0.5f : share;
}

/* kernel choices.sum_extreme(dy, a, b, sign, da, n0, n1, n2, n3, y0, y1, y2, y3,
 *     a0, a1, a2, a3, b0, b1, b2, b3)
 * Sum dy where a is the extreme of a and b, half of it where both are equal, over the
 * axes where the step of da is 0; if it is over none, da may be dy, or an operand that
 * is not repeated. */
void ac_sum_extreme(const float *dy, const float *a, const float *b, float sign,
    float *da, int32_t n0, int32_t n1, int32_t n2, int32_t n3,
    int32_t y0, int32_t y1, int32_t y2, int32_t y3,
    int32_t a0, int32_t a1, int32_t a2, int32_t a3,
    int32_t b0, int32_t b1, int32_t b2, int32_t b3)
{
    AC_SUM_CHOSEN(da, dy[at + p3]
        * ac_share(sign * a[p0 * a0 + p1 * a1 + p2 * a2 + p3 * a3],
            sign * b[p0 * b0 + p1 * b1 + p2 * b2 + p3 * b3]))
}

/* kernel choices.sum_selected(dy, condition, other, dx, n0, n1, n2, n3,
 *     y0, y1, y2, y3, c0, c1, c2, c3)
 * Sum dy where the condition is not 0, or where it is 0 if `other` is 1, over the axes
 * where the step of dx is 0; if it is over none, dx may be dy. */
void ac_sum_selected(const float *dy, const float *condition, int32_t other,
    float *dx, int32_t n0, int32_t n1, int32_t n2, int32_t n3,
    int32_t y0, int32_t y1, int32_t y2, int32_t y3,
    int32_t c0, int32_t c1, int32_t c2, int32_t c3)
{
    AC_SUM_CHOSEN(dx,
        (condition[p0 * c0 + p1 * c1 + p2 * c2 + p3 * c3] == 0.0f) == (other != 0)
            ? dy[at + p3] : 0.0f)
}
