/* The kernels of this program. */
#ifndef AC_KERNELS_H
#define AC_KERNELS_H

#include "ac_math.h"

/* What the linker calls them: other projects may be there as well. */
#define ac_log digits_ac_log
#define ac_whole_power digits_ac_whole_power
#define ac_matmul digits_ac_matmul
#define ac_matmul_transposed_a digits_ac_matmul_transposed_a
#define ac_matmul_transposed_b digits_ac_matmul_transposed_b
#define ac_gelu_forward digits_ac_gelu_forward
#define ac_gelu_backward digits_ac_gelu_backward
#define ac_conv_bias_gradient digits_ac_conv_bias_gradient
#define ac_direct_forward digits_ac_direct_forward
#define ac_direct_derivative digits_ac_direct_derivative
#define ac_direct_gradient digits_ac_direct_gradient
#define ac_add_bias digits_ac_add_bias
#define ac_count_up digits_ac_count_up
#define ac_cross_softmax_loss digits_ac_cross_softmax_loss
#define ac_cross_softmax_derivative digits_ac_cross_softmax_derivative
#define ac_bias_gradient digits_ac_bias_gradient
#define ac_adam digits_ac_adam

double ac_log(double x);
double ac_whole_power(double x, int64_t n);
void ac_matmul(const float *a, const float *b, float *c,
    int32_t m, int32_t n, int32_t k);
void ac_matmul_transposed_a(const float *a, const float *b, float beta, float *c,
    int32_t m, int32_t n, int32_t k);
void ac_matmul_transposed_b(const float *a, const float *b, float *c,
    int32_t m, int32_t n, int32_t k);
void ac_gelu_forward(const float *x, float *y, int32_t n);
void ac_gelu_backward(const float *saved, const float *dy, float *dx, int32_t n);
void ac_conv_bias_gradient(const float *dy, float beta, float *db, int32_t filters,
    int32_t n, int32_t plane);
void ac_direct_forward(const float *x, const float *weight, const float *bias,
    int32_t has_bias, float *y,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width);
void ac_direct_derivative(const float *dy, const float *weight, const float *bias,
    int32_t has_bias, float *dx,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width);
void ac_direct_gradient(const float *x, const float *dy, float beta, float *dw,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width);
void ac_add_bias(const float *x, const float *bias, float *y,
    int32_t rows, int32_t columns);
void ac_count_up(double *counter);
void ac_cross_softmax_loss(const float *logits, const float *label,
    float *probabilities, const double *scale, double *loss,
    int32_t rows, int32_t columns);
void ac_cross_softmax_derivative(const float *probabilities, const float *label,
    const double *scale, float *dx, int32_t rows, int32_t columns);
void ac_bias_gradient(const float *dy, float beta, float *db,
    int32_t rows, int32_t columns);
void ac_adam(float *weight, const float *gradient, float *first_moment,
    float *second_moment, float decay, const double *hyper, int32_t n);

#endif
