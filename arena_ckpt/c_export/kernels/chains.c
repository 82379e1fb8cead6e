/* Matrix products: each element is one chain of fused multiply-adds along k. */

/* c = alpha * op(a) @ op(b) + beta * c, op(a) (m, k), op(b) (k, n); strides of rows. */
static void ac_product(int32_t transpose_a, int32_t transpose_b,
    int32_t m, int32_t n, int32_t k, float alpha, const float *a, int32_t a_stride,
    const float *b, int32_t b_stride, float beta, float *c, int32_t c_stride)
{
    int32_t i, j, p;
    int32_t a_row = transpose_a ? 1 : a_stride;
    int32_t a_step = transpose_a ? a_stride : 1;
    int32_t b_step = transpose_b ? 1 : b_stride;
    int32_t b_column = transpose_b ? b_stride : 1;
    for (i = 0; i < m; i++) {
        for (j = 0; j < n; j++) {
            float sum = beta == 0.0f ? 0.0f : beta * c[i * c_stride + j];
            for (p = 0; p < k; p++) {
                float factor = alpha * a[i * a_row + p * a_step];
                sum = ac_fma(factor, b[p * b_step + j * b_column], sum);
            }
            c[i * c_stride + j] = sum;
        }
    }
}
