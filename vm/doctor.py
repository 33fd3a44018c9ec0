# SPDX-License-Identifier: GPL-2.0-only
"""What this machine can do, and how to mend what it cannot.

Every answer is found by doing the thing: a compiler is there when a program
links, KVM works when a kernel has printed a line under it.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vm import kernels, packages, paths, source
from vm.packages import Host, Need
from vm.proc import run

#: ok: as it should be.  warn: `make vm-test` runs, but slower or by a detour.
#: missing: it cannot run.
State = Literal["ok", "warn", "missing"]

#: Answers whether a kernel has booted under KVM here, and how that is known:
#: vm.accel's proof, with the image that the command line has found for it.
ProveKvm = Callable[[], tuple[bool, str]]

#: How a state looks on a terminal, and a row in a pipe.
STYLES: Mapping[State, str] = {"ok": "green", "warn": "yellow", "missing": "red"}
PLAIN = "{check.state:8}{check.name:15}{check.detail}"

GIB = 1 << 30

#: Bytes that a kernel takes in the cache: 1.7 GiB of source, the patched tree
#: (hard links to it, so only directories), 0.2 GiB of objects; and what is to
#: be left on the disk beside them.
CACHE_BYTES = 3 * GIB
#: Bytes of memory for two compiler jobs or the guest, whichever is more.
MEMORY_BYTES = 2 * GIB

QEMU = "qemu-system-x86_64"

#: Seconds for a program to say its version.
VERSION_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One row of the report."""

    name: str
    state: State
    detail: str
    mend: str = ""  #: a command or a sentence; empty when all is well


def _version(argv: Sequence[str], host: Host) -> str:
    """The first number like 12.2.0 in what a program prints."""
    out = run(argv, timeout=VERSION_SECONDS, env=host.env, check=False, quiet=True).out
    found = re.search(r"\d+(\.\d+)+", out)
    return found[0] if found else "of unknown version"


def machine() -> Check:
    """The architecture, the cores and the memory."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    detail = f"{platform.machine()}, {cores} cores, {memory / GIB:.1f} GiB of memory"
    if platform.machine() != "x86_64":
        mend = "the three ABIs are x86-64's: an x86-64 machine is needed"
        return Check(name="machine", state="missing", detail=detail, mend=mend)
    if memory < MEMORY_BYTES:
        mend = f"{MEMORY_BYTES / GIB:.0f} GiB are wanted; JOBS=1 needs less"
        return Check(name="machine", state="warn", detail=detail, mend=mend)
    return Check(name="machine", state="ok", detail=detail)


def python() -> Check:
    """The Python of the virtual environment; an older one never gets here."""
    return Check(name="python", state="ok", detail=f"{platform.python_version()} {sys.executable}")


def compilers(needs: Sequence[Need], host: Host) -> Iterator[Check]:
    """One row for each ABI: whether a static program compiles and links."""
    for need in (need for need in needs if need.probe == "links"):
        name = f"gcc {need.subject}"
        if packages.met(need, host):
            detail = f"{_version(('gcc', '-dumpfullversion'), host)} compiles and links"
            yield Check(name=name, state="ok", detail=detail)
        else:
            there = host.which("gcc") is not None
            detail = "a static program does not link" if there else "not there"
            mend = packages.by_hand([need], host)
            yield Check(name=name, state="missing", detail=detail, mend=mend)


def tools(needs: Sequence[Need], host: Host) -> Check:
    """The rows of packages.toml that have no check of their own, in one."""
    apart = [need for need in needs if need.probe == "links" or need.subject == QEMU]
    others = [need for need in needs if need not in apart and not need.optional]
    lacking = [need for need in others if not packages.met(need, host)]
    if lacking:
        detail = "; ".join(f"{need.name}: {need.why}" for need in lacking)
        mend = packages.by_hand(lacking, host)
        return Check(name="tools", state="missing", detail=detail, mend=mend)
    return Check(name="tools", state="ok", detail=f"all {len(others)} are there")


def kernel_source(name: str, tree: Path | None, cache: Path, host: Host) -> Check:
    """Where the kernel's source would come from.

    Raises UserError when kernels.toml has no kernel of that name.
    """
    if tree is not None:
        version = source.makefile_version(tree) if (tree / "Makefile").is_file() else ""
        if not version:
            return Check(
                name="kernel source",
                state="missing",
                detail=f"{tree}: no kernel tree",
                mend="KERNEL_TREE= names the directory with the kernel's top Makefile",
            )
        return Check(name="kernel source", state="ok", detail=f"{tree}: {version}")
    row = kernels.kernel(name)
    if row.tarball.is_file():
        return Check(name="kernel source", state="ok", detail=str(row.tarball))
    if source.locate(dataclasses.replace(row, sha256=None), cache=cache) is not None:
        detail = f"{row.upstream} of kernel.org, in the cache"
        return Check(name="kernel source", state="ok", detail=detail)
    need = packages.source(name)
    if need is not None and packages.can_have(need, host):
        return Check(
            name="kernel source",
            state="missing",
            detail=f"{row.package} is not installed",
            mend=packages.by_hand([need], host),
        )
    return Check(
        name="kernel source",
        state="warn",
        detail=f"no package of this distribution: {row.archive} will be downloaded",
        mend="nothing to do; MIRROR= names another server",
    )


def other_sources(name: str, cache: Path, host: Host) -> Iterator[Check]:
    """The source of each other kernel, which `make kernels` and KERNEL= need."""
    for other in kernels.load_kernels():
        if other != name:
            check = kernel_source(other, None, cache, host)
            state: State = "warn" if check.state == "missing" else check.state
            detail = f"{check.detail}, for KERNEL={other}"
            yield dataclasses.replace(check, name=f"source {other}", state=state, detail=detail)


def disk(cache: Path) -> Check:
    """Free space where the cache is, or will be."""
    place = next(path for path in (cache, *cache.parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    full = free < CACHE_BYTES
    built = (cache / "kernels").is_dir() and any((cache / "kernels").glob("[!.]*"))
    return Check(
        name="disk",
        state="ok" if not full else "warn" if built else "missing",
        detail=f"{free / GIB:.1f} GiB free for {cache}" + (", kernel built" if built else ""),
        mend=f"a kernel takes {CACHE_BYTES / GIB:.0f} GiB; EXTSYS_CACHE= puts it elsewhere"
        if full
        else "",
    )


def qemu(needs: Sequence[Need], host: Host) -> Check:
    """QEMU, and its version."""
    need = next(need for need in needs if need.subject == QEMU)
    if host.which(QEMU) is None:
        mend = packages.by_hand([need], host)
        return Check(name="QEMU", state="missing", detail=f"no {QEMU}", mend=mend)
    detail = f"{_version((QEMU, '--version'), host)} {host.which(QEMU)}"
    return Check(name="QEMU", state="ok", detail=detail)


def virtme_ng(host: Host) -> Check:
    """virtme-ng: vng runs virtme-run from PATH, so both must be found there."""
    mend = "make distclean, then make doctor: build/venv is made anew"
    lost = [tool for tool in ("vng", "virtme-run") if host.which(tool) is None]
    if lost:
        detail = f"not in PATH: {', '.join(lost)}"
        return Check(name="virtme-ng", state="missing", detail=detail, mend=mend)
    try:
        version = importlib.metadata.version("virtme-ng")
    except importlib.metadata.PackageNotFoundError:
        version = "not of build/venv:"
    return Check(name="virtme-ng", state="ok", detail=f"{version} {host.which('vng')}")


def kvm(prove: ProveKvm | None, device: Path = Path("/dev/kvm")) -> Check:
    """KVM, as proved by booting.

    That the device opens, or even runs an instruction, proves nothing: there
    are hosts where all of that works and no kernel ever boots.  ``prove`` is
    None while there is no kernel to boot.
    """
    tcg = "nothing to do: TCG is used instead"
    if not device.exists():
        return Check(name="KVM", state="warn", detail=f"no {device}", mend=tcg)
    if not os.access(device, os.R_OK | os.W_OK):
        mend = f"sudo usermod --append --groups kvm {os.environ.get('USER', '$USER')}; log in anew"
        return Check(name="KVM", state="warn", detail=f"{device}: no permission", mend=mend)
    if prove is None:
        mend = "make kernel, then make doctor: only a kernel that boots proves KVM"
        return Check(name="KVM", state="warn", detail=f"{device} opens; not proved", mend=mend)
    works, how = prove()
    return Check(name="KVM", state="ok" if works else "warn", detail=how, mend="" if works else tcg)


def report(
    *,
    kernel: str,
    tree: Path | None = None,
    prove_kvm: ProveKvm | None = None,
    cache: Path | None = None,
    host: Host | None = None,
) -> list[Check]:
    """Everything that `make vm-test` stands on, in the order it needs it.

    Raises UserError when there is no such ``kernel``.
    """
    host = host or Host()
    home = cache or paths.cache_dir()
    needs = packages.wanted(packages.load(), job="vm-test", kernel=kernel, own_tree=True)
    return [
        machine(),
        python(),
        *compilers(needs, host),
        tools(needs, host),
        kernel_source(kernel, tree, home, host),
        *other_sources(kernel, home, host),
        disk(home),
        qemu(needs, host),
        virtme_ng(host),
        kvm(prove_kvm if host.which(QEMU) else None),
    ]


def show(checks: Sequence[Check], console: Console) -> int:
    """Print the report; return the exit code: 0 when `make vm-test` can run, else 2.

    On a terminal a table, which folds; in a pipe one line for each row.  The
    commands that mend stand below, one on a line and unbroken: they are there
    to be copied, or to be found with grep.
    """
    if console.is_terminal:
        table = Table(box=None, pad_edge=False, show_header=False)
        for check in checks:
            table.add_row(Text(check.state, STYLES[check.state]), check.name, Text(check.detail))
        console.print(table)
    lines = [] if console.is_terminal else [PLAIN.format(check=check) for check in checks]
    lines += [f"{check.name}: {check.mend}" for check in checks if check.mend]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    return 2 if any(check.state == "missing" for check in checks) else 0
