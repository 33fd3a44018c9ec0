# SPDX-License-Identifier: GPL-2.0-only
"""A guest: booted by virtme-ng, kept warm, watched, and ended without a trace.

Who is who: this process starts `virtme-run` on a pseudo-terminal of its own
(pexpect), virtme-run starts QEMU and waits for it, QEMU's serial port is that
terminal, and each port of the guest is one half of a socket pair whose other
half QEMU was given.  There is no listening socket, no path, no temporary file.

How everything ends, whatever happens to this process:

- close(), leaving the `with`, an exception, Ctrl-C: QEMU gets SIGKILL, and
  virtme-run, which waits for it, leaves; if not, its process group gets SIGKILL;
- this process dies, by SIGKILL if need be: the kernel closes the terminal's
  master, which hangs up the terminal; virtme-run, its session's leader, gets
  SIGHUP and dies of it, and then the foreground group, QEMU, gets SIGHUP
  (drivers/tty/tty_io.c:__tty_hangup, tty_jobctrl.c:disassociate_ctty);
- besides, the guest's program sees the end of its port, and reboots, which ends
  QEMU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import re
import select
import shlex
import shutil
import signal
import socket
import sys
import threading
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from vm.accel import DEAD, Accel
from vm.console import Console, Event
from vm.deadline import Deadline
from vm.errors import GuestError, InfraError, UserError, Verdict
from vm.paths import VM
from vm.proc import show
from vm.terminal import Terminal, has_data, signal_name, signals_held

#: Lines of the console that a GuestError brings along: the last ones, or the
#: first ones of the kernel's report that is its cause.
TAIL_LINES = 15
REPORT_LINES = 40

#: What the guest's `su` says when the program is over: vm/guest/sh.c:run_su.
OVER = re.compile(r"\] su: (.*)$")

#: How long a process gets to be gone after SIGKILL, in seconds.
END_SECONDS = 5.0

#: How long virtme-run gets to notice that QEMU is gone, in seconds: it takes 30 ms.
LEAVE_SECONDS = 2.0

#: How long a report that has begun gets to become whole, in seconds: under TCG
#: a long oops takes a tenth of one.
REPORT_SECONDS = 1.0

#: Where, under virtme-run's name, it writes the init commands when the kernel's
#: arguments grow too long: a file in the guest's root.  Never let it come to that.
SPILL = "/virtme-init-"

#: What virtme-run says of a stderr that cannot be opened, as we want it: qemu.toml.
NO_SECOND_CONSOLE = "WARNING: unable to write kernel messages"

_PORT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,30}")
_ELF = b"\x7fELF"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuestSpec:
    """What to boot.

    Raises UserError, when made, for what no guest can be made of.
    """

    image: Path  #: a vmlinux with PVH (CONFIG_PVH), or a bzImage
    root: Path  #: the guest's root directory, see vm.guestroot
    program: str  #: absolute path in the guest of the program to run, without arguments
    accel: Accel
    log_dir: Path  #: for the records; made if need be; one guest, one directory
    ports: tuple[str, ...] = ("extsys.0",)  #: names of the virtio-serial ports
    memory: int = 256  #: MiB
    cpus: int = 1
    kernel_args: tuple[str, ...] = ()  #: behind ours, so that they win
    greets: bool = True  #: the program sends something on the first port at once

    def __post_init__(self) -> None:
        if not self.image.is_file():
            raise UserError(f"{self.image}: no such kernel image")
        program = self.root / self.program.lstrip("/")
        if not self.program.startswith("/") or not os.access(program, os.X_OK):
            raise UserError(f"{self.program}: no program of that name in the guest's {self.root}")
        if not self.ports or len(set(self.ports)) != len(self.ports):
            raise UserError(f"ports {self.ports}: at least one, each named once")
        for name in self.ports:
            if not _PORT_NAME.fullmatch(name):
                raise UserError(f"port {name!r}: letters, digits, `.`, `_` and `-` make a name")
        if self.cpus < 1 or self.memory < 32:
            raise UserError(f"a guest with {self.cpus} CPUs and {self.memory} MiB cannot run")
        for argument in self.kernel_args:
            if '"' in argument or "\n" in argument:
                raise UserError(f"kernel argument {argument!r}: quotes cannot be passed on")


@dataclasses.dataclass(frozen=True)
class Stage:
    """How far a boot has come: what the console showed, what is missing then."""

    regex: str
    then: str  #: said when nothing beyond this stage was reached


#: In order.  What is said before the first is STILL.
STAGES = (
    Stage(r" -append ", "QEMU was started, but the kernel printed no line"),
    Stage(r"^\[ *\d+\.\d{6}\]", "the kernel runs, but it started no init"),
    Stage(r"\] Run \S+ as init process", "init was started, but virtme-ng's init is not done"),
    Stage(
        r"virtme-ng-init: initialization done", "{program} was started, but said nothing on {port}"
    ),
)
STILL = "virtme-run has not started QEMU"


def find_virtme_run() -> Path:
    """The virtme-run beside this Python, or else on PATH.

    Raises InfraError when there is none.
    """
    beside = Path(sys.executable).with_name("virtme-run")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("virtme-run")
    if found is None:
        raise InfraError("virtme-run: not found", hint="pip install 'virtme-ng>=1.42'")
    return Path(found)


def load_options() -> dict[str, list[dict[str, Any]]]:
    """vm/qemu.toml, as it is."""
    return tomllib.loads((VM / "qemu.toml").read_text())


def virtme_command(spec: GuestSpec, fds: Mapping[str, int]) -> list[str]:
    """The virtme-run command for ``spec``; ``fds``: port name to QEMU's descriptor.

    Everything in it comes from vm/qemu.toml and the spec.
    """
    elf = _is_elf(spec.image)
    holds = {
        spec.accel.kind: True,
        "up": spec.cpus == 1,
        "elf": elf,
        "tsc": spec.accel.tsc_khz is not None,
    }
    tags = {tag for tag, true in holds.items() if true}
    names: dict[str, object] = {
        "image": spec.image,
        "kimg": _stand_in_path(spec) if elf else spec.image,
        "root": spec.root,
        "program": spec.program,
        "cpus": spec.cpus,
        "memory": spec.memory,
        "tsc_khz": spec.accel.tsc_khz,
        "max_ports": len(spec.ports) + 1,
    }
    table = load_options()

    def words(section: str, **more: object) -> list[str]:
        return [
            word.format(**names, **more)
            for row in table[section]
            if tags.issuperset(row.get("for", ()))
            for word in row["words"]
        ]

    command = [str(find_virtme_run()), *words("virtme")]
    for argument in (*words("kernel"), *spec.kernel_args):
        command += ["--kopt", argument]
    command += ["--qemu-opts", *words("qemu")]
    for port, fd in fds.items():
        command += words("port", port=port, fd=fd)
    return command


def _is_elf(image: Path) -> bool:
    with image.open("rb") as file:
        return file.read(len(_ELF)) == _ELF


def _stand_in_path(spec: GuestSpec) -> Path:
    return spec.log_dir / "kernel-version"


def _write_stand_in(spec: GuestSpec) -> None:
    """Write the version of an ELF image where virtme-run finds it at once."""
    with spec.image.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        found = re.search(rb"Linux version (\S{3,})", data)
        version = found[1].decode(errors="replace") if found else "0.0.0"
    _stand_in_path(spec).write_text(f"Linux version {version}\n")


def _ended_how(terminal: Terminal) -> str:
    """What became of QEMU, as far as virtme-run says.

    virtme-run exits with QEMU's wait status, of which the lower eight bits
    survive: the signal, and nothing of an exit code.
    """
    if terminal.signalstatus:
        return f"virtme-run was ended by {signal_name(terminal.signalstatus)}"
    if terminal.exitstatus:
        return f"QEMU was ended by {signal_name(terminal.exitstatus & 0x7F)}"
    return "QEMU ended by itself"


class _Drain:
    """A thread that writes what a socket says to a file, so that it never fills."""

    def __init__(self, sock: socket.socket, path: Path) -> None:
        self._sock = sock
        self.path = path
        self.dead = False  #: QEMU has said that KVM is at its end; the guest stands still
        self._file = path.open("wb", buffering=0)
        self._thread = threading.Thread(target=self._run, name=f"drain {path}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while data := self._sock.recv(65536):
            self.dead = self.dead or DEAD in data
            with contextlib.suppress(OSError):  # a full disk is no reason to block QEMU
                self._file.write(data)

    def last_line(self) -> str | None:
        """The last line so far, which is QEMU's complaint if there is one."""
        lines = self.path.read_text(errors="replace").strip().splitlines()
        said = [line for line in lines if not line.startswith(NO_SECOND_CONSOLE)]
        return said[-1] if said else None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._sock.close()
        self._file.close()


class Guest:
    """A running guest.  Made by boot(); a context manager; close() is final."""

    def __init__(self, spec: GuestSpec) -> None:
        """Start virtme-run.  For boot() only, which also waits for the guest."""
        self.spec = spec
        self.ports: dict[str, socket.socket] = {}  #: by name; non-blocking is the user's choice
        self.qemu_command: tuple[str, ...] = ()  #: as virtme-run executed it
        self._qemu: int | None = None  # pidfd
        self._qemu_pid: int | None = None
        self._cleanup = contextlib.ExitStack()
        spec.log_dir.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @classmethod
    def boot(cls, spec: GuestSpec, deadline_s: float) -> Self:
        """Boot a guest, and wait for its program's first word.

        The word is left in the socket of the first port.  With
        ``spec.greets`` off it is enough that the program was started.

        Raises GuestError when it does not come within ``deadline_s`` seconds
        (HANG), the kernel panics (PANIC) or oopses (OOPS), or QEMU ends (LOST),
        each with the console's tail; UserError when the kernel arguments are
        too long.  Whatever it raises, KeyboardInterrupt included, nothing is
        left running.
        """
        deadline = Deadline.after(deadline_s, "the guest's first word")
        guest = cls(spec)
        try:
            guest._wait_ready(deadline)
        except BaseException:
            guest.close()
            raise
        return guest

    def _start(self) -> None:
        spec = self.spec
        stack = self._cleanup
        fds: dict[str, int] = {}
        with contextlib.ExitStack() as theirs:
            for name in spec.ports:
                ours, qemus = socket.socketpair()
                theirs.enter_context(qemus)
                self.ports[name] = stack.enter_context(ours)
                fds[name] = qemus.fileno()
            err_ours, err_theirs = socket.socketpair()
            theirs.enter_context(err_theirs)
            self._stderr = _Drain(err_ours, spec.log_dir / "stderr.log")
            stack.callback(self._stderr.close)
            if _is_elf(spec.image):
                _write_stand_in(spec)
            command = virtme_command(spec, fds)
            (spec.log_dir / "virtme-command.txt").write_text(f"{shlex.join(command)}\n")
            (spec.log_dir / "accel.txt").write_text(f"{spec.accel}\n")
            show(command)
            # From the fork on, a process must be known to whoever ends it.
            with signals_held() as mask:
                self._terminal = Terminal(
                    command,
                    pass_fds=tuple(fds.values()),
                    stderr=err_theirs.fileno(),
                    mask=mask,
                )
                stack.callback(self._terminal.close)
                self.console = Console(self._terminal, spec.log_dir / "console.log")
                stack.callback(self.console.close)
                stack.callback(self._forget_qemu)
                stack.callback(self._end)

    def _wait_ready(self, deadline: Deadline) -> None:
        spec = self.spec
        first = self.ports[spec.ports[0]]
        poll = select.poll()
        poll.register(self.console, select.POLLIN)
        if spec.greets:
            poll.register(first, select.POLLIN)
        while True:
            # Until QEMU's pid is known: nothing polls for a child of a child.
            known = self._find_qemu()
            self._record_command()
            ready = {fd for fd, _ in poll.poll(1000 * min(deadline.left, 0.25 if known else 0.02))}
            if first.fileno() in ready and has_data(first):
                break
            self.check(booting=True)
            if not spec.greets and self._stage() == len(STAGES):
                break
            if deadline.passed:
                raise self._error(
                    f"{self._stage_text()} within {deadline.seconds:g} s", Verdict.HANG
                )
        self._find_qemu()
        self._record_command()
        # A greeting is only to be believed from a guest that is well.
        self.check()

    def _stage(self) -> int:
        lines = self.console.lines
        reached = 0
        for stage in STAGES:
            if any(re.search(stage.regex, line.text) for line in lines):
                reached += 1
        return reached

    def _stage_text(self) -> str:
        reached = self._stage()
        text = STAGES[reached - 1].then if reached else STILL
        return text.format(program=self.spec.program, port=self.spec.ports[0])

    def _record_command(self) -> None:
        """Keep the command line that virtme-run has shown, once it has."""
        if self.qemu_command:
            return
        for line in self.console.lines:
            if line.message is None and " -append " in line.text:
                self.qemu_command = tuple(shlex.split(line.text))
                (self.spec.log_dir / "qemu-command.txt").write_text(
                    f"{line.text}\n"
                    "# fd=N is half of a socket pair; by hand: path=FILE,server=on,wait=off\n"
                )
                break
        if any(SPILL in word for word in self.qemu_command):
            raise UserError(
                f"kernel arguments too long: {shlex.join(self.spec.kernel_args)}",
                hint="virtme-run has room for 896 bytes, its own and ours included",
            )

    def _find_qemu(self) -> bool:
        if self._qemu is not None:
            return True
        launcher = self._terminal.leader
        with contextlib.suppress(OSError):  # not there yet, or no longer
            children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
            for child in map(int, children):
                # The pidfd first, so that what is read next is of the process it names.
                fd = os.pidfd_open(child)
                try:
                    if b"\0-append\0" in Path(f"/proc/{child}/cmdline").read_bytes():
                        self._qemu, self._qemu_pid, fd = fd, child, -1
                        return True
                finally:
                    # Also when the child was reaped in between: virtme-run asks
                    # QEMU for its version first.
                    if fd >= 0:
                        os.close(fd)
        return False

    @property
    def qemu_pid(self) -> int:
        """The process id of QEMU; it may have ended since."""
        if self._qemu_pid is None:
            raise self._error("QEMU was never seen to run", Verdict.LOST)
        return self._qemu_pid

    @property
    def alive(self) -> bool:
        """QEMU runs.  Nothing is said about the kernel in it."""
        if self.console.ended or self._qemu is None:
            return not self.console.ended
        poll = select.poll()
        poll.register(self._qemu, select.POLLIN)
        return not poll.poll(0)

    def fileno(self) -> int:
        """Readable when check() would raise: poll it beside a port."""
        return self.console.fileno()

    def check(self, *, booting: bool = False) -> None:
        """Raise GuestError if the guest is not well.

        PANIC and OOPS when its console says so, which is believed before
        QEMU's end is called LOST: a panic ends QEMU.  A report that the kernel
        itself lives on with, a WARNING say, raises nothing: it is among
        ``console.events``, to be laid at the door of the call that caused it.
        """
        if self.alive and self._stderr.dead:
            raise self._error(DEAD.decode(), Verdict.LOST)
        if self.alive and self.console.fatal() is None:
            return
        if not self.alive:
            self.console.join(END_SECONDS)
        else:
            self.console.settle(REPORT_SECONDS)
        event = self.console.fatal()
        if event is not None:
            if event.verdict is Verdict.PANIC:
                self.console.join(REPORT_SECONDS)
            raise self._event_error(event)
        how = _ended_how(self._terminal)
        over = [found[1] for text in self.console.tail(TAIL_LINES) if (found := OVER.search(text))]
        if over:
            how = over[-1]
        elif booting and self._stage() < 2:
            how = f"{self._stage_text()}: {how}"
        complaint = self._stderr.last_line()
        raise self._error(f"{how}: {complaint}" if complaint else how, Verdict.LOST)

    def wait_end(self, seconds: float) -> None:
        """Wait until QEMU has ended, as it does when the program reboots.

        Raises GuestError: HANG when it has not after ``seconds``, PANIC or OOPS
        when that is how it ended.
        """
        if not self.console.join(seconds):
            raise self._error(f"QEMU has not ended within {seconds:g} s", Verdict.HANG)
        event = self.console.fatal()
        if event is not None:
            raise self._event_error(event)

    def _forget_qemu(self) -> None:
        if self._qemu is not None:
            os.close(self._qemu)
            self._qemu = None

    def kill(self) -> None:
        """End QEMU now.  What it left is still there to be read: the console.

        QEMU alone comes first, so that virtme-run can wait for it and leave:
        where process 1 does not reap, an orphan would stay as a zombie.
        """
        if self._find_qemu() and self._qemu is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._qemu, signal.SIGKILL)
            if self.console.join(LEAVE_SECONDS):
                return
        self._terminal.end()
        if not self.console.join(END_SECONDS):
            raise InfraError(f"process group {self._terminal.leader}: does not die of SIGKILL")

    def _end(self) -> None:
        """kill(), for the way out: what cannot be ended is said, the rest is closed."""
        with signals_held():
            self.kill()

    def close(self) -> None:
        """End QEMU, close every port, keep the records.  Again is allowed."""
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
