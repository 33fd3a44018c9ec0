// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Copyright (c) 2025 Extsys Maintainers <maintainers@extsys.example>
 */

/*\
 * Verify that the structure of :manpage:`xyzzy(2)` is extensible: whatever lies
 * beyond what the kernel knows is accepted if it is zero, and is E2BIG otherwise,
 * each byte of it.
 */

#define _GNU_SOURCE
#include "lapi/xyzzy.h"

#define VER0	XYZZY_PARAMS_SIZE_VER0

static struct xyzzy_params *ver0;
static struct xyzzy_params_pad *longer;
static size_t ksize;

static void accepted(void *params, size_t size)
{
	int fd;

	fd = TST_EXP_FD_SILENT(xyzzy(params, 0), "size %zu", size);
	if (TST_PASS)
		SAFE_CLOSE(fd);
}

/* The buffer ends where memory does. */
static void exact(void)
{
	ver0->size = VER0;
	accepted(ver0, VER0);
	tst_res(TPASS, "%d bytes are read of a structure of that size", VER0);
}

static void zero_tail(void)
{
	size_t size;

	for (size = ksize; size <= sizeof(*longer); size++) {
		memset(longer, 0, sizeof(*longer));
		longer->params.size = size;
		accepted(longer, size);
		if (!TST_PASS)
			return;
	}

	tst_res(TPASS, "zeros beyond %zu bytes are accepted", ksize);
}

static void nonzero_tail(void)
{
	uint8_t *bytes = (uint8_t *)longer;
	size_t i;

	for (i = ksize; i < sizeof(*longer); i++) {
		memset(longer, 0, sizeof(*longer));
		longer->params.size = sizeof(*longer);
		bytes[i] = 1;
		TST_EXP_FAIL2_SILENT(xyzzy(longer, 0), E2BIG, "byte %zu", i);
		if (!TST_PASS)
			return;
		if (longer->params.size != ksize) {
			tst_res(TFAIL, "byte %zu: the kernel stored %u, not %zu",
				i, longer->params.size, ksize);
			return;
		}
	}

	tst_res(TPASS, "each byte beyond %zu is refused", ksize);
}

static void (*const tests[])(void) = { exact, zero_tail, nonzero_tail };

static void run(unsigned int n)
{
	tests[n]();
}

static void setup(void)
{
	xyzzy_supported_by_kernel();

	/* A kernel tells its size to whom it does not understand. */
	longer->params.size = 1;
	TEST(xyzzy(longer, 0));
	if (TST_RET != -1 || TST_ERR != E2BIG)
		tst_brk(TBROK | TTERRNO, "size 1 is not refused with E2BIG");
	ksize = longer->params.size;
	if (ksize < VER0 || ksize >= sizeof(*longer))
		tst_brk(TBROK, "the kernel knows %zu bytes", ksize);
}

static struct tst_test test = {
	.tcnt = ARRAY_SIZE(tests),
	.test = run,
	.setup = setup,
	.bufs = (struct tst_buffers []) {
		{&ver0, .size = VER0},
		{&longer, .size = sizeof(*longer)},
		{},
	}
};
