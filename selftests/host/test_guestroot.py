# SPDX-License-Identifier: GPL-2.0-only
"""The guest's root, and its shell: what it understands, and what it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vm.errors import InfraError
from vm.guestroot import DIRECTORIES, MARKER, SHELL_SOURCE, TEXTS, compile_program, make_root

#: What virtme-run 1.42 hands to init, word for word.
VIRTME = (
    "mount -t tmpfs run /run; mount -t devtmpfs devtmpfs /dev; "
    "mkdir -p /run/virtme/guesttools; "
    "/bin/mount -n -t 9p -o ro,version=9p2000.L,trans=virtio,access=any,msize=524288 "
    "virtme.guesttools /run/virtme/guesttools; "
    "mount --bind /dev/null /etc/fstab; exec /run/virtme/guesttools/bin/virtme-ng-init"
)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_program(SHELL_SOURCE, tmp_path_factory.mktemp("shell") / "sh")


def run(shell: Path, *args: str, name: str = "sh") -> subprocess.CompletedProcess[str]:
    """Run the shell under a name, with its dry-run flag."""
    return subprocess.run(
        [name, "-n", *args], executable=shell, capture_output=True, text=True, check=False
    )


def test_what_virtme_run_says(shell: Path) -> None:
    done = run(shell, "-c", VIRTME)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "mount type=tmpfs source=run target=/run flags=0x0 data=",
        "mount type=devtmpfs source=devtmpfs target=/dev flags=0x0 data=",
        "mkdir -p /run/virtme/guesttools",
        "mount type=9p source=virtme.guesttools target=/run/virtme/guesttools flags=0x1 "
        "data=version=9p2000.L,trans=virtio,access=any,msize=524288,cache=loose",
        "mount type= source=/dev/null target=/etc/fstab flags=0x1000 data=",
        "exec /run/virtme/guesttools/bin/virtme-ng-init",
    ]


def test_what_the_installed_virtme_run_says(shell: Path, tmp_path: Path) -> None:
    """The same, as the virtme-run at hand has it: a newer one is noticed here first."""
    import shlex

    from vm.guest import find_virtme_run

    image = tmp_path / "image"
    image.write_text("Linux version 6.12.0\n")
    root = make_root(tmp_path / "root", {})
    command = [str(find_virtme_run()), "--kimg", str(image), "--mods", "none"]
    command += ["--root", str(root), "--user", "root", "--disable-kvm", "--force-9p"]
    command += ["--shell", "/program", "--dry-run", "--show-command"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    qemu = shlex.split(shown)
    append = shlex.split(qemu[qemu.index("-append") + 1])
    assert append[append.index("--") - 1] == "init=/bin/sh"
    done = run(shell, *append[append.index("--") + 1 :])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("exec /run/virtme/guesttools/bin/")


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ("", []),
        (" ; ;\n\t;", []),
        ("exec /a b  c", ["exec /a b c"]),
        ("exec /a; exec /b", ["exec /a"]),
        ("mkdir /a /b;", ["mkdir /a", "mkdir /b"]),
        ("mkdir -p /a\nexec /b\n", ["mkdir -p /a", "exec /b"]),
        ("/usr/bin/mkdir /a", ["mkdir /a"]),
        (
            "mount -t proc -o nosuid,noexec,nodev,hidepid=2 proc /proc",
            ["mount type=proc source=proc target=/proc flags=0xe data=hidepid=2"],
        ),
        (
            "mount -t 9p -o rw,trans=virtio x /x",
            ["mount type=9p source=x target=/x flags=0x0 data=trans=virtio"],
        ),
        (
            "mount -t 9p -o ro,cache=none x /x",
            ["mount type=9p source=x target=/x flags=0x1 data=cache=none"],
        ),
        (
            "mount -t 9p -o ro x /x",
            ["mount type=9p source=x target=/x flags=0x1 data=cache=loose"],
        ),
    ],
)
def test_commands(shell: Path, commands: str, expected: list[str]) -> None:
    done = run(shell, "-c", commands)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize(
    ("commands", "complaint"),
    [
        ("ln -s /a /b", "command not known to this shell: ln"),
        ("mkdir /a; umount /a", "command not known to this shell: umount"),
        ("mkdir /a && exec /b", "character not known to this shell: &"),
        ("exec /a > /dev/console", "character not known to this shell: >"),
        ("exec $SHELL", "character not known to this shell: $"),
        ('exec "/a b"', 'character not known to this shell: "'),
        ("mkdir --mode=700 /a", "mkdir: option not known: --mode=700"),
        ("mount -t tmpfs --move a /b", "mount: option not known: --move"),
        ("mount a /b", "mount: -t wanted: /b"),
        ("mount -t tmpfs a", "mount: source and target wanted"),
        ("mount -t tmpfs a /b /c", "mount: one argument too many: /c"),
        ("mount a /b -t", "mount: option not known: -t"),
        (f"mount -t tmpfs -o {'x' * 600} a /b", "mount options too long"),
        ("exec", "exec: program wanted"),
        ("exec " + "a " * 40, "too many words in a command: exec"),
        ("exec " + "a" * 5000, "commands too long"),
    ],
)
def test_what_it_refuses(shell: Path, commands: str, complaint: str) -> None:
    done = run(shell, "-c", commands)
    assert done.returncode == 2
    assert done.stderr.startswith(f"sh: {complaint}")


@pytest.mark.parametrize("args", [(), ("script",), ("-l",), ("-c",), ("-c", "mkdir /a", "name")])
def test_no_other_way_to_call_it(shell: Path, args: tuple[str, ...]) -> None:
    done = run(shell, *args)
    assert done.returncode == 2
    assert done.stderr.startswith("sh: only -c COMMANDS is known to this shell")
    assert not done.stdout


@pytest.mark.parametrize(
    ("args", "code", "out", "err"),
    [
        (("-s", "/program"), 0, "exec /program\n", ""),
        (("-s", "/program", "--", "root"), 0, "exec /program\n", ""),
        ((), 2, "", "su: -s PROGRAM wanted: there is no shell to give\n"),
        (("-s", "/program", "nobody"), 2, "", "su: argument not known: nobody\n"),
        (("-c", "id"), 2, "", "su: argument not known: -c\n"),
    ],
)
def test_su(shell: Path, args: tuple[str, ...], code: int, out: str, err: str) -> None:
    done = run(shell, *args, name="su")
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


def test_su_does_nothing_elsewhere(shell: Path) -> None:
    """It would mount a /tmp, and restart the machine when the program ends."""
    if "virtme_console=" in Path("/proc/cmdline").read_text():
        pytest.skip("this is a guest")
    done = subprocess.run(
        ["su", "-s", "/bin/true"], executable=shell, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "su: this is no guest of virtme-ng's\n")


def test_it_needs_nothing(shell: Path) -> None:
    """Neither a library nor an interpreter, and few pages."""
    from elftools.elf.elffile import ELFFile

    with shell.open("rb") as file:
        kinds = {segment["p_type"] for segment in ELFFile(file).iter_segments()}
    assert not kinds & {"PT_INTERP", "PT_DYNAMIC"}
    assert shell.stat().st_size < 16384


def test_root_is_what_the_tables_say(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!x")
    program.chmod(0o755)
    root = make_root(tmp_path / "a" / "root", {"/opt/x/run": program})
    for entry in DIRECTORIES:
        assert (root / entry.path).stat().st_mode & 0o7777 == entry.mode
    for text in TEXTS:
        assert (root / text.path).read_text() == text.contents
    assert (root / "bin/sh").samefile(root / "bin/su")
    copy = root / "opt/x/run"
    assert copy.read_bytes() == b"#!x"
    assert copy.stat().st_mode & 0o777 == 0o755
    assert not copy.samefile(program), "a later build must not reach into a running guest"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["root"]


def test_a_root_is_replaced_whole(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch()
    make_root(tmp_path / "root", {"/old": program})
    root = make_root(tmp_path / "root", {"/new": program})
    assert not (root / "old").exists()
    assert (root / "new").exists()


def test_a_directory_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "home"
    theirs.mkdir()
    (theirs / "thesis.tex").touch()
    with pytest.raises(InfraError, match="not a guest root"):
        make_root(theirs, {})
    assert [path.name for path in theirs.iterdir()] == ["thesis.tex"]


def test_a_missing_file_leaves_the_old_root(tmp_path: Path) -> None:
    make_root(tmp_path / "root", {})
    with pytest.raises(InfraError, match="no such file, wanted as /x"):
        make_root(tmp_path / "root", {"/x": tmp_path / "missing"})
    assert (tmp_path / "root" / MARKER).exists()


@pytest.mark.parametrize("path", ["x", "/", "/a/../b", "", "../x"])
def test_paths_outside_the_root(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        make_root(tmp_path / "root", {path: Path(__file__)})


@pytest.mark.parametrize("path", ["/bin/sh", "/etc/passwd"])
def test_the_roots_own_files(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="a file of its own"):
        make_root(tmp_path / "root", {path: Path(__file__)})
