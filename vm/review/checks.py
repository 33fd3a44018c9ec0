# SPDX-License-Identifier: GPL-2.0-only
"""The checks of checks.toml: each a function from a bench to the lines that are wrong."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from vm import cache as store
from vm import kselftest, proc
from vm.errors import BuildError, HarnessError
from vm.review import growth, mails, tables
from vm.review.bench import Bench, SkipError, part_of
from vm.review.commits import Commit, git

#: One run of a small tool, in seconds.
TOOL_SECONDS = 300.0
#: What is built to tell an ABI of the callers.
ABI_FLAGS = ("-m64", "-m32", "-mx32")
STANDARDS = (
    ("gcc", "c", "-std=c90"),
    ("g++", "c++", "-std=c++98"),
    ("g++", "c++", "-std=c++17"),
)
#: Files that belong into a commit of their own (Proposing the API).
X86 = re.compile(r"arch/x86/|tools/perf/arch/x86/")
SELFTEST = re.compile(r"tools/testing/selftests/")
#: Shared files that more than one chunk has to touch.
SHARED = ("MAINTAINERS", "kernel/sys_ni.c")
#: The one complaint about a manual page that stays: man-pages' titles are in lower case.
TITLE = re.compile(r"STYLE: lower case character in document title")
#: The kernel's own comparison of two versions of all UAPI headers.
CHECK_UAPI = "scripts/check-uapi.sh"
#: What check-uapi.sh needs of a kernel tree to install headers.
HEADERS_NEED = (
    "Makefile",
    "Kbuild",
    "Kconfig",
    "scripts",
    "include",
    "arch/x86",
    "usr",
    "tools/include",
)


def check_git_am(bench: Bench) -> list[str]:
    """Each stack onto a pristine tree."""
    wrong = []
    for name, parts in bench.stacks.items():
        try:
            bench.repository(parts, name)
        except BuildError as exc:
            wrong.append(f"{name}: {exc}")
    return wrong


def check_checkpatch(bench: Bench) -> list[str]:
    """Each mail, the manual pages' included."""
    script = bench.source.tree / "scripts/checkpatch.pl"
    wrong = []
    for part in bench.parts:
        for path, tree in part.mails:
            argv: list[str | Path] = ["perl", script, "--strict", "--no-summary", "--terse"]
            # man-pages has no MAINTAINERS of the kernel's kind.
            ignore = [] if tree == "kernel" else ["--ignore", "FILE_PATH_CHANGES"]
            done = proc.run(
                [*argv, *ignore, path],
                timeout=TOOL_SECONDS,
                cwd=bench.source.tree,
                check=False,
                quiet=True,
            )
            wrong += [
                line for line in done.out.splitlines() if re.search(r"(WARNING|ERROR|CHECK):", line)
            ]
    return wrong


def _chunk(commit: Commit) -> set[str]:
    kinds = set()
    for name in commit.files:
        if name in SHARED:
            continue
        if SELFTEST.match(name):
            kinds.add("selftest")
        elif X86.match(name):
            kinds.add("x86")
        else:
            kinds.add("core")
    return kinds


def check_division(bench: Bench) -> list[str]:
    """By what the commits touch."""
    wrong = []
    for commit in bench.series.commits:
        if len(_chunk(commit)) > 1:
            wrong.append(f"{commit.subject}: {' and '.join(sorted(_chunk(commit)))} in one commit")
    for part in bench.parts:
        mine = [one for one in bench.series.commits if part_of(bench, one) is part]
        if not any(tables.TABLE_64 in one.files for one in mine):
            continue  # it extends a call that is there already
        for kind in ("core", "x86", "selftest"):
            if not any(_chunk(one) == {kind} for one in mine):
                wrong.append(f"{part.name}: no commit is {kind} alone")
        if not any(tree == "man-pages" for _, tree in part.mails):
            wrong.append(f"{part.name}: no manual page")
    return wrong


def check_tables(bench: Bench) -> list[str]:
    """After the last commit; see vm/review/tables.py."""
    with bench.workplace() as place:
        place.move(bench.series.commits[-1].hash)
        return tables.problems(
            place.tree,
            bench.source.tree,
            bench.series.touched,
            lagging=bench.kernel.name in bench.table.lagging,
        )


def check_options(bench: Bench) -> list[str]:
    """By init/Kconfig and kernel/Makefile after the last commit."""
    wrong = []
    with bench.workplace() as place:
        place.move(bench.series.commits[-1].hash)
        kconfig = (place.tree / "init/Kconfig").read_text()
        makefile = (place.tree / "kernel/Makefile").read_text()
        for name in tables.added(place.tree, bench.source.tree):
            option = f"{name.upper()}_SYSCALL"
            entry = re.search(rf"^config {option}\n(.*?)(?=^config |\Z)", kconfig, re.M | re.S)
            if not entry:
                wrong.append(f"init/Kconfig: no config {option}")
                continue
            if "if EXPERT" not in entry[1] and "depends on EXPERT" not in entry[1]:
                wrong.append(f"init/Kconfig: {option} does not depend on EXPERT")
            if "\thelp\n" not in entry[1]:
                wrong.append(f"init/Kconfig: {option} has no help")
            if f"obj-$(CONFIG_{option}) += {name}.o\n" not in makefile:
                wrong.append(f"kernel/Makefile: {name}.o does not depend on {option} alone")
    return wrong


def check_bisect(bench: Bench) -> list[str]:
    """Objects of the touched files and the tables, at each commit, in each configuration."""
    wrong = []
    with bench.workplace() as place:
        for number, commit in enumerate(bench.series.commits, 1):
            place.move(commit.hash)
            if _chunk(commit) <= {"selftest"}:
                continue  # no file of the kernel's changes
            for config in bench.table.configs:
                what = f"commit {number} of {len(bench.series.commits)}"
                found = place.compile(config, "W=1", what=what)
                wrong += [f"{commit.subject}: {config.name}: {line}" for line in found]
    return wrong


def check_sparse(bench: Bench) -> list[str]:
    """The same objects after the last commit, in the configurations that have them."""
    with bench.workplace() as place:
        place.move(bench.series.commits[-1].hash)
        wrong = []
        for config in bench.table.configs[:2]:
            found = place.compile(config, "C=2", "CHECK=sparse", what="sparse")
            wrong += [f"{config.name}: {line}" for line in found]
        return wrong


def check_clang(bench: Bench) -> list[str]:
    """As sparse, with the other compiler."""
    with bench.workplace() as place:
        place.move(bench.series.commits[-1].hash)
        wrong = []
        for config in bench.table.configs[:2]:
            found = place.compile(config, "W=1", compiler="clang", what="clang")
            wrong += [f"{config.name}: {line}" for line in found]
        return wrong


def _headers(bench: Bench) -> tuple[Path, list[str]]:
    """The installed headers after the last commit, and those that the series has added."""
    config = bench.table.configs[0]
    with bench.workplace() as place:
        place.move(bench.series.commits[-1].hash)
        place.configure(config)
        make = place.make(config)
        make.run("headers", title="making headers", seconds=TOOL_SECONDS * 4)
        added = [
            name.removeprefix("include/uapi/")
            for name in bench.series.touched
            if name.startswith("include/uapi/linux/")
        ]
        return make.objects / "usr/include", added


def check_headers(bench: Bench) -> list[str]:
    """Syntax alone, against the headers as installed."""
    include, added = _headers(bench)
    wrong = []
    for name in added:
        # Alone, twice, and with what a program is sure to have as well.
        unit = f"#include <{name}>\n#include <{name}>\n#include <linux/fcntl.h>\nint unit;\n"
        for compiler, language, standard in STANDARDS:
            for flag in ABI_FLAGS:
                argv = [
                    *(compiler, flag, "-x", language, standard, "-Wall", "-Wextra", "-Werror"),
                    *("-fsyntax-only", f"-I{include}", "-"),
                ]
                done = proc.run(argv, timeout=TOOL_SECONDS, input=unit, check=False, quiet=True)
                if done.code:
                    first = done.out.strip().partition("\n")[0]
                    wrong.append(f"{name} with {compiler} {standard} {flag}: {first}")
    return wrong


def check_check_uapi(bench: Bench) -> list[str]:
    """Each series' last commit against the one before it, and the first against nothing new."""
    repo = bench.series
    if not (bench.source.tree / CHECK_UAPI).is_file():
        raise SkipError(f"Linux {bench.kernel.name} has no {CHECK_UAPI}")
    where = bench.report / "git" / "uapi"
    store.remove(where)
    where.mkdir(parents=True)
    git(where, "init", "-q")
    with bench.workplace() as place:
        refs: list[tuple[str, str]] = []
        for index, commit in enumerate(repo.commits):
            last = index + 1 == len(repo.commits)
            if not last and part_of(bench, repo.commits[index + 1]) is part_of(bench, commit):
                continue
            changed = place.move(commit.hash)
            # All of them once, then what changed.
            wanted = [name for name in changed if name.startswith(HEADERS_NEED)]
            for name in wanted if refs else HEADERS_NEED:
                source, target = place.tree / name, where / name
                if source.is_dir():
                    shutil.copytree(source, target, symlinks=True)
                elif source.is_file():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
            git(where, "add", "-A", "-f", ".")
            git(where, "commit", "-q", "-m", part_of(bench, commit).name)
            refs.append((part_of(bench, commit).name, git(where, "rev-parse", "HEAD").out.strip()))
    wrong = []
    for (old, past), (new, base) in itertools.pairwise(refs):
        log = bench.report / f"check-uapi-{new.replace('/', '-')}.log"
        argv: list[str | Path] = ["bash", CHECK_UAPI]
        # -i: a structure may grow at its end (Documentation/dev-tools/checkuapi.rst);
        # that it does so and no more is what check_growth() looks at.
        argv += ["-i", "-p", past, "-b", base, "-l", log]
        done = proc.run(argv, timeout=TOOL_SECONDS * 4, cwd=where, env={"ARCH": "x86"}, check=False)
        if done.code == 2:  # the script's own word for what it needs and has not
            raise SkipError(done.out.strip().partition("\n")[0])
        if done.code:
            wrong.append(f"{old} to {new}: {done.out.strip()[-600:]}")
    if not refs:
        raise SkipError("there is one version only")
    return wrong


def check_growth(bench: Bench) -> list[str]:
    """Each state of each UAPI header against the one before it, in each ABI."""
    repo = bench.series
    scratch = bench.report / "growth"
    store.remove(scratch)
    wrong, compared = [], 0
    for name in repo.touched:
        if not name.startswith("include/uapi/linux/"):
            continue
        header = name.removeprefix("include/uapi/")
        states: list[tuple[Commit, Path]] = []
        for commit in repo.commits:
            content = repo.content(commit.hash, name)
            if content is None or name not in commit.files:
                continue
            include = scratch / f"{len(states)}"
            (include / header).parent.mkdir(parents=True, exist_ok=True)
            (include / header).write_bytes(content)
            states.append((commit, include))
        for flag in ABI_FLAGS:
            shown = [growth.surface(where, header, flag, scratch) for _, where in states]
            for (old, new), (commit, _) in zip(itertools.pairwise(shown), states[1:], strict=True):
                compared += 1
                wrong += [f"{commit.subject}: {flag}: {one}" for one in growth.problems(old, new)]
    if not compared:
        raise SkipError("there is one version only")
    return wrong


def check_selftest(bench: Bench) -> list[str]:
    """As vm-test builds them, and without a warning."""
    wrong = []
    include, _ = _headers(bench)
    with bench.workplace() as place:
        place.move(bench.series.commits[-1].hash)
        targets = sorted(
            {
                Path(name).parts[3]
                for name in bench.series.touched
                if SELFTEST.match(name) and len(Path(name).parts) > 4
            }
        )
        for target in targets:
            cache = bench.report / "selftests"
            try:
                built = kselftest.build(target, tree=place.tree, headers=include, cache=cache)
            except HarnessError as exc:
                wrong.append(str(exc))
                continue
            log = next((cache / "kselftest").glob(f"{target}-*/make.log")).read_text()
            wrong += [f"{target}: {line}" for line in log.splitlines() if "warning:" in line]
            for suffix in ("64", "32", "x32"):
                if f"{target}_test_{suffix}" not in built:
                    wrong.append(f"{target}: no {target}_test_{suffix}")
    return wrong


def check_manual(bench: Bench) -> list[str]:
    """The pages as they are after the last patch of each."""
    wrong = []
    for page in bench.pages:
        for tool in (["mandoc", "-T", "lint"], ["groff", "-man", "-ww", "-z"]):
            done = proc.run([*tool, page], timeout=TOOL_SECONDS, check=False, quiet=True)
            wrong += [line for line in done.out.splitlines() if not TITLE.search(line)]
    if not bench.pages:
        wrong.append("the series has no manual page")
    return wrong


def check_mails(bench: Bench) -> list[str]:
    """The thread of each series is written, and looked at."""
    return mails.problems(bench, mails.write(bench, bench.report / "mails"))


CHECKS: Mapping[str, Callable[[Bench], list[str]]] = {
    "git-am": check_git_am,
    "checkpatch": check_checkpatch,
    "division": check_division,
    "tables": check_tables,
    "options": check_options,
    "bisect": check_bisect,
    "sparse": check_sparse,
    "clang": check_clang,
    "headers": check_headers,
    "growth": check_growth,
    "check-uapi": check_check_uapi,
    "selftest": check_selftest,
    "manual": check_manual,
    "mails": check_mails,
}
