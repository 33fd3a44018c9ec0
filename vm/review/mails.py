# SPDX-License-Identifier: GPL-2.0-only
"""The mails of a series, ready for `git send-email`: a cover letter and the patches, one thread.

The cover letter's text is in kernel-patches/cover-letters/: a subject, an empty
line, the body.  What can be derived is not written there: shortlog, diffstat, the
manual page as text, and who gets a copy.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vm import cache as store
from vm import proc
from vm.errors import UserError
from vm.review.bench import Bench, Part, part_of
from vm.review.commits import git

#: One run of a small tool, in seconds.
TOOL_SECONDS = 120.0
#: Columns of the manual page in the cover letter.
COLUMNS = 72
#: The texts of the cover letters, beside the series of the kernels.
COVERS = "cover-letters"
#: How a manual page begins in a cover letter.
PAGE = "The manual page"
#: What a maintainer asks of a new system call; each is a heading of the cover letter.
QUESTIONS = (
    "Why a system call?",
    "Why these arguments?",
    "How is it extended?",
    "What about 32-bit programs and x32?",
    "Who may call it?",
    "How is it tested?",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thread:
    """The mails of one series, in a directory of their own."""

    part: Part
    cover: Path
    patches: tuple[Path, ...]


def write(bench: Bench, where: Path) -> list[Thread]:
    """Write the threads of every series below ``where``.

    Raises UserError for a series without a cover letter.
    """
    return [_thread(bench, part, where / part.name.replace("/", "-")) for part in bench.parts]


def _thread(bench: Bench, part: Part, where: Path) -> Thread:
    top = part.series.directory
    while top.name.startswith("linux-") or top.parent.name.startswith("linux-"):
        top = top.parent
    text = top / COVERS / f"{part.short}.txt"
    if not text.is_file():
        raise UserError(f"{text}: no such file", hint="a series needs a cover letter")
    subject, _, body = text.read_text().partition("\n\n")
    store.remove(where)
    where.mkdir(parents=True)
    mine = [one for one in bench.series.commits if part_of(bench, one) is part]
    before = _before(bench, part)
    stat = git(bench.series.path, "diff", "--stat=72", before, mine[-1].hash).out
    author = _header(part.mails[0][0], "From")
    name = author.partition(" <")[0]
    total = len(part.mails)
    subjects = "".join(f"  {_subject(path)}\n" for path, _ in part.mails)
    pages = "".join(_pages(bench, part, where))
    copies = _copies(bench, part)
    ident = f"{part.name.replace('/', '.')}.{bench.kernel.name}@extsys.example"
    cover = where / "0000-cover-letter.patch"
    cover.write_text(
        f"From: {author}\n"
        f"Date: {_header(part.mails[0][0], 'Date')}\n"
        f"Subject: [PATCH 0/{total}] {subject.strip()}\n"
        f"Message-ID: <{ident}>\n"
        f"{_to(copies)}\n"
        f"{body.strip()}\n\n"
        f"{name} ({total}):\n{subjects}\n{stat}\n{pages}"
    )
    written = []
    for path, tree in part.mails:
        head, _, rest = path.read_text(errors="surrogateescape").partition("\n\n")
        target = where / path.name
        own = copies if tree == "kernel" else [one.address for one in bench.table.copies]
        target.write_text(
            f"{head}\n{_to(own)}In-Reply-To: <{ident}>\nReferences: <{ident}>\n\n{rest}",
            errors="surrogateescape",
        )
        written.append(target)
    return Thread(part=part, cover=cover, patches=tuple(written))


def _before(bench: Bench, part: Part) -> str:
    """The commit that the series is put on."""
    last = bench.series.base
    for one in bench.series.commits:
        if part_of(bench, one) is part:
            break
        last = one.hash
    return last


def _header(mail: Path, name: str) -> str:
    found = re.search(rf"^{name}: (.*(?:\n .*)*)", mail.read_text(errors="replace"), re.M)
    return re.sub(r"\n ", " ", found[1]) if found else ""


def _subject(mail: Path) -> str:
    return re.sub(r"^\[[^]]*\] ", "", _header(mail, "Subject"))


def _to(addresses: Sequence[str]) -> str:
    return "Cc: " + ",\n    ".join(addresses) + "\n"


def _pages(bench: Bench, part: Part, where: Path) -> Iterator[str]:
    """The manual pages that the series touches, as text, as they are behind it."""
    mine = [path for path, tree in part.mails if tree == "man-pages"]
    for commit in bench.manual.commits:
        if commit.patch not in mine:
            continue
        for name in commit.files:
            page = where / Path(name).name
            page.write_bytes(bench.manual.content(commit.hash, name) or b"")
            text = rendered(page)
            page.with_name(f"{page.name}.txt").write_text(text)
            yield f"{PAGE} {page.name}, as text:\n\n{text}\n"


def rendered(page: Path) -> str:
    """A manual page as plain ASCII text."""
    argv: list[str | Path] = ["groff", "-man", "-Tascii", "-P-cbou", f"-rLL={COLUMNS}n", page]
    return proc.run(argv, timeout=TOOL_SECONDS, quiet=True).out


def _copies(bench: Bench, part: Part) -> list[str]:
    """Whom get_maintainer.pl names for the kernel's files, and who always gets a copy."""
    files = dict.fromkeys(
        name for one in bench.series.commits if part_of(bench, one) is part for name in one.files
    )
    with bench.workplace() as place:
        place.move(bench.series.commits[-1].hash)
        argv = ["perl", "scripts/get_maintainer.pl", "--no-git", "--no-git-fallback"]
        argv += ["--no-rolestats"]
        found: dict[str, None] = {}
        for name in files:
            if not (place.tree / name).exists():
                continue
            done = proc.run([*argv, "-f", name], timeout=TOOL_SECONDS, cwd=place.tree, quiet=True)
            found |= dict.fromkeys(line.strip() for line in done.out.splitlines() if "@" in line)
    own = _header(part.mails[0][0], "From")
    always = [one.address for one in bench.table.copies]
    return [one for one in dict.fromkeys([*always, *found]) if one != own]


def problems(bench: Bench, threads: Sequence[Thread]) -> list[str]:
    """What is missing from the threads."""
    wrong = []
    for thread in threads:
        text = thread.cover.read_text()
        adds = any(
            commit.files and "include/linux/syscalls.h" in commit.files
            for commit in bench.series.commits
            if part_of(bench, commit) is thread.part
        )
        asked = QUESTIONS if adds else QUESTIONS[2:3] + QUESTIONS[5:]
        wrong += [f"{thread.cover}: no answer to {one!r}" for one in asked if one not in text]
        for one in bench.table.copies:
            if one.address not in text:
                wrong.append(f"{thread.cover}: no copy for {one.address}")
        if " changed, " not in text:
            wrong.append(f"{thread.cover}: no diffstat")
        # A manual page's examples are as wide as they are.
        wide = [line for line in text.partition(PAGE)[0].splitlines() if len(line) > 79]
        wrong += [f"{thread.cover}: a line of {len(line)} columns: {line[:40]}" for line in wide]
        total = len(thread.patches)
        for number, path in enumerate(thread.patches, 1):
            if f"[PATCH {number}/{total}]" not in _header(path, "Subject"):
                wrong.append(f"{path}: it is patch {number} of {total}, and does not say so")
        trees = [tree for _, tree in thread.part.mails]
        if "man-pages" in trees and "NAME" not in text:
            wrong.append(f"{thread.cover}: no manual page as text")
    return wrong
