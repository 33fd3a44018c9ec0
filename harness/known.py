# SPDX-License-Identifier: GPL-2.0-only
"""What is known to be broken: findings about Linux's own interfaces, as data.

`interfaces/findings.toml` has a row for each.  What a run sees is compared with
it: a known finding does not fail a run, a new one does, and so does a known one
that a run on one of its kernels no longer meets.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.findings import Mismatch
from harness.report.results import PROPERTIES
from vm.errors import InfraError
from vm.kernels import X86, Version, parse_version

TABLE = Path(__file__).resolve().parent / "interfaces" / "findings.toml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sign:
    """How a finding shows: in some properties, with mismatches of one cause."""

    props: tuple[str, ...]  #: keys of PROPERTIES
    cause: str  #: a regular expression for the whole of Mismatch.cause
    first: str = ""  #: one for a part of the first call's words
    abis: tuple[str, ...] = ()  #: only as these; none named: as all of the finding's


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """One finding."""

    name: str
    interface: str
    what: str  #: one sentence
    abis: tuple[str, ...]
    signs: tuple[Sign, ...]
    source: str  #: file:function of the kernel that does it
    promise: str  #: where the promise is written that it breaks
    matters: str  #: what it means to a program
    fix: str = ""  #: the upstream commit that mends it; empty: none is known
    since: Version | None = None  #: the first kernel that has it; None: all that have the call
    until: Version | None = None  #: the last
    arch: str = X86  #: what a kernel that has it is built for

    def holds(self, version: Version, arch: str = X86) -> bool:
        """Whether a kernel of ``version``, built for ``arch``, has it."""
        span = (self.since or version) <= version <= (self.until or version)
        return span and arch == self.arch

    @property
    def span(self) -> str:
        """Its kernels, for people."""
        ends = (("since", self.since), ("until", self.until))
        words = [f"{word} {end[0]}.{end[1]}" for word, end in ends if end]
        return " ".join(words) or "all so far"

    def explains(self, mismatch: Mismatch, *, prop: str, abi: str) -> bool:
        """Whether a mismatch is this finding."""
        return abi in self.abis and any(
            prop in sign.props
            and abi in (sign.abis or self.abis)
            and re.fullmatch(sign.cause, mismatch.cause) is not None
            and re.search(sign.first, mismatch.first) is not None
            for sign in self.signs
        )

    def expected(self, *, prop: str, abi: str) -> bool:
        """Whether a run of this property in this ABI has to meet it, by itself or another."""
        return abi in self.abis and any(
            prop in sign.props and abi in (sign.abis or self.abis) for sign in self.signs
        )


def _row(raw: dict[str, Any]) -> Known:
    signs = tuple(
        Sign(**{**one, "props": tuple(one["props"]), "abis": tuple(one.get("abis", ()))})
        for one in raw.pop("sign")
    )
    for sign in signs:
        unknown = [prop for prop in sign.props if prop not in PROPERTIES]
        if unknown:
            raise ValueError(f"{raw['name']}: no property {unknown[0]!r}")
        re.compile(sign.cause)
        re.compile(sign.first)
    ends: dict[str, Version] = {
        end: parse_version(raw.pop(end)) for end in ("since", "until") if end in raw
    }
    return Known(**{**raw, **ends, "abis": tuple(raw["abis"]), "signs": signs})


@cache
def load(table: Path = TABLE) -> Mapping[str, Known]:
    """All findings, by name.

    Raises InfraError when the table, a part of this project, is damaged.
    """
    try:
        rows = [_row(raw) for raw in tomllib.loads(table.read_text()).get("finding", [])]
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, re.error) as exc:
        raise InfraError(f"{table}: not a table of findings: {exc}") from exc
    found = {one.name: one for one in rows}
    if len(found) != len(rows):
        raise InfraError(f"{table}: two findings have one name")
    return found


def of(interface: str, version: Version, table: Path = TABLE, *, arch: str = X86) -> list[Known]:
    """The findings that a kernel of ``version``, built for ``arch``, has about an interface."""
    return [
        one
        for one in load(table).values()
        if one.interface == interface and one.holds(version, arch)
    ]


def explain(
    mismatches: Iterable[Mismatch], known: Iterable[Known], *, prop: str, abi: str
) -> tuple[list[str], list[Mismatch]]:
    """The names of the findings that mismatches are, and the mismatches that are none."""
    rows, names, new = list(known), [], []
    for mismatch in mismatches:
        mine = [one.name for one in rows if one.explains(mismatch, prop=prop, abi=abi)]
        names += mine
        if not mine:
            new.append(mismatch)
    return list(dict.fromkeys(names)), new
