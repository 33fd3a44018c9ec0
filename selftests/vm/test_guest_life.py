# SPDX-License-Identifier: GPL-2.0-only
"""Guests that live and die: a real kernel, a real QEMU, and each kind of end."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pexpect
import pytest

from vm import accel
from vm.accel import Accel
from vm.console import read_log
from vm.deadline import Deadline
from vm.errors import GuestError, Verdict
from vm.guest import Guest, GuestSpec
from vm.guestroot import make_root

#: From the start to the greeting, in seconds; it takes one on an idle machine.
BOOT = 60.0
#: For anything that a running guest does at once.
SOON = 20.0

PORT = "extsys.0"

#: The bound on a guest's first answer, in first answers of bare QEMU with a
#: one-file initramfs and the same kernel.
TIMES_BARE = 1.5

Make = Callable[..., GuestSpec]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """life.c, compiled."""
    path = tmp_path_factory.mktemp("life") / "life"
    source = Path(__file__).with_name("life.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-static", "-o", path, source], check=True)
    return path


@pytest.fixture(scope="module")
def root(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_root(
        tmp_path_factory.mktemp("root") / "root",
        {"/life": program, "/not-a-program": Path(__file__)},
    )


@pytest.fixture(scope="module")
def tcg(tmp_path_factory: pytest.TempPathFactory) -> Accel:
    """TCG everywhere: these tests are about ends, and those are the same under both."""
    cache = tmp_path_factory.mktemp("cache")
    return Accel(kind="tcg", reason="for this test", tsc_khz=accel.tsc_khz(cache))


@pytest.fixture
def make(kernel_image: Path, root: Path, tcg: Accel, tmp_path: Path) -> Make:
    """A GuestSpec for life.c."""

    def spec(*args: str, name: str = "guest", program: str = "/life", **more: bool) -> GuestSpec:
        return GuestSpec(
            image=kernel_image,
            root=root,
            program=program,
            accel=tcg,
            log_dir=tmp_path / name,
            kernel_args=args,
            **more,  # type: ignore[arg-type]
        )

    return spec


@pytest.fixture(autouse=True)
def nothing_is_left(root: Path) -> Iterator[None]:
    """No descriptor, temporary file or mount, and the guest's root untouched, after each test."""

    def state() -> tuple[object, ...]:
        temporary = Path(tempfile.gettempdir())
        return (
            sorted(path.name for path in Path("/proc/self/fd").iterdir()),
            {path.name for path in temporary.iterdir() if path.name.startswith("virtme")},
            Path("/proc/self/mounts").read_text(),
            sorted(path.name for path in root.iterdir()),
        )

    before = state()
    yield
    assert state() == before


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has, though process 1 has not reaped it yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def wait_gone(*pids: int, seconds: float) -> bool:
    deadline = Deadline.after(seconds, "the end of processes")
    while not all(map(gone, pids)):
        if deadline.passed:
            return False
        time.sleep(0.02)
    return True


def greeted(guest: Guest) -> socket.socket:
    port = guest.ports[PORT]
    port.settimeout(SOON)
    assert port.recv(6) == b"hello\n"
    return port


def ask(port: socket.socket, text: str) -> str:
    port.sendall(text.encode())
    return port.recv(512).decode()


def wait_trouble(guest: Guest, seconds: float = SOON) -> GuestError:
    """What check() raises as soon as the guest says that it would."""
    poll = select.poll()
    poll.register(guest, select.POLLIN)
    assert poll.poll(seconds * 1000), "nothing was noticed"
    with pytest.raises(GuestError) as caught:
        guest.check()
    return caught.value


def test_a_guest_lives(make: Make) -> None:
    spec = make("life=well")
    with Guest.boot(spec, BOOT) as guest:
        port = greeted(guest)
        assert ask(port, "echo") == "echo"
        assert ask(port, "t") == "0\n", "/tmp is to be written to"
        guest.check()
        assert guest.alive
        pid = guest.qemu_pid
        running = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        assert list(guest.qemu_command) == running
    assert wait_gone(pid, seconds=5)
    command = (spec.log_dir / "qemu-command.txt").read_text()
    assert "accel=tcg" in command
    log = read_log(spec.log_dir / "console.log")
    first = next(line for line in log.lines if line.message)
    assert first.message is not None
    assert first.message.startswith("Linux version ")
    assert not log.events
    assert guest.console.lines == tuple(log.lines)


def test_the_clock_is_fine(make: Make, tcg: Accel) -> None:
    """Also on a busy host, where the kernel cannot calibrate its TSC by itself."""
    if tcg.tsc_khz is None:
        pytest.skip("this machine's TSC is not constant")
    with Guest.boot(make(), BOOT) as guest:
        step = int(ask(greeted(guest), "clock"))
        assert step < 100_000, f"the clock goes in steps of {step} ns"
        unstable = guest.console.wait_for("TSC unstable", Deadline.after(0, "a complaint"))
        assert unstable is None


def test_marks(make: Make) -> None:
    with Guest.boot(make(), BOOT) as guest:
        port = greeted(guest)
        port.sendall(b"kextsys-mark: one\n")
        one = guest.console.mark("one", Deadline.after(SOON, "mark"))
        assert one is not None
        assert port.recv(100) == b"kextsys-mark: one\n"
        ask(port, "p[ not the kernel ] Kernel panic - not syncing: says a program\n")
        ask(port, "kextsys-mark: two\n")
        two = guest.console.mark("two", Deadline.after(SOON, "mark"))
        assert two is not None
        assert "says a program" in "".join(line.text for line in guest.console.since(one))
        assert not guest.console.events_between(one, two)
        guest.check()


def test_qemu_is_killed(make: Make) -> None:
    with Guest.boot(make(), BOOT) as guest:
        port = greeted(guest)
        started = time.monotonic()
        os.kill(guest.qemu_pid, signal.SIGKILL)
        error = wait_trouble(guest)
        assert time.monotonic() - started < 2
        assert error.verdict is Verdict.LOST
        assert "QEMU was ended by SIGKILL" in str(error)
        assert error.console_tail
        assert port.recv(1) == b"", "its port is at its end"
        assert not guest.alive


def test_the_kernel_panics(make: Make) -> None:
    with Guest.boot(make(), BOOT) as guest:
        port = greeted(guest)
        started = time.monotonic()
        port.sendall(b"qc")
        error = wait_trouble(guest)
        assert time.monotonic() - started < 5
        assert error.verdict is Verdict.PANIC
        assert str(error) == "Kernel panic - not syncing: sysrq triggered crash"
        assert any("Kernel panic" in line for line in error.console_tail)
        assert wait_gone(guest.qemu_pid, seconds=5), "a panic ends QEMU"


def test_the_program_says_nothing(make: Make) -> None:
    started = time.monotonic()
    with pytest.raises(GuestError, match=r"/life was started, but said nothing on extsys\.0"):
        Guest.boot(make("life=silent"), 8)
    assert 8 <= time.monotonic() - started < 11


def test_the_program_hangs(make: Make) -> None:
    """The guest is well as far as anyone can say; who waits for an answer has the deadline."""
    with Guest.boot(make(), BOOT) as guest:
        port = greeted(guest)
        port.sendall(b"spin")
        port.settimeout(0.5)
        with pytest.raises(TimeoutError):
            port.recv(1)
        guest.check()
        with pytest.raises(GuestError, match="QEMU has not ended") as caught:
            guest.wait_end(0.2)
        assert caught.value.verdict is Verdict.HANG
        pid = guest.qemu_pid
        started = time.monotonic()
        guest.kill()
        assert time.monotonic() - started < 2
        assert gone(pid)


def test_the_program_reboots(make: Make) -> None:
    with Guest.boot(make(), BOOT) as guest:
        greeted(guest).sendall(b"r")
        guest.wait_end(SOON)
        with pytest.raises(GuestError, match="QEMU ended by itself") as caught:
            guest.check()
        assert caught.value.verdict is Verdict.LOST


def test_the_port_ends(make: Make) -> None:
    """A program that sees the end of its port reboots: the guest is over."""
    with Guest.boot(make(), BOOT) as guest:
        greeted(guest).shutdown(socket.SHUT_WR)
        guest.wait_end(SOON)


def test_a_program_that_cannot_run(make: Make, root: Path) -> None:
    (root / "not-a-program").chmod(0o755)
    with pytest.raises(GuestError, match="/not-a-program: ended with code 127") as caught:
        Guest.boot(make(program="/not-a-program"), BOOT)
    assert caught.value.verdict is Verdict.LOST
    assert any("su: cannot execute: /not-a-program" in line for line in caught.value.console_tail)


def test_the_program_ends(make: Make) -> None:
    """With the kernel well and nobody there: the guest ends, and the host knows why."""
    with Guest.boot(make(), BOOT) as guest:
        greeted(guest).sendall(b"x")
        error = wait_trouble(guest)
        assert error.verdict is Verdict.LOST
        assert str(error) == "/life: ended with code 0"


def test_a_kernel_that_never_speaks(make: Make, tmp_path: Path) -> None:
    """Half a kernel: QEMU runs what there is of it, or refuses it."""
    spec = make()
    half = tmp_path / "half"
    half.write_bytes(b"\x7fELF" + b"\0" * 4096)
    broken = GuestSpec(
        image=half, root=spec.root, program="/life", accel=spec.accel, log_dir=tmp_path / "half-log"
    )
    with pytest.raises(GuestError, match="the kernel printed no line") as caught:
        Guest.boot(broken, 5)
    assert caught.value.verdict in (Verdict.LOST, Verdict.HANG)


def test_kernel_arguments_that_are_too_long(make: Make) -> None:
    from vm.errors import UserError

    with pytest.raises(UserError, match="kernel arguments too long"):
        Guest.boot(make(f"life={'x' * 500}"), BOOT)


def test_a_compressed_image(make: Make, kernel_image: Path, tmp_path: Path) -> None:
    image = kernel_image.with_name("bzImage")
    if not image.exists():
        pytest.skip("this kernel has no bzImage")
    spec = make()
    compressed = GuestSpec(
        image=image, root=spec.root, program="/life", accel=spec.accel, log_dir=tmp_path / "bz"
    )
    with Guest.boot(compressed, BOOT) as guest:
        assert ask(greeted(guest), "echo") == "echo"


def test_two_guests_side_by_side(make: Make) -> None:
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(Guest.boot(make(name="one"), BOOT))
        two = stack.enter_context(Guest.boot(make(name="two"), BOOT))
        ports = [greeted(one), greeted(two)]
        assert [ask(port, f"e{number}") for number, port in enumerate(ports)] == ["e0", "e1"]
        ports[0].sendall(b"qc")
        assert wait_trouble(one).verdict is Verdict.PANIC
        assert ask(ports[1], "e2") == "e2"
        two.check()


def test_ctrl_c(make: Make) -> None:
    def interrupted() -> None:
        with Guest.boot(make(), BOOT) as guest:
            pids.append(guest.qemu_pid)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert wait_gone(*pids, seconds=5)


PARENT = """\
import sys, time
from pathlib import Path
from vm.accel import Accel
from vm.guest import Guest, GuestSpec
image, root, log_dir, life = sys.argv[1:]
spec = GuestSpec(image=Path(image), root=Path(root), program="/life", log_dir=Path(log_dir),
                 accel=Accel(kind="tcg", reason="a test"), kernel_args=("life=" + life,))
guest = Guest.boot(spec, 60)
print(guest.qemu_pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("how", ["plain", "nohup"])
@pytest.mark.parametrize("life", ["well", "deaf"])
def test_our_process_is_killed(
    kernel_image: Path, root: Path, tmp_path: Path, life: str, how: str
) -> None:
    """QEMU is gone soon after, also when the program takes no notice, also under nohup."""
    command = [sys.executable, "-c", PARENT, str(kernel_image), str(root), str(tmp_path), life]
    with subprocess.Popen(
        ["nohup", *command] if how == "nohup" else command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as proc:
        assert proc.stdout is not None
        qemu = int(proc.stdout.readline())
        launcher = int(Path(f"/proc/{qemu}/stat").read_text().rpartition(")")[2].split()[1])
        assert not gone(qemu)
        proc.kill()
        proc.wait()
        assert wait_gone(qemu, launcher, seconds=5)


def test_the_probe_understands_a_kernel(kernel_image: Path) -> None:
    """The probe for KVM, with TCG in KVM's place: the same kernel, the same words."""
    options = [
        (tuple(word.replace("accel=kvm", "accel=tcg").replace("host", "max") for word in words), "")
        for words, _ in accel.PROBE_OPTIONS
    ]
    answer = accel.probe(kernel_image, options=options, patience=4)
    assert answer.works, answer.reason


INTERACTIVE = """\
import sys
from pathlib import Path
from vm.accel import Accel
from vm.shell import interactive
image, cache = map(Path, sys.argv[1:])
interactive(image, Accel(kind="tcg", reason="a test"), cache=cache, programs=Path("/some/where"))
"""


def test_a_shell_on_the_hosts_root(kernel_image: Path, tmp_path: Path) -> None:
    """It sees the host's files, cannot change them, and ends the guest when it ends."""
    (tmp_path / "file").write_text("the host's\n")
    shell: Any = pexpect.spawn(
        sys.executable,
        ["-c", INTERACTIVE, str(kernel_image), str(tmp_path / "cache")],
        timeout=BOOT,
        encoding="utf-8",
        cwd=str(tmp_path),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        shell.expect(r"[#$] $")
        for command, answer in (
            ('echo "<$(cat file)>"', "<the host's>"),
            ('echo "<$(id -u)>"', "<0>"),
            ("echo $((6 * 7)) > file", "Read-only file system"),
            ('echo "<$PATH>"', "<.*/some/where:/usr/local/sbin.*>"),
        ):
            shell.sendline(command)
            shell.expect(answer)
            shell.expect(r"[#$] $")
        shell.sendline("exit")
        shell.expect(pexpect.EOF)
    finally:
        shell.close(force=True)
    assert shell.exitstatus == 0
    assert (tmp_path / "file").read_text() == "the host's\n"


# How long the first answer takes.


def initramfs(program: Path, path: Path) -> Path:
    """An initramfs with one file, /init (Documentation/driver-api/early-userspace)."""

    def entry(name: str, mode: int, data: bytes) -> bytes:
        fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields)
        out = head + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + data
        return out + b"\0" * (-len(out) % 4)

    path.write_bytes(entry("init", 0o100755, program.read_bytes()) + entry("TRAILER!!!", 0, b""))
    return path


def bare_first_answer(image: Path, initrd: Path) -> float:
    """Seconds from QEMU's start to the greeting, with nothing around it."""
    ours, qemus = socket.socketpair()
    argv: Sequence[str] = (
        *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-m", "256"),
        *("-nographic", "-no-reboot", "-net", "none", "-kernel", str(image)),
        *("-initrd", str(initrd), "-append", "console=ttyS0 panic=-1 quiet"),
        *("-device", "virtio-serial-pci", "-chardev", f"socket,id=c,fd={qemus.fileno()}"),
        *("-device", f"virtserialport,name={PORT},chardev=c"),
    )
    started = time.monotonic()
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[qemus.fileno()],
    ) as proc:
        qemus.close()
        try:
            ours.settimeout(BOOT)
            assert ours.recv(6) == b"hello\n"
            return time.monotonic() - started
        finally:
            proc.kill()
            ours.close()


def test_the_first_answer_is_prompt(make: Make, program: Path, tmp_path: Path) -> None:
    """Taken in turns, so that a busy host is busy for both."""
    initrd = initramfs(program, tmp_path / "initramfs")
    bare, ours = [], []
    for number in range(5):
        spec = make(name=f"guest-{number}")
        bare.append(bare_first_answer(spec.image, initrd))
        started = time.monotonic()
        with Guest.boot(spec, BOOT):
            ours.append(time.monotonic() - started)
    ratio = statistics.median(ours) / statistics.median(bare)
    print(
        f"first answer: bare {statistics.median(bare):.2f} s, "
        f"ours {statistics.median(ours):.2f} s, {ratio:.2f} times"
    )
    assert ratio <= TIMES_BARE, re.sub(r"\s+", " ", f"bare {bare}, ours {ours}")
