# SPDX-License-Identifier: GPL-2.0-only
"""The series of kernel-patches/: whole, in step with each other and with themselves.

What the patches do is for a kernel to show.  Here is what can be seen without
one: that each kernel has each version, that the numbers and sizes in their
many places agree, and that the mails are in order.
"""

from __future__ import annotations

import dataclasses
import email
import email.message
import email.utils
import functools
import itertools
import re
import subprocess
from pathlib import Path

import pytest

from harness.abi import ABIS
from vm import kernels, patches, paths

ROOT = paths.VM.parent / "kernel-patches"
KERNELS = ("6.1", "6.12")
#: From one to the next the struct grows by one version.
VARIANTS = ("ver0", "ver1", "ver2")
UAPI = "include/uapi/linux/xyzzy.h"
SOURCE = "kernel/xyzzy.c"
KSELFTEST = "tools/testing/selftests/xyzzy/xyzzy_test.c"
PAGE = "man/man2/xyzzy.2"

EVERY = pytest.mark.parametrize(
    ("kernel", "variant"),
    [pytest.param(*each, id="-".join(each)) for each in itertools.product(KERNELS, VARIANTS)],
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Directory:
    """One series with its mails in their order, those for other trees too."""

    name: str
    mails: tuple[Path, ...]


def directories(kernel: str, variant: str) -> tuple[Directory, ...]:
    """The series that a variant of a kernel is made of, the first one first."""
    row = kernels.kernel(kernel)
    found = []
    for name in kernels.variant(variant).series(row):
        where = patches.series_dir(name)
        series = patches.load_series(where)
        names = [patch.name for patch in series.patches] + [one for one, _ in series.elsewhere]
        found.append(Directory(name=name, mails=tuple(where / one for one in sorted(names))))
    return tuple(found)


@functools.cache
def content(kernel: str, variant: str, name: str, scratch: Path) -> str:
    """A file that the patches create, as it is with all of a variant's series."""
    top = scratch / f"{kernel}-{variant}"
    top.mkdir(exist_ok=True)
    for directory in directories(kernel, variant):
        for mail in directory.mails:
            parts = mail.read_text().split("\ndiff --git ")[1:]
            for part in parts:
                if part.partition("\n")[0].endswith(f" b/{name}"):
                    subprocess.run(
                        ["patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch"],
                        cwd=top,
                        input=f"diff --git {part}\n",
                        text=True,
                        check=True,
                        capture_output=True,
                    )
    return (top / name).read_text()


@pytest.fixture(name="scratch", scope="module")
def _scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("series")


def sizes(header: str) -> dict[int, int]:
    """Version → bytes, as the header's _SIZE_VERn say."""
    found = re.findall(r"^#define XYZZY_PARAMS_SIZE_VER(\d+)\s+(\d+)\b", header, re.MULTILINE)
    return {int(version): int(size) for version, size in found}


def mail_of(path: Path) -> email.message.Message:
    return email.message_from_string(path.read_text().partition("\n")[2])


def changes(path: Path) -> list[str]:
    """The lines that a patch adds and takes away, without where they are."""
    diff = path.read_text().partition("\ndiff --git ")[2]
    return [
        line
        for line in diff.splitlines()
        if line[:1] in ("+", "-") and not line.startswith(("+++", "---"))
    ]


# --- the sets


@EVERY
def test_every_kernel_has_every_version(kernel: str, variant: str) -> None:
    assert len(directories(kernel, variant)) == VARIANTS.index(variant) + 1


def test_a_directory_has_no_patch_that_its_series_does_not_name() -> None:
    for listing in sorted(ROOT.glob("linux-*/**/series")):
        series = patches.load_series(listing.parent)
        named = {patch.name for patch in series.patches} | {name for name, _ in series.elsewhere}
        assert {path.name for path in listing.parent.glob("*.patch")} == named


# --- the mails


@EVERY
def test_the_mails_are_in_order(kernel: str, variant: str) -> None:
    directory = directories(kernel, variant)[-1]
    count = len(directory.mails)
    for number, path in enumerate(directory.mails, 1):
        mail = mail_of(path)
        subject = re.sub(r"\s+", " ", str(mail["Subject"]))
        assert subject.startswith(f"[PATCH {number}/{count}] ")
        assert path.name.startswith(f"{number:04}-")
        words = re.sub(r"[^A-Za-z0-9._]+", "-", subject.partition("] ")[2])
        assert words.startswith(path.stem[5:].rstrip("-"))
        message = str(mail.get_payload()).partition("\n---\n")[0]
        assert message.rstrip().endswith(f"Signed-off-by: {mail['From']}")
        assert max(len(line) for line in message.splitlines()) <= 75


@EVERY
def test_the_mails_have_the_order_of_time(kernel: str, variant: str) -> None:
    stamps = [
        email.utils.parsedate_to_datetime(str(mail_of(path)["Date"]))
        for directory in directories(kernel, variant)
        for path in directory.mails
    ]
    assert stamps == sorted(set(stamps))


# --- the struct


@EVERY
def test_the_sizes_of_all_versions(kernel: str, variant: str, scratch: Path) -> None:
    """They count from zero, they grow, and the last is the struct's in each ABI."""
    header = content(kernel, variant, UAPI, scratch)
    known = sizes(header)
    assert list(known) == list(range(VARIANTS.index(variant) + 1))
    assert list(known.values()) == sorted(set(known.values()))
    latest = f"XYZZY_PARAMS_SIZE_VER{max(known)}"
    check = (
        "#include <linux/xyzzy.h>\n"
        f"_Static_assert(sizeof(struct xyzzy_params) == {latest}, "
        '"size");\n_Static_assert(_Alignof(struct xyzzy_params) == 8, "alignment");\n'
    )
    include = scratch / f"{kernel}-{variant}" / "include/uapi"
    for abi in ABIS:
        done = subprocess.run(
            [
                *("gcc", f"-m{abi.suffix}", f"-I{include}", "-Wpadded", "-Werror"),
                *("-fsyntax-only", "-xc", "-"),
            ],
            input=check,
            text=True,
            check=False,
            capture_output=True,
        )
        assert done.returncode == 0, f"{abi.name}: {done.stderr}"


@EVERY
def test_the_kernel_knows_the_latest(kernel: str, variant: str, scratch: Path) -> None:
    """_SIZE_LATEST names it, and each version has its BUILD_BUG_ON."""
    version = VARIANTS.index(variant)
    source = content(kernel, variant, SOURCE, scratch)
    assert f"XYZZY_PARAMS_SIZE_LATEST\tXYZZY_PARAMS_SIZE_VER{version}\n" in source
    checked = re.findall(
        r"BUILD_BUG_ON\(offsetofend\(struct xyzzy_params, \w+\) !=\s+XYZZY_PARAMS_SIZE_VER(\d)\);",
        source,
    )
    assert [int(each) for each in checked] == list(range(version + 1))


@EVERY
def test_the_kselftest_and_the_page_know_every_field(
    kernel: str, variant: str, scratch: Path
) -> None:
    header = content(kernel, variant, UAPI, scratch)
    body = header.partition("struct xyzzy_params {")[2].partition("};")[0]
    fields = re.findall(r"(\w+);", body)
    assert len(fields) == 4 + {"ver0": 0, "ver1": 1, "ver2": 3}[variant]
    test = content(kernel, variant, KSELFTEST, scratch)
    page = content(kernel, variant, PAGE, scratch)
    for field in fields:
        assert f"offsetof(struct xyzzy_params, {field})" in test
        assert re.search(rf"^\.I {field}$", page, re.MULTILINE)
    for version in sizes(header):
        assert f"VER{version}\t\tXYZZY_PARAMS_SIZE_VER{version}" in test


# --- two kernels, one contract


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", [UAPI, KSELFTEST])
def test_both_kernels_have_the_same(variant: str, name: str, scratch: Path) -> None:
    assert content("6.1", variant, name, scratch) == content("6.12", variant, name, scratch)


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_an_extension_is_the_same_for_both(variant: str) -> None:
    old, new = (directories(kernel, variant)[-1].mails for kernel in KERNELS)
    assert [path.name for path in old] == [path.name for path in new]
    for one, other in zip(old, new, strict=True):
        assert mail_of(one)["Subject"] == mail_of(other)["Subject"]
        assert changes(one) == changes(other)


# --- the number


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_number_everywhere(kernel: str) -> None:
    """The tables of x86, the generic one, and the copies that the series brings along."""
    added = [
        line[1:]
        for path in directories(kernel, "ver0")[0].mails
        for line in changes(path)
        if line.startswith("+")
    ]
    rows = [found for line in added if (found := re.match(r"(\d+)\s+(\w+)\s+xyzzy\s+(\w+)$", line))]
    macros = [found[1] for line in added if (found := re.match(r"#define __NR_xyzzy (\d+)", line))]
    ends = [found[1] for line in added if (found := re.match(r"#define __NR_syscalls (\d+)", line))]
    assert {row[3] for row in rows} == {"sys_xyzzy"}
    assert {"common", "i386"} == {row[2] for row in rows}
    numbers = {int(row[1]) for row in rows} | {int(macro) for macro in macros}
    assert len(numbers) == 1
    assert {int(end) for end in ends} == {numbers.pop() + 1}
    assert len(macros) == len(ends) >= 1


def test_a_table_takes_the_place_behind_its_last(scratch: Path) -> None:
    """The line above is the number before: in every table that has one."""
    for kernel in KERNELS:
        for path in directories(kernel, "ver0")[0].mails:
            lines = path.read_text().splitlines()
            for above, line in itertools.pairwise(lines):
                if found := re.match(r"\+(\d+)\s+\w+\s+xyzzy\b", line):
                    before = re.match(r" (\d+)\s", above)
                    assert before, f"{path.name}: {above}"
                    assert int(before[1]) == int(found[1]) - 1
