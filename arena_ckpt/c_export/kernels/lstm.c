/* Long short-term memory over whole sequences, after arena_ckpt/kernels/lstm.py: gates
 * in the order input, forget, memory cell, output. */

/* kernel lstm.forward(gates, weight_hh, bias, h0, c0, n_states, z, z.size, h, c, out,
 *     out_steps, out_width, out_start, is_reverse, n, steps, unit, counters, key, rate)
 * Gates from products with weight_ih, in place; hidden states go to out, the last cells
 * are left in c. Of the first states h0 and c0, n_states are given; z is a workspace. */
void ac_lstm_@hidden@_@recurrent@_forward(float *gates, const float *weight_hh,
    const float *bias, const float *h0, const float *c0, int32_t n_states, float *z,
    int32_t n_z, float *h, float *c, float *out, int32_t out_steps, int32_t out_width,
    int32_t out_start, int32_t is_reverse, int32_t n, int32_t steps, int32_t unit,
    const double *counters, uint64_t key, double rate)
{
    ac_drops drops;
    int32_t width = 4 * unit;
    int32_t step, r, j;
    ac_set_drops(&drops, rate);
    if (n_states > 0) {
        ac_copy_state(h0, 0, 1, h, n * unit);
    } else {
        ac_clear_state(z, n_z);
    }
    ac_copy_state(c0, 0, n_states > 1, c, n * unit);
    for (step = 0; step < steps; step++) {
        int32_t time = is_reverse ? steps - 1 - step : step;
        if (step > 0 || n_states > 0) {
            ac_product(0, 0, n, width, unit, 1.0f, h, unit, weight_hh, width, 0.0f, z,
                width);
        }
        for (r = 0; r < n; r++) {
            float *x = gates + (r * steps + time) * width;
            const float *y = z + r * width;
            int32_t row = ac_output_row(r, time, steps, out_steps);
            ac_set_step(&drops, key, counters, r, time + is_reverse * steps);
            for (j = 0; j < unit; j++) {
                int32_t f = unit + j, g = 2 * unit + j, o = 3 * unit + j;
                float cell, value;
                x[j] = ac_step_@recurrent@(x[j] + y[j] + bias[j]);
                x[f] = ac_step_@recurrent@(x[f] + y[f] + bias[f]);
                x[g] = ac_step_@hidden@(x[g] + y[g] + bias[g]);
                x[o] = ac_step_@recurrent@(x[o] + y[o] + bias[o]);
                cell = x[f] * c[r * unit + j] + x[j] * x[g];
                value = ac_dropped(&drops, j, x[o] * ac_step_@hidden@(cell));
                c[r * unit + j] = cell;
                h[r * unit + j] = value;
                if (row >= 0) {
                    out[row * out_width + out_start + j] = value;
                }
            }
        }
    }
}

/* kernel lstm.states(gates, h0, c0, n_states, cells, hidden, is_reverse, n, steps, unit,
 *     counters, key, rate)
 * The cell and the hidden state that each step began with, (n, steps, unit). */
void ac_lstm_@hidden@_@recurrent@_states(const float *gates, const float *h0,
    const float *c0, int32_t n_states, float *cells, float *hidden, int32_t is_reverse,
    int32_t n, int32_t steps, int32_t unit, const double *counters, uint64_t key,
    double rate)
{
    ac_drops drops;
    int32_t r, step, j;
    ac_set_drops(&drops, rate);
    for (r = 0; r < n; r++) {
        int32_t here = r * steps + (is_reverse ? steps - 1 : 0);
        ac_copy_state(h0, r * unit, n_states > 0, hidden + here * unit, unit);
        ac_copy_state(c0, r * unit, n_states > 1, cells + here * unit, unit);
        for (step = 0; step < steps - 1; step++) {
            int32_t after = is_reverse ? here - 1 : here + 1;
            int32_t time = here - r * steps;
            const float *x = gates + here * 4 * unit;
            ac_set_step(&drops, key, counters, r, time + is_reverse * steps);
            for (j = 0; j < unit; j++) {
                float cell = x[unit + j] * cells[here * unit + j];
                float value;
                cell = cell + x[j] * x[2 * unit + j];
                value = x[3 * unit + j] * ac_step_@hidden@(cell);
                cells[after * unit + j] = cell;
                hidden[after * unit + j] = ac_dropped(&drops, j, value);
            }
            here = after;
        }
    }
}

/* kernel lstm.backward(gates, weight_hh, cells, dh, dc, d_out, out_steps, out_width,
 *     out_start, sums, sums.size, is_reverse, n, steps, unit, counters, key, rate)
 * Gates to derivatives before activation; dc from that of the last cell to that of the
 * first; sums become the derivative of a bias. */
void ac_lstm_@hidden@_@recurrent@_backward(float *gates, const float *weight_hh,
    const float *cells, float *dh, float *dc, const float *d_out, int32_t out_steps,
    int32_t out_width, int32_t out_start, double *sums, int32_t n_sums,
    int32_t is_reverse, int32_t n, int32_t steps, int32_t unit, const double *counters,
    uint64_t key, double rate)
{
    ac_drops drops;
    int32_t width = 4 * unit;
    int32_t step, r, j;
    ac_set_drops(&drops, rate);
    ac_clear_sums(sums, n_sums);
    for (step = steps - 1; step >= 0; step--) {
        int32_t time = is_reverse ? steps - 1 - step : step;
        if (step < steps - 1) {
            int32_t after = is_reverse ? time - 1 : time + 1;
            ac_product(0, 1, n, unit, width, 1.0f, gates + width * after, width * steps,
                weight_hh, width, 0.0f, dh, unit);
        }
        for (r = 0; r < n; r++) {
            float *x = gates + (r * steps + time) * width;
            const float *c = cells + (r * steps + time) * unit;
            int32_t row = ac_output_row(r, time, steps, out_steps);
            ac_set_step(&drops, key, counters, r, time + is_reverse * steps);
            for (j = 0; j < unit; j++) {
                float i = x[j];
                float f = x[unit + j];
                float g = x[2 * unit + j];
                float o = x[3 * unit + j];
                float d = dh[r * unit + j];
                float active, d_cell;
                if (row >= 0) {
                    d += d_out[row * out_width + out_start + j];
                }
                d = ac_dropped(&drops, j, d);
                active = ac_step_@hidden@(f * c[j] + i * g);
                d_cell = dc[r * unit + j] + ac_@hidden@_slope(active, d * o);
                x[j] = ac_@recurrent@_slope(i, d_cell * g);
                x[unit + j] = ac_@recurrent@_slope(f, d_cell * c[j]);
                x[2 * unit + j] = ac_@hidden@_slope(g, d_cell * i);
                x[3 * unit + j] = ac_@recurrent@_slope(o, d * active);
                dc[r * unit + j] = d_cell * f;
            }
            ac_add_sums(x, sums, width);
        }
    }
}
