# SPDX-License-Identifier: GPL-2.0-only
"""Who makes a call, and whom it names: what a privilege check depends on.

An `Identity` is taken by a child of the caller's, which then makes the call
(wire.h: WIRE_OP_BECOME).  A `Peer` is another process that is there while the
call is made, so that a field can name it by its pid (WIRE_OP_PEER).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from harness.program import U64, Who

#: Users without privilege: no test needs them to be somebody's in particular.
USER, OTHER_USER = 65534, 65533
#: By this one a process may look at any other (ptrace(2)).
PTRACE = "CAP_SYS_PTRACE"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """What a process is, seen from the caller, which is taken to hold every capability.

    What an identity of the caller's own lacks beyond that, a contract's
    `Privileged` say (Interface sets their ``caller_has``).
    """

    name: str  #: in a sentence: "as …"
    uid: int | None = None  #: its uid and gid; None: the caller's own
    only: frozenset[str] | None = None  #: the capabilities that it has; None: all
    lacks: frozenset[str] = frozenset()  #: of those, what it has not
    inactive: frozenset[str] = frozenset()  #: of those, permitted and not effective
    namespace: bool = False  #: in a user namespace of its own, where it holds every capability
    dumpable: bool = True  #: others of its user may look at it

    def holds(self, capability: str, *, namespaced: bool = False) -> bool:
        """Whether a check of this capability lets it pass.

        ``namespaced``: a check against its own user namespace, ns_capable();
        otherwise against the first one, capable().
        """
        if self.namespace:
            return namespaced
        if capability in self.lacks | self.inactive:
            return False
        return self.only is None or capability in self.only

    def covers(self, other: Identity, *, permitted: bool) -> bool:
        """Whether it has every capability that ``other`` is permitted, effective or just so."""
        missing = self.lacks if permitted else self.lacks | self.inactive
        if other.only is None:
            return self.only is None and missing <= other.lacks
        wanted = other.only - other.lacks
        return not wanted & missing and (self.only is None or wanted <= self.only)

    def who(self, number: Callable[[str], int], *, ended: bool = False) -> Who:
        """As numbers.  ``number`` gives a capability's, by its name in linux/capability.h."""

        def mask(names: frozenset[str]) -> int:
            return sum(1 << number(name) for name in names)

        kept = U64 if self.only is None else mask(self.only)
        permitted = kept & ~mask(self.lacks)
        return Who(
            effective=permitted & ~mask(self.inactive),
            permitted=permitted,
            required=0 if self.only is None else mask(self.only),
            uid=self.uid,
            namespace=self.namespace,
            dumpable=self.dumpable,
            ended=ended,
        )


#: The caller as it is.
CALLER = Identity(name="the caller")
#: Without any privilege at all.
NOBODY = Identity(name="a user without capabilities", uid=USER, only=frozenset())


def without(capability: str) -> Identity:
    """All that the caller is, but for one capability.  Any process may become this."""
    return Identity(name=f"without {capability}", lacks=frozenset({capability}))


def identities(capability: str) -> tuple[Identity, ...]:
    """Those between whom a check of ``capability`` has to tell."""
    one = frozenset({capability})
    return (
        without(capability),
        Identity(name=f"with {capability} not effective", inactive=one),
        NOBODY,
        # Against a check for uid 0, or for another capability.
        Identity(name=f"a user with {capability} alone", uid=USER, only=one),
        Identity(
            name="a user in a namespace of its own",
            uid=USER,
            only=frozenset(),
            namespace=True,
        ),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """A process whose pid a field of the struct holds."""

    name: str  #: in a sentence: "the pid of …"
    identity: Identity | None = CALLER  #: None: the process that makes the call
    ended: bool = False  #: it was, and is no more
    plus: int = 0  #: added to the pid: with more than 31 bits it is nobody's

    @property
    def exists(self) -> bool:
        """Whether the value is somebody's pid."""
        return not self.ended and not self.plus


def may_look(who: Identity, peer: Peer, *, real: bool) -> bool:
    """PTRACE_MODE_READ of a process that exists, by ptrace(2), "Ptrace access mode checking".

    ``real``: PTRACE_MODE_REALCREDS, else PTRACE_MODE_FSCREDS; the uids are the same here.
    """
    target = peer.identity
    if target is None or who.holds(PTRACE):
        return True
    if who.uid != target.uid or not target.dumpable or who.namespace:
        return False
    return who.covers(target, permitted=real)


#: Whom a field may name: alive, of the same user or of another, gone, or nobody at all.
PEERS: tuple[Peer, ...] = (
    Peer(name="the caller itself", identity=None),
    Peer(name="a process of root's"),
    Peer(name="a process of this user's", identity=NOBODY),
    Peer(
        name="a process of this user's, not dumpable",
        identity=dataclasses.replace(NOBODY, name="undumpable", dumpable=False),
    ),
    Peer(
        name="a process of another user's",
        identity=dataclasses.replace(NOBODY, name="another user", uid=OTHER_USER),
    ),
    Peer(
        name="a process of this user's with a capability",
        identity=Identity(name="with CAP_KILL", uid=USER, only=frozenset({"CAP_KILL"})),
    ),
    Peer(name="a process that has ended", ended=True),
    Peer(name="the caller itself, and 2^32 more", identity=None, plus=1 << 32),
    Peer(name="the caller itself, and 2^63 more", identity=None, plus=1 << 63),
    Peer(name="another user's process, and 2^32 more", plus=1 << 32),
)
