# SPDX-License-Identifier: GPL-2.0-only
"""LTP's tests of the samples, as far as that goes without LTP: where it is, what is compiled."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vm import ltp
from vm.errors import BuildError, UserError

#: Of libltp: what shows whether a library is for an ABI.
STAND_IN = "void tst_res_(void) { }\nvoid stand_in(void) { }\n"


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Path:
    """A source of LTP with a header, and a library for m64."""
    tree = tmp_path / "ltp"
    (tree / "include").mkdir(parents=True)
    (tree / "include/tst_test.h").write_text("void stand_in(void);\n")
    (tree / "lib").mkdir()
    unit = tmp_path / "unit.o"
    subprocess.run(
        ["gcc", "-m64", "-c", "-xc", "-", "-o", unit], input=STAND_IN, text=True, check=True
    )
    subprocess.run(["ar", "rcs", tree / "lib/libltp.a", unit], check=True)
    return tree


def test_where_it_is_looked_for(tree: Path) -> None:
    assert ltp.places(f"{tree}::/other") == (tree, Path("/other"))
    assert ltp.places("") == ()
    assert [one.where for one in ltp.find((tree,))] == [tree]


def test_a_place_without_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no include/tst_test\.h and lib/libltp\.a"):
        ltp.find((tmp_path,))


def test_the_tests_of_a_call() -> None:
    assert [path.stem for path in ltp.tests(("xyzzyat",))] == ["xyzzyat01", "xyzzyat02"]
    assert ltp.tests(("no_such_call",)) == ()


@pytest.mark.parametrize(("cflag", "serves"), [("-m64", True), ("-m32", False), ("-mx32", False)])
def test_a_library_serves_its_own_abi(tree: Path, cflag: str, serves: bool) -> None:
    (one,) = ltp.find((tree,))
    assert ltp.serves(one, cflag) is serves


def test_a_test_is_compiled_with_the_kernels_headers(tree: Path, tmp_path: Path) -> None:
    """And is told which of them there are, as LTP's configure would tell it."""
    (one,) = ltp.find((tree,))
    headers = tmp_path / "headers"
    (headers / "linux").mkdir(parents=True)
    (headers / "linux/xyzzy.h").write_text("#define FROM_THE_KERNEL 1\n")
    source = tmp_path / "it01.c"
    source.write_text(
        '#include "tst_test.h"\n#include <linux/xyzzy.h>\n'
        "#if !HAVE_LINUX_XYZZY_H || defined(HAVE_LINUX_XYZZYAT_H)\n#error headers\n#endif\n"
        "int main(void) { stand_in(); return !FROM_THE_KERNEL; }\n"
    )
    output = tmp_path / "out" / "it01"
    program, said = ltp.build(one, source=source, cflag="-m64", headers=headers, output=output)
    assert said == []
    assert subprocess.run([program], check=False).returncode == 0
    source.write_text("#error no\n")
    with pytest.raises(BuildError, match=r"it01\.c for -m64 does not compile"):
        ltp.build(one, source=source, cflag="-m64", headers=headers, output=output)


def test_what_is_written_for_ltp_is_in_its_style() -> None:
    """tst_test.h's tables and macros, no main() and no reporting of its own."""
    for source in ltp.tests(("xyzzy", "xyzzyat")):
        text = source.read_text()
        assert "SPDX-License-Identifier: GPL-2.0-or-later" in text
        assert ".tcnt = ARRAY_SIZE(" in text
        assert "static struct tst_test test = {" in text
        assert "TST_EXP_" in text
        assert "int main(" not in text
        assert "printf(" not in text
