# SPDX-License-Identifier: GPL-2.0-only
"""KVM or TCG: the choice, with programs in QEMU's place that behave as QEMU has.

The stand-ins are shell scripts which print what was seen of real QEMUs: a kernel
that boots, one that speaks and dies, one that never speaks.  That the real QEMU
is asked in the right way is tested with a kernel, in selftests/vm.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

import pytest

from vm import accel
from vm.accel import Accel, choose
from vm.errors import InfraError, NoKvmError, UserError

BOOTED = (
    "echo '[    0.000000] Linux version 6.12.117 (a@b)';"
    "echo '[    0.5] Kernel panic - not syncing: VFS: Unable to mount root fs on \"\"'"
)
SPOKE = "echo '[    0.000000] Linux version 6.12.117 (a@b)'"
INTERNAL = "echo 'KVM internal error. Suberror: 1' >&2"
ABORTED = "echo 'qemu: error: failed to set MSR 0x345 to 0x2000' >&2; exit 134"


class Stand:
    """A stand-in for QEMU and for /dev/kvm."""

    def __init__(self, folder: Path) -> None:
        self.qemu = folder / "qemu"
        self.device = folder / "kvm"
        self.cache = folder / "cache"
        self.calls = folder / "calls"
        self.image = folder / "vmlinux"
        self.device.touch()
        self.image.touch()

    def behaves(self, script: str, version: str = "7.2.22") -> None:
        self.qemu.write_text(
            "#!/bin/sh\n"
            f"[ \"$1\" = --version ] && {{ echo 'QEMU emulator version {version}'; exit; }}\n"
            f'echo "$$ $*" >> {self.calls}\n'
            f"{script}\n"
        )
        self.qemu.chmod(0o755)

    def choose(self, requested: str) -> Accel:
        return choose(
            requested, self.image, cache=self.cache, qemu=str(self.qemu), device=self.device
        )

    @property
    def asked(self) -> int:
        """How often a kernel was booted."""
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    monkeypatch.setattr(accel, "FIRST_LINE_SECONDS", 0.5)
    monkeypatch.setattr(accel, "END_SECONDS", 1.0)
    monkeypatch.setattr(accel, "PATIENCE", 1.5)
    if platform.machine() != "x86_64":
        pytest.skip("the choice is made on x86-64")
    return Stand(tmp_path)


def test_a_kernel_that_boots(stand: Stand) -> None:
    stand.behaves(f"{BOOTED}; exec sleep 60")
    chosen = stand.choose("auto")
    assert chosen.kind == "kvm"
    assert chosen.reason.startswith("the kernel booted under KVM, in ")
    command = stand.calls.read_text()
    assert " -machine q35,accel=kvm -cpu host " in command
    assert f"-kernel {stand.image} -append " in command


def test_qemu_that_ends_with_the_kernel(stand: Stand) -> None:
    stand.behaves(BOOTED)
    assert stand.choose("kvm").kind == "kvm"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (ABORTED, "QEMU gave up on KVM before the kernel spoke: qemu: error: failed to set MSR"),
        ("exit 3", "QEMU gave up on KVM before the kernel spoke: exit code 3"),
        (
            f"{SPOKE}; sleep 0.1; {INTERNAL}; exec sleep 60",
            "QEMU gave up on KVM after the kernel's first line: KVM internal error. Suberror: 1",
        ),
        ("exec sleep 60", "no kernel output under KVM within 0.5 s"),
        (
            f"{SPOKE}; exec sleep 60",
            "the kernel spoke under KVM, but did not finish its start within 1 s",
        ),
        (
            f"while :; do {SPOKE}; sleep 0.01; done",
            "the kernel spoke under KVM, but did not finish its start within 1 s",
        ),
        (
            f"{SPOKE}; echo '[ 0.1] Kernel panic - not syncing: IO-APIC + timer does not work!'",
            "QEMU gave up on KVM after the kernel's first line: exit code 0",
        ),
    ],
)
def test_kvm_that_lies(stand: Stand, script: str, reason: str) -> None:
    stand.behaves(script)
    started = time.monotonic()
    chosen = stand.choose("auto")
    assert time.monotonic() - started < 4
    assert chosen.kind == "tcg"
    assert chosen.reason.startswith(reason)
    assert "\n" not in chosen.reason


@pytest.mark.parametrize("script", ["exec sleep 60", f"{SPOKE}; sleep 60 & wait", BOOTED])
def test_no_process_is_left(stand: Stand, script: str) -> None:
    stand.behaves(script)
    stand.choose("auto")
    group = stand.calls.read_text().split()[0]
    # An orphan that was killed is a zombie until process 1 has reaped it.
    stats = [path.read_text().rpartition(")")[2].split() for path in processes()]
    assert not [stat for stat in stats if stat[2] == group and stat[0] not in "ZX"]


def processes() -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]


def test_insisting_gives_the_reason(stand: Stand) -> None:
    stand.behaves(ABORTED)
    with pytest.raises(NoKvmError, match="failed to set MSR") as caught:
        stand.choose("kvm")
    assert caught.value.exit_code == 11
    assert caught.value.hint


def test_the_answer_is_remembered(stand: Stand) -> None:
    stand.behaves(ABORTED)
    first = stand.choose("auto")
    second = stand.choose("auto")
    assert stand.asked == 1
    assert second.reason == f"{first.reason} (remembered)"


def test_insisting_asks_again_after_a_no(stand: Stand) -> None:
    stand.behaves(ABORTED)
    stand.choose("auto")
    stand.behaves(BOOTED)
    assert stand.choose("kvm").kind == "kvm"
    assert stand.choose("auto").kind == "kvm"
    assert stand.choose("kvm").kind == "kvm"
    assert stand.asked == 2


def test_another_qemu_is_asked_anew(stand: Stand) -> None:
    stand.behaves(ABORTED)
    stand.choose("auto")
    stand.behaves(BOOTED, version="8.2.2")
    assert stand.choose("auto").kind == "kvm"


def test_another_boot_of_the_host_is_asked_anew(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.behaves(ABORTED)
    stand.choose("auto")
    (tmp_path / "boot_id").write_text("another\n")
    monkeypatch.setattr(accel, "BOOT_ID", tmp_path / "boot_id")
    stand.choose("auto")
    assert stand.asked == 2


def test_another_device_is_asked_anew(stand: Stand) -> None:
    stand.behaves(ABORTED)
    stand.choose("auto")
    stand.device.rename(stand.device.with_name("kvm-before"))
    stand.device.touch()
    stand.choose("auto")
    assert stand.asked == 2


@pytest.mark.parametrize("kept", ["", "{", "[]", "null", '{"key": 1}', '{"works": true}'])
def test_a_broken_memory_is_no_answer(stand: Stand, kept: str) -> None:
    stand.behaves(ABORTED)
    stand.cache.mkdir()
    (stand.cache / accel.CACHE_NAME).write_text(kept)
    assert stand.choose("auto").kind == "tcg"
    assert json.loads((stand.cache / accel.CACHE_NAME).read_text())["works"] is False


def test_no_device(stand: Stand) -> None:
    stand.behaves(BOOTED)
    stand.device.unlink()
    assert stand.choose("auto").reason == f"there is no {stand.device}"
    assert stand.asked == 0


def test_no_permission(stand: Stand) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may open everything")
    stand.behaves(BOOTED)
    stand.device.chmod(0o440)
    assert stand.choose("auto").reason.startswith("no permission to open")
    assert stand.asked == 0


def test_a_device_that_cannot_be_opened(stand: Stand) -> None:
    stand.behaves(BOOTED)
    stand.device.unlink()
    stand.device.mkdir()
    assert stand.choose("auto").reason == f"{stand.device} cannot be opened: Is a directory"


def test_tcg_asks_nobody(stand: Stand) -> None:
    stand.behaves(BOOTED)
    chosen = stand.choose("tcg")
    assert (chosen.kind, chosen.reason) == ("tcg", "asked for")
    assert stand.asked == 0


def test_another_word(stand: Stand) -> None:
    with pytest.raises(UserError, match="ACCEL=hvf"):
        stand.choose("hvf")


def test_no_qemu(stand: Stand) -> None:
    with pytest.raises(InfraError, match="not found"):
        stand.choose("auto")


def test_the_tsc(tmp_path: Path) -> None:
    """Measured twice it is the same, and the second time it is not measured."""
    khz = accel.tsc_khz(tmp_path)
    if khz is None:
        pytest.skip("this machine's TSC is not constant")
    (tmp_path / accel.TSC_NAME).rename(tmp_path / "kept")
    again = accel.tsc_khz(tmp_path)
    assert again == pytest.approx(khz, rel=1e-3)
    kept = json.loads((tmp_path / accel.TSC_NAME).read_text())
    (tmp_path / accel.TSC_NAME).write_text(json.dumps({**kept, "khz": 4711}))
    assert accel.tsc_khz(tmp_path) == 4711


def test_a_tsc_that_varies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu tsc msr\n")
    monkeypatch.setattr(accel, "CPUINFO", tmp_path / "cpuinfo")
    assert accel.tsc_khz(tmp_path) is None
