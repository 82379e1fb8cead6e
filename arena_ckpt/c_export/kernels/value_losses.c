/* Losses of values that grow slower than a square, and their derivatives. */

/* kernel value_losses.mae_loss(prediction, label, scale, loss, prediction.size)
 * loss[0] += scale[0] * sum(|prediction - label|). */
void ac_mae_loss(const float *prediction, const float *label, const double *scale,
    double *loss, int32_t n)
{
    double lanes[AC_LANES];
    int32_t start, j;
    ac_clear(lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            double v = (double)prediction[start + j] - (double)label[start + j];
            lanes[j] += v < 0.0 ? -v : v;
        }
    }
    loss[0] += scale[0] * ac_total(lanes, n);
}

/* kernel value_losses.mae_derivative(prediction, label, scale, dx, dx.size)
 * dx = scale[0] * sign(prediction - label); dx may be prediction. */
void ac_mae_derivative(const float *prediction, const float *label,
    const double *scale, float *dx, int32_t n)
{
    float factor = (float)scale[0];
    int32_t i;
    for (i = 0; i < n; i++) {
        float difference = prediction[i] - label[i];
        if (difference > 0.0f) {
            dx[i] = factor;
        } else if (difference < 0.0f) {
            dx[i] = -factor;
        } else {
            dx[i] = difference - difference; /* 0, or NaN */
        }
    }
}

/* kernel value_losses.huber_loss(prediction, label, delta, scale, loss,
 *     prediction.size)
 * Half of the squared difference up to delta, from there on its tangent (Huber, 1964):
 * loss[0] += scale[0] * sum(inner * (distance - inner / 2)). */
void ac_huber_loss(const float *prediction, const float *label, float delta,
    const double *scale, double *loss, int32_t n)
{
    double lanes[AC_LANES];
    double limit = (double)delta;
    int32_t start, j;
    ac_clear(lanes);
    for (start = 0; start < n; start += AC_LANES) {
        int32_t width = ac_width(n, start);
        for (j = 0; j < width; j++) {
            double v = (double)prediction[start + j] - (double)label[start + j];
            double distance = v < 0.0 ? -v : v;
            double inner = distance < limit ? distance : limit;
            lanes[j] += inner * (distance - 0.5 * inner);
        }
    }
    loss[0] += scale[0] * ac_total(lanes, n);
}

/* kernel value_losses.huber_derivative(prediction, label, delta, scale, dx, dx.size)
 * dx = scale[0] * clip(prediction - label, -delta, delta); dx may be prediction. */
void ac_huber_derivative(const float *prediction, const float *label, float delta,
    const double *scale, float *dx, int32_t n)
{
    float factor = (float)scale[0];
    int32_t i;
    for (i = 0; i < n; i++) {
        float difference = prediction[i] - label[i];
        float above = difference < -delta ? -delta : difference;
        dx[i] = factor * (above > delta ? delta : above);
    }
}
