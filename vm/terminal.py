# SPDX-License-Identifier: GPL-2.0-only
"""A program on a pseudo-terminal of its own: what a guest runs in, and is ended with.

The terminal's master is this process's.  When this process dies, the kernel
closes it and hangs up the terminal: the program, its session's leader, gets
SIGHUP (drivers/tty/tty_io.c:__tty_hangup).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pexpect


class Terminal(pexpect.spawn):  # type: ignore[type-arg]  # generic for type checkers only
    """A program on its pseudo-terminal, as a console's source.

    The console's thread reads it; any thread may signal it.  The lock keeps
    waitpid() and kill() apart, so that no signal goes to another's process.
    """

    ptyproc: Any  # pexpect's stubs leave it out
    leader: int  #: the program, and the process group of all that it starts

    def __init__(
        self,
        command: list[str],
        *,
        pass_fds: tuple[int, ...],
        stderr: int | None = None,
        environment: Mapping[str, str] | None = None,
        mask: set[signal.Signals],
    ) -> None:
        """Start ``command``, with ``pass_fds`` open under the same numbers.

        ``stderr`` is a descriptor to have for one, else it is the terminal;
        ``environment`` is on top of this process's;
        ``mask``: the signals that it is to have blocked.
        """
        self._pass_fds = pass_fds if stderr is None else (*pass_fds, stderr)
        self._guard = threading.Lock()

        def in_child() -> None:
            for fd in pass_fds:
                os.set_inheritable(fd, True)
            if stderr is not None:
                os.dup2(stderr, 2)
                os.close(stderr)
            # `nohup` would be inherited, and the program outlive us.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

        env = {name: value for name, value in os.environ.items() if name != "TERM"}
        env["PATH"] = f"{Path(command[0]).parent}:{env.get('PATH', os.defpath)}"
        env |= environment or {}
        with warnings.catch_warnings():
            # Python 3.12 warns of forkpty() beside threads; the child does no more
            # than what in_child() does, and executes.
            warnings.simplefilter("ignore", DeprecationWarning)
            super().__init__(
                command[0], command[1:], timeout=None, echo=False, env=env, preexec_fn=in_child
            )
        assert self.pid is not None
        self.leader = self.pid
        os.set_inheritable(self.child_fd, False)
        # Waits that are for programs which heed SIGHUP; see end().
        self.ptyproc.delayafterclose = 0.0

    def _spawnpty(self, args: list[str], **kwargs: Any) -> Any:
        """Hand on further descriptors, which pexpect's own constructor cannot."""
        spawn = super()._spawnpty  # type: ignore[misc]  # left out of the stubs
        return spawn(args, pass_fds=self._pass_fds, **kwargs)

    def read(self, size: int = 65536) -> bytes:
        """The next bytes of the console; none at its end."""
        with self._guard:
            try:
                data = self.read_nonblocking(size, timeout=0)
            except pexpect.TIMEOUT:  # poll() was wrong: a hangup that has been taken back
                return b"" if not self.isalive() else b"\n"
            except pexpect.EOF:
                return b""
        assert isinstance(data, bytes)
        return data

    def end(self) -> None:
        """SIGKILL to the program and all that it started."""
        with self._guard:
            if not self.terminated:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.leader, signal.SIGKILL)


def signal_name(number: int) -> str:
    """SIGKILL for 9; the number for one that has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def signals_held() -> Iterator[set[signal.Signals]]:
    """Put off Ctrl-C and SIGTERM until the block has ended.

    The block is given the mask that was before.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield {signal.Signals(number) for number in before}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def has_data(sock: socket.socket) -> bool:
    """Whether a readable socket has a byte, and not only its end."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except ConnectionResetError:
        return False
