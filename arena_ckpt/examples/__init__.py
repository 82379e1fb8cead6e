"""Models that come with the package, each with data to train it on."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from arena_ckpt.common.arguments import public_call, require_call
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.wording import nearest, quoted, shown
from arena_ckpt.data.dataset import Dataset
from arena_ckpt.errors import ArenaError, InvalidParameterError, UnknownTypeError
from arena_ckpt.examples import llama, material, networks, pictures
from arena_ckpt.importers.ini import load_ini
from arena_ckpt.model import Model

__all__ = ["EXAMPLES", "Example", "load_example"]


LARGEST_SIZE = 2**16
MOST_LAYERS = 2**10
"""Maximum value of a parameter that counts layers."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A model and data that fit it.

    Attributes
    ----------
    name : str
        A key of `EXAMPLES`.
    description : str
    model : Model
        Not initialized yet.
    data : Dataset
        To train on.
    validation : Dataset or None
        None where the data are made up and nothing could be learned from it.
    """

    name: str
    description: str
    model: Model
    data: Dataset
    validation: Dataset | None

    def __repr__(self) -> str:
        samples = counted(self.data.n_samples, "sample")
        rest = "" if self.validation is None else f"{self.validation.n_samples:,} more"
        layers = counted(len(self.model.layers), "layer")
        text = f"{rest} for validation" if rest else ""
        return short_repr(self, self.name, layers, samples, text)


@dataclass(frozen=True, slots=True)
class _Recipe:
    """The description, the model and the data of an example."""

    description: str
    build: Callable[..., Model]
    load: Callable[[Model], material.Split]


def _packed(name: str) -> Callable[[], Model]:
    def build() -> Model:
        packed = importlib.resources.files("arena_ckpt.examples") / f"{name}.ini"
        with importlib.resources.as_file(packed) as path:
            return load_ini(path)

    return build


def _pictures(model: Model) -> material.Split:
    classes = int(model.layers[-2]["unit"])
    n = 4 * int(model.get_property("batch_size"))
    return material.noisy_classes(n, _input_elems(model), classes)


def _noise(model: Model, *, to_itself: bool = False) -> material.Split:
    n = 4 * int(model.get_property("batch_size"))
    return material.noise(n, _input_elems(model), to_itself=to_itself)


def _text(model: Model) -> material.Split:
    return material.python_sources(_input_elems(model), networks.TEXT_CHARACTERS)


def _input_elems(model: Model) -> int:
    channel, height, width = model.layers[0]["input_shape"]
    return int(channel * height * width)


_RECIPES: dict[str, _Recipe] = {
    "digits_mlp": _Recipe(
        "handwritten digits of 8 × 8 pixels, six hidden layers of 64, gelu, adam and "
        "three checkpoint blocks; reaches more than 95 % in a second",
        _packed("digits_mlp"),
        lambda model: material.digits(),
    ),
    "digits_cnn": _Recipe(
        "the same digits, four convolutions with batch normalization and two "
        "checkpoint blocks; reaches more than 98 % in some seconds",
        networks.digits_cnn,
        lambda model: material.digits(),
    ),
    "multi_head": _Recipe(
        "the same digits with two losses on one body: which digit it is, and how dark "
        "it is drawn",
        networks.multi_head,
        lambda model: material.digits_and_ink(),
    ),
    "nine_layer_mlp": _Recipe(
        "784-512-256-128-10 with relu, mse and one checkpoint block, on made-up data",
        _packed("nine_layer_mlp"),
        lambda model: material.noisy_prototypes(),
    ),
    "transformer": _Recipe(
        "attention, normalization, 512-2048-512 with gelu, normalization: repeated, "
        "each a checkpoint block, on made-up data",
        networks.transformer,
        _noise,
    ),
    "char_transformer": _Recipe(
        "a causal transformer that learns to write Python from the sources of the "
        "standard library, a character at a time",
        networks.char_transformer,
        _text,
    ),
    "gpt": _Recipe(
        "the same of six layers of 256 on 128 characters", networks.gpt, _text
    ),
    "llama_tiny": _Recipe(
        "a small Llama on the same text: rotary attention in groups, SwiGLU, a tied "
        "head",
        llama.llama_tiny,
        _text,
    ),
    "resnet8": _Recipe(
        "the residual network of MLPerf Tiny, on made-up pictures of 32 × 32",
        networks.resnet8,
        _pictures,
    ),
    "resnet18": _Recipe(
        "a residual network of 18 layers, on made-up pictures of 32 × 32",
        networks.resnet18,
        _pictures,
    ),
    "mobilenet_v2": _Recipe(
        "inverted residuals, a third of the paper's width, on made-up pictures of "
        "96 × 96",
        networks.mobilenet_v2,
        _pictures,
    ),
    "mobilenet_v3_small": _Recipe(
        "inverted residuals that squeeze and excite, half the paper's width, on "
        "made-up pictures of 96 × 96",
        pictures.mobilenet_v3_small,
        _pictures,
    ),
    "unet": _Recipe(
        "a U-Net that finds discs in noise, pixel by pixel, in made-up pictures of "
        "48 × 48",
        pictures.unet,
        lambda model: material.discs(
            4 * int(model.get_property("batch_size")),
            model.layers[0]["input_shape"],
            int(model.layers[-3]["filters"]),
        ),
    ),
    "keyword_gru": _Recipe(
        "a gated recurrent unit over 49 frames, on made-up keywords",
        networks.keyword_gru,
        _pictures,
    ),
    "lstm_har": _Recipe(
        "two LSTMs over 128 steps of nine sensors of a phone, on made-up movements",
        networks.lstm_har,
        lambda model: material.movements(
            4 * int(model.get_property("batch_size")),
            model.layers[0]["input_shape"],
            int(model.layers[-2]["unit"]),
        ),
    ),
    "autoencoder": _Recipe(
        "640 to 8 to 640, the autoencoder of MLPerf Tiny, on made-up data",
        networks.autoencoder,
        lambda model: _noise(model, to_itself=True),
    ),
}

EXAMPLES: dict[str, str] = {
    name: recipe.description for name, recipe in _RECIPES.items()
}
"""One-line descriptions of the examples by name."""


@public_call
def load_example(name: str, **sizes: Any) -> Example:
    """Make a new model of an example, and load or make up its data.

    Parameters
    ----------
    name : str
        A key of `EXAMPLES`.
    **sizes
        Parameters of the function that builds it, in `arena_ckpt.examples.networks` or
        `arena_ckpt.examples.pictures`.

    Returns
    -------
    Example
        The same numbers at every call.

    Raises
    ------
    UnknownTypeError
        No such example; the nearest one is named.
    InvalidParameterError
        It has no such size (`ArgumentError`), or cannot be built with it.
    """
    if not isinstance(name, str) or name not in _RECIPES:
        raise UnknownTypeError(
            f"unknown example {quoted(name)}{nearest(shown(name), EXAMPLES)}; known "
            f"are {', '.join(EXAMPLES)}",
            type_name=name,
            known=tuple(EXAMPLES),
        )
    recipe = _RECIPES[name]
    require_call(recipe.build, (), sizes, name=f"example {name!r}")
    for key, value in sizes.items():
        most = MOST_LAYERS if key == "n_layers" else LARGEST_SIZE
        if key != "seed" and isinstance(value, int) and value > most:
            raise InvalidParameterError(
                f"example {name!r}: {key}={value:,} is not possible; at most {most:,} "
                "can be asked of an example",
                type_name=name,
                sizes=sizes,
            )
    try:
        model = recipe.build(**sizes)
    except (TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, ArenaError) or not sizes:
            raise
        raise InvalidParameterError(
            f"example {name!r} cannot be built with {shown(sizes)}: {error}",
            type_name=name,
            sizes=sizes,
        ) from error
    return Example(name, recipe.description, model, *recipe.load(model))
