"""Exit codes, and the printing of every failure as one message on standard error."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import click

from arena_ckpt.cli.line_breaks import fitted
from arena_ckpt.common.aliases import COMMANDS, OPTIONS, renamed
from arena_ckpt.common.wording import nearest
from arena_ckpt.errors import (
    TRACEBACK_VARIABLE,
    ArenaError,
    ArenaWarning,
    DataError,
    GoldenFileError,
    InvalidParameterError,
    ModelWarning,
    PlanFormatError,
    SavedStateError,
    TimeLimitError,
)

OK, RUN_FAILED, BAD_INPUT, NOT_KNOWN, INTERRUPTED = 0, 1, 2, 3, 130
OWN_WARNINGS = (ArenaWarning, ModelWarning)

_WRITE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a stream says that takes no more. Files that are written by name have errors of
their own."""


class Commands(click.Group):
    """A group of commands; turns every failure into one message and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit; return the exit code in `standalone_mode` False."""
        args = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in args
        try:
            _require_words(args)
            with _warnings_as_lines(), _any_character_printed():
                # Anything but a number is the end of --help and the like.
                result = super().main(args, prog_name, complete_var, False, **extra)
            code = result if isinstance(result, int) else OK
        except click.ClickException as error:
            code = BAD_INPUT
            _report_failure("UsageError", _usage_message(error), code, as_json)
        except ArenaError as error:
            code = exit_code_of(error)
            _report_failure(type(error).__name__, str(error), code, as_json)
        except ModelWarning as warning:  # an error with --strict
            code = BAD_INPUT
            _report_failure("ModelWarning", str(warning), code, as_json)
        except OSError as error:
            if error.filename is not None or error.errno not in _WRITE_FAULTS:
                raise
            code = RUN_FAILED
            _report_unwritten(error)
        except (click.Abort, KeyboardInterrupt):
            code = INTERRUPTED
            _report_failure("KeyboardInterrupt", "interrupted", code, as_json)
        if standalone_mode:
            sys.exit(code)
        return code

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the named command, or suggest one with a similar name."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(
                f"there is no command {args[0]!r}{self._meant(args[0])}; "
                f"commands are {', '.join(self.commands)}"
            )
        return super().resolve_command(ctx, args)

    def _meant(self, word: str) -> str:
        return renamed(word, COMMANDS, self.commands) or nearest(word, self.commands)


def exit_code_of(error: ArenaError) -> int:
    """Return 2 for errors that the user has to correct, 1 for failures during the work.

    3 is for a search that ended without an answer, 130 if that was for Ctrl-C.
    """
    if isinstance(error, TimeLimitError):
        return INTERRUPTED if getattr(error, "interrupted", False) else NOT_KNOWN
    is_input = isinstance(
        error,
        InvalidParameterError
        | DataError
        | GoldenFileError
        | PlanFormatError
        | SavedStateError,
    )
    return BAD_INPUT if is_input else RUN_FAILED


def _require_words(args: Sequence[str]) -> None:
    """Refuse arguments that only Python callers can pass and no system would."""
    for word in args:
        try:
            is_word = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            is_word = False
        if not is_word:
            raise click.UsageError(
                f"the argument {word!r} has a character that no argument can have"
            )


@contextmanager
def _any_character_printed() -> Iterator[None]:
    """Let standard output print characters that it cannot encode as escapes."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors=before)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print our own warnings as single lines; leave other warnings to Python."""
    with warnings.catch_warnings():
        of_python = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, OWN_WARNINGS):
                click.echo(fitted(f"warning: {message}", err=True), err=True)
            else:
                of_python(message, category, filename, lineno, file, line)

        for own in OWN_WARNINGS:
            warnings.simplefilter("always", own)
        warnings.showwarning = show
        yield


def model_warnings_as_errors() -> None:
    """Turn warnings about the model into errors while the block runs."""
    warnings.simplefilter("error", ModelWarning)


def _usage_message(error: click.ClickException) -> str:
    message = error.format_message()
    context = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption):
        message = _unknown_option(error)
    return f"{message}\nsee '{context.command_path} --help'" if context else message


def _unknown_option(error: click.NoSuchOption) -> str:
    """Return the message for an unknown option, with the one that was meant."""
    name = error.option_name
    params = error.ctx.command.get_params(error.ctx) if error.ctx else []
    spelled = [o for param in params for o in (*param.opts, *param.secondary_opts)]
    known = [option for option in spelled if option.startswith("--")]
    here = renamed(name, OPTIONS, known)
    return f"there is no option {name}{here or nearest(name, known)}"


def _report_failure(kind: str, message: str, code: int, as_json: bool) -> None:
    if os.environ.get(TRACEBACK_VARIABLE) == "1":
        traceback.print_exc(file=sys.stderr)
    click.echo(fitted(f"error: {message}", err=True), err=True)
    if as_json:
        print_json({"error": {"type": kind, "message": message, "exit_code": code}})


def _report_unwritten(error: OSError) -> None:
    """Say that standard output takes no more, and let nothing write to it again."""
    message = f"standard output cannot be written: {error.strerror}; make room there"
    sys.stdout = open(os.devnull, "w", encoding="utf-8")
    _report_failure(type(error).__name__, message, RUN_FAILED, as_json=False)


def print_json(document: dict[str, Any]) -> None:
    """Print the JSON document of a command on standard output."""
    click.echo(json.dumps(document, indent=1, allow_nan=False))
