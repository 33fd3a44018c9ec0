# SPDX-License-Identifier: GPL-2.0-only
"""Every kernel of the tables in every version of the sample: what is built, how long it took.

What makes this survive an interruption is below it: a kernel is in the cache
whole or not at all (vm/cache.py), and objects that a killed build may have left
half written are made again (vm/build.py).  So there is no state here, and the
next run goes on where this one was ended.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vm import build, kernels
from vm.build import Built, Order
from vm.errors import BuildError, UserError
from vm.kernels import Kernel, Variant

#: Columns of the table in a pipe: a kernel is one line there.
WIDTH = 140


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One kernel in one variant, to be built or found."""

    kernel: Kernel
    variant: Variant
    order: Order

    @property
    def name(self) -> str:
        return f"{self.kernel.name} {self.variant.name}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one."""

    member: Member
    seconds: float  #: on the clock
    built: Built | None = None
    error: BuildError | None = None  #: why there is none

    @property
    def how(self) -> str:
        if self.built is None:
            return "failed"
        return "reused" if self.built.cached else "built"


def members(
    *,
    rows: Sequence[Kernel] = (),
    variants: Sequence[Variant] = (),
    jobs: int | None = None,
    mirror: str | None = None,
    cache: Path | None = None,
) -> tuple[Member, ...]:
    """Every kernel of ``rows`` in every one of ``variants``.

    Without rows it is all there are, without variants all but those that stand alone.

    A kernel's variants follow each other, in the order of the table: each is
    a few files away from the one before.  Raises UserError that names every
    variant whose series is not there, before anything is built.
    """
    pairs = [
        (row, variant)
        for row in rows or tuple(kernels.load_kernels().values())
        for variant in variants
        or [one for one in kernels.load_variants().values() if not one.alone]
    ]
    stacks, missing = {}, []
    for row, variant in pairs:
        try:
            stacks[row.name, variant.name] = build.stacked(row, variant)
        except UserError as exc:
            missing.append(str(exc))
    if missing:
        raise UserError(
            "; ".join(missing),
            hint="KERNEL= and VARIANT= name the ones to build",
        )
    return tuple(
        Member(
            kernel=row,
            variant=variant,
            order=build.order(
                row,
                variant=variant,
                series=stacks[row.name, variant.name],
                jobs=jobs,
                mirror=mirror,
                cache=cache,
            ),
        )
        for row, variant in pairs
    )


def fill(wanted: Sequence[Member]) -> Iterator[Outcome]:
    """Build what is not there, one after the other; each outcome as it comes.

    One that does not build stops none of the others.
    """
    for member in wanted:
        started = time.monotonic()
        built: Built | None = None
        error: BuildError | None = None
        try:
            built = member.order.fill()
        except BuildError as exc:
            error = exc
        yield Outcome(member=member, seconds=time.monotonic() - started, built=built, error=error)


def run(wanted: Sequence[Member], console: Console) -> None:
    """Build all, say how far it is, and print the table at the end, however it ends.

    Raises BuildError when one or more did not build.
    """
    there = [member for member in wanted if member.order.there]
    say(f"{len(wanted)} kernels, {len(there)} of them in the cache")
    outcomes: list[Outcome] = []
    try:
        for outcome in fill(wanted):
            outcomes.append(outcome)
            took = "" if outcome.how == "reused" else f", {outcome.seconds:.0f} s"
            say(f"{len(outcomes)}/{len(wanted)} {outcome.member.name}: {outcome.how}{took}")
            if outcome.error:  # now: what is left may take a while
                say("\n".join(outcome.error.lines()))
    finally:
        show(wanted, outcomes, console)
    failed = [one for one in outcomes if one.error]
    if failed:
        raise BuildError(
            "; ".join(f"{one.member.name}: {one.error}" for one in failed),
            hint=failed[0].error.hint if failed[0].error else None,
        )


def say(text: str) -> None:
    """One line of progress."""
    print(f"kernels: {text}", file=sys.stderr, flush=True)


def show(wanted: Sequence[Member], outcomes: Sequence[Outcome], console: Console) -> None:
    """The table: a row for each, with what it is and what it took."""
    table = Table(box=None, pad_edge=False)
    for heading in ("kernel", "variant"):
        table.add_column(heading)
    table.add_column("", no_wrap=True)
    for heading in ("seconds", "of CPU"):
        table.add_column(heading, justify="right")
    for heading in ("release", "warnings", "what it is"):
        table.add_column(heading)
    done = {id(one.member): one for one in outcomes}
    for member in wanted:
        outcome = done.get(id(member))
        cells = [member.kernel.name, member.variant.name]
        if outcome is None:
            cells += ["not built", "", "", "", ""]
        elif outcome.built is None:
            cells += [outcome.how, f"{outcome.seconds:.1f}", "", "", ""]
        else:
            built = outcome.built
            cpu = "" if built.cached else f"{built.seconds_cpu:.1f}"
            warnings = len(built.record.get("warnings", ()))
            cells += [outcome.how, f"{outcome.seconds:.1f}", cpu, built.release]
            cells.append(str(warnings) if warnings else "none")
        table.add_row(*cells, member.variant.what)
    if not console.is_terminal:  # a pipe has no width, and a log's lines may be long
        console = Console(file=console.file, width=max(WIDTH, console.width))
    console.print(table, soft_wrap=not console.is_terminal, highlight=False)
    total = sum(one.seconds for one in outcomes)
    console.print(f"{len(outcomes)} of {len(wanted)} in {total:.1f} s", highlight=False)
