# SPDX-License-Identifier: GPL-2.0-only
"""One run of a kernel tree's `make`: out of tree, watched, logged, ended whole."""

from __future__ import annotations

import dataclasses
import os
import re
import resource
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from vm import proc
from vm.cache import Lock
from vm.deadline import Deadline
from vm.errors import BuildError, InfraError
from vm.progress import step

#: What of this process's environment `make` sees.  Little: MAKEFLAGS (we are
#: often run by make), ARCH, KCFLAGS or LLVM would change the kernel, and the
#: key that it is cached under knows nothing of them.
ENVIRONMENT = ("PATH", "HOME", "TMPDIR")

#: Fixed, so that the same input gives the same kernel, bit by bit
#: (Documentation/kbuild/reproducible-builds.rst).
REPRODUCIBLE = (
    "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER=extsys",
    "KBUILD_BUILD_HOST=extsys",
    "KBUILD_BUILD_VERSION=1",
    "LOCALVERSION=",
)

#: The compiler's options for gcov: with them it writes a file beside the object.
COUNTING = ("-fprofile-arcs", "-ftest-coverage")

#: ccache(1), where the machine has it: an object whose preprocessed source is an old one's is
#: taken from there.  make compares dates instead: of a changed number of a system call, nearly
#: every object has to be made anew, and nearly all come out the same.
CCACHE = "ccache"
#: What it may take; the objects of one configuration are some 30 MiB.
CCACHE_SIZE = "2G"

#: For one object, in seconds.
DESCRIBE_SECONDS = 120.0

#: How long before the last file of a make that was killed all files are taken for
#: cut.  They are on the disk after half a minute (dirty_expire_centisecs), should
#: it have been the machine that went away; and no tool writes one file for longer.
UNSETTLED_SECONDS = 60.0

#: How many of the compiler's errors a message shows.
SHOWN_ERRORS = 5

_ERROR = re.compile(r"\b(?:fatal )?error:|undefined reference|multiple definition")
_MAKE_ERROR = re.compile(r"\*\*\* |\bError \d+$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run of make took."""

    cpu: float = 0.0  #: user and system seconds of make and all below it
    wall: float = 0.0  #: seconds on the clock
    lines: int = 0  #: lines that it printed

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            cpu=self.cpu + other.cpu, wall=self.wall + other.wall, lines=self.lines + other.lines
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Make:
    """How a tree is built: where from, where to, and who may not be in the way.

    ``lock`` guards ``objects``; every make inherits it, so that one which
    outlives this process keeps the next run out of its object tree.
    """

    tree: Path
    objects: Path
    log: Path  #: all that every make printed, one after the other
    jobs: int
    lock: Lock
    arch: str = "x86_64"
    args: tuple[str, ...] = ()  #: variables on its command line
    ccache: Path | None = None  #: where it keeps objects

    @property
    def marker(self) -> Path:
        """A file that is there while a make runs, and after one was killed."""
        return self.objects.with_name(f"{self.objects.name}.building")

    def describe(self, name: str, result: Path) -> bool:
        """Compile an object that make has built once more, with DWARF, to ``result``.

        The command is the one that make itself has left beside the object
        (scripts/Kbuild.include: savedcmd_).  False when the kernel has no such
        object: its option is off.  Raises BuildError when it does not compile.
        """
        saved = self.objects / Path(name).with_name(f".{Path(name).name}.cmd")
        if not saved.exists():
            return False
        first = saved.read_text().partition("\n")[0]
        command = shlex.split(first.partition(":=")[2].partition(";")[0])
        if command[0] == CCACHE:
            del command[0]
        output = command.index("-o")
        command[output + 1] = str(result)
        command = [
            word for word in command if not word.startswith("-Wp,-MMD") and word not in COUNTING
        ]
        done = proc.run(
            [*command, "-gdwarf-4"], cwd=self.objects, timeout=DESCRIBE_SECONDS, check=False
        )
        if done.code:
            raise BuildError(f"{name} does not compile with DWARF:\n{done.out.strip()}")
        return True

    def argv(self, *goals: str) -> list[str]:
        # make cleans up after itself on SIGTERM; this sees that it gets one
        # even when this process is killed without a chance to send it.
        guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        return [
            *guard,
            *("make", "-C", str(self.tree), f"O={self.objects}", f"ARCH={self.arch}"),
            f"-j{self.jobs}",
            *REPRODUCIBLE,
            *(("CC=ccache gcc",) if self.ccache and shutil.which(CCACHE) else ()),
            *self.args,
            *goals,
        ]

    def run(self, *goals: str, title: str, seconds: float, total: int | None = None) -> Cost:
        """Make ``goals``; ``total`` is how many lines it is expected to print.

        Raises BuildError with the first errors when make fails, InfraError
        when it does not end within ``seconds``.
        """
        argv = self.argv(*goals)
        proc.show(argv)
        deadline = Deadline.after(seconds, title)
        start, before = time.monotonic(), _children_cpu()
        env = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        if self.ccache:
            env |= {"CCACHE_DIR": str(self.ccache), "CCACHE_MAXSIZE": CCACHE_SIZE}
        self.objects.mkdir(parents=True, exist_ok=True)
        with step(title) as progress, self.log.open("ab") as log:
            log.write(f"+ {argv}\n".encode())
            log.flush()
            begin = log.tell()
            self.marker.touch()
            try:
                child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={**env, "LC_ALL": "C"},
                    start_new_session=True,
                    pass_fds=(self.lock.fd,),
                )
            except FileNotFoundError as exc:
                raise InfraError(
                    f"{argv[0]}: not found", hint="`make doctor` names the package"
                ) from exc
            try:
                lines = 0
                for data in _output(child, deadline):
                    log.write(data)
                    lines += data.count(b"\n")
                    note = data.splitlines()[-1].decode(errors="replace").strip()
                    progress.at(lines, total, note)
                child.wait(timeout=deadline.left + proc.GRACE)
            except BaseException:
                proc.end_group(child)
                raise
            finally:
                if child.stdout:
                    child.stdout.close()
                # A make that ended by itself, or on SIGTERM, has deleted what
                # it had half written.  One that was killed has not.
                if child.poll() not in (None, -signal.SIGKILL):
                    self.marker.unlink()
        cost = Cost(cpu=_children_cpu() - before, wall=time.monotonic() - start, lines=lines)
        if child.returncode != 0:
            output = self.log.read_bytes()[begin:].decode(errors="replace")
            raise BuildError(
                f"{title}: make {' '.join(goals)} failed (exit code {child.returncode}): "
                + first_errors(output),
                hint=f"the whole log: {self.log}",
            )
        return cost


def unfinished(files: Mapping[str, os.stat_result], *, since: float) -> list[str]:
    """What of an object tree's files a make that was killed may have cut short.

    ``since`` is when that make began, in seconds of the epoch: what is older is
    not its.  Kbuild takes an object that is newer than its sources for a good
    one, also when the compiler was killed in the middle of it; but it notes the
    command beside it when that has ended (scripts/Kbuild.include: if_changed),
    so an object that is newer than its note is none.  What was written last is
    taken for cut in any case.
    """
    last = max((info.st_mtime for info in files.values()), default=0.0)
    found = []
    for name, info in files.items():
        if info.st_mtime < since:
            continue
        folder, _, base = name.rpartition("/")
        note = files.get(f"{folder}/.{base}.cmd" if folder else f".{base}.cmd")
        unnoted = note is not None and note.st_mtime_ns < info.st_mtime_ns
        if unnoted or info.st_mtime >= last - UNSETTLED_SECONDS:
            found.append(name)
    return found


def _output(child: subprocess.Popen[bytes], deadline: Deadline) -> Iterator[bytes]:
    """What ``child`` prints, as it comes.  Raises InfraError at the deadline."""
    assert child.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=deadline.left):
                raise InfraError(f"{deadline.what}: no end within {deadline.seconds:g} s")
            data = os.read(child.stdout.fileno(), 1 << 16)
            if not data:
                return
            yield data


def _children_cpu() -> float:
    """User and system seconds of all children that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def first_errors(output: str) -> str:
    """The first errors in make's output: the compiler's, else make's own."""
    lines = [line.strip() for line in output.splitlines()]
    for pattern in (_ERROR, _MAKE_ERROR):
        if found := [line for line in lines if pattern.search(line)]:
            more = f" | and {len(found) - SHOWN_ERRORS} more" if len(found) > SHOWN_ERRORS else ""
            return " | ".join(found[:SHOWN_ERRORS]) + more
    return " | ".join(lines[-SHOWN_ERRORS:]) or "it printed nothing"
