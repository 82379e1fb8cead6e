/* What else transformers are made of, after arena_ckpt/kernels/tokens.py. */

/* The row that a number names, or -1 if there is none. */
static int32_t ac_row_of(float number, int32_t n_rows)
{
    if (number >= 0.0f && number < (float)n_rows) {
        int32_t row = (int32_t)number;
        return row < n_rows && (float)row == number ? row : -1;
    }
    return -1;
}

/* kernel tokens.embedding_forward(ids, ids.size, weight, weight.rows, y, y.columns,
    loss)
 * Row r of y is row ids[r] of the weight; if there is none, it and the loss are NaN. */
void ac_embedding_forward(const float *ids, int32_t n, const float *weight,
    int32_t n_rows, float *y, int32_t columns, double *loss)
{
    int32_t r, j;
    for (r = 0; r < n; r++) {
        int32_t row = ac_row_of(ids[r], n_rows);
        const float *source = weight + (row < 0 ? 0 : row) * columns;
        for (j = 0; j < columns; j++) {
            y[j] = row < 0 ? ac_of_bits(UINT32_C(0x7fc00000)) : source[j];
        }
        if (row < 0) {
            loss[0] = ac_double_of_bits(UINT64_C(0x7ff8000000000000));
        }
        y += columns;
    }
}

/* kernel tokens.embedding_gradient(ids, ids.size, dy, beta, d_weight, d_weight.rows,
    d_weight.columns)
 * Add row r of dy to row ids[r], in order; `beta` 0 starts from zeros. */
void ac_embedding_gradient(const float *ids, int32_t n, const float *dy, float beta,
    float *d_weight, int32_t n_rows, int32_t columns)
{
    int32_t r, j;
    for (j = 0; beta == 0.0f && j < n_rows * columns; j++) {
        d_weight[j] = 0.0f;
    }
    for (r = 0; r < n; r++) {
        int32_t row = ac_row_of(ids[r], n_rows);
        for (j = 0; row >= 0 && j < columns; j++) {
            d_weight[row * columns + j] += dy[r * columns + j];
        }
    }
}

/* kernel tokens.add_positions(x, x.size, y, work, t, d)
 * y = x + sin(i w) in even columns, cos(i w) in odd ones, for position i of t and
 * w = 10000**(-2 c / d); sines are turned from one position to the next, in `work`.
 * y may be x. */
void ac_add_positions(const float *x, int32_t n_x, float *y, double *work,
    int32_t t, int32_t d)
{
    int32_t half = (d + 1) / 2;
    double *sines = work, *cosines = work + half;
    double *turn_sines = work + 2 * half, *turn_cosines = work + 3 * half;
    int32_t i, first, c;
    for (c = 0; c < half; c++) {
        double w = ac_power(10000.0, -2.0 * (double)c / (double)d);
        sines[c] = 0.0;
        cosines[c] = 1.0;
        turn_sines[c] = ac_sine(w);
        turn_cosines[c] = ac_cosine(w);
    }
    for (i = 0; i < t; i++) {
        for (first = i * d; first < n_x; first += t * d) {
            for (c = 0; c < d; c++) {
                double wave = c % 2 == 0 ? sines[c / 2] : cosines[c / 2];
                y[first + c] = x[first + c] + (float)wave;
            }
        }
        for (c = 0; c < half; c++) {
            double sine = sines[c], cosine = cosines[c];
            sines[c] = sine * turn_cosines[c] + cosine * turn_sines[c];
            cosines[c] = cosine * turn_cosines[c] - sine * turn_sines[c];
        }
    }
}

/* kernel tokens.dropout(x, x.size, y, control, key, rate, size)
 * y = x / (1 - rate), or 0 with probability `rate`, forward and backward alike;
 * control is the iteration and the first sample; y may be x. */
void ac_dropout(const float *x, int32_t n_x, float *y, const double *control,
    uint64_t key, double rate, int32_t size)
{
    uint32_t threshold = ac_drop_threshold(rate);
    float scale = (float)(1.0 / (1.0 - rate));
    uint64_t iteration = (uint64_t)(int64_t)control[0];
    uint64_t sample = (uint64_t)(int64_t)control[1];
    int32_t at, j;
    for (at = 0; at < n_x; at += size) {
        uint64_t bits = ac_row_key(ac_sample_key(key, iteration, sample), 0);
        for (j = 0; j < size; j++) {
            y[at + j] = x[at + j] * ac_keep(bits, (uint32_t)j, threshold, scale);
        }
        sample++;
    }
}

/* kernel tokens.drop_path(x, x.size, y, control, key, rate, size)
 * y = x / (1 - rate), or 0 for a whole sample with probability `rate`, forward and
 * backward alike; control is the iteration and the first sample; y may be x. */
void ac_drop_path(const float *x, int32_t n_x, float *y, const double *control,
    uint64_t key, double rate, int32_t size)
{
    uint32_t threshold = ac_drop_threshold(rate);
    float scale = (float)(1.0 / (1.0 - rate));
    uint64_t iteration = (uint64_t)(int64_t)control[0];
    uint64_t sample = (uint64_t)(int64_t)control[1];
    int32_t at, j;
    for (at = 0; at < n_x; at += size) {
        uint64_t bits = ac_row_key(ac_sample_key(key, iteration, sample), 0);
        float factor = ac_keep(bits, 0, threshold, scale);
        for (j = 0; j < size; j++) {
            y[at + j] = x[at + j] * factor;
        }
        sample++;
    }
}

/* swish(a) = a * sigmoid(a), and its derivative in slope[0]. */
AC_INLINE float ac_swish_and_slope(float a, float *slope)
{
    float x = a < -80.0f ? -80.0f : a;
    float e, s;
    x = x > 80.0f ? 80.0f : x;
    e = ac_exp(-x);
    s = 1.0f / (1.0f + e);
    slope[0] = s * (1.0f + x * (e * s));
    return a * s;
}

/* kernel tokens.swiglu_forward(a, b, y, y.size)
 * y = swish(a) * b; y may be a or b. */
void ac_swiglu_forward(const float *a, const float *b, float *y, int32_t n)
{
    int32_t i;
    float slope;
    for (i = 0; i < n; i++) {
        y[i] = ac_swish_and_slope(a[i], &slope) * b[i];
    }
}

/* kernel tokens.swiglu_gate_derivative(a, b, dy, da, da.size)
 * da = dy * b * swish'(a); da may be any of the others. */
void ac_swiglu_gate_derivative(const float *a, const float *b, const float *dy,
    float *da, int32_t n)
{
    int32_t i;
    float slope;
    for (i = 0; i < n; i++) {
        ac_swish_and_slope(a[i], &slope);
        da[i] = dy[i] * b[i] * slope;
    }
}

/* kernel tokens.swiglu_value_derivative(a, dy, db, db.size)
 * db = dy * swish(a); db may be any of the others. */
void ac_swiglu_value_derivative(const float *a, const float *dy, float *db, int32_t n)
{
    int32_t i;
    float slope;
    for (i = 0; i < n; i++) {
        db[i] = dy[i] * ac_swish_and_slope(a[i], &slope);
    }
}

/* kernel tokens.swiglu_derivatives(a, b, dy, da, db, da.size)
 * Both derivatives; da and db may each be any one of the others. */
void ac_swiglu_derivatives(const float *a, const float *b, const float *dy,
    float *da, float *db, int32_t n)
{
    int32_t i;
    float slope;
    for (i = 0; i < n; i++) {
        float swish = ac_swish_and_slope(a[i], &slope);
        float gate = dy[i] * b[i] * slope, value = dy[i] * swish;
        da[i] = gate;
        db[i] = value;
    }
}
