/* Functions of every element that take two numbers, and learned slopes, after
 * arena_ckpt/kernels/curves.py. Functions without a use for the numbers ignore them. */

static inline float ac_curve_relu6(float x, float a, float b)
{
    (void)a;
    (void)b;
    x = x < 0.0f ? 0.0f : x;
    return (x > 6.0f ? 6.0f : x) + 0.0f;
}

static inline float ac_curve_relu6_slope(float y, float dy, float a, float b)
{
    (void)a;
    (void)b;
    dy = y <= 0.0f ? 0.0f : dy;
    return (y >= 6.0f ? 0.0f : dy) + 0.0f;
}

static inline float ac_curve_clamp(float x, float least, float most)
{
    x = x < least ? least : x;
    return (x > most ? most : x) + 0.0f;
}

static inline float ac_curve_clamp_slope(float x, float dy, float least, float most)
{
    dy = x < least ? 0.0f : dy;
    return (x > most ? 0.0f : dy) + 0.0f;
}

static inline float ac_curve_hard_sigmoid(float x, float a, float b)
{
    (void)a;
    (void)b;
    x = x + 3.0f;
    x = x < 0.0f ? 0.0f : x;
    return (x > 6.0f ? 6.0f : x) / 6.0f;
}

static inline float ac_curve_hard_sigmoid_slope(float y, float dy, float a, float b)
{
    (void)a;
    (void)b;
    dy = y <= 0.0f ? 0.0f : dy * (float)(1.0 / 6);
    return (y >= 1.0f ? 0.0f : dy) + 0.0f;
}

static inline float ac_curve_hard_swish(float x, float a, float b)
{
    float t = x + 3.0f;
    (void)a;
    (void)b;
    t = t < 0.0f ? 0.0f : t;
    t = t > 6.0f ? 6.0f : t;
    return x * t / 6.0f;
}

static inline float ac_curve_hard_swish_slope(float x, float dy, float a, float b)
{
    float slope = x * (float)(1.0 / 3) + 0.5f;
    (void)a;
    (void)b;
    slope = x <= -3.0f ? 0.0f : slope;
    return dy * (x >= 3.0f ? 1.0f : slope);
}

static inline float ac_curve_exp(float x, float a, float b)
{
    (void)a;
    (void)b;
    return ac_exp(x);
}

static inline float ac_curve_exp_slope(float y, float dy, float a, float b)
{
    (void)a;
    (void)b;
    return dy * y;
}

static inline float ac_curve_log(float x, float a, float b)
{
    float y = (float)ac_log_fast((double)x);
    (void)a;
    (void)b;
    y = x == 0.0f ? -(float)ac_infinity() : y;
    return x > FLT_MAX ? x : y;
}

static inline float ac_curve_log_slope(float x, float dy, float a, float b)
{
    (void)a;
    (void)b;
    return dy / x;
}

static inline float ac_curve_abs(float x, float a, float b)
{
    (void)a;
    (void)b;
    return ac_abs(x);
}

static inline float ac_curve_abs_slope(float x, float dy, float a, float b)
{
    float sign = x > 0.0f ? 1.0f : 0.0f;
    (void)a;
    (void)b;
    return dy * (x < 0.0f ? -1.0f : sign);
}

static inline float ac_curve_sigmoid_gelu(float x, float a, float b)
{
    (void)a;
    (void)b;
    return x / (1.0f + ac_exp(-(1.702f * x)));
}

static inline float ac_curve_sigmoid_gelu_slope(float x, float dy, float a, float b)
{
    float u = 1.702f * x;
    float e, s;
    (void)a;
    (void)b;
    u = u < -80.0f ? -80.0f : u;
    u = u > 80.0f ? 80.0f : u;
    e = ac_exp(-u);
    s = 1.0f / (1.0f + e);
    /* e * s = 1 - s, without cancellation */
    return dy * (s * (1.0f + u * (e * s)));
}

static inline float ac_curve_sin(float x, float a, float b)
{
    (void)a;
    (void)b;
    return (float)ac_sine((double)x);
}

static inline float ac_curve_sin_slope(float x, float dy, float a, float b)
{
    (void)a;
    (void)b;
    return dy * (float)ac_cosine((double)x);
}

static inline float ac_curve_cos(float x, float a, float b)
{
    (void)a;
    (void)b;
    return (float)ac_cosine((double)x);
}

static inline float ac_curve_cos_slope(float x, float dy, float a, float b)
{
    (void)a;
    (void)b;
    return -(dy * (float)ac_sine((double)x));
}

static inline float ac_curve_tan(float x, float a, float b)
{
    double angle = (double)x;
    (void)a;
    (void)b;
    return (float)(ac_sine(angle) / ac_cosine(angle));
}

static inline float ac_curve_tan_slope(float y, float dy, float a, float b)
{
    (void)a;
    (void)b;
    return dy * (1.0f + y * y);
}

static inline float ac_curve_leaky_relu(float x, float slope, float b)
{
    (void)b;
    return x * (x <= 0.0f ? slope : 1.0f);
}

static inline float ac_curve_leaky_relu_slope(float y, float dy, float slope, float b)
{
    (void)b;
    return dy * (y <= 0.0f ? slope : 1.0f);
}

static inline float ac_curve_elu(float x, float alpha, float b)
{
    float negative = x > 0.0f ? 0.0f : x;
    (void)b;
    negative = negative < -25.0f ? -25.0f : negative; /* expm1 is -1 from there on */
    return (x < 0.0f ? 0.0f : x) + alpha * ac_expm1(negative);
}

static inline float ac_curve_elu_slope(float y, float dy, float alpha, float b)
{
    (void)b;
    return dy * (y > 0.0f ? 1.0f : y + alpha);
}

/* kernel curves.forward(x, a, b, y, x.size)
 * y = f(x), made by the numbers a and b; y may be x. */
void ac_curve_@function@_forward(const float *x, float a, float b, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = ac_curve_@function@(x[i], a, b);
    }
}

/* kernel curves.backward(saved, a, b, dy, dx, dx.size)
 * dx = dy * f'; dx may be dy or saved. */
void ac_curve_@function@_backward(const float *saved, float a, float b,
    const float *dy, float *dx, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        dx[i] = ac_curve_@function@_slope(saved[i], dy[i], a, b);
    }
}

/* kernel curves.affine(x, factor, term, y, y.size)
 * y = factor * x + term; y may be x. */
void ac_affine(const float *x, float factor, float term, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = factor * x[i] + term;
    }
}

/* kernel curves.prelu_forward(x, x.size, slopes, slopes.size, y, size)
 * y = x, or x times the slope of its channel where x <= 0; y may be x. */
void ac_prelu_forward(const float *x, int32_t n, const float *slopes,
    int32_t channels, float *y, int32_t size)
{
    int32_t at, i, c = 0;
    for (at = 0; at < n; at += size) {
        float slope = slopes[c];
        for (i = at; i < at + size; i++) {
            y[i] = x[i] * (x[i] <= 0.0f ? slope : 1.0f);
        }
        c = c + 1 < channels ? c + 1 : 0;
    }
}

/* kernel curves.prelu_derivative(x, x.size, slopes, slopes.size, dy, dx, size)
 * dx = dy, or dy times the slope where x <= 0; dx may be dy or x. */
void ac_prelu_derivative(const float *x, int32_t n, const float *slopes,
    int32_t channels, const float *dy, float *dx, int32_t size)
{
    int32_t at, i, c = 0;
    for (at = 0; at < n; at += size) {
        float slope = slopes[c];
        for (i = at; i < at + size; i++) {
            dx[i] = dy[i] * (x[i] <= 0.0f ? slope : 1.0f);
        }
        c = c + 1 < channels ? c + 1 : 0;
    }
}

/* kernel curves.prelu_gradient(x, x.size, dy, beta, d_slopes, d_slopes.size, size)
 * Sum dy * x where x <= 0, for each channel; `beta` 0 writes, 1 adds. */
void ac_prelu_gradient(const float *x, int32_t n, const float *dy, float beta,
    float *d_slopes, int32_t channels, int32_t size)
{
    double lanes[AC_LANES];
    int32_t c, at, start, j;
    for (c = 0; c < channels; c++) {
        double before = beta == 0.0f ? 0.0 : (double)d_slopes[c];
        ac_clear(lanes);
        for (at = c * size; at < n; at += channels * size) {
            for (start = at; start < at + size; start += AC_LANES) {
                int32_t width = ac_width(at + size, start);
                for (j = 0; j < width; j++) {
                    float product = dy[start + j] * x[start + j];
                    lanes[j] += (double)(x[start + j] <= 0.0f ? product : 0.0f);
                }
            }
        }
        d_slopes[c] = (float)(ac_total(lanes, size) + before);
    }
}
