"""What norms put behind the normalization: factors and shifts, trained or left out.

A norm without them runs the same kernels on factors of 1 and shifts of 0, which are
written anew in each step and are no weights.
"""

from __future__ import annotations

from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import BOOLEAN, NONNEGATIVE_REAL, Property
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.partial import TRAIN, TRAINABLE
from arena_ckpt.layers.spec import TensorSpec, WeightSpec
from arena_ckpt.layers.weighted import INITIALIZER, LEARNING_RATE_SCALE, SHARED_FROM
from arena_ckpt.operations.families import elementwise
from arena_ckpt.operations.regions import Region

_FORWARD = TensorLifespan.FORWARD
_DERIVATIVE = TensorLifespan.CALC_DERIVATIVE

_GAMMA = Property("gamma_initializer", INITIALIZER, "ones", "how gamma starts")
_BETA = Property("beta_initializer", INITIALIZER, "zeros", "how beta starts")
_GAMMA_DECAY = Property(
    "weight_decay",
    NONNEGATIVE_REAL,
    0.0,
    "adds this times gamma to its gradient at each update",
)
_BETA_DECAY = Property("bias_decay", NONNEGATIVE_REAL, 0.0, "the same for beta")

GAMMA_PROPERTIES: tuple[Property, ...] = (
    _GAMMA,
    TRAINABLE,
    TRAIN,
    SHARED_FROM,
    _GAMMA_DECAY,
    LEARNING_RATE_SCALE,
)
"""Properties of a norm with a gamma alone, which `gamma_spec` reads."""

GAMMA_BETA_PROPERTIES: tuple[Property, ...] = (
    _GAMMA,
    _BETA,
    TRAINABLE,
    TRAIN,
    SHARED_FROM,
    _GAMMA_DECAY,
    _BETA_DECAY,
    LEARNING_RATE_SCALE,
)
"""Properties of a norm with both, which `gamma_beta_specs` reads."""

_LEFT_OUT = "left_out_gradient"

AFFINE = Property(
    "affine", BOOLEAN, True, "false leaves gamma and beta out: they are 1 and 0"
)


def feature_vector(
    name: str,
    length: int,
    initializer: str,
    lifespan: TensorLifespan,
    *,
    decay: float = 0.0,
    is_trained: bool = True,
) -> WeightSpec:
    """Return a weight of one axis, with one element for each of `length` features."""
    return WeightSpec(
        name,
        (length,),
        initializer,
        fan_in=length,
        fan_out=length,
        lifespan=lifespan,
        decay=decay,
        is_trained=is_trained,
    )


def gamma_spec(layer: Layer, length: int) -> WeightSpec:
    """Return the factors of what is normalized."""
    initializer, decay = layer["gamma_initializer"], layer["weight_decay"]
    lifespan = _FORWARD | _DERIVATIVE
    return feature_vector("gamma", length, initializer, lifespan, decay=decay)


def gamma_beta_specs(layer: Layer, length: int) -> tuple[WeightSpec, ...]:
    """Return the factors of what is normalized, and what is added to it.

    With ``affine=false`` there are none.

    Raises
    ------
    ShapeMismatchError
        There are none, but those of another layer are to be used.
    """
    if not layer.get("affine", True):
        if layer["shared_from"] is not None:
            raise layer.mismatch(
                f"has shared_from={layer['shared_from']}, but affine=false leaves it "
                "no weights to share; leave one of the two out",
                shared_from=layer["shared_from"],
            )
        return ()
    initializer, decay = layer["beta_initializer"], layer["bias_decay"]
    beta = feature_vector("beta", length, initializer, _FORWARD, decay=decay)
    return gamma_spec(layer, length), beta


def unit_specs(layer: Layer, length: int) -> tuple[TensorSpec, ...]:
    """Return the workspaces that stand for gamma and beta where there are none."""
    if layer["affine"]:
        return ()
    tensors = (
        ("forward_gamma", _FORWARD),
        ("forward_beta", _FORWARD),
        ("derivative_gamma", _DERIVATIVE),
    )
    return tuple(
        TensorSpec(name, (length,), lifespan, per_sample=False)
        for name, lifespan in tensors
    )


def forward_affine(layer: Layer, tensors: Binding) -> tuple[list[Call], Region, Region]:
    """Return the calls that make gamma and beta, if any do, and both vectors."""
    if layer["affine"]:
        return [], tensors.vector("gamma"), tensors.vector("beta")
    gamma, beta = tensors.vector("forward_gamma"), tensors.vector("forward_beta")
    fill = elementwise.fill
    return [Call(fill, (1.0, gamma)), Call(fill, (0.0, beta))], gamma, beta


def derivative_gamma(layer: Layer, tensors: Binding) -> tuple[list[Call], Region]:
    """Return the calls that make gamma for a derivative, if any do, and the vector."""
    if layer["affine"]:
        return [], tensors.vector("gamma")
    gamma = tensors.vector("derivative_gamma")
    return [Call(elementwise.fill, (1.0, gamma))], gamma


def reads_for_gamma(layer: Layer) -> bool:
    """Tell whether the gradient step reads the input, which gamma's alone needs.

    So it is in a frozen layer too, which has no such step.
    """
    return not layer.is_trainable or layer.trains("gamma")


def left_out_specs(layer: Layer, length: int) -> tuple[TensorSpec, ...]:
    """Return the workspace for the gradient of the one of both that is not trained."""
    is_half = layer.trains("gamma") != layer.trains("beta")
    if not layer.is_trainable or not layer.get("affine", True) or not is_half:
        return ()
    gradient = TensorLifespan.CALC_GRADIENT
    return (TensorSpec(_LEFT_OUT, (length,), gradient, per_sample=False),)


def affine_gradients(
    layer: Layer, tensors: Binding
) -> tuple[list[Call], str, tuple[Region, Region]]:
    """Return what a kernel that makes the gradients of gamma and beta works on.

    Where one of the two is not trained, the kernel writes its gradient to a workspace,
    and the other comes out with the bits that it has in full training. Beta's is made
    of derivatives alone: they are read in place of the input.

    Returns
    -------
    calls : list of Call
        Calls that precede the kernel: it may add to what the workspace holds.
    source : str
        Role that stands for the input.
    gradients : tuple of Region
        Where those of gamma and beta go.
    """
    gamma, beta = (
        tensors.vector(role if tensors.is_wanted(role) else _LEFT_OUT)
        for role in ("gamma:grad", "beta:grad")
    )
    calls = []
    if tensors.accumulate and tensors.is_wanted(_LEFT_OUT):
        calls = [Call(elementwise.fill, (0.0, tensors.vector(_LEFT_OUT)))]
    source = "in0" if reads_for_gamma(layer) else "out0:grad"
    return calls, source, (gamma, beta)
