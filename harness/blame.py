# SPDX-License-Identifier: GPL-2.0-only
"""The call that made the kernel report something, found on the guest that it happened on."""

from __future__ import annotations

import dataclasses

from harness import case as cases
from harness import splats
from harness.case import Case
from harness.findings import Mismatch
from harness.how import NoProgram, Reported
from harness.interface import Interface
from harness.lab import Lab
from harness.splats import Asked
from vm.console import Event
from vm.errors import GuestError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blamed:
    """What the kernel said something of, as far as that is known."""

    words: str  #: in one line
    interface: Interface
    case: Case | None  #: the one call; None where it is one of several

    def mismatch(self, event: Event) -> Mismatch:
        """What the kernel said, for a reproducer."""
        return Mismatch(
            first=self.words,
            last=self.words,
            count=1,
            allowed="the kernel has nothing to say of it",
            seen=f"{event.kind}: {event.text}",
            cause=event.kind,
            case=self.case,
            how=Reported() if self.case else SEVERAL,
        )


#: Of a call that was not told from others.
SEVERAL = NoProgram(why="which of the calls it was is not known")


def find(lab: Lab, event: Event, interface: Interface, *, brief: bool) -> Blamed:
    """Which call it was; ``brief``: as far as one look tells."""
    guest, target = lab.guest, interface.target
    assert guest is not None
    request = target.request(splats.request_of(event, guest.console.lines))
    asked = request.asked if request else None
    if asked is not None and asked.several:
        fits = splats.fitting(asked, splats.registers(event.report))
        asked = dataclasses.replace(asked, several=tuple(fits))
    if asked is not None and not event.fatal and not brief:
        own = _interface(interface, asked)

        def again(part: Asked) -> bool:
            return _again(lab, own, part, event.kind)

        try:
            asked = splats.narrow(asked, again)
        except GuestError as exc:  # what is known until now has to do
            lab.lose(exc)

    def describe(case: Case) -> str:
        assert asked is not None
        register = asked.abi.register
        return cases.describe(asked.contract, interface.layout, case, register=register)

    return Blamed(
        words=splats.words(request, asked, describe),
        interface=_interface(interface, asked) if asked else interface,
        case=splats.single(asked) if asked else None,
    )


def _interface(known: Interface, asked: Asked) -> Interface:
    """The interface that the calls were of: a test may use another ABI's beside its own."""
    if asked.abi == known.abi:
        return known
    return Interface(known.asked, asked.abi, compiler=known.compiler, target=known.target)


def _again(lab: Lab, interface: Interface, part: Asked, kind: str) -> bool:
    """Make some of the calls again; whether the kernel says it again."""
    lab.listen()
    if part.rule is not None:
        interface.sweep(part.rule)
    else:
        interface.judge(part.several)
    return any(event.kind == kind for event in lab.heard())
