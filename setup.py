"""One step of the build that pyproject.toml has no word for.

setuptools packs into a wheel whatever lies in ``build/lib``, so modules that an earlier
build left there and that have moved since would come along.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build import build


class FreshBuild(build):
    """Begin with an empty ``build/lib``."""

    def run(self) -> None:
        """Remove what an earlier build left, then build."""
        left = Path(self.build_lib)
        if left.is_relative_to(self.build_base):  # not where someone asked for it
            shutil.rmtree(left, ignore_errors=True)
        super().run()


setup(cmdclass={"build": FreshBuild})
