"""The files that make a project a package of a platform, around the same sources."""

from __future__ import annotations

from collections.abc import Sequence

from arena_ckpt.c_export.program_text import ProgramText
from arena_ckpt.c_export.templates_of import filled
from arena_ckpt.common.wording import nearest, quoted, shown
from arena_ckpt.errors import InvalidParameterError

ARDUINO, PLATFORMIO, ZEPHYR, ESP_IDF = "arduino", "platformio", "zephyr", "esp-idf"
PACKAGES = (ARDUINO, PLATFORMIO, ZEPHYR, ESP_IDF)
"""The platforms that a project can be a package of."""

_HOW = {
    ARDUINO: (
        "This folder is a library for Arduino: put it, under the name {name}, into "
        "`libraries` of the\nsketchbook. `examples/{name}` is a first sketch."
    ),
    PLATFORMIO: (
        "This folder is a library for PlatformIO: put it into `lib/{name}` of a "
        "project, or name it in\n`lib_deps` as `{name}=symlink://PATH`."
    ),
    ZEPHYR: (
        "This folder is a module of Zephyr: `west build` takes it with\n"
        "`-DEXTRA_ZEPHYR_MODULES=PATH`, and `CONFIG_{NAME}=y` builds it."
    ),
    ESP_IDF: (
        "This folder is a component of ESP-IDF: put it into `components/{name}` of a "
        "project, or name\nits path in `EXTRA_COMPONENT_DIRS`."
    ),
}


def require_package(package: str | None) -> None:
    """Refuse a name that is no platform.

    Raises
    ------
    InvalidParameterError
    """
    if package is not None and package not in PACKAGES:
        raise InvalidParameterError(
            f"package={quoted(package)} is not possible"
            f"{nearest(shown(package), PACKAGES)}; a project can be a package for "
            f"{', '.join(PACKAGES)}",
            package=package,
            known=PACKAGES,
        )


def package_paths(name: str) -> frozenset[str]:
    """Return the paths of all files that a package may add to a project."""
    return frozenset(
        {
            "library.properties",
            f"examples/{name}/{name}.ino",
            "library.json",
            "zephyr/module.yml",
            "zephyr/CMakeLists.txt",
            "zephyr/Kconfig",
            "idf_component.yml",
        }
    )


def package_files(program: ProgramText, package: str | None) -> dict[str, str]:
    """Return the files that a package adds, by path."""
    values = {
        "name": program.name,
        "does": program.does,
        "sentence": _sentence(program),
        "arena_bytes": program.plan.arena_bytes,
    }
    if package == ARDUINO:
        return {
            "library.properties": filled("library.properties", **values),
            f"examples/{program.name}/{program.name}.ino": _sketch(program),
        }
    if package == PLATFORMIO:
        return {"library.json": filled("library.json", **values)}
    if package == ZEPHYR:
        return {
            "zephyr/module.yml": filled("module.yml", **values),
            "zephyr/CMakeLists.txt": filled("zephyr.cmake", **values),
            "zephyr/Kconfig": filled("Kconfig", **values),
        }
    if package == ESP_IDF:
        return {"idf_component.yml": filled("idf_component.yml", **values)}
    return {}


def component_text(program: ProgramText, package: str | None) -> str:
    """Return what makes ``CMakeLists.txt`` that of a component, too."""
    return filled("esp_idf.cmake", name=program.name) if package == ESP_IDF else ""


def package_usage(program: ProgramText, package: str | None) -> str:
    """Return the section of the README about the package."""
    if package is None:
        return ""
    name = program.name
    how = _HOW[package].format(name=name, NAME=name.upper())
    titles = {ARDUINO: "Arduino", PLATFORMIO: "PlatformIO", ZEPHYR: "Zephyr"}
    title = titles.get(package, "ESP-IDF")
    return filled("usage_package.md", package=title, how=how)


def sample_lines(program: ProgramText) -> Sequence[str]:
    """Return the statements that make up samples, of an example."""
    return [
        f"    fill({program.name}_input({place}), n * {n}, first);"
        for place, n in enumerate(program.input_elements)
    ]


def _sentence(program: ProgramText) -> str:
    what = "trains and predicts" if program.trains else "predicts"
    return f"A model that {what} in memory that was planned beforehand"


def _sketch(program: ProgramText) -> str:
    name = program.name
    return filled(
        "sketch.ino",
        name=name,
        make_samples="\n".join(sample_lines(program)),
        sketch_train=filled(
            "sketch_train.ino", name=name, fill_labels=program.losses.fill_lines()
        )
        if program.trains
        else "",
        sketch_run=filled("sketch_run.ino", name=name) if program.trains else "",
    )
