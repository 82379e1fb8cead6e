"""Refuses calls of public functions whose arguments do not fit, in words of ours.

Python's own message for a misspelt argument names neither the nearest one nor what else
there is. `public_call` catches that TypeError, asks the signature whether the call
could be made at all, and raises an `ArgumentError` where it could not. A TypeError from
inside a call that was made right is left alone. A call that succeeds costs one more
frame of Python and nothing else.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from arena_ckpt.common.aliases import ARGUMENTS, renamed
from arena_ckpt.common.wording import nearest, quote, quoted, shown
from arena_ckpt.errors import ArenaError, ArgumentError, InvalidParameterError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class _Decorator(Protocol):
    @overload
    def __call__(self, call: type[T]) -> type[T]: ...
    @overload
    def __call__(self, call: Callable[P, R]) -> Callable[P, R]: ...


@overload
def public_call(call: type[T]) -> type[T]: ...
@overload
def public_call(call: Callable[P, R]) -> Callable[P, R]: ...
@overload
def public_call(*, hint: str) -> _Decorator: ...
def public_call(call: Any = None, *, hint: str = "") -> Any:
    """Let calls that do not fit the signature raise an `ArgumentError`.

    Parameters
    ----------
    call : function, method or class
        The signature, name and docstring stay what they are, for people, editors and
        type checkers. For a class these are those of its constructor.
    hint : str
        What a call with other arguments than the signature has probably means; the
        message ends with it where no argument has a name near the one that was given.

    Returns
    -------
    The function that is called instead, or the class itself.

    Notes
    -----
    The refusal is an `ArgumentError`, which is an `InvalidParameterError` and a
    TypeError.
    """
    if call is None:
        return functools.partial(public_call, hint=hint)
    if isinstance(call, type):
        maker = "__new__" if issubclass(call, tuple) else "__init__"
        checked = _checked(getattr(call, maker), call.__name__, hint)
        setattr(call, maker, checked)
        return call
    return _checked(call, call.__name__, hint)


def _checked(function: Callable[P, R], name: str, hint: str) -> Callable[P, R]:
    @functools.wraps(function)
    def call(*args: P.args, **values: P.kwargs) -> R:
        __tracebackhide__ = True  # pytest leaves this frame out
        try:
            return function(*args, **values)
        except TypeError as error:
            if not isinstance(error, ArenaError):
                require_call(function, args, values, name=name, hint=hint)
            raise

    return call


def require_value(name: str, value: object, *, fits: bool, expected: str) -> None:
    """Refuse the value of an argument unless it `fits`.

    Parameters
    ----------
    name : str
        Name of the argument.
    value : object
        Value that was given.
    fits : bool
    expected : str
        Completes "expected …".

    Raises
    ------
    InvalidParameterError
    """
    if not fits:
        raise InvalidParameterError(
            f"{name}={quoted(value)} is not possible; expected {expected}",
            argument=name,
            value=value,
        )


def require_callback(name: str, function: object, takes: str) -> None:
    """Refuse an object that cannot be called with one argument.

    Parameters
    ----------
    name : str
        Name of the argument.
    function : object
        Value that was given.
    takes : str
        Completes "give a function that takes …".

    Raises
    ------
    InvalidParameterError
    """
    problem = "" if callable(function) else "cannot be called"
    if callable(function):
        try:
            inspect.signature(function).bind(None)
        except TypeError as error:
            problem = f"cannot be called so ({error})"
        except ValueError:  # some functions written in C have no signature
            return
    if problem:
        raise InvalidParameterError(
            f"{name}={quoted(function)} {problem}; give a function that takes {takes}",
            argument=name,
            value=function,
        )


def require_call(
    function: Callable[..., Any],
    args: Sequence[Any],
    values: Mapping[str, Any],
    *,
    name: str,
    hint: str = "",
) -> None:
    """Refuse arguments that a function cannot be called with.

    Parameters
    ----------
    function : callable
    args, values : sequence and mapping
        Arguments by position and by name.
    name : str
        Name of the function in messages.
    hint : str
        See `public_call`.

    Raises
    ------
    ArgumentError
    """
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **values)
    except TypeError:
        raise _Refusal(function, signature, name, hint).error(args, values) from None


class _Refusal:
    """Finds why a call does not fit a signature, and makes the error."""

    def __init__(
        self,
        function: Callable[..., Any],
        signature: inspect.Signature,
        name: str,
        hint: str,
    ) -> None:
        parameters = list(signature.parameters.values())
        self.owner = parameters[0].name if _is_bound(parameters) else ""
        self.parameters = parameters[1:] if self.owner else parameters
        self.function = function
        self.name, self.hint = name, hint
        bare = [p.replace(annotation=Parameter.empty) for p in self.parameters]
        self.usage = f"{name}{inspect.Signature(bare)}"
        self.known = tuple(
            p.name
            for p in self.parameters
            if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        )

    def error(self, args: Sequence[Any], values: Mapping[str, Any]) -> ArgumentError:
        """Return the error for these arguments."""
        if self._lacks_object(args):
            owner = self.function.__qualname__.split(".")[-2]
            return self._error(
                f"{self.name} is called on the class {owner}; make an object with "
                f"{owner}(…) and call {self.usage} on that",
                [],
            )
        args = args[1:] if self.owner else args
        by_place = [p.name for p in self.parameters if p.kind in _BY_PLACE]
        takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in self.parameters)
        unknown = [n for n in values if n not in self.known and not takes_any]
        twice = [n for n in by_place[: len(args)] if n in values]
        if unknown:
            return self._unknown(unknown[0])
        if len(args) > len(by_place):
            return self._too_many(len(by_place), len(args))
        if twice:
            return self._error(
                f"{self.name} is given {quote(twice)} twice, by position and by name; "
                "leave one out",
                twice,
            )
        missing = [
            p.name
            for place, p in enumerate(self.parameters)
            if p.default is Parameter.empty
            and p.name in self.known
            and p.name not in values
            and not (p.kind in _BY_PLACE and place < len(args))
        ]
        return self._error(
            f"{self.name} needs {quote(missing)}, which the call leaves out"
            f"{self._meant()}; call it as {self.usage}",
            missing,
        )

    def _unknown(self, argument: str) -> ArgumentError:
        here = renamed(argument, ARGUMENTS, self.known)
        near = here or nearest(argument, self.known, cutoff=0.6)
        known = ", ".join(self.known)
        return self._error(
            f"{self.name} has no argument {shown(argument)!r}{near}; "
            + (f"it has {known}" if known else "it takes none")
            + ("" if near else self._meant()),
            [argument],
        )

    def _too_many(self, taken: int, given: int) -> ArgumentError:
        takes = "1 argument" if taken == 1 else f"{taken or 'no'} arguments"
        named = len(self.known) > taken and not self.hint
        by_name = "; give the others by name, as in " if named else "; call it as "
        return self._error(
            f"{self.name} takes {takes} by position and is given {given}"
            f"{self._meant()}{by_name}{self.usage}",
            [],
        )

    def _lacks_object(self, args: Sequence[Any]) -> bool:
        """Tell whether a method is called on its class, as in ``Model.train(data)``."""
        if self.owner != "self" or self.function.__name__ == "__init__":
            return False
        return not args or not hasattr(args[0], self.name)

    def _meant(self) -> str:
        return f"; {self.hint}" if self.hint else ""

    def _error(self, message: str, arguments: Sequence[str]) -> ArgumentError:
        return ArgumentError(
            message,
            call=self.name,
            argument=arguments[0] if arguments else None,
            known=self.known,
        )


def _is_bound(parameters: Sequence[Parameter]) -> bool:
    """Tell whether the first parameter is what Python passes to a method."""
    return bool(parameters) and parameters[0].name in ("self", "cls", "_cls")
