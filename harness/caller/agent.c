// SPDX-License-Identifier: GPL-2.0-only
/*
 * agent.c - the one program that the host talks to where callers run
 *
 * It starts callers, passes frames between them and the host, says at once
 * when one of them dies, runs other programs (a kselftest) and hands out what
 * is asked of the kernel's files and log.  One thread, one poll loop, nothing
 * blocks.  When the host goes away a guest's agent reboots the guest, which
 * ends QEMU (-no-reboot): no machine is left behind.
 *
 * Usage: agent		in a guest: the virtio-serial port named PORT
 *	  agent /dev/TTY	in a guest: a serial line, as user-mode Linux has
 *	  agent FD	on the host itself: a stream socket
 *
 * As the only file of an initramfs, started as /init, it mounts what it needs.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>

#include "stream.h"

#define PORT "extsys.0"
#define KLOG_READ_ALL 3
#define KLOG_SIZE 10

_Static_assert(sizeof(struct wire_hello) == 96, "wire_hello");
_Static_assert(sizeof(struct wire_gone) == 8, "wire_gone");

struct peer {
	int fd;			/* -1: nothing there */
	pid_t pid;
	struct stream in, out;
};

/* Channel 0 is the host. */
static struct peer peers[WIRE_CHANNELS];
#define HOST (&peers[0])

static struct {
	pid_t pid;		/* 0: nothing runs */
	int fd;			/* its stdout and stderr, or a pidfd when they are closed */
	bool silent;		/* fd is a pidfd */
	struct wire_header re;
} executed = { .fd = -1 };

static bool in_guest;
/*
 * How a guest is ended.  A reboot ends QEMU, which was told so; user-mode Linux
 * would begin anew, and ends when it is switched off.
 */
static int how_to_end = RB_AUTOBOOT;

static void answer(const struct wire_header *re, unsigned int type,
		   const void *payload, size_t length)
{
	stream_put(&HOST->out, re, type, payload, length);
}

static void refuse(const struct wire_header *re, uint32_t code, uint32_t value)
{
	struct wire_refusal refusal = { .code = code, .value = value };

	answer(re, WIRE_T_REFUSED, &refusal, sizeof(refusal));
}

static void answer_errno(const struct wire_header *re, bool ok)
{
	if (ok)
		answer(re, WIRE_T_OK, NULL, 0);
	else
		refuse(re, WIRE_E_SYSTEM, errno);
}

/* No udev here: the port's name is in sysfs, its node is made by devtmpfs. */
static int open_port(void)
{
	static const char class[] = "/sys/class/virtio-ports";
	struct dirent *entry;
	char path[512], name[64];
	DIR *dir = opendir(class);
	int fd = -1;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		FILE *file;

		snprintf(path, sizeof(path), "%s/%s/name", class, entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%63s", name) == 1 && !strcmp(name, PORT)) {
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			fd = open(path, O_RDWR | O_CLOEXEC);
		}
		fclose(file);
	}
	if (dir)
		closedir(dir);
	return fd;
}

/* A serial line is a terminal until it is told that it carries bytes. */
static int open_line(const char *path)
{
	struct termios how;
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (tcgetattr(fd, &how)) {
		close(fd);
		return -1;
	}
	cfmakeraw(&how);
	how.c_cflag |= CLOCAL;
	if (tcsetattr(fd, TCSANOW, &how)) {
		close(fd);
		return -1;
	}
	how_to_end = RB_POWER_OFF;
	return fd;
}

static void say_hello(void)
{
	struct wire_header header = { 0 };
	struct wire_hello hello = {
		.version = WIRE_VERSION,
		.pid = getpid(),
		.cpus = sysconf(_SC_NPROCESSORS_ONLN),
		.page_size = sysconf(_SC_PAGESIZE),
	};
	unsigned int eax, ebx, ecx, edx;
	struct utsname uts;

	__cpuid(1, eax, ebx, ecx, edx);
	if (ecx & (1u << 31)) {
		__cpuid(0x40000000, eax, ebx, ecx, edx);
		memcpy(hello.hypervisor, &ebx, 4);
		memcpy(hello.hypervisor + 4, &ecx, 4);
		memcpy(hello.hypervisor + 8, &edx, 4);
	}
	if (!uname(&uts))
		snprintf(hello.release, sizeof(hello.release), "%.63s", uts.release);
	answer(&header, WIRE_T_HELLO, &hello, sizeof(hello));
}

static bool write_file(const char *path, const void *bytes, size_t length)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;
	int saved;

	if (fd < 0)
		return false;
	n = write(fd, bytes, length);
	saved = errno;
	close(fd);
	errno = n < 0 ? saved : EIO;
	return n == (ssize_t)length;
}

static void read_file(const struct wire_header *re, const char *path)
{
	static char bytes[WIRE_MAX_PAYLOAD];
	size_t have = 0;
	ssize_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		refuse(re, WIRE_E_SYSTEM, errno);
		return;
	}
	while (have < sizeof(bytes)) {
		n = read(fd, bytes + have, sizeof(bytes) - have);
		if (n <= 0)
			break;
		have += n;
	}
	if (n < 0 && !have)
		refuse(re, WIRE_E_SYSTEM, errno);
	else
		answer(re, WIRE_T_DATA, bytes, have);
	close(fd);
}

static void read_dmesg(const struct wire_header *re)
{
	static char bytes[WIRE_MAX_PAYLOAD];
	int n = klogctl(KLOG_READ_ALL, bytes, sizeof(bytes));

	if (n < 0)
		refuse(re, WIRE_E_SYSTEM, errno);
	else
		answer(re, WIRE_T_DATA, bytes, n);
}

/* What a child has of this process's state is undone before it executes. */
static void child_setup(void)
{
	sigset_t none;

	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
}

/*
 * fork() and execve(); an execve() that fails comes back here as its errno
 * through a pipe that closes by itself when it succeeds.
 */
static pid_t spawn(char **argv, int fd3, int fd_out)
{
	int report[2];
	int error = 0;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC))
		return -1;
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		child_setup();
		if (null >= 0)
			dup2(null, 0);
		if (fd_out >= 0) {
			dup2(fd_out, 1);
			dup2(fd_out, 2);
		}
		if (fd3 >= 0) {
			/* dup2() onto itself would leave close-on-exec set. */
			if (fd3 == 3)
				fcntl(3, F_SETFD, 0);
			else
				dup2(fd3, 3);
		}
		if (null > 3)
			close(null);
		execv(argv[0], argv);
		error = errno;
		if (write(report[1], &error, sizeof(error)) < 0)
			_exit(126);
		_exit(127);
	}
	error = errno;
	close(report[1]);
	if (pid > 0 && read(report[0], &error, sizeof(error)) == sizeof(error)) {
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(report[0]);
	errno = error;
	return pid;
}

static void drop(struct peer *peer, struct wire_gone *gone)
{
	int status = 0;

	kill(-peer->pid, SIGKILL);
	waitpid(peer->pid, &status, 0);
	if (gone) {
		gone->pid = peer->pid;
		gone->status = status;
	}
	close(peer->fd);
	peer->fd = -1;
	peer->in.start = peer->in.end = 0;
	peer->out.start = peer->out.end = 0;
}

static void start_caller(const struct wire_header *re, const char *path)
{
	struct peer *peer = &peers[re->channel];
	char *argv[] = { (char *)path, "3", NULL };
	int pair[2];
	int saved;

	if (peer->fd >= 0)
		drop(peer, NULL);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		refuse(re, WIRE_E_SYSTEM, errno);
		return;
	}
	peer->pid = spawn(argv, pair[1], -1);
	saved = errno;
	close(pair[1]);
	if (peer->pid < 0) {
		close(pair[0]);
		refuse(re, WIRE_E_SYSTEM, saved);
		return;
	}
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	peer->fd = pair[0];
	answer(re, WIRE_T_OK, NULL, 0);
}

static void execute(const struct wire_header *re, const unsigned char *payload)
{
	static char text[WIRE_MAX_PAYLOAD + 1];
	char *argv[64] = { NULL };
	unsigned int count = 0;
	uint32_t at = 0;
	int out[2];
	pid_t pid;
	int saved;

	memcpy(text, payload, re->length);
	if (executed.pid || !re->length || text[re->length - 1]) {
		refuse(re, WIRE_E_SHAPE, 0);
		return;
	}
	while (at < re->length) {
		if (count + 1 == sizeof(argv) / sizeof(argv[0])) {
			refuse(re, WIRE_E_SHAPE, count);
			return;
		}
		argv[count++] = text + at;
		at += strlen(text + at) + 1;
	}
	if (pipe2(out, O_CLOEXEC)) {
		refuse(re, WIRE_E_SYSTEM, errno);
		return;
	}
	pid = spawn(argv, -1, out[1]);
	saved = errno;
	close(out[1]);
	if (pid < 0) {
		close(out[0]);
		refuse(re, WIRE_E_SYSTEM, saved);
		return;
	}
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	executed.fd = out[0];
	executed.silent = false;
	executed.pid = pid;
	executed.re = *re;
}

/* The program has ended, or is to: what is left of its process group goes with it. */
static void executed_end(void)
{
	struct wire_gone gone;
	int status = 0;

	kill(-executed.pid, SIGKILL);
	waitpid(executed.pid, &status, 0);
	gone.pid = executed.pid;
	gone.status = status;
	answer(&executed.re, WIRE_T_EXIT, &gone, sizeof(gone));
	close(executed.fd);
	executed.fd = -1;
	executed.pid = 0;
}

static void executed_event(void)
{
	static char bytes[32768];
	int pidfd;
	ssize_t n;

	if (executed.silent) {
		executed_end();
		return;
	}
	n = read(executed.fd, bytes, sizeof(bytes));
	if (n > 0) {
		answer(&executed.re, WIRE_T_OUTPUT, bytes, n);
		return;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/*
	 * Its output is closed; a grandchild may have held it open until now.
	 * The program itself may go on in silence: its exit code is still to come.
	 */
	pidfd = syscall(SYS_pidfd_open, executed.pid, 0);
	if (pidfd < 0) {
		executed_end();
		return;
	}
	close(executed.fd);
	executed.fd = pidfd;
	executed.silent = true;
}

static void halt(void)
{
	int i;

	for (i = 1; i < WIRE_CHANNELS; i++)
		if (peers[i].fd >= 0)
			drop(&peers[i], NULL);
	if (executed.pid)
		kill(-executed.pid, SIGKILL);
	if (in_guest)
		reboot(how_to_end);
	_exit(0);
}

static void from_host(const struct wire_header *h, const unsigned char *payload)
{
	static char text[WIRE_MAX_PAYLOAD + 1];
	bool to_caller = h->channel > 0 && h->channel < WIRE_CHANNELS;

	memcpy(text, payload, h->length);
	text[h->length] = 0;

	switch (h->type) {
	case WIRE_T_START:
		if (to_caller)
			start_caller(h, text);
		else
			refuse(h, WIRE_E_CHANNEL, h->channel);
		return;
	case WIRE_T_STOP:
		if (!to_caller || peers[h->channel].fd < 0) {
			refuse(h, WIRE_E_CHANNEL, h->channel);
			return;
		}
		drop(&peers[h->channel], NULL);
		answer(h, WIRE_T_OK, NULL, 0);
		return;
	}
	if (h->channel) {
		if (!to_caller || peers[h->channel].fd < 0)
			refuse(h, WIRE_E_CHANNEL, h->channel);
		else
			stream_put(&peers[h->channel].out, h, h->type, payload, h->length);
		return;
	}
	switch (h->type) {
	case WIRE_T_EXEC:
		execute(h, payload);
		break;
	case WIRE_T_EXEC_KILL:
		/* At once: the next WIRE_T_EXEC may be on its way. */
		if (executed.pid)
			executed_end();
		answer(h, WIRE_T_OK, NULL, 0);
		break;
	case WIRE_T_MARK:
		answer_errno(h, write_file("/dev/kmsg", text, h->length));
		break;
	case WIRE_T_READ:
		read_file(h, text);
		break;
	case WIRE_T_WRITE: {
		size_t path = strlen(text);

		if (path >= h->length)
			refuse(h, WIRE_E_SHAPE, 0);
		else
			answer_errno(h, write_file(text, payload + path + 1,
						   h->length - path - 1));
		break;
	}
	case WIRE_T_DMESG:
		read_dmesg(h);
		break;
	case WIRE_T_HALT:
		halt();
		break;
	default:
		refuse(h, WIRE_E_TYPE, h->type);
	}
}

/* Take all whole frames of a peer and pass them on. */
static void frames_of(int channel)
{
	struct peer *peer = &peers[channel];
	const unsigned char *payload;
	struct wire_header header;
	struct wire_refusal junk;

	for (;;) {
		switch (stream_take(&peer->in, &header, &payload, &junk)) {
		case STREAM_MORE:
			return;
		case STREAM_JUNK:
			memset(&header, 0, sizeof(header));
			header.channel = channel;
			answer(&header, WIRE_T_REFUSED, &junk, sizeof(junk));
			break;
		case STREAM_FRAME:
			if (peer == HOST) {
				from_host(&header, payload);
				break;
			}
			header.channel = channel;
			stream_put(&HOST->out, &header, header.type, payload, header.length);
			break;
		}
	}
}

static void caller_gone(int channel)
{
	struct wire_header header = { .channel = channel };
	struct wire_gone gone;

	drop(&peers[channel], &gone);
	answer(&header, WIRE_T_GONE, &gone, sizeof(gone));
}

static void serve(void)
{
	struct pollfd fds[WIRE_CHANNELS + 1];
	int i;

	for (i = 0; i < WIRE_CHANNELS; i++) {
		fds[i].fd = peers[i].fd;
		fds[i].events = POLLIN;
		if (peers[i].out.end > peers[i].out.start)
			fds[i].events |= POLLOUT;
	}
	fds[WIRE_CHANNELS].fd = executed.fd;
	fds[WIRE_CHANNELS].events = POLLIN;
	if (poll(fds, WIRE_CHANNELS + 1, -1) < 0)
		return;

	for (i = 0; i < WIRE_CHANNELS; i++) {
		struct peer *peer = &peers[i];

		/* A frame of the host's may have replaced or ended this peer. */
		if (fds[i].fd < 0 || peer->fd != fds[i].fd)
			continue;
		if (fds[i].revents & (POLLIN | POLLHUP | POLLERR)) {
			if (stream_fill(&peer->in, peer->fd)) {
				frames_of(i);
			} else if (peer == HOST) {
				halt();
			} else {
				frames_of(i);
				caller_gone(i);
				continue;
			}
		}
	}
	/* A frame of the host's may have replaced or ended this one, too. */
	if (executed.fd >= 0 && executed.fd == fds[WIRE_CHANNELS].fd && fds[WIRE_CHANNELS].revents)
		executed_event();
	for (i = 0; i < WIRE_CHANNELS; i++)
		if (peers[i].fd >= 0 && !stream_flush(&peers[i].out, peers[i].fd, false) &&
		    &peers[i] == HOST)
			halt();
}

int main(int argc, char **argv)
{
	int i;

	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < WIRE_CHANNELS; i++)
		peers[i].fd = -1;
	in_guest = argc < 2 || argv[1][0] == '/';
	if (getpid() == 1) {
		mkdir("/dev", 0755);
		mkdir("/proc", 0755);
		mkdir("/sys", 0755);
		mount("dev", "/dev", "devtmpfs", 0, NULL);
		mount("proc", "/proc", "proc", 0, NULL);
		mount("sys", "/sys", "sysfs", 0, NULL);
		mkdir("/tmp", 01777);
		mount("tmp", "/tmp", "tmpfs", 0, NULL);
	}
	if (!in_guest)
		HOST->fd = atoi(argv[1]);
	else
		HOST->fd = argc < 2 ? open_port() : open_line(argv[1]);
	if (HOST->fd < 0) {
		fprintf(stderr, "agent: no %s: %m\n",
			argc < 2 ? "virtio-serial port named " PORT : argv[1]);
		return 1;
	}
	fcntl(HOST->fd, F_SETFD, FD_CLOEXEC);
	fcntl(HOST->fd, F_SETFL, fcntl(HOST->fd, F_GETFL) | O_NONBLOCK);
	say_hello();
	stream_flush(&HOST->out, HOST->fd, false);
	for (;;)
		serve();
}
