# SPDX-License-Identifier: GPL-2.0-only
"""The vocabulary of promises: what an extensible-struct interface says of itself.

A contract is a frozen value.  It says where the size is, which sizes are
taken, what is refused with which errno and in which order, and how an accepted
call's effect can be seen.  It knows nothing of how it is called or tested:
`harness.model` predicts from it, `harness.battery` makes cases from it.

The checks of a contract stand in the order in which the kernel makes them, so
that their sequence *is* the total order of errors.
"""

from __future__ import annotations

import dataclasses
import errno as codes
from collections.abc import Callable, Mapping
from functools import cached_property

from harness.abi import ABI, ABIS
from harness.layout import Layout
from harness.wire import lib
from vm.errors import UserError

#: PAGE_SIZE of x86, bytes; the usual upper bound of an extensible struct.
PAGE = 4096
#: Arguments of a system call, at most.
MOST_ARGS = 6
#: Where in the scratch area the bytes of Bytes arguments and of pieces lie (wire.h), and
#: where the pieces begin behind them.
DATA_AT: int = lib.WIRE_SCRATCH_DATA
PIECES_AT = DATA_AT + 256


def piece_at(offset: int = 0) -> int:
    """The address of byte ``offset`` of a contract's pieces, the same in every caller."""
    return int(lib.WIRE_SCRATCH_AT) + PIECES_AT + offset


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """One published version of a struct."""

    name: str  #: VER0, VER1 …
    size: int  #: bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeField:
    """The size is a member of the struct itself, as in perf_event_attr."""

    field: str
    offset: int  #: bytes from the struct's start
    width: int  #: bytes

    @property
    def end(self) -> int:
        return self.offset + self.width


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeArg:
    """The size is an argument of the call, as in openat2(2).

    ``width`` is in bits: a `size_t` is as wide as the ABI's registers.
    """

    arg: int
    width: int = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeIoctl:
    """The size is in bits 16 to 29 of an ioctl's number (asm-generic/ioctl.h:_IOC).

    A call's usize is put there; 16,383 bytes is the most that it can say.
    """

    arg: int = 1
    most: int = (1 << 14) - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeFixed:
    """The struct has one size for ever, and the call is not told it."""


Size = SizeField | SizeArg | SizeIoctl | SizeFixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """Bytes that lie in the caller's memory at piece_at(``at``), for pointers to point to."""

    at: int  #: bytes behind the first piece
    data: bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """A number that a step of the set-up returned, such as a descriptor."""

    step: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant:
    """A constant of the contract's headers, as each ABI's compiler has it: an ioctl's number."""

    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Returned:
    """In a step behind the call: what the call itself returned."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A system call that is no part of what is tested: set-up, or what undoes an effect.

    Pointers among ``args`` are addresses of pieces (piece_at()).
    """

    call: str  #: its name, without __NR_
    args: tuple[int | Made | Constant | Returned, ...] = ()
    name: str = ""  #: what Made calls it
    may_fail: bool = False  #: it may have been made before, by another

    def with_made(self, made: Mapping[str, int]) -> Step:
        """The step with what those before it gave."""
        args = (made[arg.step] if isinstance(arg, Made) else arg for arg in self.args)
        return dataclasses.replace(self, args=tuple(args))

    def with_constants(self, value: Callable[[str], int]) -> Step:
        """The step as it is in one ABI."""
        args = (value(arg.name) if isinstance(arg, Constant) else arg for arg in self.args)
        return dataclasses.replace(self, args=tuple(args))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pointer:
    """The argument that points to the struct."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeValue:
    """The argument that carries the size, for SizeArg and SizeIoctl.

    ``base`` is what its other bits are: an ioctl's number without the size.
    """

    base: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Value:
    """An argument that is always the same: a command, a descriptor, AT_FDCWD.

    ``width`` is in bits: an `int` takes the lower 32 of the register, and what
    is in the upper half must not matter.
    """

    value: int
    width: int = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wide:
    """An argument of 64 bits in every ABI, such as a `loff_t`.

    A program whose registers have 32 bits passes it in two, the lower half
    first (include/linux/compat.h:compat_arg_u64), and what stands behind it is
    one register further on.  Contract.in_abi() has it so.
    """

    value: int  #: with which a call is accepted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Half:
    """One of the two registers of a Wide in an ABI that needs two."""

    value: int
    upper: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bytes:
    """An argument that points to fixed bytes, such as a path with its NUL."""

    data: bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """An argument that carries flags.

    ``width`` is in bits: an `unsigned int` takes the lower 32 bits of the
    register, and what is in the upper half must not matter.
    """

    known: Mapping[str, int]  #: name in the UAPI header → bit
    width: int = 32
    errno: int = codes.EINVAL

    @property
    def mask(self) -> int:
        total = 0
        for bit in self.known.values():
            total |= bit
        return total


# The checks.  Each is one reason for which a call is refused.


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnknownFlags:
    """A flag bit that the interface does not know, in argument ``arg``."""

    arg: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArgAtMost:
    """A value of the Wide argument ``arg``, unsigned, above ``maximum``.

    A `loff_t` that must not be negative is at most 2^63 - 1.
    """

    arg: int
    maximum: int
    errno: int = codes.EINVAL


@dataclasses.dataclass(frozen=True, kw_only=True)
class Null:
    """The pointer is NULL, and that is looked at before anything is read through it."""

    errno: int = codes.EINVAL


@dataclasses.dataclass(frozen=True, kw_only=True)
class FetchSize:
    """The size cannot be read from the struct."""

    errno: int = codes.EFAULT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """The first ``length`` bytes of a struct that has as many cannot be read.

    They are fetched before anything is made of the size, as those of a socket
    option are, whose value is mostly an int.
    """

    length: int  #: bytes
    most: int | None = None  #: a larger size is refused before
    errno: int = codes.EFAULT


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeBounds:
    """A size below ``minimum`` or above ``maximum``, both in bytes."""

    minimum: int
    maximum: int | None
    too_small: int
    too_big: int
    writes_size: bool = False  #: the kernel's size is written back


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tail:
    """A nonzero byte behind the struct that this kernel knows; with errno 0 it is taken.

    A fault met before any such byte is EFAULT; the order is by position
    (lib/usercopy.c:check_zeroed_user reads upwards, word by word).
    """

    errno: int
    fault: int = codes.EFAULT
    writes_size: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copy:
    """A fault within the part that is copied: in, or out where the struct is an answer.

    With ``whole`` the kernel's own size is copied, whatever the caller's is.
    """

    errno: int = codes.EFAULT
    whole: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnknownBits:
    """A bit of ``field`` that the interface does not know; with none known, a reserved field."""

    field: str
    known: Mapping[str, int] = dataclasses.field(default_factory=dict)
    also: int = 0  #: known bits that have no name: bit-fields
    errno: int = codes.EINVAL

    @property
    def mask(self) -> int:
        total = self.also
        for bit in self.known.values():
            total |= bit
        return total


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtMost:
    """A value of ``field`` above ``maximum``."""

    field: str
    maximum: int
    errno: int = codes.EINVAL


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlyWith:
    """A nonzero ``field`` while none of ``bits`` is set in ``other``."""

    field: str
    other: str
    bits: int
    errno: int = codes.EINVAL


@dataclasses.dataclass(frozen=True, kw_only=True)
class NotTogether:
    """All of ``bits`` set in ``field`` at once."""

    field: str
    bits: int
    errno: int = codes.EINVAL


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtLeast:
    """A value of ``field``, unsigned, below ``minimum``."""

    field: str
    minimum: int
    errno: int = codes.EINVAL


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneOf:
    """A value of ``field`` that is none of ``values``."""

    field: str
    values: tuple[int, ...]
    errno: int = codes.EINVAL


@dataclasses.dataclass(frozen=True, kw_only=True)
class BothOrNeither:
    """Exactly one of ``field`` and ``other`` is nonzero."""

    field: str
    other: str
    errno: int = codes.EINVAL


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """``field`` names a process by its pid, as the caller's pid namespace has it.

    Zero is the caller itself.  A pid that nobody has is refused with ``none``,
    a value that is no pid too; a process that the caller may not look at, by
    ptrace(2)'s "Ptrace access mode checking" (PTRACE_MODE_READ), with ``denied``.
    With ``real`` it is PTRACE_MODE_REALCREDS that decides, and the permitted
    capabilities; else PTRACE_MODE_FSCREDS, and the effective ones.
    """

    field: str
    none: int = codes.ESRCH
    denied: int = codes.EPERM
    real: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Points:
    """``field`` is an address, from which ``length`` bytes are read, or to which they are written.

    All of its bits count, whatever the ABI's pointers have: u64_to_user_ptr().
    With ``beside``, only where each of those fields is nonzero.  A piece of the
    contract's lies at piece_at(``at``), with which the call may be made.
    """

    field: str
    length: int  #: bytes
    at: int = 0
    errno: int = codes.EFAULT
    null: int | None = None  #: NULL's errno; None: then there is nothing to read
    beside: Mapping[str, int] = dataclasses.field(default_factory=dict)  #: fields and their values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """``field`` is a pointer to a string of ``longest`` bytes at most, its NUL not counted.

    It is as wide as the declaration has it: a `char *` is as wide as the ABI's
    pointers.  NULL is an empty string.  Pieces of the contract's hold one that
    is taken, at piece_at(``at``), and one that is too long, at piece_at(``long_at``).
    """

    field: str
    longest: int  #: bytes
    at: int
    long_at: int
    errno: int = codes.EFAULT
    too_long: int = codes.EINVAL


#: The checks that judge a field of the struct by its value, after it was copied; and all that do.
ValueCheck = UnknownBits | AtMost | AtLeast | OneOf | OnlyWith | NotTogether | BothOrNeither
FieldCheck = ValueCheck | Process | Points | Text
VALUE_CHECKS = (UnknownBits, AtMost, AtLeast, OneOf, OnlyWith, NotTogether, BothOrNeither)
FIELD_CHECKS = (*VALUE_CHECKS, Process, Points, Text)


def named(check: FieldCheck) -> tuple[str, ...]:
    """The fields that a check looks at."""
    if isinstance(check, (OnlyWith, BothOrNeither)):
        return check.field, check.other
    if isinstance(check, Points):
        return (check.field, *check.beside)
    return (check.field,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Privileged:
    """What takes a capability, and is refused to whom does not hold it.

    With ``field`` or ``arg``: a value above ``above``, or with any of ``bits``.
    With neither: every call.
    """

    capability: str  #: as linux/capability.h has it: CAP_SYS_RESOURCE
    field: str | None = None
    arg: int | None = None
    above: int | None = None
    bits: int = 0
    errno: int = codes.EPERM
    #: In the caller's own user namespace it is enough: ns_capable(), not capable().
    namespaced: bool = False
    #: The caller as it is holds it.  Not a contract's business: Interface says so.
    caller_has: bool = True


Check = (
    UnknownFlags
    | ArgAtMost
    | Null
    | Head
    | FetchSize
    | SizeBounds
    | Tail
    | Copy
    | FieldCheck
    | Privileged
)


def fields_of(check: Check) -> tuple[str, ...]:
    """The fields without which a check is none."""
    if isinstance(check, Privileged):
        return () if check.field is None else (check.field,)
    return named(check) if isinstance(check, FIELD_CHECKS) else ()


# What a field of a Record shows.


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfField:
    """The value of a field of the struct; with ``signed`` it is extended by its sign."""

    field: str
    signed: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfText:
    """The string that a Text field points to, with zeros behind it."""

    field: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfArg:
    """The value of a Wide argument."""

    arg: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfFile:
    """What statx(2) says of the file that a Value and a Bytes argument name.

    ``member`` is of struct statx.
    """

    dfd: int  #: index of the argument
    path: int  #: likewise
    member: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """A value that is the same for every call."""

    value: int


Source = OfField | OfText | OfArg | OfFile | Given


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A struct that tells what the kernel made of a call, the same in every ABI."""

    struct: str  #: its tag, in the contract's header
    fields: tuple[tuple[str, Source], ...]  #: all of them, in their order
    layout: Layout | None = None  #: not a contract's business: Interface has it compiled


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadBack:
    """An accepted call returns a descriptor; read(2) gives the kernel's struct.

    With ``record`` it gives that instead.

    ``size_holds``: what the kernel's own size field reads: ``usize`` (the size
    that was checked, 0 replaced by what it stands for) or ``ksize``.
    ``cloexec`` and ``nonblock`` are flags of the interface's own, (argument,
    bit), that do to the descriptor what their names say.
    """

    size_holds: str = "usize"
    cloexec: tuple[int, int] | None = None
    nonblock: tuple[int, int] | None = None
    record: Record | None = None

    def length(self, ksize: int) -> int:
        """Bytes that read(2) gives where the kernel's struct has ``ksize``."""
        if self.record is None:
            return ksize
        assert self.record.layout is not None  # Interface has it compiled
        return self.record.layout.size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Descriptor:
    """An accepted call returns a descriptor of which nothing more is known here.

    ``cloexec`` is (argument, bit) of a flag that asks for close-on-exec, True
    where a descriptor always has it, None where a call cannot ask for it so.
    """

    cloexec: tuple[int, int] | bool | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nothing:
    """An accepted call returns a value that is not looked at, and leaves nothing behind."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fails:
    """A call that no check refuses fails with ``errno``, for a reason outside the struct.

    What it needs is kept away on purpose (nobody waits for the answer, the
    object is not there), so that a call can be told as accepted and leaves
    nothing behind.
    """

    errno: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Child:
    """An accepted call makes a process, which ends at once and is waited for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fills:
    """An accepted call writes into the struct, of the caller's size, and not one byte more.

    ``fields`` are those that it writes; none named: all.  With ``whole`` it writes the
    others too, as they were: memory that is read-only is a fault.  ``size_holds`` is
    what the size field then says: None: it is not written; ``least``: the
    lesser of the caller's size and the kernel's.
    """

    fields: tuple[str, ...] = ()
    whole: bool = False
    size_holds: str | None = None


Effect = ReadBack | Descriptor | Nothing | Fails | Child | Fills
Argument = Pointer | Flags | SizeValue | Value | Wide | Half | Bytes | Made | Constant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Laid:
    """How one ABI's programs lay out the struct, and what its entry copies."""

    size: int  #: bytes
    fields: Mapping[str, tuple[int, int]]  #: name → (offset, bytes); the rest is padding
    kernel: str  #: the tag of the struct that the kernel's entry has for it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """What a contract's calls need of a machine, and what they leave changed there."""

    root: str = ""  #: why they need privilege; empty: they do not
    options: tuple[str, ...] = ()  #: of the kernel's configuration, without CONFIG_
    changes: str = ""  #: what an accepted call changes, beyond the process that makes it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Absent:
    """How a kernel that is older than the interface answers, and what its headers lack.

    ``number`` is the system call's, the same in all tables; None where that is older, as
    ioctl(2) is.  ``constants`` are others of the contract's, as C: an ioctl's number.
    With ``step`` it is that step of the set-up that fails, before there is a call.
    """

    errno: int = codes.ENOSYS
    number: int | None = None
    constants: Mapping[str, str] = dataclasses.field(default_factory=dict)
    step: str = ""


def _moved(record: Record, moved: Callable[[int], int]) -> Record:
    """A record whose arguments are in other registers."""

    def one(source: Source) -> Source:
        match source:
            case OfArg(arg=arg):
                return OfArg(arg=moved(arg))
            case OfFile():
                return dataclasses.replace(source, dfd=moved(source.dfd), path=moved(source.path))
            case _:
                return source

    return dataclasses.replace(
        record, fields=tuple((name, one(source)) for name, source in record.fields)
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contract:
    """What one interface promises.  Nonsense is refused when it is made."""

    name: str  #: the system call, without sys_, or the operation of one
    number: str  #: the macro with its number, in <asm/unistd.h>; queued, the opcode
    header: str  #: UAPI header that declares the struct
    includes: tuple[str, ...] = ()  #: further ones, for the names of known bits
    struct: str  #: its tag; a union is `union TAG`
    declaration: str  #: its C declaration, as the UAPI header has it
    size: Size
    versions: tuple[Version, ...]
    zero_means: int | None  #: bytes that a size of 0 stands for; None: it is just too small
    args: tuple[Argument, ...]
    checks: tuple[Check, ...]
    example: Mapping[str, int]  #: a call that is accepted
    effect: Effect = Nothing()
    source: str = ""  #: where the promise is written down
    #: Fields for which the header has no name: a word of bit-fields.
    unnamed: tuple[str, ...] = ()
    #: A name for the bytes behind the last field: of a union, they are other members'.
    rest: str = ""
    #: Names of known bits that an older kernel's header lacks: there they are unknown.
    newer: tuple[str, ...] = ()
    pieces: tuple[Piece, ...] = ()  #: memory that arguments and fields point to
    setup: tuple[Step, ...] = ()  #: made once in each caller, before its first call
    before: tuple[Step, ...] = ()  #: made before each call, whatever becomes of them
    after: tuple[Step, ...] = ()  #: made behind an accepted call: they undo it
    since: tuple[int, int] = (0, 0)  #: the first Linux that has it
    absent: Absent | None = None  #: what those before it do
    needs: Needs = Needs()
    #: The call is an entry of an io_uring's submission queue, and its outcome is what the
    #: completion says.  ``number`` is the operation, ``args`` are members of struct
    #: io_uring_sqe: fd, off, addr, len, the operation's flags, file_index.
    queued: bool = False
    #: Where the struct differs between ABIs, by the ABI's name: each has an entry of its own.
    #: ``versions`` then has m64's size.  Empty: one layout for all.
    layouts: Mapping[str, Laid] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise UserError(f"contract {self.name}: {problem}")

    def _problems(self) -> list[str]:
        """What is wrong with the contract, in words.  The shape first: the rest needs it."""
        return self._problems_of_shape() or [
            *self._problems_of_sizes(),
            *self._problems_of_checks(),
            *self._problems_of_effect(),
        ]

    def _problems_of_shape(self) -> list[str]:
        found = []
        if not self.versions:
            found.append("it has no version")
        if sum(isinstance(arg, Pointer) for arg in self.args) != 1:
            found.append("exactly one argument must be the pointer to the struct")
        kinds = [type(check) for check in self.checks]
        fixed = isinstance(self.size, SizeFixed)
        answers = isinstance(self.effect, Fills)
        whole = any(isinstance(check, Copy) and check.whole for check in self.checks)
        for kind in (SizeBounds, Tail, Copy):
            optional = (kind is SizeBounds and fixed) or (
                kind is Tail and (fixed or answers or whole)
            )
            if kinds.count(kind) != 1 and not (optional and not kinds.count(kind)):
                found.append(f"{kind.__name__} must stand once among the checks")
        made = {step.name for step in self.setup if step.name}
        steps = (*self.setup, *self.before, *self.after)
        used = [one for step in steps for one in step.args] + list(self.args)
        found += [
            f"no step of the set-up is called {one.step!r}"
            for one in used
            if isinstance(one, Made) and one.step not in made
        ]
        embedded = isinstance(self.size, SizeField)
        fetches = embedded and not whole
        if kinds.count(FetchSize) != fetches:
            how = "once" if fetches else "not"
            found.append(f"FetchSize must stand {how} among the checks: {self.size}")
        carriers = [i for i, arg in enumerate(self.args) if isinstance(arg, SizeValue)]
        wanted = [self.size.arg] if isinstance(self.size, (SizeArg, SizeIoctl)) else []
        if carriers != wanted:
            found.append(f"the size is in arguments {carriers}, and should be in {wanted}")
        if not embedded and isinstance(self.effect, ReadBack) and not self.effect.record:
            found.append("ReadBack shows a size field, and the struct has none")
        registers = len(self.args) + sum(isinstance(arg, Wide) for arg in self.args)
        if registers > MOST_ARGS:
            found.append(f"{registers} arguments: a system call has {MOST_ARGS} at most")
        return found + self._problems_of_layouts()

    def _problems_of_layouts(self) -> list[str]:
        if not self.layouts:
            return []
        found = []
        if not self.fixed:
            found.append("a struct whose size differs between ABIs has no size that it is told")
        if lacking := [one.name for one in ABIS if one.name not in self.layouts]:
            found.append(f"its layouts have none for {', '.join(lacking)}")
        if len({tuple(one.fields) for one in self.layouts.values()}) > 1:
            found.append("its layouts have not the same fields in the same order")
        for name, laid in self.layouts.items():
            at = 0
            for field, (offset, size) in laid.fields.items():
                if offset < at:
                    found.append(f"{name}: {field} begins before byte {at}")
                at = offset + size
            if at > laid.size:
                found.append(f"{name}: the last field ends behind byte {laid.size}")
        return found

    def _problems_of_sizes(self) -> list[str]:
        found: list[str] = []
        sizes = [v.size for v in self.versions]
        bounds = self.bounds
        if self.fixed:
            return found
        if sizes != sorted(set(sizes)):
            found.append(f"the versions' sizes do not grow: {sizes}")
        if bounds.minimum > sizes[0]:
            found.append(f"minimum {bounds.minimum} refuses {self.versions[0].name}")
        if bounds.maximum is not None and bounds.maximum < sizes[-1]:
            found.append(f"maximum {bounds.maximum} refuses {self.versions[-1].name}")
        if self.zero_means is not None and not (
            bounds.minimum <= self.zero_means <= (bounds.maximum or self.zero_means)
        ):
            found.append(f"size 0 means {self.zero_means}, which is refused")
        return found

    def _problems_of_effect(self) -> list[str]:
        found = []
        effect = self.effect
        if isinstance(effect, ReadBack) and effect.size_holds not in ("usize", "ksize"):
            found.append(f"size_holds is {effect.size_holds!r}, not usize or ksize")
        own = [effect.cloexec] if isinstance(effect, (ReadBack, Descriptor)) else []
        own += [effect.nonblock] if isinstance(effect, ReadBack) else []
        for arg, bit in (one for one in own if isinstance(one, tuple)):
            if arg not in self.flags_args or not self.flags(arg).mask & bit:
                found.append(f"the effect has a flag {bit:#x} that argument {arg} does not know")
        return found

    def _problems_of_checks(self) -> list[str]:
        found = []
        kinds = [type(check) for check in self.checks]
        copied = kinds.index(Copy)
        fetched = kinds.index(FetchSize) if FetchSize in kinds else -1
        whole = any(isinstance(check, Copy) and check.whole for check in self.checks)
        if SizeBounds in kinds and not whole and not fetched < kinds.index(SizeBounds) < copied:
            found.append("the size is fetched, then bounded, then used for the copy")
        if Tail in kinds and not fetched < kinds.index(Tail):
            found.append("the tail begins where nobody knows yet that it does")
        for index, check in enumerate(self.checks):
            if isinstance(check, UnknownFlags) and check.arg not in self.flags_args:
                found.append(f"argument {check.arg} carries no flags")
            if isinstance(check, ArgAtMost) and not self.is_wide(check.arg):
                found.append(f"argument {check.arg} is not 64 bits wide in every ABI")
            if isinstance(check, Text):
                found += self._problems_of_text(check)
            judged = check.field if isinstance(check, (*FIELD_CHECKS, Privileged)) else None
            if judged is not None and index < copied:
                found.append(f"{judged} is judged before it is copied")
            if isinstance(check, Privileged):
                found += self._problems_of_need(check)
        return found

    def _problems_of_text(self, check: Text) -> list[str]:
        found = []
        for at, fits in ((check.at, True), (check.long_at, False)):
            text, nul, _ = self.data[PIECES_AT - DATA_AT + at :].partition(b"\0")
            if not nul or (len(text) <= check.longest) != fits:
                what = f"of at most {check.longest} bytes" if fits else "that is longer"
                found.append(f"{check.field}: the pieces have no string {what} at {at}")
        return found

    def _problems_of_need(self, check: Privileged) -> list[str]:
        named = (check.field is not None) + (check.arg is not None)
        limits = (check.above is not None) + bool(check.bits)
        found = []
        if named > 1 or limits != named:
            found.append(
                f"{check.capability} is needed for a field or an argument, above a value or for"
                " bits of it; or for every call"
            )
        if check.arg is not None and check.arg not in self.flags_args:
            found.append(f"argument {check.arg} carries no flags")
        if not check.capability.startswith("CAP_"):
            found.append(f"{check.capability!r} is no capability of linux/capability.h")
        return found

    @property
    def number_header(self) -> str:
        """The header with ``number``."""
        return "linux/io_uring.h" if self.queued else "asm/unistd.h"

    @property
    def tag(self) -> str:
        """The struct's type, as C."""
        return self.struct if " " in self.struct else f"struct {self.struct}"

    @property
    def data(self) -> bytes:
        """What lies in the scratch area from DATA_AT on: Bytes arguments, then pieces."""
        found = bytearray()
        for arg in self.args:
            if isinstance(arg, Bytes):
                found += arg.data + bytes(-len(arg.data) % 8)
        for piece in self.pieces:
            found = found.ljust(PIECES_AT - DATA_AT + piece.at, b"\0")
            at = PIECES_AT - DATA_AT + piece.at
            found[at : at + len(piece.data)] = piece.data
        return bytes(found)

    def data_at(self, arg: int) -> int:
        """Where in the scratch area the bytes of argument ``arg`` lie."""
        before = [one for one in self.args[:arg] if isinstance(one, Bytes)]
        return DATA_AT + sum(len(one.data) + -len(one.data) % 8 for one in before)

    def on(self, *, fields: Callable[[str], bool], bits: Callable[[str], bool]) -> Contract:
        """The contract as it is on one kernel, whose header has these fields and known bits."""

        def known(these: Mapping[str, int]) -> dict[str, int]:
            return {name: bit for name, bit in these.items() if bits(name)}

        return dataclasses.replace(
            self,
            args=tuple(
                dataclasses.replace(arg, known=known(arg.known)) if isinstance(arg, Flags) else arg
                for arg in self.args
            ),
            checks=tuple(
                dataclasses.replace(check, known=known(check.known))
                if isinstance(check, UnknownBits)
                else check
                for check in self.checks
                if all(map(fields, fields_of(check)))
            ),
            example={name: value for name, value in self.example.items() if fields(name)},
        )

    @property
    def differs(self) -> bool:
        """Whether ABIs differ in how they lay out the struct, or in which registers they use."""
        return bool(self.layouts) or any(isinstance(arg, (Wide, Half)) for arg in self.args)

    @property
    def files(self) -> tuple[OfFile, ...]:
        """What the record shows of a file."""
        effect = self.effect
        record = effect.record if isinstance(effect, ReadBack) else None
        fields = record.fields if record else ()
        return tuple(source for _, source in fields if isinstance(source, OfFile))

    def with_record(self, layout: Layout, files: Mapping[OfFile, int]) -> Contract:
        """The contract with its record as it is on a target: where its fields are, which file."""
        effect = self.effect
        assert isinstance(effect, ReadBack)
        assert effect.record is not None
        fields = tuple(
            (name, Given(value=files[source]) if isinstance(source, OfFile) else source)
            for name, source in effect.record.fields
        )
        record = dataclasses.replace(effect.record, fields=fields, layout=layout)
        return dataclasses.replace(self, effect=dataclasses.replace(effect, record=record))

    def is_wide(self, arg: int) -> bool:
        """Whether argument ``arg`` is 64 bits wide in every ABI, be it in two registers."""
        if arg >= len(self.args):
            return False
        found = self.args[arg]
        return isinstance(found, Wide) or (isinstance(found, Half) and not found.upper)

    @property
    def wide_args(self) -> tuple[int, ...]:
        """Indices of the arguments that are, by their first register."""
        return tuple(index for index in range(len(self.args)) if self.is_wide(index))

    def in_abi(self, abi: ABI) -> Contract:
        """The contract as the entry of one ABI has it.

        The struct has that ABI's size, and what is 64 bits wide takes as many
        registers as it needs there: an argument's index is its register's.
        """
        found = self
        if laid := self.layouts.get(abi.name):
            only = dataclasses.replace(self.versions[-1], size=laid.size)
            found = dataclasses.replace(found, versions=(only,))
        wide = [index for index, arg in enumerate(self.args) if isinstance(arg, Wide)]
        if not wide or abi.register == 64 or self.queued:
            return found

        def moved(index: int) -> int:
            return index + sum(one < index for one in wide)

        def flag(asked: tuple[int, int] | None) -> tuple[int, int] | None:
            return asked and (moved(asked[0]), asked[1])

        args: list[Argument] = []
        for arg in self.args:
            if isinstance(arg, Wide):
                args.append(Half(value=arg.value & 0xFFFF_FFFF, upper=False))
                args.append(Half(value=arg.value >> 32 & 0xFFFF_FFFF, upper=True))
            else:
                args.append(arg)
        checks: list[Check] = []
        for check in self.checks:
            if isinstance(check, (UnknownFlags, ArgAtMost)):
                checks.append(dataclasses.replace(check, arg=moved(check.arg)))
            elif isinstance(check, Privileged):
                index = None if check.arg is None else moved(check.arg)
                checks.append(dataclasses.replace(check, arg=index))
            else:
                checks.append(check)
        size, effect = self.size, self.effect
        if isinstance(size, (SizeArg, SizeIoctl)):
            size = dataclasses.replace(size, arg=moved(size.arg))
        if isinstance(effect, Descriptor) and isinstance(effect.cloexec, tuple):
            effect = dataclasses.replace(effect, cloexec=flag(effect.cloexec))
        if isinstance(effect, ReadBack):
            effect = dataclasses.replace(
                effect,
                cloexec=flag(effect.cloexec),
                nonblock=flag(effect.nonblock),
                record=effect.record and _moved(effect.record, moved),
            )
        return dataclasses.replace(
            found, args=tuple(args), checks=tuple(checks), size=size, effect=effect
        )

    def with_constants(self, value: Callable[[str], int]) -> Contract:
        """The contract in one ABI, whose compiler gives each Constant's value."""
        return dataclasses.replace(
            self,
            args=tuple(
                Value(value=value(arg.name)) if isinstance(arg, Constant) else arg
                for arg in self.args
            ),
            setup=tuple(step.with_constants(value) for step in self.setup),
            before=tuple(step.with_constants(value) for step in self.before),
            after=tuple(step.with_constants(value) for step in self.after),
        )

    def with_made(self, made: Mapping[str, int]) -> Contract:
        """The contract with what its set-up gave in the place of each Made."""
        return dataclasses.replace(
            self,
            args=tuple(
                Value(value=made[arg.step]) if isinstance(arg, Made) else arg for arg in self.args
            ),
            before=tuple(step.with_made(made) for step in self.before),
            after=tuple(step.with_made(made) for step in self.after),
            setup=(),
        )

    @cached_property
    def bounds(self) -> SizeBounds:
        """The bounds of the size; of a fixed struct its one size, which nothing refuses."""
        only = self.versions[-1].size
        fixed = SizeBounds(minimum=only, maximum=only, too_small=0, too_big=0)
        return next((check for check in self.checks if isinstance(check, SizeBounds)), fixed)

    @cached_property
    def tail(self) -> Tail | None:
        """What is made of bytes behind the kernel's struct; None: nobody looks at them."""
        return next((check for check in self.checks if isinstance(check, Tail)), None)

    @cached_property
    def copy(self) -> Copy:
        """What is made of a fault."""
        return next(check for check in self.checks if isinstance(check, Copy))

    @property
    def fixed(self) -> bool:
        """Whether the struct has one size for ever."""
        return isinstance(self.size, SizeFixed)

    @property
    def writes_size(self) -> bool:
        """Whether a refusal writes the kernel's size back."""
        return self.bounds.writes_size or (self.tail is not None and self.tail.writes_size)

    @cached_property
    def pointer(self) -> int:
        """Index of the argument that points to the struct."""
        return next(i for i, arg in enumerate(self.args) if isinstance(arg, Pointer))

    @cached_property
    def flags_args(self) -> tuple[int, ...]:
        """Indices of the arguments that carry flags."""
        return tuple(i for i, arg in enumerate(self.args) if isinstance(arg, Flags))

    @cached_property
    def privileged(self) -> tuple[Privileged, ...]:
        """What takes a capability."""
        return tuple(check for check in self.checks if isinstance(check, Privileged))

    @cached_property
    def pointers(self) -> tuple[Points | Text, ...]:
        """The fields that are addresses."""
        return tuple(check for check in self.checks if isinstance(check, (Points, Text)))

    @cached_property
    def processes(self) -> tuple[Process, ...]:
        """The fields that name a process."""
        return tuple(check for check in self.checks if isinstance(check, Process))

    @cached_property
    def field_end(self) -> int:
        """Bytes of the struct that a caller must have for its size to be readable."""
        return self.size.end if isinstance(self.size, SizeField) else 0

    def extent(self, usize: int) -> int:
        """Bytes of the struct that have to be there for a call with this size."""
        return max(usize or self.zero_means or 0, self.field_end)

    def flags(self, arg: int) -> Flags:
        """The flags argument ``arg``.  Raises UserError when it is none."""
        found = self.args[arg]
        if not isinstance(found, Flags):
            raise UserError(f"contract {self.name}: argument {arg} carries no flags")
        return found

    def version_of(self, ksize: int) -> Version:
        """The version whose size is ``ksize`` bytes.

        Raises UserError when the kernel at hand has a size of its own.
        """
        for version in self.versions:
            if version.size == ksize:
                return version
        known = ", ".join(f"{v.name} = {v.size}" for v in self.versions)
        raise UserError(
            f"{self.name}: this kernel's struct is {ksize} bytes, which no version is",
            hint=f"the contract knows {known}",
        )
