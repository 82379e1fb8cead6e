/* Plain recurrence over whole sequences, after arena_ckpt/kernels/rnn.py. */

/* kernel rnn.forward(states, weight_hh, bias, h0, has_state, a, h, out, out_steps,
 *     out_width, out_start, is_reverse, n, steps, unit, counters, key, rate)
 * States from products with weight_ih, in place; those of out_steps go to out too. */
void ac_rnn_@hidden@_forward(float *states, const float *weight_hh, const float *bias,
    const float *h0, int32_t has_state, float *a, float *h, float *out,
    int32_t out_steps, int32_t out_width, int32_t out_start, int32_t is_reverse,
    int32_t n, int32_t steps, int32_t unit, const double *counters, uint64_t key,
    double rate)
{
    ac_drops drops;
    int32_t step, r, j;
    ac_set_drops(&drops, rate);
    if (has_state) {
        ac_copy_state(h0, 0, 1, h, n * unit);
    } else {
        ac_clear_state(a, n * unit);
    }
    for (step = 0; step < steps; step++) {
        int32_t time = is_reverse ? steps - 1 - step : step;
        if (step > 0 || has_state) {
            ac_product(0, 0, n, unit, unit, 1.0f, h, unit, weight_hh, unit, 0.0f, a,
                unit);
        }
        for (r = 0; r < n; r++) {
            float *x = states + (r * steps + time) * unit;
            int32_t row = ac_output_row(r, time, steps, out_steps);
            ac_set_step(&drops, key, counters, r, time + is_reverse * steps);
            for (j = 0; j < unit; j++) {
                float value = ac_step_@hidden@(x[j] + a[r * unit + j] + bias[j]);
                value = ac_dropped(&drops, j, value);
                x[j] = value;
                h[r * unit + j] = value;
                if (row >= 0) {
                    out[row * out_width + out_start + j] = value;
                }
            }
        }
    }
}

/* kernel rnn.backward(states, weight_hh, d_states, a, dh, d_out, out_steps, out_width,
 *     out_start, sums, sums.size, is_reverse, n, steps, unit, counters, key, rate)
 * Derivatives before activation, in d_states, which may be states, and of the last step
 * in a. dh begins as that of the last state, apart from d_out; sums become that of the
 * bias. */
void ac_rnn_@hidden@_backward(const float *states, const float *weight_hh,
    float *d_states, float *a, float *dh, const float *d_out, int32_t out_steps,
    int32_t out_width, int32_t out_start, double *sums, int32_t n_sums,
    int32_t is_reverse, int32_t n, int32_t steps, int32_t unit, const double *counters,
    uint64_t key, double rate)
{
    ac_drops drops;
    float kept = (float)(1.0 - rate);
    int32_t step, r, j;
    ac_set_drops(&drops, rate);
    ac_clear_sums(sums, n_sums);
    for (step = steps - 1; step >= 0; step--) {
        int32_t time = is_reverse ? steps - 1 - step : step;
        if (step < steps - 1) {
            ac_product(0, 1, n, unit, unit, 1.0f, a, unit, weight_hh, unit, 0.0f, dh,
                unit);
        }
        for (r = 0; r < n; r++) {
            const float *h = states + (r * steps + time) * unit;
            float *d = d_states + (r * steps + time) * unit;
            int32_t row = ac_output_row(r, time, steps, out_steps);
            ac_set_step(&drops, key, counters, r, time + is_reverse * steps);
            for (j = 0; j < unit; j++) {
                float value = dh[r * unit + j];
                if (row >= 0) {
                    value += d_out[row * out_width + out_start + j];
                }
                value = ac_dropped(&drops, j, value);
                value = ac_@hidden@_slope(kept * h[j], value);
                d[j] = value;
                a[r * unit + j] = value;
            }
            ac_add_sums(a + r * unit, sums, unit);
        }
    }
}

/* kernel rnn.rnn_previous(states, h0, has_state, hidden, is_reverse, n, steps, unit)
 * Copy states to the step that began with them: the next, or the one before. */
void ac_rnn_previous(const float *states, const float *h0, int32_t has_state,
    float *hidden, int32_t is_reverse, int32_t n, int32_t steps, int32_t unit)
{
    int32_t r, j;
    for (r = 0; r < n; r++) {
        int32_t first = r * steps * unit;
        int32_t n_moved = (steps - 1) * unit;
        ac_copy_state(h0, r * unit, has_state, hidden + first + is_reverse * n_moved,
            unit);
        for (j = 0; j < n_moved; j++) {
            if (is_reverse) {
                hidden[first + j] = states[first + unit + j];
            } else {
                hidden[first + unit + j] = states[first + j];
            }
        }
    }
}
