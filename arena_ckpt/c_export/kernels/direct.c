/* Convolutions without workspace, after arena_ckpt/kernels/direct.py: each element is
 * one chain of fused multiply-adds, and padding is zeros, multiplied like the rest.
 *
 * Some filters and some columns are worked out together, in registers: a number that is
 * loaded is used several times. */

/* How many neighbouring columns are worked out together: as many as processors with
 * vectors like, else as many as registers hold. The steps of a short loop after one of
 * these words are written one after another, also at -Os, so that what it indexes may
 * stand in registers; with vectors, loops over columns become such, also at -O2. */
#if defined(__clang__) && !defined(__AVX__)
#define AC_UNROLLED _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 8
#define AC_UNROLLED _Pragma("GCC unroll 4")
#else
#define AC_UNROLLED
#endif
#if defined(__AVX__)
#define AC_COLUMNS 32
#define AC_UNROLLED_COLUMNS
#else
#define AC_COLUMNS 4
#define AC_UNROLLED_COLUMNS AC_UNROLLED
#endif
#if defined(__AVX__) && defined(__GNUC__) && !defined(__clang__)
#define AC_VECTORIZED __attribute__((optimize("O3", "fp-contract=off")))
#else
#define AC_VECTORIZED
#endif

/* What the kernels are given. Samples of x are x_sample elements apart, those of y
 * y_sample. */
typedef struct {
    int32_t n, channels, height, width, filters, kernel_height, kernel_width;
    int32_t stride_height, stride_width, dilation_height, dilation_width, top, left;
    int32_t out_height, out_width, x_sample, y_sample;
} ac_convolution;

/* Along one axis: the taps that an element gets something from, in order. The first
 * multiplies weight `weight` with source element `source`. */
typedef struct {
    int32_t n, weight, weight_step, source, source_step;
} ac_taps;

/* The taps of output element `at`. */
static ac_taps ac_taps_of_output(int32_t at, int32_t kernel, int32_t stride,
    int32_t dilation, int32_t before)
{
    ac_taps taps;
    taps.n = kernel;
    taps.weight = 0;
    taps.weight_step = 1;
    taps.source = at * stride - before;
    taps.source_step = dilation;
    return taps;
}

/* The taps by which input element `at` reached outputs, the first output first. With a
 * stride, only one in `period` taps did. */
static ac_taps ac_taps_of_input(int32_t at, int32_t kernel, int32_t stride,
    int32_t dilation, int32_t before)
{
    ac_taps taps;
    int32_t place = at + before - (kernel - 1) * dilation;
    int32_t period = 1;
    taps.weight = kernel - 1;
    while (taps.weight >= 0 && place % stride != 0) {
        taps.weight--;
        place += dilation;
    }
    while (period * dilation % stride != 0) {
        period++;
    }
    taps.n = taps.weight < 0 ? 0 : taps.weight / period + 1;
    taps.weight_step = -period;
    taps.source = place / stride;
    taps.source_step = period * dilation / stride;
    return taps;
}

/* The taps of an output, or of an input if its derivative is wanted. */
static ac_taps ac_taps_of(int32_t is_derivative, int32_t at, int32_t kernel,
    int32_t stride, int32_t dilation, int32_t before)
{
    return is_derivative ? ac_taps_of_input(at, kernel, stride, dilation, before)
        : ac_taps_of_output(at, kernel, stride, dilation, before);
}

/* AC_COLUMNS columns of one target row, of which the first `count` are wanted: the taps
 * of the row and of the first column; how far apart columns are in the source (step)
 * and in the target; size and number of source planes; how far apart weights are. */
typedef struct {
    ac_taps rows, columns;
    int32_t step, height, width, planes;
    int32_t row_weight, plane_weight, filter_weight;
    int32_t target_step, target_plane, count;
} ac_block;

/* target = the sums of a block, for 4 filters or 1 from `weight` on. What is loaded
 * from the source serves all filters, and a weight all columns. */
AC_INLINE void ac_sum_block(const ac_block *block, const float *source,
    const float *weight, const float *bias, float *target, const int32_t filters)
{
    float sums[4][AC_COLUMNS], v[AC_COLUMNS];
    int32_t plane, i, j, f, k;
    AC_UNROLLED
    for (f = 0; f < filters; f++) {
        float first = bias ? bias[f] : 0.0f;
        AC_UNROLLED_COLUMNS
        for (k = 0; k < AC_COLUMNS; k++) {
            sums[f][k] = first;
        }
    }
    for (plane = 0; plane < block->planes; plane++) {
        int32_t row = block->rows.source;
        const float *row_weight = weight + block->rows.weight * block->row_weight
            + block->columns.weight;
        for (i = 0; i < block->rows.n; i++) {
            int32_t is_inside = row >= 0 && row < block->height;
            int32_t width = is_inside ? block->width : 0;
            const float *line = source + (is_inside ? row * block->width : 0);
            const float *w = row_weight;
            int32_t column = block->columns.source;
            for (j = 0; j < block->columns.n; j++) {
                if (block->step == 1 && column >= 0 && column + AC_COLUMNS <= width) {
                    AC_UNROLLED_COLUMNS
                    for (k = 0; k < AC_COLUMNS; k++) {
                        v[k] = line[column + k];
                    }
                } else {
                    int32_t at = column;
                    AC_UNROLLED_COLUMNS
                    for (k = 0; k < AC_COLUMNS; k++) {
                        v[k] = at >= 0 && at < width ? line[at] : 0.0f;
                        at += block->step;
                    }
                }
                AC_UNROLLED
                for (f = 0; f < filters; f++) {
                    float factor = w[f * block->filter_weight];
                    AC_UNROLLED_COLUMNS
                    for (k = 0; k < AC_COLUMNS; k++) {
                        sums[f][k] = ac_fma(factor, v[k], sums[f][k]);
                    }
                }
                w += block->columns.weight_step;
                column += block->columns.source_step;
            }
            row_weight += block->rows.weight_step * block->row_weight;
            row += block->rows.source_step;
        }
        source += block->height * block->width;
        weight += block->plane_weight;
    }
    AC_UNROLLED
    for (f = 0; f < filters; f++) {
        float *to = target + f * block->target_plane;
        AC_UNROLLED_COLUMNS
        for (k = 0; k < AC_COLUMNS; k++) {
            if (k < block->count) {
                *to = sums[f][k];
            }
            to += block->target_step;
        }
    }
}

/* With vectors and many filters, these stand side by side in them. Some planes of the
 * source are copied with the zeros around them, and their weights filter by filter. */
#if defined(__AVX__)
#define AC_FILTERS 16
#define AC_PADDED 8192
#define AC_PACKED (256 * AC_FILTERS)
#if defined(__AVX512F__)
#define AC_SIDE_BY_SIDE 8
#else
#define AC_SIDE_BY_SIDE 4
#endif
#if defined(__clang__)
#define AC_EACH_COLUMN _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__) && __GNUC__ >= 8
#define AC_EACH_COLUMN _Pragma("GCC unroll 8")
#else
#define AC_EACH_COLUMN
#endif
#if defined(__clang__) || !defined(__GNUC__)
#define AC_IN_VECTORS
#elif defined(__AVX512F__)
#define AC_IN_VECTORS __attribute__((noinline, optimize("O3", "fp-contract=off"), \
    target("prefer-vector-width=512")))
#else
#define AC_IN_VECTORS __attribute__((noinline, optimize("O3", "fp-contract=off")))
#endif
#endif

/* Planes with zeros around them: the source element of the first one, rows, columns,
 * and how many planes there are. */
#if defined(__AVX__)
typedef struct {
    int32_t top, left, rows, columns, planes;
} ac_padded_planes;
#endif

/* Along one axis: the first source element that n targets read, and how many there are
 * up to the last. */
#if defined(__AVX__)
static int32_t ac_reach(int32_t is_derivative, int32_t n, int32_t kernel,
    int32_t stride, int32_t dilation, int32_t before, int32_t *first)
{
    int32_t at, low = 0, high = 0;
    for (at = 0; at < n; at++) {
        ac_taps taps = ac_taps_of(is_derivative, at, kernel, stride, dilation, before);
        int32_t last = taps.source + (taps.n - 1) * taps.source_step;
        if (taps.n > 0) {
            low = taps.source < low ? taps.source : low;
            high = last > high ? last : high;
        }
    }
    *first = low;
    return high - low + 1;
}
#endif

#if defined(__AVX__)
static void ac_pad(const ac_padded_planes *all, int32_t height, int32_t width,
    const float *source, float *padded)
{
    int32_t plane, i, j;
    for (plane = 0; plane < all->planes; plane++) {
        for (i = 0; i < all->rows; i++) {
            int32_t row = all->top + i;
            for (j = 0; j < all->columns; j++) {
                padded[j] = 0.0f;
            }
            if (row >= 0 && row < height) {
                int32_t n = all->columns + all->left;
                for (j = 0; j < (n < width ? n : width); j++) {
                    padded[j - all->left] = source[row * width + j];
                }
            }
            padded += all->columns;
        }
        source += height * width;
    }
}
#endif

/* Adds the products of some planes to AC_SIDE_BY_SIDE columns of up to AC_FILTERS
 * filters, which begin at their bias or 0 if these planes are the first. */
#if defined(__AVX__)
AC_IN_VECTORS static void ac_add_planes(const ac_block *block,
    const ac_padded_planes *all, const float *AC_RESTRICT padded,
    const float *AC_RESTRICT packed, int32_t taps, int32_t filters,
    int32_t is_first, const float *bias, float *target)
{
    float sums[AC_SIDE_BY_SIDE][AC_FILTERS];
    int32_t plane, i, j, f, k;
    int32_t step = block->step;
    AC_EACH_COLUMN
    for (k = 0; k < AC_SIDE_BY_SIDE; k++) {
        for (f = 0; f < AC_FILTERS; f++) {
            sums[k][f] = 0.0f;
            if (f < filters && k < block->count) {
                if (!is_first) {
                    sums[k][f] = target[f * block->target_plane
                        + k * block->target_step];
                } else if (bias) {
                    sums[k][f] = bias[f];
                }
            }
        }
    }
    for (plane = 0; plane < all->planes; plane++) {
        for (i = 0; i < block->rows.n; i++) {
            const float *v = padded + block->columns.source - all->left
                + (block->rows.source + i * block->rows.source_step - all->top)
                    * all->columns;
            const float *w = packed + AC_FILTERS * (block->columns.weight
                + (block->rows.weight + i * block->rows.weight_step)
                    * block->row_weight);
            for (j = 0; j < block->columns.n; j++) {
                AC_EACH_COLUMN
                for (k = 0; k < AC_SIDE_BY_SIDE; k++) {
                    float factor = v[k * step];
                    for (f = 0; f < AC_FILTERS; f++) {
                        sums[k][f] = ac_fma(w[f], factor, sums[k][f]);
                    }
                }
                v += block->columns.source_step;
                w += AC_FILTERS * block->columns.weight_step;
            }
        }
        padded += all->rows * all->columns;
        packed += AC_FILTERS * taps;
    }
    AC_EACH_COLUMN
    for (k = 0; k < AC_SIDE_BY_SIDE; k++) {
        if (k < block->count) {
            for (f = 0; f < filters; f++) {
                target[f * block->target_plane + k * block->target_step] = sums[k][f];
            }
        }
    }
}
#endif

/* What ac_correlate does, if there are filters enough and a plane is small; returns
 * whether it has done so. */
#if defined(__AVX__)
static int32_t ac_correlate_planes(const ac_convolution *all, int32_t is_derivative,
    const float *source, const float *weight, const float *bias, float *target)
{
    float padded[AC_PADDED], packed[AC_PACKED];
    int32_t taps = all->kernel_height * all->kernel_width;
    int32_t filters = is_derivative ? all->channels : all->filters;
    int32_t rows = is_derivative ? all->height : all->out_height;
    int32_t columns = is_derivative ? all->width : all->out_width;
    int32_t planes = is_derivative ? all->filters : all->channels;
    int32_t first, f, s, r, phase, c, i, j;
    ac_padded_planes some;
    ac_block block;
    block.step = is_derivative ? 1 : all->stride_width;
    block.height = is_derivative ? all->out_height : all->height;
    block.width = is_derivative ? all->out_width : all->width;
    block.row_weight = all->kernel_width;
    block.plane_weight = is_derivative ? all->channels * taps : taps;
    block.filter_weight = is_derivative ? taps : all->channels * taps;
    block.target_step = is_derivative ? all->stride_width : 1;
    block.target_plane = rows * columns;
    some.rows = ac_reach(is_derivative, rows, all->kernel_height, all->stride_height,
        all->dilation_height, all->top, &some.top);
    some.columns = ac_reach(is_derivative, columns, all->kernel_width,
        all->stride_width, all->dilation_width, all->left, &some.left)
        + (AC_SIDE_BY_SIDE - 1) * block.step;
    if (filters < 4 || taps > AC_PACKED / AC_FILTERS
        || some.rows > AC_PADDED / some.columns) {
        return 0;
    }
    some.planes = AC_PADDED / (some.rows * some.columns);
    if (some.planes > AC_PACKED / AC_FILTERS / taps) {
        some.planes = AC_PACKED / AC_FILTERS / taps;
    }
    for (first = 0; first < planes; first += some.planes) {
        some.planes = planes - first < some.planes ? planes - first : some.planes;
        for (f = 0; f < filters; f += AC_FILTERS) {
            int32_t n_filters = filters - f < AC_FILTERS ? filters - f : AC_FILTERS;
            for (i = 0; i < some.planes * taps; i++) {
                const float *w = weight + (first + i / taps) * block.plane_weight
                    + i % taps + f * block.filter_weight;
                for (j = 0; j < AC_FILTERS; j++) {
                    packed[i * AC_FILTERS + j] = j < n_filters
                        ? w[j * block.filter_weight] : 0.0f;
                }
            }
            for (s = 0; s < all->n; s++) {
                float *to = target + s * (is_derivative ? all->x_sample : all->y_sample);
                ac_pad(&some, block.height, block.width,
                    source + s * (is_derivative ? all->y_sample : all->x_sample)
                        + first * block.height * block.width, padded);
                for (r = 0; r < rows; r++) {
                    block.rows = ac_taps_of(is_derivative, r, all->kernel_height,
                        all->stride_height, all->dilation_height, all->top);
                    for (phase = 0; phase < block.target_step && phase < columns;
                            phase++) {
                        int32_t n = (columns - phase - 1) / block.target_step + 1;
                        for (c = 0; c < n; c += AC_SIDE_BY_SIDE) {
                            int32_t column = phase + c * block.target_step;
                            block.count = n - c;
                            block.columns = ac_taps_of(is_derivative, column,
                                all->kernel_width, all->stride_width,
                                all->dilation_width, all->left);
                            ac_add_planes(&block, &some, padded, packed, taps,
                                n_filters, first == 0, bias ? bias + f : bias,
                                to + (f * rows + r) * columns + column);
                        }
                    }
                }
            }
        }
    }
    return 1;
}
#endif

/* target = the sums of all planes and taps of source: outputs of x, or with
 * `is_derivative` inputs of dy, whose filters and channels change places. */
AC_VECTORIZED static void ac_correlate(const ac_convolution *all, int32_t is_derivative,
    const float *source, const float *weight, const float *bias, float *target)
{
    int32_t taps = all->kernel_height * all->kernel_width;
    int32_t filters = is_derivative ? all->channels : all->filters;
    int32_t rows = is_derivative ? all->height : all->out_height;
    int32_t columns = is_derivative ? all->width : all->out_width;
    int32_t s, r, phase, c, f;
    ac_block block;
#if defined(__AVX__)
    if (ac_correlate_planes(all, is_derivative, source, weight, bias, target)) {
        return;
    }
#endif
    block.step = is_derivative ? 1 : all->stride_width;
    block.height = is_derivative ? all->out_height : all->height;
    block.width = is_derivative ? all->out_width : all->width;
    block.planes = is_derivative ? all->filters : all->channels;
    block.row_weight = all->kernel_width;
    block.plane_weight = is_derivative ? all->channels * taps : taps;
    block.filter_weight = is_derivative ? taps : all->channels * taps;
    block.target_step = is_derivative ? all->stride_width : 1;
    block.target_plane = rows * columns;
    for (s = 0; s < all->n; s++) {
        for (r = 0; r < rows; r++) {
            block.rows = ac_taps_of(is_derivative, r, all->kernel_height,
                all->stride_height, all->dilation_height, all->top);
            for (phase = 0; phase < block.target_step && phase < columns; phase++) {
                int32_t n = (columns - phase - 1) / block.target_step + 1;
                for (c = 0; c < n; c += AC_COLUMNS) {
                    /* The last block repeats some columns, so that it is whole. */
                    int32_t first = c + AC_COLUMNS > n && n >= AC_COLUMNS
                        ? n - AC_COLUMNS : c;
                    int32_t column = phase + first * block.target_step;
                    block.count = n - first;
                    block.columns = ac_taps_of(is_derivative, column, all->kernel_width,
                        all->stride_width, all->dilation_width, all->left);
                    for (f = 0; f < filters;) {
                        const float *w = weight + f * block.filter_weight;
                        const float *first_sum = bias ? bias + f : bias;
                        float *to = target + (f * rows + r) * columns + column;
                        if (filters - f >= 4) {
                            ac_sum_block(&block, source, w, first_sum, to, 4);
                            f += 4;
                        } else {
                            ac_sum_block(&block, source, w, first_sum, to, 1);
                            f += 1;
                        }
                    }
                }
            }
        }
        source += is_derivative ? all->y_sample : all->x_sample;
        target += is_derivative ? all->x_sample : all->y_sample;
    }
}

/* Sums of 4 filters and 4 channels, for one tap: each gets the sum of dy times what the
 * tap reads of x. Where fewer are left, the last one is worked out several times. */
static void ac_sum_gradients(const ac_convolution *all, const float *x, const float *dy,
    int32_t row, int32_t column, int32_t filters, int32_t channels, float *tile)
{
    float sums[4][4], v[4];
    int32_t x_at[4], y_at[4];
    int32_t s, r, c, f, k;
    AC_UNROLLED
    for (f = 0; f < 4; f++) {
        x_at[f] = (f < channels ? f : channels - 1) * all->height * all->width;
        y_at[f] = (f < filters ? f : filters - 1) * all->out_height * all->out_width;
        AC_UNROLLED
        for (k = 0; k < 4; k++) {
            sums[f][k] = tile[4 * f + k];
        }
    }
    for (s = 0; s < all->n; s++) {
        const float *slope = dy;
        int32_t y = row;
        for (r = 0; r < all->out_height; r++) {
            int32_t is_inside = y >= 0 && y < all->height;
            int32_t width = is_inside ? all->width : 0;
            const float *line = x + (is_inside ? y * all->width : 0);
            int32_t at = column;
            for (c = 0; c < all->out_width; c++) {
                AC_UNROLLED
                for (k = 0; k < 4; k++) {
                    v[k] = 0.0f;
                }
                if (at >= 0 && at < width) {
                    AC_UNROLLED
                    for (k = 0; k < 4; k++) {
                        v[k] = line[at + x_at[k]];
                    }
                }
                AC_UNROLLED
                for (f = 0; f < 4; f++) {
                    float factor = slope[y_at[f]];
                    AC_UNROLLED
                    for (k = 0; k < 4; k++) {
                        sums[f][k] = ac_fma(factor, v[k], sums[f][k]);
                    }
                }
                slope++;
                at += all->stride_width;
            }
            y += all->stride_height;
        }
        x += all->x_sample;
        dy += all->y_sample;
    }
    AC_UNROLLED
    for (f = 0; f < 4; f++) {
        AC_UNROLLED
        for (k = 0; k < 4; k++) {
            tile[4 * f + k] = sums[f][k];
        }
    }
}

/* dw = the gradient of all weights; added to dw where beta is 1. */
static void ac_sum_all_gradients(const ac_convolution *all, const float *x,
    const float *dy, float beta, float *dw)
{
    int32_t taps = all->kernel_height * all->kernel_width;
    int32_t f, k, i, t;
    for (f = 0; f < all->filters; f += 4) {
        for (k = 0; k < all->channels; k += 4) {
            for (t = 0; t < taps; t++) {
                float tile[16];
                float *to = dw + (f * all->channels + k) * taps + t;
                for (i = 0; i < 16; i++) {
                    tile[i] = 0.0f;
                    if (beta != 0.0f && f + i / 4 < all->filters
                            && k + i % 4 < all->channels) {
                        tile[i] = to[(i / 4 * all->channels + i % 4) * taps];
                    }
                }
                ac_sum_gradients(all, x + k * all->height * all->width,
                    dy + f * all->out_height * all->out_width,
                    t / all->kernel_width * all->dilation_height - all->top,
                    t % all->kernel_width * all->dilation_width - all->left,
                    all->filters - f, all->channels - k, tile);
                for (i = 0; i < 16; i++) {
                    if (f + i / 4 < all->filters && k + i % 4 < all->channels) {
                        to[(i / 4 * all->channels + i % 4) * taps] = tile[i];
                    }
                }
            }
        }
    }
}

/* kernel direct.direct_forward(x, weight, bias, has_bias, y, n, channels, height,
    width, filters, kernel_height, kernel_width, stride_height, stride_width,
    dilation_height, dilation_width, top, left, out_height, out_width)
 * y = the convolution of x, with a bias of each filter if has_bias. */
void ac_direct_forward(const float *x, const float *weight, const float *bias,
    int32_t has_bias, float *y,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_convolution all = {n, channels, height, width, filters, kernel_height,
        kernel_width, stride_height, stride_width, dilation_height, dilation_width,
        top, left, out_height, out_width, channels * height * width,
        filters * out_height * out_width};
    ac_correlate(&all, 0, x, weight, has_bias ? bias : (const float *)0, y);
}

/* kernel direct.direct_derivative(dy, weight, bias, has_bias, dx, n, channels,
    height, width, filters, kernel_height, kernel_width, stride_height, stride_width,
    dilation_height, dilation_width, top, left, out_height, out_width)
 * dx = what reaches the input of dy, with a bias of each channel if has_bias. */
void ac_direct_derivative(const float *dy, const float *weight, const float *bias,
    int32_t has_bias, float *dx,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_convolution all = {n, channels, height, width, filters, kernel_height,
        kernel_width, stride_height, stride_width, dilation_height, dilation_width,
        top, left, out_height, out_width, channels * height * width,
        filters * out_height * out_width};
    ac_correlate(&all, 1, dy, weight, has_bias ? bias : (const float *)0, dx);
}

/* kernel direct.direct_gradient(x, dy, beta, dw, n, channels, height, width, filters,
    kernel_height, kernel_width, stride_height, stride_width, dilation_height,
    dilation_width, top, left, out_height, out_width)
 * dw = the gradient of the weight; at beta 1 it is added to dw. */
void ac_direct_gradient(const float *x, const float *dy, float beta, float *dw,
    int32_t n, int32_t channels, int32_t height, int32_t width, int32_t filters,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_convolution all = {n, channels, height, width, filters, kernel_height,
        kernel_width, stride_height, stride_width, dilation_height, dilation_width,
        top, left, out_height, out_width, channels * height * width,
        filters * out_height * out_width};
    ac_sum_all_gradients(&all, x, dy, beta, dw);
}

/* kernel direct_depthwise.direct_depthwise_forward(x, weight, bias, has_bias, y, n,
    channels, height, width, kernel_height, kernel_width, stride_height, stride_width,
    dilation_height, dilation_width, top, left, out_height, out_width)
 * ac_direct_forward with one filter for each channel, which reads only that. */
void ac_direct_depthwise_forward(const float *x, const float *weight, const float *bias,
    int32_t has_bias, float *y,
    int32_t n, int32_t channels, int32_t height, int32_t width,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_convolution all = {n, 1, height, width, 1, kernel_height, kernel_width,
        stride_height, stride_width, dilation_height, dilation_width, top, left,
        out_height, out_width, channels * height * width,
        channels * out_height * out_width};
    int32_t k;
    for (k = 0; k < channels; k++) {
        ac_correlate(&all, 0, x, weight, has_bias ? bias + k : (const float *)0, y);
        x += height * width;
        weight += kernel_height * kernel_width;
        y += out_height * out_width;
    }
}

/* kernel direct_depthwise.direct_depthwise_derivative(dy, weight, dx, n, channels,
    height, width, kernel_height, kernel_width, stride_height, stride_width, dilation_height,
    dilation_width, top, left, out_height, out_width)
 * ac_direct_derivative with one filter for each channel, which reads only that. */
void ac_direct_depthwise_derivative(const float *dy, const float *weight, float *dx,
    int32_t n, int32_t channels, int32_t height, int32_t width,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_convolution all = {n, 1, height, width, 1, kernel_height, kernel_width,
        stride_height, stride_width, dilation_height, dilation_width, top, left,
        out_height, out_width, channels * height * width,
        channels * out_height * out_width};
    int32_t k;
    for (k = 0; k < channels; k++) {
        ac_correlate(&all, 1, dy, weight, (const float *)0, dx);
        dy += out_height * out_width;
        weight += kernel_height * kernel_width;
        dx += height * width;
    }
}

/* The gradients of 4 or 1 filters that read only their own channels, for one tap. */
AC_INLINE void ac_sum_own_gradients(const ac_convolution *all, const float *x,
    const float *dy, int32_t row, int32_t column, int32_t is_first, float *dw,
    const int32_t filters)
{
    float sums[4], v[4];
    int32_t x_plane = all->height * all->width;
    int32_t y_plane = all->out_height * all->out_width;
    int32_t taps = all->kernel_height * all->kernel_width;
    int32_t s, r, c, f;
    AC_UNROLLED
    for (f = 0; f < filters; f++) {
        sums[f] = is_first ? 0.0f : dw[f * taps];
    }
    for (s = 0; s < all->n; s++) {
        const float *slope = dy;
        int32_t y = row;
        for (r = 0; r < all->out_height; r++) {
            int32_t is_inside = y >= 0 && y < all->height;
            int32_t width = is_inside ? all->width : 0;
            const float *line = x + (is_inside ? y * all->width : 0);
            int32_t at = column;
            for (c = 0; c < all->out_width; c++) {
                AC_UNROLLED
                for (f = 0; f < filters; f++) {
                    v[f] = 0.0f;
                }
                if (at >= 0 && at < width) {
                    AC_UNROLLED
                    for (f = 0; f < filters; f++) {
                        v[f] = line[at + f * x_plane];
                    }
                }
                AC_UNROLLED
                for (f = 0; f < filters; f++) {
                    sums[f] = ac_fma(slope[f * y_plane], v[f], sums[f]);
                }
                slope++;
                at += all->stride_width;
            }
            y += all->stride_height;
        }
        x += all->x_sample;
        dy += all->y_sample;
    }
    AC_UNROLLED
    for (f = 0; f < filters; f++) {
        dw[f * taps] = sums[f];
    }
}

/* kernel direct_depthwise.direct_depthwise_gradient(x, dy, beta, dw, n, channels, height,
    width, kernel_height, kernel_width, stride_height, stride_width, dilation_height,
    dilation_width, top, left, out_height, out_width)
 * ac_direct_gradient with one filter for each channel, which reads only that. */
void ac_direct_depthwise_gradient(const float *x, const float *dy, float beta,
    float *dw,
    int32_t n, int32_t channels, int32_t height, int32_t width,
    int32_t kernel_height, int32_t kernel_width,
    int32_t stride_height, int32_t stride_width,
    int32_t dilation_height, int32_t dilation_width, int32_t top, int32_t left,
    int32_t out_height, int32_t out_width)
{
    ac_convolution all = {n, channels, height, width, channels, kernel_height,
        kernel_width, stride_height, stride_width, dilation_height, dilation_width,
        top, left, out_height, out_width, channels * height * width,
        channels * out_height * out_width};
    int32_t taps = kernel_height * kernel_width;
    int32_t k, t;
    for (k = 0; k < channels;) {
        const float *source = x + k * height * width;
        const float *slope = dy + k * out_height * out_width;
        int32_t filters = channels - k >= 4 ? 4 : 1;
        for (t = 0; t < taps; t++) {
            int32_t row = t / kernel_width * dilation_height - top;
            int32_t column = t % kernel_width * dilation_width - left;
            float *to = dw + k * taps + t;
            if (filters == 4) {
                ac_sum_own_gradients(&all, source, slope, row, column, beta == 0.0f, to,
                    4);
            } else {
                ac_sum_own_gradients(&all, source, slope, row, column, beta == 0.0f, to,
                    1);
            }
        }
        k += filters;
    }
}
