# SPDX-License-Identifier: GPL-2.0-only
"""Whose fault it is, told apart by type and by exit code.

Three parties can spoil a run: the user (a wrong option, a patch that does not
apply), the infrastructure (a download that broke, QEMU that went away) and the
kernel under test (an oops, a hang).  Each has its own exception and its own
exit codes, so that a script and a CI log can tell them apart without reading
prose.  A test that merely fails is none of these: that is pytest's exit 1.
"""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """What became of a test or of a guest; never one word for two things.

    ``code`` is the process exit code that stands for it.  0, 1 and 2 mean what
    pytest means by them (passed, failed, usage); 3, 4 and 5 stay pytest's own.
    """

    PASS = 0
    FAIL = 1
    USAGE = 2  #: a mistake in what was asked for, found while tests ran
    BUILD = 10  #: a kernel or a caller could not be built
    NO_KVM = 11  #: KVM was insisted on and does not boot a kernel here
    LOST = 12  #: the machine went away: QEMU died or was killed
    HANG = 13  #: the guest or a caller gave no answer within its deadline
    OOPS = 14  #: the kernel reported a BUG, an oops, a WARNING or a lockup
    PANIC = 15  #: the kernel panicked
    INFRA = 16  #: anything else around the kernel: disk, network, tools

    @property
    def label(self) -> str:
        return self.name.replace("_", "-")


class HarnessError(Exception):
    """Base of every error that is reported as one line and not as a traceback.

    ``hint`` says how to mend it, and is printed on a line of its own.
    """

    verdict = Verdict.INFRA

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def exit_code(self) -> int:
        return self.verdict.value

    def lines(self) -> list[str]:
        """The message as it is shown: what and where, then how to mend it."""
        out = [str(self)]
        if self.hint:
            out.append(f"hint: {self.hint}")
        return out


class UserError(HarnessError):
    """The user's mistake: what, where, how to mend it.  Exit code 2."""

    verdict = Verdict.USAGE


class InfraError(HarnessError):
    """Something around the kernel failed: a tool, the network, the disk."""


class LateError(InfraError):
    """A program did not end within its deadline, and was ended."""


class BuildError(HarnessError):
    """A kernel, a patch or a caller that the user asked for does not build."""

    verdict = Verdict.BUILD


class NoKvmError(HarnessError):
    """KVM was insisted on, and no kernel has printed a line under it."""

    verdict = Verdict.NO_KVM


class GuestError(HarnessError):
    """The guest ended, or stopped answering, before its work was done.

    ``verdict`` says how; ``console_tail`` holds the last console lines.
    """

    def __init__(
        self,
        message: str,
        *,
        verdict: Verdict,
        console_tail: tuple[str, ...] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.verdict = verdict
        self.console_tail = console_tail

    def lines(self) -> list[str]:
        out = [f"{self.verdict.label}: {self}"]
        out += [f"  | {line}" for line in self.console_tail]
        if self.hint:
            out.append(f"hint: {self.hint}")
        return out
