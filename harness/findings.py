# SPDX-License-Identifier: GPL-2.0-only
"""What a contract does not allow and a kernel did: mismatches, by cause."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from harness.case import Case
from harness.how import NoProgram

#: Of a byte that was found changed when no call had been made yet.
NOBODYS_WRITE = NoProgram(
    why="no call had been made yet: what wrote it is behind the answer to a request before"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mismatch:
    """Calls of one cause; the first of them is written down whole."""

    first: str  #: the first call, in words
    last: str
    count: int  #: calls
    allowed: str  #: what the contract allows for the first
    seen: str  #: what the kernel did with the first
    cause: str  #: what tells this cause from another
    case: Case | None = None  #: the first call, for a reproducer
    #: What shows it beside the case, or why nothing can: one of harness/how.py's, a Stall, a
    #: Race or a Watch.
    how: object | None = None

    def __post_init__(self) -> None:
        if self.case is None and self.how is None:
            raise ValueError(
                f"{self.first}: nothing that shows it, and no reason why: harness/how.py"
            )

    def __str__(self) -> str:
        span = self.first if self.count <= 1 else f"{self.first} … {self.last}"
        calls = f"{self.count:,} call{'s' * (self.count != 1)}" if self.count else "memory"
        return f"{calls}: {span}\n  allowed: {self.allowed}\n  kernel:  {self.seen}"


class CanaryRow(Protocol):
    """A row of a sweep that says that memory was found changed."""

    @property
    def canary(self) -> int | None:
        """Offset from the struct of the first byte that differs."""


class Causes:
    """Mismatches of one cause become one, with its count and range."""

    def __init__(self) -> None:
        self._found: dict[str, Mismatch] = {}

    def add(self, one: Mismatch) -> None:
        known = self._found.get(one.cause)
        if known is None:
            self._found[one.cause] = one
        else:
            self._found[one.cause] = dataclasses.replace(
                known, last=one.last, count=known.count + one.count
            )

    def add_canary(self, row: CanaryRow, where: str, case: Case | None) -> None:
        """Memory that nobody may write was found changed; ``case`` was the last call before."""
        self.add(
            Mismatch(
                first=where,
                last=where,
                count=0,
                allowed="nothing but the size field is written",
                seen=f"the byte at {row.canary:+d} from the struct changed",
                cause="canary",
                case=case,
                how=None if case else NOBODYS_WRITE,
            )
        )

    def all(self) -> list[Mismatch]:
        """Every cause, in the order in which they were met."""
        return list(self._found.values())


class ContractBrokenError(AssertionError):
    """The kernel did what the contract does not allow."""

    #: Causes that the message shows; the rest are counted.
    SHOWN = 8

    def __init__(self, title: str, mismatches: list[Mismatch]) -> None:
        lines = [title, *(str(one) for one in mismatches[: self.SHOWN])]
        if len(mismatches) > self.SHOWN:
            lines.append(f"… and {len(mismatches) - self.SHOWN} further causes")
        super().__init__("\n".join(lines))
        self.mismatches = mismatches
