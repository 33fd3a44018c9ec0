// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Copyright (c) 2025 Extsys Maintainers <maintainers@extsys.example>
 */

/*\
 * Verify that :manpage:`xyzzy(2)` fails with
 *
 * - EINVAL for unknown flags, unknown bits of param_1, too long a delay
 * - EFAULT for parameters that cannot be read
 * - E2BIG for a size that is too small or larger than a page, and stores the
 *   size that the kernel knows
 * - EPERM for a param_2 above the limit without CAP_SYS_RESOURCE
 */

#define _GNU_SOURCE
#include <limits.h>

#include "tst_capability.h"
#include "lapi/capability.h"
#include "lapi/xyzzy.h"

#define VER0	XYZZY_PARAMS_SIZE_VER0
#define SECOND	1000000000ULL

static struct xyzzy_params *params;
static void *bad_addr;
static uint32_t page;

static struct tcase {
	const char *desc;
	uint32_t size;
	uint32_t param_1;
	uint64_t param_2;
	uint64_t param_3;
	unsigned int flags;
	int exp_errno;
} tcases[] = {
	{"unknown flag", VER0, 0, 0, 0, 1U << 2, EINVAL},
	{"unknown last flag", VER0, 0, 0, 0, 1U << 31, EINVAL},
	{"all flags", VER0, 0, 0, 0, UINT_MAX, EINVAL},
	{"size too small", VER0 - 1, 0, 0, 0, 0, E2BIG},
	{"size of the size", sizeof(uint32_t), 0, 0, 0, 0, E2BIG},
	{"largest size", UINT32_MAX, 0, 0, 0, 0, E2BIG},
	{"unknown bit of param_1", VER0, 1U << 2, 0, 0, 0, EINVAL},
	{"last bit of param_1", VER0, 1U << 31, 0, 0, 0, EINVAL},
	{"param_2 of the system", VER0, 0, XYZZY_PARAM_2_MAX + 1, 0, 0, EPERM},
	{"delay above a second", VER0, 0, 0, SECOND + 1, 0, EINVAL},
	{"longest delay", VER0, 0, 0, UINT64_MAX, 0, EINVAL},
};

static void run(unsigned int n)
{
	struct tcase *tc = &tcases[n];

	params->size = tc->size;
	params->param_1 = tc->param_1;
	params->param_2 = tc->param_2;
	params->param_3 = tc->param_3;

	TST_EXP_FAIL2(xyzzy(params, tc->flags), tc->exp_errno, "%s", tc->desc);

	if (tc->exp_errno != E2BIG) {
		TST_EXP_EQ_LU(params->size, tc->size);
	} else if (params->size < VER0 || params->size > page) {
		tst_res(TFAIL, "%s: the kernel stored a size of %u", tc->desc,
			params->size);
	} else {
		tst_res(TPASS, "%s: the kernel stored its size", tc->desc);
	}

	if (n)
		return;

	TST_EXP_FAIL2(xyzzy(NULL, 0), EFAULT, "NULL");
	TST_EXP_FAIL2(xyzzy(bad_addr, 0), EFAULT, "invalid address");
}

static void setup(void)
{
	xyzzy_supported_by_kernel();
	page = SAFE_SYSCONF(_SC_PAGESIZE);
	bad_addr = tst_get_bad_addr(NULL);
}

static struct tst_test test = {
	.tcnt = ARRAY_SIZE(tcases),
	.test = run,
	.setup = setup,
	.caps = (struct tst_cap []) {
		TST_CAP(TST_CAP_DROP, CAP_SYS_RESOURCE),
		{},
	},
	.bufs = (struct tst_buffers []) {
		{&params, .size = sizeof(*params)},
		{},
	}
};
