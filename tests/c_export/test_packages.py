"""Projects in C as packages of platforms: files that those read and build."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.c_nets import NETS

from arena_ckpt.c_export.packages import PACKAGES
from arena_ckpt.c_export.project import CProject, write_project
from arena_ckpt.cli import main
from arena_ckpt.device.export_c import export_c, make_c_project
from arena_ckpt.errors import InvalidParameterError

SOURCES = ["dense.c", "dense_weights.c", "ac_kernels.c", "ac_math.c"]


@functools.cache
def project_of(package: str | None, mode: str = "train") -> CProject:
    return make_c_project(
        NETS["dense"](), name="dense", mode=mode, steps=2, package=package
    )


def text_of(package: str, path: str) -> str:
    return project_of(package).files[path].decode()


def needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not there")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_adds_files_around_the_same_sources(package: str) -> None:
    plain, made = project_of(None).files, project_of(package).files
    changed = {path for path in plain if made[path] != plain[path]}

    assert changed <= {"README.md", "CMakeLists.txt"}
    assert ("CMakeLists.txt" in changed) == (package == "esp-idf")
    added = made.keys() - plain.keys()
    assert added
    for path in added:
        assert f"| `{path}` |" in made["README.md"].decode()
        assert "$" not in re.sub(r"\$\{\w+\}", "", made[path].decode())


def test_the_properties_of_a_library_for_arduino() -> None:
    lines = text_of("arduino", "library.properties").splitlines()
    values = dict(line.split("=", 1) for line in lines)
    wanted = ("name", "version", "author", "maintainer", "sentence", "paragraph")
    assert list(values) == [*wanted, "category", "url", "architectures", "includes"]
    assert all(values.values())
    assert re.fullmatch(r"[A-Za-z0-9][\w .-]{0,62}", values["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", values["version"])
    assert values["includes"] == "dense.h"
    assert values["category"] == "Data Processing"
    assert values["architectures"] == "*"


ARDUINO = """
#include <stdint.h>
struct Printer {
    void begin(long);
    void print(const char *);
    void println(double, int);
    void println(int);
};
extern Printer Serial;
void delay(unsigned long);
"""


@pytest.mark.parametrize("mode", ["train", "inference"])
def test_a_sketch_compiles(mode: str, tmp_path: Path) -> None:
    compiler = needs("g++")
    write_project(project_of("arduino", mode), tmp_path / "dense")
    (tmp_path / "Arduino.h").write_text(ARDUINO)
    sketch = "dense/examples/dense/dense.ino"
    flags = ["-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I."]
    include = ["-Idense/src", "-include", "Arduino.h", "-xc++"]
    subprocess.run([compiler, *flags, *include, sketch], cwd=tmp_path, check=True)
    text = (tmp_path / sketch).read_text()
    assert ("dense_train(" in text) == (mode == "train")


def test_the_manifest_of_a_library_for_platformio() -> None:
    manifest = json.loads(text_of("platformio", "library.json"))
    assert manifest["name"] == "dense"
    assert manifest["headers"] == "dense.h"
    assert manifest["build"]["srcDir"] == "src"
    assert "-ffp-contract=off" in manifest["build"]["flags"]


def parsed_yaml(text: str) -> dict[str, object]:
    """Read mappings of words, as deep as they are indented; nothing else is there."""
    root: dict[str, object] = {}
    levels = [(-1, root)]
    for line in text.splitlines():
        found = re.fullmatch(r'( *)(\w+):(?: (".*"|[\w./-]+))?', line)
        assert found, line
        indent, key, value = len(found[1]), found[2], found[3]
        while levels[-1][0] >= indent:
            levels.pop()
        inner: dict[str, object] = {}
        levels[-1][1][key] = value.strip('"') if value else inner
        if not value:
            levels.append((indent, inner))
    return root


def test_a_module_of_zephyr_names_its_files() -> None:
    module = parsed_yaml(text_of("zephyr", "zephyr/module.yml"))
    build = {"cmake": "zephyr", "kconfig": "zephyr/Kconfig"}
    assert module == {"name": "dense", "build": build}
    kconfig = text_of("zephyr", "zephyr/Kconfig")
    assert kconfig.startswith('config DENSE\n\tbool "')
    for line in kconfig.splitlines()[1:]:
        assert re.match(r"\t(bool \"[^\"]+\"|help|  \S.*)$", line), line


ZEPHYR = """
function(zephyr_library_named)
  message("library ${ARGV}")
endfunction()
function(zephyr_library_sources)
  foreach(source ${ARGV})
    if(NOT EXISTS ${source})
      message(FATAL_ERROR "no ${source}")
    endif()
    get_filename_component(name ${source} NAME)
    message("source ${name}")
  endforeach()
endfunction()
function(zephyr_library_compile_options)
  message("options ${ARGV}")
endfunction()
function(zephyr_include_directories)
  if(NOT EXISTS ${ARGV}/dense.h)
    message(FATAL_ERROR "no header")
  endif()
endfunction()
include(dense/zephyr/CMakeLists.txt)
"""


def test_a_module_of_zephyr_builds_the_sources(tmp_path: Path) -> None:
    cmake = needs("cmake")
    write_project(project_of("zephyr"), tmp_path / "dense")
    (tmp_path / "run.cmake").write_text(ZEPHYR)

    def said(*options: str) -> list[str]:
        command = [cmake, *options, "-P", "run.cmake"]
        done = subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stderr.splitlines()

    wanted = ["library dense", *(f"source {name}" for name in SOURCES)]
    wanted.append("options -ffp-contract=off;-fno-strict-aliasing")
    assert said("-DCONFIG_DENSE=y") == wanted
    vectors = said("-DCONFIG_DENSE=y", "-DCONFIG_ARMV8_1_M_MVEF=y")
    assert vectors == [*wanted, "options -fno-tree-vectorize"]
    assert said() == []


ESP_IDF = """
cmake_minimum_required(VERSION 3.13)
project(app C)
set(ESP_PLATFORM 1)
macro(idf_component_register)
  cmake_parse_arguments(own "" "" "SRCS;INCLUDE_DIRS" ${ARGN})
  set(COMPONENT_LIB __idf_dense)
  add_library(${COMPONENT_LIB} STATIC ${own_SRCS})
  target_include_directories(${COMPONENT_LIB} PUBLIC ${own_INCLUDE_DIRS})
endmacro()
add_subdirectory(dense)
"""


def test_a_component_of_esp_idf_builds_and_the_test_stays(tmp_path: Path) -> None:
    cmake = needs("cmake")
    needs("gcc")
    manifest = parsed_yaml(text_of("esp-idf", "idf_component.yml"))
    assert manifest["version"] == "1.0.0"
    assert manifest["dependencies"] == {"idf": ">=4.4"}
    write_project(project_of("esp-idf"), tmp_path / "dense")
    (tmp_path / "CMakeLists.txt").write_text(ESP_IDF)
    for source, build in ((".", "app"), ("dense", "plain")):
        for command in (["-S", source, "-B", build], ["--build", build]):
            subprocess.run(
                [cmake, *command], cwd=tmp_path, check=True, capture_output=True
            )
    assert (tmp_path / "app/dense/lib__idf_dense.a").exists()
    done = subprocess.run([tmp_path / "plain/dense_test"], capture_output=True)
    assert done.returncode == 0


def test_another_package_replaces_the_files_of_one(tmp_path: Path) -> None:
    folder = tmp_path / "dense"
    for package in (*PACKAGES, None):
        write_project(project_of(package), folder)
        found = {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file()
        }
        assert found == set(project_of(package).files)


def test_an_unknown_package_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="did you mean 'zephyr'"):
        export_c(NETS["dense"](), tmp_path / "c", package="zefyr")
    assert not list(tmp_path.iterdir())


def test_the_command_line_takes_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ["export", "digits_mlp", "--batch-size", "4"]

    def run(*options: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, [*model, *options])
        return result.exit_code, result.stderr

    assert run("--to", "c", "-o", "c", "--package", "platformio")[0] == 0
    assert json.loads(Path("c/library.json").read_text())["name"] == "digits_mlp"
    code, message = run("--to", "c", "-o", "d", "--package", "esp_idf")
    assert (code, "did you mean 'esp-idf'" in message) == (2, True)
    for option in (("--package", "zephyr"), ("--board", "rp2350")):
        code, message = run("--to", "json", *option)
        assert (code, f"{option[0]} is for c" in message) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
