/* What changes gradients and learning rates on their way into an update. */

/* kernel update_terms.clip_values(x, most, y, y.size)
 * y = x, but not below -most nor above most; NaN stays. y may be x. */
void ac_clip_values(const float *x, float most, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        float above = x[i] < -most ? -most : x[i];
        y[i] = above > most ? most : above;
    }
}

/* kernel update_terms.scale_number(x, factor, y)
 * y[0] = x[0] * factor. */
void ac_scale_number(const double *x, double factor, double *y)
{
    y[0] = x[0] * factor;
}
