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

/* kernel chains.chain_matmul(a, b, c, a.rows, b.columns, a.columns)
 * c = a @ b, a (m, k), b (k, n). */
void ac_matmul(const float *a, const float *b, float *c,
    int32_t m, int32_t n, int32_t k)
{
    ac_product(0, 0, m, n, k, 1.0f, a, k, b, n, 0.0f, c, n);
}

/* kernel chains.chain_transposed_a(a, b, beta, c, a.columns, b.columns, a.rows)
 * c = a^T @ b + beta * c, a (k, m), b (k, n). */
void ac_matmul_transposed_a(const float *a, const float *b, float beta, float *c,
    int32_t m, int32_t n, int32_t k)
{
    ac_product(1, 0, m, n, k, 1.0f, a, m, b, n, beta, c, n);
}

/* kernel chains.chain_transposed_b(a, b, c, a.rows, b.rows, a.columns)
 * c = a @ b^T, a (m, k), b (n, k). */
void ac_matmul_transposed_b(const float *a, const float *b, float *c,
    int32_t m, int32_t n, int32_t k)
{
    ac_product(0, 1, m, n, k, 1.0f, a, k, b, k, 0.0f, c, n);
}

/* kernel chains.chain_transposed_b_onto(a, b, beta, c, a.rows, b.rows, a.columns)
 * c = a @ b^T + beta * c, a (m, k), b (n, k). */
void ac_matmul_transposed_b_onto(const float *a, const float *b, float beta, float *c,
    int32_t m, int32_t n, int32_t k)
{
    ac_product(0, 1, m, n, k, 1.0f, a, k, b, k, beta, c, n);
}

/* kernel chains.chain_each(a, b, c, n, rows, inner, columns, transposed_a,
 *     transposed_b)
 * c = a @ b for each of n pairs of matrices, one after another in memory. */
void ac_matmul_each(const float *a, const float *b, float *c, int32_t n,
    int32_t rows, int32_t inner, int32_t columns,
    int32_t transposed_a, int32_t transposed_b)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        ac_product(transposed_a, transposed_b, rows, columns, inner, 1.0f,
            a + i * rows * inner, transposed_a ? rows : inner,
            b + i * inner * columns, transposed_b ? inner : columns,
            0.0f, c + i * rows * columns, columns);
    }
}

/* kernel chains.chain_windows(transpose_a, transpose_b, m, n, k, a, a_place,
 *     a_distance, b, b_place, b_distance, beta, c, c_place, c_distance)
 * c = a @ b + beta * c on parts of matrices: first element, distance of rows. */
void ac_matmul_windows(int32_t transpose_a, int32_t transpose_b,
    int32_t m, int32_t n, int32_t k,
    const float *a, int32_t a_place, int32_t a_distance,
    const float *b, int32_t b_place, int32_t b_distance,
    float beta, float *c, int32_t c_place, int32_t c_distance)
{
    ac_product(transpose_a, transpose_b, m, n, k, 1.0f, a + a_place, a_distance,
        b + b_place, b_distance, beta, c + c_place, c_distance);
}

/* kernel chains.chain_sgd_product(a, b, hyper, weight, a.columns, b.columns, a.rows)
 * weight -= learning_rate * a^T @ b; hyper = [learning_rate, …]. */
void ac_sgd_product(const float *a, const float *b, const double *hyper,
    float *weight, int32_t m, int32_t n, int32_t k)
{
    ac_product(1, 0, m, n, k, (float)-hyper[0], a, m, b, n, 1.0f, weight, n);
}
