# SPDX-License-Identifier: GPL-2.0-only
"""Which call made the kernel report something: a splat laid at a call's door.

Before each request a mark with its number goes into the kernel's log
(/dev/kmsg), and so onto the console, in order with whatever the kernel itself
says.  What stands between two marks was caused by the request of the first.  A
request may be many calls; which of them it was is told by the registers in the
report, or by making them again, fewer and fewer, until one is left.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence

from harness import case as cases
from harness import sweep as sweeps
from harness.abi import ABI
from harness.case import Case
from harness.contract import Contract
from harness.program import U64
from harness.sweep import Kind, Sweep
from vm.console import MARK, Event, Line
from vm.errors import GuestError

#: Begins the mark of a request; its number follows.
REQUEST = "request "
#: The registers that carry a system call's arguments, by the number of the table's
#: word size: entry_64.S and entry_64_compat.S save them all in struct pt_regs.
ARGUMENTS = {
    64: ("RDI", "RSI", "RDX", "R10", "R08", "R09"),
    32: ("RBX", "RCX", "RDX", "RSI", "RDI", "RBP"),
}
#: The last register dump in a report is the program's own, as it entered the kernel.
_REGISTER = re.compile(r"\b(R[0-9A-Z]{1,2}|ORIG_RAX): ?([0-9a-f]{8,16})\b")
#: Steps of a search that are taken at most.
MOST_STEPS = 40


class SplatError(GuestError):
    """The kernel reported something, and lives on: the guest is kept."""

    kind = ""  #: of the report: vm.console.Pattern.kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request is about: some calls one by one, or all those of a rule."""

    contract: Contract
    abi: ABI
    several: tuple[Case, ...] = ()
    rule: Sweep | None = None

    @property
    def count(self) -> int:
        """How many calls it makes."""
        return sweeps.count(self.rule, self.contract) if self.rule else len(self.several)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One request, with the number that its mark has."""

    number: int
    what: str  #: its kind on the wire
    asked: Asked | None


def request_of(event: Event, lines: Sequence[Line]) -> int | None:
    """The number of the last request that was marked before a report; None: none was."""
    for line in reversed(lines[: event.first - 1]):
        if line.message and line.message.startswith(MARK + REQUEST):
            number = line.message.removeprefix(MARK + REQUEST).partition(" ")[0]
            return int(number) if number.isdigit() else None
    return None


def registers(report: Sequence[str]) -> dict[str, int]:
    """The program's registers as a report ends with them; empty: it has none."""
    start = None
    for index, text in enumerate(report):
        # 0033 is user space's code segment, 0023 that of 32-bit programs.
        if re.search(r"\bRIP: (?:0033|0023):", text):
            start = index
    if start is None:
        return {}
    return {
        found[1]: int(found[2], 16)
        for text in report[start : start + 10]
        for found in _REGISTER.finditer(text)
    }


def fitting(asked: Asked, seen: dict[str, int]) -> list[Case]:
    """Those of the cases whose arguments are what the registers had; all, if none can be told."""
    names = ARGUMENTS[asked.abi.register]
    fits = []
    for case in asked.several:
        width = case.way.register if case.way else asked.abi.register
        own = ARGUMENTS[32] if case.way and case.way.int80 else names
        given = cases.registers(asked.contract, case)[: len(asked.contract.args)]
        told = [
            (value & U64 & ((1 << width) - 1), seen[name] & ((1 << width) - 1))
            for value, name in zip(given, own, strict=False)
            if isinstance(value, int) and name in seen
        ]
        if all(ours == theirs for ours, theirs in told):
            fits.append(case)
    return fits or list(asked.several)


def halves(rule: Sweep, contract: Contract) -> list[Sweep]:
    """Two rules that make the same calls; the rule itself, when it makes one; none for none."""
    usize = rule.usize
    for depth, dim in enumerate(rule.dims):
        # A walk over a tail ends where the size says; a half of it ends elsewhere.
        tail = dim.kind is Kind.TAIL
        stop = sweeps.tail_stop(rule, contract, usize) if tail else dim.stop
        values = range(dim.start, stop, dim.step)
        if not values:
            return []
        if len(values) == 1:
            usize = values[0] if dim.kind is Kind.USIZE else usize
            continue
        middle = values[len(values) // 2]
        whole = dataclasses.replace(dim, kind=Kind.BYTE if tail else dim.kind, stop=stop)
        return [
            dataclasses.replace(rule, dims=(*rule.dims[:depth], part, *rule.dims[depth + 1 :]))
            for part in (
                dataclasses.replace(whole, stop=middle),
                dataclasses.replace(whole, start=middle),
            )
        ]
    return [rule]


def _parts(asked: Asked) -> Iterator[Asked]:
    """Fewer calls each, together the same; nothing when there is a single one."""
    if asked.rule is None:
        if len(asked.several) > 1:
            middle = len(asked.several) // 2
            for part in (asked.several[:middle], asked.several[middle:]):
                yield dataclasses.replace(asked, several=part)
        return
    if asked.count == 1:
        return
    for half in halves(asked.rule, asked.contract):
        yield dataclasses.replace(asked, rule=half)


def narrow(asked: Asked, again: Callable[[Asked], bool]) -> Asked:
    """The fewest of the calls that make the kernel say it once more.

    ``again`` makes them, and tells whether it did; where it does not, as for a
    report that the kernel makes once in its life, nothing is narrowed.
    """
    steps = 0
    while steps < MOST_STEPS:
        for part in _parts(asked):
            steps += 1
            if part.count and again(part):
                asked = part
                break
        else:
            break
    return asked


def single(asked: Asked) -> Case | None:
    """The one call that is left; None when it is more."""
    if asked.count != 1:
        return None
    if asked.rule is None:
        return asked.several[0]
    point = next(sweeps.points(asked.rule, asked.contract))
    return sweeps.case_of(asked.rule, asked.contract, point)


def words(request: Request | None, asked: Asked | None, describe: Callable[[Case], str]) -> str:
    """Which call it was, as far as that is known."""
    if request is None:
        return "no request of this run came before it"
    if asked is None:
        return f"request {request.number}, a {request.what}"
    name = f"{asked.abi.name}: {asked.contract.name}()"
    case = single(asked)
    if case is not None:
        return f"{name}: {describe(case)}"
    if asked.rule is None:
        first, last = asked.several[0], asked.several[-1]
        return f"{name}: one of {asked.count:,} calls: {describe(first)} … {describe(last)}"
    first_point = next(sweeps.points(asked.rule, asked.contract), None)
    return f"{name}: one of the {asked.count:,} calls of a sweep that begins at {first_point}"
