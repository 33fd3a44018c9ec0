# SPDX-License-Identifier: GPL-2.0-only
"""From a bare machine to build/venv: with made-up programs in PATH, never this machine's apt."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vm import bootstrap, cache, packages
from vm.errors import InfraError, UserError
from vm.packages import Host, Memo, Need
from vm.proc import Finished

ROOT = Path(bootstrap.__file__).parent.parent

FLEX = Need(probe="tool", subject="flex", packages=("flex",), group="build", why="lexers")
BISON = dataclasses.replace(FLEX, subject="bison", packages=("bison",))
SOURCE = Need(
    probe="file",
    subject="/nowhere/linux-source-9.9.tar.xz",
    packages=("linux-source-9.9",),
    group="source",
    why="the kernel",
    optional=True,
)
ASKED = "apt-cache show --no-all-versions linux-source-9.9"

# Logs its arguments; "install" makes a program of each package's name.
APT_GET = """\
echo "apt-get $*" >> {log}
case "$*" in
*update*) : > {lists}/mirror_Packages ;;
*install*) for p in "$@"; do :; done
    while [ "$1" != --no-install-recommends ]; do shift; done; shift
    for p in "$@"; do printf '#!/bin/sh\\n' > {bin}/$p; /bin/chmod +x {bin}/$p; done ;;
esac
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """A made-up machine: a PATH of one directory, package lists, a log of commands."""

    top: Path

    @property
    def bin(self) -> Path:
        return self.top / "bin"

    def program(self, name: str, script: str) -> None:
        text = script.format(log=self.top / "log", bin=self.bin, lists=self.top / "lists")
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def updated(self) -> None:
        """As if `apt-get update` had been run."""
        (self.top / "lists" / "mirror_Packages").touch()

    def host(self, uid: int = 0, distribution: str = "debian") -> Host:
        return Host(
            path=str(self.bin),
            sbin=(),
            uid=lambda: uid,
            apt_lists=self.top / "lists",
            dpkg_status=self.top / "status",
            os_release=lambda: {"ID": distribution},
            build=self.top / "build",
        )

    @property
    def log(self) -> list[str]:
        """The commands that were run, without apt's option for the lock."""
        path = self.top / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [
            " ".join(w for w in line.split() if "Lock" not in w and w != "-o") for line in lines
        ]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for name in ("bin", "lists", "build"):
        (tmp_path / name).mkdir()
    (tmp_path / "status").write_text("Package: base\n")
    (tmp_path / "bin" / "env").symlink_to("/usr/bin/env")
    made = Machine(top=tmp_path)
    made.program("apt-get", APT_GET)
    made.program("apt-cache", 'echo "apt-cache $*" >> {log}; exit 1')
    return made


def test_all_there_says_and_runs_nothing(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.program("flex", "")
    packages.ensure([FLEX], machine.host())
    assert machine.log == []
    assert capfd.readouterr() == ("", "")


def test_root_without_lists_updates_then_installs(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    packages.ensure([FLEX, BISON], machine.host())
    command = "apt-get install -y --no-install-recommends bison flex"
    assert machine.log == ["apt-get update", command]
    assert f"running: {command}\n" in capfd.readouterr().err


def test_with_lists_there_is_no_update(machine: Machine) -> None:
    machine.updated()
    machine.program("flex", "")
    packages.ensure([FLEX, BISON], machine.host())
    assert machine.log == ["apt-get install -y --no-install-recommends bison"]


def test_stale_lists_are_updated_and_tried_once_more(machine: Machine) -> None:
    machine.updated()
    stale = "[ -e {lists}/new ] || case $* in *update*) : > {lists}/new ;; *) exit 100 ;; esac\n"
    machine.program("apt-get", APT_GET.replace("case", stale + "case", 1))
    packages.ensure([FLEX], machine.host())
    assert [line.split()[1] for line in machine.log] == ["install", "update", "install"]


def test_apt_that_fails_is_quoted(machine: Machine) -> None:
    machine.program("apt-get", 'echo "apt-get $*" >> {log}; echo "E: no space left"; exit 100')
    with pytest.raises(InfraError, match="E: no space left"):
        packages.ensure([FLEX], machine.host())


@pytest.mark.parametrize(
    ("sudo", "updated", "command"),
    [
        (None, True, "sudo apt-get install -y --no-install-recommends flex"),
        ("exit 1", True, "sudo apt-get install -y --no-install-recommends flex"),
        (
            None,
            False,
            "sudo apt-get update && sudo apt-get install -y --no-install-recommends"
            " flex linux-source-9.9",
        ),
    ],
    ids=["no sudo", "sudo wants a password", "no lists"],
)
def test_user_gets_one_line_with_the_command(
    machine: Machine, sudo: str | None, updated: bool, command: str
) -> None:
    if sudo:
        machine.program("sudo", sudo)
    if updated:
        machine.updated()
    with pytest.raises(UserError) as caught:
        packages.ensure([FLEX, SOURCE], machine.host(uid=1000))
    assert caught.value.lines() == [f"missing: flex; install with: {command}"]
    assert caught.value.exit_code == 2
    assert not [line for line in machine.log if line.startswith("apt-get")]


def test_sudo_without_password_is_used(machine: Machine) -> None:
    machine.program("sudo", 'echo "sudo $*" >> {log}; shift; [ "$1" = true ] || exec "$@"')
    packages.ensure([FLEX], machine.host(uid=1000))
    assert machine.log == [
        "sudo -n true",
        "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get update",
        "apt-get update",
        "sudo -n env DEBIAN_FRONTEND=noninteractive"
        " apt-get install -y --no-install-recommends flex",
        "apt-get install -y --no-install-recommends flex",
    ]


def test_without_apt_one_line_names_what_is_missing(machine: Machine) -> None:
    (machine.bin / "apt-get").unlink()
    with pytest.raises(UserError) as caught:
        packages.ensure([FLEX, BISON, SOURCE], machine.host())
    assert caught.value.lines() == ["missing, and there is no apt-get to install it: flex, bison"]


def test_optional_package_that_apt_does_not_know_is_asked_for_once(machine: Machine) -> None:
    machine.updated()
    for _ in range(2):
        packages.ensure([SOURCE], machine.host())
    assert machine.log == [ASKED, "apt-get update", ASKED]


def test_package_younger_than_the_lists_is_found_by_an_update(machine: Machine) -> None:
    machine.updated()
    machine.program("apt-get", APT_GET.replace(": > {lists}/", ": > {lists}/new; : > {lists}/", 1))
    machine.program("apt-cache", "[ -e {lists}/new ]")
    packages.ensure([SOURCE], machine.host())
    assert [line.split()[1] for line in machine.log] == ["update", "install"]


def test_lists_that_cannot_be_updated_will_do(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.updated()
    offline = "case $* in *update*) echo E: no network; exit 100 ;; esac\n"
    machine.program("apt-get", offline + APT_GET)
    packages.ensure([SOURCE, FLEX], machine.host())
    assert machine.log[-1] == "apt-get install -y --no-install-recommends flex"
    assert "no network" in capfd.readouterr().err


def test_optional_package_that_apt_knows_is_installed(machine: Machine) -> None:
    machine.program("apt-cache", "exit 0")
    packages.ensure([SOURCE], machine.host())
    assert machine.log[-1] == "apt-get install -y --no-install-recommends linux-source-9.9"


def test_lock_of_another_apt_is_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vm.packages.time.sleep", lambda _: None)
    machine.updated()
    busy = (
        "if [ ! -e {lists}/free ]; then : > {lists}/free\n"
        "echo 'E: Could not get lock /var/lib/apt/lists/lock'; exit 100; fi\n"
    )
    machine.program("apt-get", busy + APT_GET)
    packages.ensure([FLEX], machine.host())
    assert (machine.top / "lists" / "free").exists()
    assert machine.log == ["apt-get install -y --no-install-recommends flex"]


def test_dpkg_that_was_interrupted_is_mended(machine: Machine) -> None:
    machine.updated()
    broken = (
        "if [ ! -e {lists}/mended ]; then\n"
        "echo \"E: run 'dpkg --configure -a' to correct the problem\"; exit 100; fi\n"
    )
    machine.program("apt-get", broken + APT_GET)
    machine.program("dpkg", 'echo "dpkg $*" >> {log}; : > {lists}/mended')
    packages.ensure([FLEX], machine.host())
    assert machine.log[0] == "dpkg --configure -a"
    assert machine.log[1].startswith("apt-get install")


def test_what_is_missing_after_installing_is_named_with_its_reason(machine: Machine) -> None:
    machine.program("apt-get", "exit 0")
    with pytest.raises(UserError, match=r"^flex: installed, yet missing: flex \(lexers\)"):
        packages.ensure([FLEX], machine.host())


# --- probes ---


def test_compilers_are_asked_again_only_when_packages_change(machine: Machine) -> None:
    gcc = dataclasses.replace(FLEX, probe="links", subject="-m32", packages=("gcc-multilib",))
    machine.program("gcc", 'echo "gcc $1" >> {log}')
    for _ in range(2):
        packages.ensure([gcc], machine.host())
    assert machine.log == ["gcc -m32"]
    (machine.top / "status").write_text("Package: base\n\nPackage: other\n")
    packages.ensure([gcc], machine.host())
    assert machine.log == ["gcc -m32"] * 2


def test_damaged_memo_knows_nothing(machine: Machine) -> None:
    host = machine.host()
    packages.remember(Memo(links=frozenset({"-m32"})), host)
    assert packages.recall(host) == Memo(links=frozenset({"-m32"}))
    for text in ("", "[]", '{"witness": 1}'):
        (host.build / "bootstrap.json").write_text(text)
        assert packages.recall(host) == Memo()


def test_links_believes_the_linker_alone(machine: Machine) -> None:
    assert packages.links("-m64", Host())
    assert not packages.links("-mno-such-abi", Host())
    # A compiler that takes the flag and has no libraries for it.
    machine.program("gcc", "echo 'ld: cannot find -lc' >&2; exit 1")
    assert not packages.links("-mx32", machine.host())


# --- the table ---


def test_table_has_known_groups_and_names_nothing_twice() -> None:
    needs = packages.load()
    groups = {group for job in packages.JOBS.values() for group in job}
    assert {need.group for need in needs} <= groups
    names = [(need.probe, need.subject) for need in needs]
    assert len(names) == len(set(names))
    assert all(need.why and need.packages for need in needs)


@pytest.mark.parametrize(
    ("job", "kernel", "own_tree", "has_source"),
    [
        ("vm-test", "6.12", False, True),
        ("vm-test", "6.12", True, False),
        ("vm-test", "no-such", False, False),
        ("host-test", "6.12", False, False),
        ("doctor", "6.12", False, False),
    ],
)
def test_kernel_source_is_wanted_where_a_kernel_is_built_from_it(
    job: str, kernel: str, own_tree: bool, has_source: bool
) -> None:
    needs = packages.wanted(packages.load(), job=job, kernel=kernel, own_tree=own_tree)
    assert ("linux-source-6.12" in packages.packages_of(needs)) is has_source


def test_a_job_about_every_kernel_wants_every_source_and_others_the_defaults() -> None:
    def sources(job: str, kernel: str = "") -> set[str]:
        needs = packages.wanted(packages.load(), job=job, kernel=kernel)
        return {name for name in packages.packages_of(needs) if name.startswith("linux-source")}

    assert sources("kernels") == {"linux-source-6.12", "linux-source-6.1"}
    assert sources("kernels", "6.1") == {"linux-source-6.1"}
    assert sources("vm-test") == {"linux-source-6.12"}


# --- too old a Python ---


def test_bootstrap_parses_on_python_3_8() -> None:
    ast.parse((ROOT / "vm" / "bootstrap.py").read_text(), feature_version=(3, 8))


def test_old_python_gets_one_line() -> None:
    """The real file under a Python that calls itself 3.8 and has no tomllib."""
    pretend = (
        "import runpy, sys; sys.version_info = (3, 8, 18, 'final', 0);"
        "sys.modules['tomllib'] = None;"
        "runpy.run_module('vm.bootstrap', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", pretend], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_oldest_python_is_that_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={bootstrap.OLDEST[0]}.{bootstrap.OLDEST[1]}"


# --- the virtual environment ---

# A build backend of its own, so that pip needs no index: an empty wheel.
BACKEND = """\
import os, zipfile
def get_requires_for_build_editable(config_settings=None):
    return []
def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    if os.path.exists("fail"):
        raise SystemExit("the compiler said no")
    name = "tiny-1-py3-none-any.whl"
    files = {
        "METADATA": "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\nProvides-Extra: test\\n",
        "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        for file, text in files.items():
            wheel.writestr("tiny-1.dist-info/" + file, text)
    return name
"""
PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "tiny"
version = "1"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    return tmp_path


def test_venv_is_made_and_refreshed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_TARGET", str(project / "astray"))  # is not heeded
    venv = project / "build" / "venv"
    bootstrap.ensure_venv(project, venv)
    assert list(venv.glob("lib/python3*/site-packages/tiny-1.dist-info"))
    assert bootstrap.venv_ready(project, venv)

    capfd.readouterr()
    bootstrap.ensure_venv(project, venv)
    assert capfd.readouterr().err == ""

    (venv / "kept").touch()
    (project / "pyproject.toml").write_text(PYPROJECT + 'description = "new"\n')
    assert not bootstrap.venv_ready(project, venv)
    bootstrap.ensure_venv(project, venv)
    assert (venv / "kept").exists(), "what only needs a refresh is not made anew"
    assert bootstrap.venv_ready(project, venv)

    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "fail").touch()
    with pytest.raises(InfraError, match="the compiler said no"):
        bootstrap.ensure_venv(project, venv)
    assert bootstrap.Stamp.of(venv) is None, "a failed install must not count as whole"


def test_venv_that_was_never_whole_is_made_anew(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def record(argv: tuple[str | Path, ...], **_: object) -> Finished:
        ran.append(" ".join(map(str, argv)))
        return Finished(argv=(), code=0, out="")

    monkeypatch.setattr(bootstrap, "run", record)
    venv = project / "build" / "venv"
    venv.mkdir(parents=True)
    (venv / "half").touch()
    bootstrap.ensure_venv(project, venv)
    assert not (venv / "half").exists()
    assert ran[0].endswith(f"-m venv {venv}")
    assert ran[1].endswith(f"--editable {project}[test]")


def stamped(project: Path) -> Path:
    """A virtual environment that says it is whole."""
    venv = project / "build" / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    cache.write_json(venv / bootstrap.STAMP, dataclasses.asdict(bootstrap.Stamp.now(project, venv)))
    assert bootstrap.venv_ready(project, venv)
    return venv


def test_stamp_sees_each_input(project: Path) -> None:
    caller = project / "harness" / "caller"
    caller.mkdir(parents=True)
    for path in (project / "setup.py", caller / "wire.h", caller / "wire_build.py"):
        before = bootstrap.inputs(project)
        path.write_text("x")
        assert bootstrap.inputs(project) != before, path
        before = bootstrap.inputs(project)
        path.write_text("y")
        assert bootstrap.inputs(project) != before, path


def test_lost_cffi_module_is_seen(project: Path) -> None:
    caller = project / "harness" / "caller"
    caller.mkdir(parents=True)
    (caller / "wire_build.py").touch()
    (caller / "_wire.abi3.so").touch()
    venv = stamped(project)
    (caller / "_wire.abi3.so").unlink()
    assert not bootstrap.venv_ready(project, venv)


def test_lost_python_and_damaged_stamp_are_seen(project: Path) -> None:
    venv = stamped(project)
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to("/nowhere/python3")
    assert not bootstrap.venv_ready(project, venv)
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to(sys.executable)
    assert bootstrap.venv_ready(project, venv)
    (venv / bootstrap.STAMP).write_text('{"base": "')
    assert not bootstrap.venv_ready(project, venv)


def test_venv_that_was_moved_is_not_ready(project: Path) -> None:
    stamped(project)
    (project / "build" / "venv").rename(project / "build" / "moved")
    assert not bootstrap.venv_ready(project, project / "build" / "moved")


# --- the whole ---


def test_unknown_job_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bootstrap.main(["--for", "nonsense"])
    assert caught.value.code == 2
    assert "invalid choice: 'nonsense'" in capfd.readouterr().err


def test_build_of_another_user_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def denied(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "build/bootstrap.lock")

    monkeypatch.setattr(bootstrap, "prepare", denied)
    assert bootstrap.main([]) == 16
    assert capfd.readouterr().err == (
        "bootstrap: [Errno 13] Permission denied: 'build/bootstrap.lock'\n"
    )
