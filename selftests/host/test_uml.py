# SPDX-License-Identifier: GPL-2.0-only
"""User-mode Linux without one: programs that behave as it does, well or badly."""

from __future__ import annotations

import dataclasses
import time
import tomllib
from pathlib import Path

import pytest

from harness.abi import ABIS
from harness.lab import Setup
from vm import build, kernels, uml
from vm.errors import GuestError, UserError, Verdict
from vm.uml import ForbiddenError, Uml, UmlSpec

BANNER = "[    0.000000] Linux version 6.12.0"
#: What a good one does: it is told its descriptor as ssl0=fd:N, and speaks on it.
SPEAKS = f"""
echo "{BANNER}"
for word; do case $word in ssl0=fd:*) fd=${{word#ssl0=fd:}};; esac; done
echo hello >&"$fd"
"""
SECONDS = 20.0


@pytest.fixture(name="spec")
def _spec(tmp_path: Path) -> UmlSpec:
    """A specification whose image does what ``write`` is told."""
    return made(tmp_path, "exit 0")


def made(where: Path, script: str) -> UmlSpec:
    image = where / "linux"
    image.write_text(f"#!/bin/bash\n{script}\n")
    image.chmod(0o755)
    (where / "root").mkdir(exist_ok=True)
    program = where / "root" / "agent"
    program.write_text("")
    program.chmod(0o755)
    return UmlSpec(
        image=image, root=where / "root", program="/agent", port="port", log_dir=where / "log"
    )


def test_every_word_has_its_reason() -> None:
    table = tomllib.loads(uml.TABLE.read_text())
    assert all(row["reason"] and row["words"] for row in table["word"])
    assert all(row["reason"] for row in table["environment"])


def test_the_command_line(spec: UmlSpec) -> None:
    """The line's descriptor, the root, and the program as the last words."""
    words = uml.command(spec, 7)
    assert words[0] == str(spec.image)
    assert "ssl0=fd:7" in words
    assert f"rootflags={spec.root}" in words
    assert words[-3:] == ["init=/agent", "--", "/dev/ttyS0"]


def test_its_first_word_is_left_in_the_socket(tmp_path: Path) -> None:
    with Uml.boot(made(tmp_path, f"{SPEAKS}\nsleep 100"), SECONDS) as guest:
        assert guest.ports["port"].recv(100) == b"hello\n"
        guest.check()
        leader = guest._terminal.leader
    assert not Path(f"/proc/{leader}").exists()
    assert BANNER in (tmp_path / "log" / "console.log").read_text()
    assert "ssl0=fd:" in (tmp_path / "log" / "uml-command.txt").read_text()


def test_the_environment_is_the_tables(tmp_path: Path) -> None:
    script = f'echo "tunables: $GLIBC_TUNABLES"\n{SPEAKS}\nsleep 100'
    with Uml.boot(made(tmp_path, script), SECONDS):
        pass
    # Only now is it sure that the console has been read as far as it goes.
    assert "tunables: glibc.pthread.rseq=0" in (tmp_path / "log" / "console.log").read_text()


def test_a_host_that_forbids_it(tmp_path: Path) -> None:
    """It ends before there is a kernel in it: what it says is the reason."""
    script = "echo 'Checking that ptrace can change system call numbers...failed'; exit 1"
    with pytest.raises(ForbiddenError, match=r"does not run user-mode Linux: .*ptrace.*failed"):
        Uml.boot(made(tmp_path, script), SECONDS)


@pytest.mark.parametrize(
    ("script", "verdict", "says"),
    [
        (f"echo '{BANNER}'; exit 3", Verdict.LOST, "ended by itself"),
        (f"echo '{BANNER}'; kill -ABRT $$", Verdict.LOST, "ended by SIGABRT"),
        (
            f"echo '{BANNER}'; echo '[    0.1{'0' * 5}] Kernel panic - not syncing: no'; sleep 100",
            Verdict.PANIC,
            "not syncing",
        ),
        (f"echo '{BANNER}'; sleep 100", Verdict.HANG, "said nothing"),
    ],
    ids=["ends", "dies", "panics", "hangs"],
)
def test_a_kernel_that_does_not_come_up(
    tmp_path: Path, script: str, verdict: Verdict, says: str
) -> None:
    spec = made(tmp_path, script)
    with pytest.raises(GuestError, match=says) as caught:
        Uml.boot(spec, 1.5 if verdict is Verdict.HANG else SECONDS)
    assert caught.value.verdict is verdict


def test_one_that_ends_later_is_seen(tmp_path: Path) -> None:
    with Uml.boot(made(tmp_path, f"{SPEAKS}\nsleep 1"), SECONDS) as guest:
        deadline = time.monotonic() + SECONDS
        while guest.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(GuestError, match="ended by itself"):
            guest.check()


def test_what_is_no_program(tmp_path: Path) -> None:
    spec = made(tmp_path, "")
    spec.image.chmod(0o644)
    with pytest.raises(UserError, match="no program of user-mode Linux"):
        dataclasses.replace(spec, port="p")


def test_it_runs_m64_programs_only(tmp_path: Path) -> None:
    """All ABIs are what nobody has asked for; others alone are a mistake."""
    assert [one.name for one in Setup(abis=ABIS, report=tmp_path, variant="um").abis] == ["m64"]
    with pytest.raises(UserError, match="m64 programs only"):
        Setup(abis=ABIS[1:], report=tmp_path, variant="um")


@pytest.mark.parametrize("kernel", ["6.12", "6.1"])
def test_what_mends_it_is_not_proposed(kernel: str) -> None:
    row, variant = kernels.kernel(kernel), kernels.variant("um")
    proposed = {patch.name for patch in build.stacked(row, variant).patches}
    assert proposed == {patch.name for patch in build.stacked(row, "at").patches}
    assert variant.mending(row) == (f"{row.series}/um",)
