/* Convolutions in groups, after arena_ckpt/kernels/grouped.py: each group is one of
 * direct.c, whose samples are as far apart as those of all groups. */

/* kernel grouped.grouped_forward(x, weight, bias, has_bias, y, groups, n, channels,
    height, width, filters, kernel_height, kernel_width, stride_height, stride_width,
    dilation_height, dilation_width, top, left, out_height, out_width)
 * ac_direct_forward with filters that read the channels of their group alone. */
void ac_grouped_forward(const float *x, const float *weight, const float *bias,
    int32_t has_bias, float *y, int32_t groups,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_convolution all = {n, channels / groups, height, width, filters / groups,
        kernel_height, kernel_width, stride_height, stride_width, dilation_height,
        dilation_width, top, left, out_height, out_width, channels * height * width,
        filters * out_height * out_width};
    int32_t g;
    for (g = 0; g < groups; g++) {
        ac_correlate(&all, 0, x, weight,
            has_bias ? bias + g * all.filters : (const float *)0, y);
        x += all.channels * height * width;
        weight += all.filters * all.channels * kernel_height * kernel_width;
        y += all.filters * out_height * out_width;
    }
}

/* kernel grouped.grouped_derivative(dy, weight, dx, groups, n, channels, height, width,
    filters, kernel_height, kernel_width, stride_height, stride_width, dilation_height,
    dilation_width, top, left, out_height, out_width)
 * ac_direct_derivative with filters that read the channels of their group alone. */
void ac_grouped_derivative(const float *dy, const float *weight, float *dx,
    int32_t groups,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_convolution all = {n, channels / groups, height, width, filters / groups,
        kernel_height, kernel_width, stride_height, stride_width, dilation_height,
        dilation_width, top, left, out_height, out_width, channels * height * width,
        filters * out_height * out_width};
    int32_t g;
    for (g = 0; g < groups; g++) {
        ac_correlate(&all, 1, dy, weight, (const float *)0, dx);
        dy += all.filters * out_height * out_width;
        weight += all.filters * all.channels * kernel_height * kernel_width;
        dx += all.channels * height * width;
    }
}

/* kernel grouped.grouped_gradient(x, dy, beta, dw, groups, n, channels, height, width,
    filters, kernel_height, kernel_width, stride_height, stride_width, dilation_height,
    dilation_width, top, left, out_height, out_width)
 * ac_direct_gradient with filters that read the channels of their group alone. */
void ac_grouped_gradient(const float *x, const float *dy, float beta, float *dw,
    int32_t groups,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_convolution all = {n, channels / groups, height, width, filters / groups,
        kernel_height, kernel_width, stride_height, stride_width, dilation_height,
        dilation_width, top, left, out_height, out_width, channels * height * width,
        filters * out_height * out_width};
    int32_t g;
    for (g = 0; g < groups; g++) {
        ac_sum_all_gradients(&all, x, dy, beta, dw);
        x += all.channels * height * width;
        dy += all.filters * out_height * out_width;
        dw += all.filters * all.channels * kernel_height * kernel_width;
    }
}
