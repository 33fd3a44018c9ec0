# SPDX-License-Identifier: GPL-2.0-only
"""vm.cache: whole or not at all, by one run at a time."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import fakelinux
import pytest

from vm import cache
from vm.errors import InfraError


def wait_for(path: Path, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.02)


def names(directory: Path) -> list[str]:
    """What is in a directory, lock files aside."""
    return sorted(path.name for path in directory.iterdir() if not path.name.endswith(".lock"))


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    made = []

    def make(temp: Path) -> None:
        made.append(temp)
        (temp / "file").write_text("content")

    final = tmp_path / "kinds" / "entry"
    assert cache.entry(final, "making it", make) is False
    assert cache.entry(final, "making it", make) is True
    assert len(made) == 1
    assert made[0] != final
    assert (final / "file").read_text() == "content"
    assert names(final.parent) == ["entry"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def make(temp: Path) -> None:
        (temp / "file").write_text("half")
        raise InfraError("no more")

    with pytest.raises(InfraError, match="no more"):
        cache.entry(tmp_path / "entry", "making it", make)
    assert names(tmp_path) == []


def test_a_killed_run_leaves_no_entry_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    final, flag = tmp_path / "entry", tmp_path / "flag"
    child = fakelinux.python(f"""
        import pathlib, time
        from vm import cache
        def make(temp):
            (temp / "file").write_text("half")
            pathlib.Path({str(flag)!r}).touch()
            time.sleep(60)
        cache.entry(pathlib.Path({str(final)!r}), "making it", make)
    """)
    wait_for(flag)
    child.kill()
    child.communicate()
    assert not final.exists()
    assert any(name.startswith(".entry.new-") for name in names(tmp_path))

    assert not cache.entry(final, "making it", lambda temp: (temp / "file").touch())
    assert names(tmp_path) == ["entry", "flag"]


def test_what_a_killed_run_left_of_another_entry_goes_unless_it_is_being_made(
    tmp_path: Path,
) -> None:
    with cache.guard(tmp_path / "dead", "making it"):
        (tmp_path / ".dead.new-1").mkdir()
    with cache.guard(tmp_path / "alive", "making it"):
        (tmp_path / ".alive.new-1").mkdir()
        cache.entry(tmp_path / "entry", "making it", lambda temp: None)
    assert names(tmp_path) == [".alive.new-1", "entry"]


def test_two_runs_at_once_make_it_once_and_the_second_says_that_it_waits(tmp_path: Path) -> None:
    code = f"""
        import pathlib, time
        from vm import cache
        top = pathlib.Path({str(tmp_path)!r})
        def make(temp):
            with (top / "made").open("a") as out:
                out.write("x")
            time.sleep(1)
            (temp / "file").touch()
        print(cache.entry(top / "entry", "making the entry", make))
    """
    both = [fakelinux.python(code) for _ in range(2)]
    said = sorted(child.communicate(timeout=20)[0] for child in both)
    assert (tmp_path / "made").read_text() == "x"
    assert said[0] == "False\n"
    assert said[1].startswith("waiting for another run (pid ")
    assert said[1].endswith("): making the entry\nTrue\n")


def test_a_lock_lasts_as_long_as_a_child_that_has_it(tmp_path: Path) -> None:
    lock_file = tmp_path / "lock"
    with cache.locked(lock_file, "the work") as lock:
        child = subprocess.Popen(["sleep", "30"], pass_fds=(lock.fd,))
    try:
        with (
            pytest.raises(InfraError, match=r"the work: another run has held .*lock for 0 s"),
            cache.locked(lock_file, "the work", patience=0.0),
        ):
            pass
    finally:
        child.kill()
        child.wait()
    with cache.locked(lock_file, "the work", patience=0.0):
        pass


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    cache.write_json(path, {"a": 1})
    with pytest.raises(TypeError), cache.writing(path) as out:
        out.writelines([b"half", None])  # type: ignore[list-item]
    assert cache.read_json(path) == {"a": 1}
    assert names(tmp_path) == ["record.json"]
    assert cache.read_json(tmp_path / "none.json") is None
    path.write_text("{")
    with pytest.raises(InfraError, match=r"record\.json: not JSON"):
        cache.read_json(path)


def test_a_key_tells_its_parts_apart() -> None:
    keys = {cache.key("ab", "c"), cache.key("a", "bc"), cache.key("abc"), cache.key("abc", "")}
    assert len(keys) == 4
    assert cache.key("ab", b"c") == cache.key(b"ab", "c")


def test_prune_keeps_the_newest_and_what_was_used(tmp_path: Path) -> None:
    for age, name in enumerate(("t-1", "t-2", "t-3", "other-0")):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    cache.touch(tmp_path / "t-1")
    cache.prune(tmp_path, "t-*", keep=2)
    assert names(tmp_path) == ["other-0", "t-1", "t-3"]


def test_trim_keeps_what_was_last_used_or_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "LIMITS", (cache.Limit(part="kernels", keep=2, why=""),))
    home = tmp_path / "kernels"
    names = ["k-1", "k-2", "k-3", ".k-4.new-x", "k-5"]
    for age, name in enumerate(names):
        (home / name).mkdir(parents=True)
        (home / name / "bzImage").touch()
        os.utime(home / name, (1000 + age, 1000 + age))
    (home / ".k-1.lock").touch()
    (tmp_path / "source" / "old").mkdir(parents=True)
    cache.touch(home / "k-2")
    cache.trim(tmp_path)
    left = {path.name for path in home.iterdir()}
    assert left == {"k-2", "k-5", ".k-4.new-x", ".k-1.lock"}
    for name in ("k-6", "k-7", "k-8"):  # of this minute: another run may have them
        (home / name).mkdir()
    cache.trim(tmp_path)
    assert {path.name for path in home.glob("[!.]*")} == {"k-2", "k-6", "k-7", "k-8"}
    assert (tmp_path / "source" / "old").is_dir()


def test_every_limit_is_of_a_part_and_has_its_reason() -> None:
    for limit in cache.LIMITS:
        assert limit.keep > 0
        assert limit.why


def test_remove_copes_with_directories_that_cannot_be_written(tmp_path: Path) -> None:
    inner = tmp_path / "tree" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    inner.chmod(0o500)
    cache.remove(tmp_path / "tree")
    cache.remove(tmp_path / "tree")
    assert names(tmp_path) == []
