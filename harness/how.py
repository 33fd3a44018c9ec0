# SPDX-License-Identifier: GPL-2.0-only
"""What shows a mismatch, where that is more than one plain call: Mismatch.how.

harness/report/reproducers.py makes a C program of each; what cannot be one says why.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable

from harness.abi import ABI
from harness.case import Case
from harness.contract import Contract
from harness.layout import Layout


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoProgram:
    """No C program of its own can show it, and why; that stands where its path would."""

    why: str  #: in some words that go on behind "no reproducer: "


@dataclasses.dataclass(frozen=True, kw_only=True)
class InAnotherAbi:
    """It is another ABI's call that breaks the contract: the program is for that."""

    abi: ABI


@dataclasses.dataclass(frozen=True, kw_only=True)
class WideNumber:
    """The number with something above its lower half: the same call as without."""

    above: int  #: the register's upper half, in its place


@dataclasses.dataclass(frozen=True, kw_only=True)
class PastTheEnd:
    """The case's hole is no inaccessible page but one behind a file's last byte."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CloseOnExec:
    """What F_GETFD has to give for the accepted call's descriptor."""

    wanted: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Above4GiB:
    """The pieces lie once more above 4 GiB, and one field of the case leads there.

    The outcome is that of ``low``, the same call with the pieces below, and not
    ``fault``: an errno.
    """

    low: Case
    fault: int
    at: int  #: where the pieces lie, above


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsTheWhole:
    """An accepted call fills the first bytes of what ``whole`` gets filled."""

    whole: Case
    spans: tuple[tuple[int, int], ...]  #: (first byte, byte behind) of what is compared


class Meter(enum.Enum):
    """What tells whether the kernel has kept something."""

    DESCRIPTOR = "the lowest free descriptor"
    SLAB = "the slab, in KiB"
    MEMORY = "memory in use, in KiB"
    FILES = "open files"


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeepsNothing:
    """The call made again and again: the kernel then holds what it held."""

    meters: tuple[tuple[Meter, int], ...]  #: and by how much each may grow
    times: int
    before: int = 0  #: calls that are made first, and not counted
    no_descriptors: bool = False  #: the process may open no further file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """A constant of the headers, in C, and what it has to be."""

    what: str
    expression: str
    wanted: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claims:
    """What the kernel's headers have to say to this ABI's compiler."""

    whose: str  #: of what the wanted values are: "its declaration"
    claims: tuple[Claim, ...]
    headers: tuple[str, ...]  #: to include


@dataclasses.dataclass(frozen=True, kw_only=True)
class NotThere:
    """The call is one that this kernel does not have, nor do its headers."""

    errno: int
    contract: Contract  #: with what the set-up made
    layout: Layout  #: of the struct, as it is declared
    number: int  #: of the call, by the case's way
    constant: Callable[..., int]  #: by name, also those that the headers lack


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithoutDescriptors:
    """The process may open no further file: the accepted call ends in this errno."""

    errno: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepFails:
    """One allocation or copy of the call fails (fault-injection.rst: fail-nth).

    It then ends in one of the ``stated`` errnos, 0 among them for a step that
    it can do without, and takes no descriptor if it is refused.
    """

    nth: int  #: which, counted from 1
    stated: tuple[int, ...]
    settings: tuple[tuple[str, bytes], ...]  #: files to be written before


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reported:
    """The kernel's log has a report of its own behind the call."""
