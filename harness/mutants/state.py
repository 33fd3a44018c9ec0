# SPDX-License-Identifier: GPL-2.0-only
"""What decides the results of tests on a kernel, beside the kernel: which code, by content.

The tests of a suite, what they import, and so on, as far as it is the
project's own; and the files that are no Python.  An edit of anything else
keeps the results that there are, and so does one of comments alone.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vm import cache as store
from vm import paths

#: The packages that are followed.
OURS = ("harness", "vm")
#: What pytest loads for any test, and what is compiled for it.
ALWAYS = ("conftest.py", "harness/plugin.py", "harness/caller/wire_build.py")
#: What is read and not imported.
DATA = ("harness/caller/*.[chS]", "vm/guest/*.[ch]", "vm/qemu.toml")
#: The contract of a base that has none of its own.
SAMPLE = "harness/interfaces/xyzzy.py"
#: What is imported and decides nothing, and is not followed: module or directory → why.
APART: Mapping[str, str] = {
    "harness/known.py": "findings in Linux's own interfaces, on a kernel that is as it came",
    "harness/prove.py": "runs reproducers, with --prove",
    "harness/report/coverage.py": "what the kernel executed, with --coverage",
    "harness/report/conformance.py": "the page about Linux's own interfaces",
    "harness/report/repro.py": "a reproducer is written when the test has failed",
    "harness/report/repro_layout.py": "the same",
    "harness/report/repro_number.py": "the same",
    "harness/report/repro_outside.py": "the same",
    "harness/report/repro_snapshot.py": "the same",
    "harness/report/reproducers.py": "the same",
    "harness/report/results.py": "the names of properties, and a result as JSON",
    "harness/report/show.py": "how a run is shown",
    "harness/skew/": "tests of their own, on kernels of their own",
    "vm/build.py": "a kernel has a key of all that it is made of",
    "vm/kernels.py": "says what a kernel is made of",
    "vm/patches.py": "the same",
    "vm/source.py": "the same",
}


def of(tests: Sequence[str], contract: Path | None = None, *, root: Path | None = None) -> str:
    """Identity of the code behind ``tests``: files, or directories of such, of the checkout.

    ``contract`` is the contract's file, xyzzy's for none.
    """
    return _of(tuple(tests), contract, root or paths.VM.parent)


@functools.cache
def _of(tests: tuple[str, ...], contract: Path | None, top: Path) -> str:
    found = files(tests, contract, root=top)
    return store.key(*(f"{name} {_content(path)}" for name, path in sorted(found.items())))


def files(
    tests: Sequence[str], contract: Path | None = None, *, root: Path | None = None
) -> dict[str, Path]:
    """All that decides, by its name below the checkout."""
    top = root or paths.VM.parent
    todo = [top / name for name in (*ALWAYS, *tests)]
    todo += [contract or top / SAMPLE]
    found: dict[str, Path] = {}
    while todo:
        path = todo.pop()
        if path.is_dir():
            todo += path.rglob("*.py")
            continue
        name = path.relative_to(top).as_posix() if path.is_relative_to(top) else path.name
        if name in found or any(name.startswith(part) for part in APART) or not path.is_file():
            continue
        found[name] = path
        todo += _imported(path, top)
    found |= {
        path.relative_to(top).as_posix(): path for pattern in DATA for path in top.glob(pattern)
    }
    return found


def _imported(path: Path, top: Path) -> Iterator[Path]:
    """The files of our own modules that one imports, wherever in it that stands."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.Import(names=names):
                modules = [one.name for one in names]
            case ast.ImportFrom(level=level) if level:
                yield path.parent  # which of it is not looked at closely
                continue
            case ast.ImportFrom(module=str(module), names=names):
                # `from harness import model` may name a module, or what is in one.
                modules = [module, *(f"{module}.{one.name}" for one in names)]
            case _:
                continue
        for module in modules:
            parts = module.split(".")
            if parts[0] not in OURS:
                continue
            for length in range(1, len(parts) + 1):
                place = top.joinpath(*parts[:length])
                yield place / "__init__.py"
                yield place.with_suffix(".py")


def _content(path: Path) -> str:
    """What a file says; of Python neither its comments nor how it is laid out."""
    if path.suffix != ".py":
        return store.sha256_file(path)
    return store.key(ast.dump(ast.parse(path.read_bytes())))
