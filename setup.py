"""What the build copies besides packages; its configuration is pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithInfra(build_py):
    """Takes ``infra/`` along into the wheel: an installed package can deploy."""

    def run(self) -> None:
        """Build, and copy."""
        super().run()
        if self.editable_mode:
            return
        source = Path(__file__).parent / "infra"
        target = Path(self.build_lib) / "dask_root_lambda" / "infra"
        ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars*", "examples")
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignored)


setup(cmdclass={"build_py": BuildWithInfra})
