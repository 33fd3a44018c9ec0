# SPDX-License-Identifier: GPL-2.0-only
"""What has to be on the machine (packages.toml), and apt, which brings it.

Standard library only: this runs before the virtual environment exists.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import platform
import shlex
import shutil
import sys
import sysconfig
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vm import cache, paths
from vm.deadline import Deadline
from vm.errors import InfraError, UserError
from vm.kernels import DEFAULT_KERNEL, load_kernels
from vm.proc import run

TABLE = paths.VM / "packages.toml"

#: Which groups of packages.toml a job needs.  `doctor` reports what is missing
#: and so asks for no more than it needs itself.
JOBS: Mapping[str, tuple[str, ...]] = {
    "doctor": ("python",),
    "host-test": ("python", "build", "guest", "trees"),
    "kernel": ("python", "build", "source"),
    "kernels": ("python", "build", "source"),
    "conformance": ("python", "build", "source", "guest"),
    "callers": ("python", "build", "source"),
    "shell": ("python", "build", "source", "guest"),
    "bench": ("python", "build", "source", "guest"),
    "guest-test": ("python", "build", "source", "guest", "trees", "review"),
    "mutants": ("python", "build", "source", "guest"),
    "coverage": ("python", "build", "source", "guest"),
    "mutants-harness": ("python", "build", "guest", "trees"),
    "skew": ("python", "build", "source", "guest"),
    "vm-test": ("python", "build", "source", "guest"),
    "series": ("python", "build", "source", "trees", "review"),
    "series-check": ("python", "build", "source", "trees", "review"),
}

#: Jobs that work with all kernels of kernels.toml when none is named.
EVERY_KERNEL = ("kernels", "conformance", "skew", "bench")

#: The kinds of probe that a row can have; packages.toml explains them.
PROBES = ("tool", "file", "links", "module", "header")

#: Where Debian keeps programs that an ordinary user's PATH does not have.
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")

#: Seconds for all of apt; generous, for slow mirrors and a busy lock.
APT_SECONDS = 1800.0
#: Seconds between two lines of a step that takes long.
TICK = 15.0

INSTALL = ("install", "-y", "--no-install-recommends")

#: What `links` compiles: it needs the C library's headers and its code.
PROBE_C = '#include <stdio.h>\n\nint main(void)\n{\n\treturn puts("") < 0;\n}\n'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
    """One thing that has to be there, and what brings it."""

    probe: str  #: one of PROBES
    subject: str  #: what is probed for: a program, a path, a flag ...
    packages: tuple[str, ...]
    group: str
    why: str
    optional: bool = False  #: its absence stops nothing

    @property
    def name(self) -> str:
        return f"gcc -static {self.subject}" if self.probe == "links" else self.subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class Host:
    """What of the machine is looked at and changed; tests put others here."""

    path: str = dataclasses.field(default_factory=lambda: os.environ.get("PATH", os.defpath))
    sbin: tuple[str, ...] = SBIN
    uid: Callable[[], int] = os.geteuid
    apt_lists: Path = Path("/var/lib/apt/lists")
    dpkg_status: Path = Path("/var/lib/dpkg/status")
    os_release: Callable[[], Mapping[str, str]] = platform.freedesktop_os_release
    build: Path = paths.VM.parent / "build"

    @property
    def search(self) -> str:
        return os.pathsep.join((self.path, *self.sbin))

    def which(self, tool: str) -> Path | None:
        found = shutil.which(tool, path=self.search)
        return Path(found) if found else None

    @property
    def env(self) -> dict[str, str]:
        """For commands: our search path, and messages that can be parsed."""
        return {"PATH": self.search, "LC_ALL": "C"}


def say(text: str) -> None:
    """Print a line of progress, on stderr."""
    print(f"bootstrap: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def ticking(title: str) -> Iterator[None]:
    """Say every TICK seconds that ``title`` goes on, and when done how long it took.

    vm.progress draws with rich, which is not installed yet.
    """
    start = time.monotonic()
    over = threading.Event()

    def tick() -> None:
        while not over.wait(TICK):
            say(f"{title} ... ({time.monotonic() - start:.0f} s)")

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    say(f"{title}: done ({time.monotonic() - start:.0f} s)")


# --- the table ---------------------------------------------------------------


def load(table: Path = TABLE) -> tuple[Need, ...]:
    """The rows of packages.toml, in its order."""
    needs = []
    for row in tomllib.loads(table.read_text())["need"]:
        (probe,) = (kind for kind in PROBES if kind in row)
        needs.append(
            Need(
                probe=probe,
                subject=row[probe],
                packages=tuple(row["packages"]),
                group=row["group"],
                why=row["why"],
                optional=row.get("optional", False),
            )
        )
    return tuple(needs)


def source(kernel: str) -> Need | None:
    """The distribution's source package of a kernel of kernels.toml.

    None for a name that is not there: refusing it is the command line's job.
    Optional, because what no package has is downloaded.
    """
    row = load_kernels().get(kernel)
    if row is None:
        return None
    return Need(
        probe="file",
        subject=str(row.tarball),
        packages=(row.package,),
        group="source",
        why="the kernel's source, as the distribution packages it",
        optional=True,
    )


def wanted(
    needs: Sequence[Need], *, job: str, kernel: str, own_tree: bool = False
) -> tuple[Need, ...]:
    """The rows that ``job`` needs, and the source of ``kernel`` if it does.

    Without a name it is that of the default kernel, or of every kernel where
    the job is about all.  With ``own_tree`` (KERNEL_TREE) no packaged kernel
    source is needed.
    """
    every = tuple(load_kernels()) if job in EVERY_KERNEL else (DEFAULT_KERNEL,)
    names = () if own_tree else (kernel,) if kernel else every
    sources = [need for need in map(source, names) if need]
    return tuple(need for need in (*needs, *sources) if need.group in JOBS[job])


# --- probes ------------------------------------------------------------------


def links(flag: str, host: Host) -> bool:
    """Whether a static program really compiles and links with ``flag``.

    A compiler that takes -mx32 without x32 libraries is the usual case, so
    only the linker's word counts.  The program is not run: most kernels
    refuse x32.
    """
    gcc = host.which("gcc")
    if gcc is None:
        return False
    with tempfile.TemporaryDirectory(prefix="extsys-probe-") as scratch:
        code = Path(scratch) / "empty.c"
        code.write_text(PROBE_C)
        argv = (str(gcc), flag, "-static", "-o", str(code.with_suffix("")), str(code))
        return run(argv, timeout=60, env=host.env, check=False, quiet=True).code == 0


def met(need: Need, host: Host) -> bool:
    """Whether what the row asks for is on this machine."""
    subject = need.subject
    match need.probe:
        case "tool":
            return host.which(subject) is not None
        case "file":
            return Path(subject).exists()
        case "links":
            return links(subject, host)
        case "module":
            return importlib.util.find_spec(subject) is not None
        case "header":
            return (Path(sysconfig.get_path("include")) / subject).exists()
        case _:
            raise InfraError(f"{TABLE}: {need.probe}: no such kind of probe")


# --- what was found last time ------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memo:
    """Answers that cost something to get, kept while no package changes.

    ``links``: flags that link.  ``absent``: optional packages that apt does not
    know, or that this user cannot install.
    """

    links: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()


def witness(host: Host) -> str | None:
    """A text that changes when packages, apt's lists or the compiler do.

    None where dpkg is not the package manager: then nothing is kept.
    """
    gcc = host.which("gcc")
    try:
        status = host.dpkg_status.stat()
    except OSError:
        return None
    lists = host.apt_lists.stat().st_mtime_ns if host.apt_lists.exists() else 0
    compiler = f"{gcc.resolve()} {gcc.stat().st_mtime_ns}" if gcc else "none"
    return f"{status.st_mtime_ns} {status.st_size} {lists} {compiler} {host.uid()}"


def recall(host: Host) -> Memo:
    """The answers of the last run, if they still hold."""
    seen = witness(host)
    try:
        kept = cache.read_json(host.build / "bootstrap.json")
        if seen is None or kept is None or kept["witness"] != seen:
            return Memo()
        return Memo(links=frozenset(kept["links"]), absent=frozenset(kept["absent"]))
    except (InfraError, KeyError, TypeError):
        return Memo()  # a damaged file is one that knows nothing


def remember(memo: Memo, host: Host) -> None:
    """Keep the answers for the next run."""
    seen = witness(host)
    if seen is not None:
        kept = {"witness": seen, "links": sorted(memo.links), "absent": sorted(memo.absent)}
        cache.write_json(host.build / "bootstrap.json", kept)


def missing(needs: Sequence[Need], memo: Memo, host: Host) -> tuple[Need, ...]:
    """The rows that are not met."""
    importlib.invalidate_caches()  # a package may have brought a module meanwhile
    return tuple(
        need
        for need in needs
        if not (need.probe == "links" and need.subject in memo.links)
        and not (need.optional and memo.absent.issuperset(need.packages))
        and not met(need, host)
    )


# --- apt ---------------------------------------------------------------------


def as_root(host: Host) -> tuple[str, ...] | None:
    """What to put before a command so that it runs as root; None: nothing can."""
    if host.uid() == 0:
        return ()
    if host.which("sudo") is None:
        return None
    asked = run(("sudo", "-n", "true"), timeout=30, env=host.env, check=False, quiet=True)
    return ("sudo", "-n") if asked.code == 0 else None


def have_lists(host: Host) -> bool:
    """Whether `apt-get update` has been run; container images come without its lists."""
    return any(host.apt_lists.glob("*_Packages*"))


def known(package: str, host: Host) -> bool:
    """Whether apt knows a package of this name."""
    argv = ("apt-cache", "show", "--no-all-versions", package)
    return run(argv, timeout=120, env=host.env, check=False, quiet=True).code == 0


def apt_get(root: Sequence[str], what: Sequence[str], host: Host, deadline: Deadline) -> None:
    """Run apt-get as root; wait for another apt, and mend an interrupted dpkg.

    apt waits for dpkg's lock by itself (DPkg::Lock::Timeout), but not for that
    of its lists, so a lock is also waited for here.  Raises InfraError.
    """
    base = (*root, "env", "DEBIAN_FRONTEND=noninteractive")
    host.build.mkdir(parents=True, exist_ok=True)
    waited = configured = False
    while True:
        argv = (*base, "apt-get", "-o", f"DPkg::Lock::Timeout={deadline.left:.0f}", *what)
        done = run(
            argv,
            timeout=deadline.left + 1,
            env=host.env,
            log=host.build / "apt.log",
            check=False,
            quiet=True,
        )
        if done.code == 0:
            return
        if "Could not get lock" in done.out and not deadline.passed:
            if not waited:
                say("another apt is at work; waiting for it")
            waited = True
            time.sleep(min(2.0, deadline.left))
        elif "dpkg --configure -a" in done.out and not configured:
            say("dpkg was interrupted earlier; running dpkg --configure -a")
            configured = True
            mend = (*base, "dpkg", "--configure", "-a")
            run(mend, timeout=deadline.left + 1, env=host.env, quiet=True)
        else:
            errors = [line for line in done.out.splitlines() if line.startswith("E:")]
            tail = "\n".join(errors or done.out.splitlines()[-10:])
            raise InfraError(f"{shlex.join(argv)}: exit code {done.code}\n{tail}")


def can_have(need: Need, host: Host) -> bool:
    """Whether to ask apt for this row's packages.

    An optional one only if apt knows it; with no lists to look into, Debian
    is the distribution that packages the optional ones.
    """
    if not need.optional:
        return True
    if have_lists(host):
        return all(known(package, host) for package in need.packages)
    try:
        return host.os_release().get("ID") == "debian"
    except OSError:
        return False


def packages_of(needs: Sequence[Need]) -> tuple[str, ...]:
    """The packages that bring these rows, each once, sorted."""
    return tuple(sorted({package for need in needs for package in need.packages}))


def by_hand(needs: Sequence[Need], host: Host) -> str:
    """The command that a person types to get these rows."""
    update = "" if have_lists(host) else "sudo apt-get update && "
    return f"{update}sudo apt-get {shlex.join((*INSTALL, *packages_of(needs)))}"


def refresh_lists(
    lacking: Sequence[Need], root: Sequence[str], host: Host, deadline: Deadline
) -> bool:
    """Run `apt-get update` where there are no lists, or some that may be too old to know a row.

    A machine image often has lists of the day it was made, and a kernel's source
    package may be younger.  What no list knows is asked for once: ensure()
    remembers it.  Gives whether the lists are new.  Raises InfraError when there are none.
    """
    had = have_lists(host)
    if had and all(can_have(need, host) for need in lacking):
        return False
    with ticking("apt-get update"):
        try:
            apt_get(root, ("update",), host, deadline)
        except InfraError as exc:
            if not had:
                raise
            say(f"going on with the lists that are there: {exc}")
            return False
    return True


def install(lacking: Sequence[Need], host: Host) -> None:
    """Install the packages of these rows, or say how, in one line.

    Raises UserError when this user may not, InfraError when apt fails.
    """
    required = [need for need in lacking if not need.optional]
    names = ", ".join(need.name for need in required)
    if host.which("apt-get") is None:
        if required:
            raise UserError(f"missing, and there is no apt-get to install it: {names}")
        return
    root = as_root(host)
    if root is None:
        if required:
            wish = [need for need in lacking if can_have(need, host)]
            raise UserError(f"missing: {names}; install with: {by_hand(wish, host)}")
        return
    deadline = Deadline.after(APT_SECONDS, "apt-get")
    fresh = refresh_lists(lacking, root, host, deadline)
    if wish := [need for need in lacking if can_have(need, host)]:
        what = (*INSTALL, *packages_of(wish))
        say(f"packages are missing; running: {shlex.join((*root, 'apt-get', *what))}")
        with ticking("apt-get install"):
            try:
                apt_get(root, what, host, deadline)
            except InfraError:
                if fresh:
                    raise
                say("that failed; trying once more after apt-get update")
                apt_get(root, ("update",), host, deadline)
                apt_get(root, what, host, deadline)


def ensure(needs: Sequence[Need], host: Host) -> None:
    """See to it that every required row is met.  Raises as install() does."""
    memo = recall(host)
    lacking = missing(needs, memo, host)
    if lacking:
        install(lacking, host)
        lacking = missing(needs, memo, host)
        if still := [need for need in lacking if not need.optional]:
            names = ", ".join(f"{need.name} ({need.why})" for need in still)
            raise UserError(
                f"{', '.join(packages_of(still))}: installed, yet missing: {names}; "
                f"python3 is {sys.executable}, gcc is {host.which('gcc')}"
            )
    remember(
        Memo(
            links=memo.links | {need.subject for need in needs if need.probe == "links"},
            absent=memo.absent | set(packages_of(lacking)),
        ),
        host,
    )
