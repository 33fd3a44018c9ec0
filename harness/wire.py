# SPDX-License-Identifier: GPL-2.0-only
"""Frames and structs of wire.h, for Python.

The structs come from `harness.caller._wire`, which cffi made from wire.h;
this module adds only what turns them into bytes and back.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from harness.caller._wire import ffi, lib
from vm.errors import InfraError

__all__ = ["Decoder", "Frame", "ProtocolError", "ffi", "lib", "pack", "text", "unpack"]

HEADER_BYTES: int = ffi.sizeof("struct wire_header")
MAX_PAYLOAD: int = lib.WIRE_MAX_PAYLOAD


def _members(prefix: str) -> dict[str, int]:
    """The constants of wire.h that begin with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): getattr(lib, name)
        for name in dir(lib)
        if name.startswith(prefix)
    }


#: Names of frame types and of refusals, for messages.
TYPE_NAMES = {value: name for name, value in _members("WIRE_T_").items()}
REFUSAL_NAMES = {value: name for name, value in _members("WIRE_E_").items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame: what it is, for whom, and its payload."""

    type: int
    channel: int
    seq: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """As it travels: struct wire_header, then the payload."""
        head = pack(
            "wire_header",
            magic=lib.WIRE_MAGIC,
            length=len(self.payload),
            type=self.type,
            channel=self.channel,
            seq=self.seq,
        )
        return head + self.payload


def pack(struct: str, **fields: Any) -> bytes:
    """The bytes of ``struct wire_…`` with these fields; the rest are zero."""
    return bytes(ffi.buffer(ffi.new(f"struct {struct} *", fields)))


def unpack(struct: str, data: bytes, offset: int = 0) -> Any:
    """The ``struct wire_…`` at ``offset`` in ``data``, as cffi's struct.

    Raises ProtocolError when the data is too short.
    """
    size = ffi.sizeof(f"struct {struct}")
    if offset < 0 or offset + size > len(data):
        raise ProtocolError(f"struct {struct} needs {size} bytes, {len(data) - offset} are there")
    value = ffi.new(f"struct {struct} *")
    ffi.memmove(value, data[offset : offset + size], size)
    return value


def text(chars: Any) -> str:
    """A NUL-padded char array of a struct, as text."""
    raw: bytes = ffi.string(chars)
    return raw.decode(errors="replace")


class ProtocolError(InfraError):
    """A frame that is not what its type says."""


class Decoder:
    """Frames out of a byte stream that is not trusted.

    Bytes that are no frame are passed over up to the next magic number and
    counted in ``passed_over``; a peer cannot make the buffer grow beyond one
    frame of MAX_PAYLOAD bytes.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._magic = int(lib.WIRE_MAGIC).to_bytes(4, "little")
        self.passed_over = 0

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def _skip(self) -> None:
        at = self._buffer.find(self._magic, 1)
        if at < 0:
            at = max(1, len(self._buffer) - len(self._magic) + 1)
        del self._buffer[:at]
        self.passed_over += at

    def take(self) -> Frame | None:
        """The next whole frame, or None when more bytes are needed."""
        while len(self._buffer) >= HEADER_BYTES:
            if self._buffer[:4] != self._magic:
                self._skip()
                continue
            head = unpack("wire_header", bytes(self._buffer[:HEADER_BYTES]))
            if head.length > MAX_PAYLOAD:
                self._skip()
                continue
            end = HEADER_BYTES + head.length
            if len(self._buffer) < end:
                return None
            payload = bytes(self._buffer[HEADER_BYTES:end])
            del self._buffer[:end]
            return Frame(type=head.type, channel=head.channel, seq=head.seq, payload=payload)
        return None


def refusal_text(payload: bytes) -> str:
    """A struct wire_refusal in words."""
    refused = unpack("wire_refusal", payload)
    name = REFUSAL_NAMES.get(refused.code, str(refused.code))
    if refused.code == lib.WIRE_E_SYSTEM:
        return os.strerror(refused.value)
    return f"refused: {name} ({refused.value})"
