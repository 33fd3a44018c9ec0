# SPDX-License-Identifier: GPL-2.0-only
"""Where callers run: an agent behind a socket, in a guest or on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from harness import outside, stall, wire
from harness import sweep as sweeps
from harness.abi import ABI, ABIS
from harness.channel import CallerGoneError, Channel, Hello, RefusedError, status_text
from harness.outside import Watched
from harness.program import Argument, Program, Result, encode_op
from harness.splats import REQUEST, Asked, Request
from harness.stall import Hold
from harness.sweep import Row, SweepResult
from harness.wire import Frame, lib
from vm import proc
from vm.console import MARK
from vm.deadline import Deadline
from vm.errors import GuestError, Verdict

#: Deadlines, all of the host, in seconds.
REPLY_SECONDS = 20.0
SWEEP_SILENCE_SECONDS = 30.0  # a sweep reports its progress every second
OP_DEADLINE_MS = 5000  # the caller's own, for a call that blocks
#: The same on a target where one has blocked for so long: that is known by now, and each
#: further one costs its deadline.  Longer than anything that a contract has a call wait for.
LATE_DEADLINE_MS = 1500

#: Answers to sweeps that a target remembers, and the calls of one that is worth it.
MOST_ANSWERS, LEAST_REMEMBERED = 64, 1000
#: Callers of one ABI that work side by side, each on a CPU of its own, at most.
MOST_LANES: int = (lib.WIRE_CHANNELS - 1) // len(ABIS)
#: How many requests are remembered, for what the kernel may say of them later.
REMEMBERED = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Executed:
    """A program that ran on the target: how it ended and what it printed."""

    status: int  #: as waitpid() gives it
    output: str

    @property
    def code(self) -> int | None:
        """Exit code, or None when a signal ended it."""
        return None if self.status & 0x7F else self.status >> 8 & 0xFF

    def __str__(self) -> str:
        return status_text(self.status)


class LateError(GuestError):
    """A program was not done in time, and was ended; the target itself answers."""


def _marked(text: str) -> bytes:
    return f"<5>{MARK}{text}\n".encode()


def _channel(abi: ABI, lane: int) -> int:
    return abi.channel + lane * len(ABIS)


class Caller:
    """The caller of one ABI, on one target."""

    def __init__(self, target: Target, abi: ABI) -> None:
        self._target = target
        self.abi = abi

    def _request(
        self, kind: int, payload: bytes, until: int, on_frame: Callable[[Frame], None] | None = None
    ) -> Frame:
        try:
            return self._target.ask(
                kind, payload, channel=self.abi.channel, until=until, on_frame=on_frame
            )
        except CallerGoneError:
            self._target.gone(self.abi)
            raise

    def _patience(self, deadline_ms: int | None) -> int:
        if deadline_ms is not None:
            return deadline_ms
        return LATE_DEADLINE_MS if self._target.late else OP_DEADLINE_MS

    def _noted(self, results: list[Result], deadline_ms: int | None) -> list[Result]:
        if deadline_ms is None and any(one.deadline for one in results):
            self._target.late = True
        return results

    def run(self, program: Program, *, deadline_ms: int | None = None) -> list[Result]:
        """Run a program and return each operation's result.

        ``deadline_ms`` is for each operation, 0 for none, and OP_DEADLINE_MS or
        LATE_DEADLINE_MS if it is not given; the caller itself interrupts one
        that blocks, and gives those behind it half the time, so that many of them
        end before the host gives up.  Raises RefusedError, CallerGoneError, GuestError.
        """
        self._target.calls += program.calls
        answer = self._request(
            lib.WIRE_T_PROGRAM,
            program.encode(deadline_ms=self._patience(deadline_ms)),
            lib.WIRE_T_RESULT,
        )
        return self._noted(program.decode(answer.payload), deadline_ms)

    def sweep(
        self, payload: bytes, *, on_progress: Callable[[int], None] = lambda calls: None
    ) -> SweepResult:
        """Run an encoded sweep to its end.  ``on_progress`` is told the calls made."""
        (result,) = self._rows(lib.WIRE_T_SWEEP, [payload], on_progress)
        return result

    @property
    def lanes(self) -> int:
        """How many sweeps this target makes at once: as many as it has CPUs, within reason."""
        return max(1, min(self._target.hello.cpus, MOST_LANES))

    def sweeps(self, payloads: Sequence[bytes]) -> list[SweepResult]:
        """Run encoded sweeps, ``lanes`` at a time; their results in their own order."""
        for lane in range(1, self.lanes):
            self._target.start(self.abi, lane)
        return self._rows(lib.WIRE_T_SWEEP, payloads, lambda calls: None, lanes=self.lanes)

    def _rows(
        self,
        kind: int,
        payloads: Sequence[bytes],
        on_progress: Callable[[int], None],
        *,
        lanes: int = 1,
    ) -> list[SweepResult]:
        """Requests that are answered with rows, and with WIRE_T_DONE in the end."""
        rows: list[list[Row]] = [[] for _ in payloads]

        def take(index: int, frame: Frame) -> None:
            if frame.type == lib.WIRE_T_ROWS:
                rows[index].extend(sweeps.decode_rows(frame.payload))
            elif frame.type == lib.WIRE_T_PROGRESS:
                on_progress(wire.unpack("wire_done", frame.payload).calls)

        try:
            answers = self._target.ask_each(
                kind,
                payloads,
                channels=[_channel(self.abi, lane) for lane in range(lanes)],
                until=lib.WIRE_T_DONE,
                on_frame=take,
            )
        except BaseException as exc:
            # What the others have been asked for, nobody waits for any more.
            if lanes > 1 or isinstance(exc, CallerGoneError):
                self._target.gone(self.abi)
            raise
        results = []
        for answer, seen in zip(answers, rows, strict=True):
            done = wire.unpack("wire_done", answer.payload)
            self._target.calls += done.calls
            results.append(
                SweepResult(rows=tuple(seen), calls=done.calls, nanoseconds=done.nanoseconds)
            )
        return results

    def run_stalled(
        self, program: Program, holds: Sequence[Hold], *, deadline_ms: int | None = None
    ) -> tuple[list[Result], list[bool]]:
        """Run a program of which some calls are held at a page; for each, whether it was.

        Raises RefusedError with an errno when userfaultfd(2) is refused, and as run() does.
        """
        self._target.calls += program.calls
        payload = stall.encode(holds, program, deadline_ms=self._patience(deadline_ms))
        answer = self._request(lib.WIRE_T_STALL, payload, lib.WIRE_T_RESULT)
        results = self._noted(program.decode(answer.payload), deadline_ms)
        return results, stall.stalled(holds, answer.payload)

    def race(self, payload: bytes) -> SweepResult:
        """Run an encoded race; its rows are its distinct outcomes."""
        (result,) = self._rows(lib.WIRE_T_RACE, [payload], lambda calls: None)
        return result

    def watched(self, payload: bytes) -> Watched:
        """Have a child make one call behind a filter or under a tracer (outside.encode).

        Raises RefusedError with an errno when the one or the other is refused.
        """
        self._target.calls += 1
        answer = self._request(lib.WIRE_T_OUTSIDE, payload, lib.WIRE_T_SEEN)
        return outside.decode(answer.payload)

    def loop(
        self, nr: int, args: Sequence[Argument], count: int, *, poke: tuple[int, int] | None = None
    ) -> int:
        """The same call ``count`` times with nothing else; nanoseconds in all.

        ``poke`` is an arena offset and a 32-bit value to be stored there behind
        each call, for one that writes its size back.
        """
        call = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=nr, args=args)
        offset, value = poke or (0, 0)
        rest = wire.pack(
            "wire_loop", count=count, poke_offset=offset, poke=value, poke_width=4 if poke else 0
        )
        self._target.calls += count
        answer = self._request(lib.WIRE_T_LOOP, call + rest[len(call) :], lib.WIRE_T_DONE)
        return int(wire.unpack("wire_done", answer.payload).nanoseconds)


class Target:
    """An agent and the callers that it starts, each when it is first needed."""

    def __init__(
        self,
        channel: Channel,
        callers: Mapping[ABI, str],
        hello: Hello,
        *,
        name: str,
        guest: bool = False,
        built_for: Sequence[ABI] = ABIS,
        lacking: Mapping[str, str] | None = None,
    ) -> None:
        self.guest = guest
        self.lacking = lacking or {}  #: what this kind of kernel is known not to have, and why
        self._built_for = frozenset(built_for)  #: of a guest's kernel
        self._channel = channel
        self._paths = callers
        self._started: set[tuple[ABI, int]] = set()
        self._kept: dict[ABI, dict[str, dict[str, int]]] = {}
        self._answers: dict[tuple[str | bytes, ...], SweepResult] = {}
        self.hello = hello
        self.name = name
        self.calls = 0  #: system calls made so far
        #: What kmemleak has told of and forgotten: the program that it was lost by, and words.
        self.lost: list[tuple[str, str]] = []
        self.late = False  #: whether a call has blocked until its deadline here
        self.about: Asked | None = None  #: what the next request is about
        self._numbers = itertools.count(1)
        self._requests: deque[Request] = deque(maxlen=REMEMBERED)

    def request(self, number: int | None) -> Request | None:
        """One of the last requests to a caller, by the number that it was marked with."""
        return next((one for one in self._requests if one.number == number), None)

    @property
    def last_request(self) -> Request | None:
        """The last request to a caller."""
        return self._requests[-1] if self._requests else None

    def _note(self, kind: int) -> None:
        """Mark in the kernel's log that a request to a caller begins."""
        asked, self.about = self.about, None
        if not self.guest:  # this machine's log is not ours to write to
            return
        one = Request(number=next(self._numbers), what=wire.TYPE_NAMES[kind], asked=asked)
        self._requests.append(one)
        self.begin(f"{REQUEST}{one.number}")

    def ask(
        self,
        kind: int,
        payload: bytes = b"",
        *,
        channel: int = 0,
        until: int,
        on_frame: Callable[[Frame], None] | None = None,
        seconds: float = REPLY_SECONDS,
    ) -> Frame:
        """One request.  Each answer that comes gives the next one its own deadline."""
        what = f"answer to {wire.TYPE_NAMES[kind]}"
        if channel and kind != lib.WIRE_T_START:
            self._note(kind)
        return self._channel.request(
            kind,
            payload,
            channel=channel,
            until=frozenset({until}),
            on_frame=on_frame,
            deadline=Deadline.after(seconds, what),
            silence=SWEEP_SILENCE_SECONDS if on_frame else None,
        )

    def ask_each(
        self,
        kind: int,
        payloads: Sequence[bytes],
        *,
        channels: Sequence[int],
        until: int,
        on_frame: Callable[[int, Frame], None],
    ) -> list[Frame]:
        """Several requests, one at a time on each channel."""
        self._note(kind)
        return self._channel.spread(
            kind,
            payloads,
            channels=channels,
            until=frozenset({until}),
            on_frame=on_frame,
            deadline=Deadline.after(REPLY_SECONDS, f"answer to {wire.TYPE_NAMES[kind]}"),
            silence=SWEEP_SILENCE_SECONDS,
        )

    def caller(self, abi: ABI) -> Caller:
        """The caller of ``abi``, started if it is not running.

        Raises RefusedError with errno ENOEXEC when the kernel does not run
        programs of this ABI.
        """
        self.start(abi, 0)
        return Caller(self, abi)

    def start(self, abi: ABI, lane: int) -> None:
        """See to it that a caller of ``abi`` runs in this lane; raises as caller() does."""
        if (abi, lane) not in self._started:
            path = self._paths[abi].encode()
            self.ask(lib.WIRE_T_START, path, channel=_channel(abi, lane), until=lib.WIRE_T_OK)
            self._started.add((abi, lane))

    def restart(self, abi: ABI) -> None:
        """A fresh caller, whatever became of the one before."""
        self.gone(abi)
        self.start(abi, 0)

    def kept(self, abi: ABI) -> dict[str, dict[str, int]]:
        """What set-ups have left in this ABI's caller: it is empty again when that is another."""
        return self._kept.setdefault(abi, {})

    def remember(self, abi: ABI, payloads: Sequence[bytes], result: SweepResult) -> None:
        """Keep the answer to a sweep of many calls, for answered()."""
        if result.calls >= LEAST_REMEMBERED:
            key: tuple[str | bytes, ...] = (abi.name, *payloads)
            self._answers.pop(key, None)
            self._answers[key] = result
            if len(self._answers) > MOST_ANSWERS:
                del self._answers[next(iter(self._answers))]

    def answered(self, abi: ABI, payloads: Sequence[bytes]) -> SweepResult | None:
        """The answer to this request, if it is one of the last that remember() was told."""
        return self._answers.get((abi.name, *payloads))

    def gone(self, abi: ABI) -> None:
        """Note that this ABI's callers died or are to die: the next use starts others."""
        self._kept.pop(abi, None)
        self._started -= {(abi, lane) for lane in range(MOST_LANES)}

    def execute(self, argv: Sequence[str], *, seconds: float) -> Executed:
        """Run a program on the target; its stdout and stderr come back as one.

        A program that is not done after ``seconds`` is ended, with its process
        group, and LateError (HANG) raised with what it had printed.
        """
        output = bytearray()
        payload = b"".join(arg.encode() + b"\0" for arg in argv)
        try:
            answer = self._channel.request(
                lib.WIRE_T_EXEC,
                payload,
                until=frozenset({lib.WIRE_T_EXIT}),
                on_frame=lambda frame: output.extend(frame.payload),
                deadline=Deadline.after(seconds, f"the end of {argv[0]}"),
            )
        except GuestError as exc:
            if exc.verdict is Verdict.HANG:
                self.ask(lib.WIRE_T_EXEC_KILL, until=lib.WIRE_T_OK)
                tail = output.decode(errors="replace").splitlines()[-20:]
                raise LateError(str(exc), verdict=Verdict.HANG, console_tail=tuple(tail)) from exc
            raise
        status = wire.unpack("wire_gone", answer.payload).status
        return Executed(status=status, output=output.decode(errors="replace"))

    def mark(self, text: str) -> None:
        """Write a line into the kernel's log, where splats can be told apart by it.

        With its newline: a line without one may be continued, and is printed
        only when the next has come (kernel/printk/printk.c:vprintk_store()).
        """
        self.ask(lib.WIRE_T_MARK, _marked(text), until=lib.WIRE_T_OK)

    def begin(self, text: str) -> None:
        """The same, before another request: that does not wait for an answer to this.

        The agent takes requests in turn, so the line is written when the next one begins.
        """
        self._channel.tell(lib.WIRE_T_MARK, _marked(text))

    def read_file(self, path: str) -> bytes:
        """A file of the target, 256 KiB at most."""
        return self.ask(lib.WIRE_T_READ, path.encode(), until=lib.WIRE_T_DATA).payload

    @cached_property
    def capabilities(self) -> int:
        """Mask of the capabilities that callers hold, and can use: the agent's own."""
        for line in self.read_file("/proc/self/status").decode().splitlines():
            name, _, value = line.partition(":")
            if name == "CapEff":
                return int(value, 16)
        return 0

    def write_file(self, path: str, data: bytes, *, seconds: float = REPLY_SECONDS) -> None:
        """Write to a file of the target that exists, such as a sysctl."""
        payload = path.encode() + b"\0" + data
        self.ask(lib.WIRE_T_WRITE, payload, until=lib.WIRE_T_OK, seconds=seconds)

    def dmesg(self) -> str:
        """The kernel's log buffer."""
        answer = self.ask(lib.WIRE_T_DMESG, until=lib.WIRE_T_DATA)
        return answer.payload.decode(errors="replace")

    def has(self, abi: ABI) -> bool:
        """Whether a caller of this ABI was built, and the kernel runs it."""
        return abi in self._paths and self.runs(abi) is None

    def lacks(self, abi: ABI) -> bool:
        """Whether programs of ``abi`` are known not to run here, or cannot be assumed to.

        A guest's kernel is known; this machine's may lack some.
        """
        if abi not in self._paths:
            return not self.guest or abi not in self._built_for
        return self.runs(abi) is not None

    def runs(self, abi: ABI) -> str | None:
        """None when the kernel runs programs of this ABI, else why not."""
        try:
            self.caller(abi)
        except RefusedError as exc:
            return f"this kernel does not run {abi.name} programs ({exc})"
        return None


@contextlib.contextmanager
def local(agent: Path, callers: Mapping[ABI, Path]) -> Iterator[Target]:
    """This machine's own kernel: the agent as a child, over a socket pair."""
    ours, theirs = socket.socketpair()
    with ours:
        argv = [str(agent), str(theirs.fileno())]
        proc.show(argv)
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        theirs.close()
        try:
            channel = Channel(ours)
            hello = channel.hello(Deadline.after(REPLY_SECONDS, "the agent's first frame"))
            paths = {abi: str(path) for abi, path in callers.items()}
            yield Target(channel, paths, hello, name="this machine's kernel")
        finally:
            ours.close()  # the agent sees the end of file and ends its callers
            try:
                child.wait(timeout=proc.GRACE)
            except subprocess.TimeoutExpired:
                proc.end_group(child)
