"""A machine for install.sh, as tests/install/stand_in_wheels.py describes it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv
from tests.install.stand_in_wheels import Machine, python_for_anyone, write_wheels

if sys.platform == "win32":
    collect_ignore = ["test_install_sh.py"]


@pytest.fixture(scope="session")
def uv_program() -> Iterator[Path]:
    """uv where a user without rights may start it."""
    folder = Path(tempfile.mkdtemp(prefix="lorasmith-uv-"))
    folder.chmod(0o755)
    shutil.copy(uv.find_uv_bin(), folder / "uv")
    yield folder / "uv"
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def wheels() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lorasmith-wheels-"))
    folder.chmod(0o755)
    yield write_wheels(folder / "the wheels")
    shutil.rmtree(folder)


@pytest.fixture
def machine(uv_program: Path) -> Iterator[Machine]:
    """pytest's own folders are closed to other users; and paths have spaces and umlauts."""
    folder = Path(tempfile.mkdtemp(prefix="lorasmith für "))
    folder.chmod(0o755)
    python = python_for_anyone()
    drop_rights = os.getuid() == 0 and python is not None and shutil.which("setpriv") is not None
    made = Machine(folder, uv_program, python or sys.executable, drop_rights=drop_rights)
    made.with_uv()
    yield made
    shutil.rmtree(folder)
