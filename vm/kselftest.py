# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own selftests of one target, built from the patched tree.

    make -C tools/testing/selftests/TARGET OUTPUT=… KHDR_INCLUDES=…

as Documentation/dev-tools/kselftest.rst has it for a single target, with the
output outside the tree, which is never written to.  Those of the series build a
program for each ABI by themselves; Linux's own are built for the one that
USERCFLAGS and USERLDFLAGS name, which selftests/lib.mk appends to its flags.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from vm import proc
from vm.errors import BuildError
from vm.paths import VM

#: Three programs of a thousand lines, on a slow machine.  Seconds.
SECONDS = 600.0
#: In the guest there is no dynamic linker, and no library.
STATIC = "-static"
#: openat2's Makefile asks for sanitizers, which cannot be linked statically.
UNSANITIZED = "-fno-sanitize=all"
#: Headers for libraries that not every ABI has: as much of libcap as is used.
INCLUDE = VM / "guest" / "include"
#: Their functions are inline; this is what -lcap finds.
STAND_INS = ("cap",)
#: make's output, beside the programs.
LOG = "make.log"
#: How many of the compiler's lines tell why a program does not build.
TOLD = 3


def targets(touched: Iterable[str]) -> tuple[str, ...]:
    """The selftests whose Makefile is among the files that a series touches."""
    found = (re.fullmatch(r"tools/testing/selftests/(\w+)/Makefile", name) for name in touched)
    return tuple(match[1] for match in found if match)


def _digest(sources: Path, headers: Path, *words: str) -> str:
    """The target's sources, what it includes beside them, the headers, the compiler.

    By content: most patches change no header, and need no programs of their own.
    """
    state = hashlib.sha256("\0".join(words).encode())
    used = sorted(sources.rglob("*")) + sorted(sources.parent.glob("*.h"))
    for path in used + sorted(headers.rglob("*.h")):
        if path.is_file():
            data = path.read_bytes()
            state.update(f"{path.name} {len(data)}\0".encode() + data)
    state.update(proc.run(["gcc", "--version"], timeout=SECONDS, quiet=True).out.encode())
    return state.hexdigest()[:16]


def _sources(target: str, tree: Path) -> Path:
    sources = tree / "tools/testing/selftests" / target
    if not (sources / "Makefile").exists():
        raise BuildError(f"{sources}: the tree has no selftest of that name")
    return sources


def _once(name: str, cache: Path, make: Callable[[Path], None]) -> Path:
    """The directory that ``make`` fills, from the cache when it is there; whole or not at all."""
    home = cache / "kselftest"
    home.mkdir(parents=True, exist_ok=True)
    final = home / name
    with (home / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            work = Path(tempfile.mkdtemp(dir=home, prefix=".making-"))
            try:
                make(work)
                work.chmod(0o755)
                work.rename(final)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(work)
    os.utime(final)  # used: vm/cache.py:trim keeps what was
    return final


def build(target: str, *, tree: Path, headers: Path, cache: Path) -> Mapping[str, Path]:
    """Build ``target``'s programs; their names and paths.

    ``tree`` is a patched kernel tree, ``headers`` its installed UAPI include
    directory.  Raises BuildError with the end of make's output.
    """
    sources = _sources(target, tree)

    def make(work: Path) -> None:
        done = _make(sources, headers, work, "all")
        if done.code:
            tail = "\n".join(done.out.splitlines()[-15:])
            raise BuildError(f"selftests/{sources.name} does not build:\n{tail}")

    final = _once(f"{target}-{_digest(sources, headers)}", cache, make)
    return {
        path.name: path
        for path in sorted(final.iterdir())
        if path.is_file() and os.access(path, os.X_OK)
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Programs:
    """What was built of a target for one ABI."""

    built: Mapping[str, Path]
    missing: Mapping[str, str]  #: the programs that did not build, and what the compiler said


def build_for(
    target: str, names: Sequence[str], *, cflag: str, tree: Path, headers: Path, cache: Path
) -> Programs:
    """Build some of ``target``'s programs, static, for the ABI that ``cflag`` selects.

    ``target`` is a directory below tools/testing/selftests/, of which the tree
    may have none: then all are missing.  A program that does not build for the
    ABI stops no other.
    """
    try:
        sources = _sources(target, tree)
    except BuildError:
        return Programs(built={}, missing=dict.fromkeys(names, "the tree has no such selftest"))
    header = (INCLUDE / "sys/capability.h").read_text()
    digest = _digest(sources, headers, cflag, *names, header)

    def make(work: Path) -> None:
        for library in STAND_INS:  # empty: an archive of no members is eight bytes
            (work / f"lib{library}.a").write_bytes(b"!<arch>\n")
        _make(
            sources,
            headers,
            work,
            "--keep-going",
            f"USERCFLAGS={cflag} {UNSANITIZED} -I{INCLUDE}",
            f"USERLDFLAGS={STATIC} -L{work}",
            *(f"{work}/{name}" for name in names),
        )

    final = _once(f"{target.replace('/', '-')}-{cflag[1:]}-{digest}", cache, make)
    built = {name: final / name for name in names if os.access(final / name, os.X_OK)}
    log = (final / LOG).read_text(errors="replace")
    return Programs(
        built=built,
        missing={name: _why(name, sources, log) for name in names if name not in built},
    )


def _why(name: str, sources: Path, log: str) -> str:
    """What the compiler said about a program, in its first lines."""
    if not (sources / f"{name}.c").exists():
        return "the tree has no such selftest"
    said = [line for line in log.splitlines() if re.search(rf"\b{re.escape(name)}\b", line)]
    errors = [line for line in said if "error" in line] or said or log.splitlines()[-TOLD:]
    return "does not build: " + "; ".join(line.strip() for line in errors[:TOLD])


def _make(sources: Path, headers: Path, output: Path, *words: str) -> proc.Finished:
    return proc.run(
        [
            "make",
            "-C",
            sources,
            f"OUTPUT={output}",
            f"KHDR_INCLUDES=-isystem {headers}",
            *words,
        ],
        timeout=SECONDS,
        log=output / LOG,
        check=False,
    )
