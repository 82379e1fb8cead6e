/* Updates of centered RMSprop (Graves, 2013), as those of rmsprop.c. Where rounding makes
 * the mean of squares smaller than the square of the mean, the deviation is 0. */

/* kernel rmsprop_centered.centered(weight, gradient, square_mean, gradient_mean, decay,
 *     hyper, weight.size)
 * m = alpha * m + (1 - alpha) * g; w -= learning_rate * g / (sqrt(s - m**2) + epsilon);
 * hyper = learning_rate, gradient_scale, alpha, epsilon. */
void ac_centered(float *weight, const float *gradient, float *square_mean,
    float *gradient_mean, float decay, const double *hyper, int32_t n)
{
    float rate = (float)hyper[0];
    float scale = (float)hyper[1];
    float alpha = (float)hyper[2];
    float rest = (float)(1.0 - hyper[2]);
    float epsilon = (float)hyper[3];
    int32_t i;
    for (i = 0; i < n; i++) {
        float w = weight[i];
        float g = gradient[i] * scale + decay * w;
        float s = ac_zero_if_subnormal(alpha * square_mean[i] + rest * (g * g));
        float m = ac_zero_if_subnormal(alpha * gradient_mean[i] + rest * g);
        float variance = s - m * m;
        float deviation = ac_sqrt(variance < 0.0f ? 0.0f : variance);
        square_mean[i] = s;
        gradient_mean[i] = m;
        weight[i] = ac_zero_if_subnormal(w - rate * g / (deviation + epsilon));
    }
}

/* kernel rmsprop_centered.centered_momentum(weight, gradient, square_mean,
 *     gradient_mean, velocity, decay, hyper, weight.size)
 * v = momentum * v + g / (sqrt(s - m**2) + epsilon); w -= learning_rate * v;
 * hyper = learning_rate, gradient_scale, alpha, epsilon, momentum. */
void ac_centered_momentum(float *weight, const float *gradient, float *square_mean,
    float *gradient_mean, float *velocity, float decay, const double *hyper, int32_t n)
{
    float rate = (float)hyper[0];
    float scale = (float)hyper[1];
    float alpha = (float)hyper[2];
    float rest = (float)(1.0 - hyper[2]);
    float epsilon = (float)hyper[3];
    float momentum = (float)hyper[4];
    int32_t i;
    for (i = 0; i < n; i++) {
        float w = weight[i];
        float g = gradient[i] * scale + decay * w;
        float s = ac_zero_if_subnormal(alpha * square_mean[i] + rest * (g * g));
        float m = ac_zero_if_subnormal(alpha * gradient_mean[i] + rest * g);
        float variance = s - m * m;
        float deviation = ac_sqrt(variance < 0.0f ? 0.0f : variance);
        float v = ac_zero_if_subnormal(momentum * velocity[i] + g / (deviation + epsilon));
        square_mean[i] = s;
        gradient_mean[i] = m;
        velocity[i] = v;
        weight[i] = ac_zero_if_subnormal(w - rate * v);
    }
}
