/* Activation functions: one function for each and for its slope, the loops around
 * them, and softmax. The first argument of a slope is what the function saves, its
 * output or its input. */

/* Adding 0 makes +0 of -0, as in the other engines. */
static inline float ac_relu(float x)
{
    return (x < 0.0f ? 0.0f : x) + 0.0f;
}

static inline float ac_relu_slope(float y, float dy)
{
    return (y <= 0.0f ? 0.0f : dy) + 0.0f;
}

static inline float ac_leaky_relu(float x)
{
    return x * (x <= 0.0f ? 0.01f : 1.0f);
}

static inline float ac_leaky_relu_slope(float y, float dy)
{
    return dy * (y <= 0.0f ? 0.01f : 1.0f);
}

static inline float ac_sigmoid(float x)
{
    return 1.0f / (1.0f + ac_exp(-x));
}

static inline float ac_sigmoid_slope(float y, float dy)
{
    return dy * (1.0f - y) * y;
}

/* x, or the end of an interval that is beyond; NaN stays. */
AC_INLINE float ac_within(float least, float x, float most)
{
    x = x < least ? least : x;
    return x > most ? most : x;
}

static inline float ac_tanh(float x)
{
    float e;
    x = ac_within(-10.0f, x, 10.0f); /* it is 1 from there on */
    e = ac_expm1(x + x);
    return e / (e + 2.0f);
}

static inline float ac_tanh_slope(float y, float dy)
{
    return dy * (1.0f - y * y);
}

static inline float ac_gelu(float x)
{
    return x * ac_normal_cdf(x, ac_bell(x));
}

static inline float ac_gelu_slope(float x, float dy)
{
    float density;
    x = ac_within(-14.0f, x, 14.0f); /* the slope is 0 or 1 beyond */
    density = ac_bell(x);
    return dy * (ac_normal_cdf(x, density) + x * density * AC_INVERSE_SQRT_TWO_PI);
}

#define AC_TWO_SQRT_TWO_OVER_PI ((float)(2 * 0.7978845608028654))

/* (1 + tanh u) / 2 = sigmoid(2 u), without cancellation for u < 0. */
static inline float ac_tanh_gelu(float x)
{
    float u = AC_TWO_SQRT_TWO_OVER_PI * (x + 0.044715f * x * x * x);
    return x / (1.0f + ac_exp(-u));
}

static inline float ac_tanh_gelu_slope(float x, float dy)
{
    float square, e, s, du;
    x = ac_within(-9.5f, x, 9.5f);
    square = x * x;
    e = ac_exp(-AC_TWO_SQRT_TWO_OVER_PI * (x + 0.044715f * square * x));
    s = 1.0f / (1.0f + e);
    du = AC_TWO_SQRT_TWO_OVER_PI * (1.0f + (float)(3 * 0.044715) * square);
    return dy * (s * (1.0f + x * du * (e * s)));
}

static inline float ac_swish(float x)
{
    return x / (1.0f + ac_exp(-x));
}

static inline float ac_swish_slope(float x, float dy)
{
    float e, s;
    x = ac_within(-80.0f, x, 80.0f);
    e = ac_exp(-x);
    s = 1.0f / (1.0f + e);
    /* e * s = 1 - s, without cancellation */
    return dy * (s * (1.0f + x * (e * s)));
}

/* e**x - 1 where x is below 0, else 0. */
static inline float ac_negative_expm1(float x)
{
    x = x > 0.0f ? 0.0f : x;
    return ac_expm1(x < -25.0f ? -25.0f : x); /* it is -1 from there on */
}

static inline float ac_elu(float x)
{
    return (x < 0.0f ? 0.0f : x) + ac_negative_expm1(x);
}

static inline float ac_elu_slope(float y, float dy)
{
    return dy * (1.0f + (y > 0.0f ? 0.0f : y));
}

/* Klambauer et al., "Self-Normalizing Neural Networks", 2017. */
#define AC_SELU_SCALE 1.0507009873554805f
#define AC_SELU_SCALE_ALPHA ((float)(1.0507009873554805 * 1.6732632423543772))

static inline float ac_selu(float x)
{
    float positive = x < 0.0f ? 0.0f : x;
    return AC_SELU_SCALE * positive + AC_SELU_SCALE_ALPHA * ac_negative_expm1(x);
}

static inline float ac_selu_slope(float y, float dy)
{
    return dy * (y > 0.0f ? AC_SELU_SCALE : y + AC_SELU_SCALE_ALPHA);
}

static inline float ac_softplus(float x)
{
    return (x < 0.0f ? 0.0f : x) + ac_log1p(ac_exp(-ac_abs(x)));
}

static inline float ac_softplus_slope(float x, float dy)
{
    return dy / (1.0f + ac_exp(-x));
}

/* tanh(log(1 + e)) = w / (w + 2) for w = e (e + 2). */
static inline float ac_mish(float x)
{
    float e = ac_exp(x > 20.0f ? 20.0f : x);
    float w = e * (e + 2.0f);
    return x * (w / (w + 2.0f));
}

static inline float ac_mish_slope(float x, float dy)
{
    float e, w, inverse;
    x = ac_within(AC_EXP_LEAST, x, 20.0f);
    e = ac_exp(x);
    w = e * (e + 2.0f);
    inverse = 1.0f / (w + 2.0f);
    return dy * (inverse * (w + x * (4.0f * e * (e + 1.0f) * inverse)));
}

/* kernel activations.forward(x, y, x.size)
 * y = f(x); y may be x. */
void ac_@function@_forward(const float *x, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = ac_@function@(x[i]);
    }
}

/* kernel activations.backward(saved, dy, dx, dx.size)
 * dx = dy * f'; dx may be dy or saved. */
void ac_@function@_backward(const float *saved, const float *dy, float *dx, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        dx[i] = ac_@function@_slope(saved[i], dy[i]);
    }
}

/* kernel activations.bias_forward(x, bias, y, x.rows, x.columns)
 * y = f(x + bias); y may be x. */
void ac_@function@_bias_forward(const float *x, const float *bias, float *y,
    int32_t rows, int32_t columns)
{
    int32_t r, c;
    for (r = 0; r < rows; r++) {
        for (c = 0; c < columns; c++) {
            y[r * columns + c] = ac_@function@(x[r * columns + c] + bias[c]);
        }
    }
}

/* kernel activations.forward[softmax](x, y, x.rows, x.columns)
 * y = exp(x) / sum(exp(x)) in each row; y may be x. */
void ac_softmax_forward(const float *x, float *y, int32_t rows, int32_t columns)
{
    float lanes[AC_LANES];
    int32_t r, c, start;
    if (columns == 0) {
        return;
    }
    for (r = 0; r < rows; r++) {
        float most = ac_most_of(x, columns);
        float inverse;
        ac_clear_floats(lanes);
        for (start = 0; start < columns; start += AC_LANES) {
            int32_t width = ac_width(columns, start);
            for (c = 0; c < width; c++) {
                float value = ac_exp(x[start + c] - most);
                y[start + c] = value;
                lanes[c] += value;
            }
        }
        inverse = 1.0f / ac_float_total(lanes, columns);
        for (c = 0; c < columns; c++) {
            y[c] *= inverse;
        }
        x += columns;
        y += columns;
    }
}

/* kernel activations.backward[softmax](y, dy, dx, y.rows, y.columns)
 * dx = y * (dy - sum(y * dy)) in each row; dx may be dy or y. */
void ac_softmax_backward(const float *y, const float *dy, float *dx,
    int32_t rows, int32_t columns)
{
    float lanes[AC_LANES];
    int32_t r, c, start;
    for (r = 0; r < rows; r++) {
        float inner;
        ac_clear_floats(lanes);
        for (start = 0; start < columns; start += AC_LANES) {
            int32_t width = ac_width(columns, start);
            for (c = 0; c < width; c++) {
                lanes[c] += y[start + c] * dy[start + c];
            }
        }
        inner = ac_float_total(lanes, columns);
        for (c = 0; c < columns; c++) {
            dx[c] = y[c] * (dy[c] - inner);
        }
        y += columns;
        dy += columns;
        dx += columns;
    }
}
