# SPDX-License-Identifier: GPL-2.0-only
"""From a bare machine to a virtual environment that can run the rest.

Runs with the system's python3 before each job (`python3 -sE -m vm.bootstrap`),
so it has the standard library alone, and this file must at least parse on
Python 3.8, to say in one line that it is too old.

Three things, each only if it is needed: the system packages of packages.toml,
the virtual environment build/venv, and the project installed into it.  When
all is there it says nothing and costs a fraction of a second.

Exit codes: 0 all is there; 2 something only the user can mend (one line names
the command); 16 a package or a download failed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

#: The oldest Python that the project runs on; pyproject.toml says the same.
OLDEST = (3, 11)


def old_python(version: tuple[int, int]) -> str | None:
    """One line that says why this Python will not do; None when it will."""
    if version >= OLDEST:
        return None
    return (
        f"bootstrap: Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, and {sys.executable} is "
        f"{version[0]}.{version[1]}: name another one with `make PYTHON=/path/to/python3 ...`"
    )


if _TOO_OLD := old_python(sys.version_info[:2]):
    print(_TOO_OLD, file=sys.stderr)
    sys.exit(2)

# These need what an older Python does not have.
from vm import cache, packages  # noqa: E402
from vm.errors import HarnessError, InfraError  # noqa: E402
from vm.packages import Host, say, ticking  # noqa: E402
from vm.proc import run  # noqa: E402

#: The project's root, where Makefile and pyproject.toml are.
ROOT = Path(__file__).resolve().parent.parent

#: Seconds for `python3 -m venv`, and for all of pip.
VENV_SECONDS = 300.0
PIP_SECONDS = 1800.0

#: Name of the file in a virtual environment that says it is whole.
STAMP = "extsys-stamp.json"

#: pip's and Python's own variables that would install somewhere else than
#: asked.  Empty means unset to both.  Indexes, proxies, certificates stay.
ASTRAY = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONPATH", "PYTHONHOME")


def inputs(root: Path) -> str:
    """A hash of what decides what is installed into the virtual environment."""
    digest = hashlib.sha256()
    wire = sorted((*root.glob("harness/caller/*.h"), *root.glob("harness/caller/*_build.py")))
    for path in (root / "pyproject.toml", root / "setup.py", *wire):
        if path.is_file():
            digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def compiled(root: Path) -> bool:
    """Whether the cffi module is there, if the project has one.

    The editable install puts it beside its source, where `git clean` finds it.
    """
    caller = root / "harness" / "caller"
    return not (caller / "wire_build.py").exists() or any(caller.glob("_*.so"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stamp:
    """What a virtual environment was made of.  Written last, when it is whole."""

    base: str  #: the Python, and where the environment lies (its scripts say so)
    inputs: str  #: inputs() of the project that is installed in it

    @classmethod
    def now(cls, root: Path, venv: Path) -> Stamp:
        python = Path(sys.executable).resolve()
        return cls(base=f"{python} {sys.version} {venv}", inputs=inputs(root))

    @classmethod
    def of(cls, venv: Path) -> Stamp | None:
        """The stamp of a virtual environment; None: it is not whole."""
        try:
            stamp = cls(**cache.read_json(venv / STAMP))
        except (InfraError, TypeError):
            return None
        return stamp if os.access(venv / "bin" / "python", os.X_OK) else None


def venv_ready(root: Path, venv: Path) -> bool:
    """Whether the virtual environment is whole and made of what is there now."""
    return Stamp.of(venv) == Stamp.now(root, venv) and compiled(root)


def ensure_venv(root: Path, venv: Path) -> None:
    """Make or refresh the virtual environment.  Raises InfraError."""
    if venv_ready(root, venv):
        return
    had, now = Stamp.of(venv), Stamp.now(root, venv)
    (venv / STAMP).unlink(missing_ok=True)
    if had is None or had.base != now.base:
        shutil.rmtree(venv, ignore_errors=True)
        with ticking("making the virtual environment"):
            run(
                (sys.executable, "-sE", "-m", "venv", venv),
                timeout=VENV_SECONDS,
                env=dict.fromkeys(ASTRAY, ""),
                quiet=True,
            )
    pip = (venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-input")
    with ticking("installing the project's Python packages into it"):
        done = run(
            (*pip, "--disable-pip-version-check", "--editable", f"{root}[test]"),
            timeout=PIP_SECONDS,
            cwd=root,
            env=dict.fromkeys(ASTRAY, ""),
            check=False,
            quiet=True,
        )
        if done.code != 0:
            tail = "\n".join(done.out.splitlines()[-30:])
            raise InfraError(
                f"pip could not install the project into {venv} (exit code {done.code})\n{tail}",
                hint="pip's own settings hold here: pip.conf, PIP_INDEX_URL, HTTPS_PROXY",
            )
    cache.write_json(venv / STAMP, dataclasses.asdict(now))


def prepare(*, job: str, kernel: str, own_tree: bool, root: Path, host: Host) -> None:
    """See to it that ``job`` has all it needs.

    Of two runs at once one makes it, the other waits and finds it made.
    Raises UserError and InfraError.
    """
    needs = packages.wanted(packages.load(), job=job, kernel=kernel, own_tree=own_tree)
    venv = host.build / "venv"
    if not packages.missing(needs, packages.recall(host), host) and venv_ready(root, venv):
        return
    with cache.locked(host.build / "bootstrap.lock", "preparing this checkout"):
        packages.ensure(needs, host)
        ensure_venv(root, venv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the Makefile calls it before each job."""
    parser = argparse.ArgumentParser(prog="bootstrap")
    parser.add_argument("--for", dest="job", choices=tuple(packages.JOBS), default="vm-test")
    parser.add_argument("--kernel", default="", help="its source package is looked for")
    parser.add_argument("--kernel-tree", default="", help="a tree or an image: no source package")
    args = parser.parse_args(argv)
    try:
        prepare(
            job=args.job,
            kernel=args.kernel,
            own_tree=bool(args.kernel_tree),
            root=ROOT,
            host=Host(),
        )
    except HarnessError as exc:
        for line in exc.lines():
            say(line)
        return exc.exit_code
    except OSError as exc:  # a build/ of another user, a full disk
        say(str(exc))
        return InfraError.verdict.value
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
