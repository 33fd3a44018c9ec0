// SPDX-License-Identifier: GPL-2.0-only
/*
 * sh - the least shell that virtme-ng can start a guest with
 *
 * virtme-run boots a foreign root with "init=/bin/sh -- -c COMMANDS", a list
 * of mounts that ends in "exec .../virtme-ng-init"; that init then runs
 * "su -s PROGRAM".  A real shell would be paged in over 9p and would start a
 * program for each command, which is most of the boot time under emulation.
 * This one has the commands built in and no C library around it.
 *
 * It understands just what virtme-ng 1.42 says.  On anything else it complains
 * to the console and to /dev/kmsg and exits, so that the kernel panics ("Attempted
 * to kill init!"): a newer virtme-ng is to be noticed, not half obeyed.
 *
 *	sh [-n] -c COMMANDS		"a; b; exec c", with the commands below
 *	su [-n] [-s PROGRAM] [--] [root]
 *
 *	mount [-n] [-t TYPE] [-o OPTIONS] SOURCE TARGET
 *	mount --bind SOURCE TARGET
 *	mkdir [-p] DIRECTORY...
 *	exec PROGRAM ARGUMENT...
 *
 * -n prints what would be done, one line each, and does nothing (for tests).
 */

#include <linux/mount.h>

#include "sys.h"

#define MAX_WORDS	32	/* words in one command */
#define MAX_TEXT	4096	/* bytes of commands; the kernel's own limit is 2048 */
#define MAX_OPTIONS	512	/* bytes of mount data */

#define EXIT_USAGE	2	/* a command that is not known: see above */
#define EXIT_FAILED	1	/* a command that is known, and failed */
#define EXIT_NOT_RUN	127	/* a program that could not be executed */

static const char *self = "sh";
static char **environment;
static int dry_run;

/* System calls */

static long sys_mount(const char *source, const char *target, const char *type,
		      unsigned long flags, const char *data)
{
	return sys(__NR_mount, (long)source, (long)target, (long)type, (long)flags, (long)data);
}

static long sys_mkdir(const char *path, int mode)
{
	return sys(__NR_mkdir, (long)path, mode, 0, 0, 0);
}

/* Strings */

static int same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static const char *basename(const char *path)
{
	const char *name = path;

	for (; *path; path++)
		if (*path == '/')
			name = path + 1;
	return name;
}

/* A line that is put together before it is written, so that it stays whole. */

struct line {
	unsigned long size;
	char text[MAX_TEXT];
};

static void add(struct line *line, const char *s)
{
	while (*s && line->size < sizeof(line->text) - 1)
		line->text[line->size++] = *s++;
	line->text[line->size] = '\0';
}

static void add_number(struct line *line, unsigned long value, unsigned int base)
{
	char digits[24];
	char *p = digits + sizeof(digits);

	*--p = '\0';
	do {
		*--p = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	add(line, p);
}

/* Words */

/*
 * The last words go to standard error and to the kernel's log.  For the first
 * process, before devtmpfs is mounted, neither may lead anywhere: it is mounted
 * for them.
 */
static void complain(const char *what, const char *about, long error)
{
	int first = sys(__NR_getpid, 0, 0, 0, 0, 0) == 1;
	static struct line line;
	long fd;

	line.size = 0;
	add(&line, "<3>");
	add(&line, self);
	add(&line, ": ");
	add(&line, what);
	if (about) {
		add(&line, ": ");
		add(&line, about);
	}
	if (error) {
		add(&line, ": errno ");
		add_number(&line, (unsigned long)-error, 10);
	}
	add(&line, "\n");
	sys_write(2, line.text + 3, line.size - 3);
	if (dry_run || !(first || in_guest()))
		return;
	fd = sys_open("/dev/kmsg", O_WRONLY);
	if (fd < 0 && first) {
		sys_mount("devtmpfs", "/dev", "devtmpfs", 0, "");
		fd = sys_open("/dev/kmsg", O_WRONLY);
	}
	if (fd >= 0) {
		sys_write((int)fd, line.text, line.size);
		sys(__NR_close, fd, 0, 0, 0, 0);
	}
}

static _Noreturn void die(int code, const char *what, const char *about, long error)
{
	complain(what, about, error);
	sys_exit(code);
}

/* The commands */

static const struct {
	const char *name;
	unsigned long flag;	/* 0: the default, nothing to set */
} mount_flags[] = {
	{ "ro",		MS_RDONLY },
	{ "rw",		0 },
	{ "nosuid",	MS_NOSUID },
	{ "nodev",	MS_NODEV },
	{ "noexec",	MS_NOEXEC },
};

/*
 * Split mount options into flags, and data for the filesystem.  A read-only 9p
 * mount gets a cache: without one, each page of the program that is run from it
 * is a round trip of its own, and what is exported does not change while the
 * guest lives (Documentation/filesystems/9p.rst: cache=loose).
 */
static unsigned long mount_options(char *options, const char *type, struct line *data)
{
	unsigned long flags = 0;
	unsigned long i;
	char *end;

	for (; *options; options = end) {
		for (end = options; *end && *end != ','; end++)
			;
		if (*end)
			*end++ = '\0';
		for (i = 0; i < ARRAY_SIZE(mount_flags); i++)
			if (same(options, mount_flags[i].name))
				break;
		if (i < ARRAY_SIZE(mount_flags)) {
			flags |= mount_flags[i].flag;
			continue;
		}
		if (data->size)
			add(data, ",");
		add(data, options);
	}
	if (same(type, "9p") && (flags & MS_RDONLY) && !find(data->text, "cache=")) {
		if (data->size)
			add(data, ",");
		add(data, "cache=loose");
	}
	if (data->size >= MAX_OPTIONS)
		die(EXIT_USAGE, "mount options too long", data->text, 0);
	return flags;
}

static void do_mount(int argc, char **argv)
{
	static struct line data;
	static struct line shown;
	const char *type = "";
	const char *place[2];
	unsigned long flags = 0;
	char *options = 0;
	int places = 0;
	long ret;
	int i;

	for (i = 1; i < argc; i++) {
		if (same(argv[i], "-n"))
			continue;	/* no /etc/mtab: there is none */
		if (same(argv[i], "--bind"))
			flags |= MS_BIND;
		else if (same(argv[i], "-t") && i + 1 < argc)
			type = argv[++i];
		else if (same(argv[i], "-o") && i + 1 < argc)
			options = argv[++i];
		else if (argv[i][0] == '-')
			die(EXIT_USAGE, "mount: option not known", argv[i], 0);
		else if (places < 2)
			place[places++] = argv[i];
		else
			die(EXIT_USAGE, "mount: one argument too many", argv[i], 0);
	}
	if (places != 2)
		die(EXIT_USAGE, "mount: source and target wanted", 0, 0);
	if (!(flags & MS_BIND) && !*type)
		die(EXIT_USAGE, "mount: -t wanted", place[1], 0);

	data.size = 0;
	data.text[0] = '\0';
	if (options)
		flags |= mount_options(options, type, &data);
	if (dry_run) {
		shown.size = 0;
		add(&shown, "mount type=");
		add(&shown, type);
		add(&shown, " source=");
		add(&shown, place[0]);
		add(&shown, " target=");
		add(&shown, place[1]);
		add(&shown, " flags=0x");
		add_number(&shown, flags, 16);
		add(&shown, " data=");
		add(&shown, data.text);
		add(&shown, "\n");
		sys_write(1, shown.text, shown.size);
		return;
	}
	ret = sys_mount(place[0], place[1], type, flags, data.text);
	if (ret == 0)
		return;
	/*
	 * EBUSY: the same filesystem is there already, as devtmpfs is with
	 * CONFIG_DEVTMPFS_MOUNT.  A bind mount covers a file of the root for
	 * convenience (/etc/fstab), and nothing here would miss it.
	 */
	if (ret == -EBUSY)
		return;
	if (flags & MS_BIND)
		complain("bind mount failed", place[1], ret);
	else
		die(EXIT_FAILED, "mount failed", place[1], ret);
}

/* mkdir -p: each part of the path in turn; one that is there is fine. */
static void make_directory(char *path, int parents)
{
	char *p;
	long ret;

	for (p = path + 1; parents && *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		sys_mkdir(path, 0755);
		*p = '/';
	}
	ret = sys_mkdir(path, 0755);
	if (ret && !(parents && ret == -EEXIST))
		die(EXIT_FAILED, "mkdir failed", path, ret);
}

static void do_mkdir(int argc, char **argv)
{
	static struct line shown;
	int parents = 0;
	int i;

	for (i = 1; i < argc; i++) {
		if (same(argv[i], "-p")) {
			parents = 1;
			continue;
		}
		if (argv[i][0] == '-')
			die(EXIT_USAGE, "mkdir: option not known", argv[i], 0);
		if (!dry_run) {
			make_directory(argv[i], parents);
			continue;
		}
		shown.size = 0;
		add(&shown, parents ? "mkdir -p " : "mkdir ");
		add(&shown, argv[i]);
		add(&shown, "\n");
		sys_write(1, shown.text, shown.size);
	}
}

static _Noreturn void execute(char **argv)
{
	static struct line shown;
	long ret;

	if (dry_run) {
		shown.size = 0;
		add(&shown, "exec");
		for (; *argv; argv++) {
			add(&shown, " ");
			add(&shown, *argv);
		}
		add(&shown, "\n");
		sys_write(1, shown.text, shown.size);
		sys_exit(0);
	}
	ret = sys_execve(argv[0], argv, environment);
	die(EXIT_NOT_RUN, "cannot execute", argv[0], ret);
}

static void do_exec(int argc, char **argv)
{
	if (argc < 2)
		die(EXIT_USAGE, "exec: program wanted", 0, 0);
	execute(argv + 1);
}

static const struct {
	const char *name;
	void (*run)(int argc, char **argv);
} commands[] = {
	{ "mount",	do_mount },
	{ "mkdir",	do_mkdir },
	{ "exec",	do_exec },
};

static void run_command(int argc, char **argv)
{
	unsigned long i;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (same(basename(argv[0]), commands[i].name)) {
			commands[i].run(argc, argv);
			return;
		}
	}
	die(EXIT_USAGE, "command not known to this shell", argv[0], 0);
}

/*
 * Words are parted by blanks, commands by ';' or a newline.  There is no
 * quoting, no expansion, no pipe: a character that would mean one of these to a
 * real shell is refused.
 */
static void run_text(const char *text)
{
	static const char special[] = "\"'\\$`&|<>(){}[]*?!~#";
	static char copy[MAX_TEXT];
	char *argv[MAX_WORDS + 1];
	unsigned long i;
	int argc = 0;
	char *p;

	if (length(text) >= sizeof(copy))
		die(EXIT_USAGE, "commands too long", 0, 0);
	for (i = 0; text[i]; i++) {
		char one[2] = { text[i], '\0' };

		if (find(special, one))
			die(EXIT_USAGE, "character not known to this shell", one, 0);
	}
	for (i = 0; i <= length(text); i++)
		copy[i] = text[i];

	for (p = copy;;) {
		while (*p == ' ' || *p == '\t')
			p++;
		if (*p && *p != ';' && *p != '\n') {
			if (argc == MAX_WORDS)
				die(EXIT_USAGE, "too many words in a command", argv[0], 0);
			argv[argc++] = p;
			while (*p && *p != ' ' && *p != '\t' && *p != ';' && *p != '\n')
				p++;
			if (*p == ' ' || *p == '\t')
				*p++ = '\0';
			continue;
		}
		if (argc) {
			int last = !*p;

			*p = '\0';
			argv[argc] = 0;
			run_command(argc, argv);
			argc = 0;
			if (last)
				return;
			p++;
			continue;
		}
		if (!*p)
			return;
		p++;
	}
}

/*
 * su [-s PROGRAM] [--] [root]: virtme-ng-init starts its user's shell so.
 *
 * The root is read-only, so the program is given a /tmp to write to.  When it
 * ends, so does the guest, and says so: the init would power off, which a kernel
 * without ACPI cannot do, and the host would wait for a word until its deadline.
 */
static void run_su(int argc, char **argv)
{
	char *program[2] = { 0, 0 };
	unsigned int status = 0;
	struct line how;
	long child;
	int i;

	for (i = 1; i < argc; i++) {
		if (same(argv[i], "-n") || same(argv[i], "--") || same(argv[i], "root"))
			continue;
		if (same(argv[i], "-s") && i + 1 < argc)
			program[0] = argv[++i];
		else
			die(EXIT_USAGE, "argument not known", argv[i], 0);
	}
	if (!program[0])
		die(EXIT_USAGE, "-s PROGRAM wanted: there is no shell to give", 0, 0);
	if (dry_run)
		execute(program);
	if (!in_guest())
		die(EXIT_FAILED, "this is no guest of virtme-ng's", 0, 0);
	if (sys_mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"))
		complain("no tmpfs on", "/tmp", 0);
	child = sys(__NR_fork, 0, 0, 0, 0, 0);
	if (child == 0)
		execute(program);
	while (child > 0 && sys(__NR_wait4, child, (long)&status, 0, 0, 0) == -EINTR)
		;
	how.size = 0;
	add(&how, program[0]);
	add(&how, status & 0x7f ? ": ended by signal " : ": ended with code ");
	add_number(&how, status & 0x7f ? status & 0x7f : status >> 8 & 0xff, 10);
	complain(how.text, 0, child < 0 ? child : 0);
	die(EXIT_FAILED, "cannot restart", 0, sys_restart_guest());
}

__attribute__((used)) static void start(long *stack)
{
	int argc = (int)stack[0];
	char **argv = (char **)(stack + 1);
	int i = 1;

	environment = argv + argc + 1;
	if (argc)
		self = basename(argv[0]);
	if (argc > 1 && same(argv[1], "-n")) {
		dry_run = 1;
		i = 2;
	}
	if (same(self, "su")) {
		run_su(argc, argv);
	} else if (i + 2 == argc && same(argv[i], "-c")) {
		run_text(argv[i + 1]);
		sys_exit(0);
	}
	die(EXIT_USAGE, "only -c COMMANDS is known to this shell, not",
	    i < argc ? argv[i] : "a prompt", 0);
}

START_AT(start);
