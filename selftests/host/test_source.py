# SPDX-License-Identifier: GPL-2.0-only
"""vm.source, vm.download, vm.kernels: where a kernel's source comes from.

kernel.org is played by a server on the loopback interface.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fakelinux
import pytest

from vm import download, kernels, source, trees
from vm.errors import InfraError, UserError

#: Bears with nothing: these tests are to be fast.
HASTY = download.Network(stall=0.5, whole=5.0, attempts=2, backoff=0.05)

NAME = "linux-6.12.1.tar.xz"


@dataclasses.dataclass
class Server:
    """Files to serve, and how; and what was asked for."""

    url: str = ""
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    statuses: list[int] = dataclasses.field(default_factory=list)  #: before any file
    cut: dict[str, int] = dataclasses.field(default_factory=dict)  #: bytes really sent
    stall: bool = False  #: send nothing more, instead of closing, once cut
    asked: list[str] = dataclasses.field(default_factory=list)


@pytest.fixture(name="server")
def _server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()
    done = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            state.asked.append(name)
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            if name not in state.files:
                self.send_error(404)
                return
            data = state.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: state.cut.get(name, len(data))])
            if state.stall and name in state.cut:
                self.wfile.flush()
                done.wait(10)

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_port}/pub"
    yield state
    done.set()
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    top = tmp_path_factory.mktemp("archive")
    tree = fakelinux.make_tree(top / "linux-6.12.1")
    return fakelinux.make_tarball(tree, top / NAME).read_bytes()


def sums_of(data: bytes, name: str = NAME) -> bytes:
    other = f"{'0' * 64}  linux-6.12.10.tar.xz\n"
    return f"{other}{hashlib.sha256(data).hexdigest()}  {name}\n".encode()


def left_in(cache: Path) -> list[str]:
    """Everything in the cache but lock files, which are empty of content."""
    return [str(p.relative_to(cache)) for p in cache.rglob("*") if not p.name.endswith(".lock")]


# --- the table


def test_the_table_of_kernels_says_what_the_rest_relies_on() -> None:
    for name, row in kernels.load_kernels().items():
        assert row.name == name
        assert row.upstream.startswith(f"{name}.")
        assert row.tarball.name == f"{row.package}.tar.xz"
        assert row.base.startswith("https://")
        assert row.sha256 is None or len(row.sha256) == 64
        assert row.signer is None or len(row.signer) == 40


def test_an_unknown_kernel_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"KERNEL=5\.4: no such kernel") as caught:
        kernels.kernel("5.4")
    assert "6.12" in (caught.value.hint or "")


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    table = tmp_path / "kernels.toml"
    for text in ("[[kernel]]\nname = 1 2\n", "[[kernel]]\nname = '6.12'\n", "", "kernel = 3\n"):
        table.write_text(text)
        with pytest.raises(InfraError, match=r"kernels\.toml: not a table of kernels"):
            kernels.load_kernels(table)


# --- the distribution's package


def test_the_package_is_unpacked_once(tmp_path: Path) -> None:
    tree = fakelinux.make_tree(tmp_path / "linux-source")
    kernel = fakelinux.make_kernel(fakelinux.make_tarball(tree, tmp_path / "src.tar.xz"))
    cache = tmp_path / "cache"
    first = source.obtain(kernel, cache=cache)
    assert first.version == "6.12.1"
    assert first.owned
    assert first.family == "linux-fake"
    assert (first.tree / "kernel/foo.c").read_text() == fakelinux.FILES["kernel/foo.c"]
    assert first.digest == hashlib.sha256(kernel.tarball.read_bytes()).hexdigest()
    assert source.locate(kernel, cache=cache) == first.digest

    before = fakelinux.fingerprint(first.tree)
    assert source.obtain(kernel, cache=cache) == first
    assert fakelinux.fingerprint(first.tree) == before

    (tree / "Makefile").write_text(fakelinux.MAKEFILE.replace("SUBLEVEL = 1", "SUBLEVEL = 2"))
    fakelinux.make_tarball(tree, kernel.tarball)
    newer = source.obtain(kernel, cache=cache)
    assert newer.version == "6.12.2"
    assert newer.digest != first.digest


def test_a_truncated_package_tarball_is_refused_by_name(tmp_path: Path) -> None:
    tree = fakelinux.make_tree(tmp_path / "linux-source")
    kernel = fakelinux.make_kernel(fakelinux.make_tarball(tree, tmp_path / "src.tar.xz"))
    kernel.tarball.write_bytes(kernel.tarball.read_bytes()[:-200])
    with pytest.raises(InfraError, match=r"src\.tar\.xz: cannot be unpacked"):
        source.obtain(kernel, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("Makefile"))


def test_a_tarball_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/Makefile").write_text("all:\n")
    kernel = fakelinux.make_kernel(
        fakelinux.make_tarball(tmp_path / "other", tmp_path / "src.tar.xz")
    )
    with pytest.raises(InfraError, match=r"src\.tar\.xz: no kernel source: it has no Kconfig"):
        source.obtain(kernel, cache=tmp_path / "cache")


def test_a_package_that_dpkg_finds_altered_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = fakelinux.make_tree(tmp_path / "linux-source")
    kernel = fakelinux.make_kernel(fakelinux.make_tarball(tree, tmp_path / "src.tar.xz"))
    put_program(tmp_path / "bin", "dpkg-query", "echo 6.12.1-1", monkeypatch)
    put_program(tmp_path / "bin", "dpkg", f"echo '??5??????   {kernel.tarball}'", monkeypatch)
    with pytest.raises(InfraError, match=r"src\.tar\.xz: altered or truncated") as caught:
        source.obtain(kernel, cache=tmp_path / "cache")
    assert "--reinstall linux-source-of-no-distribution" in (caught.value.hint or "")


def put_program(directory: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)
    if not os.environ["PATH"].startswith(f"{directory}:"):
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_a_package_that_is_not_installed_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_program(
        tmp_path / "bin", "apt-cache", "echo 'p:\n  Candidate: 6.12.1-1\n  Version table:'",
        monkeypatch,
    )  # fmt: skip
    with pytest.raises(UserError, match="not installed") as caught:
        source.obtain(fakelinux.make_kernel(tmp_path / "none.tar.xz"), cache=tmp_path / "cache")
    assert caught.value.hint == (
        "apt-get install --no-install-recommends linux-source-of-no-distribution"
    )


@pytest.mark.parametrize("answer", ["echo 'p:\n  Candidate: (none)'", "exit 0"])
def test_where_no_such_package_exists_the_tarball_is_downloaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    archive: bytes,
    answer: str,
) -> None:
    put_program(tmp_path / "bin", "apt-cache", answer, monkeypatch)
    server.files = {NAME: archive, download.SUMS: sums_of(archive)}
    kernel = fakelinux.make_kernel(tmp_path / "none.tar.xz", base=server.url)
    assert source.locate(kernel, cache=tmp_path / "cache") is None
    got = source.obtain(kernel, cache=tmp_path / "cache", network=HASTY)
    assert got.version == "6.12.1"
    assert got.digest == hashlib.sha256(archive).hexdigest()
    assert NAME in got.origin
    assert server.url in got.origin
    assert "not verified" in got.origin

    # Kept: neither asked for again, nor its tarball stored beside the tree.
    asked = list(server.asked)
    assert source.obtain(kernel, cache=tmp_path / "cache", network=HASTY) == got
    assert source.locate(kernel, cache=tmp_path / "cache") == got.digest
    assert server.asked == asked
    assert not list((tmp_path / "cache").rglob("*.tar.xz*"))


def test_a_mirror_that_is_named_is_used_though_the_package_is_there(
    tmp_path: Path, server: Server, archive: bytes
) -> None:
    tree = fakelinux.make_tree(tmp_path / "linux-source")
    kernel = fakelinux.make_kernel(fakelinux.make_tarball(tree, tmp_path / "src.tar.xz"))
    server.files = {NAME: archive, download.SUMS: sums_of(archive)}
    got = source.obtain(kernel, mirror=f"{server.url}/", cache=tmp_path / "c", network=HASTY)
    assert server.url in got.origin
    assert server.asked == [download.SUMS, NAME]


# --- a download that goes wrong


def refused(server: Server, cache: Path, *, sha256: str | None = None) -> str:
    """What the refusal of a download says; checks that it left nothing."""
    kernel = fakelinux.make_kernel(cache / "none.tar.xz", sha256=sha256)
    with pytest.raises((InfraError, UserError)) as caught:
        source.obtain(kernel, mirror=server.url, cache=cache, network=HASTY)
    assert left_in(cache) == ["source"]
    return str(caught.value)


def test_a_file_that_breaks_off_is_refused_by_name(
    tmp_path: Path, server: Server, archive: bytes
) -> None:
    server.files = {NAME: archive, download.SUMS: sums_of(archive)}
    server.cut = {NAME: 100}
    said = refused(server, tmp_path)
    assert f"{NAME}: truncated: 100 of {len(archive)} bytes (2 attempts)" in said
    assert server.asked == [download.SUMS, NAME, NAME]


def test_a_file_that_is_short_on_the_server_is_refused_by_name(
    tmp_path: Path, server: Server, archive: bytes
) -> None:
    server.files = {NAME: archive[:-50], download.SUMS: sums_of(archive)}
    said = refused(server, tmp_path)
    assert f"{NAME}: truncated or altered" in said
    assert hashlib.sha256(archive).hexdigest() in said


def test_an_altered_file_is_refused_by_name(tmp_path: Path, server: Server, archive: bytes) -> None:
    altered = bytes([archive[0], archive[1] ^ 1]) + archive[2:]
    server.files = {NAME: altered, download.SUMS: sums_of(archive)}
    assert f"{NAME}: truncated or altered" in refused(server, tmp_path)
    assert server.asked.count(NAME) == 1  # another attempt would get the same


def test_a_list_without_the_file_is_refused(tmp_path: Path, server: Server, archive: bytes) -> None:
    server.files = {NAME: archive, download.SUMS: sums_of(archive, "linux-6.12.11.tar.xz")}
    assert f"{download.SUMS}: has no line for {NAME}" in refused(server, tmp_path)
    assert NAME not in server.asked


def test_a_list_that_contradicts_the_table_is_refused(
    tmp_path: Path, server: Server, archive: bytes
) -> None:
    server.files = {NAME: archive, download.SUMS: sums_of(archive)}
    assert f"it must be {'a' * 64}" in refused(server, tmp_path, sha256="a" * 64)
    assert NAME not in server.asked


def test_a_line_outside_the_signed_text_does_not_count(
    tmp_path: Path, server: Server, archive: bytes
) -> None:
    signed = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{}-----BEGIN PGP SIGNATURE-----\n"
    forged = sums_of(archive) + signed.format("").encode() + sums_of(archive)
    server.files = {NAME: archive, download.SUMS: forged}
    assert "has no line for" in refused(server, tmp_path)
    server.files[download.SUMS] = (signed * 2).format("", "").encode()
    assert "more than one signed text" in refused(server, tmp_path)


def test_a_missing_file_is_refused_at_once(tmp_path: Path, server: Server, archive: bytes) -> None:
    server.files = {download.SUMS: sums_of(archive)}
    assert f"{server.url}/{NAME}: HTTP 404" in refused(server, tmp_path)
    assert server.asked.count(NAME) == 1


def test_a_server_that_is_busy_is_asked_again(
    tmp_path: Path, server: Server, archive: bytes
) -> None:
    server.files = {NAME: archive, download.SUMS: sums_of(archive)}
    server.statuses = [503]
    kernel = fakelinux.make_kernel(tmp_path / "none")
    source.obtain(kernel, mirror=server.url, cache=tmp_path / "cache", network=HASTY)
    assert server.asked == [download.SUMS, download.SUMS, NAME]
    server.statuses = [503, 503]
    assert "HTTP 503" in refused(server, tmp_path / "other")


def test_a_server_that_stalls_is_given_up(tmp_path: Path, server: Server, archive: bytes) -> None:
    server.files = {NAME: archive, download.SUMS: sums_of(archive)}
    server.cut, server.stall = {NAME: 100}, True
    start = time.monotonic()
    assert f"{NAME}: no byte within 0.5 s (2 attempts)" in refused(server, tmp_path)
    assert time.monotonic() - start < 5


def test_a_mirror_that_cannot_be_reached_is_named(tmp_path: Path, server: Server) -> None:
    server.url = "http://127.0.0.1:9/pub"  # discard: nobody listens
    said = refused(server, tmp_path)
    assert said.startswith(f"http://127.0.0.1:9/pub/{download.SUMS}: cannot be reached")


def test_a_mirror_must_be_a_url(tmp_path: Path, server: Server) -> None:
    server.url = "/srv/mirror"
    assert "/srv/mirror: not an http, https or file URL" in refused(server, tmp_path)


# --- the signature


@dataclasses.dataclass(frozen=True)
class Signer:
    fingerprint: str

    def sign(self, text: bytes) -> bytes:
        argv = ["gpg", "--batch", "--yes", "--clearsign", "--output", "-"]
        return subprocess.run(argv, input=text, check=True, capture_output=True).stdout


@pytest.fixture(name="signer", scope="module")
def _signer() -> Iterator[Signer]:
    if not shutil.which("gpg"):
        pytest.skip("no gpg here")
    # Not under pytest's own directory: a socket's path is 107 bytes at most.
    with contextlib.ExitStack() as stack:
        import tempfile

        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="gpg-"))
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("GNUPGHOME", home)
        stack.callback(subprocess.run, ["gpgconf", "--kill", "all"], check=False)
        make = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", "tester", "ed25519"]
        subprocess.run(make, check=True, capture_output=True)
        listing = ["gpg", "--batch", "--with-colons", "--fingerprint"]
        out = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
        yield Signer(next(line for line in out.splitlines() if line[:3] == "fpr").split(":")[9])


def fetch(server: Server, target: Path, signer: str | None) -> str:
    return download.fetch_checked(server.url, target, signer=signer, network=HASTY)[1]


def test_a_good_signature_is_verified(
    tmp_path: Path, server: Server, archive: bytes, signer: Signer
) -> None:
    server.files = {NAME: archive, download.SUMS: signer.sign(sums_of(archive))}
    said = fetch(server, tmp_path / NAME, signer.fingerprint)
    assert said == f"signature of {signer.fingerprint} verified"
    assert (tmp_path / NAME).read_bytes() == archive


def test_a_list_that_was_altered_after_signing_is_refused(
    tmp_path: Path, server: Server, archive: bytes, signer: Signer
) -> None:
    signed = signer.sign(sums_of(b"another file"))
    true, false = (hashlib.sha256(data).hexdigest().encode() for data in (archive, b"another file"))
    server.files = {NAME: archive, download.SUMS: signed.replace(false, true)}
    with pytest.raises(InfraError, match="bad signature"):
        fetch(server, tmp_path / NAME, signer.fingerprint)
    assert not (tmp_path / NAME).exists()


def test_another_signer_is_refused_and_an_unknown_one_reported(
    tmp_path: Path,
    server: Server,
    archive: bytes,
    signer: Signer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.files = {NAME: archive, download.SUMS: signer.sign(sums_of(archive))}
    with pytest.raises(InfraError, match=f"signed by {signer.fingerprint}, not by {'B' * 40}"):
        fetch(server, tmp_path / NAME, "B" * 40)
    (tmp_path / "empty").mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(tmp_path / "empty"))
    said = fetch(server, tmp_path / NAME, signer.fingerprint)
    assert said == f"signature not verified: gpg has no key {signer.fingerprint}"


# --- a user's tree


def user(tree: Path, cache: Path) -> source.Source:
    return source.user_tree(tree, cache=cache)


def test_what_is_no_kernel_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"KERNEL_TREE=.*none: no such directory"):
        user(tmp_path / "none", tmp_path / "cache")
    with pytest.raises(UserError, match="no kernel tree: it has no Makefile"):
        user(tmp_path, tmp_path / "cache")
    tree = fakelinux.make_tree(tmp_path / "linux")
    objects = tmp_path / "objects"
    objects.mkdir()
    (objects / "source").symlink_to(tree)
    (objects / "Makefile").touch()
    with pytest.raises(UserError, match="no kernel tree: it has no Kconfig") as caught:
        user(objects, tmp_path / "cache")
    assert str(tree) in (caught.value.hint or "")


def settle(tree: Path) -> None:
    """Wait until no file of the tree is so new that it is read again anyway."""
    newest = max(path.lstat().st_ctime for path in tree.rglob("*"))
    time.sleep(max(0.0, newest + source.RACY_SECONDS + 0.05 - time.time()))


def test_a_users_tree_is_followed_by_content_and_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "RACY_SECONDS", 0.2)
    tree, cache = fakelinux.make_tree(tmp_path / "linux"), tmp_path / "cache"
    (tree / "tools.sh").write_text("#!/bin/sh\n")
    (tree / "tools.sh").chmod(0o755)
    (tree / "link").symlink_to("kernel/foo.c")
    settle(tree)
    before = fakelinux.fingerprint(tree)
    first = user(tree, cache)
    assert fakelinux.fingerprint(tree) == before
    assert not first.owned
    assert first.version == "6.12.1"
    copy = fakelinux.fingerprint(first.tree)
    assert copy.keys() == before.keys()
    assert all(copy[name][0] == before[name][0] for name in before)
    assert not {row[3] for row in copy.values()} & {row[3] for row in before.values()}
    assert (first.tree / "link").readlink() == Path("kernel/foo.c")
    assert os.access(first.tree / "tools.sh", os.X_OK)

    # Nothing changed: nothing is read, and it is the same copy.
    read: list[Path] = []
    real = trees.copy_content

    def copy_content(one: Path, other: Path) -> None:
        read.append(one)
        real(one, other)

    monkeypatch.setattr(trees, "copy_content", copy_content)
    assert user(tree, cache) == first
    assert read == []

    # A new date alone: read, but the same.
    os.utime(tree / "kernel/foo.c")
    settle(tree)
    assert user(tree, cache) == first
    assert read == [tree / "kernel/foo.c"]

    # An edit, a new file, one that is gone.
    read.clear()
    (tree / "kernel/foo.c").write_text("int foo(void) { return 9; }\n")
    (tree / "kernel/more.c").write_text("int more;\n")
    (tree / "link").unlink()
    settle(tree)
    second = user(tree, cache)
    assert read == [tree / "kernel/foo.c", tree / "kernel/more.c"]
    assert second.digest != first.digest
    assert second.family == first.family
    assert (second.tree / "kernel/foo.c").read_text().endswith("9; }\n")
    assert not (second.tree / "link").is_symlink()
    assert (second.tree / "kernel/bar.c").samefile(first.tree / "kernel/bar.c")
    # What an earlier run builds from has not moved under it.
    assert fakelinux.fingerprint(first.tree) == copy

    # And back again.
    (tree / "kernel/more.c").unlink()
    (tree / "kernel/foo.c").write_text(fakelinux.FILES["kernel/foo.c"])
    (tree / "link").symlink_to("kernel/foo.c")
    settle(tree)
    assert user(tree, cache).digest == first.digest


def test_a_file_that_changes_within_one_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    tree, cache = fakelinux.make_tree(tmp_path / "linux"), tmp_path / "cache"
    path = tree / "kernel/foo.c"
    first = user(tree, cache)
    times = path.stat()
    with path.open("r+b") as file:  # the same inode, size and mtime
        file.write(b"INT")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert user(tree, cache).digest != first.digest


def test_only_the_last_states_of_a_users_tree_are_kept(tmp_path: Path) -> None:
    tree, cache = fakelinux.make_tree(tmp_path / "linux"), tmp_path / "cache"
    for number in range(6):
        (tree / "kernel/foo.c").write_text(f"int foo = {number};\n")
        last = user(tree, cache)
    kept = list((cache / "trees" / last.family).glob("at-*"))
    assert len(kept) == 4
    assert last.tree.parent in kept


def test_what_a_build_left_in_a_plain_tree_is_not_source(tmp_path: Path) -> None:
    tree = fakelinux.make_tree(tmp_path / "linux")
    source_files = trees.listing(tree)
    assert source_files == sorted(fakelinux.FILES)
    for name in (
        *(".config", "vmlinux", "kernel/foo.o", "kernel/.foo.o.cmd", "include/config/auto.conf"),
        *("include/generated/autoconf.h", "arch/x86/include/generated/asm/a.h"),
        *("lib/crc32table.h", "lib/.crc32table.h.cmd", ".tmp_vmlinux1", "out/.config"),
        *(".git/config", "out/kernel/foo.c"),
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    (tree / "out/source").symlink_to(tree)
    (tree / "tools/include/generated").mkdir(parents=True)
    (tree / "tools/include/generated/autoconf.h").touch()
    shutil.rmtree(tree / ".git")
    assert trees.listing(tree) == sorted([*source_files, "tools/include/generated/autoconf.h"])


@pytest.mark.skipif(not shutil.which("git"), reason="no git here")
def test_of_a_git_tree_what_git_does_not_ignore_is_source(tmp_path: Path) -> None:
    tree = fakelinux.make_tree(tmp_path / "linux")
    git = ["git", "-C", str(tree), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (tree / ".gitignore").write_text("*.orig\n/out/\n*.o\n")
    (tree / "firmware.o").write_text("tracked, though ignored")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-f", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "all"], check=True)
    (tree / "kernel/bar.c").unlink()
    (tree / "kernel/new file.c").write_text("int x;\n")
    (tree / "kernel/foo.c.orig").touch()
    (tree / "out").mkdir()
    (tree / "out/big").touch()
    before = fakelinux.fingerprint(tree)
    got = user(tree, tmp_path / "cache")
    assert fakelinux.fingerprint(tree) == before
    want = {*fakelinux.FILES, ".gitignore", "firmware.o", "kernel/new file.c"} - {"kernel/bar.c"}
    assert set(trees.scan(got.tree)) == want
