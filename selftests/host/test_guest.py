# SPDX-License-Identifier: GPL-2.0-only
"""The guest's command line and its processes, without a guest.

Where a process tree is wanted, a script takes virtme-run's place; that QEMU and
a kernel behave as the script does is tested in selftests/vm.
"""

from __future__ import annotations

import itertools
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from vm import guest as guests
from vm import shell
from vm.accel import Accel
from vm.errors import GuestError, InfraError, UserError, Verdict
from vm.guest import STAGES, Guest, GuestSpec, find_virtme_run, load_options, virtme_command

TCG = Accel(kind="tcg", reason="a test", tsc_khz=2100000)
KVM = Accel(kind="kvm", reason="a test")

Make = Callable[..., GuestSpec]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A GuestSpec of files that exist, changed as a test wants it."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "program").touch(mode=0o755)
    image = tmp_path / "vmlinux"
    image.write_bytes(b"\x7fELF....Linux version 6.12.117 (a@b) #1")

    def spec(**changes: object) -> GuestSpec:
        fields: dict[str, object] = {
            "image": image,
            "root": root,
            "program": "/program",
            "accel": TCG,
            "log_dir": tmp_path / "log",
            **changes,
        }
        return GuestSpec(**fields)  # type: ignore[arg-type]

    return spec


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"image": Path("/nowhere/vmlinux")}, "no such kernel image"),
        ({"program": "/missing"}, "no program of that name"),
        ({"program": "program"}, "no program of that name"),
        ({"ports": ()}, "at least one"),
        ({"ports": ("a", "a")}, "each named once"),
        ({"ports": ("a,b",)}, "make a name"),
        ({"ports": ("",)}, "make a name"),
        ({"cpus": 0}, "cannot run"),
        ({"memory": 8}, "cannot run"),
        ({"kernel_args": ('a="b"',)}, "quotes"),
    ],
)
def test_what_no_guest_can_be_made_of(
    make: Make, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        make(**changes)


def options(command: list[str], name: str) -> list[str]:
    """The arguments of every occurrence of an option."""
    return [after for word, after in itertools.pairwise(command) if word == name]


def test_tcg(make: Make) -> None:
    command = virtme_command(make(ports=("a.0", "b.0")), {"a.0": 7, "b.0": 9})
    assert "--disable-kvm" in command
    assert options(command, "-machine") == ["q35,accel=tcg"]
    assert options(command, "-chardev") == ["socket,id=a.0,fd=7", "socket,id=b.0,fd=9"]
    assert options(command, "--memory") == ["256M"]
    assert "virtio-serial-pci,id=ports,max_ports=3" in options(command, "-device")
    kernel = options(command, "--kopt")
    assert "nolapic_timer" in kernel
    assert "tsc_early_khz=2100000" in kernel
    assert kernel.index("loglevel=7") < kernel.index("earlyprintk=ttyS0")


def test_kvm(make: Make) -> None:
    command = virtme_command(make(accel=KVM, kernel_args=("a=b",)), {"extsys.0": 7})
    assert "--disable-kvm" not in command
    assert options(command, "-machine") == ["q35,accel=kvm"]
    kernel = options(command, "--kopt")
    assert "nolapic_timer" not in kernel
    assert not [argument for argument in kernel if argument.startswith("tsc")]
    assert kernel[-1] == "a=b"


def test_two_cpus_keep_their_timers(make: Make) -> None:
    command = virtme_command(make(cpus=2), {"extsys.0": 7})
    assert options(command, "--cpus") == ["2,sockets=2,cores=1,threads=1"]
    assert "nolapic_timer" not in options(command, "--kopt")


def test_an_image_that_is_compressed_is_named_to_virtme_run(make: Make, tmp_path: Path) -> None:
    image = tmp_path / "bzImage"
    image.write_bytes(b"MZ")
    command = virtme_command(make(image=image), {"extsys.0": 7})
    assert options(command, "--kimg") == [str(image)]
    assert not options(command, "-kernel")
    command = virtme_command(make(), {"extsys.0": 7})
    assert options(command, "--kimg") == [str(tmp_path / "log" / "kernel-version")]
    assert options(command, "-kernel") == [str(tmp_path / "vmlinux")]


def test_every_option_has_its_reason() -> None:
    known = {"kvm", "tcg", "up", "elf", "tsc"}
    table = load_options()
    assert set(table) == {"virtme", "kernel", "qemu", "port"}
    for row in (row for rows in table.values() for row in rows):
        assert set(row) <= {"words", "reason", "for"}
        assert row["words"]
        assert len(row["reason"]) > 10
        assert set(row.get("for", ())) <= known


def test_virtme_run_knows_every_option(make: Make, tmp_path: Path) -> None:
    """The installed virtme-run, asked for its QEMU command alone."""
    spec = make(kernel_args=("a=b",))
    spec.log_dir.mkdir()
    guests._write_stand_in(spec)
    command = virtme_command(spec, {"extsys.0": 7})
    at = command.index("--qemu-opts")
    command[at:at] = ["--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    qemu = shlex.split(done.stdout)
    assert qemu[qemu.index("-m") + 1] == "256M"
    assert options(qemu, "-kernel")[-1] == str(spec.image)
    append = options(qemu, "-append")[0]
    assert guests.SPILL not in append
    # What is ours comes behind what is virtme-run's: the last word counts.
    assert append.index("quiet") < append.index("loglevel=7") < append.index("a=b")
    assert append.rindex("rootflags=") > append.index("msize=524288")
    assert not list(spec.root.glob("virtme-init-*"))


# Processes.  The script that takes virtme-run's place has a child, as virtme-run
# has QEMU, in the foreground of the same terminal.

BOOT = """\
/usr/bin/qemu -append x
[    0.000000] Linux version 6.12.117
[    0.100000] Run /bin/sh as init process
[    0.200000] virtme-ng-init: initialization done
"""

VIRTME_RUN = """\
#!{python}
import signal, subprocess, sys
if {stubborn}:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
qemu = subprocess.Popen([sys.executable, "{folder}/qemu.py", "-append", "x"])
status = qemu.wait()
while {stubborn}:
    signal.pause()
sys.exit(-status if status < 0 else 0)
"""

QEMU = """\
import sys, time
sys.stdout.write(open("{folder}/say").read())
sys.stdout.flush()
time.sleep({seconds})
"""


@pytest.fixture
def virtme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a script in virtme-run's place."""
    path = tmp_path / "virtme-run"

    def script(say: str = BOOT, *, seconds: float = 1000, stubborn: bool = False) -> None:
        names = {"python": sys.executable, "folder": tmp_path}
        (tmp_path / "say").write_text(say)
        (tmp_path / "qemu.py").write_text(QEMU.format(seconds=seconds, **names))
        path.write_text(VIRTME_RUN.format(stubborn=stubborn, **names))
        path.chmod(0o755)

    monkeypatch.setattr(guests, "find_virtme_run", lambda: path)
    return script


def descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that process 1 has not reaped has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def wait_gone(pid: int, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if gone(pid):
            return True
        time.sleep(0.02)
    return False


def test_without_a_greeting(make: Make, virtme: Callable[..., None]) -> None:
    virtme()
    before = descriptors()
    threads = threading.active_count()
    spec = make(greets=False)
    with Guest.boot(spec, 10) as guest:
        pid = guest.qemu_pid
        assert guest.alive
        guest.check()
        assert set(guest.ports) == {"extsys.0"}
        assert guest.qemu_command == ("/usr/bin/qemu", "-append", "x")
    assert wait_gone(pid)
    assert descriptors() == before
    assert threading.active_count() == threads
    records = {path.name for path in spec.log_dir.iterdir()}
    assert records == {
        "accel.txt",
        "console.log",
        "kernel-version",
        "qemu-command.txt",
        "stderr.log",
        "virtme-command.txt",
    }
    assert (spec.log_dir / "kernel-version").read_text() == "Linux version 6.12.117\n"
    assert (spec.log_dir / "accel.txt").read_text() == "tcg: a test\n"
    guest.close()  # again is allowed


@pytest.mark.parametrize(
    ("stage", "complaint"),
    [
        (0, "virtme-run has not started QEMU"),
        (1, "the kernel printed no line"),
        (2, "it started no init"),
        (3, "virtme-ng's init is not done"),
        (4, "/program was started, but said nothing on extsys.0"),
    ],
)
def test_each_stage_has_its_message(
    make: Make, virtme: Callable[..., None], stage: int, complaint: str
) -> None:
    assert len(STAGES) == 4
    virtme("".join(BOOT.splitlines(keepends=True)[:stage]))
    started = time.monotonic()
    with pytest.raises(GuestError, match=complaint) as caught:
        Guest.boot(make(), 1.0)
    assert 1.0 <= time.monotonic() - started < 3
    assert caught.value.verdict is Verdict.HANG
    assert str(caught.value).endswith("within 1 s")
    assert len(caught.value.console_tail) == stage


def test_a_panic_while_booting(make: Make, virtme: Callable[..., None]) -> None:
    virtme(f"{BOOT}[    0.300000] Kernel panic - not syncing: so\n", seconds=0)
    with pytest.raises(GuestError, match="Kernel panic - not syncing: so") as caught:
        Guest.boot(make(), 10)
    assert caught.value.verdict is Verdict.PANIC
    assert caught.value.console_tail[-1].endswith("so")


def test_qemu_that_ends_while_booting(make: Make, virtme: Callable[..., None]) -> None:
    virtme("/usr/bin/qemu -append x\n", seconds=0)
    with pytest.raises(
        GuestError, match="the kernel printed no line: QEMU ended by itself"
    ) as caught:
        Guest.boot(make(), 10)
    assert caught.value.verdict is Verdict.LOST


def test_qemu_that_is_killed(make: Make, virtme: Callable[..., None]) -> None:
    virtme()
    with Guest.boot(make(greets=False), 10) as guest:
        os.kill(guest.qemu_pid, signal.SIGKILL)
        poll = select.poll()
        poll.register(guest, select.POLLIN)
        assert poll.poll(2000)
        assert not guest.alive
        with pytest.raises(GuestError, match="QEMU was ended by SIGKILL") as caught:
            guest.check()
        assert caught.value.verdict is Verdict.LOST


def test_a_virtme_run_that_does_not_leave(make: Make, virtme: Callable[..., None]) -> None:
    """Its child is killed, and it is too: its whole group."""
    virtme(stubborn=True, seconds=1000)
    with Guest.boot(make(greets=False), 10) as guest:
        pid = guest.qemu_pid
    assert wait_gone(pid)


def test_arguments_that_would_spill(make: Make, virtme: Callable[..., None]) -> None:
    virtme("/usr/bin/qemu -append init=/bin/sh /virtme-init-abc\n")
    with pytest.raises(UserError, match="kernel arguments too long"):
        Guest.boot(make(), 10)


def test_ctrl_c_while_booting(make: Make, virtme: Callable[..., None], tmp_path: Path) -> None:
    virtme("/usr/bin/qemu -append x\n")
    threading.Timer(0.7, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    before = descriptors()
    with pytest.raises(KeyboardInterrupt):
        Guest.boot(make(), 20)
    assert descriptors() == before


KILLED = """\
import sys, time
from pathlib import Path
from vm import guest
from vm.accel import Accel
guest.find_virtme_run = lambda: Path(sys.argv[1])
root = Path(sys.argv[2])
spec = guest.GuestSpec(image=root.parent / "vmlinux", root=root, program="/program", greets=False,
                       accel=Accel(kind="tcg", reason="x"), log_dir=root.parent / "log")
booted = guest.Guest.boot(spec, 10)
print(booted.qemu_pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("nohup", [False, True])
@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_we_are_killed(
    make: Make,
    virtme: Callable[..., None],
    tmp_path: Path,
    deadly: signal.Signals,
    nohup: bool,
) -> None:
    """The terminal hangs up, and takes virtme-run and QEMU along."""
    virtme()
    spec = make(greets=False)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "virtme-run"), str(spec.root)]
    with subprocess.Popen(
        ["nohup", *command] if nohup else command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as proc:
        assert proc.stdout is not None
        qemu = int(proc.stdout.readline())
        parent = int(Path(f"/proc/{qemu}/stat").read_text().rpartition(")")[2].split()[1])
        assert not gone(qemu)
        proc.send_signal(deadly)
        proc.wait()
        assert wait_gone(qemu)
        assert wait_gone(parent)


def test_no_virtme_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_virtme_run().name == "virtme-run"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfraError, match="virtme-run: not found"):
        find_virtme_run()


def test_a_child_that_is_gone_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """virtme-run asks QEMU for its version; that child may be reaped while it is looked at."""
    opened: list[int] = []
    pidfd_open = os.pidfd_open

    def ended_meanwhile(pid: int) -> int:
        fd = pidfd_open(pid)
        opened.append(fd)
        child.kill()
        child.wait()
        return fd

    guest = Guest.__new__(Guest)
    guest._qemu = None
    guest._terminal = types.SimpleNamespace(leader=os.getpid())  # type: ignore[assignment]
    with subprocess.Popen(["sleep", "100"]) as child:
        monkeypatch.setattr(os, "pidfd_open", ended_meanwhile)
        assert not guest._find_qemu()
    assert opened
    for fd in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


# The shell.


@pytest.mark.parametrize(("chosen", "without_kvm"), [(TCG, True), (KVM, False)])
def test_the_command_for_a_shell(tmp_path: Path, chosen: Accel, without_kvm: bool) -> None:
    argv = shell.command(
        tmp_path / "bzImage", chosen, session=tmp_path / "session", programs=tmp_path, overlay=True
    )
    assert options(argv, "--root") == ["/"]
    assert ("--disable-kvm" in argv) == without_kvm
    assert options(argv, "-machine") == [f"q35,accel={chosen.kind}"]
    assert "/usr" in options(argv, "--overlay-rwdir")
    assert f"PATH={tmp_path}:{shell.DEFAULT_PATH}" in options(argv, "--kopt")
    assert "--rw" not in argv
    argv = shell.command(tmp_path / "bzImage", chosen, session=tmp_path / "session")
    assert not options(argv, "--overlay-rwdir")
    assert not options(argv, "--kopt")


def test_a_shell_wants_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/null").open() as null:
        monkeypatch.setattr(sys, "stdin", null)
        with pytest.raises(UserError, match="no terminal") as caught:
            shell.interactive(tmp_path / "bzImage", TCG, cache=tmp_path)
    assert caught.value.exit_code == 2
    assert len(caught.value.lines()) == 2
