// SPDX-License-Identifier: GPL-2.0-only
/*
 * session - a login shell, and then the end of the guest
 *
 * When the shell of virtme-ng's session ends, its init powers off.  A kernel
 * without ACPI has no way to do that: it halts, and QEMU stays
 * (kernel/reboot.c: power off falls back to halt).  A restart it can do, and
 * QEMU's -no-reboot makes that the end.
 */

#include <linux/signal.h>

#include "sys.h"

/* struct sigaction as the system call has it, for SIG_IGN and SIG_DFL. */
struct action {
	void *handler;
	unsigned long flags;
	void *restorer;
	unsigned long mask;
};

/* What the terminal sends is for the shell and its programs. */
static const int terminal_signals[] = { SIGINT, SIGQUIT, SIGTSTP, SIGHUP };

static void set_signals(void *handler)
{
	struct action action = { .handler = handler };
	unsigned long i;

	for (i = 0; i < ARRAY_SIZE(terminal_signals); i++)
		sys(__NR_rt_sigaction, terminal_signals[i], (long)&action, 0,
		    sizeof(action.mask), 0);
}

static void say(const char *text)
{
	sys_write(2, text, length(text));
}

__attribute__((used)) static _Noreturn void start(long *stack)
{
	static char *shells[] = { "/bin/bash", "/bin/sh" };
	char **envp = (char **)(stack + 1) + stack[0] + 1;
	char *argv[2] = { 0, 0 };
	unsigned long i;
	long child;

	set_signals(SIG_IGN);
	child = sys(__NR_fork, 0, 0, 0, 0, 0);
	if (child == 0) {
		set_signals(SIG_DFL);
		for (i = 0; i < ARRAY_SIZE(shells); i++) {
			argv[0] = shells[i];
			sys_execve(shells[i], argv, envp);
		}
		say("session: no shell in this root\n");
		sys_exit(127);
	}
	if (child > 0)
		while (sys(__NR_wait4, child, 0, 0, 0, 0) == -EINTR)
			;
	else
		say("session: no process for a shell\n");
	sys_restart_guest();
	say("session: cannot restart\n");
	sys_exit(1);
}

START_AT(start);
