# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own selftests of one target, built from the patched tree.

    make -C tools/testing/selftests/TARGET OUTPUT=… KHDR_INCLUDES=…

as Documentation/dev-tools/kselftest.rst has it for a single target, with the
output outside the tree, which is never written to.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from vm import proc
from vm.errors import BuildError

#: Three programs of a thousand lines, on a slow machine.  Seconds.
SECONDS = 600.0


def targets(touched: Iterable[str]) -> tuple[str, ...]:
    """The selftests whose Makefile is among the files that a series touches."""
    found = (re.fullmatch(r"tools/testing/selftests/(\w+)/Makefile", name) for name in touched)
    return tuple(match[1] for match in found if match)


def _digest(sources: Path, headers: Path) -> str:
    """The target's sources, what it includes beside them, the headers, the compiler.

    By content: most patches change no header, and need no programs of their own.
    """
    state = hashlib.sha256()
    used = sorted(sources.rglob("*")) + sorted(sources.parent.glob("*.h"))
    for path in used + sorted(headers.rglob("*.h")):
        if path.is_file():
            data = path.read_bytes()
            state.update(f"{path.name} {len(data)}\0".encode() + data)
    state.update(proc.run(["gcc", "--version"], timeout=SECONDS, quiet=True).out.encode())
    return state.hexdigest()[:16]


def build(target: str, *, tree: Path, headers: Path, cache: Path) -> Mapping[str, Path]:
    """Build ``target``'s programs; their names and paths.

    ``tree`` is a patched kernel tree, ``headers`` its installed UAPI include
    directory.  Raises BuildError with the end of make's output.
    """
    sources = tree / "tools/testing/selftests" / target
    if not (sources / "Makefile").exists():
        raise BuildError(f"{sources}: the tree has no selftest of that name")
    home = cache / "kselftest"
    home.mkdir(parents=True, exist_ok=True)
    final = home / f"{target}-{_digest(sources, headers)}"
    with (home / f".{final.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            work = Path(tempfile.mkdtemp(dir=home, prefix=".making-"))
            try:
                _make(sources, headers, work)
                work.chmod(0o755)
                work.rename(final)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(work)
    os.utime(final)  # used: vm/cache.py:trim keeps what was
    return {
        path.name: path
        for path in sorted(final.iterdir())
        if path.is_file() and os.access(path, os.X_OK)
    }


def _make(sources: Path, headers: Path, output: Path) -> None:
    log = output / "make.log"
    done = proc.run(
        [
            "make",
            "-C",
            sources,
            f"OUTPUT={output}",
            f"KHDR_INCLUDES=-isystem {headers}",
            "all",
        ],
        timeout=SECONDS,
        log=log,
        check=False,
    )
    if done.code:
        tail = "\n".join(done.out.splitlines()[-15:])
        raise BuildError(f"selftests/{sources.name} does not build:\n{tail}")
