// SPDX-License-Identifier: GPL-2.0-only
/*
 * program.c - calls xyzzy(2) as programs do, each compiled on a day of its own
 *
 * Usage: program [FIELD=VALUE ...]
 *
 * The structure, its size and its fields are those of the headers that this was
 * compiled with; nothing here names a version.  Fields that are not asked for
 * are zero.  When the kernel turns out to be an older one, that is E2BIG and a
 * smaller size in the structure, what that kernel does not know is left out and
 * the call made once more.
 *
 * Each step is a line on stdout, "what key=value ...", and none is judged.
 */
#define _GNU_SOURCE
#include <asm/unistd.h>
#include <errno.h>
#include <linux/xyzzy.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIELD(name)                                                        \
	{                                                                  \
		#name, offsetof(struct xyzzy_params, name),                \
			sizeof(((struct xyzzy_params *)0)->name)           \
	}

/* What a later version brought is there when the headers name that version. */
static const struct field {
	const char *name;
	size_t offset;
	size_t size;
} fields[] = {
	FIELD(param_1),
	FIELD(param_2),
	FIELD(param_3),
#ifdef XYZZY_PARAMS_SIZE_VER1
	FIELD(param_4),
#endif
#ifdef XYZZY_PARAMS_SIZE_VER2
	FIELD(param_5),
#endif
#ifdef XYZZY_PARAMS_SIZE_VER3
	FIELD(param_6),
	FIELD(param_7),
	FIELD(param_8),
#endif
};

static const struct version {
	const char *name;
	size_t size;
} versions[] = {
	{ "VER0", XYZZY_PARAMS_SIZE_VER0 },
#ifdef XYZZY_PARAMS_SIZE_VER1
	{ "VER1", XYZZY_PARAMS_SIZE_VER1 },
#endif
#ifdef XYZZY_PARAMS_SIZE_VER2
	{ "VER2", XYZZY_PARAMS_SIZE_VER2 },
#endif
#ifdef XYZZY_PARAMS_SIZE_VER3
	{ "VER3", XYZZY_PARAMS_SIZE_VER3 },
#endif
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* FIELD=VALUE; the value in C's notation, or "self" for the ID of this process. */
static void set(struct xyzzy_params *params, const char *asked)
{
	const char *equals = strchr(asked, '=');
	size_t length = equals ? (size_t)(equals - asked) : 0;

	for (size_t i = 0; length && i < COUNT(fields); i++) {
		const struct field *field = &fields[i];
		unsigned long long value;
		char *end;

		if (strlen(field->name) != length || strncmp(field->name, asked, length) != 0)
			continue;
		value = strtoull(equals + 1, &end, 0);
		if (strcmp(equals + 1, "self") == 0)
			value = getpid();
		else if (*end || end == equals + 1)
			break;
		/* x86 only: the low bytes come first. */
		memcpy((char *)params + field->offset, &value, field->size);
		return;
	}
	fprintf(stderr, "%s: these headers have no such field\n", asked);
	exit(2);
}

static int call(struct xyzzy_params *params)
{
	unsigned int usize = params->size;
	int fd;

	errno = 0;
	fd = syscall(__NR_xyzzy, params, XYZZY_CLOEXEC);
	printf("call usize=%u errno=%d size=%u\n", usize, errno, params->size);
	return fd;
}

/* Into the structure that this program has, whatever the kernel's is. */
static void show(int fd)
{
	struct xyzzy_params record;
	ssize_t got;

	memset(&record, 0x5a, sizeof(record));
	errno = 0;
	got = read(fd, &record, sizeof(record));
	printf("read got=%zd errno=%d record=", got, errno);
	for (size_t i = 0; i < sizeof(record); i++)
		printf("%02x", ((unsigned char *)&record)[i]);
	printf("\n");
}

int main(int argc, char **argv)
{
	struct xyzzy_params params;
	int fd;

	memset(&params, 0, sizeof(params));
	params.size = sizeof(params);
	for (int i = 1; i < argc; i++)
		set(&params, argv[i]);

	printf("headers pid=%d sizeof=%zu", getpid(), sizeof(params));
	for (size_t i = 0; i < COUNT(versions); i++)
		printf(" %s=%zu", versions[i].name, versions[i].size);
	printf("\n");

	fd = call(&params);
	if (fd < 0 && errno == E2BIG && params.size < sizeof(params) &&
	    params.size >= XYZZY_PARAMS_SIZE_VER0) {
		memset((char *)&params + params.size, 0, sizeof(params) - params.size);
		fd = call(&params);
	}
	if (fd >= 0) {
		show(fd);
		close(fd);
	}
	return 0;
}
