# SPDX-License-Identifier: GPL-2.0-only
"""harness.model: the oracle itself, against outcomes that a person worked out.

The rows are literals: no value in them comes from the code under test.  They
follow xyzzy(2)'s man page, for a kernel that knows VER0 (24 bytes) and for one
that knows eight bytes more.
"""

from __future__ import annotations

import dataclasses
import struct
from errno import E2BIG, EFAULT, EINVAL, EPERM, ESRCH

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness import case as cases
from harness import model
from harness.abi import WAYS, abi
from harness.case import Case, Protection
from harness.contract import (
    DATA_AT,
    PAGE,
    AtLeast,
    BothOrNeither,
    Bytes,
    Check,
    Contract,
    Copy,
    Fails,
    Fills,
    Flags,
    Nothing,
    OneOf,
    OnlyWith,
    Piece,
    Pointer,
    Points,
    Privileged,
    Process,
    ReadBack,
    SizeArg,
    SizeBounds,
    SizeFixed,
    SizeIoctl,
    SizeValue,
    Tail,
    UnknownBits,
    Value,
    Version,
    piece_at,
)
from harness.identity import Identity, Peer
from harness.interfaces import xyzzy, xyzzyat
from harness.layout import Field, Layout
from harness.model import Call, Outcome
from harness.program import AREA_BYTES, ARENA, SCRATCH, Address
from vm.errors import InfraError

XYZZY = xyzzy.CONTRACT
FIELDS = (
    Field(name="size", offset=0, size=4),
    Field(name="param_1", offset=4, size=4),
    Field(name="param_2", offset=8, size=8),
    Field(name="param_3", offset=16, size=8),
)
K24 = Layout(struct="xyzzy_params", size=24, align=8, fields=FIELDS)
K32 = dataclasses.replace(K24, size=32, fields=(*FIELDS, Field(name="param_4", offset=24, size=8)))
KERNELS = {24: K24, 32: K32}
SECOND = 1_000_000_000


def m(size: int, p1: int = 1, p2: int = 2, p3: int = 3, more: bytes = b"") -> bytes:
    """A struct's memory: the four fields, and what lies behind."""
    return struct.pack("<IIQQ", size, p1, p2, p3) + more


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A call, and what the man page says of it."""

    memory: bytes
    ksize: int = 24
    hole: int | None = None
    flags: int = 0
    errno: int = 0
    written: int | None = None
    held: bytes | None = None


ROWS: dict[str, Row] = {
    # Accepted, at the kernel's own size.
    "exact": Row(memory=m(24), held=m(24)),
    "all zero but the size": Row(memory=m(24, 0, 0, 0), held=m(24, 0, 0, 0)),
    "every known bit": Row(memory=m(24, 3), flags=3, held=m(24, 3)),
    "param_2 takes anything": Row(memory=m(24, 1, (1 << 64) - 1), held=m(24, 1, (1 << 64) - 1)),
    "a second": Row(memory=m(24, 1, 2, SECOND), held=m(24, 1, 2, SECOND)),
    "junk behind": Row(memory=m(24, more=b"\xff" * 64), held=m(24)),
    "flush against a hole": Row(memory=m(24), hole=24, held=m(24)),
    # Size 0 is VER0.
    "zero": Row(memory=m(0), held=m(24)),
    "zero, junk behind": Row(memory=m(0, more=b"\xff" * 8), held=m(24)),
    "zero, newer kernel": Row(memory=m(0, more=b"\xff" * 8), ksize=32, held=m(24, more=b"\0" * 8)),
    "zero, hole at 24, newer kernel": Row(
        memory=m(0), ksize=32, hole=24, held=m(24, more=b"\0" * 8)
    ),
    "zero, hole before 24": Row(memory=m(0)[:23], hole=23, errno=EFAULT),
    # Too small.
    "one": Row(memory=m(1), errno=E2BIG, written=24),
    "23": Row(memory=m(23), errno=E2BIG, written=24),
    "23, newer kernel": Row(memory=m(23), ksize=32, errno=E2BIG, written=32),
    "4, and no more is there": Row(memory=m(4)[:4], hole=4, errno=E2BIG, written=24),
    # Short for a newer kernel: zeros behind.
    "24, newer kernel": Row(memory=m(24), ksize=32, held=m(24, more=b"\0" * 8)),
    "24, junk behind, newer kernel": Row(
        memory=m(24, more=b"\xff" * 8), ksize=32, held=m(24, more=b"\0" * 8)
    ),
    "28, newer kernel": Row(
        memory=m(28, more=b"\1\2\3\4\xff\xff"), ksize=32, held=m(28, more=b"\1\2\3\4\0\0\0\0")
    ),
    "28, hole at 28, newer kernel": Row(
        memory=m(28, more=b"\1\2\3\4"), ksize=32, hole=28, held=m(28, more=b"\1\2\3\4\0\0\0\0")
    ),
    "28, hole at 27, newer kernel": Row(
        memory=m(28, more=b"\1\2\3"), ksize=32, hole=27, errno=EFAULT
    ),
    "32, newer kernel": Row(memory=m(32, more=b"\1" * 8), ksize=32, held=m(32, more=b"\1" * 8)),
    # Long: zeros are taken, anything else is not.
    "25, zero": Row(memory=m(25, more=b"\0"), held=m(25)),
    "25, nonzero": Row(memory=m(25, more=b"\1"), errno=E2BIG, written=24),
    "25, nonzero behind it": Row(memory=m(25, more=b"\0\1"), held=m(25)),
    "32, zero": Row(memory=m(32, more=b"\0" * 8), held=m(32)),
    "32, first byte": Row(memory=m(32, more=b"\x80" + b"\0" * 7), errno=E2BIG, written=24),
    "32, last byte": Row(memory=m(32, more=b"\0" * 7 + b"\x80"), errno=E2BIG, written=24),
    "40, newer kernel, its own field": Row(
        memory=m(40, more=b"\1" * 8 + b"\0" * 8), ksize=32, held=m(40, more=b"\1" * 8)
    ),
    "40, newer kernel, beyond it": Row(
        memory=m(40, more=b"\0" * 8 + b"\1" + b"\0" * 7), ksize=32, errno=E2BIG, written=32
    ),
    "a page": Row(memory=m(4096, more=b"\0" * 4072), held=m(4096)),
    "a page, last byte": Row(memory=m(4096, more=b"\0" * 4071 + b"\1"), errno=E2BIG, written=24),
    # Too long, whatever is there.
    "a page and one": Row(memory=m(4097, more=b"\0" * 5000), errno=E2BIG, written=24),
    "a page and one, hole": Row(memory=m(4097), hole=24, errno=E2BIG, written=24),
    "2 GiB": Row(memory=m(1 << 31), errno=E2BIG, written=24),
    "4 GiB less one": Row(memory=m((1 << 32) - 1), errno=E2BIG, written=24),
    # Holes.
    "NULL": Row(memory=b"", hole=0, errno=EFAULT),
    "three bytes of the size": Row(memory=b"\x18\0\0", hole=3, errno=EFAULT),
    "the size alone": Row(memory=m(24)[:4], hole=4, errno=EFAULT),
    "one byte short": Row(memory=m(24)[:23], hole=23, errno=EFAULT),
    "zeros, then a hole": Row(memory=m(64, more=b"\0" * 16), hole=40, errno=EFAULT),
    "nonzero, then a hole": Row(
        memory=m(64, more=b"\0" * 15 + b"\1"), hole=40, errno=E2BIG, written=24
    ),
    "a hole at ksize": Row(memory=m(25), hole=24, errno=EFAULT),
    # Flags come first.
    "bit 2": Row(memory=m(24), flags=4, errno=EINVAL),
    "bit 31": Row(memory=m(24), flags=1 << 31, errno=EINVAL),
    "bit 31 beside the known ones": Row(memory=m(24), flags=1 << 31 | 3, errno=EINVAL),
    "the upper half": Row(memory=m(24), flags=0xFFFF_FFFF_0000_0000, held=m(24)),
    "the upper half and bit 2": Row(memory=m(24), flags=(1 << 40) | 4, errno=EINVAL),
    "flags before NULL": Row(memory=b"", hole=0, flags=4, errno=EINVAL),
    "flags before the size": Row(memory=m(5), flags=4, errno=EINVAL),
    "flags before the tail": Row(memory=m(25, more=b"\1"), flags=4, errno=EINVAL),
    # Contents come last.
    "param_1, bit 2": Row(memory=m(24, 4), errno=EINVAL),
    "param_1, bit 31": Row(memory=m(24, 1 << 31 | 3), errno=EINVAL),
    "a second and a nanosecond": Row(memory=m(24, 1, 2, SECOND + 1), errno=EINVAL),
    "a delay of 2^63": Row(memory=m(24, 1, 2, 1 << 63), errno=EINVAL),
    "the tail before param_1": Row(memory=m(25, 4, more=b"\1"), errno=E2BIG, written=24),
    "the bounds before param_3": Row(memory=m(5, 1, 2, 1 << 63), errno=E2BIG, written=24),
    "a hole before param_1": Row(memory=m(32, 4), hole=24, errno=EFAULT),
    # What is written back is no change where it is there already.
    "24, too small for nobody, tail of ksize": Row(
        memory=m(32, more=b"\0" * 8 + b"\1"), ksize=32, held=m(32, more=b"\0" * 8)
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_outcomes_that_a_person_worked_out(row: Row) -> None:
    usize = int.from_bytes(row.memory[:4], "little")
    call = Call(usize=usize, memory=row.memory, hole=row.hole, args={1: row.flags})
    seen = model.outcome(XYZZY, KERNELS[row.ksize], call)
    assert (seen.errno, seen.written, seen.held) == (row.errno, row.written, row.held)


def test_a_size_that_is_there_already_is_not_written() -> None:
    """A kernel older than VER0 would find its own size in the struct that it refuses."""
    older = dataclasses.replace(K24, size=16, fields=FIELDS[:3])
    for usize, written in ((16, None), (17, 16)):
        seen = model.outcome(XYZZY, older, Call(usize=usize, memory=m(usize)))
        assert (seen.errno, seen.written) == (E2BIG, written)


def test_there_are_rows_enough() -> None:
    assert len(ROWS) >= 40
    assert {row.errno for row in ROWS.values()} == {0, E2BIG, EFAULT, EINVAL}
    assert {row.ksize for row in ROWS.values()} == {24, 32}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("bit 2", "UnknownFlags"),
        ("NULL", "FetchSize"),
        ("23", "SizeBounds"),
        ("25, nonzero", "Tail"),
        ("zeros, then a hole", "Tail"),
        ("one byte short", "Copy"),
        ("param_1, bit 2", "UnknownBits"),
        ("a delay of 2^63", "AtMost"),
        ("exact", ""),
    ],
)
def test_the_check_that_refused_is_named(row: str, why: str) -> None:
    one = ROWS[row]
    usize = int.from_bytes(one.memory[:4], "little")
    call = Call(usize=usize, memory=one.memory, hole=one.hole, args={1: one.flags})
    assert model.outcome(XYZZY, KERNELS[one.ksize], call).why == why


# Another shape: the size is an argument, too small is EINVAL, nothing is written back.

OPEN_HOW = Layout(
    struct="open_how",
    size=24,
    align=8,
    fields=tuple(
        Field(name=name, offset=8 * index, size=8)
        for index, name in enumerate(("flags", "mode", "resolve"))
    ),
)
OPENAT2 = Contract(
    name="openat2",
    number="__NR_openat2",
    header="linux/openat2.h",
    struct="open_how",
    declaration="",
    size=SizeArg(arg=3),
    versions=(Version(name="VER0", size=24),),
    zero_means=None,
    args=(Value(value=-100), Bytes(data=b"/\0"), Pointer(), SizeValue()),
    checks=(
        SizeBounds(minimum=24, maximum=PAGE, too_small=EINVAL, too_big=E2BIG),
        Tail(errno=E2BIG),
        Copy(),
        UnknownBits(field="flags", known={"ALL": 0x3F}),
        OnlyWith(field="mode", other="flags", bits=0x30),
        UnknownBits(field="resolve", known={"ALL": 0x3F}),
    ),
    example={},
    effect=Nothing(),
)


def how(flags: int = 0, mode: int = 0, resolve: int = 0, more: bytes = b"") -> bytes:
    return struct.pack("<QQQ", flags, mode, resolve) + more


@pytest.mark.parametrize(
    ("usize", "memory", "hole", "errno"),
    [
        (24, how(), None, 0),
        (24, how(), 24, 0),
        (24, how(0x10, 0o644), None, 0),
        (24, how(0x20, 0o644), None, 0),
        (24, how(0x01, 0o644), None, EINVAL),
        (24, how(0x01, 0), None, 0),
        (24, how(0x40), None, EINVAL),
        (24, how(1 << 63), None, EINVAL),
        (24, how(0, 0, 0x40), None, EINVAL),
        (24, how(0, 0, 1 << 32), None, EINVAL),
        (0, how(), None, EINVAL),
        (0, b"", 0, EINVAL),
        (23, how(), None, EINVAL),
        (25, how(more=b"\0"), None, 0),
        (25, how(more=b"\1"), None, E2BIG),
        (25, how(), 24, EFAULT),
        (24, how()[:23], 23, EFAULT),
        (PAGE, how(more=b"\0" * (PAGE - 24)), None, 0),
        (PAGE + 1, b"", 0, E2BIG),
        ((1 << 64) - 1, b"", 0, E2BIG),
        (25, how(0x40, more=b"\1"), None, E2BIG),
    ],
)
def test_a_size_that_is_an_argument(
    usize: int, memory: bytes, hole: int | None, errno: int
) -> None:
    seen = model.outcome(OPENAT2, OPEN_HOW, Call(usize=usize, memory=memory, hole=hole))
    assert (seen.errno, seen.written) == (errno, None)
    if not errno:
        assert seen.held == memory[:24]


def test_a_record_may_hold_ksize() -> None:
    other = dataclasses.replace(XYZZY, effect=ReadBack(size_holds="ksize"))
    seen = model.outcome(other, K32, Call(usize=24, memory=m(24)))
    assert seen.held == m(32, more=b"\0" * 8)


def test_no_upper_bound() -> None:
    checks = tuple(
        dataclasses.replace(one, maximum=None) if isinstance(one, SizeBounds) else one
        for one in XYZZY.checks
    )
    unbounded = dataclasses.replace(XYZZY, checks=checks)
    memory = m(3 * PAGE, more=b"\0" * (3 * PAGE - 24))
    assert model.outcome(unbounded, K24, Call(usize=3 * PAGE, memory=memory)).errno == 0
    memory = memory[:-1] + b"\1"
    assert model.outcome(unbounded, K24, Call(usize=3 * PAGE, memory=memory)).errno == E2BIG


def test_an_outcome_in_words() -> None:
    assert str(Outcome(errno=0)) == "success"
    assert str(Outcome(errno=EPERM)) == "EPERM"
    assert str(Outcome(errno=E2BIG, written=24)) == "E2BIG, size set to 24"
    assert model.errno_name(524).startswith("errno 524 (")
    assert (model.ending(0), model.ending(EINVAL), model.ending(0, 11)) == (
        "success",
        "EINVAL",
        "SIGSEGV",
    )
    assert model.ending(0, 999) == "signal 999"


# Properties, for any call.

LAYOUTS = st.sampled_from([K24, K32])
U32 = st.integers(0, (1 << 32) - 1)
#: Values of fields, some of which are accepted.
P1 = st.one_of(st.integers(0, 3), U32)
P3 = st.one_of(st.integers(0, SECOND + 1), st.integers(0, (1 << 64) - 1))
SIZES = st.one_of(
    st.integers(0, 60), st.integers(PAGE - 2, PAGE + 2), st.sampled_from([1 << 31, (1 << 32) - 1])
)
TAILS = st.one_of(st.binary(max_size=80), st.integers(0, 80).map(bytes))
FLAGS = st.one_of(st.integers(0, 3), st.integers(0, (1 << 64) - 1))
#: Without a hole there are at least as many bytes as a size that is not refused says.
CALLS = st.builds(
    lambda size, p1, p2, p3, tail, hole, flags: Call(
        usize=size,
        memory=m(size, p1, p2, p3, tail).ljust(size if size <= PAGE else 0, b"\0")[:hole],
        hole=hole,
        args={1: flags},
    ),
    SIZES,
    P1,
    st.integers(0, (1 << 64) - 1),
    P3,
    TAILS,
    st.none() | st.integers(0, 100),
    FLAGS,
)


def outcome(layout: Layout, call: Call) -> Outcome:
    return model.outcome(XYZZY, layout, call)


# Who calls, whom a field names, where one points to: by hand.

PRIVATE = dataclasses.replace(
    XYZZY,
    checks=(
        *XYZZY.checks[:5],
        Privileged(field="param_2", above=9, capability="CAP_KILL"),
        Privileged(field="param_1", bits=4, capability="CAP_KILL", namespaced=True),
        Process(field="param_3"),
    ),
)
ROOT_WITHOUT = Identity(name="root without", lacks=frozenset({"CAP_KILL"}))
IDLE = Identity(name="not effective", inactive=frozenset({"CAP_KILL"}))
KILLER = Identity(name="a user with", uid=1000, only=frozenset({"CAP_KILL"}))
NESTED = Identity(name="in a namespace", uid=1000, only=frozenset(), namespace=True)
USER_1000 = Identity(name="a user", uid=1000, only=frozenset())


@pytest.mark.parametrize(
    ("who", "first", "second"),
    [
        (None, 0, 0),
        (ROOT_WITHOUT, EPERM, EPERM),
        (IDLE, EPERM, EPERM),
        (KILLER, 0, 0),
        (NESTED, EPERM, 0),
        (USER_1000, EPERM, EPERM),
    ],
)
def test_who_may(who: Identity | None, first: int, second: int) -> None:
    """capable() looks at the first user namespace, ns_capable() at one's own."""
    for p1, p2, allowed in ((1, 9, 0), (1, 10, first), (4, 9, second)):
        call = Call(usize=24, memory=m(24, p1, p2, 0), who=who)
        assert model.outcome(PRIVATE, K24, call).errno == allowed


MINE = Peer(name="a process of this user's", identity=USER_1000)
HIDDEN = Peer(name="undumpable", identity=dataclasses.replace(USER_1000, dumpable=False))
ARMED = Peer(name="with a capability", identity=KILLER)
TRACER = Identity(name="may trace", uid=1, only=frozenset({"CAP_SYS_PTRACE"}))


@pytest.mark.parametrize(
    ("who", "peer", "allowed"),
    [
        (USER_1000, Peer(name="itself", identity=None), 0),
        (USER_1000, MINE, 0),
        (USER_1000, HIDDEN, EPERM),
        (USER_1000, ARMED, EPERM),
        (KILLER, ARMED, 0),
        (USER_1000, Peer(name="root's"), EPERM),
        (TRACER, Peer(name="root's"), 0),
        (TRACER, HIDDEN, 0),
        (NESTED, MINE, EPERM),
        (None, HIDDEN, 0),
        (None, Peer(name="gone", ended=True), ESRCH),
        (USER_1000, Peer(name="gone", ended=True), ESRCH),
        (None, Peer(name="too large", plus=1 << 32), ESRCH),
    ],
)
def test_whom_one_may_look_at(who: Identity | None, peer: Peer, allowed: int) -> None:
    """ptrace(2), "Ptrace access mode checking"; a pid that nobody has is nobody's secret."""
    call = Call(usize=24, memory=m(24, 1, 0, 0), who=who, peer=("param_3", peer))
    assert model.outcome(PRIVATE, K24, call).errno == allowed


def test_whose_a_small_number_is_the_model_does_not_know() -> None:
    def of(pid: int) -> int:
        return model.outcome(PRIVATE, K24, Call(usize=24, memory=m(24, 1, 0, pid))).errno

    assert (of(0), of((1 << 22) + 1), of(1 << 40)) == (0, ESRCH, ESRCH)
    with pytest.raises(InfraError, match="param_3 = 7"):
        of(7)


POINTED = dataclasses.replace(
    XYZZY,
    checks=(*XYZZY.checks[:5], Points(field="param_2", length=16, beside={"param_3": 1})),
    pieces=(Piece(at=0, data=bytes(16)),),
)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        (0, 0),
        (piece_at(), 0),
        (0x6011_0000, 0),
        (0x6012_0000 - 16, 0),
        (0x6012_0000 - 15, EFAULT),
        (0x6012_0000, EFAULT),
        (0x6010_FFFF, EFAULT),
        (1, EFAULT),
        (piece_at() | 1 << 32, EFAULT),
        (piece_at() | 1 << 46, EFAULT),
        (piece_at() | 1 << 63, EFAULT),
        (1 << 47, EFAULT),
        ((1 << 64) - 1, EFAULT),
    ],
)
def test_where_an_address_leads(address: int, allowed: int) -> None:
    call = Call(usize=24, memory=m(24, 1, address, 1))
    assert model.outcome(POINTED, K24, call).errno == allowed
    unused = Call(usize=24, memory=m(24, 1, address, 0))
    assert model.outcome(POINTED, K24, unused).errno == 0


def test_what_else_a_caller_has_the_model_does_not_know() -> None:
    with pytest.raises(InfraError, match="0x400000"):
        model.outcome(POINTED, K24, Call(usize=24, memory=m(24, 1, 0x400000, 1)))


@given(LAYOUTS, CALLS)
def test_a_refused_call_leaves_nothing_held_and_an_accepted_one_nothing_written(
    layout: Layout, call: Call
) -> None:
    seen = outcome(layout, call)
    assert (seen.held is None) == bool(seen.errno)
    if seen.written is not None:
        assert seen.errno == E2BIG
        assert seen.written == layout.size != call.usize
    if not seen.errno:
        assert (seen.why, seen.written) == ("", None)


#: Calls that a kernel of either size accepts.
ACCEPTED = st.builds(
    lambda size, p1, p2, p3, junk: Call(
        usize=size, memory=m(size, p1, p2, p3).ljust(size, b"\0") + junk
    ),
    st.just(0) | st.integers(24, 80),
    st.integers(0, 3),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, SECOND),
    st.binary(max_size=20),
)


@given(LAYOUTS, ACCEPTED)
def test_what_is_held_is_as_long_as_the_kernel_s_struct(layout: Layout, call: Call) -> None:
    seen = outcome(layout, call)
    assert seen.held is not None
    assert len(seen.held) == layout.size
    size = call.usize or 24
    assert seen.held[:4] == size.to_bytes(4, "little")
    assert seen.held[4 : min(size, layout.size)] == call.memory[4 : min(size, layout.size)]
    assert not seen.held[size:].strip(b"\0")


@given(LAYOUTS, CALLS, st.integers(24, 32))
def test_a_short_struct_is_the_same_as_that_struct_with_zeros_behind(
    layout: Layout, call: Call, usize: int
) -> None:
    """P2: but for the size that the record shows."""
    assume(usize <= layout.size)
    body = call.memory[4:usize].ljust(usize - 4, b"\0")
    short = usize.to_bytes(4, "little") + body
    full = layout.size.to_bytes(4, "little") + body.ljust(layout.size - 4, b"\0")
    ours = outcome(layout, Call(usize=usize, memory=short, hole=usize, args=call.args))
    theirs = outcome(layout, Call(usize=layout.size, memory=full, args=call.args))
    assert (ours.errno, ours.written) == (theirs.errno, theirs.written)
    assert (ours.held or b"")[4:] == (theirs.held or b"")[4:]


@given(LAYOUTS, CALLS, st.integers(0, 200))
def test_a_tail_of_zeros_is_the_same_as_the_exact_size(
    layout: Layout, call: Call, more: int
) -> None:
    """P3."""
    body = call.memory[4 : layout.size].ljust(layout.size - 4, b"\0")
    exact = layout.size.to_bytes(4, "little") + body
    longer = (layout.size + more).to_bytes(4, "little") + body + bytes(more)
    ours = outcome(layout, Call(usize=layout.size, memory=exact, args=call.args))
    theirs = outcome(layout, Call(usize=layout.size + more, memory=longer, args=call.args))
    assert (ours.errno, ours.written) == (theirs.errno, theirs.written)
    assert (ours.held or b"")[4:] == (theirs.held or b"")[4:]


@given(LAYOUTS, st.integers(1, 200), st.data())
def test_any_byte_of_a_tail_is_refused(layout: Layout, more: int, data: st.DataObject) -> None:
    where = data.draw(st.integers(0, more - 1))
    value = data.draw(st.integers(1, 255))
    tail = bytearray(more)
    tail[where] = value
    usize = layout.size + more
    memory = m(usize).ljust(layout.size, b"\0") + tail
    seen = outcome(layout, Call(usize=usize, memory=memory))
    assert (seen.errno, seen.written, seen.why) == (E2BIG, layout.size, "Tail")


@given(LAYOUTS, ACCEPTED | CALLS, st.binary(min_size=1, max_size=40))
def test_what_lies_beyond_the_struct_never_matters(layout: Layout, call: Call, junk: bytes) -> None:
    """P5: neither junk there, nor a hole, nor nothing at all."""
    usize = call.usize or 24
    assume(call.hole is None and usize <= 200)
    memory = call.memory[:usize]
    seen = {
        str(outcome(layout, dataclasses.replace(call, memory=there, hole=hole)))
        for there, hole in ((memory, None), (memory + junk, None), (memory, max(usize, 4)))
    }
    assert len(seen) == 1


@given(LAYOUTS, CALLS)
def test_unknown_flags_are_found_before_all_else(layout: Layout, call: Call) -> None:
    seen = outcome(layout, dataclasses.replace(call, args={1: 1 << 31}))
    assert (seen.errno, seen.why, seen.written) == (EINVAL, "UnknownFlags", None)


@given(LAYOUTS, CALLS, st.integers(0, (1 << 32) - 1))
def test_the_upper_half_of_the_flags_never_matters(layout: Layout, call: Call, upper: int) -> None:
    lower = call.args[1] & 0xFFFF_FFFF
    assert outcome(layout, dataclasses.replace(call, args={1: lower})) == outcome(
        layout, dataclasses.replace(call, args={1: lower | upper << 32})
    )


#: The contract without the checks of contents, which stand last, and without that of flags.
NO_CONTENTS = dataclasses.replace(XYZZY, checks=XYZZY.checks[:5])
NO_FLAGS = dataclasses.replace(XYZZY, checks=XYZZY.checks[1:])


@given(LAYOUTS, CALLS)
def test_a_check_has_no_say_in_what_was_refused_before_it(layout: Layout, call: Call) -> None:
    seen = outcome(layout, call)
    without = model.outcome(NO_CONTENTS, layout, call)
    if seen.why in ("UnknownBits", "AtMost"):
        assert without.errno == 0
    else:
        assert without == seen
    if seen.why != "UnknownFlags":
        assert model.outcome(NO_FLAGS, layout, call) == seen


@given(LAYOUTS, CALLS)
def test_a_hole_is_never_better_than_memory(layout: Layout, call: Call) -> None:
    """What is accepted with a hole behind is accepted without it."""
    assume(call.hole is not None)
    if not outcome(layout, call).errno:
        assert not outcome(layout, dataclasses.replace(call, hole=None)).errno


# From a case to the model's call: registers and their widths.


def test_a_size_is_cut_to_its_width() -> None:
    case = Case(usize=(1 << 32) + 24, memory=m(24))
    assert cases.effective_usize(OPENAT2, case, register=64) == (1 << 32) + 24
    assert cases.effective_usize(OPENAT2, case, register=32) == 24
    narrow = dataclasses.replace(OPENAT2, size=SizeArg(arg=3, width=32))
    assert cases.effective_usize(narrow, case, register=64) == 24
    # In the struct, the memory says it.
    assert cases.effective_usize(XYZZY, case, register=64) == 24
    ioctl = dataclasses.replace(
        OPENAT2,
        size=SizeIoctl(),
        args=(Value(value=3), SizeValue(base=0xC000_4700), Pointer()),
    )
    assert cases.effective_usize(ioctl, Case(usize=0x4018, memory=b""), register=64) == 0x18


def test_registers_of_a_case() -> None:
    case = Case(usize=24, memory=m(24), flags=((1, (1 << 40) | 3),))
    assert cases.registers(XYZZY, case) == [Address(ARENA, PAGE), (1 << 40) | 3, 0, 0, 0, 0]
    assert cases.registers(OPENAT2, Case(usize=30, memory=b"")) == [
        *(-100, Address(SCRATCH, DATA_AT), Address(ARENA, PAGE), 30, 0, 0),
    ]
    ioctl = dataclasses.replace(
        OPENAT2,
        size=SizeIoctl(),
        args=(Value(value=3), SizeValue(base=0xC000_4702), Pointer()),
    )
    assert cases.registers(ioctl, Case(usize=24, memory=b""))[:2] == [3, 0xC018_4702]
    pointer = cases.registers(XYZZY, Case(usize=24, memory=b"", pointer=5))[0]
    assert pointer == 5


@pytest.mark.parametrize(
    ("changes", "offset"),
    [
        ({}, PAGE),
        ({"shift": 5}, PAGE + 5),
        ({"at_page_start": True}, 0),
        ({"at_page_start": True, "shift": 3}, 3),
        ({"hole": 24}, AREA_BYTES - 24),
        ({"hole": 0}, AREA_BYTES),
        ({"hole": 30, "at_page_start": True}, AREA_BYTES - 30),
    ],
)
def test_where_a_case_lies(changes: dict[str, int], offset: int) -> None:
    assert Case(usize=24, memory=m(24), **changes).offset == offset  # type: ignore[arg-type]


def test_a_case_s_registers_are_cut_to_the_abi_s() -> None:
    """As m32 the upper half does not exist; through int 0x80 it does not arrive."""
    case = Case(usize=24, memory=m(24), flags=((1, 1 << 32),))
    wide = dataclasses.replace(
        XYZZY,
        args=(Pointer(), Flags(known={"XYZZY_CLOEXEC": 1, "XYZZY_NONBLOCK": 2}, width=64)),
        effect=ReadBack(),
    )
    assert cases.predict(wide, K24, case, register=64).errno == EINVAL
    assert cases.predict(wide, K24, case, register=32).errno == 0
    by_int80 = next(way for way in WAYS["m64"] if way.int80)
    through = dataclasses.replace(case, way=by_int80)
    assert cases.predict(wide, K24, through, register=64).errno == 0


def test_memory_that_cannot_be_read() -> None:
    case = Case(usize=24, memory=m(24))
    none = dataclasses.replace(case, protection=Protection.NONE)
    assert cases.predict(XYZZY, K24, none, register=64).errno == EFAULT
    read = dataclasses.replace(case, protection=Protection.READ)
    assert cases.predict(XYZZY, K24, read, register=64).errno == 0
    pointer = dataclasses.replace(case, pointer=1 << 62)
    assert cases.predict(XYZZY, K24, pointer, register=64).errno == EFAULT


def test_the_size_in_memory() -> None:
    assert cases.with_usize(XYZZY, m(0), 24) == m(24)
    assert cases.with_usize(XYZZY, m(0), (1 << 32) + 5) == m(5)
    assert cases.with_usize(XYZZY, b"", 24) == b"\x18\0\0\0"
    assert cases.with_usize(OPENAT2, b"abc", 24) == b"abc"


@pytest.mark.parametrize(
    ("check", "p1", "p2", "errno"),
    [
        (AtLeast(field="param_2", minimum=1 << 40), 1, (1 << 40) - 1, EINVAL),
        (AtLeast(field="param_2", minimum=1 << 40), 1, 1 << 40, 0),
        (AtLeast(field="param_2", minimum=1 << 40), 1, (1 << 64) - 1, 0),  # unsigned
        (OneOf(field="param_2", values=(4, 8), errno=EPERM), 1, 6, EPERM),
        (OneOf(field="param_2", values=(4, 8)), 1, 8, 0),
        (BothOrNeither(field="param_1", other="param_2"), 1, 0, EINVAL),
        (BothOrNeither(field="param_1", other="param_2"), 0, 1, EINVAL),
        (BothOrNeither(field="param_1", other="param_2"), 1, 9, 0),
        (BothOrNeither(field="param_1", other="param_2"), 0, 0, 0),
    ],
)
def test_what_else_can_be_said_of_a_field(
    check: AtLeast | OneOf | BothOrNeither, p1: int, p2: int, errno: int
) -> None:
    made = dataclasses.replace(XYZZY, checks=(*XYZZY.checks, check))
    call = Call(usize=24, memory=m(24, p1=p1, p2=p2))
    assert model.outcome(made, K24, call).errno == errno


def test_what_nothing_refuses_fails_where_that_is_arranged() -> None:
    made = dataclasses.replace(XYZZY, effect=Fails(errno=EPERM))
    accepted = model.outcome(made, K24, Call(usize=24, memory=m(24)))
    assert (accepted.errno, accepted.held, accepted.why) == (EPERM, None, "")
    assert model.outcome(made, K24, Call(usize=23, memory=m(23))).errno == E2BIG


def answer(effect: Fills, *, size: SizeArg | SizeFixed, checks: tuple[Check, ...]) -> Contract:
    carriers = (SizeValue(),) if isinstance(size, SizeArg) else ()
    return dataclasses.replace(
        XYZZY,
        size=size,
        args=(Pointer(), *carriers),
        checks=checks,
        effect=effect,
        zero_means=None,
    )


OUT = SizeBounds(minimum=16, maximum=PAGE, too_small=EINVAL, too_big=EINVAL)


@pytest.mark.parametrize(
    ("usize", "filled", "written"),
    [
        (16, ((0, 4), (4, 8), (8, 16)), 16),
        (20, ((0, 4), (4, 8), (8, 16), (16, 20)), 20),
        (24, ((0, 4), (4, 8), (8, 16), (16, 24)), 24),
        (400, ((0, 4), (4, 8), (8, 16), (16, 24)), 24),
    ],
)
def test_an_answer_is_as_long_as_both_sides_know(
    usize: int, filled: tuple[tuple[int, int], ...], written: int
) -> None:
    made = answer(Fills(size_holds="least"), size=SizeArg(arg=1), checks=(OUT, Copy()))
    found = model.outcome(made, K24, Call(usize=usize, memory=b"\xff" * usize))
    assert (found.errno, found.filled, found.written) == (0, filled, written)
    short = model.outcome(made, K24, Call(usize=usize, memory=b"", hole=min(usize, 24) - 1))
    assert (short.errno, short.filled) == (EFAULT, ())


def test_an_answer_into_read_only_memory_is_a_fault() -> None:
    made = answer(Fills(fields=("param_2",)), size=SizeArg(arg=1), checks=(OUT, Copy()))
    case = Case(usize=24, memory=m(24), protection=Protection.READ)
    assert cases.predict(made, K24, case, register=64).errno == EFAULT
    plain = dataclasses.replace(case, protection=Protection.READ_WRITE)
    assert cases.predict(made, K24, plain, register=64).filled == ((8, 16),)
    # Too short for what is filled: nothing is written, or the rest is, as it was.
    short = dataclasses.replace(made, effect=Fills(fields=("param_3",)))
    whole = dataclasses.replace(made, effect=Fills(fields=("param_3",), whole=True))
    assert cases.predict(short, K24, dataclasses.replace(case, usize=16), register=64).errno == 0
    refused = cases.predict(whole, K24, dataclasses.replace(case, usize=16), register=64)
    assert refused.errno == EFAULT


def test_a_struct_of_one_size_is_copied_whole() -> None:
    made = answer(Fills(fields=("param_3",)), size=SizeFixed(), checks=(Copy(whole=True),))
    for usize in (0, 24, 4096):
        whole = Case(usize=usize, memory=m(24))
        assert cases.predict(made, K24, whole, register=64).errno == 0
        cut = Case(usize=usize, memory=m(24)[:23], hole=23)
        assert cases.predict(made, K24, cut, register=64).errno == EFAULT


def test_a_tail_that_is_a_value_is_only_read() -> None:
    checks = (OUT, Tail(errno=0), Copy())
    made = dataclasses.replace(
        answer(Fills(), size=SizeArg(arg=1), checks=checks), effect=Nothing()
    )
    assert model.outcome(made, K24, Call(usize=32, memory=b"\1" * 32)).errno == 0
    assert model.outcome(made, K24, Call(usize=32, memory=b"\1" * 30, hole=30)).errno == EFAULT


# What differs between ABIs: xyzzyat(2), by its man page.

AT_FIELDS = {
    "m64": (("ptr", 0, 8), ("varying_val", 8, 8), ("fixed_val", 16, 8)),
    "m32": (("ptr", 0, 4), ("varying_val", 4, 4), ("fixed_val", 8, 8)),
    "mx32": (("ptr", 0, 4), ("varying_val", 8, 8), ("fixed_val", 16, 8)),
}
#: The same struct: a label, -2, and 64 bits; mx32's padding has ones.
AT_MEMORY = {
    "m64": struct.pack("<QqQ", piece_at(0), -2, 0xFEDC_BA98_7654_3210),
    "m32": struct.pack("<IiQ", piece_at(0), -2, 0xFEDC_BA98_7654_3210),
    "mx32": struct.pack("<IIqQ", piece_at(0), 0xFFFF_FFFF, -2, 0xFEDC_BA98_7654_3210),
}
RECORD = Layout(
    struct="xyzzyat_record",
    size=72,
    align=8,
    fields=tuple(
        Field(name=name, offset=offset, size=size)
        for name, offset, size in (
            ("dev_major", 0, 4),
            ("dev_minor", 4, 4),
            ("ino", 8, 8),
            ("offset", 16, 8),
            ("varying_val", 24, 8),
            ("fixed_val", 32, 8),
            ("label", 40, 32),
        )
    ),
)


def at(name: str) -> tuple[Contract, Layout]:
    """xyzzyat() as one ABI's entry has it, about a file that is inode 7 of device 8:9."""
    fields = tuple(Field(name=n, offset=o, size=s) for n, o, s in AT_FIELDS[name])
    layout = Layout(struct="xyzzy_args", size=len(AT_MEMORY[name]), align=8, fields=fields)
    files = dict(zip(xyzzyat.CONTRACT.files, (8, 9, 7), strict=True))
    return xyzzyat.CONTRACT.with_record(RECORD, files).in_abi(abi(name)), layout


def at_outcome(name: str, memory: bytes, flags: tuple[tuple[int, int], ...] = ()) -> Outcome:
    contract, layout = at(name)
    case = Case(usize=len(memory), memory=memory, flags=flags)
    return cases.predict(contract, layout, case, register=abi(name).register)


@pytest.mark.parametrize("name", AT_MEMORY)
def test_one_record_for_every_abi(name: str) -> None:
    """The long keeps its sign, padding is no value, and 64 bits are 64 bits."""
    wanted = struct.pack("<IIQqqQ", 8, 9, 7, 0x0123_4567_89AB_CDEF, -2, 0xFEDC_BA98_7654_3210)
    assert at_outcome(name, AT_MEMORY[name]).held == wanted + b"a label".ljust(32, b"\0")


@pytest.mark.parametrize(
    ("name", "flags", "offset"),
    [
        ("m64", ((2, 1 << 40),), 1 << 40),
        ("mx32", ((2, 1 << 40),), 1 << 40),
        ("m32", ((2, 5), (3, 6)), 6 << 32 | 5),
        ("m32", ((2, 5),), 0x0123_4567 << 32 | 5),
    ],
)
def test_a_wide_argument(name: str, flags: tuple[tuple[int, int], ...], offset: int) -> None:
    found = at_outcome(name, AT_MEMORY[name], flags).held
    assert found is not None
    assert int.from_bytes(found[16:24], "little") == offset


@pytest.mark.parametrize(
    ("name", "flags"), [("m64", ((2, 1 << 63),)), ("m32", ((3, 1 << 31),)), ("mx32", ((2, -1),))]
)
def test_a_negative_offset_is_refused(name: str, flags: tuple[tuple[int, int], ...]) -> None:
    assert at_outcome(name, AT_MEMORY[name], flags).errno == EINVAL


@pytest.mark.parametrize(
    ("address", "errno"),
    [
        (0, 0),
        (piece_at(0), 0),
        (piece_at(3), 0),
        (piece_at(64), EINVAL),
        (8, EFAULT),
    ],
)
def test_where_a_string_is(address: int, errno: int) -> None:
    for name, memory in AT_MEMORY.items():
        moved = address.to_bytes(4, "little") + memory[4:]
        found = at_outcome(name, moved)
        assert found.errno == errno
        if not errno:
            assert found.held is not None
            text = {0: b"", piece_at(0): b"a label", piece_at(3): b"abel"}[address]
            assert found.held[40:] == text.ljust(32, b"\0")


def test_which_string_is_elsewhere_the_model_does_not_know() -> None:
    memory = (piece_at(0) - 30_000).to_bytes(8, "little") + AT_MEMORY["m64"][8:]
    with pytest.raises(InfraError, match="which string is there"):
        at_outcome("m64", memory)
