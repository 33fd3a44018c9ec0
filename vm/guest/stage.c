// SPDX-License-Identifier: GPL-2.0-only
/*
 * stage - run a program where what it does to the mounts is gone with it
 *
 * The kernel's selftests make files in the current directory and in /tmp, and
 * mount on /mnt; the guest's root is read-only, and other tests come after them.
 * So each gets a mount namespace of its own, and a tmpfs on /tmp and /mnt, and
 * starts in /tmp.
 *
 *	stage PROGRAM ARGUMENT...
 */

#include <linux/mount.h>
#include <linux/sched.h>

#include "sys.h"

#define EXIT_NOT_RUN	127	/* PROGRAM could not be executed */
#define EXIT_NO_STAGE	126	/* there is no namespace, or no tmpfs */

static const char *const scratch[] = { "/tmp", "/mnt" };

static _Noreturn void fail(const char *what, int code)
{
	sys_write(2, "stage: ", 7);
	sys_write(2, what, length(what));
	sys_write(2, "\n", 1);
	sys_exit(code);
}

__attribute__((used)) static _Noreturn void start(long *stack)
{
	char **argv = (char **)(stack + 1);
	char **envp = argv + stack[0] + 1;
	unsigned long i;

	if (stack[0] < 2)
		fail("usage: stage PROGRAM ARGUMENT...", EXIT_NO_STAGE);
	if (!in_guest())
		fail("this is for a guest", EXIT_NO_STAGE);
	if (sys(__NR_unshare, CLONE_NEWNS, 0, 0, 0, 0))
		fail("no mount namespace", EXIT_NO_STAGE);
	if (sys(__NR_mount, 0, (long)"/", 0, MS_REC | MS_PRIVATE, 0))
		fail("mounts stay shared", EXIT_NO_STAGE);
	for (i = 0; i < ARRAY_SIZE(scratch); i++)
		if (sys(__NR_mount, (long)"stage", (long)scratch[i], (long)"tmpfs", 0, 0))
			fail(scratch[i], EXIT_NO_STAGE);
	if (sys(__NR_chdir, (long)"/tmp", 0, 0, 0, 0))
		fail("/tmp", EXIT_NO_STAGE);
	sys_execve(argv[1], argv + 1, envp);
	fail(argv[1], EXIT_NOT_RUN);
}

START_AT(start);
