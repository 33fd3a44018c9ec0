# SPDX-License-Identifier: GPL-2.0-only
"""A series as commits: git am onto a pristine tree, of the files that it touches alone.

git am looks at the files that a patch names and at no other, so a repository of
just these shows the same as one of 87,000 files, in a fraction of a second.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vm import cache as store
from vm import proc
from vm.errors import BuildError
from vm.patches import Patch

#: One git command, in seconds.
GIT_SECONDS = 120.0
#: git's identity and times are not the user's: the same series, the same commits.
WHO = {
    "GIT_COMMITTER_NAME": "extsys",
    "GIT_COMMITTER_EMAIL": "extsys@localhost",
    "GIT_AUTHOR_NAME": "extsys",
    "GIT_AUTHOR_EMAIL": "extsys@localhost",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commit:
    """One patch of a series, applied."""

    hash: str
    subject: str  #: without [PATCH n/m]
    message: str  #: whole
    patch: Path  #: the mail that it was made from
    files: tuple[str, ...]  #: that it touches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repository:
    """The touched files of a pristine tree, and each patch on top of them."""

    path: Path
    base: str
    commits: tuple[Commit, ...]

    @property
    def touched(self) -> tuple[str, ...]:
        """Every file that a commit touches, once, in order."""
        return tuple(dict.fromkeys(name for one in self.commits for name in one.files))

    def content(self, commit: str, name: str) -> bytes | None:
        """A file as it is in a commit; None when it is not there."""
        if not git(self.path, "ls-tree", commit, "--", name).out:
            return None
        return raw(self.path, "show", f"{commit}:{name}")

    def executable(self, commit: str, name: str) -> bool:
        return git(self.path, "ls-tree", commit, "--", name).out.startswith("100755")


def git(where: Path, *args: str, check: bool = True) -> proc.Finished:
    """Run git in a repository.  Raises InfraError as vm.proc.run does."""
    argv: list[str | Path] = ["git", "-C", where, *args]
    return proc.run(argv, timeout=GIT_SECONDS, env=WHO, check=check, quiet=True)


def raw(where: Path, *args: str) -> bytes:
    """What git prints, byte for byte."""
    log = where / ".git" / "extsys-out"
    proc.run(["git", "-C", where, *args], timeout=GIT_SECONDS, env=WHO, log=log, quiet=True)
    return log.read_bytes()


def apply(wanted: Sequence[Patch], pristine: Path | None, where: Path) -> Repository:
    """A repository at ``where`` with every patch as a commit.

    Without a ``pristine`` tree it starts empty, as for manual pages.

    Raises BuildError with git's words for a patch that it does not take.
    """
    store.remove(where)
    where.mkdir(parents=True)
    git(where, "init", "-q", "-b", "series")
    names = {name for patch in wanted for diff in patch.files for name in diff.names}
    for name in sorted(names):
        source = pristine / name if pristine else None
        if source and source.is_file():
            target = where / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode & 0o777)
    git(where, "add", "-A", "-f", ".")
    git(where, "commit", "-q", "--allow-empty", "-m", "pristine")
    base = git(where, "rev-parse", "HEAD").out.strip()
    commits = []
    for patch in wanted:
        done = git(
            where, "am", "-q", "--committer-date-is-author-date", str(patch.path), check=False
        )
        if done.code:
            git(where, "am", "--abort", check=False)
            raise BuildError(f"{patch.path}: git am does not take it:\n{done.out.strip()}")
        commits.append(_commit(where, patch))
    return Repository(path=where, base=base, commits=tuple(commits))


def _commit(where: Path, patch: Patch) -> Commit:
    message = git(where, "log", "-1", "--format=%B").out.strip()
    files = git(where, "show", "--format=", "--name-only", "HEAD").out.split()
    return Commit(
        hash=git(where, "rev-parse", "HEAD").out.strip(),
        subject=message.partition("\n")[0],
        message=message,
        patch=patch.path,
        files=tuple(files),
    )
