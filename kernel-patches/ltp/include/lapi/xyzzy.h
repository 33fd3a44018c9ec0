// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Copyright (c) 2025 Extsys Maintainers <maintainers@extsys.example>
 */

#ifndef LAPI_XYZZY_H__
#define LAPI_XYZZY_H__

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/types.h>

#include "config.h"
#include "tst_test.h"
#include "lapi/abisize.h"
#include "lapi/syscalls.h"

/* Numbers that a libc of any age lacks: from the headers of the kernel. */
#ifndef __NR_xyzzy
# define __NR_xyzzy __LTP__NR_INVALID_SYSCALL
#endif

#ifndef __NR_xyzzyat
# define __NR_xyzzyat __LTP__NR_INVALID_SYSCALL
#endif

#ifdef HAVE_LINUX_XYZZY_H
# include <linux/xyzzy.h>
#else
# define XYZZY_CLOEXEC			0x00000001
# define XYZZY_NONBLOCK			0x00000002
# define XYZZY_P1_URGENT		0x00000001
# define XYZZY_P1_TEST			0x00000002
# define XYZZY_PARAM_2_MAX		0x7fffffffffffffffULL
# define XYZZY_PARAMS_SIZE_VER0		24

struct xyzzy_params {
	uint32_t size;
	uint32_t param_1;
	__aligned_u64 param_2;
	__aligned_u64 param_3;
};
#endif

#ifdef HAVE_LINUX_XYZZYAT_H
# include <linux/xyzzyat.h>
#else
# define XYZZYAT_CLOEXEC		0x00000001
# define XYZZYAT_LABEL_SIZE		32

struct xyzzy_args {
	const char *ptr;
	__kernel_long_t varying_val;
	uint64_t fixed_val;
};

struct xyzzyat_record {
	uint32_t dev_major;
	uint32_t dev_minor;
	__aligned_u64 ino;
	int64_t offset;
	int64_t varying_val;
	__aligned_u64 fixed_val;
	char label[XYZZYAT_LABEL_SIZE];
};
#endif

/* VER0, and eight bytes more than any kernel here knows of. */
struct xyzzy_params_pad {
	struct xyzzy_params params;
	uint8_t unknown[256];
};

static inline int xyzzy(void *params, unsigned int flags)
{
	return tst_syscall(__NR_xyzzy, params, flags);
}

static inline int xyzzyat(int dfd, const char *path, int64_t offset,
			  const struct xyzzy_args *args, unsigned int flags)
{
/* x32 has 64 bits in a register, as long as it is not said to be a long. */
#if defined(TST_ABI64) || (defined(__x86_64__) && defined(__ILP32__))
	return tst_syscall(__NR_xyzzyat, dfd, path, offset, args, flags);
#else
	return tst_syscall(__NR_xyzzyat, dfd, path,
			   __LONG_LONG_PAIR((uint32_t)(offset >> 32),
					    (uint32_t)offset), args, flags);
#endif
}

/* tst_syscall() ends the test with TCONF where the call is not there. */
static inline void xyzzy_supported_by_kernel(void)
{
	TEST(xyzzy(NULL, 0));
	if (TST_RET != -1 || TST_ERR != EFAULT)
		tst_brk(TBROK | TTERRNO, "xyzzy(NULL) does not fail with EFAULT");
}

static inline void xyzzyat_supported_by_kernel(void)
{
	TEST(xyzzyat(-1, NULL, 0, NULL, 0));
	if (TST_RET != -1 || TST_ERR != EFAULT)
		tst_brk(TBROK | TTERRNO, "xyzzyat(NULL) does not fail with EFAULT");
}

#endif /* LAPI_XYZZY_H__ */
