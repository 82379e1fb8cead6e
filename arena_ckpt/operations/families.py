"""The kernels that layers and optimizers name: families, entries and their parameters.

A family is a module of kernels in every engine; the parameters are those of the Numba
kernels, which a test holds against this table. Those of an activation and of recurrent
steps depend on functions, and stand in `activations` and `recurrent`.
"""

from __future__ import annotations

from arena_ckpt.operations.kernel_names import Family

arithmetic = Family(
    "arithmetic",
    subtract="a: Vector, b: Vector, y: Vector",
    multiply="a: Vector, b: Vector, y: Vector",
    multiply_derivatives="a: Vector, b: Vector, dy: Vector, da: Vector, db: Vector",
    divide="a: Vector, b: Vector, y: Vector",
    divide_derivatives="b: Vector, y: Vector, dy: Vector, da: Vector, db: Vector",
    divisor_derivative="b: Vector, y: Vector, dy: Vector, db: Vector",
    negative="x: Vector, y: Vector",
    square_root="x: Vector, y: Vector",
    square_root_derivative="y: Vector, dy: Vector, dx: Vector",
    power="x: Vector, exponent: float, y: Vector",
    power_derivative="x: Vector, exponent: float, dy: Vector, dx: Vector",
    broadcast_add=(
        "a: Vector, b: Vector, y: Vector, n0: int, n1: int, n2: int, n3: int, a0: int, "
        "a1: int, a2: int, a3: int, b0: int, b1: int, b2: int, b3: int"
    ),
    broadcast_subtract=(
        "a: Vector, b: Vector, y: Vector, n0: int, n1: int, n2: int, n3: int, a0: int, "
        "a1: int, a2: int, a3: int, b0: int, b1: int, b2: int, b3: int"
    ),
    broadcast_multiply=(
        "a: Vector, b: Vector, y: Vector, n0: int, n1: int, n2: int, n3: int, a0: int, "
        "a1: int, a2: int, a3: int, b0: int, b1: int, b2: int, b3: int"
    ),
    broadcast_divide=(
        "a: Vector, b: Vector, y: Vector, n0: int, n1: int, n2: int, n3: int, a0: int, "
        "a1: int, a2: int, a3: int, b0: int, b1: int, b2: int, b3: int"
    ),
    repeat=(
        "x: Vector, factor: float, y: Vector, n0: int, n1: int, n2: int, n3: int, x0: "
        "int, x1: int, x2: int, x3: int"
    ),
    sum_plain=(
        "x: Vector, factor: float, y: Vector, n0: int, n1: int, n2: int, n3: int, y0: "
        "int, y1: int, y2: int, y3: int"
    ),
    sum_products=(
        "x: Vector, z: Vector, factor: float, y: Vector, n0: int, n1: int, n2: int, "
        "n3: int, y0: int, y1: int, y2: int, y3: int, z0: int, z1: int, z2: int, z3: "
        "int"
    ),
    sum_quotients=(
        "x: Vector, z: Vector, factor: float, y: Vector, n0: int, n1: int, n2: int, "
        "n3: int, y0: int, y1: int, y2: int, y3: int, z0: int, z1: int, z2: int, z3: "
        "int"
    ),
)

attention = Family(
    "attention",
    tiled_forward=(
        "q: Vector, k: Vector, v: Vector, mask: Vector, out: Vector, lse: Vector, "
        "tile: Vector, control: Doubles, key: int, rate: float, heads: int, t: int, s: "
        "int, dk: int, dv: int, mask_heads: int, causal: int, rows: int, columns: int"
    ),
    plain_forward=(
        "q: Vector, k: Vector, v: Vector, mask: Vector, out: Vector, probabilities: "
        "Vector, tile: Vector, control: Doubles, key: int, rate: float, heads: int, t: "
        "int, s: int, dk: int, dv: int, mask_heads: int, causal: int, rows: int"
    ),
    tiled_backward=(
        "q: Vector, k: Vector, v: Vector, mask: Vector, out: Vector, lse: Vector, "
        "d_output: Vector, weight: Vector, work: Vector, control: Doubles, key: int, "
        "rate: float, heads: int, t: int, s: int, dk: int, dv: int, mask_heads: int, "
        "causal: int, rows: int, columns: int"
    ),
    plain_backward=(
        "q: Vector, k: Vector, v: Vector, out: Vector, probabilities: Vector, "
        "d_output: Vector, weight: Vector, work: Vector, control: Doubles, key: int, "
        "rate: float, heads: int, t: int, s: int, dk: int, dv: int, causal: int, rows: "
        "int"
    ),
)

axiswise = Family(
    "axiswise",
    axis_softmax_forward="x: Vector, y: Vector, outer: int, length: int, inner: int",
    axis_softmax_backward=(
        "y: Vector, dy: Vector, dx: Vector, outer: int, length: int, inner: int"
    ),
    axis_extreme_forward=(
        "x: Vector, sign: float, y: Vector, outer: int, length: int, inner: int"
    ),
    axis_extreme_derivative=(
        "x: Vector, y: Vector, dy: Vector, dx: Vector, outer: int, length: int, inner: "
        "int"
    ),
    axis_product_forward="x: Vector, y: Vector, outer: int, length: int, inner: int",
    axis_product_derivative=(
        "x: Vector, dy: Vector, dx: Vector, outer: int, length: int, inner: int"
    ),
    axis_norm_forward="x: Vector, y: Vector, outer: int, length: int, inner: int",
    axis_norm_derivative=(
        "x: Vector, y: Vector, dy: Vector, dx: Vector, outer: int, length: int, inner: "
        "int"
    ),
    running_sum=(
        "x: Vector, y: Vector, outer: int, length: int, inner: int, reverse: int"
    ),
    gather_forward=(
        "x: Vector, ids: Vector, y: Vector, loss: Doubles, n: int, outer: int, length: "
        "int, inner: int"
    ),
    gather_derivative=(
        "ids: Vector, dy: Vector, dx: Vector, n: int, outer: int, length: int, inner: "
        "int"
    ),
    axis_cosine_forward=(
        "a: Vector, b: Vector, epsilon: float, y: Vector, outer: int, length: int, "
        "inner: int"
    ),
    axis_cosine_derivative=(
        "a: Vector, b: Vector, epsilon: float, dy: Vector, da: Vector, outer: int, "
        "length: int, inner: int"
    ),
)

blas = Family(
    "blas",
    matmul="a: Matrix, b: Matrix, c: Matrix",
    matmul_transposed_a="a: Matrix, b: Matrix, beta: float, c: Matrix",
    matmul_transposed_b="a: Matrix, b: Matrix, c: Matrix",
    matmul_transposed_b_onto="a: Matrix, b: Matrix, beta: float, c: Matrix",
    matmul_each=(
        "a: Vector, b: Vector, c: Vector, n: int, rows: int, inner: int, columns: int, "
        "transposed_a: int, transposed_b: int"
    ),
)

chains = Family(
    "chains",
    chain_matmul="a: Matrix, b: Matrix, c: Matrix",
    chain_transposed_a="a: Matrix, b: Matrix, beta: float, c: Matrix",
    chain_transposed_b="a: Matrix, b: Matrix, c: Matrix",
    chain_transposed_b_onto="a: Matrix, b: Matrix, beta: float, c: Matrix",
    chain_each=(
        "a: Vector, b: Vector, c: Vector, n: int, rows: int, inner: int, columns: int, "
        "transposed_a: int, transposed_b: int"
    ),
    chain_windows=(
        "transpose_a: int, transpose_b: int, m: int, n: int, k: int, a: Vector, "
        "a_place: int, a_distance: int, b: Vector, b_place: int, b_distance: int, "
        "beta: float, c: Vector, c_place: int, c_distance: int"
    ),
    chain_sgd_product="a: Matrix, b: Matrix, hyper: Doubles, weight: Matrix",
)

class_losses = Family(
    "class_losses",
    class_probabilities=(
        "logits: Vector, probabilities: Vector, classes: int, inner: int"
    ),
    weighted_softmax_loss=(
        "logits: Vector, label: Vector, has_numbers: int, ignored: float, weight: "
        "Vector, keep: float, even: float, probabilities: Vector, scale: Doubles, "
        "loss: Doubles, classes: int, inner: int"
    ),
    weighted_softmax_derivative=(
        "probabilities: Vector, label: Vector, has_numbers: int, ignored: float, "
        "weight: Vector, keep: float, even: float, scale: Doubles, dx: Vector, "
        "classes: int, inner: int"
    ),
    weighted_sigmoid_loss=(
        "logits: Vector, label: Vector, weight: Vector, probabilities: Vector, scale: "
        "Doubles, loss: Doubles, inner: int"
    ),
    weighted_sigmoid_derivative=(
        "probabilities: Vector, label: Vector, weight: Vector, scale: Doubles, dx: "
        "Vector, inner: int"
    ),
)

choices = Family(
    "choices",
    extreme=(
        "a: Vector, b: Vector, sign: float, y: Vector, n0: int, n1: int, n2: int, n3: "
        "int, a0: int, a1: int, a2: int, a3: int, b0: int, b1: int, b2: int, b3: int"
    ),
    select=(
        "condition: Vector, a: Vector, b: Vector, y: Vector, n0: int, n1: int, n2: "
        "int, n3: int, c0: int, c1: int, c2: int, c3: int, a0: int, a1: int, a2: int, "
        "a3: int, b0: int, b1: int, b2: int, b3: int"
    ),
    sum_extreme=(
        "dy: Vector, a: Vector, b: Vector, sign: float, da: Vector, n0: int, n1: int, "
        "n2: int, n3: int, y0: int, y1: int, y2: int, y3: int, a0: int, a1: int, a2: "
        "int, a3: int, b0: int, b1: int, b2: int, b3: int"
    ),
    sum_selected=(
        "dy: Vector, condition: Vector, other: int, dx: Vector, n0: int, n1: int, n2: "
        "int, n3: int, y0: int, y1: int, y2: int, y3: int, c0: int, c1: int, c2: int, "
        "c3: int"
    ),
)

convolution = Family(
    "convolution",
    conv_forward=(
        "x: Vector, weight: Vector, bias: Vector, has_bias: int, pictures: Vector, "
        "table: Indexes, y: Vector, n: int, channels: int, height: int, width: int, "
        "filters: int, kernel_height: int, kernel_width: int, stride_height: int, "
        "stride_width: int, dilation_height: int, dilation_width: int, top: int, left: "
        "int, out_height: int, out_width: int, samples: int, group: int"
    ),
    conv_derivative=(
        "dy: Vector, weight: Vector, bias: Vector, has_bias: int, pictures: Vector, "
        "table: Indexes, dx: Vector, n: int, channels: int, height: int, width: int, "
        "filters: int, kernel_height: int, kernel_width: int, stride_height: int, "
        "stride_width: int, dilation_height: int, dilation_width: int, top: int, left: "
        "int, out_height: int, out_width: int, samples: int, group: int"
    ),
    conv_gradient=(
        "x: Vector, dy: Vector, beta: float, pictures: Vector, table: Indexes, dw: "
        "Vector, n: int, channels: int, height: int, width: int, filters: int, "
        "kernel_height: int, kernel_width: int, stride_height: int, stride_width: int, "
        "dilation_height: int, dilation_width: int, top: int, left: int, out_height: "
        "int, out_width: int, group: int, first_filter: int, all_filters: int"
    ),
    conv_bias_gradient="dy: Vector, beta: float, db: Vector, n: int, plane: int",
)

curves = Family(
    "curves",
    affine="x: Vector, factor: float, term: float, y: Vector",
    prelu_forward="x: Vector, slopes: Vector, y: Vector, size: int",
    prelu_derivative="x: Vector, slopes: Vector, dy: Vector, dx: Vector, size: int",
    prelu_gradient="x: Vector, dy: Vector, beta: float, d_slopes: Vector, size: int",
)

depthwise = Family(
    "depthwise",
    depthwise_forward=(
        "x: Vector, weight: Vector, bias: Vector, has_bias: int, pictures: Vector, "
        "table: Indexes, y: Vector, n: int, channels: int, height: int, width: int, "
        "filters: int, kernel_height: int, kernel_width: int, stride_height: int, "
        "stride_width: int, dilation_height: int, dilation_width: int, top: int, left: "
        "int, out_height: int, out_width: int"
    ),
    depthwise_derivative=(
        "dy: Vector, weight: Vector, pictures: Vector, table: Indexes, dx: Vector, n: "
        "int, channels: int, height: int, width: int, filters: int, kernel_height: "
        "int, kernel_width: int, stride_height: int, stride_width: int, "
        "dilation_height: int, dilation_width: int, top: int, left: int, out_height: "
        "int, out_width: int"
    ),
    depthwise_gradient=(
        "x: Vector, dy: Vector, beta: float, pictures: Vector, table: Indexes, dw: "
        "Vector, n: int, channels: int, height: int, width: int, filters: int, "
        "kernel_height: int, kernel_width: int, stride_height: int, stride_width: int, "
        "dilation_height: int, dilation_width: int, top: int, left: int, out_height: "
        "int, out_width: int, begin: int, end: int"
    ),
)

direct = Family(
    "direct",
    direct_forward=(
        "x: Vector, weight: Vector, bias: Vector, has_bias: int, y: Vector, n: int, "
        "channels: int, height: int, width: int, filters: int, kernel_height: int, "
        "kernel_width: int, stride_height: int, stride_width: int, dilation_height: "
        "int, dilation_width: int, top: int, left: int, out_height: int, out_width: "
        "int"
    ),
    direct_derivative=(
        "dy: Vector, weight: Vector, bias: Vector, has_bias: int, dx: Vector, n: "
        "int, channels: int, height: int, width: int, filters: int, kernel_height: "
        "int, kernel_width: int, stride_height: int, stride_width: int, "
        "dilation_height: int, dilation_width: int, top: int, left: int, "
        "out_height: int, out_width: int"
    ),
    direct_gradient=(
        "x: Vector, dy: Vector, beta: float, dw: Vector, n: int, channels: int, "
        "height: int, width: int, filters: int, kernel_height: int, kernel_width: "
        "int, stride_height: int, stride_width: int, dilation_height: int, "
        "dilation_width: int, top: int, left: int, out_height: int, out_width: int"
    ),
)

direct_depthwise = Family(
    "direct_depthwise",
    direct_depthwise_forward=(
        "x: Vector, weight: Vector, bias: Vector, has_bias: int, y: Vector, n: int, "
        "channels: int, height: int, width: int, filters: int, kernel_height: int, "
        "kernel_width: int, stride_height: int, stride_width: int, dilation_height: "
        "int, dilation_width: int, top: int, left: int, out_height: int, out_width: "
        "int"
    ),
    direct_depthwise_derivative=(
        "dy: Vector, weight: Vector, dx: Vector, n: int, channels: int, height: "
        "int, width: int, filters: int, kernel_height: int, kernel_width: int, "
        "stride_height: int, stride_width: int, dilation_height: int, "
        "dilation_width: int, top: int, left: int, out_height: int, out_width: int"
    ),
    direct_depthwise_gradient=(
        "x: Vector, dy: Vector, beta: float, dw: Vector, n: int, channels: int, "
        "height: int, width: int, filters: int, kernel_height: int, kernel_width: "
        "int, stride_height: int, stride_width: int, dilation_height: int, "
        "dilation_width: int, top: int, left: int, out_height: int, out_width: int"
    ),
)

elementwise = Family(
    "elementwise",
    add_bias="x: Matrix, bias: Vector, y: Matrix",
    copy="x: Vector, y: Vector",
    add_to="x: Vector, y: Vector",
    add="a: Vector, b: Vector, y: Vector",
    fill="value: float, y: Vector",
    fill_doubles="value: float, y: Doubles",
    count_up="counter: Doubles",
    one_hot="labels: Integers, y: Matrix",
)

heads = Family(
    "heads",
    rotate=(
        "x: Vector, turns: Vector, sign: float, y: Vector, t: int, heads: int, "
        "width: int"
    ),
    masked_softmax=(
        "x: Vector, mask: Vector, y: Vector, heads: int, t: int, s: int, "
        "mask_sample: int, mask_head: int, has_mask: int, causal: int"
    ),
)

group_norm = Family(
    "group_norm",
    group_norm_forward=(
        "x: Vector, gamma: Vector, beta: Vector, mean: Vector, inverse: Vector, y: "
        "Vector, size: int"
    ),
    group_norm_gradient=(
        "x: Vector, dy: Vector, mean: Vector, inverse: Vector, beta: float, d_gamma: "
        "Vector, d_beta: Vector, size: int"
    ),
    group_norm_derivative=(
        "x: Vector, gamma: Vector, dy: Vector, mean: Vector, inverse: Vector, dx: "
        "Vector, size: int"
    ),
)

grouped = Family(
    "grouped",
    grouped_forward=(
        "x: Vector, weight: Vector, bias: Vector, has_bias: int, y: Vector, groups: "
        "int, n: int, channels: int, height: int, width: int, filters: int, "
        "kernel_height: int, kernel_width: int, stride_height: int, stride_width: "
        "int, dilation_height: int, dilation_width: int, top: int, left: int, "
        "out_height: int, out_width: int"
    ),
    grouped_derivative=(
        "dy: Vector, weight: Vector, dx: Vector, groups: int, n: int, channels: int, "
        "height: int, width: int, filters: int, kernel_height: int, kernel_width: "
        "int, stride_height: int, stride_width: int, dilation_height: int, "
        "dilation_width: int, top: int, left: int, out_height: int, out_width: int"
    ),
    grouped_gradient=(
        "x: Vector, dy: Vector, beta: float, dw: Vector, groups: int, n: int, "
        "channels: int, height: int, width: int, filters: int, kernel_height: int, "
        "kernel_width: int, stride_height: int, stride_width: int, dilation_height: "
        "int, dilation_width: int, top: int, left: int, out_height: int, out_width: "
        "int"
    ),
)

lengths = Family(
    "lengths",
    count_steps="lengths: Vector, steps: int, counts: Indexes, loss: Doubles",
    fill_masked=(
        "x: Vector, counts: Indexes, value: float, n: int, steps: int, columns: int, "
        "start: int, width: int"
    ),
    reverse_valid=(
        "x: Vector, counts: Indexes, n: int, steps: int, columns: int, start: int, "
        "width: int"
    ),
    take_last=(
        "x: Vector, counts: Indexes, y: Vector, n: int, steps: int, width: int, "
        "y_columns: int, y_start: int"
    ),
    add_last=(
        "dy: Vector, counts: Indexes, dx: Vector, n: int, steps: int, width: int, "
        "y_columns: int, y_start: int"
    ),
    last_cells=(
        "gates: Vector, cells: Vector, counts: Indexes, y: Vector, n: int, steps: int, "
        "unit: int, y_columns: int, y_start: int"
    ),
)

losses = Family(
    "losses",
    mse_loss="prediction: Vector, label: Vector, scale: Doubles, loss: Doubles",
    mse_derivative="prediction: Vector, label: Vector, scale: Doubles, dx: Vector",
    cross_softmax_loss=(
        "logits: Matrix, label: Matrix, probabilities: Matrix, scale: Doubles, loss: "
        "Doubles"
    ),
    cross_softmax_derivative=(
        "probabilities: Matrix, label: Matrix, scale: Doubles, dx: Matrix"
    ),
    cross_sigmoid_loss=(
        "logits: Vector, label: Vector, probabilities: Vector, scale: Doubles, loss: "
        "Doubles"
    ),
    cross_sigmoid_derivative=(
        "probabilities: Vector, label: Vector, scale: Doubles, dx: Vector"
    ),
    kld_loss="q: Vector, p: Vector, scale: Doubles, loss: Doubles",
    kld_derivative="q: Vector, p: Vector, scale: Doubles, dq: Vector",
    class_softmax_loss=(
        "logits: Matrix, label: Vector, ignored: float, probabilities: Matrix, scale: "
        "Doubles, loss: Doubles"
    ),
    class_softmax_derivative=(
        "probabilities: Matrix, label: Vector, ignored: float, scale: Doubles, dx: "
        "Matrix"
    ),
)

margins = Family(
    "margins",
    pad_forward=(
        "x: Vector, y: Vector, planes: int, height: int, width: int, top: int, left: "
        "int, out_height: int, out_width: int, mode: int"
    ),
    pad_derivative=(
        "dy: Vector, dx: Vector, planes: int, height: int, width: int, top: int, "
        "left: int, out_height: int, out_width: int, mode: int"
    ),
)

normalization = Family(
    "normalization",
    layer_norm_forward=(
        "x: Matrix, gamma: Vector, beta: Vector, epsilon: float, mean: Vector, "
        "inverse: Vector, y: Matrix"
    ),
    layer_norm_gradient=(
        "x: Matrix, dy: Matrix, mean: Vector, inverse: Vector, beta: float, d_gamma: "
        "Vector, d_beta: Vector"
    ),
    layer_norm_derivative=(
        "x: Matrix, gamma: Vector, dy: Matrix, mean: Vector, inverse: Vector, dx: "
        "Matrix"
    ),
    strided_norm_forward=(
        "x: Vector, gamma: Vector, beta: Vector, epsilon: float, mean: Vector, "
        "inverse: Vector, y: Vector, n_p: int, n_b: int, n_q: int"
    ),
    strided_norm_gradient=(
        "x: Vector, dy: Vector, mean: Vector, inverse: Vector, beta: float, d_gamma: "
        "Vector, d_beta: Vector, n_p: int, n_b: int, n_q: int"
    ),
    strided_norm_derivative=(
        "x: Vector, gamma: Vector, dy: Vector, mean: Vector, inverse: Vector, dx: "
        "Vector, n_p: int, n_b: int, n_q: int"
    ),
    rms_norm_forward=(
        "x: Matrix, gamma: Vector, epsilon: float, inverse: Vector, y: Matrix"
    ),
    rms_norm_gradient=(
        "x: Matrix, dy: Matrix, inverse: Vector, beta: float, d_gamma: Vector"
    ),
    rms_norm_derivative=(
        "x: Matrix, gamma: Vector, dy: Matrix, inverse: Vector, dx: Matrix"
    ),
    batch_norm_statistics=(
        "x: Vector, epsilon: float, mean: Vector, inverse: Vector, size: int, begin: "
        "int, end: int"
    ),
    moving_statistics=(
        "moving_mean: Vector, moving_variance: Vector, epsilon: float, mean: Vector, "
        "inverse: Vector"
    ),
    move_statistics=(
        "mean: Vector, inverse: Vector, epsilon: float, momentum: float, correction: "
        "float, moving_mean: Vector, moving_variance: Vector"
    ),
    batch_norm_forward=(
        "x: Vector, gamma: Vector, beta: Vector, mean: Vector, inverse: Vector, y: "
        "Vector, size: int"
    ),
    batch_norm_sums=(
        "x: Vector, dy: Vector, mean: Vector, inverse: Vector, sums: Vector, size: "
        "int, begin: int, end: int"
    ),
    batch_norm_gradient="sums: Vector, beta: float, d_gamma: Vector, d_beta: Vector",
    batch_norm_derivative=(
        "x: Vector, gamma: Vector, dy: Vector, mean: Vector, inverse: Vector, sums: "
        "Vector, dx: Vector, size: int, count: int"
    ),
    scale_channels="gamma: Vector, dy: Vector, inverse: Vector, dx: Vector, size: int",
)

pooling = Family(
    "pooling",
    max_forward=(
        "x: Vector, y: Vector, place: Indexes, planes: int, height: int, width: int, "
        "kernel_height: int, kernel_width: int, stride_height: int, stride_width: int, "
        "top: int, left: int, out_height: int, out_width: int"
    ),
    max_forward_wide=(
        "x: Vector, y: Vector, place: Indexes, planes: int, height: int, width: int, "
        "kernel_height: int, kernel_width: int, stride_height: int, stride_width: int, "
        "top: int, left: int, out_height: int, out_width: int"
    ),
    max_derivative=(
        "dy: Vector, place: Indexes, dx: Vector, planes: int, height: int, width: int, "
        "kernel_height: int, kernel_width: int, stride_height: int, stride_width: int, "
        "top: int, left: int, out_height: int, out_width: int"
    ),
    average_forward=(
        "x: Vector, y: Vector, planes: int, height: int, width: int, kernel_height: "
        "int, kernel_width: int, stride_height: int, stride_width: int, top: int, "
        "left: int, out_height: int, out_width: int"
    ),
    average_derivative=(
        "dy: Vector, row_of_dy: Vector, dx: Vector, planes: int, height: int, width: "
        "int, kernel_height: int, kernel_width: int, stride_height: int, stride_width: "
        "int, top: int, left: int, out_height: int, out_width: int"
    ),
    plane_max_forward="x: Vector, y: Vector, place: Indexes, planes: int, size: int",
    plane_max_derivative=(
        "dy: Vector, place: Indexes, dx: Vector, planes: int, size: int"
    ),
    plane_average_forward="x: Vector, y: Vector, planes: int, size: int",
    plane_average_derivative="dy: Vector, dx: Vector, planes: int, size: int",
    nearest_forward=(
        "x: Vector, y: Vector, planes: int, height: int, width: int, factor_height: "
        "int, factor_width: int"
    ),
    nearest_derivative=(
        "dy: Vector, dx: Vector, planes: int, height: int, width: int, factor_height: "
        "int, factor_width: int"
    ),
    bilinear_forward=(
        "x: Vector, y: Vector, planes: int, height: int, width: int, factor_height: "
        "int, factor_width: int"
    ),
    bilinear_derivative=(
        "dy: Vector, dx: Vector, planes: int, height: int, width: int, factor_height: "
        "int, factor_width: int"
    ),
)

rearrange = Family(
    "rearrange",
    copy_rows=(
        "x: Vector, y: Vector, n0: int, n1: int, n2: int, width: int, x_from: int, x0: "
        "int, x1: int, x2: int, y_from: int, y0: int, y1: int, y2: int"
    ),
    place_rows="x: Vector, y: Vector, rows: int, width: int, start: int, y_width: int",
    transpose=(
        "x: Vector, y: Vector, n0: int, n1: int, rows: int, columns: int, x0: int, x1: "
        "int, x_row: int, y0: int, y1: int, y_column: int"
    ),
)

reductions = Family(
    "reductions",
    square_sum="x: Vector, sum_so_far: Doubles",
    clip_scale="square_norm: Doubles, max_norm: float, scale: Doubles",
    l2_penalty="weight: Vector, constant: float, fraction: Doubles, loss: Doubles",
    l2_gradient="weight: Vector, constant: float, fraction: Doubles, gradient: Vector",
    count_nonfinite="x: Vector, count: Integers",
    count_unusable_in_mask="x: Vector, count: Integers",
    bias_gradient="dy: Matrix, beta: float, db: Vector",
)

rmsprop = Family(
    "rmsprop",
    rmsprop=(
        "weight: Vector, gradient: Vector, square_mean: Vector, decay: float, hyper: "
        "Doubles"
    ),
    rmsprop_momentum=(
        "weight: Vector, gradient: Vector, square_mean: Vector, velocity: Vector, "
        "decay: float, hyper: Doubles"
    ),
)

rmsprop_centered = Family(
    "rmsprop_centered",
    centered=(
        "weight: Vector, gradient: Vector, square_mean: Vector, gradient_mean: Vector, "
        "decay: float, hyper: Doubles"
    ),
    centered_momentum=(
        "weight: Vector, gradient: Vector, square_mean: Vector, gradient_mean: Vector, "
        "velocity: Vector, decay: float, hyper: Doubles"
    ),
)

rnn = Family(
    "rnn",
    rnn_previous=(
        "states: Vector, h0: Vector, has_state: int, hidden: Vector, is_reverse: int, "
        "n: int, steps: int, unit: int"
    ),
)

spans = Family(
    "spans",
    span_average_forward=(
        "x: Vector, y: Vector, planes: int, height: int, width: int, kernel_height: "
        "int, kernel_width: int, stride_height: int, stride_width: int, top: int, "
        "left: int, out_height: int, out_width: int"
    ),
    span_average_derivative=(
        "dy: Vector, dx: Vector, planes: int, height: int, width: int, kernel_height: "
        "int, kernel_width: int, stride_height: int, stride_width: int, top: int, "
        "left: int, out_height: int, out_width: int"
    ),
    span_max_forward=(
        "x: Vector, y: Vector, place: Indexes, planes: int, height: int, width: int, "
        "out_height: int, out_width: int"
    ),
    span_max_derivative=(
        "dy: Vector, place: Indexes, dx: Vector, planes: int, size: int, outs: int"
    ),
)

steps = Family(
    "steps",
    join_biases=(
        "bias_ih: Vector, bias_hh: Vector, n_biases: int, n_apart: int, joined: Vector"
    ),
    bias_from_sums="sums: Doubles, beta: float, db: Vector",
)

tokens = Family(
    "tokens",
    embedding_forward="ids: Vector, weight: Matrix, y: Matrix, loss: Doubles",
    embedding_gradient="ids: Vector, dy: Matrix, beta: float, d_weight: Matrix",
    add_positions="x: Vector, y: Vector, work: Doubles, t: int, d: int",
    dropout="x: Vector, y: Vector, control: Doubles, key: int, rate: float, size: int",
    drop_path=(
        "x: Vector, y: Vector, control: Doubles, key: int, rate: float, size: int"
    ),
    swiglu_forward="a: Vector, b: Vector, y: Vector",
    swiglu_gate_derivative="a: Vector, b: Vector, dy: Vector, da: Vector",
    swiglu_value_derivative="a: Vector, dy: Vector, db: Vector",
    swiglu_derivatives="a: Vector, b: Vector, dy: Vector, da: Vector, db: Vector",
)

touched_rows = Family(
    "touched_rows",
    touched_gradient=(
        "ids: Vector, dy: Matrix, n_rows: int, padding: int, beta: float, gradient: "
        "Matrix"
    ),
    touched_square_sum="gradient: Matrix, sum_so_far: Doubles",
    touched_sgd="weight: Matrix, gradient: Matrix, decay: float, hyper: Doubles",
    touched_momentum=(
        "weight: Matrix, gradient: Matrix, velocity: Matrix, decay: float, nesterov: "
        "int, hyper: Doubles"
    ),
    touched_adam=(
        "weight: Matrix, gradient: Matrix, first_moment: Matrix, second_moment: "
        "Matrix, hyper: Doubles"
    ),
)

update_terms = Family(
    "update_terms",
    clip_values="x: Vector, most: float, y: Vector",
    scale_number="x: Doubles, factor: float, y: Doubles",
)

updates = Family(
    "updates",
    sgd="weight: Vector, gradient: Vector, decay: float, hyper: Doubles",
    sgd_product="a: Matrix, b: Matrix, hyper: Doubles, weight: Matrix",
    sgd_momentum=(
        "weight: Vector, gradient: Vector, velocity: Vector, decay: float, hyper: "
        "Doubles"
    ),
    sgd_nesterov=(
        "weight: Vector, gradient: Vector, velocity: Vector, decay: float, hyper: "
        "Doubles"
    ),
    adam=(
        "weight: Vector, gradient: Vector, first_moment: Vector, second_moment: "
        "Vector, decay: float, hyper: Doubles"
    ),
    adamw=(
        "weight: Vector, gradient: Vector, first_moment: Vector, second_moment: "
        "Vector, decay: float, hyper: Doubles"
    ),
)

mean_loss = Family(
    "mean_loss",
    mean_loss="terms: Vector, scale: Doubles, loss: Doubles",
    mean_derivative="scale: Doubles, dx: Vector",
)

value_losses = Family(
    "value_losses",
    mae_loss="prediction: Vector, label: Vector, scale: Doubles, loss: Doubles",
    mae_derivative="prediction: Vector, label: Vector, scale: Doubles, dx: Vector",
    huber_loss=(
        "prediction: Vector, label: Vector, delta: float, scale: Doubles, loss: Doubles"
    ),
    huber_derivative=(
        "prediction: Vector, label: Vector, delta: float, scale: Doubles, dx: Vector"
    ),
)

table_sums = Family(
    "table_sums",
    sum_samples=(
        "x: Vector, y: Vector, samples: int, x_sample: int, x_from: int, rows: int, "
        "x_row: int, width: int"
    ),
)

windows = Family(
    "windows",
    matmul_windows=(
        "transpose_a: int, transpose_b: int, m: int, n: int, k: int, a: Vector, "
        "a_place: int, a_distance: int, b: Vector, b_place: int, b_distance: int, "
        "beta: float, c: Vector, c_place: int, c_distance: int"
    ),
)

sample_weights = Family(
    "sample_weights",
    weigh_samples="weights: Vector, scale: Doubles, scales: Doubles",
)

FAMILIES: tuple[Family, ...] = (
    arithmetic,
    attention,
    axiswise,
    blas,
    chains,
    class_losses,
    choices,
    convolution,
    curves,
    depthwise,
    direct,
    direct_depthwise,
    elementwise,
    heads,
    group_norm,
    grouped,
    lengths,
    losses,
    margins,
    mean_loss,
    normalization,
    pooling,
    rearrange,
    reductions,
    rmsprop,
    rmsprop_centered,
    rnn,
    sample_weights,
    spans,
    steps,
    table_sums,
    tokens,
    touched_rows,
    update_terms,
    updates,
    value_losses,
    windows,
)
"""All families, in alphabetical order."""
