# SPDX-License-Identifier: GPL-2.0-only
"""The one way in which this project starts a subprocess.

Every command is an argument list (no shell), is printed before it runs, has a
deadline, and runs in a process group of its own, which is ended as a whole
when the deadline passes or the user presses Ctrl-C: a `make` that is
interrupted must not leave compilers behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vm.errors import InfraError, LateError

#: How long a process group gets between SIGTERM and SIGKILL, in seconds.
GRACE = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    """A command that ended: its exit code and what it printed."""

    argv: tuple[str, ...]
    code: int  #: exit code; negative: the signal that ended it
    out: str
    seconds_cpu: float = 0.0  #: user + system seconds of it and its children


def show(argv: Sequence[str | Path], *, cwd: Path | None = None) -> None:
    """Print a command as it could be typed, on stderr."""
    where = f"(cd {shlex.quote(str(cwd))}) " if cwd else ""
    print(f"+ {where}{shlex.join(map(str, argv))}", file=sys.stderr, flush=True)


def end_group(proc: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """End the process group that ``proc`` leads: SIGTERM, then SIGKILL."""
    for sig, wait in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(proc.pid, sig)
        with contextlib.suppress(subprocess.TimeoutExpired):
            proc.wait(timeout=wait)
            break
    # The leader is gone; what it left in its group goes too.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(proc.pid, signal.SIGKILL)


@contextlib.contextmanager
def _signals_put_off() -> Iterator[None]:
    """Put off what Ctrl-C and SIGTERM raise until the block has ended.

    Raised within Popen() it would leave a child that nobody knows of.  Held by
    the handlers and not by the mask, which the child would inherit.
    """
    came: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():  # no other runs handlers
        for one in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(one)):
                before[one] = signal.signal(one, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    for number in came:
        signal.raise_signal(number)


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
    log: Path | None = None,
    check: bool = True,
    quiet: bool = False,
) -> Finished:
    """Run a command to its end and return what it printed.

    ``timeout`` is in seconds and mandatory.  ``env`` is added to this
    process's environment.  With ``log`` the output (stdout and stderr as one)
    goes to that file, whole, and ``Finished.out`` is read back from it;
    otherwise it is captured.  ``quiet`` leaves out the echo of the command,
    for probes that would only be noise.

    Raises InfraError when the program is missing, and, with ``check``, when
    its exit code is not 0; LateError, which is one, when it does not end in time.
    """
    args = [str(a) for a in argv]
    if not quiet:
        show(args, cwd=cwd)
    full_env = {**os.environ, **env} if env else None
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(log.open("wb")) if log else subprocess.PIPE
        before = os.times()
        proc: subprocess.Popen[bytes] | None = None
        try:
            with _signals_put_off():
                proc = subprocess.Popen(
                    args,
                    cwd=cwd,
                    env=full_env,
                    stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            data, _ = proc.communicate(
                input.encode() if input is not None else None, timeout=timeout
            )
        except BaseException as exc:
            if proc is not None:
                end_group(proc)
            elif isinstance(exc, FileNotFoundError):
                raise InfraError(
                    f"{args[0]}: not found", hint="`make doctor` names the package that has it"
                ) from exc
            if isinstance(exc, subprocess.TimeoutExpired):
                raise LateError(f"{args[0]}: no end within {timeout:g} s; it was ended") from exc
            raise
        finally:
            if proc is not None and proc.stdout is not None:
                proc.stdout.close()
        after = os.times()
    out = log.read_text(errors="replace") if log else (data or b"").decode(errors="replace")
    done = Finished(
        argv=tuple(args),
        code=proc.returncode,
        out=out,
        seconds_cpu=(after.children_user + after.children_system)
        - (before.children_user + before.children_system),
    )
    if check and done.code != 0:
        tail = "\n".join(done.out.splitlines()[-20:])
        raise InfraError(f"{shlex.join(args)}: exit code {done.code}\n{tail}")
    return done
