# SPDX-License-Identifier: GPL-2.0-only
"""The battery's items for P19: who may, who may not, and what each is told.

Importing this module adds them.  A child of the caller's takes an identity
(harness/identity.py) and makes the calls; the model says what each may do.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable, Iterator, Sequence

import pytest

from harness.abi import ABI
from harness.battery import (
    BATTERY,
    Item,
    Level,
    ask,
    effect_is_known,
    provocations,
    set_fields,
)
from harness.case import Case
from harness.channel import RefusedError
from harness.contract import FIELD_CHECKS, Contract, Privileged, Process
from harness.findings import Causes
from harness.identity import NOBODY, PEERS, PTRACE, Identity, identities, without
from harness.interface import ASPECTS, Interface
from harness.model import MOST_PID

#: errnos with which a kernel, or what runs us, says that a caller may not become somebody.
REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.ENOSPC, errno.EUSERS)


def _no_needs(contract: Contract, abi: ABI) -> str | None:
    return None if contract.privileged else "nothing in the contract takes a capability"


def _no_process(contract: Contract, abi: ABI) -> str | None:
    return None if contract.processes else "no field names a process"


def _no_privilege(contract: Contract, abi: ABI) -> str | None:
    if contract.privileged or contract.processes:
        return None
    return "the contract has no privilege"


def _as_each(
    interface: Interface,
    several: Sequence[Identity],
    calls: Callable[[Identity], Sequence[Case]],
    *,
    about: frozenset[str] = ASPECTS,
) -> None:
    """Have each identity make its calls; ContractBrokenError names every cause.

    ``about`` narrows what is looked at (Interface.compare).

    On this machine a caller may be nobody who can become another: what it
    cannot become is left out, and if that is all, the test is skipped.
    """
    found = Causes()
    refusal: RefusedError | None = None
    tried = 0
    for who in several:
        try:
            mine = [dataclasses.replace(one, who=who) for one in calls(who)]
            judged = interface.judge(mine, about=about)
        except RefusedError as exc:
            if interface.target.guest or exc.errno not in REFUSALS:
                raise
            refusal = exc
            continue
        tried += 1
        for mismatches in judged:
            for mismatch in mismatches:
                found.add(dataclasses.replace(mismatch, cause=f"{who.name}: {mismatch.cause}"))
    interface.fail_on(found.all())
    if refusal is not None and not tried:
        pytest.skip(f"this caller cannot become another: {os.strerror(refusal.errno or 0)}")


def _known(interface: Interface, who: Identity, calls: Sequence[Case]) -> list[Case]:
    """The calls that may be made: not those of which nobody knows what an accepted one does."""
    if effect_is_known(interface):
        return list(calls)
    return [one for one in calls if interface.predict(dataclasses.replace(one, who=who)).errno]


def _asking(interface: Interface, check: Privileged) -> Iterator[Case]:
    """Calls for what takes the capability, and for what just does not."""
    good = interface.case()
    yield good
    yield ask(interface, good, check)
    if check.field is not None:
        width = 8 * interface.layout.field(check.field).size
        values = {1 << bit for bit in range(width)} | {(1 << width) - 1}
        if check.above is not None:
            values |= {check.above, check.above + 1}
        judged = {c.field for c in interface.contract.checks if isinstance(c, FIELD_CHECKS)}
        if check.field not in judged:  # else another check would answer for most of them
            for value in sorted(values):
                yield set_fields(interface, good, **{check.field: value})
    if check.arg is not None and check.above is None:
        for bit in range(64):
            if check.bits >> bit & 1:
                yield dataclasses.replace(good, flags=((check.arg, 1 << bit),))


def _with_and_without_the_capability(interface: Interface, level: Level) -> None:
    """Refused to whom does not hold it, root or not, and to whom holds it elsewhere only."""
    for check in interface.contract.privileged:
        calls = list(_asking(interface, check))
        _as_each(
            interface,
            identities(check.capability),
            lambda who, calls=calls: _known(interface, who, calls),  # type: ignore[misc]
        )


def _refused_before_anything_is_told(interface: Interface, level: Level) -> None:
    """Together with every other reason to refuse: the order is the same for everybody.

    What a refused call writes is another property's.
    """
    checks = interface.contract.checks
    privileged = [check for check in checks if isinstance(check, (Privileged, Process))]
    calls = []
    for check in privileged:
        for other in checks:
            if other is check:
                continue
            for provoke in provocations(interface, other):
                good = interface.case()
                if isinstance(check, Privileged):
                    calls.append(ask(interface, provoke(interface, good), check))
                    calls.append(provoke(interface, ask(interface, good, check)))
                else:
                    calls += [
                        dataclasses.replace(provoke(interface, good), peer=(check.field, peer))
                        for peer in PEERS[:2]
                    ]
    several = [NOBODY, identities(PTRACE)[-1]]
    several += [without(check.capability) for check in interface.contract.privileged]
    _as_each(
        interface,
        several,
        lambda who: _known(interface, who, _readable(interface, calls)),
        about=frozenset({"errno"}),
    )


def _readable(interface: Interface, calls: Sequence[Case]) -> list[Case]:
    """Those of which the model can say whom they name: a pid that is cut short is nobody's."""

    def whole(case: Case) -> bool:
        if case.peer is None:
            return True
        end = interface.layout.field(case.peer[0]).end
        present = len(case.memory) if case.hole is None else case.hole
        return case.pointer is None and end <= min(present, case.usize)

    return [one if whole(one) else dataclasses.replace(one, peer=None) for one in calls]


def _another_process(interface: Interface, level: Level) -> None:
    """A field that names a process: one's own, another user's, one that is gone, nobody's."""
    if (
        not interface.target.guest
        and not interface.target.capabilities >> interface.capability(PTRACE) & 1
    ):
        pytest.skip("the caller's own privilege is not known: it takes CAP_SYS_PTRACE")
    for check in interface.contract.processes:
        field = interface.layout.field(check.field)
        width = 8 * field.size
        good = interface.case()
        calls = [
            dataclasses.replace(good, peer=(check.field, peer))
            for peer in PEERS
            if peer.plus >> width == 0
        ]
        numbers = {0, MOST_PID + 1, (1 << width) - 1, 1 << 31, 1 << 32, 1 << (width - 1)}
        calls += [
            set_fields(interface, good, **{check.field: value})
            for value in sorted(numbers)
            if value >> width == 0
        ]
        several = (*identities(PTRACE), without("CAP_SYS_ADMIN"))
        _as_each(
            interface,
            several,
            lambda who, calls=calls: _known(interface, who, calls),  # type: ignore[misc]
        )


BATTERY += [
    Item(
        prop="P19",
        name="with-and-without-the-capability",
        run=_with_and_without_the_capability,
        unless=_no_needs,
    ),
    Item(
        prop="P19",
        name="refused-before-anything-is-told",
        run=_refused_before_anything_is_told,
        unless=_no_privilege,
    ),
    Item(prop="P19", name="another-process", run=_another_process, unless=_no_process),
]
