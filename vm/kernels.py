# SPDX-License-Identifier: GPL-2.0-only
"""The tables of kernels.toml: which kernels there are, and which variants of each."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vm import paths
from vm.errors import InfraError, UserError

TABLE = paths.VM / "kernels.toml"

#: A kernel's version as far as it tells what the kernel has: (6, 12).
Version = tuple[int, int]

#: What is built when nobody asks for another.
DEFAULT_KERNEL = "6.12"
DEFAULT_VARIANT = "ver0"

#: What a variant may be built for.
X86 = "x86_64"
UM = "um"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel that can be built, and where its source comes from."""

    name: str  #: what the user calls it: "6.12"
    series: str  #: directory under kernel-patches/
    package: str  #: the distribution's source package
    tarball: Path  #: the file which that package installs
    upstream: str  #: the version on kernel.org that is pinned: "6.12.80"
    base: str  #: URL of the directory with the tarball and sha256sums.asc
    sha256: str | None = None  #: of the upstream tarball
    signer: str | None = None  #: fingerprint of sha256sums.asc's signer
    lines: int | None = None  #: lines that a first build prints, about

    @property
    def archive(self) -> str:
        """File name of the upstream tarball."""
        return f"linux-{self.upstream}.tar.xz"

    @property
    def version(self) -> Version:
        """(6, 12): what no point release of the series changes."""
        return parse_version(self.upstream)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to build a kernel: which patches it has, and which options."""

    name: str  #: what the user calls it: "ver1"
    what: str  #: one line for people
    stack: tuple[str, ...]  #: series below the kernel's own directory, "." first
    fragments: tuple[str, ...]  #: Kconfig fragments of vm/config, later ones winning
    alone: bool = False  #: built where its name is given, and not with all the others
    memory: int = 256  #: MiB that a guest with it gets
    boot_seconds: float = 0.0  #: deadline of a guest's first word, if it is to be longer
    kernel_args: tuple[str, ...] = ()  #: on the guest's kernel command line
    arch: str = X86  #: as make's ARCH: X86, or UM, which runs as a process of this machine
    mends: tuple[str, ...] = ()  #: series that mend the kernel itself, and are not proposed
    make_args: tuple[str, ...] = ()  #: variables of make's, which some objects are made by

    def __str__(self) -> str:
        return f"{self.name}, {self.what}"

    def series(self, kernel: Kernel) -> tuple[str, ...]:
        """The names below kernel-patches/ of the series to apply, in order."""
        return tuple(
            kernel.series if part == "." else f"{kernel.series}/{part}" for part in self.stack
        )

    def mending(self, kernel: Kernel) -> tuple[str, ...]:
        """The names below kernel-patches/ of what goes on top without belonging to it."""
        return tuple(f"{kernel.series}/{part}" for part in self.mends)


def parse_version(text: str) -> Version:
    """The first two numbers of a kernel's version: (6, 12) of "6.12.117-rc1".

    Raises ValueError when it does not start with two numbers.
    """
    if found := re.match(r"(\d+)\.(\d+)", text):
        return int(found[1]), int(found[2])
    raise ValueError(f"{text!r} is no version of a kernel")


@functools.cache
def load_kernels(table: Path = TABLE) -> Mapping[str, Kernel]:
    """All kernels of the table, by name.

    Raises InfraError when the table, a part of this project, is damaged.
    """
    with _reading(table) as rows:
        kernels = [Kernel(**{**row, "tarball": Path(row["tarball"])}) for row in rows["kernel"]]
    return {kernel.name: kernel for kernel in kernels}


@functools.cache
def load_variants(table: Path = TABLE) -> Mapping[str, Variant]:
    """All variants of the table, by name, in the order in which they are built.

    Raises InfraError when the table, a part of this project, is damaged.
    """
    with _reading(table) as rows:
        variants = [Variant(**_frozen(row)) for row in rows["variant"]]
    return {variant.name: variant for variant in variants}


def _frozen(row: dict[str, Any]) -> dict[str, Any]:
    """A row's lists as tuples."""
    return {name: tuple(one) if isinstance(one, list) else one for name, one in row.items()}


@contextlib.contextmanager
def _reading(table: Path) -> Iterator[dict[str, Any]]:
    try:
        yield tomllib.loads(table.read_text())
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as exc:
        raise InfraError(f"{table}: not a table of kernels: {exc}") from exc


def kernel(name: str) -> Kernel:
    """The kernel of that name.  Raises UserError that names the known ones."""
    known = load_kernels()
    if name not in known:
        raise UserError(f"KERNEL={name}: no such kernel", hint=f"known: {', '.join(sorted(known))}")
    return known[name]


def variant(name: str) -> Variant:
    """The variant of that name.  Raises UserError that names the known ones."""
    known = load_variants()
    if name not in known:
        raise UserError(f"VARIANT={name}: no such variant", hint=f"known: {', '.join(known)}")
    return known[name]


def nearest(version: str) -> Kernel:
    """The kernel whose patches fit a tree of ``version`` best.

    The newest that is not newer than the tree, since that one's contexts are
    those that the tree grew out of; the oldest for a tree older than all.
    """
    rows = sorted(load_kernels().values(), key=lambda row: row.version)
    older = [row for row in rows if row.version <= parse_version(version)]
    return (older or rows[:1])[-1]
