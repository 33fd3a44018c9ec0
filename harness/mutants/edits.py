# SPDX-License-Identifier: GPL-2.0-only
"""`make mutants-harness`: faults put into the harness itself, each to be found by its own tests."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import click

from vm import paths, proc
from vm.errors import InfraError, UserError

TABLE = Path(__file__).with_name("edits.toml")
#: What a copy of the tree needs for the tests of the harness.
PARTS = ("harness", "vm", "selftests", "docs", "kernel-patches")
FILES = ("conftest.py", "pyproject.toml", "setup.py", "README.md", "Makefile")
#: Deadline of the tests of one edit, in seconds; they take up to 20.
SECONDS = 600.0
#: pytest's exit codes: the tests failed, and all passed.
RED, GREEN = 1, 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit:
    """One edit, and the tests that have to notice it."""

    name: str
    what: str  #: the fault
    file: str  #: below the top of the checkout
    old: str  #: stands in the file exactly once
    new: str
    tests: tuple[str, ...]  #: pytest's arguments


def load(table: Path = TABLE) -> list[Edit]:
    """The table.  InfraError when it, a part of this project, is damaged."""
    try:
        rows = tomllib.loads(table.read_text())["edit"]
        return [Edit(**{**row, "tests": tuple(row["tests"])}) for row in rows]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as exc:
        raise InfraError(f"{table}: not a table of edits: {exc}") from exc


def applied(edit: Edit, text: str) -> str:
    """The file's text with the edit.  InfraError when the file has moved on."""
    count = text.count(edit.old)
    if count != 1:
        raise InfraError(
            f"{TABLE.name}: {edit.name}: its old text stands {count} times in {edit.file}",
            hint="the file has changed: write the edit anew",
        )
    return text.replace(edit.old, edit.new)


def choose(edits: Sequence[Edit], asked: Sequence[str]) -> list[Edit]:
    """Those that are named, all for nothing.  UserError for one that there is not."""
    names = [name.strip() for one in asked for name in one.split(",") if name.strip()]
    known = [edit.name for edit in edits]
    for name in names:
        if name not in known:
            raise UserError(f"MUTANT={name}: no such edit", hint=f"known: {', '.join(known)}")
    return [edit for edit in edits if not names or edit.name in names]


def copy(top: Path, to: Path) -> None:
    """A copy of what the tests need; compiled modules included, caches not."""
    skip = shutil.ignore_patterns("__pycache__", "*.pyc")
    for part in PARTS:
        shutil.copytree(top / part, to / part, ignore=skip)
    for name in FILES:
        shutil.copy2(top / name, to / name)


def run(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """The exit code of pytest in a tree, and what it said."""
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    argv += ["--report", str(tree / "report"), *tests]
    # The tree's own packages come first: `-m` puts the working directory there.
    # Stale bytecode is told by a file's size and the second of its last change, and an
    # edit often changes neither.
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    done = proc.run(argv, cwd=tree, timeout=SECONDS, env=env, check=False, quiet=True)
    return done.code, done.out


def main(asked: Sequence[str] = (), *, top: Path | None = None) -> int:
    """Try every edit; 0 when the tests noticed each, else 1."""
    started = time.monotonic()
    edits = choose(load(), asked)
    root = top or paths.VM.parent
    for edit in edits:  # told before anything runs
        applied(edit, (root / edit.file).read_text())
    failed = 0
    with tempfile.TemporaryDirectory(prefix="extsys-edits-") as name:
        tree = Path(name) / "tree"
        tree.mkdir()
        copy(root, tree)
        green: set[tuple[str, ...]] = set()
        for number, edit in enumerate(edits, 1):
            word, text = attempt(edit, tree, green)
            failed += word != "killed"
            click.echo(f"[{number}/{len(edits)}] {word}: {edit.name}: {edit.what}")
            if text:
                click.echo(text)
            sys.stdout.flush()
    passed = len(edits) - failed
    seconds = time.monotonic() - started
    click.echo(f"{passed} passed, {failed} failed in {seconds:.0f} s")
    return 1 if failed else 0


def attempt(edit: Edit, tree: Path, green: set[tuple[str, ...]]) -> tuple[str, str]:
    """What became of one edit, and what pytest said if it was not killed."""
    if edit.tests not in green:  # without an edit they have to pass
        code, out = run(tree, edit.tests)
        if code != GREEN:
            return "red without it", out[-2000:]
        green.add(edit.tests)
    path = tree / edit.file
    before = path.read_text()
    path.write_text(applied(edit, before))
    code, out = run(tree, edit.tests)
    path.write_text(before)
    if code == GREEN:
        return "SURVIVED", ""
    # A module that does not import, or pytest's own failure, is no test that failed.
    if code != RED or " failed" not in out:
        return f"ACCIDENT (pytest's exit code {code})", out[-2000:]
    return "killed", ""
