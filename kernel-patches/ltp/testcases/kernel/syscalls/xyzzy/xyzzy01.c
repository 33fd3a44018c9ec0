// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Copyright (c) 2025 Extsys Maintainers <maintainers@extsys.example>
 */

/*\
 * Basic :manpage:`xyzzy(2)` test: the file descriptor that it returns delivers
 * the parameters once, after the delay, and has the flags that were asked for.
 */

#define _GNU_SOURCE
#include <poll.h>

#include "lapi/fcntl.h"
#include "lapi/xyzzy.h"

#define DELAY_NS	(20 * 1000000ULL)
#define POLL_MS		5000

static struct xyzzy_params *params, *record;

static struct tcase {
	const char *desc;
	uint32_t size;
	uint32_t param_1;
	uint64_t param_2;
	uint64_t param_3;
	unsigned int flags;
} tcases[] = {
	{"all zero", XYZZY_PARAMS_SIZE_VER0, 0, 0, 0, 0},
	{"size zero", 0, 0, 0, 0, 0},
	{"values", XYZZY_PARAMS_SIZE_VER0, XYZZY_P1_URGENT | XYZZY_P1_TEST,
		XYZZY_PARAM_2_MAX, 0, 0},
	{"close-on-exec", XYZZY_PARAMS_SIZE_VER0, 0, 1, 0, XYZZY_CLOEXEC},
	{"delay", XYZZY_PARAMS_SIZE_VER0, 0, 2, DELAY_NS, XYZZY_NONBLOCK},
};

static void check_flags(int fd, unsigned int flags)
{
	TST_EXP_EQ_LI(SAFE_FCNTL(fd, F_GETFD),
		      flags & XYZZY_CLOEXEC ? FD_CLOEXEC : 0);
	TST_EXP_EQ_LI(SAFE_FCNTL(fd, F_GETFL) & O_NONBLOCK,
		      flags & XYZZY_NONBLOCK ? O_NONBLOCK : 0);
}

static void check_record(int fd, const struct tcase *tc)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	if (tc->param_3) {
		TST_EXP_FAIL2(read(fd, record, sizeof(*record)), EAGAIN,
			      "read before the end of the delay");
	}

	TST_EXP_EQ_LI(SAFE_POLL(&pollfd, 1, POLL_MS), 1);
	TST_EXP_EQ_LI(pollfd.revents, POLLIN);

	TST_EXP_EQ_LI(SAFE_READ(0, fd, record, XYZZY_PARAMS_SIZE_VER0),
		      XYZZY_PARAMS_SIZE_VER0);
	TST_EXP_EQ_LU(record->size,
		      tc->size ? tc->size : XYZZY_PARAMS_SIZE_VER0);
	TST_EXP_EQ_LU(record->param_1, tc->param_1);
	TST_EXP_EQ_LU(record->param_2, tc->param_2);
	TST_EXP_EQ_LU(record->param_3, tc->param_3);
	TST_EXP_EQ_LI(SAFE_READ(0, fd, record, XYZZY_PARAMS_SIZE_VER0), 0);
}

static void run(unsigned int n)
{
	struct tcase *tc = &tcases[n];
	int fd;

	memset(params, 0, sizeof(*params));
	params->size = tc->size;
	params->param_1 = tc->param_1;
	params->param_2 = tc->param_2;
	params->param_3 = tc->param_3;

	fd = TST_EXP_FD(xyzzy(params, tc->flags), "%s", tc->desc);
	if (!TST_PASS)
		return;

	check_flags(fd, tc->flags);
	check_record(fd, tc);

	SAFE_CLOSE(fd);
}

static struct tst_test test = {
	.tcnt = ARRAY_SIZE(tcases),
	.test = run,
	.setup = xyzzy_supported_by_kernel,
	.bufs = (struct tst_buffers []) {
		{&params, .size = sizeof(*params)},
		{&record, .size = sizeof(*record)},
		{},
	}
};
