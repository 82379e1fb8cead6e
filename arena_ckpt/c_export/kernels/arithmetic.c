/* Arithmetic between tensors and of their elements, sums over axes, broadcasting.
 *
 * Where a kernel broadcasts or sums, tensors have four axes of sizes n0 to n3. Beside
 * them stand the steps, in elements, by which an operand moves along each axis; 0 where
 * it is repeated or summed. A tensor without steps has all the axes, contiguous. */

/* kernel arithmetic.subtract(a, b, y, y.size)
 * y = a - b; y may be a or b. */
void ac_subtract(const float *a, const float *b, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = a[i] - b[i];
    }
}

/* kernel arithmetic.multiply(a, b, y, y.size)
 * y = a * b; y may be a or b. */
void ac_multiply(const float *a, const float *b, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = a[i] * b[i];
    }
}

/* kernel arithmetic.multiply_derivatives(a, b, dy, da, db, dy.size)
 * da = dy * b, db = dy * a; da and db may be two of a, b and dy. */
void ac_multiply_derivatives(const float *a, const float *b, const float *dy,
    float *da, float *db, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        float d = dy[i];
        float x = a[i];
        float z = b[i];
        da[i] = d * z;
        db[i] = d * x;
    }
}

/* kernel arithmetic.divide(a, b, y, y.size)
 * y = a / b; y may be a or b. */
void ac_divide(const float *a, const float *b, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = a[i] / b[i];
    }
}

/* kernel arithmetic.divide_derivatives(b, y, dy, da, db, dy.size)
 * da = dy / b, db = -dy / b * y; da and db may be two of b, y and dy. */
void ac_divide_derivatives(const float *b, const float *y, const float *dy,
    float *da, float *db, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        float quotient = dy[i] / b[i];
        float z = y[i];
        da[i] = quotient;
        db[i] = -quotient * z;
    }
}

/* kernel arithmetic.divisor_derivative(b, y, dy, db, dy.size)
 * db = -dy / b * y; db may be b, y or dy. */
void ac_divisor_derivative(const float *b, const float *y, const float *dy,
    float *db, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        db[i] = -(dy[i] / b[i]) * y[i];
    }
}

/* kernel arithmetic.negative(x, y, y.size)
 * y = -x; y may be x. */
void ac_negative(const float *x, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = -x[i];
    }
}

/* kernel arithmetic.square_root(x, y, y.size)
 * y = sqrt(x), NaN of what is below 0; y may be x. */
void ac_square_root(const float *x, float *y, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        y[i] = ac_sqrt(x[i]);
    }
}

/* kernel arithmetic.square_root_derivative(y, dy, dx, dx.size)
 * dx = dy / (2 y); dx may be y or dy. */
void ac_square_root_derivative(const float *y, const float *dy, float *dx, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        dx[i] = dy[i] / (2.0f * y[i]);
    }
}

/* A power that needs a logarithm: what it is of 0, of inf and of -1. */
typedef struct {
    double exponent;
    float of_zero;
    float of_infinity;
    float of_minus_one;
} ac_general_power;

/* The power of -1 is NaN where the exponent is not whole. */
static ac_general_power ac_power_of(double exponent)
{
    ac_general_power power;
    float infinity = (float)ac_infinity();
    power.exponent = exponent;
    power.of_zero = exponent < 0.0 ? infinity : 0.0f;
    power.of_infinity = exponent < 0.0 ? 0.0f : infinity;
    if (exponent == 0.0) {
        power.of_zero = 1.0f;
        power.of_infinity = 1.0f;
    }
    power.of_minus_one = (float)ac_not_a_number();
    if (-9e18 < exponent && exponent < 9e18) {
        int64_t whole = (int64_t)exponent;
        if ((double)whole == exponent) {
            power.of_minus_one = whole % 2 != 0 ? -1.0f : 1.0f;
        }
    }
    return power;
}

/* x**exponent, in double where 0 < abs(x) < inf. */
static inline float ac_raised(float x, const ac_general_power *power)
{
    float size = ac_abs(x);
    double z = power->exponent * ac_log_fast((double)size);
    float y;
    z = z < -300.0 ? -300.0 : z; /* 0 or inf as float */
    z = z > 300.0 ? 300.0 : z;
    y = (float)ac_exp_fast(z);
    y = size == 0.0f ? power->of_zero : y;
    y = size > FLT_MAX ? power->of_infinity : y;
    return y * (x < 0.0f ? power->of_minus_one : 1.0f);
}

/* kernel arithmetic.power(x, exponent, y, y.size)
 * y = x**exponent; NaN of x < 0 unless the exponent is whole; y may be x.
 *
 * -0 counts as 0. */
void ac_power_forward(const float *x, double exponent, float *y, int32_t n)
{
    int32_t i;
    if (exponent == 0.0) {
        for (i = 0; i < n; i++) {
            y[i] = 1.0f;
        }
    } else if (exponent == 2.0) {
        for (i = 0; i < n; i++) {
            y[i] = x[i] * x[i];
        }
    } else if (exponent == 3.0) {
        for (i = 0; i < n; i++) {
            y[i] = x[i] * x[i] * x[i];
        }
    } else if (exponent == 0.5) {
        for (i = 0; i < n; i++) {
            y[i] = ac_sqrt(x[i]);
        }
    } else if (exponent == -0.5) {
        for (i = 0; i < n; i++) {
            y[i] = 1.0f / ac_sqrt(x[i]);
        }
    } else if (exponent == -1.0) {
        for (i = 0; i < n; i++) {
            y[i] = 1.0f / x[i];
        }
    } else {
        ac_general_power power = ac_power_of(exponent);
        for (i = 0; i < n; i++) {
            y[i] = ac_raised(x[i], &power);
        }
    }
}

/* kernel arithmetic.power_derivative(x, exponent, dy, dx, dx.size)
 * dx = dy * exponent * x**(exponent - 1), 0 if that of 0; dx may be x or dy. */
void ac_power_derivative(const float *x, double exponent, const float *dy, float *dx,
    int32_t n)
{
    float factor = (float)exponent;
    int32_t i;
    if (exponent == 0.0) {
        for (i = 0; i < n; i++) {
            dx[i] = 0.0f;
        }
    } else if (exponent == 2.0) {
        for (i = 0; i < n; i++) {
            dx[i] = dy[i] * (factor * x[i]);
        }
    } else if (exponent == 3.0) {
        for (i = 0; i < n; i++) {
            dx[i] = dy[i] * (factor * (x[i] * x[i]));
        }
    } else if (exponent == 0.5) {
        for (i = 0; i < n; i++) {
            dx[i] = dy[i] * (factor / ac_sqrt(x[i]));
        }
    } else if (exponent == -0.5) {
        for (i = 0; i < n; i++) {
            dx[i] = dy[i] * (factor / (x[i] * ac_sqrt(x[i])));
        }
    } else if (exponent == -1.0) {
        for (i = 0; i < n; i++) {
            dx[i] = dy[i] * (factor / (x[i] * x[i]));
        }
    } else {
        ac_general_power power = ac_power_of(exponent - 1.0);
        for (i = 0; i < n; i++) {
            dx[i] = dy[i] * (factor * ac_raised(x[i], &power));
        }
    }
}

#define AC_BROADCAST(sign) \
    int32_t i0, i1, i2, j; \
    for (i0 = 0; i0 < n0; i0++) { \
        for (i1 = 0; i1 < n1; i1++) { \
            for (i2 = 0; i2 < n2; i2++) { \
                const float *a_row = a + i0 * a0 + i1 * a1 + i2 * a2; \
                const float *b_row = b + i0 * b0 + i1 * b1 + i2 * b2; \
                for (j = 0; j < n3; j++) { \
                    y[j] = a_row[j * a3] sign b_row[j * b3]; \
                } \
                y += n3; \
            } \
        } \
    }

/* kernel arithmetic.broadcast_add(a, b, y, n0, n1, n2, n3, a0, a1, a2, a3,
 *     b0, b1, b2, b3)
 * y = a + b over four axes; y may be an operand that is not repeated. */
void ac_broadcast_add(const float *a, const float *b, float *y,
    int32_t n0, int32_t n1, int32_t n2, int32_t n3,
    int32_t a0, int32_t a1, int32_t a2, int32_t a3,
    int32_t b0, int32_t b1, int32_t b2, int32_t b3)
{
    AC_BROADCAST(+)
}

/* kernel arithmetic.broadcast_subtract(a, b, y, n0, n1, n2, n3, a0, a1, a2, a3,
 *     b0, b1, b2, b3)
 * y = a - b over four axes; y may be an operand that is not repeated. */
void ac_broadcast_subtract(const float *a, const float *b, float *y,
    int32_t n0, int32_t n1, int32_t n2, int32_t n3,
    int32_t a0, int32_t a1, int32_t a2, int32_t a3,
    int32_t b0, int32_t b1, int32_t b2, int32_t b3)
{
    AC_BROADCAST(-)
}

/* kernel arithmetic.broadcast_multiply(a, b, y, n0, n1, n2, n3, a0, a1, a2, a3,
 *     b0, b1, b2, b3)
 * y = a * b over four axes; y may be an operand that is not repeated. */
void ac_broadcast_multiply(const float *a, const float *b, float *y,
    int32_t n0, int32_t n1, int32_t n2, int32_t n3,
    int32_t a0, int32_t a1, int32_t a2, int32_t a3,
    int32_t b0, int32_t b1, int32_t b2, int32_t b3)
{
    AC_BROADCAST(*)
}

/* kernel arithmetic.broadcast_divide(a, b, y, n0, n1, n2, n3, a0, a1, a2, a3,
 *     b0, b1, b2, b3)
 * y = a / b over four axes; y may be an operand that is not repeated. */
void ac_broadcast_divide(const float *a, const float *b, float *y,
    int32_t n0, int32_t n1, int32_t n2, int32_t n3,
    int32_t a0, int32_t a1, int32_t a2, int32_t a3,
    int32_t b0, int32_t b1, int32_t b2, int32_t b3)
{
    AC_BROADCAST(/)
}

/* kernel arithmetic.repeat(x, factor, y, n0, n1, n2, n3, x0, x1, x2, x3)
 * y = factor * x, repeated along the axes where the step of x is 0. */
void ac_repeat(const float *x, float factor, float *y,
    int32_t n0, int32_t n1, int32_t n2, int32_t n3,
    int32_t x0, int32_t x1, int32_t x2, int32_t x3)
{
    int32_t i0, i1, i2, j;
    for (i0 = 0; i0 < n0; i0++) {
        for (i1 = 0; i1 < n1; i1++) {
            for (i2 = 0; i2 < n2; i2++) {
                const float *row = x + i0 * x0 + i1 * x1 + i2 * x2;
                for (j = 0; j < n3; j++) {
                    y[j] = factor * row[j * x3];
                }
                y += n3;
            }
        }
    }
}

/* The terms of a sum: elements, products with another operand, or quotients. */
#define AC_PLAIN 0
#define AC_PRODUCTS 1
#define AC_QUOTIENTS 2

/* Sizes of four axes, and by how many elements tensors move along them. */
typedef struct {
    int32_t n[4];
    int32_t y[4];
    int32_t z[4];
} ac_axes;

/* Add the terms of `width` columns of all rows that are summed to the lanes. */
static void ac_add_terms(int32_t terms, const float *x, const float *z,
    const ac_axes *axes, int32_t width, double *lanes)
{
    int32_t n2 = axes->n[2], n3 = axes->n[3];
    int32_t s0 = axes->y[0] != 0 ? 1 : axes->n[0];
    int32_t s1 = axes->y[1] != 0 ? 1 : axes->n[1];
    int32_t s2 = axes->y[2] != 0 ? 1 : n2;
    int32_t i0, i1, i2, j;
    for (i0 = 0; i0 < s0; i0++) {
        for (i1 = 0; i1 < s1; i1++) {
            for (i2 = 0; i2 < s2; i2++) {
                const float *row = x + ((i0 * axes->n[1] + i1) * n2 + i2) * n3;
                const float *other = z + i0 * axes->z[0] + i1 * axes->z[1]
                    + i2 * axes->z[2];
                int32_t step = axes->z[3];
                if (terms == AC_PRODUCTS) {
                    for (j = 0; j < width; j++) {
                        lanes[j] += (double)(row[j] * other[j * step]);
                    }
                } else if (terms == AC_QUOTIENTS) {
                    for (j = 0; j < width; j++) {
                        lanes[j] += (double)(row[j] / other[j * step]);
                    }
                } else {
                    for (j = 0; j < width; j++) {
                        lanes[j] += (double)row[j];
                    }
                }
            }
        }
    }
}

/* y = factor * sum of terms over the axes where the step of y is 0.
 *
 * Of x, all axes are there; of z, all that are summed. */
static void ac_sum_axes(int32_t terms, const float *x, const float *z, double factor,
    float *y, const ac_axes *axes)
{
    double lanes[AC_LANES];
    int32_t n1 = axes->n[1], n2 = axes->n[2], n3 = axes->n[3];
    /* An axis is either kept or summed: of its two loops, one runs once. */
    int32_t k0 = axes->y[0] != 0 ? axes->n[0] : 1;
    int32_t k1 = axes->y[1] != 0 ? n1 : 1;
    int32_t k2 = axes->y[2] != 0 ? n2 : 1;
    int32_t is_kept = axes->y[3] != 0;
    int32_t i0, i1, i2, start, j;
    for (i0 = 0; i0 < k0; i0++) {
        for (i1 = 0; i1 < k1; i1++) {
            for (i2 = 0; i2 < k2; i2++) {
                const float *x_from = x + ((i0 * n1 + i1) * n2 + i2) * n3;
                const float *z_from = z + i0 * axes->z[0] + i1 * axes->z[1]
                    + i2 * axes->z[2];
                float *y_from = y + i0 * axes->y[0] + i1 * axes->y[1]
                    + i2 * axes->y[2];
                ac_clear(lanes);
                for (start = 0; start < n3; start += AC_LANES) {
                    int32_t width = ac_width(n3, start);
                    ac_add_terms(terms, x_from + start, z_from + start * axes->z[3],
                        axes, width, lanes);
                    if (is_kept) { /* many sums side by side */
                        for (j = 0; j < width; j++) {
                            y_from[start + j] = (float)(factor * lanes[j]);
                            lanes[j] = 0.0;
                        }
                    }
                }
                if (!is_kept) {
                    *y_from = (float)(factor * ac_total(lanes, n3));
                }
            }
        }
    }
}

/* kernel arithmetic.sum_plain(x, factor, y, n0, n1, n2, n3, y0, y1, y2, y3)
 * y = factor * sum(x) over the axes where the step of y is 0. */
void ac_sum_plain(const float *x, double factor, float *y,
    int32_t n0, int32_t n1, int32_t n2, int32_t n3,
    int32_t y0, int32_t y1, int32_t y2, int32_t y3)
{
    ac_axes axes = {{n0, n1, n2, n3}, {y0, y1, y2, y3}, {0, 0, 0, 0}};
    ac_sum_axes(AC_PLAIN, x, x, factor, y, &axes);
}

/* kernel arithmetic.sum_products(x, z, factor, y, n0, n1, n2, n3, y0, y1, y2, y3,
 *     z0, z1, z2, z3)
 * y = factor * sum(x * z) over the axes where the step of y is 0. */
void ac_sum_products(const float *x, const float *z, double factor, float *y,
    int32_t n0, int32_t n1, int32_t n2, int32_t n3,
    int32_t y0, int32_t y1, int32_t y2, int32_t y3,
    int32_t z0, int32_t z1, int32_t z2, int32_t z3)
{
    ac_axes axes = {{n0, n1, n2, n3}, {y0, y1, y2, y3}, {z0, z1, z2, z3}};
    ac_sum_axes(AC_PRODUCTS, x, z, factor, y, &axes);
}

/* kernel arithmetic.sum_quotients(x, z, factor, y, n0, n1, n2, n3, y0, y1, y2, y3,
 *     z0, z1, z2, z3)
 * y = factor * sum(x / z) over the axes where the step of y is 0. */
void ac_sum_quotients(const float *x, const float *z, double factor, float *y,
    int32_t n0, int32_t n1, int32_t n2, int32_t n3,
    int32_t y0, int32_t y1, int32_t y2, int32_t y3,
    int32_t z0, int32_t z1, int32_t z2, int32_t z3)
{
    ac_axes axes = {{n0, n1, n2, n3}, {y0, y1, y2, y3}, {z0, z1, z2, z3}};
    ac_sum_axes(AC_QUOTIENTS, x, z, factor, y, &axes);
}
