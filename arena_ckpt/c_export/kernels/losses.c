/* Losses, each of which adds its sum times scale[0] to loss[0], and derivatives. */

/* kernel losses.mse_loss(prediction, label, scale, loss, prediction.size)
 * loss[0] += scale[0] * sum((prediction - label)**2). */
void ac_mse_loss(const float *prediction, const float *label, const double *scale,
    double *loss, int32_t n)
{
    double lanes[AC_LANES];
    int32_t start, j;
    ac_clear(lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            double v = (double)prediction[start + j] - (double)label[start + j];
            lanes[j] += v * v;
        }
    }
    loss[0] += scale[0] * ac_total(lanes, n);
}

/* kernel losses.mse_derivative(prediction, label, scale, dx, dx.size)
 * dx = 2 * scale[0] * (prediction - label); dx may be prediction. */
void ac_mse_derivative(const float *prediction, const float *label,
    const double *scale, float *dx, int32_t n)
{
    float factor = (float)(2.0 * scale[0]);
    int32_t i;
    for (i = 0; i < n; i++) {
        dx[i] = factor * (prediction[i] - label[i]);
    }
}

/* probabilities = exp(logits - most), which may be the logits; returns their sum. */
static double ac_exponentials(const float *logits, float most, float *probabilities,
    int32_t n)
{
    int32_t c;
    for (c = 0; c < n; c++) {
        probabilities[c] = ac_exp(logits[c] - most);
    }
    return ac_sum(probabilities, n);
}

/* x *= factor. */
static void ac_scale(float *x, float factor, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        x[i] *= factor;
    }
}

/* kernel losses.cross_softmax_loss(logits, label, probabilities, scale, loss,
 *     logits.rows, logits.columns)
 * Cross entropy of softmax(logits) in rows; keeps the probabilities.
 *
 * loss[0] += scale[0] * sum(label * (logsumexp(row) - logits)); probabilities may be
 * logits. */
void ac_cross_softmax_loss(const float *logits, const float *label,
    float *probabilities, const double *scale, double *loss,
    int32_t rows, int32_t columns)
{
    double lanes[AC_LANES];
    double total = 0.0;
    int32_t r, j, start;
    if (columns == 0) {
        rows = 0;
    }
    for (r = 0; r < rows; r++) {
        float most = ac_most_of(logits, columns);
        double exponentials;
        /* The loss is read off before the probabilities may overwrite the logits. */
        ac_clear(lanes);
        for (start = 0; start < columns; start += AC_LANES) {
            int32_t width = ac_width(columns, start);
            for (j = 0; j < width; j++) {
                double below = (double)most - (double)logits[start + j];
                lanes[j] += (double)label[start + j] * below;
            }
        }
        total += ac_total(lanes, columns);
        exponentials = ac_exponentials(logits, most, probabilities, columns);
        total += ac_sum(label, columns) * ac_log(exponentials);
        ac_scale(probabilities, (float)(1.0 / exponentials), columns);
        logits += columns;
        label += columns;
        probabilities += columns;
    }
    loss[0] += scale[0] * total;
}

/* kernel losses.cross_softmax_derivative(probabilities, label, scale, dx,
 *     label.rows, label.columns)
 * dx = scale[0] * (probabilities * sum(label row) - label); dx may be probabilities. */
void ac_cross_softmax_derivative(const float *probabilities, const float *label,
    const double *scale, float *dx, int32_t rows, int32_t columns)
{
    float factor = (float)scale[0];
    int32_t r, c;
    for (r = 0; r < rows; r++) {
        float labels = (float)ac_sum(label, columns);
        for (c = 0; c < columns; c++) {
            dx[c] = factor * (probabilities[c] * labels - label[c]);
        }
        probabilities += columns;
        label += columns;
        dx += columns;
    }
}

/* kernel losses.cross_sigmoid_loss(logits, label, probabilities, scale, loss,
 *     logits.size)
 * Binary cross entropy of sigmoid(logits); keeps the probabilities.
 *
 * loss[0] += scale[0] * sum(log(1 + exp(logits)) - label * logits); probabilities may
 * be logits. */
void ac_cross_sigmoid_loss(const float *logits, const float *label,
    float *probabilities, const double *scale, double *loss, int32_t n)
{
    double lanes[AC_LANES];
    int32_t start, j;
    ac_clear(lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            float x = logits[start + j];
            float positive = x < 0.0f ? 0.0f : x;
            float term = positive - x * label[start + j]
                + ac_log1p(ac_exp(-ac_abs(x)));
            lanes[j] += (double)term;
            probabilities[start + j] = 1.0f / (1.0f + ac_exp(-x));
        }
    }
    loss[0] += scale[0] * ac_total(lanes, n);
}

/* kernel losses.cross_sigmoid_derivative(probabilities, label, scale, dx, dx.size)
 * dx = scale[0] * (probabilities - label); dx may be probabilities. */
void ac_cross_sigmoid_derivative(const float *probabilities, const float *label,
    const double *scale, float *dx, int32_t n)
{
    float factor = (float)scale[0];
    int32_t i;
    for (i = 0; i < n; i++) {
        dx[i] = factor * (probabilities[i] - label[i]);
    }
}

/* kernel losses.kld_loss(q, p, scale, loss, p.size)
 * loss[0] += scale[0] * sum(p * log(p / q)); where p is 0, so is the term.
 *
 * Where p is above 0 and q is 0, the sum is infinite; where q is below, NaN. */
void ac_kld_loss(const float *q, const float *p, const double *scale, double *loss,
    int32_t n)
{
    double lanes[AC_LANES];
    int32_t start, j;
    ac_clear(lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            double truth = (double)p[start + j];
            double guess = (double)q[start + j];
            if (guess == 0.0 && truth > 0.0) {
                lanes[j] += ac_infinity();
            } else {
                double ratio = truth == 0.0 ? 1.0 : truth / guess;
                lanes[j] += truth * ac_log_fast(ratio);
            }
        }
    }
    loss[0] += scale[0] * ac_total(lanes, n);
}

/* kernel losses.kld_derivative(q, p, scale, dq, dq.size)
 * dq = -scale[0] * p / q, 0 where p is; dq may be q. */
void ac_kld_derivative(const float *q, const float *p, const double *scale, float *dq,
    int32_t n)
{
    float factor = (float)-scale[0];
    int32_t i;
    for (i = 0; i < n; i++) {
        dq[i] = factor * (p[i] == 0.0f ? 0.0f : p[i] / q[i]);
    }
}

/* The class number that a label is, or -1 if it is to be ignored or none of n. */
static int32_t ac_class(float label, float ignored, int32_t n)
{
    if (label == ignored || !(0.0f <= label && label < (float)n)) {
        return -1;
    }
    return (int32_t)label;
}

/* kernel losses.class_softmax_loss(logits, label, ignored, probabilities, scale, loss,
 *     logits.rows, logits.columns)
 * Cross entropy of softmax(logits) with one class number a row.
 *
 * loss[0] += scale[0] * sum(logsumexp(row) - row[label]) over the rows whose label is
 * not to be ignored; keeps the probabilities of all rows, which may be logits. */
void ac_class_softmax_loss(const float *logits, const float *label, float ignored,
    float *probabilities, const double *scale, double *loss,
    int32_t rows, int32_t columns)
{
    double total = 0.0;
    int32_t r;
    if (columns == 0) {
        rows = 0;
    }
    for (r = 0; r < rows; r++) {
        float most = ac_most_of(logits, columns);
        int32_t column = ac_class(label[r], ignored, columns);
        float chosen = logits[column < 0 ? 0 : column];
        double sum = ac_exponentials(logits, most, probabilities, columns);
        if (column >= 0) {
            total += (double)most - (double)chosen + ac_log(sum);
        }
        ac_scale(probabilities, (float)(1.0 / sum), columns);
        logits += columns;
        probabilities += columns;
    }
    loss[0] += scale[0] * total;
}

/* kernel losses.class_softmax_derivative(probabilities, label, ignored, scale, dx,
 *     dx.rows, dx.columns)
 * dx = scale[0] * (probabilities - one_hot(label)), 0 in rows to be ignored; dx may be
 * probabilities. */
void ac_class_softmax_derivative(const float *probabilities, const float *label,
    float ignored, const double *scale, float *dx, int32_t rows, int32_t columns)
{
    float factor = (float)scale[0];
    int32_t r, c;
    for (r = 0; r < rows; r++) {
        int32_t column = ac_class(label[r], ignored, columns);
        if (column < 0) {
            for (c = 0; c < columns; c++) {
                dx[c] = 0.0f;
            }
        } else {
            for (c = 0; c < columns; c++) {
                dx[c] = factor * probabilities[c];
            }
            dx[column] -= factor;
        }
        probabilities += columns;
        dx += columns;
    }
}
