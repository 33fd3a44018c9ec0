# SPDX-License-Identifier: GPL-2.0-only
"""Requests and their answers, over a stream socket to an agent.

A socket to a guest's virtio-serial port and one to an agent on this machine
look the same.  While it waits, a channel asks its owner whether the machine
behind it is still there, so that a panic ends the wait at once and not when
the deadline passes.
"""

from __future__ import annotations

import dataclasses
import select
import signal
import socket
from collections.abc import Callable

from harness import wire
from harness.wire import Frame, lib
from vm.deadline import Deadline
from vm.errors import GuestError, InfraError, Verdict

#: How often the owner is asked whether the machine is still there, in seconds.
WATCH_EVERY = 0.2
#: Requests that name a caller's channel and do not need the caller: one that has
#: died before, unasked, must not answer for the next one's start.
ANSWERED_BY_THE_AGENT = frozenset({lib.WIRE_T_START, lib.WIRE_T_STOP})


def status_text(status: int) -> str:
    """A waitpid() status in words."""
    if status & 0x7F:
        number = status & 0x7F
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exit code {status >> 8 & 0xFF}"


class RefusedError(InfraError):
    """The agent or a caller refused a request.  ``errno`` is set when a system call failed."""

    def __init__(self, what: str, payload: bytes) -> None:
        super().__init__(f"{what}: {wire.refusal_text(payload)}")
        refused = wire.unpack("wire_refusal", payload)
        self.code: int = refused.code
        self.value: int = refused.value
        self.errno: int | None = refused.value if refused.code == lib.WIRE_E_SYSTEM else None


class CallerGoneError(GuestError):
    """A caller died while a request of ours was with it.  ``status`` as waitpid() gives it."""

    def __init__(self, channel: int, status: int) -> None:
        super().__init__(
            f"the caller on channel {channel} died: {status_text(status)}", verdict=Verdict.FAIL
        )
        self.status = status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hello:
    """What an agent says of the machine that it runs on."""

    version: int
    cpus: int
    page_size: int  #: bytes
    hypervisor: str  #: CPUID's signature: KVMKVMKVM, TCGTCGTCGTCG, or empty
    release: str  #: uname -r


class Channel:
    """One socket to an agent; requests are made one after the other."""

    def __init__(self, sock: socket.socket, *, watch: Callable[[], None] = lambda: None) -> None:
        self._sock = sock
        self._watch = watch
        self._decoder = wire.Decoder()
        self._seq = 0

    def _receive(self, deadline: Deadline) -> Frame:
        while True:
            frame = self._decoder.take()
            if frame is not None:
                return frame
            if deadline.passed:
                self._watch()
                raise GuestError(f"no answer: {deadline}", verdict=Verdict.HANG)
            ready, _, _ = select.select([self._sock], [], [], min(WATCH_EVERY, deadline.left))
            if not ready:
                self._watch()
                continue
            try:
                data = self._sock.recv(1 << 18)
            except ConnectionError:
                data = b""
            if not data:
                self._watch()
                raise GuestError("the connection to the agent ended", verdict=Verdict.LOST)
            self._decoder.feed(data)

    def _send(self, data: bytes, deadline: Deadline) -> None:
        view = memoryview(data)
        while view:
            if deadline.passed:
                self._watch()
                raise GuestError(f"request not taken: {deadline}", verdict=Verdict.HANG)
            _, ready, _ = select.select([], [self._sock], [], min(WATCH_EVERY, deadline.left))
            if not ready:
                self._watch()
                continue
            try:
                sent = self._sock.send(view, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                continue
            except ConnectionError as exc:
                self._watch()
                raise GuestError("the connection to the agent ended", verdict=Verdict.LOST) from exc
            view = view[sent:]

    def hello(self, deadline: Deadline) -> Hello:
        """Wait for the agent's first frame."""
        frame = self._receive(deadline)
        if frame.type != lib.WIRE_T_HELLO:
            raise InfraError(f"the agent's first frame is of type {frame.type}, not HELLO")
        said = wire.unpack("wire_hello", frame.payload)
        if said.version != lib.WIRE_VERSION:
            raise InfraError(
                f"the agent speaks version {said.version}, we {lib.WIRE_VERSION}",
                hint="rebuild the callers: make callers",
            )
        return Hello(
            version=said.version,
            cpus=said.cpus,
            page_size=said.page_size,
            hypervisor=wire.text(said.hypervisor),
            release=wire.text(said.release),
        )

    def request(
        self,
        kind: int,
        payload: bytes = b"",
        *,
        channel: int = 0,
        deadline: Deadline,
        until: frozenset[int],
        on_frame: Callable[[Frame], None] | None = None,
        silence: float | None = None,
    ) -> Frame:
        """Send a request; return the first answer whose type is in ``until``.

        Answers of other types are given to ``on_frame``; with ``silence`` each
        of them gives the next one that many seconds, however long it all
        takes.  Raises RefusedError,
        CallerGoneError when that channel's caller dies first, and GuestError
        (HANG, LOST, or what the watcher says) when nothing comes.
        """
        self._seq = (self._seq + 1) & 0xFFFFFFFF
        frame = Frame(type=kind, channel=channel, seq=self._seq, payload=payload)
        if len(payload) > wire.MAX_PAYLOAD:
            raise InfraError(f"a request of {len(payload)} bytes; {wire.MAX_PAYLOAD} at most")
        self._send(frame.encode(), deadline)
        while True:
            answer = self._receive(deadline)
            if (
                answer.type == lib.WIRE_T_GONE
                and channel
                and answer.channel == channel
                and kind not in ANSWERED_BY_THE_AGENT
            ):
                raise CallerGoneError(channel, wire.unpack("wire_gone", answer.payload).status)
            if answer.seq != frame.seq:
                continue  # of a request that was given up
            if answer.type in until:
                return answer
            if answer.type == lib.WIRE_T_REFUSED:
                raise RefusedError(
                    what=wire.TYPE_NAMES.get(kind, str(kind)), payload=answer.payload
                )
            if on_frame:
                on_frame(answer)
            if silence is not None:
                deadline = Deadline.after(silence, deadline.what)

    def send_raw(self, data: bytes, deadline: Deadline) -> None:
        """Send bytes as they are, whatever they are.  For the wire's fuzzers."""
        self._send(data, deadline)

    def next_frame(self, deadline: Deadline) -> Frame:
        """The next frame, whatever it is.  For the wire's fuzzers."""
        return self._receive(deadline)

    def close(self) -> None:
        self._sock.close()
