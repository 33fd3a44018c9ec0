# SPDX-License-Identifier: GPL-2.0-only
"""The matrix: what a program of one age does on a kernel of another.

A row is a release's program, with the size that its headers give the struct,
or the sizes between two releases.  A cell is a row on a kernel in an ABI.  The
rows share no size, so that a fault shows in the cells of those whom it hits:
what is wrong with shorter structs in the rows below the kernel's own version,
what is wrong with longer ones in the rows above it.
"""

from __future__ import annotations

import dataclasses
import errno as codes
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from harness import case as cases
from harness import model, sweep
from harness.abi import Way
from harness.case import Case
from harness.contract import AtMost, Contract, Process, SizeField, UnknownBits
from harness.findings import Causes, ContractBrokenError, Mismatch
from harness.how import NoProgram, NotThere
from harness.interface import Interface
from harness.layout import Layout
from harness.skew import programs
from harness.skew.programs import Program, Release, Transcript
from harness.sweep import Dim, Kind, Place, Sweep
from vm.errors import InfraError

BITS = Dim(kind=Kind.BIT, start=0, stop=8)
#: Low bytes of a field in which a value may be a pid (linux/threads.h:PID_MAX_LIMIT).
PID_BYTES = 3
#: How many times less than a bound is small beside it.
SMALL = 1 << 16
ALL_PLACES = (Place.MIDDLE, Place.END, Place.START)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the matrix."""

    name: str
    release: Release  #: whose program, or whose struct is cut
    above: str | None = None  #: the sizes between this version and the release's own

    def sizes(self, contract: Contract, known: Mapping[str, int]) -> tuple[int, ...]:
        """Every usize of this row, in bytes; ``known`` are the sizes that the headers name."""
        own = known[self.release.version]
        if self.above is not None:
            return tuple(range(known[self.above] + 1, own))
        return (0, own) if own == contract.zero_means else (own,)


def rows(releases: Sequence[Release]) -> tuple[Row, ...]:
    """The rows of these releases, from the smallest size to the largest."""
    found: list[Row] = []
    for before, release in itertools.zip_longest([None, *releases[:-1]], releases):
        if before:
            between = f"{before.version}-{release.version}"
            found.append(Row(name=between, release=release, above=before.version))
        found.append(Row(name=release.version, release=release))
    return tuple(found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """A row on a kernel that has the interface, in one ABI."""

    row: Row
    interface: Interface  #: with the kernel's own contract and headers
    program: Program
    own: Contract  #: what was promised when the program was compiled, to this caller
    where: Callable[[Program], str]  #: the path of a program on the target

    @property
    def ksize(self) -> int:
        return self.interface.ksize

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.row.sizes(self.interface.contract, self.program.sizes)

    @property
    def longer(self) -> tuple[int, ...]:
        """The sizes that this kernel does not know."""
        return tuple(size for size in self.sizes if size > self.ksize)

    @property
    def known(self) -> tuple[int, ...]:
        """The sizes up to the kernel's own."""
        return tuple(size for size in self.sizes if size <= self.ksize)

    @property
    def shows(self) -> str:
        """What a kernel that keeps its promises shows here, in a word or two."""
        return shows(self.sizes, self.ksize)

    @property
    def cut(self) -> bytes:
        """The program's struct as in the contract's example, the kernel's unknown part zero."""
        return bytes(self.program.layout.new(**self._known_values))

    @property
    def filled(self) -> bytes:
        """The same with ones in each field that this kernel does not know."""
        return bytes(self.program.layout.new(**self.values))

    @property
    def _known_values(self) -> dict[str, int]:
        """Of the fields that the kernel knows: what it accepts, and something where it can be."""
        contract = self.interface.contract
        first = contract.versions[0].size
        known = (one for one in self.program.layout.fields if one.end <= self.ksize)
        return {
            one.name: contract.example.get(one.name, 0)
            if one.offset < first
            else accepted(contract, one.name)
            for one in known
            if not isinstance(contract.size, SizeField) or one.name != contract.size.field
        }

    @property
    def values(self) -> Mapping[str, int]:
        """The fields of ``filled``: accepted where the kernel knows them, all set elsewhere."""
        new = (one for one in self.program.layout.fields if one.end > self.ksize)
        return {**self._known_values, **{one.name: (1 << 8 * one.size) - 1 for one in new}}

    @property
    def asked(self) -> Mapping[str, int]:
        """The same as a program sets them, which can name itself where a process is named."""
        itself = {check.field: programs.SELF for check in self.interface.contract.processes}
        return {**self.values, **itself}


def accepted(contract: Contract, field: str) -> int:
    """A value that the contract takes, and not 0 if there is another one."""
    for check in contract.checks:
        if getattr(check, "field", None) != field:
            continue
        match check:
            case UnknownBits():
                return check.mask & -check.mask
            case Process():
                return 0  # whose pid another is, depends on what runs
    return 1


def shows(sizes: Sequence[int], ksize: int) -> str:
    """What the cell of these sizes shows on a kernel whose struct is ``ksize`` bytes."""
    if max(sizes) > ksize:
        return f"E2BIG, {ksize}"
    return "as its own" if max(sizes) == ksize else "zero-extended"


Check = Callable[[Cell], list[Mismatch]]


def _ranges(sizes: Sequence[int]) -> Iterator[Dim]:
    """The sizes but 0 as dimensions, neighbours together."""
    plain = [size for size in sizes if size]
    for _, run in itertools.groupby(enumerate(plain), key=lambda pair: pair[1] - pair[0]):
        members = [size for _, size in run]
        yield Dim(kind=Kind.USIZE, start=members[0], stop=members[-1] + 1)


def _all(cell: Cell, rules: Sequence[Sweep]) -> list[Mismatch]:
    return [mismatch for rule in rules for mismatch in cell.interface.mismatches(rule)]


def _works(cell: Cell) -> list[Mismatch]:
    """Accepted, and what the kernel holds is the struct with zeros behind it.

    Canaries or an inaccessible page lie behind the struct, and ones on the
    kernel's stack; what the kernel does not know is zero.
    """
    found = _all(
        cell,
        [
            Sweep(dims=(dim,), template=cell.cut, place=place, poison=poison)
            for dim in _ranges(cell.sizes)
            for place in ALL_PLACES
            for poison in (False, True)
        ],
    )
    # A sweep puts no more there than the size says, and 0 stands for more.
    zero = (_case(cell, cell.cut, 0) for usize in cell.sizes if not usize)
    return found + [one for several in cell.interface.judge(list(zero)) for one in several]


def _refused(cell: Cell) -> list[Mismatch]:
    """Each bit of each byte that the kernel does not know, alone: E2BIG and the kernel's size."""
    tail = Dim(kind=Kind.TAIL, start=cell.ksize, stop=0)
    return _all(
        cell,
        [
            Sweep(dims=(dim, tail, BITS), template=cell.cut, place=place)
            for dim in _ranges(cell.longer)
            for place in (Place.MIDDLE, Place.END)
        ],
    )


def _retry(cell: Cell) -> list[Mismatch]:
    """All new fields set: refused; with the size that the kernel wrote, accepted."""
    found: list[Mismatch] = []
    interface = cell.interface
    for usize in cell.longer:
        first = _case(cell, cell.filled, usize)
        seen = interface.observe(first)
        found += interface.compare(first, seen)
        if seen.written is not None and interface.contract.field_end <= seen.written < usize:
            again = _case(cell, cell.filled, seen.written)
            found += interface.compare(again, interface.observe(again))
    return found


def _case(cell: Cell, memory: bytes, usize: int, *, way: Way | None = None) -> Case:
    """A call with the first ``usize`` bytes of ``memory``, and the size in them."""
    contract = cell.interface.contract
    length = max(usize or contract.zero_means or 0, contract.field_end)
    data = memory[:length].ljust(length, b"\0")
    return Case(usize=usize, memory=cases.with_usize(contract, data, usize), way=way)


def _as_of_old(cell: Cell) -> list[Mismatch]:
    """Each bit of each field: what the program's own kernel would have said.

    That the kernel does what its own contract says is one thing, that this
    contract treats an older program as the one of its day did another.
    """
    found: list[Mismatch] = []
    for rule in _fields(cell):
        found += cell.interface.mismatches(rule)
        if rule.usize == cell.program.layout.size:
            found += _changed(cell, rule)
    if 0 in cell.sizes:
        cases_of_zero = [_case(cell, memory, 0) for memory in _flipped(cell)]
        found += [one for several in cell.interface.judge(cases_of_zero) for one in several]
    return found


def _flipped(cell: Cell) -> Iterator[bytes]:
    """The struct with each bit changed that ``_fields`` changes."""
    for start, stop in spans(cell.interface.contract, cell.program.layout):
        for at, bit in itertools.product(range(start, stop), range(8)):
            data = bytearray(cell.cut)
            data[at] ^= 1 << bit
            yield bytes(data)


def _fields(cell: Cell) -> Iterator[Sweep]:
    """Sweeps over the bits of the fields, at each known size."""
    contract = cell.interface.contract
    for usize in filter(None, cell.known):
        for start, stop in spans(contract, cell.program.layout):
            if stop <= usize:
                span = Dim(kind=Kind.BYTE, start=start, stop=stop)
                yield Sweep(dims=(span, BITS), usize=usize, template=cell.cut)


def spans(contract: Contract, layout: Layout) -> Iterator[tuple[int, int]]:
    """The bytes of each field, as (start, stop), whose every bit can be tried.

    Of a bounded field those that are small beside the bound, and those that are
    all beyond it: what lies between is accepted, and may take its time.  Of a
    field that names a process not the low ones: whether there is one of that
    pid is another matter at each boot.
    """
    own = contract.size.field if isinstance(contract.size, SizeField) else ""
    bounds = {check.field: check.maximum for check in contract.checks if isinstance(check, AtMost)}
    named = {check.field for check in contract.processes}
    for field in layout.fields:
        if field.name in bounds:
            most = bounds[field.name]
            if most >= SMALL << 8:
                yield field.offset, field.offset + 1
            beyond = field.offset + (most.bit_length() + 7) // 8
            if beyond < field.end:
                yield beyond, field.end
        elif field.name in named:
            yield field.offset + PID_BYTES, field.end
        elif field.name != own:
            yield field.offset, field.end


def _changed(cell: Cell, rule: Sweep) -> list[Mismatch]:
    """Where this kernel's contract is another than the program's own, for the program's calls."""
    register = cell.interface.abi.register
    pairs = zip(
        sweep.predict(rule, cell.interface.contract, cell.interface.layout, register=register),
        sweep.predict(rule, cell.own, cell.program.layout, register=register),
        strict=True,
    )
    found = Causes()
    for now, then in pairs:
        if now.allowed.errno != then.allowed.errno:
            found.add(
                Mismatch(
                    first=str(then.first),
                    last=str(then.last),
                    count=then.count,
                    allowed=f"{then.allowed}, by the contract of {cell.program.version}",
                    seen=f"{now.allowed}, by the contract of this kernel",
                    cause=f"the contracts: {then.allowed.differs(now.allowed)}",
                    how=NoProgram(why="two contracts differ, and no kernel is at fault"),
                )
            )
    return found.all()


def _program(cell: Cell) -> list[Mismatch]:
    """The program itself: what it prints is what it should on this kernel."""
    if cell.row.above is not None:
        return []
    found: list[Mismatch] = []
    interface, program = cell.interface, cell.program
    first = interface.contract.versions[0].size
    for words, fields in programs.scenarios(program, cell.asked, first=first):
        seen = run_program(cell, fields)
        pid = seen.pid
        wanted = programs.expected(interface.contract, interface.layout, program, fields, pid=pid)
        if program.layout.size <= cell.ksize:
            then = programs.expected(cell.own, program.layout, program, fields, pid=pid)
            found += _transcripts(program, words, then, wanted, "the contracts")
        found += _transcripts(program, words, wanted, seen, "the program")
    return found


def run_program(cell: Cell, fields: Mapping[str, int]) -> Transcript:
    """Run the program with these fields.  Raises InfraError when it does not run."""
    argv = [cell.where(cell.program), *programs.arguments(fields)]
    ran = cell.interface.target.execute(argv, seconds=programs.SECONDS)
    cell.interface.target.calls += ran.output.count("\ncall ")
    if ran.code != 0:
        raise InfraError(f"{' '.join(argv)}: {ran}: {ran.output[:400]}")
    return programs.parse(ran.output)


def _transcripts(
    program: Program, words: str, wanted: Transcript, seen: Transcript, who: str
) -> list[Mismatch]:
    if wanted == seen:
        return []
    first = f"program of {program.version}, {words}"
    return [
        Mismatch(
            first=first,
            last=first,
            count=len(seen.attempts),
            allowed=str(wanted),
            seen=str(seen),
            cause=f"{who}: {words}",
            how=NoProgram(why=f"it is a program that shows it: {programs.SOURCE.name}"),
        )
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One of the checks that make a cell."""

    name: str
    check: Check


PARTS: tuple[Part, ...] = (
    Part(name="accepted", check=_works),
    Part(name="refused", check=_refused),
    Part(name="retry", check=_retry),
    Part(name="as of old", check=_as_of_old),
    Part(name="program", check=_program),
)


def check(cell: Cell) -> None:
    """Make all calls of a cell; ContractBrokenError names the part of each cause."""
    found = Causes()
    for part in PARTS:
        for one in part.check(cell):
            found.add(
                dataclasses.replace(
                    one, first=f"{part.name}: {one.first}", cause=f"{part.name}: {one.cause}"
                )
            )
    if found.all():
        raise ContractBrokenError(_title(cell.interface, cell.row), found.all())


def _title(interface: Interface, row: Row) -> str:
    return f"{interface.abi.name}: {interface.contract.name}(), {row.name}, breaks its contract:"


# A kernel that does not have the interface.


def check_absent(cell: Cell) -> None:
    """ENOSYS for each size, by every way into the kernel, and nothing written.

    The interface's number and headers are those of a kernel that has it.
    Raises ContractBrokenError.
    """
    interface = cell.interface
    absent = model.Outcome(errno=codes.ENOSYS)
    found = Causes()
    for way in (None, *interface.other_ways):
        for usize in cell.sizes:
            case = _case(cell, cell.filled, usize, way=way)
            seen = interface.observe(case)
            if (seen.errno, seen.signal, seen.written, seen.strayed) != (
                codes.ENOSYS,
                0,
                None,
                False,
            ):
                found.add(
                    Mismatch(
                        first=str(case),
                        last=str(case),
                        count=1,
                        allowed=str(absent),
                        seen=str(seen),
                        cause=f"{absent} → {seen}",
                        case=case,
                        how=NotThere(
                            errno=codes.ENOSYS,
                            contract=interface.contract,
                            layout=interface.layout,
                            number=interface.number(interface.contract.number, way),
                            constant=interface.constant,
                        ),
                    )
                )
    if cell.row.above is None:
        size = cell.program.layout.size
        seen_by = run_program(cell, {})
        attempt = programs.Attempt(usize=size, errno=codes.ENOSYS, size=size)
        wanted = Transcript(
            pid=seen_by.pid, sizeof=size, sizes=cell.program.sizes, attempts=(attempt,), record=None
        )
        for one in _transcripts(cell.program, "all fields zero", wanted, seen_by, "the program"):
            found.add(one)
    if found.all():
        raise ContractBrokenError(_title(interface, cell.row), found.all())
