# SPDX-License-Identifier: GPL-2.0-only
"""harness.wire and wire.h: one format for Python and for three ABIs, and no trust in bytes."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import random
import struct

import hosttarget
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import layout as layouts
from harness import wire
from harness.abi import ABI, ABIS
from harness.caller import build
from harness.wire import Decoder, Frame, ProtocolError, ffi, lib

#: wire.h's directory in place of a kernel's headers.
WIRE = dataclasses.replace(hosttarget.COMPILER, headers=build.HERE)
EACH = pytest.mark.parametrize("one", ABIS, ids=lambda one: one.name)
MAGIC = b"XSYS"

U16 = st.integers(0, (1 << 16) - 1)
FRAMES = st.builds(
    Frame,
    type=U16,
    channel=U16,
    seq=st.integers(0, (1 << 32) - 1),
    payload=st.binary(max_size=300),
)


def structs() -> list[str]:
    """Every struct of wire.h, as cffi knows them."""
    found = [name for name in ffi.list_types()[1] if name.startswith("wire_")]
    assert len(found) >= 12
    return found


def field_names(name: str) -> list[str]:
    return [field for field, _ in ffi.typeof(f"struct {name}").fields]


# One definition.


@EACH
def test_structs_are_the_same_for_this_compiler_and_for_cffi(one: ABI) -> None:
    """Size, offset and width of each member, in each ABI."""
    for name in structs():
        kind = ffi.typeof(f"struct {name}")
        compiled = layouts.layout(
            WIRE, one, struct=name, fields=field_names(name), includes=("wire.h",)
        )
        assert compiled.size == ffi.sizeof(kind), name
        assert {field.name: (field.offset, field.size) for field in compiled.fields} == {
            field: (about.offset, ffi.sizeof(about.type)) for field, about in kind.fields
        }, name


@EACH
def test_no_struct_has_padding_or_a_misplaced_u64(one: ABI) -> None:
    """What wire.h promises of itself, and what makes one layout of three."""
    for name in structs():
        compiled = layouts.layout(
            WIRE, one, struct=name, fields=field_names(name), includes=("wire.h",)
        )
        assert compiled.size % 8 == 0, name
        assert compiled.padding() == [], name
        for field, about in ffi.typeof(f"struct {name}").fields:
            element = about.type.item if about.type.kind == "array" else about.type
            if element.kind == "primitive":
                assert about.offset % ffi.sizeof(element) == 0, f"{name}.{field}"


@EACH
def test_constants_are_the_same(one: ABI) -> None:
    names = [name for name in dir(lib) if name.startswith("WIRE_")]
    assert len(names) > 50
    found = layouts.constants(
        WIRE, one, includes=("wire.h",), expressions={name: name for name in names}
    )
    assert found == {name: getattr(lib, name) for name in names}


def test_no_two_types_and_no_two_refusals_share_a_number() -> None:
    for names in (wire.TYPE_NAMES, wire.REFUSAL_NAMES):
        assert len(names) == len(set(names.values()))
    types = [name for name in dir(lib) if name.startswith("WIRE_T_")]
    refusals = [name for name in dir(lib) if name.startswith("WIRE_E_")]
    assert (len(types), len(refusals)) == (len(wire.TYPE_NAMES), len(wire.REFUSAL_NAMES))


def test_the_header_on_the_wire() -> None:
    """The bytes themselves, so that both ends cannot be wrong together."""
    frame = Frame(type=0x0102, channel=0x0304, seq=0x05060708, payload=b"ab")
    assert frame.encode() == b"XSYS\2\0\0\0\2\1\4\3\x08\7\6\5ab"
    assert struct.unpack("<IIHHI", frame.encode()[:16]) == (
        0x53595358,
        2,
        0x0102,
        0x0304,
        0x05060708,
    )


# Bytes and structs.


def test_pack_and_unpack() -> None:
    data = wire.pack("wire_gone", pid=7, status=0x100)
    assert data == struct.pack("<II", 7, 0x100)
    value = wire.unpack("wire_gone", b"xyz" + data + b"more", 3)
    assert (value.pid, value.status) == (7, 0x100)


@pytest.mark.parametrize("offset", [-1, 1, 8, 1 << 40])
def test_unpack_refuses_what_is_too_short(offset: int) -> None:
    with pytest.raises(ProtocolError, match="struct wire_gone needs 8 bytes"):
        wire.unpack("wire_gone", b"\0" * 8, offset)


def test_text_ends_at_the_first_nul_and_takes_any_byte() -> None:
    hello = wire.unpack("wire_hello", wire.pack("wire_hello", release=b"6.12\xff\0junk"))
    assert wire.text(hello.release) == "6.12\N{REPLACEMENT CHARACTER}"
    full = wire.unpack("wire_hello", wire.pack("wire_hello", hypervisor=b"K" * 16))
    assert wire.text(full.hypervisor) == "K" * 16


def test_refusals_in_words() -> None:
    said = wire.refusal_text(wire.pack("wire_refusal", code=lib.WIRE_E_RANGE, value=3))
    assert said == "refused: RANGE (3)"
    said = wire.refusal_text(wire.pack("wire_refusal", code=lib.WIRE_E_SYSTEM, value=errno.ENOEXEC))
    assert said == "Exec format error"
    assert wire.refusal_text(wire.pack("wire_refusal", code=99, value=1)) == "refused: 99 (1)"


# Frames out of a stream.


def take_all(decoder: Decoder) -> list[Frame]:
    frames = []
    while (frame := decoder.take()) is not None:
        frames.append(frame)
    return frames


def decode(data: bytes, cuts: list[int]) -> tuple[list[Frame], Decoder]:
    """Feed ``data`` in pieces that end at ``cuts``, taking after each."""
    decoder = Decoder()
    frames = []
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, stop in itertools.pairwise(edges):
        decoder.feed(data[start:stop])
        frames += take_all(decoder)
    return frames, decoder


def plain(data: bytes, *, most: int) -> tuple[list[Frame], bytes]:
    """The frames of a stream and what is left over: the format's rule, said another way."""
    frames, at = [], 0
    while len(data) - at >= 16:
        magic, length, kind, channel, seq = struct.unpack_from("<IIHHI", data, at)
        if magic != 0x53595358 or length > most:
            following = [i for i in range(at + 1, len(data)) if data[i : i + 4] == MAGIC]
            at = following[0] if following else max(at + 1, len(data) - 3)
            continue
        if len(data) - at - 16 < length:
            break
        payload = data[at + 16 : at + 16 + length]
        frames.append(Frame(type=kind, channel=channel, seq=seq, payload=payload))
        at += 16 + length
    return frames, data[at:]


CUTS = st.lists(st.integers(0, 2000), max_size=12)
#: Pieces that make streams worth decoding: frames, halves of frames, magic numbers, junk.
PIECES = st.one_of(
    FRAMES.map(Frame.encode),
    st.tuples(FRAMES, st.integers(0, 40)).map(lambda it: it[0].encode()[: it[1]]),
    st.binary(max_size=40),
    st.sampled_from([MAGIC, MAGIC[:3], b"X", b"XSYXSYS", MAGIC + b"\xff" * 12]),
    st.integers(0, (1 << 32) - 1).map(lambda n: MAGIC + struct.pack("<IHHI", n, 1, 1, 1)),
)
STREAMS = st.lists(PIECES, max_size=12).map(b"".join)


@given(st.lists(FRAMES, max_size=8), CUTS)
def test_frames_come_back_however_the_stream_is_cut(frames: list[Frame], cuts: list[int]) -> None:
    found, decoder = decode(b"".join(frame.encode() for frame in frames), cuts)
    assert found == frames
    assert decoder.passed_over == 0


@given(STREAMS, CUTS)
@settings(max_examples=300)
def test_any_stream_gives_the_frames_that_are_in_it(data: bytes, cuts: list[int]) -> None:
    found, decoder = decode(data, cuts)
    expected, _ = plain(data, most=wire.MAX_PAYLOAD)
    assert found == expected
    kept = len(decoder._buffer)
    assert decoder.passed_over + kept + sum(len(f.encode()) for f in found) == len(data)


@given(st.binary(max_size=100).filter(lambda junk: MAGIC not in junk + MAGIC[:3]), FRAMES)
def test_a_frame_behind_junk_is_found(junk: bytes, frame: Frame) -> None:
    found, decoder = decode(junk + frame.encode(), [])
    assert found == [frame]
    assert decoder.passed_over == len(junk)


def test_a_magic_number_that_is_cut_in_two_is_found() -> None:
    """Wherever the stream is cut, junk before it or not."""
    frame = Frame(type=1, channel=2, seq=3, payload=b"payload")
    for junk in (b"", b"j" * 40, b"XSY" * 10):
        data = junk + frame.encode()
        for cut in range(len(data)):
            found, decoder = decode(data, [cut])
            assert found == [frame], cut
            assert decoder.passed_over == len(junk)


def test_an_oversized_length_costs_that_header_only() -> None:
    """The longest payload is taken; one byte more is no frame, whatever follows it."""
    longest = Frame(type=1, channel=0, seq=1, payload=b"\0" * wire.MAX_PAYLOAD)
    after = Frame(type=2, channel=3, seq=4, payload=b"after")
    found, _ = decode(longest.encode() + after.encode(), [])
    assert found == [longest, after]
    for length in (wire.MAX_PAYLOAD + 1, (1 << 31), (1 << 32) - 1):
        lie = MAGIC + struct.pack("<IHHI", length, 1, 0, 1)
        found, decoder = decode(lie + after.encode(), [])
        assert found == [after]
        assert decoder.passed_over == len(lie)


def test_a_header_that_lies_within_the_limit_swallows_that_much_and_no_more() -> None:
    """Nobody can tell such a length from a true one; the frames behind it are found again."""
    frames = [Frame(type=1, channel=1, seq=seq, payload=b"x" * 84) for seq in range(10)]
    lie = MAGIC + struct.pack("<IHHI", 250, 1, 0, 1)
    found, _ = decode(lie + b"".join(frame.encode() for frame in frames), [])
    assert found[0].payload == b"".join(frame.encode() for frame in frames)[:250]
    assert found[1:] == frames[3:]


def test_the_buffer_stays_bounded() -> None:
    """One frame and one piece at most, whatever a peer sends for how long."""
    rng = random.Random(1)
    most = 0
    decoder = Decoder()
    piece = 4096
    for turn in range(4000):
        kind = turn % 4
        if kind == 0:
            data = rng.randbytes(piece)
        elif kind == 1:
            data = MAGIC * (piece // 4)
        elif kind == 2:
            data = (MAGIC + struct.pack("<IHHI", wire.MAX_PAYLOAD, 0, 0, 0)).ljust(piece, b"\0")
        else:
            data = b"\0" * piece
        decoder.feed(data)
        take_all(decoder)
        most = max(most, len(decoder._buffer))
    assert most <= wire.HEADER_BYTES + wire.MAX_PAYLOAD + piece


def test_a_hostile_stream_takes_linear_time() -> None:
    """A mebibyte of magic numbers with lengths that cannot be: each costs its own bytes."""
    lie = MAGIC + b"\xff" * 4
    decoder = Decoder()
    decoder.feed(lie * (1 << 17))
    assert decoder.take() is None
    assert decoder.passed_over + len(decoder._buffer) == len(lie) << 17
