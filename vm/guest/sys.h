/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's door, for programs without a C library: they are a few kilobytes
 * instead of most of a megabyte, and each page is fetched over 9p.  x86-64 only,
 * as the guests are.
 */
#ifndef GUEST_SYS_H
#define GUEST_SYS_H

#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/reboot.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* Returns what the kernel returns: a negative errno on failure. */
static inline long sys(long nr, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

static inline long sys_open(const char *path, int flags)
{
	return sys(__NR_open, (long)path, flags, 0, 0, 0);
}

static inline long sys_write(int fd, const char *text, unsigned long size)
{
	return sys(__NR_write, fd, (long)text, (long)size, 0, 0);
}

static inline long sys_execve(const char *path, char **argv, char **envp)
{
	return sys(__NR_execve, (long)path, (long)argv, (long)envp, 0, 0);
}

static inline _Noreturn void sys_exit(int code)
{
	for (;;)
		sys(__NR_exit_group, code, 0, 0, 0, 0);
}

static inline unsigned long length(const char *s)
{
	unsigned long n = 0;

	while (s[n])
		n++;
	return n;
}

static inline const char *find(const char *text, const char *part)
{
	unsigned long i;

	for (; *text; text++) {
		for (i = 0; part[i] && text[i] == part[i]; i++)
			;
		if (!part[i])
			return text;
	}
	return 0;
}

/*
 * Whether this is a guest: virtme-run leaves its name on the command line of each
 * kernel that it starts.  What would be a nuisance elsewhere asks first, since
 * these programs can be run by hand.
 */
static inline int in_guest(void)
{
	static char line[4096];
	long fd = sys_open("/proc/cmdline", O_RDONLY);
	long size = fd < 0 ? fd : sys(__NR_read, fd, (long)line, sizeof(line) - 1, 0, 0);

	if (fd >= 0)
		sys(__NR_close, fd, 0, 0, 0, 0);
	return size > 0 && find(line, "virtme_console=");
}

/* End the guest: QEMU's -no-reboot makes a restart the end. */
static inline long sys_restart_guest(void)
{
	if (!in_guest())
		return -EPERM;
	sys(__NR_sync, 0, 0, 0, 0, 0);
	return sys(__NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
		   LINUX_REBOOT_CMD_RESTART, 0, 0);
}

/*
 * The kernel enters with argc, argv and the environment on the stack, and C wants
 * a pointer to them in a register: start() gets it.  To be used once, at the end.
 */
#define START_AT(start)					\
	__asm__(".globl _start\n"			\
		"_start:\n"				\
		"	xor	%ebp, %ebp\n"		\
		"	mov	%rsp, %rdi\n"		\
		"	and	$-16, %rsp\n"		\
		"	call	" #start "\n")

#endif /* GUEST_SYS_H */
