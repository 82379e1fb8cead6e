/* Updates of RMSprop (Hinton, 2012), as those of updates.c. */

/* kernel rmsprop.rmsprop(weight, gradient, square_mean, decay, hyper, weight.size)
 * s = alpha * s + (1 - alpha) * g**2; w -= learning_rate * g / (sqrt(s) + epsilon);
 * hyper = learning_rate, gradient_scale, alpha, epsilon. */
void ac_rmsprop(float *weight, const float *gradient, float *square_mean, float decay,
    const double *hyper, int32_t n)
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
        square_mean[i] = s;
        weight[i] = ac_zero_if_subnormal(w - rate * g / (ac_sqrt(s) + epsilon));
    }
}

/* kernel rmsprop.rmsprop_momentum(weight, gradient, square_mean, velocity, decay, hyper,
 *     weight.size)
 * v = momentum * v + g / (sqrt(s) + epsilon); w -= learning_rate * v;
 * hyper = learning_rate, gradient_scale, alpha, epsilon, momentum. */
void ac_rmsprop_momentum(float *weight, const float *gradient, float *square_mean,
    float *velocity, float decay, const double *hyper, int32_t n)
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
        float step = g / (ac_sqrt(s) + epsilon);
        float v = ac_zero_if_subnormal(momentum * velocity[i] + step);
        square_mean[i] = s;
        velocity[i] = v;
        weight[i] = ac_zero_if_subnormal(w - rate * v);
    }
}
