// SPDX-License-Identifier: GPL-2.0-only
/*
 * life - the program of guests that live and die for test_guest_life.py
 *
 * It greets on its port and obeys one letter at a time.  The environment, which
 * is to say an unknown argument of the kernel, says how it begins:
 *
 *	life=silent	does not greet
 *	life=deaf	does not reboot when its port ends
 *
 * As the only file of an initramfs it is the init as well.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PORTS "/sys/class/virtio-ports"

static void put(const char *path, const char *text, size_t size)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, size) != (ssize_t)size)
		perror(path);
	close(fd);
}

static int open_port(const char *wanted)
{
	char path[300], name[64];
	struct dirent *entry;
	DIR *ports = opendir(PORTS);
	ssize_t size;
	int fd;

	while (ports && (entry = readdir(ports))) {
		snprintf(path, sizeof(path), PORTS "/%s/name", entry->d_name);
		fd = open(path, O_RDONLY);
		size = fd < 0 ? -1 : read(fd, name, sizeof(name) - 1);
		close(fd);
		if (size <= 0)
			continue;
		name[size] = '\0';
		name[strcspn(name, "\n")] = '\0';
		if (strcmp(name, wanted))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		return open(path, O_RDWR);
	}
	return -1;
}

/* The finest step that the clock is seen to make, in nanoseconds, as text. */
static void clock_step(char *text, size_t size)
{
	struct timespec a, b;

	clock_gettime(CLOCK_MONOTONIC, &a);
	do {
		clock_gettime(CLOCK_MONOTONIC, &b);
	} while (a.tv_nsec == b.tv_nsec);
	snprintf(text, size, "%ld\n", (b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec);
}

int main(void)
{
	const char *life = getenv("life") ?: "";
	char text[512];
	ssize_t size;
	int port;

	if (getpid() == 1) {
		mkdir("/dev", 0755);
		mkdir("/sys", 0755);
		mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
		mount("sysfs", "/sys", "sysfs", 0, NULL);
	}
	port = open_port("extsys.0");
	if (strcmp(life, "silent"))
		dprintf(port, "hello\n");
	for (;;) {
		size = read(port, text, sizeof(text));
		if (size <= 0) {
			if (strcmp(life, "deaf"))
				reboot(RB_AUTOBOOT);
			sleep(1);
			continue;
		}
		switch (text[0]) {
		case 'e':	/* echo */
			break;
		case 'k':	/* the rest into the kernel's log */
			put("/dev/kmsg", text + 1, (size_t)size - 1);
			break;
		case 'p':	/* print the rest on the terminal */
			fwrite(text + 1, 1, (size_t)size - 1, stdout);
			fflush(stdout);
			break;
		case 'q':	/* the rest into sysrq: "c" is a panic */
			put("/proc/sysrq-trigger", text + 1, (size_t)size - 1);
			break;
		case 'r':
			reboot(RB_AUTOBOOT);
			break;
		case 't':	/* write to /tmp, and what became of it */
			size = open("/tmp/file", O_CREAT | O_RDWR, 0600) < 0 ? errno : 0;
			size = snprintf(text, sizeof(text), "%zd\n", size);
			break;
		case 'c':
			clock_step(text, sizeof(text));
			size = (ssize_t)strlen(text);
			break;
		case 's':	/* spin */
			for (;;)
				;
		case 'x':	/* leave */
			return 0;
		}
		if (write(port, text, (size_t)size) != size)
			return 1;
	}
}
