/* Weights of samples in the loss. */

/* kernel sample_weights.weigh_samples(weights, scale, scales, scales.size)
 * scales[i] = weights[i] * scale[0]. */
void ac_weigh_samples(const float *weights, const double *scale, double *scales,
    int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        scales[i] = (double)weights[i] * scale[0];
    }
}
