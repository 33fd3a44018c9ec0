# SPDX-License-Identifier: GPL-2.0-only
"""The manual pages' ERRORS: what the source can return is documented, and provoked by a test.

No errno is typed here that the source has: they are read out of it, function by
function, from the system call on.  What functions of the rest of the kernel
return is data, with the place that says so.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from test_series import content

from vm import paths

TARGET = paths.VM.parent / "selftests" / "target"

#: What the kernel's own functions return, as far as it reaches the caller.
ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "get_user": ("EFAULT",),
    "copy_from_user": ("EFAULT",),
    "copy_struct_from_user": ("E2BIG", "EFAULT"),  # lib/usercopy.c
    "strncpy_from_user": ("EFAULT",),  # lib/strncpy_from_user.c
    "kzalloc": ("ENOMEM",),
    "get_unused_fd_flags": ("EMFILE",),  # fs/file.c:alloc_fd()
    "anon_inode_getfile": ("ENFILE", "ENOMEM"),  # fs/file_table.c:alloc_empty_file()
    "anon_inode_getfd": ("EMFILE", "ENFILE", "ENOMEM"),  # both of these
    # fs/namei.c: link_path_walk(), path_init(), getname_flags().
    "user_path_at": (
        *("ENOENT", "EBADF", "ENOTDIR", "EACCES", "ELOOP", "ENAMETOOLONG", "EFAULT", "ENOMEM"),
    ),
}
#: What no test provokes, and why.
UNPROVOKED = {
    "ENOMEM": "takes a failing allocation: fault injection, which the default kernel has not",
}
#: Errors that the text names without being those of the call.
NOT_OF_THE_CALL = {"ENOSYS"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One call: its source, its page, and where it is tested."""

    name: str
    variant: str
    source: str
    entries: tuple[str, ...]  #: functions that a caller's errno comes from
    page: str
    selftest: str


def _sample(name: str, variant: str, *entries: str) -> Sample:
    return Sample(
        name=name,
        variant=variant,
        source=f"kernel/{name}.c",
        entries=entries,
        page=f"man/man2/{name}.2",
        selftest=f"tools/testing/selftests/{name}/{name}_test.c",
    )


SAMPLES = (
    _sample("xyzzy", "ver0", "SYSCALL_DEFINE2(xyzzy"),
    _sample("xyzzy", "ver1", "SYSCALL_DEFINE2(xyzzy"),
    _sample("xyzzy", "ver2", "SYSCALL_DEFINE2(xyzzy"),
    _sample("xyzzyat", "at", "SYSCALL_DEFINE5(xyzzyat", "COMPAT_SYSCALL_DEFINE6(xyzzyat"),
)
EVERY = pytest.mark.parametrize(
    ("kernel", "sample"),
    [(kernel, one) for kernel in ("6.1", "6.12") for one in SAMPLES],
    ids=lambda value: value if isinstance(value, str) else f"{value.name}-{value.variant}",
)


@pytest.fixture(name="scratch", scope="module")
def _scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manual")


def functions(source: str) -> dict[str, str]:
    """The functions of a C file in the kernel's style: name, or DEFINE and name, → body."""
    found = {}
    heads = r"^(?:static |long |int |COMPAT_SYSCALL|SYSCALL)[^;={}]*?\n\{\n"
    for match in re.finditer(rf"({heads})(.*?)^\}}", source, re.M | re.S):
        head = match[1]
        define = re.match(r"(?:COMPAT_)?SYSCALL_DEFINE\d\(\w+", head)
        plain = re.search(r"(\w+)\(", head)
        assert plain
        found[define[0] if define else plain[1]] = match[2]
    return found


def reachable(source: str, entries: tuple[str, ...]) -> set[str]:
    """The errnos that a caller can get: of the entries, and of all that they call."""
    bodies = functions(source)
    todo, seen, errnos = list(entries), set(), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        body = bodies[name] if name in entries else bodies.get(name, "")
        errnos |= set(re.findall(r"-(E[A-Z0-9]+)\b", body))
        for called in re.findall(r"\b(\w+)\(", body):
            errnos |= set(ELSEWHERE.get(called, ()))
            if called in bodies:
                todo.append(called)
    return errnos


def documented(page: str) -> set[str]:
    """The errnos of the ERRORS section, each the tag of a paragraph or in its text."""
    errors = page.partition("\n.SH ERRORS\n")[2].partition("\n.SH ")[0]
    return set(re.findall(r"^\.BR? (E[A-Z0-9]+)\b", errors, re.M)) - NOT_OF_THE_CALL


def provoked(selftest: str) -> set[str]:
    """The errnos that a test expects: of the kernel's selftest, and of ours."""
    ours = "\n".join(path.read_text() for path in TARGET.glob("*.py"))
    return set(re.findall(r"-(E[A-Z0-9]+)\b", selftest)) | set(
        re.findall(r"\berrno\.(E[A-Z0-9]+)\b", ours)
    )


@EVERY
def test_every_error_is_documented_and_provoked(kernel: str, sample: Sample, scratch: Path) -> None:
    source = content(kernel, sample.variant, sample.source, scratch)
    page = content(kernel, sample.variant, sample.page, scratch)
    selftest = content(kernel, sample.variant, sample.selftest, scratch)
    returned = reachable(source, sample.entries)
    assert {"EINVAL", "EFAULT", "ENOMEM"} < returned
    assert returned == documented(page)
    assert returned - provoked(selftest) <= set(UNPROVOKED)


def test_what_is_read_out_of_a_source() -> None:
    """A static function, an entry, and one that no entry calls."""
    source = (
        "static int mine(void)\n{\n\treturn -ESRCH;\n}\n"
        "static int other(void)\n{\n\treturn -EAGAIN;\n}\n"
        "SYSCALL_DEFINE1(it, int, fd)\n{\n\tif (mine())\n\t\treturn -EPERM;\n"
        "\treturn kzalloc(1, 2) ? 0 : -1;\n}\n"
    )
    assert reachable(source, ("SYSCALL_DEFINE1(it",)) == {"ESRCH", "EPERM", "ENOMEM"}
