# SPDX-License-Identifier: GPL-2.0-only
"""User-mode Linux: a kernel that is an ordinary process of this machine.

The same kernel source and the same patches, built with ARCH=um, which is a
program that runs programs under ptrace.  It needs neither QEMU nor virtme-ng,
and knows m64 programs only.  Its console is a pseudo-terminal of ours, its root
a directory, and a serial line of it one half of a socket pair.

How it ends: close(), an exception or Ctrl-C kill its process group.  When this
process dies, the terminal is hung up, which ends it with SIGHUP; and its agent
sees the end of its line, and switches the machine off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import select
import shlex
import socket
import tomllib
import types
from pathlib import Path
from typing import Self

from vm.console import Console, Event
from vm.deadline import Deadline
from vm.errors import GuestError, InfraError, UserError, Verdict
from vm.paths import VM
from vm.proc import show
from vm.terminal import Terminal, has_data, signal_name, signals_held

TABLE = VM / "uml.toml"
#: The serial line that carries the port.
LINE = 0
#: Lines of the console that a GuestError brings along, and of a kernel's report.
TAIL_LINES = 15
REPORT_LINES = 40
#: How long its processes get to be gone after SIGKILL, in seconds.
END_SECONDS = 5.0
#: How long a report that has begun gets to become whole, in seconds.
REPORT_SECONDS = 1.0
#: The kernel's first line: init/main.c:start_kernel prints linux_banner.
FIRST_LINE = re.compile(r"Linux version ")


class ForbiddenError(InfraError):
    """This host does not let user-mode Linux run; the message says what it refuses."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UmlSpec:
    """What to start.  Raises UserError, when made, for what cannot be started."""

    image: Path  #: the program that `make ARCH=um` makes
    root: Path  #: the root directory, see vm.guestroot
    program: str  #: absolute path in it of the first program; told the line as its argument
    port: str  #: the name under which `ports` has the line's other end
    log_dir: Path  #: for the records; made if need be; one run, one directory
    memory: int = 256  #: MiB

    def __post_init__(self) -> None:
        if not os.access(self.image, os.X_OK):
            raise UserError(f"{self.image}: no program of user-mode Linux")
        if not os.access(self.root / self.program.lstrip("/"), os.X_OK):
            raise UserError(f"{self.program}: no program of that name in {self.root}")


def command(spec: UmlSpec, fd: int) -> list[str]:
    """The command line; ``fd`` is the kernel's end of the line.  All of it is in uml.toml."""
    rows = tomllib.loads(TABLE.read_text())["word"]
    names = {
        "memory": spec.memory,
        "root": spec.root,
        "program": spec.program,
        "number": LINE,
        "fd": fd,
        "umid": spec.log_dir,
    }
    return [str(spec.image), *(word.format(**names) for row in rows for word in row["words"])]


def environment() -> dict[str, str]:
    """What the program has in its environment beside ours."""
    rows = tomllib.loads(TABLE.read_text())["environment"]
    return {row["name"]: row["value"] for row in rows}


class Uml:
    """A running kernel.  Made by boot(); a context manager; close() is final.

    To its users it is what vm.guest.Guest is.
    """

    def __init__(self, spec: UmlSpec) -> None:
        """Start the program.  For boot() only, which also waits for it."""
        self.spec = spec
        self.ports: dict[str, socket.socket] = {}
        self._cleanup = contextlib.ExitStack()
        spec.log_dir.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @classmethod
    def boot(cls, spec: UmlSpec, deadline_s: float) -> Self:
        """Start it, and wait for the first word of its program, which is left in the socket.

        Raises ForbiddenError with what the program says when it ends before
        there is a kernel in it, GuestError as vm.guest.Guest.boot does.
        Whatever it raises, nothing is left running.
        """
        deadline = Deadline.after(deadline_s, "user-mode Linux's first word")
        made = cls(spec)
        try:
            made._wait_ready(deadline)
        except BaseException:
            made.close()
            raise
        return made

    def _start(self) -> None:
        spec, stack = self.spec, self._cleanup
        ours, theirs = socket.socketpair()
        self.ports[spec.port] = stack.enter_context(ours)
        with theirs:
            line = command(spec, theirs.fileno())
            (spec.log_dir / "uml-command.txt").write_text(f"{shlex.join(line)}\n")
            show(line)
            with signals_held() as mask:
                self._terminal = Terminal(
                    line, pass_fds=(theirs.fileno(),), environment=environment(), mask=mask
                )
                stack.callback(self._terminal.close)
                self.console = Console(self._terminal, spec.log_dir / "console.log")
                stack.callback(self.console.close)
                stack.callback(self._end)

    def _wait_ready(self, deadline: Deadline) -> None:
        port = self.ports[self.spec.port]
        poll = select.poll()
        poll.register(self.console, select.POLLIN)
        poll.register(port, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(1000 * min(deadline.left, 0.25))}
            if port.fileno() in ready and has_data(port):
                break
            self.check()
            if deadline.passed:
                raise self._error(
                    f"it said nothing on its line within {deadline.seconds:g} s", Verdict.HANG
                )
        self.check()

    @property
    def alive(self) -> bool:
        """The process runs.  Nothing is said about the kernel in it."""
        return not self.console.ended

    def fileno(self) -> int:
        """Readable when check() would raise: poll it beside the port."""
        return self.console.fileno()

    def check(self) -> None:
        """Raise GuestError if it is not well, as vm.guest.Guest.check does."""
        if self.alive and self.console.fatal() is None:
            return
        if self.alive:
            self.console.settle(REPORT_SECONDS)
        else:
            self.console.join(END_SECONDS)
        if (event := self.console.fatal()) is not None:
            raise self._event_error(event)
        if not any(FIRST_LINE.search(line.text) for line in self.console.lines):
            said = " / ".join(self.console.tail(3)) or "without a word"
            raise ForbiddenError(
                f"this host does not run user-mode Linux: {said}",
                hint=f"all that it said: {self.console.path}",
            )
        self._terminal.isalive()  # asks how it ended
        number = self._terminal.signalstatus
        how = f"was ended by {signal_name(number)}" if number else "ended by itself"
        raise self._error(f"user-mode Linux {how}", Verdict.LOST)

    def kill(self) -> None:
        """End it now.  What it left is still there to be read: the console."""
        self._terminal.end()
        if not self.console.join(END_SECONDS):
            raise InfraError(f"process group {self._terminal.leader}: does not die of SIGKILL")

    def _end(self) -> None:
        with signals_held():
            self.kill()

    def close(self) -> None:
        """End it, close the line, keep the records.  Again is allowed."""
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def _event_error(self, event: Event) -> GuestError:
        error = self._error(event.text, event.verdict)
        error.console_tail = tuple(event.report[:REPORT_LINES])
        return error

    def _error(self, message: str, verdict: Verdict) -> GuestError:
        return GuestError(
            message,
            verdict=verdict,
            console_tail=self.console.tail(TAIL_LINES),
            hint=f"the whole console: {self.console.path}",
        )
