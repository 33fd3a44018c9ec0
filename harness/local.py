# SPDX-License-Identifier: GPL-2.0-only
"""A run on this machine's own kernel: without privilege, and with the headers that are at hand.

Nothing that it does may last.  So root gives up what root may do before there is
a call, which contracts need root is told by themselves, and what the headers do
not have is left out: those of a distribution are often older than the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness import layout as layouts
from harness.abi import ABIS
from vm import kernels
from vm.errors import BuildError

if TYPE_CHECKING:
    from harness.contract import Contract
    from harness.layout import Compiler
    from vm.kernels import Version

#: What runs a program without any capability, though it is root's: with SECBIT_NOROOT
#: execve() gives none, and out of an empty bounding set none can be had again
#: (capabilities(7)).
POWERLESS = (
    *("setpriv", "--securebits", "+noroot,+noroot_locked,+no_setuid_fixup,+no_setuid_fixup_locked"),
    *("--inh-caps", "-all", "--bounding-set", "-all"),
)


def unprivileged(argv: Sequence[str]) -> list[str]:
    """The command as a user without privilege would run it; root's files stay within reach."""
    return [*POWERLESS, *argv] if os.geteuid() == 0 else list(argv)


def headers_version(compiler: Compiler) -> Version:
    """Of which Linux the compiler's headers are: linux/version.h."""
    found = layouts.constants(
        compiler,
        ABIS[0],
        includes=("linux/version.h",),
        expressions={"code": "LINUX_VERSION_CODE"},
    )
    return found["code"] >> 16, found["code"] >> 8 & 0xFF


def age(compiler: Compiler) -> str | None:
    """What has to be said about headers that are not of the kernel's version, if they are not."""
    headers, running = headers_version(compiler), kernels.parse_version(os.uname().release)
    if headers == running:
        return None
    return (
        f"the headers are of Linux {headers[0]}.{headers[1]}, the kernel is "
        f"{running[0]}.{running[1]}: what only one of them knows is no fault of the kernel; "
        "--headers names the kernel's own"
    )


def left_out(contracts: Iterable[Contract], compiler: Compiler) -> dict[str, str]:
    """The interfaces that cannot be tried here, by name, and why: root's, or not in the headers."""
    found = {}
    for one in contracts:
        if one.needs.root:
            found[one.name] = f"it needs root: {one.needs.root}"
            continue
        try:
            layouts.constants(
                compiler,
                ABIS[0],
                includes=(one.number_header, one.header, *one.includes),
                expressions={"number": one.number, "size": f"sizeof({layouts.tag(one.struct)})"},
            )
        except BuildError:
            found[one.name] = f"the headers have no {layouts.tag(one.struct)}, or no {one.number}"
    return found
