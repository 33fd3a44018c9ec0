# SPDX-License-Identifier: GPL-2.0-only
"""The table of kernels, read from kernels.toml."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path

from vm import paths
from vm.errors import InfraError, UserError

TABLE = paths.VM / "kernels.toml"


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


def load_kernels(table: Path = TABLE) -> Mapping[str, Kernel]:
    """All kernels of the table, by name.

    Raises InfraError when the table, a part of this project, is damaged.
    """
    try:
        rows = tomllib.loads(table.read_text())["kernel"]
        kernels = [Kernel(**{**row, "tarball": Path(row["tarball"])}) for row in rows]
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as exc:
        raise InfraError(f"{table}: not a table of kernels: {exc}") from exc
    return {kernel.name: kernel for kernel in kernels}


def kernel(name: str) -> Kernel:
    """The kernel of that name.  Raises UserError that names the known ones."""
    known = load_kernels()
    if name not in known:
        raise UserError(f"KERNEL={name}: no such kernel", hint=f"known: {', '.join(sorted(known))}")
    return known[name]
