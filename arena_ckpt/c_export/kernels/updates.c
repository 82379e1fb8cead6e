/* Updates of optimizers: one pass over weights, gradients and state.
 *
 * The gradient is gradient * hyper[1] + decay * w. What a loop needs of hyper is
 * computed in double and rounded once. Weights and states that an update writes are
 * normal numbers or 0. */

/* kernel updates.sgd(weight, gradient, decay, hyper, weight.size)
 * w -= learning_rate * g; hyper = learning_rate, gradient_scale. */
void ac_sgd(float *weight, const float *gradient, float decay, const double *hyper,
    int32_t n)
{
    float rate = (float)hyper[0];
    float scale = (float)hyper[1];
    int32_t i;
    for (i = 0; i < n; i++) {
        float w = weight[i];
        float g = gradient[i] * scale + decay * w;
        weight[i] = ac_zero_if_subnormal(w - rate * g);
    }
}

/* kernel updates.sgd_momentum(weight, gradient, velocity, decay, hyper, weight.size)
 * v = momentum * v + g; w -= learning_rate * v;
 * hyper = learning_rate, gradient_scale, momentum. */
void ac_sgd_momentum(float *weight, const float *gradient, float *velocity,
    float decay, const double *hyper, int32_t n)
{
    float rate = (float)hyper[0];
    float scale = (float)hyper[1];
    float momentum = (float)hyper[2];
    int32_t i;
    for (i = 0; i < n; i++) {
        float w = weight[i];
        float g = gradient[i] * scale + decay * w;
        float v = ac_zero_if_subnormal(momentum * velocity[i] + g);
        velocity[i] = v;
        weight[i] = ac_zero_if_subnormal(w - rate * v);
    }
}

/* kernel updates.sgd_nesterov(weight, gradient, velocity, decay, hyper, weight.size)
 * v = momentum * v + g; w -= learning_rate * (g + momentum * v);
 * hyper = learning_rate, gradient_scale, momentum. */
void ac_sgd_nesterov(float *weight, const float *gradient, float *velocity,
    float decay, const double *hyper, int32_t n)
{
    float rate = (float)hyper[0];
    float scale = (float)hyper[1];
    float momentum = (float)hyper[2];
    int32_t i;
    for (i = 0; i < n; i++) {
        float w = weight[i];
        float g = gradient[i] * scale + decay * w;
        float v = ac_zero_if_subnormal(momentum * velocity[i] + g);
        velocity[i] = v;
        weight[i] = ac_zero_if_subnormal(w - rate * (g + momentum * v));
    }
}

/* One step of Adam after w *= shrink. */
static void ac_adam_step(float *weight, const float *gradient, float *first,
    float *second, float decay, const double *hyper, float shrink, int32_t n)
{
    float scale = (float)hyper[1];
    float beta1 = (float)hyper[2];
    float beta2 = (float)hyper[3];
    float rest1 = (float)(1.0 - hyper[2]);
    float rest2 = (float)(1.0 - hyper[3]);
    float epsilon = (float)hyper[4];
    float rate = (float)(hyper[0] / hyper[5]);
    float root = (float)(1.0 / ac_double_sqrt(hyper[6]));
    int32_t i;
    for (i = 0; i < n; i++) {
        float w = weight[i] * shrink;
        float g = gradient[i] * scale + decay * w;
        float m = ac_zero_if_subnormal(beta1 * first[i] + rest1 * g);
        float v = ac_zero_if_subnormal(beta2 * second[i] + rest2 * (g * g));
        first[i] = m;
        second[i] = v;
        w = w - rate * m / (ac_sqrt(v) * root + epsilon);
        weight[i] = ac_zero_if_subnormal(w);
    }
}

/* kernel updates.adam(weight, gradient, first_moment, second_moment, decay, hyper,
 *     weight.size)
 * One step of Adam; hyper = learning_rate, gradient_scale, beta1, beta2, epsilon,
 * 1 - beta1**t, 1 - beta2**t (Kingma and Ba, 2015). */
void ac_adam(float *weight, const float *gradient, float *first_moment,
    float *second_moment, float decay, const double *hyper, int32_t n)
{
    ac_adam_step(weight, gradient, first_moment, second_moment, decay, hyper, 1.0f, n);
}

/* kernel updates.adamw(weight, gradient, first_moment, second_moment, decay, hyper,
 *     weight.size)
 * One step of Adam after w *= 1 - learning_rate * weight_decay, which stands in
 * hyper[7] (Loshchilov and Hutter, 2019). */
void ac_adamw(float *weight, const float *gradient, float *first_moment,
    float *second_moment, float decay, const double *hyper, int32_t n)
{
    float shrink = (float)(1.0 - hyper[0] * hyper[7]);
    ac_adam_step(weight, gradient, first_moment, second_moment, decay, hyper, shrink,
        n);
}
