# SPDX-License-Identifier: GPL-2.0-only
"""The doctor: each row follows what is really there, and the exit code follows the rows."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from rich.console import Console

from vm import doctor, kernels, packages
from vm.doctor import Check
from vm.errors import UserError
from vm.packages import Host

NEEDS = packages.wanted(packages.load(), job="vm-test", kernel="6.12")
Usage = namedtuple("Usage", "total used free")


def a_host(tmp_path: Path, **programs: str) -> Host:
    """A machine with these programs alone, each with its script."""
    for name, script in programs.items():
        path = tmp_path / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return dataclasses.replace(Host(), path=str(tmp_path), sbin=(), apt_lists=tmp_path / "lists")


def test_compiler_that_links_one_abi_only(tmp_path: Path) -> None:
    script = 'case "$1" in -m64|-dump*) echo 12.2.0 ;; *) exit 1 ;; esac'
    rows = list(doctor.compilers(NEEDS, a_host(tmp_path, gcc=script)))
    assert [(row.name, row.state) for row in rows] == [
        ("gcc -m64", "ok"),
        ("gcc -m32", "missing"),
        ("gcc -mx32", "missing"),
    ]
    assert rows[0].detail == "12.2.0 compiles and links"
    assert rows[2].mend.endswith("install -y --no-install-recommends gcc-multilib")


def test_no_compiler(tmp_path: Path) -> None:
    assert {row.detail for row in doctor.compilers(NEEDS, a_host(tmp_path))} == {"not there"}


def test_tools_names_each_one_that_lacks_with_its_reason(tmp_path: Path) -> None:
    row = doctor.tools(NEEDS, a_host(tmp_path))
    assert row.state == "missing"
    assert "flex: scripts/kconfig" in row.detail
    assert "qemu" not in row.detail, "it has a row of its own"
    assert " flex " in row.mend


def test_qemu(tmp_path: Path) -> None:
    assert doctor.qemu(NEEDS, a_host(tmp_path)).state == "missing"
    (tmp_path / doctor.QEMU).write_text("#!/bin/sh\necho 'QEMU emulator version 7.2.22 (Debian)'\n")
    (tmp_path / doctor.QEMU).chmod(0o755)
    row = doctor.qemu(NEEDS, a_host(tmp_path))
    assert (row.state, row.detail.split()[0]) == ("ok", "7.2.22")


def test_virtme_ng_wants_its_runner_in_path_too(tmp_path: Path) -> None:
    row = doctor.virtme_ng(a_host(tmp_path, vng=""))
    assert (row.state, row.detail) == ("missing", "not in PATH: virtme-run")
    assert doctor.virtme_ng(a_host(tmp_path, vng="", virtme_run="")).state == "ok"


@pytest.mark.parametrize(
    ("free", "built", "state"),
    [(10, False, "ok"), (1, False, "missing"), (1, True, "warn")],
)
def test_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, built: bool, state: str
) -> None:
    home = tmp_path / "not" / "yet" / "there"
    if built:
        (home / "kernels" / "linux-6.12-0123").mkdir(parents=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free * doctor.GIB))
    row = doctor.disk(home)
    assert row.state == state
    assert bool(row.mend) is (state != "ok")


def test_kernel_source_of_a_tree(tmp_path: Path) -> None:
    host = a_host(tmp_path)
    assert doctor.kernel_source("6.12", tmp_path, tmp_path, host).state == "missing"
    (tmp_path / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 80\n")
    row = doctor.kernel_source("6.12", tmp_path, tmp_path, host)
    assert (row.state, row.detail) == ("ok", f"{tmp_path}: 6.12.80")


@pytest.mark.parametrize(
    ("installed", "distribution", "state"),
    [(True, "debian", "ok"), (False, "debian", "missing"), (False, "ubuntu", "warn")],
)
def test_kernel_source_of_the_distribution(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: bool,
    distribution: str,
    state: str,
) -> None:
    tarball = tmp_path / "linux-source-6.12.tar.xz"
    row = dataclasses.replace(kernels.kernel("6.12"), tarball=tarball)
    monkeypatch.setattr(kernels, "kernel", lambda _: row)
    if installed:
        tarball.touch()
    host = dataclasses.replace(a_host(tmp_path), os_release=lambda: {"ID": distribution})
    assert doctor.kernel_source("6.12", None, tmp_path / "cache", host).state == state


def test_another_kernels_source_is_no_condition_of_the_main_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = dataclasses.replace(kernels.kernel("6.1"), tarball=tmp_path / "none")
    monkeypatch.setattr(kernels, "kernel", lambda _: row)
    host = dataclasses.replace(a_host(tmp_path), os_release=lambda: {"ID": "debian"})
    (check,) = doctor.other_sources("6.12", tmp_path / "cache", host)
    assert (check.name, check.state) == ("source 6.1", "warn")
    assert check.detail == "linux-source-6.1 is not installed, for KERNEL=6.1"
    assert "linux-source-6.1" in check.mend


def test_unknown_kernel_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no-such"):
        doctor.report(kernel="no-such", cache=tmp_path)


def test_kvm_is_believed_only_when_it_booted(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    assert doctor.kvm(None, device).detail == f"no {device}"
    device.touch()
    assert doctor.kvm(None, device).state == "warn", "that it opens proves nothing"
    assert doctor.kvm(lambda: (True, "first line after 0.4 s"), device).state == "ok"
    row = doctor.kvm(lambda: (False, "no first line within 5 s"), device)
    assert (row.state, row.detail) == ("warn", "no first line within 5 s")


def test_kvm_is_not_booted_where_there_is_none(tmp_path: Path) -> None:
    def prove() -> tuple[bool, str]:
        raise AssertionError("must not be asked")

    assert doctor.kvm(prove, tmp_path / "kvm").state == "warn"


GOOD = Check(name="disk", state="ok", detail="70 GiB")
SLOW = Check(name="KVM", state="warn", detail="[red]no[/] kvm", mend="nothing to do")
GONE = Check(name="tools", state="missing", detail="flex " * 40, mend="apt-get " * 30)


@pytest.mark.parametrize(
    ("checks", "code"), [([GOOD], 0), ([GOOD, SLOW], 0), ([GOOD, GONE, SLOW], 2)]
)
def test_exit_code(checks: list[Check], code: int) -> None:
    assert doctor.show(checks, Console(file=io.StringIO())) == code


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_what_is_shown(terminal: bool) -> None:
    out = io.StringIO()
    doctor.show([GOOD, SLOW, GONE], Console(file=out, width=60, force_terminal=terminal))
    lines = out.getvalue().splitlines()
    assert "tools: " + GONE.mend in lines, "a command is never broken"
    assert any("[red]no[/] kvm" in line for line in lines), "detail is no markup"
    folded = [line for line in lines if "flex" in line]
    assert (len(folded) > 1) is terminal, "a pipe gets one line for each row"


def test_this_machine(tmp_path: Path) -> None:
    """The real thing, whole: on a machine where these tests run, compilers are there."""
    checks = doctor.report(kernel="6.12", cache=tmp_path)
    assert [check.name for check in checks] == [
        "machine",
        "python",
        "gcc -m64",
        "gcc -m32",
        "gcc -mx32",
        "tools",
        "kernel source",
        "source 6.1",
        "disk",
        "QEMU",
        "virtme-ng",
        "KVM",
    ]
    assert all(check.state == "ok" for check in checks if check.name.startswith("gcc"))
    assert all(check.mend for check in checks if check.state != "ok")
