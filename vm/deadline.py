# SPDX-License-Identifier: GPL-2.0-only
"""A deadline as an object: made once, handed down, asked for what is left.

A timeout that is passed from function to function starts anew in each; a
deadline does not.  All deadlines are the host's, on its monotonic clock: a
guest that hangs cannot be trusted to notice that it does.
"""

from __future__ import annotations

import dataclasses
import time


@dataclasses.dataclass(frozen=True)
class Deadline:
    """A point on the monotonic clock, and what it was set for."""

    at: float  #: time.monotonic() value, in seconds
    seconds: float  #: how long it was when made, in seconds
    what: str  #: what is waited for, for the message when it passes

    @classmethod
    def after(cls, seconds: float, what: str) -> Deadline:
        return cls(at=time.monotonic() + seconds, seconds=seconds, what=what)

    @property
    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.left == 0.0

    def __str__(self) -> str:
        return f"{self.what} within {self.seconds:g} s"
