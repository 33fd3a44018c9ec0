// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Copyright (c) 2025 Extsys Maintainers <maintainers@extsys.example>
 */

/*\
 * Verify that :manpage:`xyzzyat(2)` fails with
 *
 * - EINVAL for unknown flags, a negative offset, a label that is too long
 * - EFAULT for arguments, a label or a path that cannot be read
 * - EBADF, ENOENT, ENOTDIR, ENAMETOOLONG for what the path leads to
 */

#define _GNU_SOURCE
#include <limits.h>

#include "lapi/fcntl.h"
#include "lapi/xyzzy.h"

#define FILENAME	"file"

static struct xyzzy_args *args, *bad_args;
static char *good_label, *long_label, *bad_label;
static char long_path[NAME_MAX + 2];
static char *good_path = FILENAME, *no_path = "", *missing_path = "missing";
static char *file_as_dir = FILENAME "/x", *too_long_path = long_path;
static char *bad_path;

static struct tcase {
	const char *desc;
	int dfd;
	char **path;
	int64_t offset;
	struct xyzzy_args **args;
	char **label;
	unsigned int flags;
	int exp_errno;
} tcases[] = {
	{"args", AT_FDCWD, &good_path, 0, &bad_args, &good_label, 0, EFAULT},
	{"unknown flag", AT_FDCWD, &good_path, 0, &args, &good_label, 2, EINVAL},
	{"last flag", AT_FDCWD, &good_path, 0, &args, &good_label, 1U << 31, EINVAL},
	{"offset -1", AT_FDCWD, &good_path, -1, &args, &good_label, 0, EINVAL},
	{"offset min", AT_FDCWD, &good_path, INT64_MIN, &args, &good_label, 0, EINVAL},
	{"long label", AT_FDCWD, &good_path, 0, &args, &long_label, 0, EINVAL},
	{"label", AT_FDCWD, &good_path, 0, &args, &bad_label, 0, EFAULT},
	{"path", AT_FDCWD, &bad_path, 0, &args, &good_label, 0, EFAULT},
	{"no path", AT_FDCWD, &no_path, 0, &args, &good_label, 0, ENOENT},
	{"missing", AT_FDCWD, &missing_path, 0, &args, &good_label, 0, ENOENT},
	{"dfd", -1, &good_path, 0, &args, &good_label, 0, EBADF},
	{"no directory", AT_FDCWD, &file_as_dir, 0, &args, &good_label, 0, ENOTDIR},
	{"long path", AT_FDCWD, &too_long_path, 0, &args, &good_label, 0, ENAMETOOLONG},
};

static void run(unsigned int n)
{
	struct tcase *tc = &tcases[n];

	args->ptr = *tc->label;
	args->varying_val = 0;
	args->fixed_val = 0;

	TST_EXP_FAIL2(xyzzyat(tc->dfd, *tc->path, tc->offset, *tc->args, tc->flags),
		      tc->exp_errno, "%s", tc->desc);
}

static void setup(void)
{
	int fd;

	xyzzyat_supported_by_kernel();

	fd = SAFE_CREAT(FILENAME, 0600);
	SAFE_CLOSE(fd);
	bad_args = tst_get_bad_addr(NULL);
	bad_label = tst_get_bad_addr(NULL);
	bad_path = tst_get_bad_addr(NULL);
	strcpy(good_label, "label");
	memset(long_label, 'x', XYZZYAT_LABEL_SIZE);
	long_label[XYZZYAT_LABEL_SIZE] = 0;
	memset(long_path, 'x', sizeof(long_path) - 1);
}

static struct tst_test test = {
	.tcnt = ARRAY_SIZE(tcases),
	.test = run,
	.setup = setup,
	.needs_tmpdir = 1,
	.bufs = (struct tst_buffers []) {
		{&args, .size = sizeof(*args)},
		{&good_label, .size = sizeof("label")},
		{&long_label, .size = XYZZYAT_LABEL_SIZE + 1},
		{},
	}
};
