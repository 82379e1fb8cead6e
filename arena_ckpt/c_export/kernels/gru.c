/* Gated recurrent units over whole sequences, after arena_ckpt/kernels/gru.py: gates in
 * the order update, reset, memory cell. */

/* kernel gru.forward(gates, weight_hh, bias, h0, has_state, a, a.size, h, product,
 *     product.size, out, out_steps, out_width, out_start, reset_after, is_reverse, n,
 *     steps, unit, counters, key, rate)
 * Gates from products with weight_ih, in place; hidden states go to out, the last to h.
 * a and product are workspaces. */
void ac_gru_@hidden@_@recurrent@_forward(float *gates, const float *weight_hh,
    const float *bias, const float *h0, int32_t has_state, float *a, int32_t n_a,
    float *h, float *product, int32_t n_product, float *out, int32_t out_steps,
    int32_t out_width, int32_t out_start, int32_t reset_after, int32_t is_reverse,
    int32_t n, int32_t steps, int32_t unit, const double *counters, uint64_t key,
    double rate)
{
    ac_drops drops;
    int32_t width = 3 * unit;
    int32_t step, r, j;
    ac_set_drops(&drops, rate);
    ac_copy_state(h0, 0, has_state, h, n * unit);
    if (!has_state) {
        ac_clear_state(a, n_a);
        ac_clear_state(product, n_product);
    }
    for (step = 0; step < steps; step++) {
        int32_t time = is_reverse ? steps - 1 - step : step;
        int32_t knows_state = step > 0 || has_state;
        if (knows_state) {
            ac_product(0, 0, n, reset_after ? width : 2 * unit, unit, 1.0f, h, unit,
                weight_hh, width, 0.0f, a, width);
        }
        for (r = 0; r < n; r++) {
            float *x = gates + (r * steps + time) * width;
            float *y = a + r * width;
            for (j = 0; j < unit; j++) {
                float z = ac_step_@recurrent@(x[j] + y[j] + bias[j]);
                float reset = ac_step_@recurrent@(
                    x[unit + j] + y[unit + j] + bias[unit + j]);
                float state = h[r * unit + j];
                if (reset_after) {
                    state = y[2 * unit + j] + bias[width + j];
                }
                x[j] = z;
                x[unit + j] = reset;
                y[2 * unit + j] = reset * state;
            }
        }
        if (knows_state && !reset_after) {
            ac_product(0, 0, n, unit, unit, 1.0f, a + 2 * unit, width,
                weight_hh + 2 * unit, width, 0.0f, product, unit);
        }
        for (r = 0; r < n; r++) {
            float *x = gates + (r * steps + time) * width;
            const float *y = reset_after ? a + r * width + 2 * unit : product + r * unit;
            int32_t row = ac_output_row(r, time, steps, out_steps);
            ac_set_step(&drops, key, counters, r, time + is_reverse * steps);
            for (j = 0; j < unit; j++) {
                float g = ac_step_@hidden@(x[2 * unit + j] + y[j] + bias[2 * unit + j]);
                float value = g + x[j] * (h[r * unit + j] - g);
                value = ac_dropped(&drops, j, value);
                x[2 * unit + j] = g;
                h[r * unit + j] = value;
                if (row >= 0) {
                    out[row * out_width + out_start + j] = value;
                }
            }
        }
    }
}

/* kernel gru.states(gates, h0, has_state, hidden, product, reset_after, is_reverse, n,
 *     steps, unit, counters, key, rate)
 * The hidden state h that each step began with; without reset_after, reset * h. */
void ac_gru_@hidden@_@recurrent@_states(const float *gates, const float *h0,
    int32_t has_state, float *hidden, float *product, int32_t reset_after,
    int32_t is_reverse, int32_t n, int32_t steps, int32_t unit, const double *counters,
    uint64_t key, double rate)
{
    ac_drops drops;
    int32_t r, step, j;
    ac_set_drops(&drops, rate);
    for (r = 0; r < n; r++) {
        int32_t here = r * steps + (is_reverse ? steps - 1 : 0);
        int32_t distance = is_reverse ? -1 : 1;
        ac_copy_state(h0, r * unit, has_state, hidden + here * unit, unit);
        for (step = 0; step < steps; step++, here += distance) {
            int32_t time = here - r * steps;
            const float *x = gates + here * 3 * unit;
            float *h = hidden + here * unit;
            ac_set_step(&drops, key, counters, r, time + is_reverse * steps);
            for (j = 0; j < unit; j++) {
                float g = x[2 * unit + j];
                if (step < steps - 1) {
                    h[distance * unit + j] = ac_dropped(&drops, j, g + x[j] * (h[j] - g));
                }
                if (!reset_after) {
                    product[here * unit + j] = x[unit + j] * h[j];
                }
            }
        }
    }
}

/* The derivatives of one step of one sample behind its state, for ac_gru_..._backward;
 * those of the gates go to a too. */
static void ac_gru_@hidden@_@recurrent@_slopes(float *x, float *a, const float *bias,
    const float *h, float *product, float *dh, const float *dy, int32_t reset_after,
    int32_t unit, const ac_drops *drops)
{
    int32_t j;
    for (j = 0; j < unit; j++) {
        float z = x[j];
        float g = x[2 * unit + j];
        float d = dh[j];
        float slope;
        if (dy) {
            d += dy[j];
        }
        d = ac_dropped(drops, j, d);
        x[j] = a[j] = ac_@recurrent@_slope(z, d * (h[j] - g));
        slope = ac_@hidden@_slope(g, d - d * z);
        dh[j] = d * z;
        x[2 * unit + j] = slope;
        if (reset_after) {
            float reset = x[unit + j];
            float value = slope * (product[j] + bias[3 * unit + j]);
            x[unit + j] = a[unit + j] = ac_@recurrent@_slope(reset, value);
            slope = slope * reset;
            product[j] = slope;
        }
        a[2 * unit + j] = slope;
    }
}

/* kernel gru.backward(gates, weight_hh, bias, hidden, product, a, dh, d_product, d_out,
 *     out_steps, out_width, out_start, sums, sums.size, wants_state, reset_after,
 *     is_reverse, n, steps, unit, counters, key, rate)
 * Gates to derivatives before activation; dh from that of the last state, apart from
 * d_out, to that of the first. With reset_after, product is h @ weight_hh of the memory cell and becomes its derivative.
 * a and d_product are workspaces. */
void ac_gru_@hidden@_@recurrent@_backward(float *gates, const float *weight_hh,
    const float *bias, const float *hidden, float *product, float *a, float *dh,
    float *d_product, const float *d_out, int32_t out_steps, int32_t out_width,
    int32_t out_start, double *sums, int32_t n_sums, int32_t wants_state,
    int32_t reset_after, int32_t is_reverse, int32_t n, int32_t steps, int32_t unit,
    const double *counters, uint64_t key, double rate)
{
    ac_drops drops;
    int32_t width = 3 * unit;
    int32_t step, r, j;
    ac_set_drops(&drops, rate);
    ac_clear_sums(sums, n_sums);
    for (step = steps - 1; step >= 0; step--) {
        int32_t time = is_reverse ? steps - 1 - step : step;
        for (r = 0; r < n; r++) {
            int32_t here = r * steps + time;
            int32_t row = ac_output_row(r, time, steps, out_steps);
            ac_set_step(&drops, key, counters, r, time + is_reverse * steps);
            ac_gru_@hidden@_@recurrent@_slopes(gates + here * width, a + r * width,
                bias, hidden + here * unit, product + here * unit, dh + r * unit,
                row < 0 ? 0 : d_out + row * out_width + out_start, reset_after, unit, &drops);
        }
        if (!reset_after) {
            ac_product(0, 1, n, unit, unit, 1.0f, a + 2 * unit, width,
                weight_hh + 2 * unit, width, 0.0f, d_product, unit);
        }
        for (r = 0; r < n; r++) {
            float *x = gates + (r * steps + time) * width;
            float *y = a + r * width;
            const float *h = hidden + (r * steps + time) * unit;
            for (j = 0; !reset_after && j < unit; j++) {
                float reset = x[unit + j];
                float d = d_product[r * unit + j];
                x[unit + j] = y[unit + j] = ac_@recurrent@_slope(reset, d * h[j]);
                dh[r * unit + j] += d * reset;
            }
            ac_add_sums(x, sums, width);
            ac_add_sums(y + 2 * unit, sums + width, unit);
        }
        if (step > 0 || wants_state) {
            ac_product(0, 1, n, unit, reset_after ? width : 2 * unit, 1.0f, a, width,
                weight_hh, width, 1.0f, dh, unit);
        }
    }
}
