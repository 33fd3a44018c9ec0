# SPDX-License-Identifier: GPL-2.0-only
"""P16, one snapshot: memory that changes while a call is made.

A call reads the caller's memory more than once.  Of an extensible struct it
fetches the size, then it looks at the tail, then it copies, and the copy has
the size in it again: two fetches of the same bytes by design (see
lib/usercopy.c:check_zeroed_user and include/linux/uaccess.h:
copy_struct_from_user).  Only the first of the two may decide anything.

A `Stall` proves it, every time and on one CPU.  The struct lies across a page
boundary and one of its two pages is not there.  When the kernel comes to it,
userfaultfd(2) holds the fault; a second thread changes bytes in the page that
*is* there, supplies the missing one, and the call goes on.  So what was
fetched before the fault is old, what is fetched after it is new, and nothing
is left to luck.

Which outcomes are allowed
--------------------------

Those of the model, for a struct that every byte was fetched of once, whenever
that was.  The size and the rest are fetched apart, so they are two questions.

*The size.*  A kernel that keeps P6 touches no byte behind the size field until
it knows the size: the struct of a caller that says 0, or too little, may end
right there, at an inaccessible page.  So

- the second page is late, the size field in the first: when the fault comes
  the size has been fetched.  The old one counts, whatever is copied later.
  A kernel that fetches it again for the copy, or believes the copied one,
  shows the new size in what it holds, or acts on it unchecked.
- the first page is late, and has the size field: nothing was fetched when the
  fault came.  Everything is new, and one outcome is allowed.
- the first page is late, the size field is in the second (perf_event_attr's is
  at offset 4): the size may have been fetched alone, and be old, or come with
  the bytes before it, and be new.  Both are allowed; that one is used for the
  checks and the other for the copy is not.
- a size that is a register does not change.

*The rest.*  A byte that changes was fetched before the fault or behind it.
Copies go upwards, and the word that spans the boundary is read again as a
whole, so of the bytes that change the lower ones may be old and the upper ones
new, split anywhere.  The tail is looked at and the struct is copied at
different times: each has a split of its own.  What is not allowed is that a
byte is checked as one and used as the other.

What the caller's memory holds afterwards is new, but for a size written back.

A `Race` is the plain thing beside it: a second thread stores two values in
turn, without end, while the call is made again and again.  On one CPU that is
weak.  A kernel that does not preempt itself inside a system call never lets
the second thread in between two fetches; each call sees one value, and a
double fetch stays unseen however often it is made.  With two CPUs it is luck.
It is there for what no page boundary can separate; the stalls are the proof.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from harness import case as cases
from harness import model, sweep, wire
from harness.case import PAGE, Case
from harness.contract import DATA_AT, Contract, Copy, FetchSize, ReadBack, SizeField
from harness.findings import Causes, ContractBrokenError, Mismatch
from harness.layout import Layout
from harness.program import ARENA, SCRATCH, Program, Result, ResultOf, encode_op, entry_of
from harness.sweep import Row, Seen
from harness.wire import lib
from vm.errors import InfraError, UserError

if TYPE_CHECKING:
    from harness.interface import Interface

#: Where in the arena the boundary between the two pages is.
BOUNDARY_AT = 2 * PAGE
#: Operations of one stall in a program, at most; and bytes around its own in a request.
OPS = 10
OVERHEAD = 2048
#: Outcomes that a message lists; a split in the middle of a field has many.
SHOWN = 4
#: A race's own deadline for one call that blocks, in milliseconds.
RACE_DEADLINE_MS = 2000


class Late(enum.Enum):
    """The page that is not there when the call is made."""

    FIRST = "first"
    SECOND = "second"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stall:
    """A call whose memory changes at one known moment.

    ``case`` is the call as it begins, all of its memory given, the late page's
    too.  Byte ``boundary`` of the struct is the second page's first.  While
    the kernel waits for the page that is late, the bytes from ``at`` on become
    ``change``; they lie in the page that is there.
    """

    case: Case
    boundary: int
    late: Late
    at: int
    change: bytes
    what: str  #: what changes, in words

    def __post_init__(self) -> None:
        end = self.at + len(self.change)
        cut = self.boundary
        if not (0 < cut <= PAGE and 0 < self.length - cut <= PAGE):
            raise UserError(f"{self}: the struct is not in two pages")
        there = (0, cut) if self.late is Late.SECOND else (cut, self.length)
        if not there[0] <= self.at < end <= there[1]:
            raise UserError(f"{self}: the bytes that change are not in the page that is there")

    @property
    def length(self) -> int:
        """Bytes of the struct that are laid out."""
        return len(self.case.memory)

    @property
    def placed(self) -> Case:
        """The case with the struct across the boundary."""
        return dataclasses.replace(
            self.case, shift=BOUNDARY_AT - PAGE - self.boundary, hole=None, at_page_start=False
        )

    @property
    def changed(self) -> bytes:
        """The struct's bytes when the page has come."""
        memory = bytearray(self.case.memory)
        memory[self.at : self.at + len(self.change)] = self.change
        return bytes(memory)

    def __str__(self) -> str:
        return (
            f"{self.case}, a page boundary at byte {self.boundary}; "
            f"while the {self.late.value} page is late, {self.what}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observed:
    """What came of a stall."""

    stalled: bool  #: the kernel came to the late page, and the change was made then
    errno: int
    held: bytes | None  #: what read(2) gave, when the contract has that effect
    memory: bytes  #: the struct afterwards
    signal: int = 0
    deadline: bool = False

    def __str__(self) -> str:
        return _words(self.errno, self.held, signal=self.signal, deadline=self.deadline)


def _words(errno: int, held: bytes | None, *, signal: int = 0, deadline: bool = False) -> str:
    parts = [model.errno_name(errno) if errno else "success"]
    if signal:
        parts = [f"signal {signal}"]
    if held is not None:
        parts.append(f"the kernel holds {held.hex()}")
    if deadline:
        parts.append("it blocked until its deadline")
    return ", ".join(parts)


# What is allowed.


def _size_in(contract: Contract, memory: bytes) -> int:
    where = contract.size
    assert isinstance(where, SizeField)
    return int.from_bytes(memory[where.offset : where.end], "little")


def _outcome(
    contract: Contract,
    layout: Layout,
    case: Case,
    memory: bytes,
    *,
    usize: int,
    register: int,
    hole: int | None = None,
) -> model.Outcome:
    """The model's, with the size that counts given apart from the bytes that are copied."""
    if case.way is not None:
        register = case.way.register
    args = {index: value % (1 << register) for index, value in case.flags}
    call = model.Call(usize=usize, memory=memory, hole=hole, args=args)
    return model.outcome(contract, layout, call)


def _usize(contract: Contract, case: Case, *, register: int) -> int:
    register = case.way.register if case.way else register
    return cases.effective_usize(contract, case, register=register)


def meets(contract: Contract, layout: Layout, stall: Stall, *, register: int) -> bool:
    """Whether the contract has the kernel come to the late page at all.

    What is refused before is no stall: a flag, a size, a tail in the page that is there.
    """
    case = stall.case
    usize = _usize(contract, case, register=register)
    whole = _outcome(contract, layout, case, case.memory, usize=usize, register=register)
    if stall.late is Late.SECOND:
        cut = _outcome(
            contract,
            layout,
            case,
            case.memory,
            usize=usize,
            register=register,
            hole=stall.boundary,
        )
        return cut != whole
    # The first byte is read by the copy, if the size is not what lies there.
    first = FetchSize if _size_is_first(contract, stall) else Copy
    order = [type(check).__name__ for check in contract.checks]
    return not whole.why or order.index(whole.why) >= order.index(first.__name__)


def _size_is_first(contract: Contract, stall: Stall) -> bool:
    """Whether the size field is in the first page.  UserError when it is in both."""
    where = contract.size
    if not isinstance(where, SizeField):
        return False
    if where.offset < stall.boundary < where.end:
        raise UserError(f"{stall}: the boundary is in the size field, which has no one moment")
    return where.end <= stall.boundary


def _sizes(contract: Contract, stall: Stall, *, register: int) -> set[int]:
    """The sizes that may count: see the top of this file."""
    found = {_usize(contract, stall.case, register=register)}
    first = _size_is_first(contract, stall)
    if isinstance(contract.size, SizeField) and stall.late is Late.FIRST and not first:
        found.add(_size_in(contract, stall.changed))
    return found


def _splits(old: bytes, new: bytes) -> list[bytes]:
    """Old below some byte and new from it on, for every byte."""
    if old == new:  # a tail of thousands of bytes, most often
        return [old]
    differ = [at for at, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
    return [old[:at] + new[at:] for at in differ] + [old]


def _memories(contract: Contract, layout: Layout, stall: Stall) -> Iterator[bytes]:
    """The bytes that may have been fetched: see the top of this file."""
    old, new = stall.case.memory, stall.changed
    if stall.late is Late.FIRST and _size_is_first(contract, stall):
        yield new
        return
    ksize = layout.size
    for head, tail in itertools.product(
        _splits(old[:ksize], new[:ksize]), _splits(old[ksize:], new[ksize:])
    ):
        yield head + tail


@dataclasses.dataclass(frozen=True)
class Allowed:
    """One outcome that some snapshot explains."""

    errno: int
    held: bytes | None
    memory: bytes

    def __str__(self) -> str:
        return _words(self.errno, self.held)


def _visible(contract: Contract, outcome: model.Outcome, after: bytes, ksize: int) -> Allowed:
    """An outcome of the model, as a caller whose memory is ``after`` by then sees it."""
    where = contract.size
    if outcome.written is not None and isinstance(where, SizeField):
        data = bytearray(after)
        data[where.offset : where.end] = ksize.to_bytes(where.width, "little")
        after = bytes(data)
    held = outcome.held if isinstance(contract.effect, ReadBack) else None
    return Allowed(outcome.errno, held, after)


def allowed(contract: Contract, layout: Layout, stall: Stall, *, register: int) -> list[Allowed]:
    """Every outcome that the contract allows, each once.  ``register`` is in bits."""
    found: dict[Allowed, None] = {}
    for usize in sorted(_sizes(contract, stall, register=register)):
        for memory in _memories(contract, layout, stall):
            outcome = _outcome(contract, layout, stall.case, memory, usize=usize, register=register)
            found[_visible(contract, outcome, stall.changed, layout.size)] = None
    return list(found)


def judge(
    contract: Contract, layout: Layout, stall: Stall, seen: Observed, *, register: int
) -> Mismatch | None:
    """None when some snapshot explains what was seen, else why none does."""
    fine = allowed(contract, layout, stall, register=register)
    whole = seen.stalled and not seen.signal and not seen.deadline
    if whole and Allowed(seen.errno, seen.held, seen.memory) in fine:
        return None
    text = "; or ".join(str(one) for one in fine[:SHOWN])
    if len(fine) > SHOWN:
        text += f"; or one of {len(fine) - SHOWN} more"
    what = str(seen)
    if not seen.stalled:
        text = "it reads the page that is late"
        what += ", and that page was never read"
        cause = "no fault"
    elif not any(one.errno == seen.errno for one in fine):
        names = [model.errno_name(one.errno) if one.errno else "success" for one in fine]
        mine = model.errno_name(seen.errno) if seen.errno else "success"
        cause = f"{' or '.join(dict.fromkeys(names))} → {mine}"
    elif not any((one.errno, one.held) == (seen.errno, seen.held) for one in fine):
        cause = "effect of no single snapshot"
    else:
        cause = "memory"
        what += f", and leaves {seen.memory[: layout.size].hex()}"
    return Mismatch(
        first=str(stall), last=str(stall), count=1, allowed=text, seen=what, cause=cause, how=stall
    )


# On the wire.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hold:
    """For one call of a program: the page that is late, and the bytes that change meanwhile."""

    call: ResultOf
    page: int  #: offset in the arena, a multiple of PAGE
    start: int  #: of ``content`` in the page
    content: bytes  #: of the page, when it comes; the rest of it is zero
    change_at: int  #: offset in the arena
    change: bytes


def encode(holds: Sequence[Hold], program: Program, *, deadline_ms: int) -> bytes:
    """A WIRE_T_STALL payload; ``holds`` in the order of their calls."""
    heads, data = [], bytearray()
    for hold in holds:
        heads.append(
            wire.pack(
                "wire_stall",
                op=hold.call.index,
                page=hold.page,
                page_start=hold.start,
                page_offset=len(data),
                page_length=len(hold.content),
                change=hold.change_at,
                change_offset=len(data) + len(hold.content),
                change_length=len(hold.change),
            )
        )
        data += hold.content + hold.change
    head = wire.pack("wire_stalls", stalls=len(heads), data_length=len(data))
    return b"".join((head, *heads, data, program.encode(deadline_ms=deadline_ms)))


def stalled(holds: Iterable[Hold], payload: bytes) -> list[bool]:
    """For each hold whether its call met its page, out of a WIRE_T_RESULT payload."""
    size = wire.ffi.sizeof("struct wire_result")
    return [
        bool(wire.unpack("wire_result", payload, hold.call.index * size).flags & lib.WIRE_R_STALLED)
        for hold in holds
    ]


# Making them.


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Placed:
    """Where a stall's operations are in its program."""

    stall: Stall
    hold: Hold
    got: ResultOf | None
    shown: ResultOf | None
    after: ResultOf


def _place(interface: Interface, program: Program, stall: Stall) -> _Placed:
    """Add a stall to a program: the page that is there, the call, its effect, a look."""
    case = stall.placed
    cut = stall.boundary
    first, second = case.memory[:cut], case.memory[cut:]
    program.reset()
    program.write(SCRATCH, DATA_AT, interface.contract.data)
    # Fresh pages are zero: what is zero at an end need not travel.
    if stall.late is Late.SECOND:
        program.write(ARENA, case.offset, first.rstrip(b"\0"))
        page, start, content = BOUNDARY_AT, 0, second
    else:
        program.write(ARENA, BOUNDARY_AT, second.rstrip(b"\0"))
        page, start, content = BOUNDARY_AT - PAGE, case.offset % PAGE, first
    placed = interface.place_call(program, case, look=stall.length)
    assert placed.after is not None  # there is something to look at
    hold = Hold(
        call=placed.call,
        page=page,
        start=start,
        content=content.rstrip(b"\0"),
        change_at=case.offset + stall.at,
        change=stall.change,
    )
    return _Placed(stall=stall, hold=hold, got=placed.got, shown=placed.shown, after=placed.after)


def _observed(placed: _Placed, results: list[Result], *, met: bool) -> Observed:
    mine = results[placed.hold.call.index]
    held = None
    if not mine.errno and placed.got is not None and placed.shown is not None:
        length = results[placed.got.index].ret
        shown = results[placed.shown.index].data
        spare = bytes([sweep.BUFFER_FILL]) * sweep.BUFFER_SPARE
        held = shown[:length] if shown.endswith(spare) and length >= 0 else shown
    return Observed(
        stalled=met,
        errno=mine.errno,
        held=held,
        memory=results[placed.after.index].data,
        signal=mine.signal,
        deadline=mine.deadline,
    )


def _batches(stalls: Iterable[Stall]) -> Iterator[list[Stall]]:
    """As many stalls as go into one request and its answer."""
    batch: list[Stall] = []
    size = 0
    for one in stalls:
        weight = OVERHEAD + 2 * one.length
        if batch and (
            size + weight > wire.MAX_PAYLOAD // 2 or len(batch) == lib.WIRE_MAX_OPS // OPS
        ):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += weight
    if batch:
        yield batch


def observe(interface: Interface, stalls: Iterable[Stall]) -> Iterator[tuple[Stall, Observed]]:
    """Make calls, many to a request, each held at its page.

    RefusedError with an errno when userfaultfd(2) may not hold the kernel's
    faults: that takes CAP_SYS_PTRACE, or vm.unprivileged_userfaultfd.
    """
    for batch in _batches(stalls):
        program = Program()
        placed = [_place(interface, program, stall) for stall in batch]
        results, met = interface.caller.run_stalled(program, [one.hold for one in placed])
        for one, came in zip(placed, met, strict=True):
            yield one.stall, _observed(one, results, met=came)


def verify(interface: Interface, stalls: Iterable[Stall]) -> None:
    """Make stalls; ContractBrokenError where no single snapshot explains the outcome."""
    register = interface.register
    found = Causes()
    for stall, seen in observe(interface, stalls):
        mismatch = judge(interface.contract, interface.layout, stall, seen, register=register)
        if mismatch:
            found.add(mismatch)
    _raise(interface, found)


def _raise(interface: Interface, found: Causes) -> None:
    if found.all():
        raise ContractBrokenError(
            f"{interface.abi.name}: {interface.contract.name}() mixes what it read at two times:",
            found.all(),
        )


# The race.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Race:
    """The same call many times, while two values are stored in turn by a second thread."""

    case: Case
    at: int  #: offset in the struct of what alternates
    width: int  #: bytes: 1, 2, 4 or 8
    values: tuple[int, int]
    calls: int
    what: str  #: what alternates, in words

    def __str__(self) -> str:
        one, other = self.values
        return f"{self.case}, while {self.what} is {one:#x} and {other:#x} in turn"

    def __post_init__(self) -> None:
        if self.width not in (1, 2, 4, 8) or not 0 <= self.at <= len(self.case.memory) - self.width:
            raise UserError(f"{self}: that is not one store within the struct")

    def with_value(self, value: int) -> bytes:
        """The struct with one of the values in it."""
        data = bytearray(self.case.memory)
        data[self.at : self.at + self.width] = value.to_bytes(self.width, "little")
        return bytes(data)

    def over(self, contract: Contract) -> bool:
        """Whether what alternates is the size field, or a part of it."""
        where = contract.size
        if not isinstance(where, SizeField):
            return False
        return self.at < where.end and where.offset < self.at + self.width


def encode_race(
    race: Race, contract: Contract, *, number: int, after: Sequence[bytes], usize: int
) -> bytes:
    """A WIRE_T_RACE payload.  ``number`` is the call's; ``usize`` is stored before each call."""
    call = encode_op(
        kind=lib.WIRE_OP_SYSCALL,
        nr=number,
        args=cases.registers(contract, race.case),
        entry=entry_of(race.case.way, queued=contract.queued),
    )
    where = contract.size
    undo = isinstance(where, SizeField) and where.width == 4 and not race.over(contract)
    rest = wire.pack(
        "wire_race",
        count=race.calls,
        value=race.values,
        at=race.case.offset + race.at,
        width=race.width,
        poke_offset=race.case.offset + where.offset if isinstance(where, SizeField) else 0,
        poke_width=4 if undo else 0,
        poke=usize if undo else 0,
        after=len(after),
        deadline_ms=RACE_DEADLINE_MS,
    )
    return b"".join((call, rest[len(call) :], *after))


def _mixes(race: Race) -> Iterator[bytes]:
    """The struct with each byte that alternates as the one value has it, or the other.

    A field may be fetched in parts, and the values change any number of times meanwhile.
    """
    one, other = (value.to_bytes(race.width, "little") for value in race.values)
    for choice in itertools.product(*(sorted({a, b}) for a, b in zip(one, other, strict=True))):
        yield race.with_value(int.from_bytes(bytes(choice), "little"))


def allowed_in_race(
    contract: Contract, layout: Layout, race: Race, *, register: int
) -> dict[Seen, model.Outcome]:
    """Every outcome that the contract allows, as a row has it.

    The size is one of the two, whole: it is fetched by one instruction.  What
    is written back is overwritten at once, and so is not looked at; but where
    the size alternates, a later call may be the one that reads it.
    """
    case = race.case
    sizes = {_usize(contract, case, register=register)}
    if race.over(contract):
        sizes = {_size_in(contract, race.with_value(value)) for value in race.values}
        if contract.writes_size:
            sizes.add(layout.size)
    found = {}
    for usize, memory in itertools.product(sorted(sizes), _mixes(race)):
        outcome = _outcome(contract, layout, case, memory, usize=usize, register=register)
        effect = None
        if outcome.held is not None:
            effect = sweep.effect_hash(contract.effect, outcome.held, undone=len(contract.after))
        found[Seen(errno=outcome.errno, effect=effect)] = outcome
    return found


def judge_race(
    contract: Contract, layout: Layout, race: Race, rows: Iterable[Row], *, register: int
) -> list[Mismatch]:
    """The outcomes that no single snapshot explains, each with how often it was seen."""
    fine = allowed_in_race(contract, layout, race, register=register)
    text = "; or ".join(
        dict.fromkeys(
            _words(one.errno, one.held if isinstance(contract.effect, ReadBack) else None)
            for one in fine.values()
        )
    )
    found = Causes()
    for row in rows:
        if row.seen in fine:
            continue
        found.add(
            Mismatch(
                first=str(race),
                last=f"{row.count} of {race.calls} calls",
                count=row.count,
                allowed=text,
                seen=f"{row.seen}, first at call {row.first}",
                cause=f"race: {min(fine, key=lambda one: one.errno).differs(row.seen)}",
                how=race,
            )
        )
    return found.all()


def run_race(interface: Interface, race: Race) -> tuple[Row, ...]:
    """Lay the struct out and run a race: a row for each distinct outcome."""
    program = Program()
    program.reset()
    program.write(SCRATCH, DATA_AT, interface.contract.data)
    program.write(ARENA, race.case.offset, race.case.memory)
    interface.caller.run(program)
    payload = encode_race(
        race,
        interface.contract,
        number=interface.number(interface.contract.number, race.case.way),
        after=sweep.after_ops(interface.contract, number=interface.number, ksize=interface.ksize),
        usize=race.case.usize,
    )
    result = interface.caller.race(payload)
    ended = any(row.seen.deadline for row in result.rows)  # it blocks: that is enough of it
    if result.calls != race.calls and len(result.rows) < lib.WIRE_MAX_OUTCOMES and not ended:
        raise InfraError(f"the caller made {result.calls} calls of {race.calls}")
    return result.rows


def verify_races(interface: Interface, *races: Race) -> None:
    """Run races; ContractBrokenError where an outcome is not one of some snapshot."""
    found = Causes()
    for race in races:
        rows = run_race(interface, race)
        for mismatch in judge_race(
            interface.contract, interface.layout, race, rows, register=interface.register
        ):
            found.add(mismatch)
    _raise(interface, found)
