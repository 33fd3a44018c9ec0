/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The header of a future in which xyzzy(2) has grown once more.  No kernel knows
 * VER3: a program compiled with this is newer than every kernel that there is.
 */
#ifndef _UAPI_LINUX_XYZZY_H
#define _UAPI_LINUX_XYZZY_H

#include <linux/types.h>

#define XYZZY_CLOEXEC		0x00000001
#define XYZZY_NONBLOCK		0x00000002

#define XYZZY_P1_URGENT		0x00000001
#define XYZZY_P1_TEST		0x00000002

struct xyzzy_params {
	__u32 size;
	__u32 param_1;
	__aligned_u64 param_2;
	__aligned_u64 param_3;
	__aligned_u64 param_4;
	__u32 param_5;
	__u32 __reserved;
	__aligned_u64 param_6;	/* new */
	__u32 param_7;		/* new */
	__u32 param_8;		/* new, where x86-64 would have put padding */
};

#define XYZZY_PARAMS_SIZE_VER0	24
#define XYZZY_PARAMS_SIZE_VER1	32
#define XYZZY_PARAMS_SIZE_VER2	40
#define XYZZY_PARAMS_SIZE_VER3	56

#endif /* _UAPI_LINUX_XYZZY_H */
