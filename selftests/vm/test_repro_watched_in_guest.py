# SPDX-License-Identifier: GPL-2.0-only
"""Reproducers of P16 and P22 in a guest: a second thread, a filter, a tracer, the tracepoints.

The kernel is right here.  What the program of a real finding does is shown by
kernels that are wrong, in test_faults.py.
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from harness import battery_outside, battery_stall, prove, stall
from harness.batteries import BATTERY, Level
from harness.contract import Contract, FetchSize, SizeBounds, Tail, UnknownBits
from harness.findings import ContractBrokenError, Mismatch
from harness.interface import Interface
from harness.lab import Lab
from harness.outside import Filter, Watch
from harness.report import reproducers
from harness.report.reproducers import Reproducer

QUICK = Level()
#: Of hundreds of stalls, as many as one ABI has compiled in some seconds.
STALLS = 6


def proved(lab: Lab, interface: Interface, one: Mismatch, where: Path, prop: str) -> str:
    program = reproducers.write(interface, one, where, prop=prop, number=1)
    assert isinstance(program, Reproducer), one
    return prove.in_guest(lab, interface.target, program)


def mismatch(how: object) -> Mismatch:
    return Mismatch(
        first=str(how)[:200],
        last="the last",
        count=1,
        allowed="what it does",
        seen="another",
        cause="for a test",
        how=how,
    )


def stalls(interface: Interface) -> list[stall.Stall]:
    """Some of the battery's: each page late, sizes, fields and tails that change."""
    several = [
        *battery_stall.size_changes(interface, QUICK),
        *battery_stall.changes(interface, QUICK, stall.Late.SECOND),
        *battery_stall.changes(interface, QUICK, stall.Late.FIRST),
    ]
    met = [
        one
        for one in several
        if stall.meets(interface.contract, interface.layout, one, register=interface.abi.register)
    ]
    return met[:: len(met) // STALLS]


def test_no_stall_accuses_a_kernel_that_is_right(
    lab: Lab, interface: Interface, tmp_path: Path
) -> None:
    for one in stalls(interface):
        said = proved(lab, interface, mismatch(one), tmp_path, "P16")
        assert said.startswith("exit 0: behaves: "), (one, said)


def test_no_race_accuses_a_kernel_that_is_right(
    lab: Lab, interface: Interface, tmp_path: Path
) -> None:
    several = list(battery_stall.races(interface, 100))
    for one in (several[0], several[-1]):
        said = proved(lab, interface, mismatch(one), tmp_path, "P16")
        assert said.startswith("exit 0: behaves: "), (one, said)


def changed(contract: Contract, kind: type, **fields: int) -> Contract:
    checks = tuple(
        dataclasses.replace(check, **fields) if isinstance(check, kind) else check  # type: ignore[arg-type]
        for check in contract.checks
    )
    return dataclasses.replace(contract, checks=checks)


def wrong(interface: Interface, made: Contract) -> Interface:
    return Interface(made, interface.abi, compiler=interface.compiler, target=interface.target)


def found(interface: Interface, items: Iterable[str]) -> list[Mismatch]:
    several = []
    for item in BATTERY:
        if item.name in items:
            with pytest.raises(ContractBrokenError) as caught:
                item.run(interface, QUICK)
            several += caught.value.mismatches
    return several


@pytest.mark.parametrize(
    ("kind", "fields", "items"),
    [
        (Tail, {"errno": errno.EINVAL}, ["nothing-is-read-before-the-size"]),
        (UnknownBits, {"errno": errno.EBADF}, ["fields-changed-during-the-copy"]),
        (SizeBounds, {"too_big": errno.EINVAL}, ["two-values-in-turn"]),
        (FetchSize, {"errno": errno.EBADF}, ["a-tracer-sees-the-call"]),
    ],
    ids=["a tail", "a field", "a race", "a tracer"],
)
def test_a_wrong_contract_is_shown(
    kind: type,
    fields: dict[str, int],
    items: list[str],
    lab: Lab,
    interface: Interface,
    tmp_path: Path,
) -> None:
    """The program of the wrong contract exits 1, that of the right one 0."""
    broken = wrong(interface, changed(interface.contract, kind, **fields))
    several = found(broken, items)
    assert several
    for one in several[:2]:
        prop = "P22" if isinstance(one.how, Watch) else "P16"
        said = proved(lab, broken, one, tmp_path / "wrong", prop)
        assert said.startswith("exit 1: misbehaves: "), (one, said)
        said = proved(lab, interface, one, tmp_path / "right", prop)
        assert said.startswith("exit 0: behaves: "), (one, said)


def watches(interface: Interface) -> list[tuple[str, Watch]]:
    """One of each kind by each way, accepted and refused."""
    several = []
    name = interface.contract.number.removeprefix("__NR_")
    for way in battery_outside.ways(interface):
        arch = battery_outside.arch_of(interface, way)
        number = interface.number(interface.contract.number, way)
        for what, case in (
            ("accepted", battery_outside.accepted(interface, way)),
            ("refused", battery_outside.refused(interface, way)),
        ):
            this = Filter(arch=arch, number=number, action=battery_outside.TELL)
            other = dataclasses.replace(this, number=number + 1)
            some: dict[str, dict[str, Any]] = {
                "a filter that decides": {"filter": this, "decides": True},
                "a filter for another call": {"filter": other},
                "a tracer": {"traced": True},
                "the tracepoints": {"event": name},
            }
            several += [
                (f"{way.name}, {what}: {by}", battery_outside.watch(interface, case, way, **how))
                for by, how in some.items()
            ]
    return several


def test_nobody_who_watches_accuses_a_kernel_that_is_right(
    lab: Lab, interface: Interface, tmp_path: Path
) -> None:
    for name, one in watches(interface):
        said = proved(lab, interface, mismatch(one), tmp_path, "P22")
        assert said.startswith("exit 0: behaves: "), (name, said)


def test_a_filter_that_does_not_decide_is_shown(
    lab: Lab, interface: Interface, tmp_path: Path
) -> None:
    """As it would be, were the call seen with another arch or number."""
    for name, one in watches(interface):
        if one.filter is None or one.decides:
            continue
        said = proved(
            lab, interface, mismatch(dataclasses.replace(one, decides=True)), tmp_path, "P22"
        )
        assert said.startswith("exit 1: misbehaves: "), (name, said)
