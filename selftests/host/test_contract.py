# SPDX-License-Identifier: GPL-2.0-only
"""harness.contract: nonsense is refused when it is written, with what is wrong about it."""

from __future__ import annotations

import dataclasses
from errno import E2BIG, EINVAL

import pytest

from harness.abi import ABIS, abi
from harness.contract import (
    DATA_AT,
    PAGE,
    PIECES_AT,
    ArgAtMost,
    AtMost,
    BothOrNeither,
    Bytes,
    Contract,
    Copy,
    Descriptor,
    FetchSize,
    Flags,
    Half,
    Laid,
    Made,
    Nothing,
    OnlyWith,
    Piece,
    Pointer,
    Privileged,
    Process,
    ReadBack,
    Returned,
    SizeArg,
    SizeBounds,
    SizeField,
    SizeIoctl,
    SizeValue,
    Step,
    Tail,
    Text,
    UnknownBits,
    UnknownFlags,
    Value,
    Version,
    Wide,
    named,
    piece_at,
)
from harness.interfaces import xyzzy, xyzzyat
from harness.wire import lib
from vm.errors import UserError

FETCH, COPY = FetchSize(), Copy()
BOUNDS = SizeBounds(minimum=24, maximum=PAGE, too_small=E2BIG, too_big=E2BIG)
TAIL = Tail(errno=E2BIG)
BITS = UnknownBits(field="param_1", known={"A": 1})
FLAGS = Flags(known={"CLOEXEC": 1, "OTHER": 6})
V0, V1 = Version(name="VER0", size=24), Version(name="VER1", size=32)

#: One of each size's kind that makes sense; every row below changes one thing of one of them.
IN_STRUCT = dataclasses.replace(
    xyzzy.CONTRACT,
    versions=(V0, V1),
    args=(Pointer(), FLAGS),
    checks=(UnknownFlags(arg=1), FETCH, BOUNDS, TAIL, COPY, BITS),
    effect=Nothing(),
)
AS_ARGUMENT = dataclasses.replace(
    IN_STRUCT,
    size=SizeArg(arg=1),
    args=(Pointer(), SizeValue(), FLAGS),
    checks=(UnknownFlags(arg=2), BOUNDS, TAIL, COPY, BITS),
)
IN_IOCTL = dataclasses.replace(
    AS_ARGUMENT,
    size=SizeIoctl(),
    args=(Value(value=3), SizeValue(base=0xC000_0000), Pointer()),
    checks=(BOUNDS, TAIL, COPY),
)


def test_what_makes_sense_is_taken() -> None:
    for made in (IN_STRUCT, AS_ARGUMENT, IN_IOCTL, xyzzy.CONTRACT):
        assert dataclasses.replace(made) == made


def bounds(**changes: int | None) -> SizeBounds:
    return dataclasses.replace(BOUNDS, **changes)  # type: ignore[arg-type]


#: What is changed, and the words with which it must be refused.  Each rule once.
NONSENSE: dict[str, tuple[Contract, dict[str, object], str]] = {
    "no version": (IN_STRUCT, {"versions": ()}, "it has no version"),
    "no pointer": (IN_STRUCT, {"args": (FLAGS, FLAGS)}, "exactly one argument must be the pointer"),
    "two pointers": (IN_STRUCT, {"args": (Pointer(), FLAGS, Pointer())}, "exactly one argument"),
    "seven arguments": (
        IN_STRUCT,
        {"args": (Pointer(), FLAGS, *[Value(value=0)] * 5)},
        "7 arguments: a system call has 6 at most",
    ),
    "a capability for something unsaid": (
        IN_STRUCT,
        {"checks": (FETCH, BOUNDS, TAIL, COPY, Privileged(capability="CAP_KILL", field="a"))},
        "CAP_KILL is needed for a field or an argument, above a value or for bits of it",
    ),
    "a capability for two things": (
        IN_STRUCT,
        {"checks": (FETCH, BOUNDS, TAIL, COPY, Privileged(capability="CAP_KILL", above=1))},
        "CAP_KILL is needed for a field or an argument",
    ),
    "a capability for an argument without flags": (
        IN_STRUCT,
        {"checks": (Privileged(capability="CAP_KILL", arg=0, bits=1), FETCH, BOUNDS, TAIL, COPY)},
        "argument 0 carries no flags",
    ),
    "a capability for a field that is not copied yet": (
        IN_STRUCT,
        {
            "checks": (
                FETCH,
                BOUNDS,
                TAIL,
                Privileged(capability="CAP_KILL", field="a", bits=1),
                COPY,
            )
        },
        "a is judged before it is copied",
    ),
    "no capability": (
        IN_STRUCT,
        {"checks": (FETCH, BOUNDS, TAIL, COPY, Privileged(capability="root"))},
        "'root' is no capability of linux/capability.h",
    ),
    "a process that is not copied yet": (
        IN_STRUCT,
        {"checks": (FETCH, BOUNDS, TAIL, Process(field="a"), COPY)},
        "a is judged before it is copied",
    ),
    "no bounds": (
        IN_STRUCT,
        {"checks": (FETCH, TAIL, COPY)},
        "SizeBounds must stand once among the checks",
    ),
    "no tail": (IN_STRUCT, {"checks": (FETCH, BOUNDS, COPY)}, "Tail must stand once"),
    "no copy": (IN_STRUCT, {"checks": (FETCH, BOUNDS, TAIL)}, "Copy must stand once"),
    "two tails": (IN_STRUCT, {"checks": (FETCH, BOUNDS, TAIL, TAIL, COPY)}, "Tail must stand once"),
    "size never fetched": (
        IN_STRUCT,
        {"checks": (BOUNDS, TAIL, COPY)},
        "FetchSize must stand once among the checks",
    ),
    "size fetched that is an argument": (
        AS_ARGUMENT,
        {"checks": (FETCH, BOUNDS, TAIL, COPY)},
        "FetchSize must stand not among the checks",
    ),
    "no size argument": (
        AS_ARGUMENT,
        {"args": (Pointer(), FLAGS, FLAGS)},
        r"the size is in arguments \[\], and should be in \[1\]",
    ),
    "another size argument": (
        AS_ARGUMENT,
        {"size": SizeArg(arg=2)},
        r"the size is in arguments \[1\], and should be in \[2\]",
    ),
    "two size arguments": (
        AS_ARGUMENT,
        {"args": (Pointer(), SizeValue(), FLAGS, SizeValue())},
        r"the size is in arguments \[1, 3\]",
    ),
    "a size argument beside a size field": (
        IN_STRUCT,
        {"args": (Pointer(), FLAGS, SizeValue())},
        r"the size is in arguments \[2\], and should be in \[\]",
    ),
    "no ioctl number": (
        IN_IOCTL,
        {"args": (Value(value=3), Value(value=4), Pointer())},
        r"the size is in arguments \[\], and should be in \[1\]",
    ),
    "a record of a size that is not in the struct": (
        AS_ARGUMENT,
        {"effect": ReadBack()},
        "ReadBack shows a size field, and the struct has none",
    ),
    "versions that shrink": (
        IN_STRUCT,
        {"versions": (V1, V0), "checks": (FETCH, bounds(minimum=16), TAIL, COPY)},
        r"the versions' sizes do not grow: \[32, 24\]",
    ),
    "versions of one size": (
        IN_STRUCT,
        {"versions": (V0, Version(name="VER1", size=24))},
        "the versions' sizes do not grow",
    ),
    "a first version that is too small": (
        IN_STRUCT,
        {"checks": (FETCH, bounds(minimum=25), TAIL, COPY), "zero_means": None},
        "minimum 25 refuses VER0",
    ),
    "a last version that is too large": (
        IN_STRUCT,
        {"checks": (FETCH, bounds(maximum=31), TAIL, COPY)},
        "maximum 31 refuses VER1",
    ),
    "a zero that is too small": (
        IN_STRUCT,
        {"zero_means": 23},
        "size 0 means 23, which is refused",
    ),
    "a zero that is too large": (
        IN_STRUCT,
        {"zero_means": PAGE + 1},
        "size 0 means 4097, which is refused",
    ),
    "bounds before the size": (
        IN_STRUCT,
        {"checks": (BOUNDS, FETCH, TAIL, COPY)},
        "the size is fetched, then bounded, then used for the copy",
    ),
    "a copy before the bounds": (
        IN_STRUCT,
        {"checks": (FETCH, TAIL, COPY, BOUNDS)},
        "the size is fetched, then bounded, then used for the copy",
    ),
    "a tail before the size": (
        IN_STRUCT,
        {"checks": (TAIL, FETCH, BOUNDS, COPY)},
        "the tail begins where nobody knows yet that it does",
    ),
    "flags in the pointer": (
        IN_STRUCT,
        {"checks": (UnknownFlags(arg=0), FETCH, BOUNDS, TAIL, COPY)},
        "argument 0 carries no flags",
    ),
    "flags in no argument": (
        IN_STRUCT,
        {"checks": (UnknownFlags(arg=2), FETCH, BOUNDS, TAIL, COPY)},
        "argument 2 carries no flags",
    ),
    "flags in an argument from behind": (
        IN_STRUCT,
        {"checks": (UnknownFlags(arg=-1), FETCH, BOUNDS, TAIL, COPY)},
        "argument -1 carries no flags",
    ),
    "bits before the copy": (
        IN_STRUCT,
        {"checks": (FETCH, BOUNDS, TAIL, BITS, COPY)},
        "param_1 is judged before it is copied",
    ),
    "a limit before the copy": (
        IN_STRUCT,
        {"checks": (AtMost(field="param_3", maximum=5), FETCH, BOUNDS, TAIL, COPY)},
        "param_3 is judged before it is copied",
    ),
    "a pair before the copy": (
        IN_STRUCT,
        {"checks": (FETCH, OnlyWith(field="a", other="b", bits=1), BOUNDS, TAIL, COPY)},
        "a is judged before it is copied",
    ),
    "a record of another size": (
        IN_STRUCT,
        {"effect": ReadBack(size_holds="mine")},
        "size_holds is 'mine', not usize or ksize",
    ),
    "close-on-exec by an unknown flag": (
        IN_STRUCT,
        {"effect": Descriptor(cloexec=(1, 8))},
        "the effect has a flag 0x8 that argument 1 does not know",
    ),
    "close-on-exec by the pointer": (
        IN_STRUCT,
        {"effect": ReadBack(cloexec=(0, 1))},
        "the effect has a flag 0x1 that argument 0 does not know",
    ),
    "nonblocking by an unknown flag": (
        IN_STRUCT,
        {"effect": ReadBack(cloexec=(1, 1), nonblock=(1, 16))},
        "the effect has a flag 0x10 that argument 1 does not know",
    ),
}


@pytest.mark.parametrize(("base", "changes", "words"), NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_refused_with_what_is_wrong(
    base: Contract, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError, match=f"^contract xyzzy: {words}") as caught:
        dataclasses.replace(base, **changes)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2


# What tests ask of a contract.


def test_masks() -> None:
    assert FLAGS.mask == 7
    assert UnknownBits(field="a").mask == 0
    assert UnknownBits(field="a", known={"A": 1, "B": 1 << 31}).mask == 0x8000_0001
    assert Flags(known={"A": 1 << 63}, width=64).mask == 1 << 63


def test_where_things_are() -> None:
    assert (IN_STRUCT.pointer, AS_ARGUMENT.pointer, IN_IOCTL.pointer) == (0, 0, 2)
    assert (IN_STRUCT.flags_args, AS_ARGUMENT.flags_args, IN_IOCTL.flags_args) == ((1,), (2,), ())
    assert (IN_STRUCT.field_end, AS_ARGUMENT.field_end, IN_IOCTL.field_end) == (4, 0, 0)
    at_four = dataclasses.replace(IN_STRUCT, size=SizeField(field="size", offset=4, width=8))
    assert at_four.field_end == 12
    assert IN_STRUCT.bounds is BOUNDS
    assert IN_STRUCT.tail is TAIL
    assert IN_STRUCT.flags(1) is FLAGS
    assert Flags(known={}).errno == EINVAL


def test_an_argument_without_flags_is_the_user_s_mistake() -> None:
    with pytest.raises(UserError, match="contract xyzzy: argument 0 carries no flags"):
        IN_STRUCT.flags(0)


def test_the_version_of_a_kernel() -> None:
    assert IN_STRUCT.version_of(24) is V0
    assert IN_STRUCT.version_of(32) is V1
    with pytest.raises(UserError, match="this kernel's struct is 40 bytes") as caught:
        IN_STRUCT.version_of(40)
    assert caught.value.hint == "the contract knows VER0 = 24, VER1 = 32"


def test_the_sample_is_what_its_man_page_says() -> None:
    """xyzzy(2), typed once more."""
    made = xyzzy.CONTRACT
    assert [(one.name, one.size) for one in made.versions] == [("VER0", 24)]
    assert made.zero_means == 24
    assert made.flags(1).known == {"XYZZY_CLOEXEC": 1, "XYZZY_NONBLOCK": 2}
    assert [type(check).__name__ for check in made.checks] == [
        *("UnknownFlags", "FetchSize", "SizeBounds", "Tail", "Copy", "UnknownBits", "AtMost"),
        "Privileged",
    ]


# On one kernel, and after its set-up.


def test_a_made_value_needs_its_step() -> None:
    with pytest.raises(UserError, match="no step of the set-up is called 'ring'"):
        dataclasses.replace(IN_STRUCT, args=(Pointer(), FLAGS, Made(step="ring")))


def test_what_a_set_up_made_takes_its_place() -> None:
    made = dataclasses.replace(
        IN_STRUCT,
        args=(Pointer(), FLAGS, Made(step="fd")),
        setup=(Step(name="fd", call="epoll_create1", args=(0,)),),
        before=(Step(call="fsync", args=(Made(step="fd"), 5)),),
        after=(Step(call="close", args=(Returned(),)),),
    ).with_made({"fd": 7})
    assert made.args[2] == Value(value=7)
    assert made.before == (Step(call="fsync", args=(7, 5)),)
    assert made.after == (Step(call="close", args=(Returned(),)),)
    assert not made.setup


def test_a_field_that_a_kernel_lacks_is_judged_by_nobody() -> None:
    both = BothOrNeither(field="param_1", other="param_9")
    whole = dataclasses.replace(IN_STRUCT, checks=(*IN_STRUCT.checks, both))
    old = whole.on(fields=lambda name: name != "param_9", bits=lambda name: True)
    assert old.checks == IN_STRUCT.checks
    assert named(both) == ("param_1", "param_9")
    assert whole.on(fields=lambda name: True, bits=lambda name: True) == whole


def test_a_bit_that_a_kernel_lacks_is_unknown_there() -> None:
    old = IN_STRUCT.on(fields=lambda name: True, bits=lambda name: name not in ("A", "OTHER"))
    assert old.flags(1).mask == 1
    assert next(c for c in old.checks if isinstance(c, UnknownBits)).mask == 0


def test_bits_without_a_name_are_known_all_the_same() -> None:
    assert UnknownBits(field="bits", known={"A": 8}, also=0b11).mask == 0b1011


def test_where_bytes_and_pieces_lie() -> None:
    made = dataclasses.replace(
        IN_STRUCT,
        args=(Bytes(data=b"one\0"), Pointer(), FLAGS, Bytes(data=b"another\0x")),
        checks=(UnknownFlags(arg=2), FETCH, BOUNDS, TAIL, COPY, BITS),
        pieces=(Piece(at=16, data=b"far"), Piece(at=0, data=b"near")),
    )
    assert (made.data_at(0), made.data_at(3)) == (DATA_AT, DATA_AT + 8)
    assert made.data[:4] == b"one\0"
    assert made.data[8:17] == b"another\0x"
    start = PIECES_AT - DATA_AT
    assert made.data[start : start + 4] == b"near"
    assert made.data[start + 16 :] == b"far"
    assert piece_at(16) == lib.WIRE_SCRATCH_AT + PIECES_AT + 16


# What differs between ABIs.

AT = xyzzyat.CONTRACT


def test_64_bits_are_two_registers_where_they_have_32() -> None:
    """The lower half first, and what stands behind it one register further on."""
    for one in ("m64", "mx32"):
        assert AT.in_abi(abi(one)).args == AT.args
    made = AT.in_abi(abi("m32"))
    assert [type(arg) for arg in made.args] == [Value, Bytes, Half, Half, Pointer, Flags]
    assert made.args[2:4] == (
        Half(value=0x89AB_CDEF, upper=False),
        Half(value=0x0123_4567, upper=True),
    )
    assert (made.pointer, made.flags_args, made.wide_args) == (4, (5,), (2,))
    assert (AT.pointer, AT.flags_args, AT.wide_args) == (3, (4,), (2,))
    assert isinstance(made.effect, ReadBack)
    assert made.effect.cloexec == (5, 1)
    flags, most = made.checks[1:3]
    assert (flags, most) == (UnknownFlags(arg=5), ArgAtMost(arg=2, maximum=(1 << 63) - 1))


def test_a_size_argument_behind_it_moves_too() -> None:
    made = dataclasses.replace(
        AS_ARGUMENT,
        args=(Wide(value=1), Pointer(), SizeValue(), FLAGS),
        size=SizeArg(arg=2),
        checks=(
            UnknownFlags(arg=3),
            BOUNDS,
            TAIL,
            COPY,
            Privileged(capability="CAP_KILL", arg=3, bits=2),
        ),
        effect=Descriptor(cloexec=(3, 1)),
    ).in_abi(abi("m32"))
    assert made.size == SizeArg(arg=3)
    assert made.effect == Descriptor(cloexec=(4, 1))
    assert made.privileged[0].arg == 4


def test_a_queued_call_has_members_not_registers() -> None:
    made = dataclasses.replace(AT, queued=True)
    assert made.in_abi(abi("m32")).args == AT.args


def test_each_abi_has_a_size_of_its_own() -> None:
    sizes = {one.name: AT.in_abi(one).versions[-1].size for one in ABIS}
    assert sizes == {"m64": 24, "m32": 16, "mx32": 24}
    assert AT.differs
    assert AT.in_abi(abi("m32")).differs
    assert not xyzzy.CONTRACT.differs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layouts": {"m64": AT.layouts["m64"]}}, "its layouts have none for m32, mx32"),
        (
            {"layouts": {**AT.layouts, "m32": Laid(size=4, fields={"ptr": (0, 4)}, kernel="a")}},
            "its layouts have not the same fields in the same order",
        ),
        (
            {
                "layouts": {
                    **AT.layouts,
                    "m32": Laid(
                        size=16,
                        fields={"ptr": (0, 4), "varying_val": (2, 4), "fixed_val": (8, 8)},
                        kernel="a",
                    ),
                }
            },
            "m32: varying_val begins before byte 4",
        ),
        (
            {"layouts": {**AT.layouts, "m32": dataclasses.replace(AT.layouts["m32"], size=12)}},
            "m32: the last field ends behind byte 12",
        ),
        (
            {"args": (*AT.args, Value(value=0))},
            "7 arguments: a system call has 6 at most",
        ),
        (
            {"checks": (COPY, ArgAtMost(arg=0, maximum=1))},
            "argument 0 is not 64 bits wide in every ABI",
        ),
        (
            {"checks": (COPY, Text(field="ptr", longest=3, at=0, long_at=64))},
            "ptr: the pieces have no string of at most 3 bytes at 0",
        ),
        (
            {"checks": (COPY, Text(field="ptr", longest=31, at=0, long_at=0))},
            "ptr: the pieces have no string that is longer at 0",
        ),
    ],
)
def test_nonsense_about_abis_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        dataclasses.replace(AT, **changes)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_a_struct_of_several_layouts_is_told_no_size() -> None:
    with pytest.raises(UserError, match="differs between ABIs has no size that it is told"):
        dataclasses.replace(IN_STRUCT, layouts=AT.layouts)
