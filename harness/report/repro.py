# SPDX-License-Identifier: GPL-2.0-only
"""A mismatch as a C program of its own, which depends on nothing of ours.

    path = write(interface, mismatch, directory, prop="P3", number=1)

The program makes the mismatch's first call once more, with the same registers
and the same memory, and says in one line and by its exit code what came of it:
1 while the kernel misbehaves, 0 when it does what the contract says, 2 when
the call could not be tried (no such system call here, or no permission).

What is written down is a mismatch's Case, and what stands beside it: of the
kinds of harness/how.py those that are one call, or one call again and again.
What takes a second thread or somebody who watches has programs of its own, and
so have layouts and numbers: harness/report/reproducers.py knows which is for
what, and where there is none.

What the contract allows comes from the model, not from the mismatch's words;
of those only the errno of `seen` is looked at, and the rest goes into the
comment.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import textwrap
from collections.abc import Iterable, Iterator
from errno import EACCES, ENOSYS, EPERM, errorcode
from pathlib import Path

import jinja2

from harness import case as cases
from harness import contract as contracts
from harness import how as hows
from harness import model
from harness.abi import ways
from harness.case import PAGE, Case, Protection
from harness.contract import (
    DATA_AT,
    MOST_ARGS,
    PIECES_AT,
    Argument,
    Bytes,
    Child,
    Contract,
    Descriptor,
    Flags,
    Made,
    Pointer,
    ReadBack,
    SizeField,
    SizeValue,
    Value,
)
from harness.findings import Mismatch
from harness.how import Meter
from harness.identity import CALLER, Identity
from harness.interface import Interface
from harness.layout import Layout
from harness.model import SCRATCH_AT
from harness.program import AREA_BYTES, U64
from harness.report.results import PROPERTIES
from harness.sweep import BUFFER_SPARE
from harness.wire import lib

READ_WRITE = Protection.READ_WRITE
#: The template's directory.
HERE = Path(__file__).resolve().parent
#: Columns of the first comment.
COLUMNS = 79
#: Columns of a line that is not to be broken, as checkpatch.pl has it.
WIDEST_LINE = 100
#: Bytes on one line of an initialiser.
BYTES_PER_LINE = 8
#: Equal bytes in a row from which on they are written as a range.
LEAST_RANGE = 4
#: The widest field whose value is written beside its bytes, in bytes.
WIDEST_VALUE = 8
#: An argument's unknown bits that are named one by one.
MOST_BITS = 4
#: Errnos that stand for "not tried", unless the contract or the mismatch names them.
NOT_TRIED = {
    (ENOSYS,): "this kernel has no such call",
    (EPERM, EACCES): "this process may not",
}
#: What the preprocessor knows of each ABI, so that a forgotten flag is noticed.
WRONG_ABI = {
    "m64": "!defined(__x86_64__) || defined(__ILP32__)",
    "m32": "!defined(__i386__)",
    "mx32": "!defined(__x86_64__) || !defined(__ILP32__)",
}
#: Where the arguments go: by gcc's constraint, or a register's name where it has none.
NATIVE_REGISTERS = ("D", "S", "d", "r10", "r8", "r9")
INT80_REGISTERS = ("b", "c", "d", "S", "D", "r12")  # r12 is exchanged with rbp
#: Of struct io_uring_sqe, in the order of a queued call's arguments; the last is file_index.
QUEUE_MEMBERS = ("fd", "off", "addr", "len", "rw_flags", "splice_fd_in")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arg:
    """One argument of the call, as C."""

    text: str
    note: str = ""  #: for a comment behind it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Array:
    """Constant bytes of the program."""

    name: str
    type: str
    length: str  #: between the brackets
    value: str = ""  #: a string, or `{ 0 }`
    lines: tuple[str, ...] = ()  #: else the initialiser's lines
    note: str = ""  #: for a comment before it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A function that enters the kernel, where syscall(2) will not do."""

    name: str
    int80: bool
    queued: bool  #: by an io_uring; and then ``flags`` are the entry's
    flags: str
    exchanges: bool  #: the sixth argument goes to rbp
    head: tuple[str, ...]  #: the function's name and parameters
    inputs: str  #: gcc's operands
    named: tuple[tuple[str, int], ...]  #: (register, argument) that need a variable
    clobbers: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeCheck:
    """The size field, which is read back."""

    plus: str  #: where it is behind the struct's start, as C
    type: str
    value: str  #: what it has to be afterwards, as C
    shown: int  #: the same, for a message
    changes: bool  #: that is, something other than before


@dataclasses.dataclass(frozen=True, kw_only=True)
class Becoming:
    """Who makes the call."""

    name: str
    args: str  #: of become(), as C


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named:
    """A process whose pid is put into the struct."""

    name: str
    field: str
    offset: int
    width: int  #: bytes
    forked: bool  #: it is not the one that makes the call
    ended: bool
    who: str  #: the arguments of become() in it, as C
    plus: str  #: what is added to the pid, as C


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
    """A call that is made first, and what it gets filled."""

    given: Array
    call: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]  #: (first byte, byte behind) of what is compared


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lower:
    """The same call with another address, which is made first."""

    given: Array
    call: tuple[str, ...]
    fault: str  #: the errno of an address that leads nowhere


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """One thing by which it is told whether the kernel has kept something."""

    what: str
    expression: str  #: C, a long
    most: int  #: that it may grow by


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keeps:
    """The call is made again and again."""

    meters: tuple[Reading, ...]
    times: int
    before: int  #: that are made first
    descriptor: bool  #: among the meters
    kernel: bool  #: one of them is a file of /proc's


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """An injected fault."""

    nth: int
    condition: str  #: on err, C: it is none that is stated
    settings: tuple[tuple[str, str], ...]  #: (file, what is written)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What the template fills in."""

    title: str
    story: tuple[tuple[str, ...], ...]  #: lines of each paragraph of the first comment
    commands: tuple[str, ...]
    wrong_abi: str
    cflag: str
    guard: str | None  #: the macro that may be there already
    number_name: str
    number: str
    number_note: str
    arrays: tuple[Array, ...]  #: the struct and the other arguments' bytes
    given: bool  #: there is a byte of the struct to copy
    data: Array | None  #: what lies at known addresses: Bytes arguments and pieces
    data_at: str
    setup: tuple[str, ...]  #: lines that make what the call needs
    before: tuple[str, ...]  #: lines before each call
    past_end: bool  #: the hole is a page past a file's end
    cloexec: int | None  #: what F_GETFD has to give; None: it is not asked
    high: str  #: where the pieces lie once more; empty: nowhere
    whole: Whole | None
    lower: Lower | None
    keeps: Keeps | None
    closes: bool  #: an accepted call's descriptor is closed in each turn
    reads: bool  #: and read from
    no_descriptors: bool  #: the process may open no further file
    step: Step | None
    child: bool  #: an accepted call makes a process
    filled: tuple[tuple[int, int], ...]  #: spans of the struct that it may write
    held: Array | None  #: what read(2) has to give
    spare: int
    memory: bool  #: there is memory of the struct's at all
    maps: bool  #: there is memory to map
    place: str
    place_note: str
    pages: int
    reported: bool  #: what the log has behind the call is all that counts
    low: bool  #: memory must lie below 4 GiB
    protect: str | None
    poison: bool
    pieces: bool  #: the struct may have pointers
    pieces_at: str
    pieces_offset: int
    who: Becoming | None
    peer: Named | None
    entry: Entry | None
    call: tuple[str, ...]
    errno: str  #: "0": the call is accepted
    not_tried: tuple[tuple[str, str], ...]  #: (condition on err, why)
    descriptor: bool  #: the result has to be one
    look: bool  #: the memory is compared afterwards
    size: SizeCheck | None
    expected: str


def errno_of(number: int) -> str:
    """Its name in <errno.h>, or the number."""
    return errorcode.get(number, str(number))


def comment(text: str) -> str:
    """The text in one line that cannot end or begin a comment."""
    return " ".join(text.split()).replace("*/", "* /").replace("/*", "/ *")


# Bytes as initialisers.


def _fields(data: bytes, layout: Layout, size_field: str) -> Iterator[tuple[int, int, str]]:
    """The bytes in pieces (start, stop, what they are), gapless."""
    at = 0
    for field in sorted(layout.fields, key=lambda one: one.offset):
        if field.offset < at or field.offset >= len(data) or not field.size:
            continue
        if field.offset > at:
            yield at, field.offset, ""
        at = min(field.end, len(data))
        value = int.from_bytes(data[field.offset : at], "little")
        if at < field.end:
            yield field.offset, at, f"{field.name}, its first {at - field.offset} bytes"
        elif field.size > WIDEST_VALUE:
            yield field.offset, at, field.name
        else:
            shown = str(value) if field.name == size_field or value < 10 else f"{value:#x}"
            yield field.offset, at, f"{field.name} = {shown}"
    if at < len(data):
        yield at, len(data), ""


def _spans(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """What is to be written of data[start:stop]: ranges, lines, no long run of zeros."""
    for run in re.finditer(rb"(.)\1*", data[start:stop], re.DOTALL):
        if run[1] != b"\0":
            yield start + run.start(), start + run.end()


def _lines_of(data: bytes, start: int, stop: int) -> Iterator[str]:
    """Designated initialisers of the nonzero bytes between start and stop."""
    open_at = open_end = start  # a line that is being gathered

    def gathered() -> Iterator[str]:
        for at in range(open_at, open_end, BYTES_PER_LINE):
            chunk = data[at : min(at + BYTES_PER_LINE, open_end)]
            yield f"[{at}] = " + " ".join(f"{byte:#04x}," for byte in chunk)

    for first, end in _spans(data, start, stop):
        if end - first >= LEAST_RANGE:
            yield from gathered()
            yield f"[{first} ... {end - 1}] = {data[first]:#04x},"
            open_at = open_end = end
        elif open_at == open_end or first - open_end >= LEAST_RANGE:
            yield from gathered()
            open_at, open_end = first, end
        else:
            open_end = end
    yield from gathered()


def initialisers(data: bytes, layout: Layout, *, size_field: str = "") -> tuple[str, ...]:
    """C's initialisers for ``data``, which begins with a struct of this layout.

    Zeros are left out, since C puts them there; equal bytes become a range; a
    field's name and value stand beside its bytes.
    """
    found = []
    for start, stop, what in _fields(data, layout, size_field):
        lines = list(_lines_of(data, start, stop))
        if lines and what:
            remark = f"/* {comment(what)} */"
            if len(f"\t{lines[0]}\t{remark}".expandtabs(8)) > WIDEST_LINE:
                lines.insert(0, remark)
            else:
                lines[0] += f"\t{remark}"
        found += lines
    return tuple(found)


def array_of(name: str, data: bytes, interface: Interface, note: str) -> Array:
    """A struct's bytes, each field with its name."""
    where = interface.contract.size
    lines = initialisers(
        data, interface.layout, size_field=where.field if isinstance(where, SizeField) else ""
    )
    return Array(
        name=name,
        type="unsigned char",
        length=str(len(data)),
        lines=lines,
        value="" if lines else "{ 0 }",
        note=note,
    )


def constant_of(name: str, data: bytes) -> Array:
    """Constant bytes: a string where they are one."""
    text = data.removesuffix(b"\0")
    if data.endswith(b"\0") and all(0x20 <= byte < 0x7F for byte in text):
        quoted = text.decode().replace("\\", r"\\").replace('"', r"\"").replace("??", r"?\?")
        return Array(name=name, type="char", length="", value=f'"{quoted}"')
    lines = tuple(
        " ".join(f"{byte:#04x}," for byte in data[at : at + BYTES_PER_LINE])
        for at in range(0, len(data), BYTES_PER_LINE)
    )
    return Array(name=name, type="unsigned char", length=str(len(data)), lines=lines)


# The call.


def _flags_note(flags: Flags, value: int) -> str:
    """Which flags a register's value is."""
    left = value
    parts = []
    for name, bit in flags.known.items():
        if bit and value & bit == bit:
            parts.append(name)
            left &= ~bit
    bits = [bit for bit in range(64) if left >> bit & 1]
    if len(bits) > MOST_BITS:
        parts.append(f"unknown ones {left:#x}")
    else:
        parts += [f"bit {bit}" for bit in bits]
    return " | ".join(parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """How the call is written."""

    interface: Interface
    case: Case

    @property
    def contract(self) -> Contract:
        return self.interface.contract

    @property
    def other_way(self) -> bool:
        """Not by this ABI's own way into the kernel."""
        own = ways(self.interface.abi.name, queued=self.contract.queued)[0]
        return self.case.way not in (None, own)

    @property
    def int80(self) -> bool:
        """By the 32-bit entry, from a 64-bit program."""
        return self.other_way and self.case.way is not None and self.case.way.int80

    @property
    def low(self) -> bool:
        """Whether memory must lie below 4 GiB, and would not by itself."""
        return self.int80 and self.interface.abi.pointer == 8

    @property
    def values(self) -> tuple[int | None, ...]:
        """The registers as the case asks for them; None: an address."""
        return tuple(
            value if isinstance(value, int) else None
            for value in cases.registers(self.contract, self.case)[: len(self.contract.args)]
        )

    @property
    def raw(self) -> bool:
        """Whether registers have to be set by hand.

        libc's syscall() takes long arguments: that leaves out the 32-bit entry,
        and the upper halves on x32, where a long has 32 bits; and a queue's entry.
        """
        wide = any(
            value is not None and value >> 32 and not (isinstance(arg, Value) and _is_int(value))
            for arg, value in zip(self.contract.args, self.values, strict=True)
        )
        return self.int80 or self.contract.queued or (self.interface.abi.name == "mx32" and wide)

    def literal(self, arg: Argument, value: int) -> str:
        """A register's value as C."""
        bits = 64 if self.raw else 8 * self.interface.abi.long
        suffix = "LL" if self.raw or self.interface.abi.name == "mx32" else "L"
        if isinstance(arg, Value) and _is_int(value):
            return f"{value - (value >> 63 << 64)}{suffix}"
        suffix = "ULL" if self.raw else "UL"
        value %= 1 << bits
        decimal = isinstance(arg, SizeValue) and not arg.base
        return f"{value}{suffix}" if decimal or value < 10 else f"{value:#x}{suffix}"

    def args(self) -> Iterator[Arg]:
        """The arguments, as C."""
        for index, (arg, value) in enumerate(zip(self.contract.args, self.values, strict=True)):
            asked = self.interface.asked_args[index]
            if isinstance(asked, Made):
                yield Arg(text=f"made_{asked.step}")
                continue
            if value is None:
                name = "params" if isinstance(arg, Pointer) else f"argument_{index}"
                if self.low and isinstance(arg, Bytes):
                    name += "_low"
                yield Arg(text=f"(uintptr_t){name}" if self.raw else name)
                continue
            note = ""
            match arg:
                case Pointer():
                    note = f"{self.contract.tag} *"
                case Flags():
                    note = _flags_note(arg, value)
                case SizeValue():
                    note = "the size" if not arg.base else f"the size is {self.case.usize}"
                case _:
                    pass
            yield Arg(text=self.literal(arg, value), note=comment(note))

    def entry(self) -> Entry | None:
        """The function that is called instead of syscall(2)."""
        if not self.raw:
            return None
        count = len(self.contract.args)
        if self.contract.queued:
            return self.queue_entry(count)
        return self.entry_of_registers(count, int80=self.int80)

    def entry_of_registers(self, count: int, *, int80: bool) -> Entry:
        """The function that sets the number and ``count`` whole registers."""
        registers = (INT80_REGISTERS if int80 else NATIVE_REGISTERS)[:count]
        name = "int80" if int80 else "syscall64"
        parameters = ["uint64_t nr", *(f"uint64_t arg{index}" for index in range(count))]
        inputs = ['"a"(nr)']
        for index, one in enumerate(registers):
            inputs.append(f'"r"({one})' if one.startswith("r") else f'"{one}"(arg{index})')
        return Entry(
            name=name,
            int80=int80,
            queued=False,
            flags="",
            exchanges=int80 and count == MOST_ARGS,
            head=_wrapped(f"static int64_t {name}(", parameters, ")"),
            inputs=", ".join(inputs),
            named=tuple((one, index) for index, one in enumerate(registers) if one.startswith("r")),
            clobbers='"r8", "r9", "r10", "r11", "memory"' if int80 else '"rcx", "r11", "memory"',
        )

    def queue_entry(self, count: int) -> Entry:
        """The function that submits an entry, and waits for its completion."""
        way = self.case.way
        parameters = ["uint64_t nr", *(f"uint64_t arg{index}" for index in range(count))]
        return Entry(
            name="queued",
            int80=False,
            queued=True,
            flags="IOSQE_ASYNC" if way is not None and way.worker else "0",
            exchanges=False,
            head=_wrapped("static int64_t queued(", parameters, ")"),
            inputs="",
            named=tuple(zip(QUEUE_MEMBERS[:count], range(count), strict=True)),
            clobbers="",
        )

    def number(self) -> tuple[str | None, str, str, str]:
        """The macro that may be there already, the name, the value, a comment."""
        value = self.interface.number(self.contract.number, self.case.way)
        # <asm/unistd.h>: of the tables that x86 has, only x32's numbers have this bit.
        bit = 1 << 30
        text = f"(__X32_SYSCALL_BIT + {value & ~bit})" if value & bit else str(value)
        own = self.contract.number
        if self.contract.queued:
            name = re.sub(r"\W", "_", f"NR_{self.contract.name}").upper()
            return None, name, str(value), f"{own}, an operation of io_uring's"
        if not self.other_way and re.fullmatch(r"[A-Za-z_]\w*", own):
            return own, own, text, ""
        name = re.sub(r"\W", "_", f"NR_{self.contract.name}").upper()
        note = ""
        if self.other_way and self.case.way is not None:
            note = f"{self.case.way.table}'s table: the way in is '{self.case.way.name}'"
        return None, name, text, note


def _wrapped(head: str, parts: list[str], end: str) -> tuple[str, ...]:
    """A list of parameters over lines, aligned as the kernel has them."""
    indent = "\t" * (len(head) // 8) + " " * (len(head) % 8)
    lines = [head]
    for part in parts:
        text = part + (end if part is parts[-1] else ",")
        if len(lines[-1].expandtabs(8)) + 1 + len(text) > COLUMNS:
            lines.append(indent + text)
        else:
            lines[-1] += text if lines[-1].endswith("(") else f" {text}"
    return tuple(lines)


def call_lines(function: str, number: str, args: tuple[Arg, ...]) -> tuple[str, ...]:
    """The call: on one line, or an argument on each with what it is beside it."""
    head = f"ret = {function}({number}"
    whole = ", ".join((head, *(arg.text for arg in args))) + ");"
    if not any(arg.note for arg in args) and 8 + len(whole) <= COLUMNS:
        return (whole,)
    column = 8 + head.index("(") + 1
    indent = "\t" * (column // 8 - 1) + " " * (column % 8)
    lines = [f"{head},"]
    for arg in args:
        end = ");" if arg is args[-1] else ","
        lines.append(f"{indent}{arg.text}{end}" + (f"\t/* {arg.note} */" if arg.note else ""))
    return tuple(lines)


def _is_int(value: int) -> bool:
    """Whether a 64-bit register holds a sign extended int."""
    return value < 1 << 31 or value >= U64 + 1 - (1 << 31)


# What has to come of it.


def not_tried(mismatch: Mismatch, allowed: model.Outcome) -> tuple[tuple[str, str], ...]:
    """Errnos after which nothing can be said; not those that the finding is about."""
    seen = mismatch.seen.partition(",")[0]
    found = []
    for numbers, why in NOT_TRIED.items():
        left = [
            f"err == {errno_of(number)}"
            for number in numbers
            if number != allowed.errno and model.errno_name(number) != seen
        ]
        if left:
            found.append((" || ".join(left), why))
    return tuple(found)


def _poison(interface: Interface, case: Case, allowed: model.Outcome) -> bool:
    """Whether the kernel's stack can show: a short struct is accepted and read back."""
    register = case.way.register if case.way else interface.abi.register
    usize = cases.effective_usize(interface.contract, case, register=register)
    size = usize or interface.contract.zero_means or 0
    return (
        not allowed.errno
        and isinstance(interface.contract.effect, ReadBack)
        and size < interface.ksize
    )


def _become_args(interface: Interface, who: Identity) -> str:
    """The arguments of the program's become()."""
    one = who.who(interface.capability)
    sets = (f"{mask:#x}ULL" for mask in (one.effective, one.permitted, one.required))
    uid = -1 if one.uid is None else one.uid
    return ", ".join((str(uid), *sets, str(int(one.namespace)), str(int(one.dumpable))))


def _becoming(interface: Interface, case: Case) -> Becoming | None:
    if case.who is None:
        return None
    return Becoming(name=comment(case.who.name), args=_become_args(interface, case.who))


def _named(interface: Interface, case: Case) -> Named | None:
    if case.peer is None:
        return None
    name, peer = case.peer
    field = interface.layout.field(name)
    return Named(
        name=comment(peer.name),
        field=name,
        offset=field.offset,
        width=field.size,
        forked=peer.identity is not None,
        ended=peer.ended,
        who=_become_args(interface, peer.identity or CALLER),
        plus=f" + {peer.plus:#x}ULL" if peer.plus else "",
    )


def _size_check(
    interface: Interface, case: Case, present: bytes, allowed: model.Outcome
) -> SizeCheck | None:
    where = interface.contract.size
    if not isinstance(where, SizeField) or len(present) < where.end:
        return None
    bits = 8 * where.width
    old = int.from_bytes(present[where.offset : where.end], "little")
    new = old
    # What cannot be written to, is not.
    if allowed.written is not None and case.protection is READ_WRITE:
        new = allowed.written % (1 << bits)
    return SizeCheck(
        plus=f" + {where.offset}" if where.offset else "",
        type=f"uint{bits}_t",
        value=f"{new}ULL" if new >> 31 else str(new),
        shown=new,
        changes=new != old,
    )


def setup_lines(interface: Interface) -> Iterator[str]:
    """The set-up's calls, and those before each call, as C."""
    asked = interface.asked.with_constants(interface.constant)
    yield from _step_lines(interface, (*asked.setup, *asked.before))


def _step_lines(interface: Interface, steps: Iterable[contracts.Step]) -> Iterator[str]:
    asked = interface.asked.with_constants(interface.constant)
    for step in steps:
        args = [f"{_step_arg(arg)}" for arg in step.args]
        call = f"syscall({', '.join((f'__NR_{step.call}', *args))})"
        if step.name:
            yield f"made_{step.name} = {call};"
            yield f"if (made_{step.name} < 0) {{"
        elif step.may_fail or step in asked.before:
            yield f"{call};"
            continue
        else:
            yield f"if ({call} < 0) {{"
        yield f'\tprintf("could not try: {step.call}(): %s\\n", strerror(errno));'
        yield "\treturn 2;"
        yield "}"


def _step_arg(arg: object) -> str:
    if isinstance(arg, Made):
        return f"made_{arg.step}"
    assert isinstance(arg, int)
    return f"(long){arg:#x}ULL"


def _place(case: Case, how: object) -> tuple[str, str]:
    """Where the struct lies, as C and in words."""
    if case.hole is not None:
        place = f"area + AREA - {case.hole}" if case.hole else "area + AREA"
        what = "page past a file's end" if isinstance(how, hows.PastTheEnd) else "inaccessible page"
        article = "an" if what.startswith("i") else "a"
        return place, f"its byte {case.hole} is the first of {article} {what}"
    if case.at_page_start:
        if not case.shift:
            return "area", "behind an inaccessible page"
        return f"area + {case.shift}", f"{case.shift} bytes behind an inaccessible page"
    return f"area + PAGE + {case.shift}" if case.shift else "area + PAGE", ""


def story(interface: Interface, mismatch: Mismatch) -> tuple[tuple[str, ...], ...]:
    """The first comment's paragraphs, in lines."""
    rows = {
        "call": mismatch.first,
        "allowed": mismatch.allowed,
        "kernel": f"{mismatch.seen} (Linux {interface.target.hello.release})",
        "contract": interface.contract.source,
    }
    table: list[str] = []
    for name, text in rows.items():
        if text:
            table += textwrap.wrap(
                comment(text),
                COLUMNS,
                initial_indent=f" *   {name:<10}",
                subsequent_indent=" *" + " " * 13,
                break_long_words=False,
                break_on_hyphens=False,
            )
    found = [tuple(table)]
    if mismatch.count > 1:
        text = f"It is the first of {mismatch.count:,} such calls; the last: {mismatch.last}."
        found.append(
            tuple(
                textwrap.wrap(comment(text), COLUMNS, initial_indent=" * ", subsequent_indent=" * ")
            )
        )
    return tuple(found)


@functools.cache
def template(name: str) -> jinja2.Template:
    """A template of this directory, for C."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # it is C
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def file_name(interface: Interface, *, prop: str, number: int) -> str:
    """repro-xyzzy-P3-m32-1.c: what is called, what does not hold, how, which."""
    parts = ("repro", interface.asked.name, prop, interface.abi.name, str(number))
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts)) + ".c"


def _allowed(interface: Interface, case: Case, how: object) -> model.Outcome:
    """What has to come of the call."""
    match how:
        case hows.Above4GiB(low=low):
            return interface.predict(low)
        case hows.WithoutDescriptors(errno=errno) | hows.NotThere(errno=errno):
            return model.Outcome(errno=errno)
        case _:
            return interface.predict(case)


def _whole(interface: Interface, how: object, *, function: str, number: str) -> Whole | None:
    if not isinstance(how, hows.AsTheWhole):
        return None
    args = tuple(Call(interface=interface, case=how.whole).args())
    note = f"{interface.contract.tag} in its whole size"
    return Whole(
        given=array_of("whole_given", how.whole.memory, interface, note),
        call=call_lines(function, number, args),
        spans=how.spans,
    )


def _lower(interface: Interface, how: object, *, function: str, number: str) -> Lower | None:
    if not isinstance(how, hows.Above4GiB):
        return None
    args = tuple(Call(interface=interface, case=how.low).args())
    note = f"{interface.contract.tag} with the address below 4 GiB"
    return Lower(
        given=array_of("given_below", how.low.memory, interface, note),
        call=call_lines(function, number, args),
        fault=errno_of(how.fault),
    )


#: How a meter is read, as C.
READINGS = {
    Meter.DESCRIPTOR: "lowest_free_descriptor()",
    Meter.SLAB: 'number_in("/proc/meminfo", "SUnreclaim:")',
    Meter.MEMORY: 'total - number_in("/proc/meminfo", "MemFree:")',
    Meter.FILES: 'number_in("/proc/sys/fs/file-nr", "")',
}


def _keeps(how: object) -> Keeps | None:
    if not isinstance(how, hows.KeepsNothing):
        return None
    return Keeps(
        meters=tuple(
            Reading(what=meter.value, expression=READINGS[meter], most=most)
            for meter, most in how.meters
        ),
        times=how.times,
        before=how.before,
        descriptor=any(meter is Meter.DESCRIPTOR for meter, _ in how.meters),
        kernel=any(meter is not Meter.DESCRIPTOR for meter, _ in how.meters),
    )


def _step(how: object) -> Step | None:
    if not isinstance(how, hows.StepFails):
        return None
    return Step(
        nth=how.nth,
        condition=" && ".join(f"err != {errno_of(one)}" if one else "err" for one in how.stated),
        settings=tuple((path, value.decode()) for path, value in how.settings),
    )


def render(interface: Interface, mismatch: Mismatch, *, prop: str, name: str | None = None) -> str:
    """The program's source.

    ``prop`` is a key of PROPERTIES, ``name`` the file that the first comment
    says to compile.
    """
    case = mismatch.case
    assert case is not None  # else its `how` has a program or a reason of its own
    contract, abi = interface.contract, interface.abi
    source = name or file_name(interface, prop=prop, number=1)
    call = Call(interface=interface, case=case)
    how = mismatch.how
    allowed = _allowed(interface, case, how)
    entry = call.entry()
    guard, number_name, number, number_note = call.number()

    memory = case.pointer is None
    present = case.memory if case.hole is None else case.memory[: case.hole]
    data = None
    if contract.pieces and not contract.pointers:
        lines = tuple(_lines_of(contract.data, 0, len(contract.data)))
        data = Array(
            name="laid_out",
            type="unsigned char",
            length=str(len(contract.data)),
            lines=lines,
            value="" if lines else "{ 0 }",
            note="What the call and its set-up point to",
        )
    arrays = [
        constant_of(f"argument_{index}", arg.data)
        for index, arg in enumerate(contract.args)
        if isinstance(arg, Bytes)
    ]
    if memory and present:
        behind = ", and what lies behind it" if len(present) > case.usize else ""
        note = f"{contract.tag} as it is given{behind}"
        arrays.append(array_of("given", present, interface, note))
    pieces = bool(contract.pointers)
    if pieces:
        arrays.append(constant_of("pieces", contract.data[PIECES_AT - DATA_AT :]))
    held = None
    shown = not isinstance(how, (hows.StepFails, hows.Above4GiB, hows.Reported))
    if isinstance(contract.effect, ReadBack) and allowed.held is not None and shown:
        name_of_held = "held_but_for_the_pid" if case.peer else "held"
        held = array_of(name_of_held, allowed.held, interface, "What read(2) has to give then")

    apart = isinstance(how, (hows.KeepsNothing, hows.StepFails, hows.Above4GiB, hows.Reported))
    look = memory and case.protection is not Protection.NONE and not apart
    size = _size_check(interface, case, present, allowed) if look else None
    expected = errno_of(allowed.errno) if allowed.errno else "accepted"
    if size and size.changes:
        expected += f", size set to {size.shown}"
    if held:
        expected += ", and the kernel holds what was given"
    place, place_note = _place(case, how)
    asked = interface.asked.with_constants(interface.constant)
    function = entry.name if entry else "syscall"
    keeps = _keeps(how)
    limited = isinstance(how, hows.WithoutDescriptors) or (
        isinstance(how, hows.KeepsNothing) and how.no_descriptors
    )
    facts = Facts(
        title=f"{contract.name}() as {abi.name} breaks its contract: {prop}, "
        f"{PROPERTIES.get(prop, 'a property of its own')}",
        story=story(interface, mismatch),
        commands=(f"gcc {abi.cflag} -static -O2 -Wall -o repro {source}", "./repro"),
        wrong_abi=WRONG_ABI[abi.name],
        cflag=abi.cflag,
        guard=guard,
        number_name=number_name,
        number=number,
        number_note=number_note,
        arrays=tuple(arrays),
        given=memory and bool(present),
        data=data,
        data_at=f"{lib.WIRE_SCRATCH_AT + DATA_AT:#x}",
        setup=tuple(_step_lines(interface, asked.setup)),
        before=tuple(_step_lines(interface, asked.before)),
        past_end=isinstance(how, hows.PastTheEnd),
        cloexec=int(how.wanted) if isinstance(how, hows.CloseOnExec) else None,
        high=f"{how.at:#x}ul" if isinstance(how, hows.Above4GiB) else "",
        whole=_whole(interface, how, function=function, number=number_name),
        lower=_lower(interface, how, function=function, number=number_name),
        keeps=keeps,
        closes=isinstance(contract.effect, (ReadBack, Descriptor)),
        reads=held is not None,
        no_descriptors=limited,
        step=_step(how),
        child=isinstance(contract.effect, Child),
        filled=allowed.filled,
        held=held,
        spare=BUFFER_SPARE,
        memory=memory,
        maps=memory or (call.low and bool(arrays)) or data is not None,
        place=place,
        place_note=place_note,
        pages=AREA_BYTES // PAGE,
        reported=isinstance(how, hows.Reported),
        low=call.low,
        protect=case.protection.value if memory and case.protection is not READ_WRITE else None,
        poison=_poison(interface, case, allowed),
        pieces=pieces,
        pieces_at=f"{SCRATCH_AT:#x}",
        pieces_offset=PIECES_AT,
        who=_becoming(interface, case),
        peer=_named(interface, case),
        entry=entry,
        call=call_lines(function, number_name, tuple(call.args())),
        errno=errno_of(allowed.errno),
        not_tried=not_tried(mismatch, allowed),
        descriptor=not allowed.errno and isinstance(contract.effect, (ReadBack, Descriptor)),
        look=look,
        size=size,
        expected=expected,
    )
    return template("repro.c.j2").render(vars(facts))


def head(
    interface: Interface, mismatch: Mismatch, call: Call, *, prop: str, name: str, more: str = ""
) -> dict[str, object]:
    """What programs of every kind begin with; ``more``: options of the compiler's."""
    abi = interface.abi
    guard, number_name, number, number_note = call.number()
    return {
        "title": f"{interface.asked.name}() as {abi.name} breaks its contract: {prop}, "
        f"{PROPERTIES[prop]}",
        "story": story(interface, mismatch),
        "commands": (f"gcc {abi.cflag} -static -O2 -Wall{more} -o repro {name}", "./repro"),
        "wrong_abi": WRONG_ABI[abi.name],
        "cflag": abi.cflag,
        "guard": guard,
        "number_name": number_name,
        "number": number,
        "number_note": number_note,
    }


def write(
    interface: Interface, mismatch: Mismatch, directory: Path, *, prop: str, number: int
) -> Path:
    """Write the program into ``directory``, which is made.

    ``number`` tells several of one property and ABI apart.
    """
    name = file_name(interface, prop=prop, number=number)
    text = render(interface, mismatch, prop=prop, name=name)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path
