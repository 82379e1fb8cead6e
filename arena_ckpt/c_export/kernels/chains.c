/* Matrix products: each element is one chain of fused multiply-adds along k. */

/* Rows and columns that are worked out together, in registers: a number that is loaded
 * is used several times. */
#define AC_TILE 4

/* The steps of a loop after this word are written one after another, also at -Os, so
 * that what it indexes may stand in registers. */
#if defined(__clang__)
#define AC_TILE_LOOP _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__) && __GNUC__ >= 8
#define AC_TILE_LOOP _Pragma("GCC unroll 4")
#else
#define AC_TILE_LOOP
#endif

#if defined(__GNUC__)
#define AC_NOINLINE __attribute__((noinline, unused))
#else
#define AC_NOINLINE
#endif

/* sums += alpha * op(a) @ op(b) for a tile, k > 0: op(a) has a_row numbers from a row to
 * the next and a_step to the next column, op(b) b_step and b_column. Where fewer rows or
 * columns are left, the last one is worked out several times. */
AC_NOINLINE static void ac_add_tile(int32_t rows, int32_t columns, int32_t k,
    float alpha, const float *a, int32_t a_row, int32_t a_step,
    const float *b, int32_t b_step, int32_t b_column, float *tile)
{
    float sums[AC_TILE][AC_TILE], v[AC_TILE];
    int32_t a_at[AC_TILE], b_at[AC_TILE];
    int32_t i, j;
    AC_TILE_LOOP
    for (i = 0; i < AC_TILE; i++) {
        a_at[i] = (i < rows ? i : rows - 1) * a_row;
        b_at[i] = (i < columns ? i : columns - 1) * b_column;
        AC_TILE_LOOP
        for (j = 0; j < AC_TILE; j++) {
            sums[i][j] = tile[i * AC_TILE + j];
        }
    }
    do {
        AC_TILE_LOOP
        for (j = 0; j < AC_TILE; j++) {
            v[j] = b[b_at[j]];
        }
        AC_TILE_LOOP
        for (i = 0; i < AC_TILE; i++) {
            float factor = alpha * a[a_at[i]];
            AC_TILE_LOOP
            for (j = 0; j < AC_TILE; j++) {
                sums[i][j] = ac_fma(factor, v[j], sums[i][j]);
            }
        }
        a += a_step;
        b += b_step;
    } while (--k > 0);
    AC_TILE_LOOP
    for (i = 0; i < AC_TILE; i++) {
        AC_TILE_LOOP
        for (j = 0; j < AC_TILE; j++) {
            tile[i * AC_TILE + j] = sums[i][j];
        }
    }
}

/* With vectors a tile has more columns, which lie side by side in a panel: op(b) is
 * copied there, piece by piece of k. */
#if defined(__AVX__)
#define AC_PANEL 32
#define AC_DEPTH 128
#if defined(__clang__) || !defined(__GNUC__)
#define AC_WIDE
#elif defined(__AVX512F__)
#define AC_WIDE __attribute__((noinline, optimize("O3", "fp-contract=off"), \
    target("prefer-vector-width=512")))
#else
#define AC_WIDE __attribute__((noinline, optimize("O3", "fp-contract=off")))
#endif
#endif

/* c += alpha * op(a) @ op(b) for up to AC_TILE rows, and columns of a panel. */
#if defined(__AVX__)
AC_WIDE static void ac_add_panel(int32_t rows, int32_t columns, int32_t k,
    float alpha, const float *a, int32_t a_row, int32_t a_step,
    const float *AC_RESTRICT panel, int32_t step, float *c, int32_t c_row)
{
    float sums[AC_TILE][AC_PANEL];
    int32_t i, j;
    AC_TILE_LOOP
    for (i = 0; i < AC_TILE; i++) {
        const float *from = c + (i < rows ? i : rows - 1) * c_row;
        for (j = 0; j < AC_PANEL; j++) {
            sums[i][j] = j < columns ? from[j] : 0.0f;
        }
    }
    for (; k > 0; k--) {
        AC_TILE_LOOP
        for (i = 0; i < AC_TILE; i++) {
            float factor = alpha * a[(i < rows ? i : rows - 1) * a_row];
            for (j = 0; j < AC_PANEL; j++) {
                sums[i][j] = ac_fma(factor, panel[j], sums[i][j]);
            }
        }
        a += a_step;
        panel += step;
    }
    AC_TILE_LOOP
    for (i = 0; i < AC_TILE; i++) {
        float *to = c + (i < rows ? i : rows - 1) * c_row;
        for (j = 0; j < AC_PANEL; j++) {
            if (j < columns) {
                to[j] = sums[i][j];
            }
        }
    }
}
#endif

/* Copies columns of op(b) side by side, and zeros beyond them. */
#if defined(__AVX__)
static void ac_copy_panel(const float *b, int32_t b_step, int32_t b_column, int32_t k,
    int32_t columns, float *panel)
{
    int32_t p, j;
    for (p = 0; p < k; p++) {
        for (j = 0; j < AC_PANEL; j++) {
            panel[p * AC_PANEL + j] = j < columns ? b[j * b_column] : 0.0f;
        }
        b += b_step;
    }
}
#endif

/* c = alpha * op(a) @ op(b) + beta * c, op(a) (m, k), op(b) (k, n); strides of rows. */
static void ac_product(int32_t transpose_a, int32_t transpose_b,
    int32_t m, int32_t n, int32_t k, float alpha, const float *a, int32_t a_stride,
    const float *b, int32_t b_stride, float beta, float *c, int32_t c_stride)
{
    int32_t a_row = transpose_a ? 1 : a_stride;
    int32_t a_step = transpose_a ? a_stride : 1;
    int32_t b_step = transpose_b ? 1 : b_stride;
    int32_t b_column = transpose_b ? b_stride : 1;
    int32_t i, j, r, q;
#if defined(__AVX__)
    float panel[AC_DEPTH * AC_PANEL];
    for (i = 0; i < m; i++) {
        float *to = c + i * c_stride;
        for (j = 0; j < n; j++) {
            to[j] = beta == 0.0f ? 0.0f : beta * to[j];
        }
    }
    for (q = 0; q < k; q += AC_DEPTH) {
        int32_t depth = k - q < AC_DEPTH ? k - q : AC_DEPTH;
        for (j = 0; j < n; j += AC_PANEL) {
            int32_t columns = n - j < AC_PANEL ? n - j : AC_PANEL;
            /* Far apart rows that are read often had better stand together. */
            int32_t lies_right = b_column == 1 && columns == AC_PANEL
                && (b_step <= AC_DEPTH || m <= 4 * AC_TILE);
            const float *from = b + q * b_step + j * b_column;
            if (!lies_right) {
                ac_copy_panel(from, b_step, b_column, depth, columns, panel);
            }
            for (r = 0; r < m; r += AC_TILE) {
                ac_add_panel(m - r, columns, depth, alpha,
                    a + r * a_row + q * a_step, a_row, a_step,
                    lies_right ? from : panel, lies_right ? b_step : AC_PANEL,
                    c + r * c_stride + j, c_stride);
            }
        }
    }
#else
    float tile[AC_TILE * AC_TILE];
    for (r = 0; r < m; r += AC_TILE) {
        int32_t rows = m - r < AC_TILE ? m - r : AC_TILE;
        for (q = 0; q < n; q += AC_TILE) {
            int32_t columns = n - q < AC_TILE ? n - q : AC_TILE;
            float *to = c + r * c_stride + q;
            for (i = 0; i < AC_TILE; i++) {
                AC_TILE_LOOP
                for (j = 0; j < AC_TILE; j++) {
                    tile[i * AC_TILE + j] = 0.0f;
                }
            }
            for (i = 0; i < AC_TILE * AC_TILE && beta != 0.0f; i++) {
                int32_t row = i / AC_TILE < rows ? i / AC_TILE : rows - 1;
                j = i % AC_TILE < columns ? i % AC_TILE : columns - 1;
                tile[i] = beta * to[row * c_stride + j];
            }
            if (k > 0) {
                ac_add_tile(rows, columns, k, alpha, a + r * a_row, a_row, a_step,
                    b + q * b_column, b_step, b_column, tile);
            }
            for (i = 0; i < rows; i++) {
                AC_TILE_LOOP
                for (j = 0; j < AC_TILE; j++) {
                    to[i * c_stride + (j < columns ? j : columns - 1)] =
                        tile[i * AC_TILE + j];
                }
            }
        }
    }
#endif
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
