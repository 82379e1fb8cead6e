"""The build backend of setuptools, with what pyproject.toml has no word for.

setuptools packs into a wheel whatever lies in ``build/lib``, so modules that an earlier
build left there and that have moved since would come along: a wheel begins with an
empty one. And a source distribution takes this file with it, which builds its wheel.
"""

from __future__ import annotations

import shutil
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.command.sdist import sdist

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]


def build_wheel(
    wheel_directory: str,
    config_settings: Any = None,
    metadata_directory: str | None = None,
) -> str:
    """Remove what an earlier build left, then build a wheel; return its name."""
    shutil.rmtree("build/lib", ignore_errors=True)
    name: str = build_meta.build_wheel(
        wheel_directory, config_settings, metadata_directory
    )
    return name


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    """Build a source distribution with this file in it; return its name."""
    original = sdist.add_defaults

    def add_defaults(self: Any) -> None:
        original(self)
        self.filelist.append("tools/build_backend.py")

    sdist.add_defaults = add_defaults
    try:
        name: str = build_meta.build_sdist(sdist_directory, config_settings)
    finally:
        sdist.add_defaults = original
    return name
