/* Scaled dot-product attention, after arena_ckpt/kernels/attention.py, which says how
 * its arrays lie. A tile is the scores of queries i0 up to i1 and keys j0 up to j1 of
 * one head, (rows, columns) in memory; a row of it is what one query has. */

/* One attention: its sizes and arrays, and which tile is worked on. */
typedef struct {
    int32_t heads, t, s; /* queries t, keys s */
    int32_t dk, dv; /* elements of a query or key, of a value, of one head */
    int32_t mask_heads; /* 0: there is no mask */
    int32_t causal; /* query i sees keys 0 ... i */
    int32_t rows, columns; /* of a tile */
    float scale; /* 1 / sqrt(dk) */
    const float *q, *k, *v, *mask;
    ac_drops drops; /* of the sample */
    int32_t n, h; /* sample and head */
    int32_t i0, i1, j0, j1;
} ac_attention;

static void ac_set_sizes(ac_attention *at, int32_t heads, int32_t t, int32_t s,
    int32_t dk, int32_t dv)
{
    at->heads = heads;
    at->t = t;
    at->s = s;
    at->dk = dk;
    at->dv = dv;
    at->scale = (float)(1.0 / ac_double_sqrt((double)dk));
}

static void ac_set_tiles(ac_attention *at, int32_t mask_heads, int32_t causal,
    int32_t rows, int32_t columns)
{
    at->mask_heads = mask_heads;
    at->causal = causal;
    at->rows = rows;
    at->columns = columns;
}

static void ac_set_operands(ac_attention *at, const float *q, const float *k,
    const float *v, const float *mask)
{
    at->q = q;
    at->k = k;
    at->v = v;
    at->mask = mask;
}

/* Go to the rows from i0 on; return up to where their keys go. */
static int32_t ac_set_rows(ac_attention *at, int32_t i0)
{
    at->i0 = i0;
    at->i1 = at->t - i0 < at->rows ? at->t : i0 + at->rows;
    return at->causal && at->i1 < at->s ? at->i1 : at->s;
}

/* Go to the keys from j0 on, of those up to stop. */
static void ac_set_keys(ac_attention *at, int32_t j0, int32_t stop)
{
    at->j0 = j0;
    at->j1 = stop - j0 < at->columns ? stop : j0 + at->columns;
}

/* Which row query i is in an array (samples, heads, t, any). */
static int32_t ac_query_row(const ac_attention *at, int32_t i)
{
    return (at->n * at->heads + at->h) * at->t + i;
}

/* Where the head begins in a row of (any, heads * width). */
static int32_t ac_head_place(const ac_attention *at, int32_t row, int32_t width)
{
    return (row * at->heads + at->h) * width;
}

/* How many keys of the tile query i may see: the first ones. */
static int32_t ac_n_visible(const ac_attention *at, int32_t i)
{
    int32_t width = at->j1 - at->j0;
    int32_t n = i + 1 - at->j0;
    if (!at->causal || n > width) {
        return width;
    }
    return n < 0 ? 0 : n;
}

static void ac_scale_row(float *row, float factor, int32_t n)
{
    int32_t j;
    for (j = 0; j < n; j++) {
        row[j] *= factor;
    }
}

static void ac_zero_row(float *row, int32_t n)
{
    int32_t j;
    for (j = 0; j < n; j++) {
        row[j] = 0.0f;
    }
}

/* The greatest of `most` and the numbers that are not NaN; of 0 and -0 it is 0. */
static float ac_largest(const float *row, int32_t n, float most)
{
    int32_t j;
    for (j = 0; j < n; j++) {
        most = row[j] > most ? row[j] : most;
    }
    return most + 0.0f;
}

/* row = exp(row - most); return its sum. */
static float ac_row_exponentials(float *row, int32_t n, float most)
{
    float lanes[AC_LANES];
    int32_t start, j;
    ac_clear_floats(lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            float value = ac_exp(row[start + j] - most);
            row[start + j] = value;
            lanes[j] += value;
        }
    }
    return ac_float_folded(lanes);
}

/* What dropout leaves of the first n probabilities of query i in the tile. */
static void ac_keep_row(const ac_attention *at, const float *row, float *kept,
    int32_t i, int32_t n)
{
    uint64_t key = ac_row_key(at->drops.key, (uint64_t)(at->h * at->t + i));
    int32_t j;
    for (j = 0; j < n; j++) {
        kept[j] = row[j] * ac_keep(key, (uint32_t)(at->j0 + j), at->drops.threshold,
            at->drops.scale);
    }
}

/* scores = q kT / sqrt(dk) */
static void ac_scores(const ac_attention *at, float *scores)
{
    ac_product(0, 1, at->i1 - at->i0, at->j1 - at->j0, at->dk, at->scale,
        at->q + ac_head_place(at, at->n * at->t + at->i0, at->dk), at->heads * at->dk,
        at->k + ac_head_place(at, at->n * at->s + at->j0, at->dk), at->heads * at->dk,
        0.0f, scores, at->columns);
}

/* Add the mask to a row, and make what query i may not see 0. */
static void ac_mask_row(const ac_attention *at, float *row, int32_t i)
{
    int32_t n = ac_n_visible(at, i);
    int32_t j;
    ac_zero_row(row + n, at->j1 - at->j0 - n);
    if (at->mask_heads) {
        int32_t head = at->n * at->mask_heads + (at->mask_heads > 1 ? at->h : 0);
        const float *mask = at->mask + (head * at->t + i) * at->s + at->j0;
        for (j = 0; j < n; j++) {
            row[j] += mask[j];
        }
    }
}

/* out += p v, or out = p v of the first keys. */
static void ac_add_values(const ac_attention *at, const float *p, float *out)
{
    int32_t width = at->heads * at->dv;
    ac_product(0, 0, at->i1 - at->i0, at->dv, at->j1 - at->j0, 1.0f, p, at->columns,
        at->v + ac_head_place(at, at->n * at->s + at->j0, at->dv), width,
        at->j0 > 0 ? 1.0f : 0.0f,
        out + ac_head_place(at, at->n * at->t + at->i0, at->dv), width);
}

/* Turn scores into exponentials beyond the greatest score of the keys so far, which
 * stands in lse; bring what earlier keys put into sums and out to it. */
static void ac_running_softmax(const ac_attention *at, float *scores, float *out,
    float *lse, float *sums)
{
    int32_t i;
    for (i = at->i0; i < at->i1; i++) {
        float *row = scores + (i - at->i0) * at->columns;
        float *sum = sums + (i - at->i0);
        float *greatest = lse + 2 * ac_query_row(at, i);
        int32_t n = ac_n_visible(at, i);
        float before = at->j0 == 0 ? -FLT_MAX : *greatest;
        float most, total;
        ac_mask_row(at, row, i);
        most = ac_largest(row, n, before);
        total = ac_row_exponentials(row, n, most);
        if (at->j0 > 0 && most > before) {
            float shrink = ac_exp(before - most);
            total += shrink * *sum;
            ac_scale_row(out + ac_head_place(at, at->n * at->t + i, at->dv), shrink,
                at->dv);
        } else if (at->j0 > 0) {
            total += *sum;
        }
        *greatest = most;
        *sum = total;
        if (at->drops.threshold > 0) {
            ac_keep_row(at, row, row, i, n);
        }
    }
}

/* Divide out by the sums and put their logarithms into lse, after all keys. */
static void ac_end_softmax(const ac_attention *at, float *out, float *lse,
    const float *sums)
{
    int32_t i;
    for (i = at->i0; i < at->i1; i++) {
        float total = sums[i - at->i0];
        float *pair = lse + 2 * ac_query_row(at, i);
        float inverse = 0.0f;
        /* A forbidden row: any numbers that make exp(-inf - lse) = 0. */
        pair[1] = 0.0f;
        if (total == 0.0f) {
            pair[0] = FLT_MAX;
        } else {
            pair[1] = (float)ac_log((double)total);
            inverse = 1.0f / total;
        }
        ac_scale_row(out + ac_head_place(at, at->n * at->t + i, at->dv), inverse,
            at->dv);
    }
}

/* kernel attention.tiled_forward(q, k, v, mask, out, lse, lse.size, tile, control, key,
 *     rate, heads, t, s, dk, dv, mask_heads, causal, rows, columns)
 * Attention with a running maximum and sum, which lse keeps; tile is a workspace. */
void ac_attention_tiled_forward(const float *q, const float *k, const float *v,
    const float *mask, float *out, float *lse, int32_t n_lse, float *tile,
    const double *control, uint64_t key, double rate, int32_t heads, int32_t t,
    int32_t s, int32_t dk, int32_t dv, int32_t mask_heads, int32_t causal,
    int32_t rows, int32_t columns)
{
    ac_attention at;
    float *sums = tile + rows * columns;
    int32_t i0, j0, stop;
    ac_set_sizes(&at, heads, t, s, dk, dv);
    ac_set_tiles(&at, mask_heads, causal, rows, columns);
    ac_set_operands(&at, q, k, v, mask);
    ac_set_drops(&at.drops, rate);
    for (at.n = 0; at.n < n_lse / (2 * heads * t); at.n++) {
        ac_set_sample(&at.drops, key, control, at.n);
        for (at.h = 0; at.h < heads; at.h++) {
            for (i0 = 0; i0 < t; i0 += rows) {
                stop = ac_set_rows(&at, i0);
                for (j0 = 0; j0 < stop; j0 += columns) {
                    ac_set_keys(&at, j0, stop);
                    ac_scores(&at, tile);
                    ac_running_softmax(&at, tile, out, lse, sums);
                    ac_add_values(&at, tile, out);
                }
                ac_end_softmax(&at, out, lse, sums);
            }
        }
    }
}

/* Turn scores (rows, s) into probabilities. */
static void ac_softmax_rows(const ac_attention *at, float *scores)
{
    int32_t i;
    for (i = at->i0; i < at->i1; i++) {
        float *row = scores + (i - at->i0) * at->s;
        int32_t n = ac_n_visible(at, i);
        float total;
        ac_mask_row(at, row, i);
        total = ac_row_exponentials(row, n, ac_largest(row, n, -FLT_MAX));
        ac_scale_row(row, total == 0.0f ? 0.0f : 1.0f / total, n);
        ac_zero_row(row + at->j1, at->s - at->j1);
    }
}

/* kernel attention.plain_forward(q, k, v, mask, out, probabilities, probabilities.size,
 *     tile, control, key, rate, heads, t, s, dk, dv, mask_heads, causal, rows)
 * Attention that leaves its probabilities, before dropout; tile, a workspace, is used
 * with dropout alone. */
void ac_attention_plain_forward(const float *q, const float *k, const float *v,
    const float *mask, float *out, float *probabilities, int32_t n_probabilities,
    float *tile, const double *control, uint64_t key, double rate, int32_t heads,
    int32_t t, int32_t s, int32_t dk, int32_t dv, int32_t mask_heads, int32_t causal,
    int32_t rows)
{
    ac_attention at;
    int32_t i, i0, stop;
    ac_set_sizes(&at, heads, t, s, dk, dv);
    ac_set_tiles(&at, mask_heads, causal, rows, s);
    ac_set_operands(&at, q, k, v, mask);
    ac_set_drops(&at.drops, rate);
    for (at.n = 0; at.n < n_probabilities / (heads * t * s); at.n++) {
        ac_set_sample(&at.drops, key, control, at.n);
        for (at.h = 0; at.h < heads; at.h++) {
            for (i0 = 0; i0 < t; i0 += rows) {
                float *p = probabilities + ac_query_row(&at, i0) * s;
                stop = ac_set_rows(&at, i0);
                ac_set_keys(&at, 0, stop);
                ac_scores(&at, p);
                ac_softmax_rows(&at, p);
                if (at.drops.threshold > 0) {
                    for (i = i0; i < at.i1; i++) {
                        int32_t row = (i - i0) * s;
                        ac_keep_row(&at, p + row, tile + row, i, stop);
                    }
                    p = tile;
                }
                ac_add_values(&at, p, out);
            }
        }
    }
}

/* Compute the probabilities of a tile again, as the forward pass left them in lse. */
static void ac_probabilities_again(const ac_attention *at, const float *lse, float *p)
{
    int32_t i, j;
    ac_scores(at, p);
    for (i = at->i0; i < at->i1; i++) {
        const float *pair = lse + 2 * ac_query_row(at, i);
        float *row = p + (i - at->i0) * at->columns;
        int32_t n = ac_n_visible(at, i);
        ac_mask_row(at, row, i);
        for (j = 0; j < n; j++) {
            row[j] = ac_exp((row[j] - pair[0]) - pair[1]);
        }
    }
}

/* The sum of d_out * out of query i, which is that of p * dp over all its tiles. */
static float ac_output_sum(const ac_attention *at, const float *d_out,
    const float *out, int32_t i)
{
    return ac_inner_product(d_out + ac_head_place(at, i, at->dv),
        out + ac_head_place(at, at->n * at->t + i, at->dv), at->dv);
}

/* Turn the derivatives of probabilities into those of scores, and drop from p. A row
 * that is not whole in the tile has its sum of p * dp in delta, unless one of its
 * probabilities is 1. */
static void ac_score_slopes(const ac_attention *at, float *p, float *slopes,
    const float *delta, const float *lse, int32_t is_whole)
{
    int32_t i, j;
    for (i = at->i0; i < at->i1; i++) {
        float *dp = slopes + (i - at->i0) * at->columns;
        float *row = p + (i - at->i0) * at->columns;
        int32_t n = ac_n_visible(at, i);
        int32_t takes_own_sum = is_whole;
        float sum;
        ac_zero_row(dp + n, at->j1 - at->j0 - n);
        if (at->drops.threshold > 0) {
            ac_keep_row(at, dp, dp, i, n);
        }
        if (!is_whole && lse[2 * ac_query_row(at, i) + 1] == 0.0f) {
            takes_own_sum = ac_largest(row, n, 0.0f) == 1.0f;
        }
        sum = takes_own_sum ? ac_inner_product(row, dp, n) : delta[i - at->i0];
        for (j = 0; j < n; j++) {
            dp[j] = row[j] * (dp[j] - sum);
        }
        if (at->drops.threshold > 0) {
            ac_keep_row(at, row, row, i, n);
        }
    }
}

/* Copy (n, width) to the head in an array (any, heads * width), from a row on. */
static void ac_put_rows(const ac_attention *at, const float *source, float *target,
    int32_t row, int32_t n, int32_t width)
{
    int32_t i, j;
    for (i = 0; i < n; i++) {
        for (j = 0; j < width; j++) {
            target[ac_head_place(at, row + i, width) + j] = source[i * width + j];
        }
    }
}

/* What one row of tiles adds to the derivatives d_k and d_v of a head, and its d_q.
 * The workspaces d_q, delta, slopes and p stand one behind the other; of the plain form
 * the probabilities are those that the forward pass left. */
static void ac_row_of_tiles(ac_attention *at, const float *d_out, const float *out,
    float *softmax, int32_t is_plain, float *d_k, float *d_v, float *d_q)
{
    float *delta = d_q + at->rows * at->dk;
    float *slopes = delta + at->rows;
    float *p = slopes + at->rows * at->columns;
    int32_t stop = ac_set_rows(at, at->i0);
    int32_t n_rows = at->i1 - at->i0;
    int32_t is_whole = stop <= at->columns;
    int32_t k_width = at->heads * at->dk, v_width = at->heads * at->dv;
    const float *queries = at->q + ac_head_place(at, at->n * at->t + at->i0, at->dk);
    const float *d_rows = d_out + ac_head_place(at, at->i0, at->dv);
    int32_t i, j0;
    for (i = at->i0; !is_whole && i < at->i1; i++) {
        delta[i - at->i0] = ac_output_sum(at, d_out, out, i);
    }
    for (j0 = 0; j0 < stop; j0 += at->columns) {
        int32_t first = at->n * at->s + j0;
        int32_t n_keys;
        ac_set_keys(at, j0, stop);
        n_keys = at->j1 - j0;
        if (is_plain) {
            p = softmax + ac_query_row(at, at->i0) * at->s;
        } else {
            ac_probabilities_again(at, softmax, p);
        }
        ac_product(0, 1, n_rows, n_keys, at->dv, 1.0f, d_rows, v_width,
            at->v + ac_head_place(at, first, at->dv), v_width, 0.0f, slopes,
            at->columns);
        ac_score_slopes(at, p, slopes, delta, softmax, is_whole);
        ac_product(1, 0, n_keys, at->dv, n_rows, 1.0f, p, at->columns, d_rows, v_width,
            1.0f, d_v + j0 * at->dv, at->dv);
        ac_product(1, 0, n_keys, at->dk, n_rows, at->scale, slopes, at->columns,
            queries, k_width, 1.0f, d_k + j0 * at->dk, at->dk);
        ac_product(0, 0, n_rows, at->dk, n_keys, at->scale, slopes, at->columns,
            at->k + ac_head_place(at, first, at->dk), k_width, j0 > 0 ? 1.0f : 0.0f,
            d_q, at->dk);
    }
}

/* Put the derivatives of q, k and v of one sample where these were; the workspace is
 * that of the kernels. */
static void ac_sample_backward(ac_attention *at, float *q, float *k, float *v,
    const float *out, float *softmax, int32_t is_plain, const float *d_output,
    const float *weight, int32_t units, float *work)
{
    int32_t width = at->heads * at->dv;
    float *d_k = work + at->t * width;
    float *d_v = d_k + at->s * at->dk;
    float *d_q = d_v + at->s * at->dv;
    int32_t i0;
    ac_product(0, 1, at->t, width, units, 1.0f, d_output + at->n * at->t * units, units,
        weight, units, 0.0f, work, width);
    for (at->h = 0; at->h < at->heads; at->h++) {
        ac_zero_row(d_k, at->s * at->dk);
        ac_zero_row(d_v, at->s * at->dv);
        for (i0 = 0; i0 < at->t; i0 += at->rows) {
            at->i0 = i0;
            ac_row_of_tiles(at, work, out, softmax, is_plain, d_k, d_v, d_q);
            ac_put_rows(at, d_q, q, at->n * at->t + i0, at->i1 - i0, at->dk);
        }
        ac_put_rows(at, d_k, k, at->n * at->s, at->s, at->dk);
        ac_put_rows(at, d_v, v, at->n * at->s, at->s, at->dv);
    }
}

/* kernel attention.tiled_backward(q, k, v, mask, out, out.size, lse, d_output, weight,
 *     weight.size, work, control, key, rate, heads, t, s, dk, dv, mask_heads, causal,
 *     rows, columns)
 * Put the derivatives of q, k and v where these were. d_output is the derivative of
 * out @ weight; work is a workspace. */
void ac_attention_tiled_backward(float *q, float *k, float *v, const float *mask,
    const float *out, int32_t n_out, float *lse, const float *d_output,
    const float *weight, int32_t n_weight, float *work, const double *control,
    uint64_t key, double rate, int32_t heads, int32_t t, int32_t s, int32_t dk,
    int32_t dv, int32_t mask_heads, int32_t causal, int32_t rows, int32_t columns)
{
    ac_attention at;
    ac_set_sizes(&at, heads, t, s, dk, dv);
    ac_set_tiles(&at, mask_heads, causal, rows, columns);
    ac_set_operands(&at, q, k, v, mask);
    ac_set_drops(&at.drops, rate);
    for (at.n = 0; at.n < n_out / (t * heads * dv); at.n++) {
        ac_set_sample(&at.drops, key, control, at.n);
        ac_sample_backward(&at, q, k, v, out, lse, 0, d_output, weight,
            n_weight / (heads * dv), work);
    }
}

/* kernel attention.plain_backward(q, k, v, out, out.size, probabilities, d_output,
 *     weight, weight.size, work, control, key, rate, heads, t, s, dk, dv, causal, rows)
 * The same after the plain forward pass; uses up the probabilities. */
void ac_attention_plain_backward(float *q, float *k, float *v, const float *out,
    int32_t n_out, float *probabilities, const float *d_output, const float *weight,
    int32_t n_weight, float *work, const double *control, uint64_t key, double rate,
    int32_t heads, int32_t t, int32_t s, int32_t dk, int32_t dv, int32_t causal,
    int32_t rows)
{
    ac_attention at;
    ac_set_sizes(&at, heads, t, s, dk, dv);
    ac_set_tiles(&at, 0, causal, rows, s);
    ac_set_operands(&at, q, k, v, out);
    ac_set_drops(&at.drops, rate);
    for (at.n = 0; at.n < n_out / (t * heads * dv); at.n++) {
        ac_set_sample(&at.drops, key, control, at.n);
        ac_sample_backward(&at, q, k, v, out, probabilities, 1, d_output, weight,
            n_weight / (heads * dv), work);
    }
}
