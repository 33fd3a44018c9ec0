# SPDX-License-Identifier: GPL-2.0-only
"""Lint, format, types and licence lines, each as a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

#: What a build, a test run or git leaves: not source.
NOT_SOURCE = {".git", ".venv", "build", "__pycache__", ".hypothesis"}
NOT_SOURCE_SUFFIXES = (".egg-info", "_cache")

#: Names and suffixes of files with comments: their first lines carry the licence.
CARRY = {
    *(".py", ".toml", ".yml", ".md", ".config", ".c", ".h", ".S", ".j2", ".html", ".css", ".js"),
    *("Makefile", "run", "series", ".gitignore"),
}
#: Those that cannot: patches carry it in the files they make, the rest is data.
CANNOT = {".patch", ".json", ".txt", ".log", ".xml", ".ktap", ".so", ".pyc"}


def tool(*argv: str) -> None:
    """Run a tool over the project; its output is the failure's message."""
    done = subprocess.run(
        [sys.executable, "-m", *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


def test_ruff_check() -> None:
    tool("ruff", "check", "--quiet", ".")


def test_ruff_format() -> None:
    tool("ruff", "format", "--check", "--quiet", "--diff", ".")


def test_mypy_strict() -> None:
    tool("mypy", "--strict")


def sources() -> Iterator[Path]:
    """Every file of the project, tracked or not yet."""
    for folder, below, files in os.walk(ROOT):
        below[:] = [
            name
            for name in below
            if name not in NOT_SOURCE and not name.endswith(NOT_SOURCE_SUFFIXES)
        ]
        # In a second work tree .git is a file.
        yield from (Path(folder) / name for name in files if name not in NOT_SOURCE)


def kind(path: Path) -> str:
    return path.suffix or path.name


def test_every_kind_of_file_is_known() -> None:
    unknown = {
        str(path.relative_to(ROOT)) for path in sources() if kind(path) not in CARRY | CANNOT
    }
    assert not unknown, "put their suffix into CARRY or CANNOT"


def licence(path: Path) -> str:
    """LTP, where its tests are to go, takes nothing that is for one version alone."""
    ltp = path.is_relative_to(ROOT / "kernel-patches" / "ltp") and path.suffix != ".md"
    return "GPL-2.0-or-later" if ltp else "GPL-2.0-only"


def test_spdx_lines() -> None:
    """In the first two lines, after the `#!` of a script; as the kernel has it."""
    lacking = []
    for path in sources():
        if kind(path) in CARRY:
            head = path.read_text(errors="replace").splitlines()[:2]
            wanted = f"SPDX-License-Identifier: {licence(path)}"
            if not any(wanted in line for line in head):
                lacking.append(str(path.relative_to(ROOT)))
    assert not lacking
