# SPDX-License-Identifier: GPL-2.0-only
"""KVM or TCG: believed when a kernel has spoken, not when a device is there.

There are hosts whose /dev/kvm opens, creates VMs and even runs an instruction,
and on which no Linux ever boots: QEMU aborts on an MSR, or spins, or the kernel
speaks after seconds and dies of an instruction that the host cannot emulate
while it sets up its memory.  So KVM is used only where the kernel at hand has
printed its first line under it within a deadline, and has then come to the end
of its own start within another.  The proof takes a second where KVM works, and
is remembered until the host boots anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import re
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from vm.deadline import Deadline
from vm.errors import InfraError, NoKvmError, UserError
from vm.guestroot import compile_program
from vm.paths import VM
from vm.proc import run, show

Kind = Literal["kvm", "tcg"]

KVM_DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

CPUINFO = Path("/proc/cpuinfo")

#: The file in the cache that holds the answer.
CACHE_NAME = "accel.json"

#: The file in the cache that holds the host's TSC frequency, and what measures it.
TSC_NAME = "tsc.json"
TSC_SOURCE = VM / "guest" / "tsc.c"

#: How long a kernel may take to its first line, in seconds.  Seen: 0.2 under TCG
#: and less under a KVM that works; 4 to 6 under one that does not.  The deadline
#: is for the KVM that never says a word; it is generous since QEMU itself starts
#: slowly where the host is a guest.
FIRST_LINE_SECONDS = 12.0

#: How long it may take until it looks for a root, in seconds from QEMU's start.
#: Seen: 0.6 under TCG, so that a KVM which needs longer is of no use either way.
END_SECONDS = 20.0

#: Both deadlines are this many times as long when KVM is insisted on: then being
#: slow is no reason to refuse it.  A KVM within emulation needs this.
PATIENCE = 4.0

#: What the kernel's first line holds: init/version.c:linux_banner.
FIRST_LINE = b"Linux version "

#: What says that the kernel came to its end without a root, which the probe does
#: not give it: init/do_mounts.c, init/main.c:kernel_init.
END = re.compile(
    rb"Kernel panic - not syncing: (?:VFS: |No working init|Requested init )"
    rb"|Freeing unused kernel image \(initmem\)"
    rb"|Run /\S+ as init process"
)

#: QEMU says so on its stderr, and stops the guest: accel/kvm/kvm-all.c.
DEAD = b"KVM internal error"

#: Bare QEMU under KVM, with no device but a serial port.  Each with its reason.
PROBE_OPTIONS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("-machine", "q35,accel=kvm"), "kvm alone: no falling back to TCG in silence"),
    (("-cpu", "host"), "what virtme-run asks for; a lying KVM aborts on its MSRs"),
    (("-m", "256"), "MiB; enough for any kernel without a root"),
    (("-nodefaults", "-no-user-config"), "no device that could be in the way"),
    (("-display", "none"), "no window"),
    (("-no-reboot",), "the panic at the end ends QEMU too"),
    (("-serial", "file:/proc/self/fd/1"), "the pipe; never stdio, which would want a stdin"),
)

#: Kernel arguments of the probe: all it says, over the first serial port.  The log
#: level comes first, since earlyprintk prints at once what was logged before it.
PROBE_APPEND = "loglevel=7 earlyprintk=ttyS0 console=ttyS0 panic=-1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accel:
    """How QEMU runs the guest's instructions, and why so."""

    kind: Kind
    reason: str  #: one line
    tsc_khz: int | None = None  #: under TCG: what the guest's TSC will run at

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a probe found."""

    works: bool
    reason: str


def choose(
    requested: str,
    image: Path,
    *,
    cache: Path,
    qemu: str = "qemu-system-x86_64",
    device: Path = KVM_DEVICE,
) -> Accel:
    """Decide between KVM and TCG for ``image`` (a vmlinux with PVH, or a bzImage).

    ``requested`` is "auto", "kvm" or "tcg".  ``cache`` is the directory in
    which the answer is remembered for this boot of the host; "kvm" asks anew
    when the answer was no.

    Raises UserError for any other word, NoKvmError when "kvm" is insisted on
    and no kernel boots under it, and InfraError when QEMU is missing.
    """
    if requested == "tcg":
        return Accel(kind="tcg", reason="asked for", tsc_khz=tsc_khz(cache))
    if requested not in ("auto", "kvm"):
        raise UserError(
            f"ACCEL={requested}: not a way to run a guest", hint="ACCEL=auto, kvm or tcg"
        )
    insist = requested == "kvm"
    answer = _obstacle(device)
    if answer is None:
        key = _key(qemu, device)
        answer = _remembered(cache / CACHE_NAME, key)
        if answer is None or (insist and not answer.works):
            answer = probe(image, qemu=qemu, patience=PATIENCE if insist else 1.0)
            _remember(cache / CACHE_NAME, key, answer)
    if answer.works:
        return Accel(kind="kvm", reason=answer.reason)
    if insist:
        raise NoKvmError(
            f"ACCEL=kvm: {answer.reason}", hint="ACCEL=auto runs the guest under TCG instead"
        )
    return Accel(kind="tcg", reason=answer.reason, tsc_khz=tsc_khz(cache))


def tsc_khz(cache: Path) -> int | None:
    """The frequency of the host's TSC, in kHz; None when it is not constant.

    Under TCG rdtsc gives the host's counter (QEMU: cpu_get_host_ticks()), so
    this is the guest's as well.  Measured once for each boot of the host.
    """
    flags = re.search(r"^flags\s*:(.*)$", CPUINFO.read_text(), re.MULTILINE)
    if flags is None or not {"constant_tsc", "nonstop_tsc"}.issubset(flags[1].split()):
        return None
    path = cache / TSC_NAME
    boot = BOOT_ID.read_text().strip()
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text())
        if kept["boot"] == boot:
            return int(kept["khz"])
    with tempfile.TemporaryDirectory(prefix="tsc-") as scratch:
        program = compile_program(TSC_SOURCE, Path(scratch) / "tsc")
        khz = int(run([program], timeout=20, quiet=True).out)
    _write_whole(path, {"boot": boot, "khz": khz})
    return khz


def _obstacle(device: Path) -> Answer | None:
    """Why KVM cannot be used, as far as that is seen without trying it."""
    if platform.machine() != "x86_64":
        return Answer(works=False, reason=f"the host is {platform.machine()}, the guest x86-64")
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Answer(works=False, reason=f"there is no {device}")
    except PermissionError:
        mode = stat.filemode(device.stat().st_mode)
        return Answer(works=False, reason=f"no permission to open {device} ({mode})")
    except OSError as exc:
        return Answer(works=False, reason=f"{device} cannot be opened: {exc.strerror}")
    return None


def _key(qemu: str, device: Path) -> Mapping[str, str]:
    """What an answer depends on; another boot, QEMU or device asks anew."""
    version = run([qemu, "--version"], timeout=20, quiet=True).out.splitlines()[0]
    node = device.stat()
    return {
        "boot": BOOT_ID.read_text().strip(),
        "qemu": version,
        "device": f"{node.st_dev}:{node.st_ino}:{node.st_rdev}",
    }


def _remembered(path: Path, key: Mapping[str, str]) -> Answer | None:
    try:
        kept = json.loads(path.read_text())
        if kept["key"] == key:
            return Answer(works=bool(kept["works"]), reason=f"{kept['reason']} (remembered)")
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # never asked, or not what this version wrote: ask again
    return None


def _remember(path: Path, key: Mapping[str, str], answer: Answer) -> None:
    _write_whole(path, {"key": key, **dataclasses.asdict(answer)})


def _write_whole(path: Path, value: object) -> None:
    """Write JSON, whole or not at all: two runs may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as fresh:
        json.dump(value, fresh, indent=1)
    Path(fresh.name).replace(path)


def probe(
    image: Path,
    *,
    qemu: str = "qemu-system-x86_64",
    options: Sequence[tuple[tuple[str, ...], str]] = PROBE_OPTIONS,
    patience: float = 1.0,
) -> Answer:
    """Boot ``image`` under KVM until it looks for a root, and say how it went.

    ``patience`` multiplies both deadlines.  Raises InfraError without QEMU.
    """
    program = shutil.which(qemu)
    if program is None:
        raise InfraError(f"{qemu}: not found", hint="`make doctor` names the package that has it")
    argv = [program, *(word for words, _ in options for word in words)]
    argv += ["-kernel", str(image), "-append", PROBE_APPEND]
    show(argv)
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as proc:
        try:
            return _Probe(proc, patience).answer()
        finally:
            # SIGKILL at once: under a KVM that lies QEMU may not heed a SIGTERM.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(proc.pid, signal.SIGKILL)
            proc.wait()


class _Probe:
    """The two streams of a QEMU on probation."""

    def __init__(self, proc: subprocess.Popen[bytes], patience: float) -> None:
        assert proc.stdout is not None
        assert proc.stderr is not None
        self._proc = proc
        self._out = proc.stdout.fileno()
        self._heard = {self._out: b"", proc.stderr.fileno(): b""}
        self._err = proc.stderr.fileno()
        self._started = time.monotonic()
        self._first = Deadline.after(FIRST_LINE_SECONDS * patience, "no kernel output under KVM")
        self._end = Deadline.after(
            END_SECONDS * patience, "the kernel spoke under KVM, but did not finish its start"
        )
        self._poll = select.poll()
        for fd in self._heard:
            self._poll.register(fd, select.POLLIN)
        self._open = len(self._heard)

    def answer(self) -> Answer:
        """Listen until it is clear whether a kernel boots."""
        for deadline, heard in ((self._first, self._spoken), (self._end, self._finished)):
            while not heard():
                if deadline.passed:
                    return Answer(works=False, reason=str(deadline))
                if DEAD in self._heard[self._err] or not self._listen(deadline):
                    if heard():
                        break
                    return Answer(works=False, reason=self._complaint())
        took = time.monotonic() - self._started
        return Answer(works=True, reason=f"the kernel booted under KVM, in {took:.1f} s")

    def _spoken(self) -> bool:
        return FIRST_LINE in self._heard[self._out]

    def _finished(self) -> bool:
        return END.search(self._heard[self._out]) is not None

    def _listen(self, deadline: Deadline) -> bool:
        """Take what comes; False when both streams are at their end."""
        for fd, _ in self._poll.poll(deadline.left * 1000):
            data = os.read(fd, 65536)
            self._heard[fd] += data
            if not data:
                self._poll.unregister(fd)
                self._open -= 1
        return self._open > 0

    def _complaint(self) -> str:
        said = self._heard[self._err].decode(errors="replace").strip().splitlines()
        when = "after the kernel's first line" if self._spoken() else "before the kernel spoke"
        why = said[0] if said else f"exit code {self._proc.wait()}"
        return f"QEMU gave up on KVM {when}: {why}"
