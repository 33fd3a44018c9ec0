# SPDX-License-Identifier: GPL-2.0-only
"""Requests and their answers, over a stream socket to an agent.

One request at a time on each channel; several channels can be busy at once.

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
from collections import deque
from collections.abc import Callable, Sequence

from harness import wire
from harness.wire import Frame, lib
from vm.deadline import Deadline
from vm.errors import GuestError, InfraError, Verdict

#: How often the owner is asked whether the machine is still there, in seconds.
WATCH_EVERY = 0.2
#: How long the agent has to take a request that nobody waits for, in seconds.
TELL_SECONDS = 5.0
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


@dataclasses.dataclass(kw_only=True)
class _Asked:
    """A request under way."""

    index: int  #: among those that are made together
    channel: int
    deadline: Deadline


def _left(deadline: Deadline) -> float:
    return deadline.left


class Channel:
    """One socket to an agent, behind which the callers have channels of their own."""

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
        (answer,) = self.spread(
            kind,
            [payload],
            channels=[channel],
            deadline=deadline,
            until=until,
            on_frame=(lambda _, frame: on_frame(frame)) if on_frame else None,
            silence=silence,
        )
        return answer

    def spread(
        self,
        kind: int,
        payloads: Sequence[bytes],
        *,
        channels: Sequence[int],
        deadline: Deadline,
        until: frozenset[int],
        on_frame: Callable[[int, Frame], None] | None = None,
        silence: float | None = None,
    ) -> list[Frame]:
        """Send requests of one kind, each as soon as one of ``channels`` is free for it.

        Their answers are in the requests' order; ``on_frame`` is told which of
        them a frame belongs to.  ``deadline`` is for the first answers, and
        ``silence`` as for request(), for each channel by itself.  Raises as
        request() does; the other channels are then busy with what was asked
        of them, and have to be stopped.
        """
        for payload in payloads:
            if len(payload) > wire.MAX_PAYLOAD:
                raise InfraError(f"a request of {len(payload)} bytes; {wire.MAX_PAYLOAD} at most")
        waiting, free = deque(enumerate(payloads)), list(channels)
        busy: dict[int, _Asked] = {}
        answers: dict[int, Frame] = {}
        while waiting or busy:
            while waiting and free:
                index, payload = waiting.popleft()
                asked = _Asked(index=index, channel=free.pop(), deadline=deadline)
                self._seq = (self._seq + 1) & 0xFFFFFFFF
                frame = Frame(type=kind, channel=asked.channel, seq=self._seq, payload=payload)
                self._send(frame.encode(), deadline)
                busy[self._seq] = asked
            answer = self._receive(min((one.deadline for one in busy.values()), key=_left))
            asking = any(one.channel == answer.channel for one in busy.values() if one.channel)
            if answer.type == lib.WIRE_T_GONE and asking and kind not in ANSWERED_BY_THE_AGENT:
                status = wire.unpack("wire_gone", answer.payload).status
                raise CallerGoneError(answer.channel, status)
            if answer.seq not in busy:
                continue  # of a request that was given up
            asked = busy[answer.seq]
            if silence is not None:
                deadline = asked.deadline = Deadline.after(silence, deadline.what)
            if answer.type in until:
                free.append(asked.channel)
                answers[asked.index] = answer
                del busy[answer.seq]
            elif answer.type == lib.WIRE_T_REFUSED:
                raise RefusedError(
                    what=wire.TYPE_NAMES.get(kind, str(kind)), payload=answer.payload
                )
            elif on_frame:
                on_frame(asked.index, answer)
        return [answers[index] for index in range(len(payloads))]

    def tell(self, kind: int, payload: bytes) -> None:
        """Send the agent a request of which nobody waits for the answer."""
        self._seq = (self._seq + 1) & 0xFFFFFFFF
        frame = Frame(type=kind, channel=0, seq=self._seq, payload=payload)
        self._send(frame.encode(), Deadline.after(TELL_SECONDS, "a request to be taken"))

    def send_raw(self, data: bytes, deadline: Deadline) -> None:
        """Send bytes as they are, whatever they are.  For the wire's fuzzers."""
        self._send(data, deadline)

    def next_frame(self, deadline: Deadline) -> Frame:
        """The next frame, whatever it is.  For the wire's fuzzers."""
        return self._receive(deadline)

    def close(self) -> None:
        self._sock.close()
