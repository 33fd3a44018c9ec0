# SPDX-License-Identifier: GPL-2.0-only
"""checks.toml: what is checked of a series, in which configurations, and who gets a copy."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

from vm import paths
from vm.errors import InfraError

TABLE = paths.VM / "review" / "checks.toml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that is checked."""

    name: str
    what: str  #: what holds when it passes
    why: str
    tools: tuple[str, ...]  #: programs without which it is skipped
    section: str | None = None  #: heading of the document that asks for it
    quick: bool = False  #: builds nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One small configuration of the kernel, and what is built in it."""

    name: str
    what: str
    arch: str  #: as make's ARCH
    settings: tuple[str, ...]  #: "64BIT=y": without CONFIG_
    options: str  #: what the series' own options are set to
    without: tuple[str, ...] = ()  #: files of the series that are not built in it
    #: What is built at every commit, besides what it touches: the tables.
    tables: tuple[str, ...] = ("kernel/sys_ni.o", "arch/x86/entry/")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copy:
    """Who gets a copy of a mail whatever get_maintainer.pl says."""

    address: str
    of: str  #: "all", or the tree that a patch is for
    why: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """All of checks.toml."""

    checks: tuple[Check, ...]
    configs: tuple[Config, ...]
    copies: tuple[Copy, ...]
    lagging: tuple[str, ...]  #: kernels whose copies below tools/ are left alone


def load(path: Path = TABLE) -> Table:
    """Raises InfraError when the table, a part of this project, is damaged."""
    try:
        data = tomllib.loads(path.read_text())
        return Table(
            checks=tuple(Check(**{**row, "tools": tuple(row["tools"])}) for row in data["check"]),
            configs=tuple(
                Config(
                    **{
                        **row,
                        "settings": tuple(row["settings"]),
                        **{name: tuple(row[name]) for name in ("without", "tables") if name in row},
                    }
                )
                for row in data["config"]
            ),
            copies=tuple(Copy(**row) for row in data["copy"]),
            lagging=tuple(row["kernel"] for row in data["lagging"]),
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as exc:
        raise InfraError(f"{path}: not a table of checks: {exc}") from exc
