// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Copyright (c) 2025 Extsys Maintainers <maintainers@extsys.example>
 */

/*\
 * Basic :manpage:`xyzzyat(2)` test: each argument and each field of the
 * structure arrives, whatever the ABI of the program is, and the file can be
 * named in all the ways of an ``*at()`` call.
 */

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "lapi/fcntl.h"
#include "lapi/xyzzy.h"

#define FILENAME	"file"
#define LABEL		"a label of 31 bytes and no more"

static struct xyzzy_args *args;
static struct xyzzyat_record *record;
static struct stat st;
static char *label;
static int file_fd = -1, dir_fd = -1;
static int cwd_fd = AT_FDCWD;

static struct tcase {
	const char *desc;
	int *dfd;
	const char *path;
	unsigned int flags;
	int64_t offset;
	long varying_val;
	uint64_t fixed_val;
	int has_label;
} tcases[] = {
	{"relative to AT_FDCWD", &cwd_fd, FILENAME, 0, 0, 0, 0, 0},
	{"relative to a descriptor", &dir_fd, FILENAME, 0, 1, 1, 1, 1},
	{"AT_EMPTY_PATH", &file_fd, "", AT_EMPTY_PATH, 4096, -1, UINT64_MAX, 1},
	{"close-on-exec", &cwd_fd, FILENAME, XYZZYAT_CLOEXEC, 0, 0, 0, 0},
	{"above 4 GiB", &cwd_fd, FILENAME, 0, 0x0123456789abcdefLL,
		-2, 0xfedcba9876543210ULL, 1},
	{"largest offset", &cwd_fd, FILENAME, 0, INT64_MAX,
		0x7fffffff, 1ULL << 32, 0},
	{"negative long", &cwd_fd, FILENAME, 0, 1LL << 32,
		-0x7fffffff - 1, 1ULL << 63, 1},
};

static void run(unsigned int n)
{
	struct tcase *tc = &tcases[n];
	int fd;

	memset(args, 0xff, sizeof(*args));
	args->ptr = tc->has_label ? label : NULL;
	args->varying_val = tc->varying_val;
	args->fixed_val = tc->fixed_val;

	fd = TST_EXP_FD(xyzzyat(*tc->dfd, tc->path, tc->offset, args, tc->flags),
			"%s", tc->desc);
	if (!TST_PASS)
		return;

	TST_EXP_EQ_LI(SAFE_FCNTL(fd, F_GETFD),
		      tc->flags & XYZZYAT_CLOEXEC ? FD_CLOEXEC : 0);
	TST_EXP_EQ_LI(SAFE_READ(0, fd, record, sizeof(*record)),
		      sizeof(*record));
	TST_EXP_EQ_LU(record->dev_major, major(st.st_dev));
	TST_EXP_EQ_LU(record->dev_minor, minor(st.st_dev));
	TST_EXP_EQ_LU(record->ino, st.st_ino);
	TST_EXP_EQ_LI(record->offset, tc->offset);
	TST_EXP_EQ_LI(record->varying_val, tc->varying_val);
	TST_EXP_EQ_LU(record->fixed_val, tc->fixed_val);
	TST_EXP_EQ_STR(record->label, tc->has_label ? LABEL : "");
	TST_EXP_EQ_LI(SAFE_READ(0, fd, record, sizeof(*record)), 0);

	SAFE_CLOSE(fd);
}

static void setup(void)
{
	xyzzyat_supported_by_kernel();

	strcpy(label, LABEL);
	file_fd = SAFE_OPEN(FILENAME, O_CREAT | O_RDWR, 0600);
	dir_fd = SAFE_OPEN(".", O_DIRECTORY);
	SAFE_FSTAT(file_fd, &st);
}

static void cleanup(void)
{
	if (dir_fd >= 0)
		SAFE_CLOSE(dir_fd);
	if (file_fd >= 0)
		SAFE_CLOSE(file_fd);
}

static struct tst_test test = {
	.tcnt = ARRAY_SIZE(tcases),
	.test = run,
	.setup = setup,
	.cleanup = cleanup,
	.needs_tmpdir = 1,
	.bufs = (struct tst_buffers []) {
		{&args, .size = sizeof(*args)},
		{&record, .size = sizeof(*record)},
		{&label, .size = sizeof(LABEL)},
		{},
	}
};
