/* What the steps of recurrent layers share, after arena_ckpt/kernels/steps.py. A step
 * is done unit by unit, for what it gives a unit depends on the gates of that alone. */

/* p with e**x = power + power * p, for -87 <= x <= 87. */
AC_INLINE float ac_step_expm1(float x, float *power)
{
    float rounded = ac_fma(x, AC_LOG2_E, AC_ROUNDER);
    float n = rounded - AC_ROUNDER;
    float r = ac_fma(n, -(AC_LN2_LOW), ac_fma(n, -(AC_LN2_HIGH), x));
    float p = ac_fma(r, 0.0013882516650483012f, 0.008366547524929047f);
    p = ac_fma(r, ac_fma(r, p, 0.04166720062494278f), 0.1666654348373413f);
    p = ac_fma(r, p, 0.4999999701976776f);
    *power = ac_power_of_two(rounded);
    return ac_fma(r * r, p, r);
}

/* The two functions that gates are made of mostly have fused multiply-adds. */
static float ac_step_sigmoid(float x)
{
    float power, p;
    p = ac_step_expm1(-ac_within(-87.0f, x, 87.0f), &power);
    return 1.0f / (1.0f + ac_fma(power, p, power));
}

static float ac_step_tanh(float x)
{
    float power, p, e;
    x = ac_within(-10.0f, x, 10.0f); /* it is 1 from there on */
    p = ac_step_expm1(x + x, &power);
    e = ac_fma(power, p, power - 1.0f);
    return e / (e + 2.0f);
}

/* The others are those of activations.c. */
#define ac_step_relu ac_relu

#define ac_step_leaky_relu ac_leaky_relu

#define ac_step_elu ac_elu

#define ac_step_selu ac_selu

/* Take the key of one step of a sample. */
static void ac_set_step(ac_drops *drops, uint64_t key, const double *counters,
    int32_t sample, int32_t row)
{
    if (drops->threshold > 0) {
        ac_set_sample(drops, key, counters, sample);
        drops->key = ac_row_key(drops->key, (uint64_t)row);
    }
}

/* What dropout makes of a value of a unit. */
AC_INLINE float ac_dropped(const ac_drops *drops, int32_t unit, float x)
{
    if (drops->threshold > 0) {
        x *= ac_keep(drops->key, (uint32_t)unit, drops->threshold, drops->scale);
    }
    return x;
}

/* Copy n numbers to y, from a place in x on; zeros where x is not there. */
static void ac_copy_state(const float *x, int32_t from, int32_t is_there, float *y,
    int32_t n)
{
    int32_t j;
    for (j = 0; j < n; j++) {
        y[j] = is_there ? x[from + j] : 0.0f;
    }
}

/* y = 0. */
static void ac_clear_state(float *y, int32_t n)
{
    int32_t j;
    for (j = 0; j < n; j++) {
        y[j] = 0.0f;
    }
}

static void ac_clear_sums(double *sums, int32_t n)
{
    int32_t j;
    for (j = 0; j < n; j++) {
        sums[j] = 0.0;
    }
}

static void ac_add_sums(const float *x, double *sums, int32_t n)
{
    int32_t j;
    for (j = 0; j < n; j++) {
        sums[j] += (double)x[j];
    }
}

/* Which row of an output that keeps all steps, or the last, a step has; else -1. */
static int32_t ac_output_row(int32_t sample, int32_t time, int32_t steps,
    int32_t out_steps)
{
    if (out_steps == steps) {
        return sample * steps + time;
    }
    return out_steps == 1 && time == steps - 1 ? sample : -1;
}

/* kernel steps.join_biases(bias_ih, bias_hh, n_biases, n_apart, joined, joined.size)
 * Add the biases that a step adds, but for the last n_apart elements; those of bias_hh
 * stand behind the sum. Of no bias this gives zeros, of one bias_ih. */
void ac_join_biases(const float *bias_ih, const float *bias_hh, int32_t n_biases,
    int32_t n_apart, float *joined, int32_t n)
{
    int32_t n_joined = n - n_apart;
    int32_t j;
    for (j = 0; j < n; j++) {
        joined[j] = n_biases > 0 && j < n_joined ? bias_ih[j] : 0.0f;
    }
    if (n_biases > 1) {
        for (j = 0; j < n_joined - n_apart; j++) {
            joined[j] += bias_hh[j];
        }
        for (j = 0; j < n_apart; j++) {
            joined[n_joined + j] = bias_hh[n_joined - n_apart + j];
        }
    }
}

/* kernel steps.bias_from_sums(sums, beta, db, db.size)
 * db = sums + beta * db; at beta 0, db is only written. */
void ac_bias_from_sums(const double *sums, float beta, float *db, int32_t n)
{
    int32_t j;
    for (j = 0; j < n; j++) {
        db[j] = (float)(beta == 0.0f ? sums[j] : (double)db[j] + sums[j]);
    }
}
