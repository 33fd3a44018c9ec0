# SPDX-License-Identifier: GPL-2.0-only
"""The Linux Test Project's tests of the samples, kernel-patches/ltp/, where LTP is.

No distribution has LTP's headers and library in a package, so LTP= names what
`./configure && make -C lib` made of its source, one directory or several with
colons, each for one ABI; /opt/ltp, where `make install` puts them, is found
without.  The tests are compiled against them as LTP's own Makefiles do, and
statically, since the guest has no libraries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from vm import paths, proc
from vm.errors import BuildError, UserError

TESTS = paths.VM.parent / "kernel-patches" / "ltp"
#: Where LTP installs itself.
INSTALLED = Path("/opt/ltp")
#: The header of the current style of tests.
HEADER = "include/tst_test.h"
LIBRARY = "lib/libltp.a"
#: LTP's own flags (include/mk/config.mk.in), and what is said of a program that links all
#: of libltp statically: that some functions need shared libraries, which none of ours calls.
FLAGS = ("-std=gnu99", "-O2", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Wno-unused-parameter")
#: What LTP's configure finds out: headers, and the macro that says that there is one.
HEADERS = {
    "linux/xyzzy.h": "-DHAVE_LINUX_XYZZY_H=1",
    "linux/xyzzyat.h": "-DHAVE_LINUX_XYZZYAT_H=1",
}
#: One program, in seconds.
SECONDS = 120.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ltp:
    """One place with LTP's headers and its library."""

    where: Path

    @property
    def include(self) -> Path:
        return self.where / "include"

    @property
    def library(self) -> Path:
        return self.where / LIBRARY


def places(text: str) -> tuple[Path, ...]:
    """What LTP= names: directories with colons between them."""
    return tuple(Path(one).expanduser() for one in text.split(":") if one)


def find(named: Sequence[Path] = ()) -> tuple[Ltp, ...]:
    """Every place that has LTP: those that are named, or where it installs itself.

    Raises UserError for a named one that has not.
    """
    for one in named:
        if not (one / HEADER).is_file() or not (one / LIBRARY).is_file():
            raise UserError(
                f"LTP={one}: no {HEADER} and {LIBRARY} in it",
                hint="in LTP's source: make autotools && ./configure && make -C lib",
            )
    places = named or [INSTALLED]
    return tuple(Ltp(where=one) for one in places if (one / LIBRARY).is_file())


def tests(names: Sequence[str]) -> tuple[Path, ...]:
    """The sources of the tests of these system calls."""
    top = TESTS / "testcases" / "kernel" / "syscalls"
    return tuple(path for name in names for path in sorted((top / name).glob("*.c")))


def serves(one: Ltp, cflag: str) -> bool:
    """Whether its library is one for the ABI that ``cflag`` selects: whether a program links."""
    argv: list[str | Path] = ["gcc", cflag, "-static", "-x", "c", "-", "-x", "none", one.library]
    unit = "void tst_res_(void); int main(void) { tst_res_(); return 0; }\n"
    done = proc.run(
        [*argv, "-o", "/dev/null"], timeout=SECONDS, input=unit, check=False, quiet=True
    )
    return not done.code


def build(
    one: Ltp, *, source: Path, cflag: str, headers: Path, output: Path
) -> tuple[Path, Sequence[str]]:
    """Compile one test for one ABI to ``output``; the program, and the compiler's warnings.

    ``headers`` are the UAPI headers of the kernel.  Raises BuildError.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    found = [macro for name, macro in HEADERS.items() if (headers / name).is_file()]
    argv: list[str | Path] = ["gcc", cflag, *FLAGS, *found, "-isystem", headers]
    argv += [f"-I{TESTS / 'include'}", f"-I{one.include}", f"-I{one.include / 'old'}"]
    argv += ["-o", output, source, "-static", one.library]
    done = proc.run(argv, timeout=SECONDS, check=False, quiet=True)
    if done.code:
        raise BuildError(f"{source.name} for {cflag} does not compile:\n{done.out.strip()}")
    return output, [line for line in done.out.splitlines() if f"{TESTS}" in line]


def programs(
    names: Sequence[str],
    *,
    places: Sequence[Ltp],
    cflags: Mapping[str, str],
    headers: Path,
    output: Path,
) -> Mapping[str, Path]:
    """Every test of these calls for every ABI that LTP is there for: NAME-ABI → program.

    ``cflags`` maps an ABI's name to the compiler's option.  Raises BuildError,
    also for a warning about a test.
    """
    found = {}
    for abi, cflag in cflags.items():
        for one in places:
            if not serves(one, cflag):
                continue
            for source in tests(names):
                name = f"{source.stem}-{abi}"
                found[name], said = build(
                    one, source=source, cflag=cflag, headers=headers, output=output / name
                )
                if said:
                    raise BuildError(f"{source.name} for {cflag}: {said[0]}")
            break
    return found
