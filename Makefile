# SPDX-License-Identifier: GPL-2.0-only
#
# The way in.  Each target sees to it that the machine has what it needs
# (vm/bootstrap.py: packages, build/venv) and then calls the command line
# (`python -m harness`); nothing is decided here.
#
# `make help` prints the lines of this file that have a "##".

.DEFAULT_GOAL := help

# --- parameters: on make's command line, or in the environment ----------------

KERNEL ?= 6.12 ## the kernel: 6.12 or 6.1, a name of vm/kernels.toml; for a tree the one nearest to it
VARIANT ?= ver0 ## of that kernel: ver0, ver1, ver2 or off
KERNEL_TREE ?= ## a kernel tree of your own, patched or not; it is never written to
BZIMAGE ?= ## a kernel built elsewhere, instead of building one; needs HEADERS
HEADERS ?= ## what make headers_install made for the kernel in BZIMAGE
ABI ?= ## only these callers: m64, m32, mx32, or several with commas (default: all)
ACCEL ?= auto ## auto, kvm or tcg; auto takes KVM only where it is proved to boot
BATTERY ?= quick ## quick or full: how much of the battery is run
JOBS ?= ## parallel compiler jobs (default: one for each core)
MIRROR ?= ## a base URL to download the kernel's source from
MUTANT ?= ## only these mutants, by number or name, several with commas (default: all)
SHARD ?= ## only one part of the mutants: 2/4 is the second of four
FRESH ?= ## `make mutants FRESH=yes` runs all of them, whatever results are kept
WITHOUT ?= ## judge mutants as if the battery lacked this property, such as P3
REPEAT ?= ## only the named property of each mutant, so many times: make mutants MUTANT=22,23,24 REPEAT=20
LTP ?= ## a source of LTP in which its library is built, for its tests of the samples; several with colons
MERGE ?= ## `make skew` and `make conformance` run nothing, and make one table of the reports below this directory
COLD ?= ## `make bench COLD=yes` only builds every kernel of every series, in an empty cache
PYTEST_ARGS ?= ## more arguments for pytest, such as '-k flags -x'
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3) ## makes build/venv; 3.11 or newer

# --- what a recipe's commands see ---------------------------------------------

# virtme-ng runs its own programs from PATH, so calling it by path is not enough.
export PATH := $(CURDIR)/build/venv/bin:$(PATH)

# The kernel's make is no part of this one: not its job server, not its flags,
# not the variables of its command line.  make insists on exporting MAKELEVEL.
unexport MAKEFLAGS MFLAGS MAKEOVERRIDES
unexport KERNEL VARIANT KERNEL_TREE BZIMAGE HEADERS ABI ACCEL BATTERY JOBS MIRROR LTP MERGE COLD
unexport PYTEST_ARGS PYTHON
# Whatever environment was active in the caller's shell, build/venv is used.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

# Who wants no bytecode beside the sources gets none there; but a run of the
# mutants starts a hundred Pythons, and each would compile all modules anew.
ifdef PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/bytecode
unexport PYTHONDONTWRITEBYTECODE
endif

# One job at a time: each uses all cores by itself.
.NOTPARALLEL:

# --- how a job is run ---------------------------------------------------------

# A text as one word of the shell's, without the blanks that a "##" behind a
# value leaves in it; and "--option text" if there is a text.
quote = '$(subst ','\'',$(strip $(1)))'
option = $(if $(strip $(2)),$(1) $(call quote,$(2)))

# A parameter that was given, not the default above: a command that is about
# every kernel, or about a tree, has a default of its own.
given = $(if $(filter file,$(origin $(1))),,$($(1)))

kernel-options = $(call option,--kernel,$(call given,KERNEL)) \
	$(call option,--variant,$(call given,VARIANT)) \
	$(call option,--kernel-tree,$(KERNEL_TREE)) \
	$(call option,--jobs,$(JOBS)) $(call option,--mirror,$(MIRROR))
guest-options = $(kernel-options) $(call option,--accel,$(ACCEL))

# A mutant says itself which variant it is put on, and so does at-test.
mutant-options = $(call option,--kernel,$(call given,KERNEL)) \
	$(call option,--kernel-tree,$(KERNEL_TREE)) $(call option,--jobs,$(JOBS)) \
	$(call option,--mirror,$(MIRROR)) $(call option,--accel,$(ACCEL))

# The kernel that a job is about.
job-kernel = $(call given,KERNEL)

# $(call job,NAME,OPTIONS,PYTEST'S ARGUMENTS)
define job
@$(need-python)
@env -u MAKELEVEL $(call quote,$(PYTHON)) -sE -m vm.bootstrap --for $(1) \
	$(call option,--kernel,$(job-kernel)) \
	$(call option,--kernel-tree,$(or $(strip $(KERNEL_TREE)),$(strip $(BZIMAGE))))
@env -u MAKELEVEL build/venv/bin/python -m harness $(1) $(2)$(if $(strip $(3)), -- $(3))
endef

# The one thing that vm/bootstrap.py cannot install.
install-python = apt-get install -y --no-install-recommends python3
define need-python
command -v $(call quote,$(PYTHON)) >/dev/null || { \
	if [ "$$(id -u)" = 0 ]; then root=; else root='sudo -n'; fi; \
	if [ $(call quote,$(PYTHON)) = python3 ] && $$root true 2>/dev/null; then \
		echo 'python3 is missing; running: apt-get update; $(install-python)' >&2; \
		{ $$root apt-get update && $$root env DEBIAN_FRONTEND=noninteractive $(install-python); } >/dev/null; \
	else \
		echo $(call quote,$(PYTHON) is missing: sudo apt-get update && sudo $(install-python)) >&2; \
		exit 2; \
	fi; }
endef

# --- targets ------------------------------------------------------------------

.PHONY: help
help: ## this text
	@awk -F ' *## *' ' \
		/^[a-z-]+:.*##/ { sub(/:.*/, "", $$1); targets = targets row($$1, $$2) } \
		/^[A-Z_]+ [?]= .*##/ { split($$1, set, / *[?]= */); sub(/^[$$].*/, "", set[2]); \
			parameters = parameters row(set[1], $$2 (set[2] == "" ? "" : " [" set[2] "]")) } \
		function row(name, text) { return sprintf("  %-12s %s\n", name, text) } \
		END { printf "make TARGET [PARAMETER=value ...]\n\nTargets:\n%s\nParameters:\n%s", \
			targets, parameters }' Makefile

.PHONY: vm-test
vm-test: ## the main job: build the kernel, boot it, test m64, m32 and mx32 callers on it
	$(call job,vm-test,$(guest-options) $(call option,--bzimage,$(BZIMAGE)) \
		$(call option,--headers,$(HEADERS)) $(call option,--abi,$(ABI)) \
		$(call option,--battery,$(BATTERY)),$(PYTEST_ARGS))

.PHONY: test
test: one-kernel = $(KERNEL)
test: host-test guest-test at-test $(if $(KERNEL_TREE)$(BZIMAGE),,uml-test skew mutants-sample) vm-test ## everything; skew with one kernel, and two mutants

.PHONY: host-test
host-test: ## the tests that need no guest, lint and types included
	$(call job,host-test,,$(PYTEST_ARGS))

.PHONY: at-test
at-test: ## the battery and the tests of xyzzyat(2), the second sample, on a kernel that has it
	$(call job,vm-test,$(mutant-options) --variant at --contract xyzzyat \
		--report build/report-at $(call option,--battery,$(BATTERY)) \
		$(call option,--ltp,$(LTP)) $(call option,--abi,$(ABI)),$(PYTEST_ARGS))

.PHONY: uml-test
uml-test: ## both samples in user-mode Linux, an ordinary process: the m64 battery and selftests
	$(call job,vm-test,$(mutant-options) --variant um --report build/report-um \
		$(call option,--ltp,$(LTP)) \
		$(call option,--battery,$(BATTERY)),$(PYTEST_ARGS))

.PHONY: guest-test
guest-test: ## the tests of the harness itself on guests: killed, hung, panicked
	$(call job,guest-test,$(guest-options),$(PYTEST_ARGS))

.PHONY: mutants
mutants: ## put each fault of kernel-patches/mutants into the kernel: the tests have to notice it
	$(call job,mutants,$(mutant-options) $(call option,--mutant,$(MUTANT)) \
		$(call option,--without,$(WITHOUT)) $(call option,--repeat,$(REPEAT)) \
		$(call option,--shard,$(SHARD)) $(if $(strip $(FRESH)),--fresh))

.PHONY: mutants-sample
mutants-sample: ## two of the mutants, others with every change
	$(call job,mutants,$(mutant-options) --sample 2)

.PHONY: coverage
coverage: ## which lines and branches of the sample a run executes; each that is not is explained
	$(call job,coverage,$(call option,--kernel,$(call given,KERNEL)) \
		$(call option,--accel,$(ACCEL)) $(call option,--battery,$(BATTERY)) \
		$(call option,--jobs,$(JOBS)) $(call option,--mirror,$(MIRROR)),$(PYTEST_ARGS))

.PHONY: mutants-harness
mutants-harness: ## put faults into the harness itself: its own tests have to notice them
	$(call job,mutants-harness,$(call option,--mutant,$(MUTANT)))

.PHONY: skew
skew: job-kernel = $(or $(call given,KERNEL),$(one-kernel))
skew: ## programs of every age on kernels of every age; KERNEL= and VARIANT= name some
	$(call job,skew,$(call option,--kernel,$(job-kernel)) \
		$(call option,--variant,$(call given,VARIANT)) \
		$(call option,--abi,$(ABI)) $(call option,--accel,$(ACCEL)) \
		$(call option,--jobs,$(JOBS)) $(call option,--mirror,$(MIRROR)) \
		$(if $(MERGE),$(call option,--merge,$(MERGE)) \
		$(call option,--battery,$(call given,BATTERY))),$(PYTEST_ARGS))

.PHONY: kernel
kernel: ## only build the kernel
	$(call job,kernel,$(kernel-options))

.PHONY: conformance
conformance: ## Linux's own extensible interfaces, on 6.12 and 6.1 as they are: the table of what they keep
	$(call job,conformance,$(call option,--kernel,$(call given,KERNEL)) \
		$(call option,--accel,$(ACCEL)) $(call option,--abi,$(ABI)) \
		$(call option,--battery,$(BATTERY)) $(call option,--jobs,$(JOBS)) \
		$(call option,--mirror,$(MIRROR)) $(call option,--merge,$(MERGE)),$(PYTEST_ARGS))

.PHONY: kernels
kernels: ## build every kernel with every version of the sample, and without; or some, by name
	$(call job,kernels,$(call option,--kernel,$(call given,KERNEL)) \
		$(call option,--variant,$(call given,VARIANT)) \
		$(call option,--jobs,$(JOBS)) $(call option,--mirror,$(MIRROR)))

.PHONY: series
series: ## write the mails of the series, ready to send, into build/series/
	$(call job,series,$(call option,--kernel,$(KERNEL)) $(call option,--mirror,$(MIRROR)))

.PHONY: series-check
series-check: ## what a reviewer of the series runs: checkpatch, sparse, clang, each commit built
	$(call job,series-check,$(call option,--kernel,$(KERNEL)) \
		$(call option,--jobs,$(JOBS)) $(call option,--mirror,$(MIRROR)))

.PHONY: callers
callers: ## only build the callers, against that kernel's headers
	$(call job,callers,$(kernel-options) $(call option,--abi,$(ABI)))

.PHONY: shell
shell: ## a shell in the guest
	$(call job,shell,$(guest-options))

.PHONY: doctor
doctor: ## what this machine can do, and how to mend what is missing
	$(call job,doctor,$(call option,--kernel,$(call given,KERNEL)) $(call option,--kernel-tree,$(KERNEL_TREE)))

.PHONY: bench
bench: job-kernel = # none: the matrix is about every one
bench: ## how long building, booting, a call, a sweep and the matrix take, beside alternatives
	$(call job,bench,$(guest-options) $(call option,--battery,$(call given,BATTERY)) \
		$(if $(strip $(COLD)),--cold))

.PHONY: clean
clean: ## remove what was built and reported here; build/venv and the cache stay
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name venv -exec rm -rf {} +; fi

# By name: EXTSYS_CACHE may be a directory that holds more than the cache.
cache-parts = source trees patched work headers kernels ccache callers kselftest mutants hypothesis guest accel.json \
	tsc.json

.PHONY: clean-cache
clean-cache: ## remove what all checkouts share: kernel sources and built kernels (EXTSYS_CACHE)
	@$(call quote,$(PYTHON)) -sE -c 'import sys; from vm import cache, paths; \
		[cache.remove(paths.cache_dir() / part) for part in sys.argv[1:]]' $(cache-parts)

.PHONY: distclean
distclean: ## remove everything that is not source; the cache stays
	@rm -rf build harness/caller/_*.so ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find conftest.py harness vm selftests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
