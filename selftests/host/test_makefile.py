# SPDX-License-Identifier: GPL-2.0-only
"""The way in: what each target of the Makefile calls, with what, in which environment.

Real make, on a copy of the Makefile; the two Pythons that it calls are scripts
that log what they are given.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.mutants import run as mutants
from vm import accel, kbuild, packages

ROOT = Path(__file__).resolve().parent.parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^\.PHONY: (\S+)$", MAKEFILE, re.MULTILINE)
PARAMETERS = re.findall(r"^(\w+) \?=", MAKEFILE, re.MULTILINE)
JOBS = (
    *("vm-test", "host-test", "guest-test", "kernel", "kernels", "callers"),
    *("conformance", "skew", "shell", "doctor", "bench", "mutants", "mutants-harness"),
    "coverage",
    *("series", "series-check"),
)

LOGGING = """\
#!/bin/bash
printf '%s ' "$0" "${{@@Q}}" >> {log}; echo >> {log}
env > {log}.env
exit {code}
"""


class Checkout:
    """A copy of the Makefile, with Pythons that log."""

    def __init__(self, top: Path) -> None:
        self.top = top
        shutil.copy(ROOT / "Makefile", top)
        (top / "build" / "venv" / "bin").mkdir(parents=True)
        self.log = top.parent / "log"
        self.python(top.parent / "python3", code=0)
        self.python(top / "build" / "venv" / "bin" / "python", code=0)

    def python(self, path: Path, *, code: int) -> None:
        path.write_text(LOGGING.format(log=shlex.quote(str(self.log)), code=code))
        path.chmod(0o755)

    def make(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        return subprocess.run(
            ["make", f"PYTHON={self.top.parent / 'python3'}", *argv],
            cwd=self.top,
            env={**clean, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    @property
    def calls(self) -> list[list[str]]:
        """What the Pythons were called with, program name first, and forget it."""
        text = self.log.read_text() if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        calls = [shlex.split(line) for line in text.splitlines()]
        return [[Path(call[0]).name, *call[1:]] for call in calls]


@pytest.fixture(params=["plain", "with a blank"])
def checkout(tmp_path: Path, request: pytest.FixtureRequest) -> Checkout:
    top = tmp_path / request.param
    top.mkdir()
    return Checkout(top)


def test_help_is_the_default_and_names_every_target_and_parameter(checkout: Checkout) -> None:
    done = checkout.make()
    assert done.returncode == 0
    assert done.stdout == checkout.make("help").stdout
    shown = re.findall(r"^  (\S+) +\S", done.stdout, re.MULTILINE)
    assert shown == TARGETS + PARAMETERS
    assert re.search(r"^  KERNEL .*\[6\.12\]$", done.stdout, re.MULTILINE)
    assert checkout.calls == [], "help needs nothing but make and awk"


def test_every_rule_is_a_phony_target() -> None:
    rules = re.findall(r"^([a-z][\w-]*):(?!=| [\w-]+ = )", MAKEFILE, re.MULTILINE)
    assert rules == TARGETS
    assert set(JOBS) == set(packages.JOBS) <= set(TARGETS)


@pytest.mark.parametrize("job", JOBS)
def test_job_prepares_and_then_calls_the_command_line(checkout: Checkout, job: str) -> None:
    assert checkout.make(job).returncode == 0
    prepare, call = checkout.calls
    assert prepare == ["python3", "-sE", "-m", "vm.bootstrap", "--for", job]
    assert call[:4] == ["python", "-m", "harness", job]


def test_test_is_everything_and_the_main_job_last(checkout: Checkout) -> None:
    assert checkout.make("-j8", "test").returncode == 0
    called = [call for call in checkout.calls if call[0] == "python"]
    jobs = ["host-test", "guest-test", "vm-test", "vm-test", "skew", "mutants", "vm-test"]
    assert [call[3] for call in called] == jobs
    assert "at" in called[2]
    assert "um" in called[3]
    assert called[5][-2:] == ["--sample", "2"]
    assert not {"at", "um"} & set(called[6])
    assert called[4][4:6] == ["--kernel", "6.12"]
    # Which old and new kernels would a tree have?
    checkout.make("test", "KERNEL_TREE=/home/linux")
    called = [call for call in checkout.calls if call[0] == "python"]
    assert [call[3] for call in called] == ["host-test", "guest-test", "vm-test", "vm-test"]


def test_the_matrix_is_of_every_kernel_but_of_those_that_are_named(checkout: Checkout) -> None:
    checkout.make("skew")
    prepare, call = checkout.calls
    assert prepare[-2:] == ["--for", "skew"]
    assert call[3:] == ["skew", "--accel", "auto"]
    checkout.make("skew", "KERNEL=6.1", "VARIANT=ver2", "MERGE=some reports", "ABI=m32")
    prepare, call = checkout.calls
    assert prepare[-2:] == ["--kernel", "6.1"]
    assert dict(zip(call[4::2], call[5::2], strict=True)) == {
        "--kernel": "6.1",
        "--variant": "ver2",
        "--abi": "m32",
        "--accel": "auto",
        "--merge": "some reports",
    }


def test_parameters_arrive_whole(checkout: Checkout) -> None:
    """Blanks, quotes, commas and dollars included: nothing is read by a shell but PYTEST_ARGS."""
    tree = "/home/o'neil/my linux, $(id)"
    checkout.make(
        "vm-test",
        f"KERNEL_TREE={tree.replace('$', '$$')}",
        "KERNEL=6.1",
        "VARIANT=ver1",
        "BZIMAGE=/srv/a b/bzImage",
        "HEADERS=/srv/include",
        "ABI=m32,mx32",
        "ACCEL=tcg",
        "BATTERY=full",
        "JOBS=3",
        "MIRROR=file:///srv/a b",
        "PYTEST_ARGS=-x -k 'flags or size' --maxfail=2",
    )
    prepare, call = checkout.calls
    assert prepare[-4:] == ["--kernel", "6.1", "--kernel-tree", tree]
    options, arguments = call[4 : call.index("--")], call[call.index("--") + 1 :]
    assert dict(zip(options[::2], options[1::2], strict=True)) == {
        "--kernel": "6.1",
        "--variant": "ver1",
        "--kernel-tree": tree,
        "--bzimage": "/srv/a b/bzImage",
        "--headers": "/srv/include",
        "--abi": "m32,mx32",
        "--accel": "tcg",
        "--battery": "full",
        "--jobs": "3",
        "--mirror": "file:///srv/a b",
    }
    assert arguments == ["-x", "-k", "flags or size", "--maxfail=2"]


def test_a_kernel_built_elsewhere_needs_no_source(checkout: Checkout) -> None:
    checkout.make("vm-test", "BZIMAGE=/srv/a b/bzImage")
    assert checkout.calls[0][-2:] == ["--kernel-tree", "/srv/a b/bzImage"]


def test_parameters_may_stand_in_the_environment(checkout: Checkout) -> None:
    checkout.make("callers", ABI="mx32")
    assert checkout.calls[1][-2:] == ["--abi", "mx32"]


def test_empty_parameters_are_not_passed(checkout: Checkout) -> None:
    checkout.make("vm-test")
    assert checkout.calls[1][4:] == ["--accel", "auto", "--battery", "quick"]


def test_mutants_are_named(checkout: Checkout) -> None:
    checkout.make("mutants", "MUTANT=22,23", "WITHOUT=P16", "VARIANT=ver1")
    assert checkout.calls[1][3:] == [
        *("mutants", "--accel", "auto", "--mutant", "22,23", "--without", "P16")
    ]
    checkout.make("mutants", "SHARD=2/4", "FRESH=yes")
    assert checkout.calls[1][3:] == ["mutants", "--accel", "auto", "--shard", "2/4", "--fresh"]
    checkout.make("mutants-sample")
    assert checkout.calls[1][3:] == ["mutants", "--accel", "auto", "--sample", "2"]


def test_a_default_is_the_commands_own_but_a_kernel_that_is_named_is_passed(
    checkout: Checkout,
) -> None:
    """`make kernels` is about all; a tree's is the one nearest to it."""
    checkout.make("kernels")
    assert checkout.calls[1][3:] == ["kernels"]
    for how in ({"KERNEL": "6.12"}, {}):
        argv = () if how else ("KERNEL=6.12",)
        checkout.make("kernels", *argv, **how)
        prepare, call = checkout.calls
        assert prepare[-2:] == call[-2:] == ["--kernel", "6.12"]


def test_nothing_of_this_make_or_of_the_callers_environment_leaks(checkout: Checkout) -> None:
    """The kernel's make must not find our job server, flags or variables."""
    checkout.make(
        "-j4",
        "-k",
        "vm-test",
        "ABI=m32",
        "JOBS=2",
        VIRTUAL_ENV="/elsewhere",
        PYTHONPATH="/elsewhere",
        PYTHONHOME="",
        KERNEL="6.12",
        MAKELEVEL="3",
        PATH=f"/elsewhere/bin:{os.environ['PATH']}",
    )
    lines = Path(f"{checkout.log}.env").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines}
    assert not {name for name in names if name.startswith(("MAKE", "MFLAGS"))}
    assert not names & {*PARAMETERS, "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"}
    (path,) = (line for line in lines if line.startswith("PATH="))
    assert path.startswith(f"PATH={checkout.top}/build/venv/bin:/elsewhere/bin:")


def test_job_is_not_begun_when_preparing_fails(checkout: Checkout) -> None:
    checkout.python(checkout.top.parent / "python3", code=2)
    done = checkout.make("vm-test")
    assert done.returncode == 2
    assert [call[0] for call in checkout.calls] == ["python3"]


def test_exit_code_of_the_command_line_is_in_makes_last_line(checkout: Checkout) -> None:
    checkout.python(checkout.top / "build" / "venv" / "bin" / "python", code=13)
    done = checkout.make("vm-test")
    assert done.returncode == 2
    assert done.stderr.endswith("Error 13\n")


def test_missing_python_is_one_line_with_the_command(checkout: Checkout) -> None:
    done = checkout.make("PYTHON=/nowhere/python3", "vm-test")
    assert done.returncode == 2
    first, makes = done.stderr.splitlines()
    assert first == (
        "/nowhere/python3 is missing: sudo apt-get update && "
        "sudo apt-get install -y --no-install-recommends python3"
    )
    assert makes.startswith("make: ")
    assert checkout.calls == []


def test_dry_run_shows_the_commands_and_runs_nothing(checkout: Checkout) -> None:
    done = checkout.make("-n", "vm-test", "ABI=m32")
    assert "build/venv/bin/python -m harness vm-test" in done.stdout
    assert "--abi 'm32'" in done.stdout
    assert checkout.calls == []


def test_clean_keeps_the_environment_and_distclean_does_not(checkout: Checkout) -> None:
    build = checkout.top / "build"
    (build / "report").mkdir()
    (build / "report" / "junit.xml").touch()
    (build / "bootstrap.json").touch()
    assert checkout.make("clean").returncode == 0
    assert [path.name for path in build.iterdir()] == ["venv"]
    assert checkout.make("distclean").returncode == 0
    assert not build.exists()
    assert checkout.make("clean").returncode == 0, "with nothing to clean"


def test_clean_cache_removes_only_what_is_ours(tmp_path: Path) -> None:
    """EXTSYS_CACHE may name a directory that somebody keeps other things in."""
    for name in ("kernels", "source", "thesis"):
        (tmp_path / name / "in").mkdir(parents=True)
    (tmp_path / "source" / "in").chmod(0o555)
    subprocess.run(
        ["make", "clean-cache"],
        cwd=ROOT,
        env={**os.environ, "EXTSYS_CACHE": str(tmp_path)},
        check=True,
        timeout=30,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_clean_cache_knows_everything_that_is_kept_there() -> None:
    (line,) = re.findall(r"^cache-parts = ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    code = "".join(
        path.read_text() for part in ("vm", "harness") for path in ROOT.glob(f"{part}/**/*.py")
    )
    kept = re.findall(r'\b(?:cache|kept|cache_dir\(\))\)? / "(\w+)"', code)
    assert len(set(kept)) > 4
    named = {accel.CACHE_NAME, accel.TSC_NAME, mutants.PLACE, kbuild.CCACHE}
    assert {*kept, *named} == set(line.replace("\\", "").split())


def test_ci_runs_make_test_and_passes_its_code_on(tmp_path: Path) -> None:
    """From anywhere, in a directory with a blank."""
    top = tmp_path / "a checkout"
    (top / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", top / ".ci")
    (top / "Makefile").write_text("test:\n\t@echo ran; exit 7\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        [top / ".ci" / "run"], cwd="/", env=env, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("ran\n", 2)
