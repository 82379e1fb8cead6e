/* Convolutions that need no workspace, after arena_ckpt/kernels/direct.py. */

/* kernel direct.conv_forward(x, weight, bias, has_bias, y,
    n, channels, height, width, filters, kernel_height, kernel_width,
    stride_height, stride_width, dilation_height, dilation_width, top, left,
    out_height, out_width)
 * y = the convolution of x. */

void ac_conv_forward(const float *x, const float *weight, const float *bias,
    int32_t has_bias, float *y,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    int32_t s, f, r, c, k, i, j;
    for (s = 0; s < n; s++) for (f = 0; f < filters; f++)
    for (r = 0; r < out_height; r++) for (c = 0; c < out_width; c++) {
        float acc = has_bias ? bias[f] : 0.0f;
        for (k = 0; k < channels; k++)
        for (i = 0; i < kernel_height; i++) for (j = 0; j < kernel_width; j++) {
            int32_t row = r * stride_height + i * dilation_height - top;
            int32_t column = c * stride_width + j * dilation_width - left;
            int32_t inside = row >= 0 && row < height && column >= 0 && column < width;
            float v = inside ? x[((s * channels + k) * height + row) * width + column] : 0.0f;
            acc = ac_fma(weight[((f * channels + k) * kernel_height + i) * kernel_width + j], v, acc);
        }
        y[((s * filters + f) * out_height + r) * out_width + c] = acc;
    }
}

/* kernel direct.conv_derivative(dy, weight, bias, has_bias, dx,
    n, channels, height, width, filters, kernel_height, kernel_width,
    stride_height, stride_width, dilation_height, dilation_width, top, left,
    out_height, out_width)
 * dx = the derivative of the input. */

void ac_conv_derivative(const float *dy, const float *weight, const float *bias,
    int32_t has_bias, float *dx,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    int32_t s, f, u, v, k, i, j;
    for (s = 0; s < n; s++) for (k = 0; k < channels; k++)
    for (u = 0; u < height; u++) for (v = 0; v < width; v++) {
        float acc = has_bias ? bias[k] : 0.0f;
        for (f = 0; f < filters; f++)
        for (i = kernel_height - 1; i >= 0; i--) for (j = kernel_width - 1; j >= 0; j--) {
            int32_t a = u + top - i * dilation_height;
            int32_t b = v + left - j * dilation_width;
            int32_t inside;
            float value;
            if (a % stride_height != 0 || b % stride_width != 0) {
                continue;
            }
            inside = a >= 0 && b >= 0 && a / stride_height < out_height && b / stride_width < out_width;
            value = inside ? dy[((s * filters + f) * out_height + a / stride_height) * out_width + b / stride_width] : 0.0f;
            acc = ac_fma(weight[((f * channels + k) * kernel_height + i) * kernel_width + j], value, acc);
        }
        dx[((s * channels + k) * height + u) * width + v] = acc;
    }
}

/* kernel direct.conv_gradient(x, dy, beta, dw,
    n, channels, height, width, filters, kernel_height, kernel_width,
    stride_height, stride_width, dilation_height, dilation_width, top, left,
    out_height, out_width)
 * dw = the gradient of the weight, + dw where beta is 1. */

void ac_conv_gradient(const float *x, const float *dy, float beta, float *dw,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    int32_t s, f, r, c, k, i, j;
    for (f = 0; f < filters; f++)
    for (k = 0; k < channels; k++)
    for (i = 0; i < kernel_height; i++) for (j = 0; j < kernel_width; j++) {
        float *to = dw + ((f * channels + k) * kernel_height + i) * kernel_width + j;
        float acc = beta == 0.0f ? 0.0f : *to;
        for (s = 0; s < n; s++) for (r = 0; r < out_height; r++) for (c = 0; c < out_width; c++) {
            int32_t row = r * stride_height + i * dilation_height - top;
            int32_t column = c * stride_width + j * dilation_width - left;
            int32_t inside = row >= 0 && row < height && column >= 0 && column < width;
            float v = inside ? x[((s * channels + k) * height + row) * width + column] : 0.0f;
            acc = ac_fma(dy[((s * filters + f) * out_height + r) * out_width + c], v, acc);
        }
        *to = acc;
    }
}

/* kernel direct.depthwise_forward(x, weight, bias, has_bias, y,
    n, channels, height, width, filters, kernel_height, kernel_width,
    stride_height, stride_width, dilation_height, dilation_width, top, left,
    out_height, out_width)
 * y = the convolution of x. */

void ac_depthwise_forward(const float *x, const float *weight, const float *bias,
    int32_t has_bias, float *y,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    int32_t s, f, r, c, k, i, j;
    for (s = 0; s < n; s++) for (f = 0; f < filters; f++)
    for (r = 0; r < out_height; r++) for (c = 0; c < out_width; c++) {
        float acc = has_bias ? bias[f] : 0.0f;
        for (k = f / (filters / channels); k < f / (filters / channels) + 1; k++)
        for (i = 0; i < kernel_height; i++) for (j = 0; j < kernel_width; j++) {
            int32_t row = r * stride_height + i * dilation_height - top;
            int32_t column = c * stride_width + j * dilation_width - left;
            int32_t inside = row >= 0 && row < height && column >= 0 && column < width;
            float v = inside ? x[((s * channels + k) * height + row) * width + column] : 0.0f;
            acc = ac_fma(weight[(f * kernel_height + i) * kernel_width + j], v, acc);
        }
        y[((s * filters + f) * out_height + r) * out_width + c] = acc;
    }
}

/* kernel direct.depthwise_derivative(dy, weight, bias, has_bias, dx,
    n, channels, height, width, filters, kernel_height, kernel_width,
    stride_height, stride_width, dilation_height, dilation_width, top, left,
    out_height, out_width)
 * dx = the derivative of the input. */

void ac_depthwise_derivative(const float *dy, const float *weight, const float *bias,
    int32_t has_bias, float *dx,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    int32_t s, f, u, v, k, i, j;
    for (s = 0; s < n; s++) for (k = 0; k < channels; k++)
    for (u = 0; u < height; u++) for (v = 0; v < width; v++) {
        float acc = has_bias ? bias[k] : 0.0f;
        for (f = k * (filters / channels); f < (k + 1) * (filters / channels); f++)
        for (i = kernel_height - 1; i >= 0; i--) for (j = kernel_width - 1; j >= 0; j--) {
            int32_t a = u + top - i * dilation_height;
            int32_t b = v + left - j * dilation_width;
            int32_t inside;
            float value;
            if (a % stride_height != 0 || b % stride_width != 0) {
                continue;
            }
            inside = a >= 0 && b >= 0 && a / stride_height < out_height && b / stride_width < out_width;
            value = inside ? dy[((s * filters + f) * out_height + a / stride_height) * out_width + b / stride_width] : 0.0f;
            acc = ac_fma(weight[(f * kernel_height + i) * kernel_width + j], value, acc);
        }
        dx[((s * channels + k) * height + u) * width + v] = acc;
    }
}

/* kernel direct.depthwise_gradient(x, dy, beta, dw,
    n, channels, height, width, filters, kernel_height, kernel_width,
    stride_height, stride_width, dilation_height, dilation_width, top, left,
    out_height, out_width)
 * dw = the gradient of the weight, + dw where beta is 1. */

void ac_depthwise_gradient(const float *x, const float *dy, float beta, float *dw,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    int32_t s, f, r, c, k, i, j;
    for (f = 0; f < filters; f++)
    for (k = f / (filters / channels); k < f / (filters / channels) + 1; k++)
    for (i = 0; i < kernel_height; i++) for (j = 0; j < kernel_width; j++) {
        float *to = dw + (f * kernel_height + i) * kernel_width + j;
        float acc = beta == 0.0f ? 0.0f : *to;
        for (s = 0; s < n; s++) for (r = 0; r < out_height; r++) for (c = 0; c < out_width; c++) {
            int32_t row = r * stride_height + i * dilation_height - top;
            int32_t column = c * stride_width + j * dilation_width - left;
            int32_t inside = row >= 0 && row < height && column >= 0 && column < width;
            float v = inside ? x[((s * channels + k) * height + row) * width + column] : 0.0f;
            acc = ac_fma(dy[((s * filters + f) * out_height + r) * out_width + c], v, acc);
        }
        *to = acc;
    }
}
