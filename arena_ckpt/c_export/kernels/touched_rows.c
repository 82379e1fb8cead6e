/* Gradients of touched rows and their updates, after kernels/touched_rows.py.
 * A line is the first line of a bucket, the row of the table, the next line of its
 * bucket, all -1 where there is none, and the values. */

/* The line of a row of the table, or -1 where it is not touched. */
static int32_t ac_touched_line(const float *gradient, int32_t lines, int32_t columns,
    int32_t row)
{
    int32_t line = (int32_t)gradient[row % lines * columns];
    int32_t i;
    for (i = 0; i < lines && line >= 0 && line < lines; i++) {
        if (gradient[line * columns + 1] == (float)row) {
            return line;
        }
        line = (int32_t)gradient[line * columns + 2];
    }
    return -1;
}

/* The number of lines that stand for a row; they are the first ones. */
static int32_t ac_touched_lines(const float *gradient, int32_t lines, int32_t columns)
{
    int32_t n = 0;
    while (n < lines && gradient[n * columns + 1] >= 0.0f) {
        n++;
    }
    return n;
}

/* kernel touched_rows.touched_gradient(ids, ids.size, dy, n_rows, padding, beta,
 *     gradient, gradient.rows, gradient.columns)
 * Add row r of dy to the line of row ids[r], in order, but for the id `padding`;
 * `beta` 0 starts from no lines. */
void ac_touched_gradient(const float *ids, int32_t n, const float *dy, int32_t n_rows,
    int32_t padding, float beta, float *gradient, int32_t lines, int32_t columns)
{
    int32_t width = columns - 3;
    int32_t r, j, used;
    for (r = 0; beta == 0.0f && r < lines; r++) {
        for (j = 0; j < columns; j++) {
            gradient[r * columns + j] = j < 3 ? -1.0f : 0.0f;
        }
    }
    used = ac_touched_lines(gradient, lines, columns);
    for (r = 0; r < n; r++) {
        int32_t row = ac_row_of(ids[r], n_rows);
        int32_t line;
        if (row < 0 || row == padding) {
            continue;
        }
        line = ac_touched_line(gradient, lines, columns, row);
        if (line < 0 && used < lines) {
            float *first = gradient + row % lines * columns;
            line = used;
            gradient[line * columns + 1] = (float)row;
            gradient[line * columns + 2] = *first;
            *first = (float)line;
            used++;
        }
        for (j = 0; line >= 0 && j < width; j++) {
            gradient[line * columns + 3 + j] += dy[r * width + j];
        }
    }
}

/* kernel touched_rows.touched_square_sum(gradient, gradient.rows, gradient.columns,
 *     sum_so_far)
 * Add the squares of all values to sum_so_far[0], line by line. */
void ac_touched_square_sum(const float *gradient, int32_t lines, int32_t columns,
    double *sum_so_far)
{
    int32_t used = ac_touched_lines(gradient, lines, columns);
    int32_t i, j;
    double total = 0.0;
    for (i = 0; i < used; i++) {
        for (j = 3; j < columns; j++) {
            double v = (double)gradient[i * columns + j];
            total += v * v;
        }
    }
    sum_so_far[0] += total;
}

/* kernel touched_rows.touched_sgd(weight, gradient, gradient.rows, gradient.columns,
 *     decay, hyper)
 * w -= learning_rate * g in touched rows; hyper = learning_rate, gradient_scale. */
void ac_touched_sgd(float *weight, const float *gradient, int32_t lines,
    int32_t columns, float decay, const double *hyper)
{
    float rate = (float)hyper[0];
    float scale = (float)hyper[1];
    int32_t width = columns - 3;
    int32_t used = ac_touched_lines(gradient, lines, columns);
    int32_t i, j;
    for (i = 0; i < used; i++) {
        const float *line = gradient + i * columns;
        float *row = weight + (int32_t)line[1] * width;
        for (j = 0; j < width; j++) {
            float w = row[j];
            float g = line[3 + j] * scale + decay * w;
            row[j] = ac_zero_if_subnormal(w - rate * g);
        }
    }
}

/* kernel touched_rows.touched_momentum(weight, weight.rows, gradient, gradient.rows,
 *     gradient.columns, velocity, decay, nesterov, hyper)
 * v = momentum * v + g; w -= learning_rate * v, or of g + momentum * v with nesterov,
 * in all rows; g is 0 in those that are not touched. hyper = learning_rate,
 * gradient_scale, momentum. */
void ac_touched_momentum(float *weight, int32_t n_rows, const float *gradient,
    int32_t lines, int32_t columns, float *velocity, float decay, int32_t nesterov,
    const double *hyper)
{
    float rate = (float)hyper[0];
    float scale = (float)hyper[1];
    float momentum = (float)hyper[2];
    int32_t width = columns - 3;
    int32_t r, j;
    for (r = 0; r < n_rows; r++) {
        int32_t found = ac_touched_line(gradient, lines, columns, r);
        const float *line = gradient + (found < 0 ? 0 : found) * columns;
        for (j = 0; j < width; j++) {
            int32_t at = r * width + j;
            float w = weight[at];
            float g = (found < 0 ? 0.0f : line[3 + j]) * scale + decay * w;
            float v = ac_zero_if_subnormal(momentum * velocity[at] + g);
            float step = nesterov != 0 ? g + momentum * v : v;
            velocity[at] = v;
            weight[at] = ac_zero_if_subnormal(w - rate * step);
        }
    }
}

/* kernel touched_rows.touched_adam(weight, gradient, gradient.rows, gradient.columns,
 *     first_moment, second_moment, hyper)
 * One step of Adam in touched rows, as PyTorch's SparseAdam; hyper = learning_rate,
 * gradient_scale, beta1, beta2, epsilon, and both bias corrections. */
void ac_touched_adam(float *weight, const float *gradient, int32_t lines,
    int32_t columns, float *first, float *second, const double *hyper)
{
    float scale = (float)hyper[1];
    float beta1 = (float)hyper[2];
    float beta2 = (float)hyper[3];
    float rest1 = (float)(1.0 - hyper[2]);
    float rest2 = (float)(1.0 - hyper[3]);
    float epsilon = (float)hyper[4];
    float rate = (float)(hyper[0] * ac_double_sqrt(hyper[6]) / hyper[5]);
    int32_t width = columns - 3;
    int32_t used = ac_touched_lines(gradient, lines, columns);
    int32_t i, j;
    for (i = 0; i < used; i++) {
        const float *line = gradient + i * columns;
        int32_t start = (int32_t)line[1] * width;
        for (j = 0; j < width; j++) {
            int32_t at = start + j;
            float g = line[3 + j] * scale;
            float m = ac_zero_if_subnormal(beta1 * first[at] + rest1 * g);
            float v = ac_zero_if_subnormal(beta2 * second[at] + rest2 * (g * g));
            float w = weight[at] - rate * m / (ac_sqrt(v) + epsilon);
            first[at] = m;
            second[at] = v;
            weight[at] = ac_zero_if_subnormal(w);
        }
    }
}
