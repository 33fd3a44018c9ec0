# SPDX-License-Identifier: GPL-2.0-only
"""harness.program: operations into bytes, and results out of them.

The bytes are compared with struct.pack(), which knows nothing of wire.h.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import wire
from harness.program import (
    ARENA,
    SCRATCH,
    Address,
    Argument,
    Entry,
    Program,
    Result,
    ResultOf,
    at,
    encode_op,
)
from harness.wire import lib
from vm.errors import InfraError

#: struct wire_op: kind, entry, nr, arg[6], arg_kind[6], data_offset, data_length.
OP = struct.Struct("<II Q 6Q 6I II")
PROGRAM = struct.Struct("<4I")
RESULT = struct.Struct("<qII")

LITERAL, IN_ARENA, IN_SCRATCH, OF_RESULT = 0, 1, 2, 3


def ops_of(program: Program) -> tuple[list[tuple[int, ...]], bytes]:
    """The operations of an encoded program, each as a flat tuple, and its data."""
    raw = program.encode(deadline_ms=77)
    count, data_length, deadline_ms, reserved = PROGRAM.unpack_from(raw)
    assert (deadline_ms, reserved) == (77, 0)
    end = PROGRAM.size + count * OP.size
    assert len(raw) == end + data_length
    return list(OP.iter_unpack(raw[PROGRAM.size : end])), raw[end:]


def test_every_operation_as_bytes() -> None:
    program = Program()
    handles = [
        program.write(ARENA, 8, b"first"),
        program.write(SCRATCH, 0, b"second"),
        program.fill(SCRATCH, 16, 32, 0xA5),
        program.syscall(39, at(ARENA, 4096), at(SCRATCH), ResultOf(0), -1, 1 << 63),
        program.syscall(1 << 40 | 20, entry=Entry.INT80),
        program.read(ARENA, 12, 100),
        program.reset(),
    ]
    assert [one.index for one in handles] == list(range(7))
    assert program.calls == 2
    ops, data = ops_of(program)
    ones = (1 << 64) - 1
    assert data == b"firstsecond"
    assert ops == [
        (2, 0, 0, *(8, 0, 0, 0, 0, 0), *(IN_ARENA, 0, 0, 0, 0, 0), 0, 5),
        (2, 0, 0, *(0, 0, 0, 0, 0, 0), *(IN_SCRATCH, 0, 0, 0, 0, 0), 5, 6),
        (4, 0, 0, *(16, 32, 0xA5, 0, 0, 0), *(IN_SCRATCH, 0, 0, 0, 0, 0), 0, 0),
        (
            *(1, 0, 39),
            *(4096, 0, 0, ones, 1 << 63, 0),
            *(IN_ARENA, IN_SCRATCH, OF_RESULT, LITERAL, LITERAL, LITERAL),
            *(0, 0),
        ),
        (1, 1, 1 << 40 | 20, *(0,) * 6, *(0,) * 6, 0, 0),
        (3, 0, 0, *(12, 100, 0, 0, 0, 0), *(IN_ARENA, 0, 0, 0, 0, 0), 0, 0),
        (5, 0, 0, *(0,) * 6, *(0,) * 6, 0, 0),
    ]


@given(
    st.integers(0, (1 << 64) - 1),
    st.lists(
        st.one_of(
            st.integers(-(1 << 63), (1 << 64) - 1),
            st.builds(Address, st.sampled_from([ARENA, SCRATCH]), st.integers(-(1 << 32), 1 << 32)),
            st.builds(ResultOf, st.integers(0, 1023)),
        ),
        max_size=6,
    ),
)
def test_all_64_bits_of_every_register_are_kept(nr: int, args: list[Argument]) -> None:
    raw = OP.unpack(encode_op(kind=lib.WIRE_OP_SYSCALL, nr=nr, args=args))
    expected = [
        (one.index, OF_RESULT)
        if isinstance(one, ResultOf)
        else (one.offset, int(one.area))
        if isinstance(one, Address)
        else (one, LITERAL)
        for one in args
    ]
    expected += [(0, LITERAL)] * (6 - len(args))
    assert raw[2] == nr
    assert list(raw[3:9]) == [value & (1 << 64) - 1 for value, _ in expected]
    assert list(raw[9:15]) == [kind for _, kind in expected]


def answer(*results: tuple[int, int, int], data: bytes = b"") -> bytes:
    return b"".join(RESULT.pack(*one) for one in results) + data


def test_results_and_their_data() -> None:
    program = Program()
    program.read(ARENA, 0, 3)
    program.syscall(1)
    program.syscall(2)
    program.syscall(3)
    program.read(ARENA, 0, 2)
    found = program.decode(
        answer((0, 0, 3), (-22, 0, 0), (0, 1, 0), (31, 2, 0), (0, 4, 2), data=b"abcde")
    )
    assert found == [
        Result(ret=0, skipped=False, signal=0, deadline=False, data=b"abc"),
        Result(ret=-22, skipped=False, signal=0, deadline=False, data=b""),
        Result(ret=0, skipped=True, signal=0, deadline=False, data=b""),
        Result(ret=0, skipped=False, signal=31, deadline=False, data=b""),
        Result(ret=0, skipped=False, signal=0, deadline=True, data=b"de"),
    ]


@pytest.mark.parametrize(
    ("ret", "errno"),
    [(0, 0), (1, 0), (-1, 1), (-4095, 4095), (-4096, 0), (-(1 << 63), 0), ((1 << 63) - 1, 0)],
)
def test_errno_is_what_the_kernel_calls_an_error(ret: int, errno: int) -> None:
    """include/linux/err.h: -MAX_ERRNO to -1, and nothing else."""
    one = Result(ret=ret, skipped=False, signal=0, deadline=False, data=b"")
    assert one.errno == errno


@pytest.mark.parametrize(
    "payload",
    [
        answer((0, 0, 5), data=b"abcd"),
        answer((0, 0, 1)),
        answer((0, 0, (1 << 32) - 1), data=b"abcd"),
    ],
)
def test_an_answer_with_too_little_data_is_refused(payload: bytes) -> None:
    program = Program()
    program.read(ARENA, 0, 5)
    with pytest.raises(InfraError, match="shorter than it says"):
        program.decode(payload)


@pytest.mark.parametrize("length", [0, 1, RESULT.size - 1])
def test_an_answer_with_too_few_results_is_refused(length: int) -> None:
    program = Program()
    program.syscall(1)
    with pytest.raises(wire.ProtocolError, match="struct wire_result needs 16 bytes"):
        program.decode(b"\0" * length)
