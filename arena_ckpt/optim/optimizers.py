"""Optimizers: the states that they keep for each weight, and the numbers they use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arena_ckpt.common.aliases import OPTIMIZERS, renamed
from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.properties import (
    BOOLEAN,
    FRACTION,
    NONNEGATIVE_REAL,
    POSITIVE_REAL,
    Property,
    parse_properties,
    split_strings,
    unknown_property,
    write_properties,
)
from arena_ckpt.common.wording import nearest, quoted, shown
from arena_ckpt.errors import InvalidParameterError, UnknownTypeError
from arena_ckpt.operations.elementary import whole_power
from arena_ckpt.operations.families import (
    rmsprop,
    rmsprop_centered,
    touched_rows,
    updates,
)
from arena_ckpt.operations.kernel_names import KernelName

_MOMENTS = (
    Property("beta1", FRACTION, 0.9, "decay of the first moment"),
    Property("beta2", FRACTION, 0.999, "decay of the second moment"),
)
_CLIP_VALUE = Property(
    "clip_value",
    POSITIVE_REAL,
    None,
    "each element of a gradient is limited to this, in both directions",
)
OPTIMIZER_SCHEMAS: dict[str, tuple[Property, ...]] = {
    "sgd": (
        Property("learning_rate", POSITIVE_REAL, 0.01, "size of a step"),
        Property("momentum", FRACTION, 0.0, "how much of the last step goes on"),
        Property("nesterov", BOOLEAN, False, "look ahead along the momentum"),
        _CLIP_VALUE,
    ),
    "adam": (
        Property("learning_rate", POSITIVE_REAL, 0.001, "size of a step"),
        *_MOMENTS,
        Property("epsilon", POSITIVE_REAL, 1e-7, "added after the square root"),
        _CLIP_VALUE,
    ),
    "adamw": (
        Property("learning_rate", POSITIVE_REAL, 0.001, "size of a step"),
        *_MOMENTS,
        Property("epsilon", POSITIVE_REAL, 1e-8, "added after the square root"),
        Property("weight_decay", NONNEGATIVE_REAL, 0.0, "decoupled weight decay"),
        _CLIP_VALUE,
    ),
    "rmsprop": (
        Property("learning_rate", POSITIVE_REAL, 0.01, "size of a step"),
        Property("alpha", FRACTION, 0.99, "decay of the mean of squares"),
        Property("epsilon", POSITIVE_REAL, 1e-8, "added after the square root"),
        Property("momentum", FRACTION, 0.0, "how much of the last step goes on"),
        Property(
            "centered",
            BOOLEAN,
            False,
            "true divides by the deviation of the gradient: its mean is kept as well",
        ),
        _CLIP_VALUE,
    ),
}
_DEFAULTS = {
    type_name: {declared.name: declared.default for declared in schema}
    for type_name, schema in OPTIMIZER_SCHEMAS.items()
}


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An optimizer with its properties.

    Attributes
    ----------
    type_name : str
        ``"sgd"``, ``"adam"``, ``"adamw"`` or ``"rmsprop"``.
    given : mapping
        Parsed values of the properties that were set.
    """

    type_name: str
    given: Mapping[str, Any]

    def __repr__(self) -> str:
        values = {"learning_rate": self["learning_rate"], **self.given}
        given = ", ".join(f"{name}={value!r}" for name, value in values.items())
        return f"{self.type_name}({given})"

    def __getitem__(self, name: str) -> Any:
        """Return the value of a property, or its default.

        Raises
        ------
        UnknownPropertyError
        """
        defaults = _DEFAULTS[self.type_name]
        if not isinstance(name, str) or name not in defaults:
            raise unknown_property(f"optimizer {self.type_name}", name, defaults)
        return self.given.get(name, defaults[name])

    @property
    def has_momentum(self) -> bool:
        """Whether a velocity is kept for each weight."""
        return self.type_name in ("sgd", "rmsprop") and bool(self["momentum"])

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the tensors that are kept for each weight and begin at zero."""
        velocity = ("velocity",) if self.has_momentum else ()
        if self.type_name == "sgd":
            return velocity
        if self.type_name == "rmsprop":
            means = ("square_mean", *(("gradient_mean",) if self["centered"] else ()))
            return (*means, *velocity)
        return ("first_moment", "second_moment")

    @property
    def kernel(self) -> KernelName:
        """Kernel that updates a weight: (weight, gradient, *states, decay, hyper)."""
        if self.type_name == "rmsprop":
            return self._rmsprop_kernel
        if self.type_name != "sgd":
            return updates.adam if self.type_name == "adam" else updates.adamw
        if not self["momentum"]:
            return updates.sgd
        return updates.sgd_nesterov if self["nesterov"] else updates.sgd_momentum

    @property
    def _rmsprop_kernel(self) -> KernelName:
        if self["centered"]:
            family = rmsprop_centered
            return family.centered_momentum if self.has_momentum else family.centered
        return rmsprop.rmsprop_momentum if self.has_momentum else rmsprop.rmsprop

    @property
    def touched_kernel(self) -> KernelName:
        """Kernel that updates a table by a gradient of touched rows.

        See `kernels.touched_rows`.
        """
        if self.type_name == "adam":
            return touched_rows.touched_adam
        assert self.type_name == "sgd", self.type_name
        if self["momentum"]:
            return touched_rows.touched_momentum
        return touched_rows.touched_sgd

    @property
    def touched_terms(self) -> tuple[float | int, ...]:
        """What `touched_kernel` takes between the tensors and the hyperparameters."""
        if self.type_name == "adam":
            return ()
        return (0.0, int(self["nesterov"])) if self["momentum"] else (0.0,)

    @property
    def product_kernel(self) -> KernelName:
        """Kernel that updates a weight without states by a gradient ``aᵀ · b``.

        The update of one weight: (a, b, hyper, weight).
        """
        assert not self.state_names, self.type_name
        return updates.sgd_product

    def hyperparameters(
        self, iteration: int, learning_rate: float
    ) -> tuple[float, ...]:
        """Return the numbers that the kernel reads in an iteration.

        Parameters
        ----------
        iteration : int
            Updates made so far.
        learning_rate : float
            Learning rate of this iteration.

        Returns
        -------
        tuple of float
            The learning rate, the gradient scale (1; clipping lowers it), then those
            of the kernel.
        """
        head = (learning_rate, 1.0)
        if self.type_name == "sgd":
            return (*head, self["momentum"]) if self["momentum"] else head
        if self.type_name == "rmsprop":
            momentum = (self["momentum"],) if self["momentum"] else ()
            return (*head, self["alpha"], self["epsilon"], *momentum)
        beta1, beta2 = self["beta1"], self["beta2"]
        corrections = (
            1 - whole_power(beta1, iteration + 1),
            1 - whole_power(beta2, iteration + 1),
        )
        hyper = (*head, beta1, beta2, self["epsilon"], *corrections)
        return hyper if self.type_name == "adam" else (*hyper, self["weight_decay"])

    def to_properties(self) -> dict[str, str]:
        """Return the properties that were set, as text."""
        return write_properties(OPTIMIZER_SCHEMAS[self.type_name], self.given)


@public_call
def create_optimizer(
    type_name: str, properties: Sequence[str] = (), **values: object
) -> Optimizer:
    """Return an optimizer with the given properties.

    Parameters
    ----------
    type_name : str
        ``"sgd"``, ``"adam"``, ``"adamw"`` or ``"rmsprop"``, in any case.
    properties : sequence of str
        NNTrainer-style ``["learning_rate=0.001"]``.
    **values
        The same as keyword arguments; these win.

    Raises
    ------
    UnknownTypeError
        No such optimizer.
    InvalidParameterError
        A property it does not have, or an impossible value.
    """
    key = shown(type_name).strip().lower()
    if key not in OPTIMIZER_SCHEMAS:
        here = renamed(key, OPTIMIZERS, OPTIMIZER_SCHEMAS)
        raise UnknownTypeError(
            f"unknown optimizer {quoted(type_name)}"
            f"{here or nearest(key, OPTIMIZER_SCHEMAS)}; known are "
            f"{', '.join(OPTIMIZER_SCHEMAS)}",
            type_name=type_name,
        )
    owner = f"optimizer {key}"
    given = split_strings(owner, properties) | values
    optimizer = Optimizer(key, parse_properties(owner, OPTIMIZER_SCHEMAS[key], given))
    if key == "sgd" and optimizer["nesterov"] and not optimizer["momentum"]:
        raise InvalidParameterError(
            "optimizer sgd: nesterov=true needs a momentum above 0; set momentum, for "
            "example momentum=0.9",
            property="nesterov",
        )
    return optimizer
