# SPDX-License-Identifier: GPL-2.0-only
"""Build the caller for each ABI, and the agent, from the C sources beside this file.

Static, because the guest has no libraries; against the kernel's own headers,
because what they say is what is tested.  Built programs are kept by content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.abi import ABI, abi
from harness.layout import Compiler
from vm import proc
from vm.errors import BuildError

HERE = Path(__file__).resolve().parent
CALLER_SOURCES = ("caller.c", "entry.S")
AGENT_SOURCES = ("agent.c",)
HEADERS = ("stream.h", "wire.h")
FLAGS = (
    "-static",  # the guest has no libraries
    "-fno-pie",  # no relocations to apply before the first answer
    "-no-pie",
    "-s",  # it is read over 9p
    "-fno-tree-loop-distribute-patterns",  # leaves caller.c's loops what they are, not memset()
)
SECONDS = 120.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Programs:
    """What was built."""

    agent: Path
    callers: Mapping[ABI, Path]


def _digest(compiler: Compiler) -> str:
    """Sources, flags, the compiler's version: what the programs depend on."""
    state = hashlib.sha256()
    version = proc.run([compiler.cc, "--version"], timeout=SECONDS, quiet=True).out
    for name in (*CALLER_SOURCES, *AGENT_SOURCES, *HEADERS):
        state.update((HERE / name).read_bytes())
    state.update(repr((version.splitlines()[0], FLAGS, compiler.cc)).encode())
    return state.hexdigest()[:20]


def link(
    compiler: Compiler,
    one: ABI,
    sources: Iterable[Path],
    result: Path,
    *,
    flags: Iterable[str] = FLAGS,
) -> Path:
    """Compile and link one program, unless it is there; publish it whole or not at all.

    Raises BuildError with the compiler's words.
    """
    if result.exists():
        return result
    result.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=result.parent, prefix=f".{result.name}-")
    os.close(handle)
    work = Path(name)
    try:
        argv: list[str | Path] = [*compiler.argv(one), *flags]
        argv += [*sources, "-o", work]
        done = proc.run(argv, timeout=SECONDS, check=False)
        if done.code:
            raise BuildError(
                f"{result.name} does not build as {one.cflag}:\n{done.out.strip()}",
                hint="`make doctor` says which ABIs this compiler can build",
            )
        work.rename(result)
    finally:
        work.unlink(missing_ok=True)
    return result


def build(abis: Iterable[ABI], *, compiler: Compiler, cache: Path) -> Programs:
    """Build the agent, and a caller for each of ``abis``.

    The programs themselves need no kernel header of the series: they take
    numbers and structs from the host, which reads them from there.
    """
    plain = dataclasses.replace(compiler, headers=None)
    where = cache / "callers" / _digest(plain)
    agent = [HERE / name for name in AGENT_SOURCES]
    caller = [HERE / name for name in CALLER_SOURCES]
    return Programs(
        agent=link(plain, abi("m64"), agent, where / "agent"),
        callers={one: link(plain, one, caller, where / f"caller-{one.name}") for one in abis},
    )
