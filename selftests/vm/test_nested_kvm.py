# SPDX-License-Identifier: GPL-2.0-only
"""The path with KVM, on a KVM that works, whatever the machine has.

QEMU's TCG emulates AMD's SVM.  A kernel with KVM_AMD (vm/config/kvm-host.config)
that is booted under it, on this machine's own root, is a host whose /dev/kvm
boots kernels, slowly: there this file runs once more, as a program (inside()),
and uses the project's own code to choose KVM, to boot a guest and to call it.

It takes a second kernel, which is minutes of CPU time, and is left out unless
EXTSYS_NESTED_KVM=1 asks for it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from harness import interfaces
from harness import lab as labs
from harness.abi import ABIS
from harness.case import Case
from harness.interface import Interface
from harness.lab import Lab, Setup
from vm import accel, build, patches
from vm.guest import Guest
from vm.proc import run

pytestmark = pytest.mark.skipif(
    os.environ.get("EXTSYS_NESTED_KVM") != "1",
    reason="builds a second kernel, with KVM: EXTSYS_NESTED_KVM=1 asks for it",
)

Result = TypeVar("Result")

#: The host's kernel: none of what is tested, so that no patch makes it anew.
FRAGMENTS = ("base", "kvm-host")
UNPATCHED = patches.Series(directory=Path(), patches=(), elsewhere=())

#: From the host's start to its end, in seconds: 35 on two idle CPUs, 80 at a load of five.
SECONDS = 900.0

#: What a guest's start may take there, in seconds, instead of lab.BOOT_SECONDS, which is
#: for real machines.  Seen: 12, and 25 to 38 at that load.
BOOT_SECONDS = 300.0

#: What makes the host.  Each with its reason.
QEMU: tuple[tuple[tuple[str, ...], str], ...] = (
    (("-machine", "q35,accel=tcg"), "what emulates SVM"),
    (
        ("-cpu", "max,+svm,-xsave"),
        "an AMD processor with nested paging; TCG lets a guest's xsetbv pass by KVM, "
        "whose CPUID is then wrong, of which a kernel warns (fpu/xstate.c)",
    ),
    (("-m", "2048"), "MiB: 256 of a guest, QEMU, Python, a compiler, and a tmpfs"),
    (("-nodefaults", "-no-user-config"), "no device that is not named here"),
    (("-display", "none"), "no window"),
    (("-no-reboot",), "a panic ends QEMU, and so does the end of the program"),
    (
        ("-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"),
        "this machine's root, with all that is installed on it; nothing of it can be written",
    ),
    (("-device", "virtio-9p-pci,fsdev=root,mount_tag=root"), "as above"),
)

#: The host's clock is told, not measured: that is a race against this machine's load, and
#: one that goes in jiffies is as coarse for guests, of which none spoke within 48 s.
APPEND = (
    "loglevel=5 earlyprintk=ttyS0 console=ttyS0 panic=-1 "
    "tsc_early_khz={khz} tsc=reliable nolapic_timer no_timer_check "
    "root=root rootfstype=9p "
    "rootflags=trans=virtio,version=9p2000.L,msize=512000,access=any,cache=loose ro"
)

#: The host's first process.  All that is written goes to a tmpfs over one empty directory.
INIT = """#!/bin/sh
export PATH={path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t devtmpfs dev /dev
mkdir /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs scratch {scratch}
export HOME={scratch} TMPDIR={scratch} EXTSYS_CACHE={scratch}/cache PYTHONDONTWRITEBYTECODE=1
stty -F /dev/ttyS1 raw
cd {top}
PYTHONPATH={top} {command} </dev/null >/dev/ttyS1
echo b >/proc/sysrq-trigger
"""


def inside(image: Path, headers: Path, callers: Path, scratch: Path) -> None:
    """On that host: choose KVM, boot a guest, call it.  Each finding is a line of JSON."""
    labs.BOOT_SECONDS = BOOT_SECONDS
    cache = scratch / "cache"
    shutil.copytree(callers, cache / "callers" / callers.name)

    def told(what: str, act: Callable[..., Result], *args: Case) -> Result:
        started = time.monotonic()
        result = act(*args)
        seconds = round(time.monotonic() - started, 2)
        print(json.dumps({"what": what, "seconds": seconds, "result": str(result)}), flush=True)
        return result

    told("kvm", lambda: accel.choose("kvm", image, cache=cache))
    told("auto", lambda: accel.choose("auto", image, cache=cache))
    lab = Lab(
        Setup(
            abis=ABIS,
            report=scratch / "report",
            accel="kvm",
            bzimage=image,
            headers=headers,
            cache=cache,
        )
    )
    contract = interfaces.load("xyzzy")
    try:
        told("root", lambda: lab.root)
        target = told("boot", lab.target)
        told("hypervisor", lambda: target.hello.hypervisor)
        guest = lab.guest
        assert isinstance(guest, Guest)
        told("command", lambda: shlex.join(guest.qemu_command))
        for one in ABIS:
            interface = Interface(contract, one, compiler=lab.compiler, target=target)
            told(f"{one.name} compiles", interface.case)
            told(f"{one.name} accepted", interface.check, interface.case())
            told(f"{one.name} refused", interface.check, interface.case(usize=1))
        told("alive", lab.verify_alive)
        pid = guest.qemu_pid
    finally:
        told("close", lab.close)
        # The guest's own records go with this host: onto its console with them.
        for log in sorted((scratch / "report").glob("guest-*/*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')}", file=sys.stderr)
    told("gone", lambda: not Path(f"/proc/{pid}").exists())


def host(kernel: Path, folder: Path, init: Path, khz: int) -> Path:
    """Boot the host, wait for its end, and return what its program printed."""
    said = folder / "said.log"
    argv = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]
    argv += [word for words, _ in QEMU for word in words]
    argv += ["-serial", f"file:{folder / 'console.log'}", "-serial", f"file:{said}"]
    argv += ["-kernel", str(kernel), "-append", f"{APPEND.format(khz=khz)} init={init}"]
    run(argv, timeout=SECONDS)
    return said


def test_kvm_that_works(lab: Lab, tmp_path: Path) -> None:
    """KVM is chosen, a guest boots under it, its callers are heard, and nothing is left."""
    khz = accel.tsc_khz(lab.setup.cache)
    if khz is None:
        pytest.skip("this machine's TSC is not constant, and so the host's clock is not fine")
    kernel = build.build(
        lab.setup.kernel,
        fragments=FRAGMENTS,
        series=UNPATCHED,
        compressed=False,
        jobs=lab.setup.jobs,
        mirror=lab.setup.mirror,
    )
    headers = lab.compiler.headers
    assert headers is not None
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, __file__, lab.image, headers, lab.programs.agent.parent, scratch]
    init = tmp_path / "init"
    init.write_text(
        INIT.format(
            path=shlex.quote(str(Path(sys.executable).parent)),
            scratch=shlex.quote(str(scratch)),
            top=shlex.quote(str(Path(__file__).parents[2])),
            command=shlex.join(map(str, command)),
        )
    )
    init.chmod(0o755)
    said = host(kernel.image, tmp_path, init, khz)
    found = {line["what"]: line for line in map(json.loads, said.read_text().splitlines())}
    for line in found.values():
        print(f"{line['seconds']:8.2f} s  {line['what']}: {line['result']}")
    assert "gone" in found, (tmp_path / "console.log").read_text(errors="replace")[-4000:]
    results = {what: line["result"] for what, line in found.items()}
    assert results["kvm"].startswith("kvm: the kernel booted under KVM, in ")
    assert results["auto"] == f"{results['kvm']} (remembered)"
    assert results["hypervisor"] == "KVMKVMKVM"
    assert "accel=kvm" in results["command"]
    for one in ABIS:
        assert results[f"{one.name} accepted"].startswith("success, ")
        assert results[f"{one.name} refused"].startswith("E2BIG, ")
    assert results["gone"] == "True"


if __name__ == "__main__":
    inside(*map(Path, sys.argv[1:]))
