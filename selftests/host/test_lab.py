# SPDX-License-Identifier: GPL-2.0-only
"""harness.lab: what is asked for is refused before anything is built, each by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import fakelinux
import fakexyzzy
import pytest

from harness.abi import ABIS
from harness.interfaces import xyzzy
from harness.lab import Lab, Setup
from vm import kernels
from vm.errors import UserError


@pytest.fixture(name="image")
def _image(tmp_path: Path) -> Path:
    """What starts as a bzImage does."""
    path = tmp_path / "bzImage"
    path.write_bytes(b"MZ".ljust(0x202, b"\0") + b"HdrS" + bytes(1000))
    return path


@pytest.fixture(name="headers")
def _headers(tmp_path: Path) -> Path:
    """The headers of a kernel that has xyzzy."""
    return fakexyzzy.headers(tmp_path / "usr" / "include", xyzzy.CONTRACT)


def setup(tmp_path: Path, **asked: object) -> Setup:
    return Setup(abis=ABIS, report=tmp_path / "report", **asked)  # type: ignore[arg-type]


def refusal(tmp_path: Path, **asked: object) -> UserError:
    with pytest.raises(UserError) as caught:
        setup(tmp_path, **asked)
    return caught.value


# --- which kernel


def test_the_default_kernel_and_the_one_nearest_to_a_tree(tmp_path: Path) -> None:
    assert setup(tmp_path).kernel == kernels.DEFAULT_KERNEL
    tree = fakelinux.make_tree(tmp_path / "linux")
    makefile = (tree / "Makefile").read_text().replace("PATCHLEVEL = 12", "PATCHLEVEL = 6")
    (tree / "Makefile").write_text(makefile)
    found = setup(tmp_path, kernel_tree=tree)
    assert found.kernel == "6.1"
    assert setup(tmp_path, kernel_tree=tree, kernel="6.12").kernel == "6.12", "named: believed"
    assert dataclasses.replace(found, memory=512).kernel == "6.1"


def test_a_tree_that_says_no_version(tmp_path: Path) -> None:
    tree = fakelinux.make_tree(tmp_path / "linux", Makefile="all:\n")
    assert str(refusal(tmp_path, kernel_tree=tree)).startswith(
        f"KERNEL_TREE={tree}: its Makefile: "
    )


def test_unknown_names(tmp_path: Path) -> None:
    assert "KERNEL=2.6: no such kernel" in str(refusal(tmp_path, kernel="2.6"))
    assert "VARIANT=vax: no such variant" in str(refusal(tmp_path, variant="vax"))
    assert "KERNEL_TREE" in str(refusal(tmp_path, kernel_tree=tmp_path / "none"))


# --- a kernel built elsewhere


def test_its_headers_may_be_named_by_either_directory(
    tmp_path: Path, image: Path, headers: Path
) -> None:
    for named in (headers, headers.parent):
        assert setup(tmp_path, bzimage=image, headers=named).headers == headers


def test_without_headers(tmp_path: Path, image: Path) -> None:
    exc = refusal(tmp_path, bzimage=image)
    assert str(exc) == f"--bzimage {image}: that kernel's headers are needed too: --headers"
    assert "make headers_install" in str(exc.hint)


def test_with_a_directory_that_has_none(tmp_path: Path, image: Path) -> None:
    exc = refusal(tmp_path, bzimage=image, headers=tmp_path)
    assert str(exc) == f"--headers {tmp_path}: no asm/unistd.h in it"


def test_what_is_no_kernel(tmp_path: Path, headers: Path) -> None:
    (tmp_path / "text").write_text("nothing of the kind\n")
    exc = refusal(tmp_path, bzimage=tmp_path / "text", headers=headers)
    assert "text: no kernel image" in str(exc)
    exc = refusal(tmp_path, bzimage=tmp_path / "none", headers=headers)
    assert str(exc) == f"--bzimage {tmp_path / 'none'}: no such file"


@pytest.mark.parametrize("beside", ["kernel_tree", "local", "patches"])
def test_what_it_cannot_be_with(tmp_path: Path, image: Path, headers: Path, beside: str) -> None:
    tree = fakelinux.make_tree(tmp_path / "linux")
    value = {"kernel_tree": tree, "local": True, "patches": (tree / "Kbuild",)}[beside]
    exc = refusal(tmp_path, bzimage=image, headers=headers, **{beside: value})
    assert "a kernel by itself" in str(exc)


def test_headers_that_do_not_know_the_call(tmp_path: Path, image: Path, headers: Path) -> None:
    lab = Lab(setup(tmp_path, bzimage=image, headers=headers))
    lab.check_headers(xyzzy.CONTRACT)
    other = dataclasses.replace(xyzzy.CONTRACT, number="__NR_plugh")
    with pytest.raises(UserError) as caught:
        lab.check_headers(other)
    assert f"--headers {headers}: no __NR_plugh for m64" in str(caught.value)


def test_of_kernels_that_are_built_here_nothing_is_asked(tmp_path: Path) -> None:
    other = dataclasses.replace(xyzzy.CONTRACT, number="__NR_plugh")
    Lab(setup(tmp_path)).check_headers(other)
