/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * As much of libcap as the kernel's selftests use, for ABIs that no
 * distribution has a libcap of: i386 beside amd64 needs a second architecture
 * of packages, and x32 has none.
 *
 * cap_t is laid out as libcap's, which clone3_cap_checkpoint_restore.c relies
 * on: the header and the data of capset(2).
 */
#ifndef EXTSYS_SYS_CAPABILITY_H
#define EXTSYS_SYS_CAPABILITY_H

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef int cap_value_t;
typedef enum { CAP_EFFECTIVE, CAP_PERMITTED, CAP_INHERITABLE } cap_flag_t;
typedef enum { CAP_CLEAR, CAP_SET } cap_flag_value_t;

typedef struct _cap_struct {
	struct __user_cap_header_struct head;
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
} *cap_t;

static inline __u32 *cap_word(cap_t cap, cap_flag_t flag, cap_value_t value)
{
	struct __user_cap_data_struct *data = &cap->data[CAP_TO_INDEX(value)];

	switch (flag) {
	case CAP_EFFECTIVE:
		return &data->effective;
	case CAP_PERMITTED:
		return &data->permitted;
	default:
		return &data->inheritable;
	}
}

static inline cap_t cap_get_proc(void)
{
	cap_t cap = calloc(1, sizeof(*cap));

	if (!cap)
		return NULL;
	cap->head.version = _LINUX_CAPABILITY_VERSION_3;
	if (syscall(__NR_capget, &cap->head, cap->data)) {
		free(cap);
		return NULL;
	}
	return cap;
}

static inline int cap_set_proc(cap_t cap)
{
	return syscall(__NR_capset, &cap->head, cap->data);
}

static inline int cap_clear(cap_t cap)
{
	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		cap->data[i] = (struct __user_cap_data_struct){};
	return 0;
}

static inline int cap_set_flag(cap_t cap, cap_flag_t flag, int count,
			       const cap_value_t *values,
			       cap_flag_value_t to)
{
	for (int i = 0; i < count; i++) {
		__u32 *word = cap_word(cap, flag, values[i]);

		if (to == CAP_SET)
			*word |= CAP_TO_MASK(values[i]);
		else
			*word &= ~CAP_TO_MASK(values[i]);
	}
	return 0;
}

static inline int cap_get_flag(cap_t cap, cap_value_t value, cap_flag_t flag,
			       cap_flag_value_t *is)
{
	*is = *cap_word(cap, flag, value) & CAP_TO_MASK(value) ? CAP_SET :
								 CAP_CLEAR;
	return 0;
}

static inline int cap_free(cap_t cap)
{
	free(cap);
	return 0;
}

static inline unsigned int cap_get_secbits(void)
{
	return prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
}

static inline int cap_set_secbits(unsigned int bits)
{
	return prctl(PR_SET_SECUREBITS, bits, 0, 0, 0);
}

static inline int cap_get_ambient(cap_value_t value)
{
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, value, 0, 0);
}

static inline int cap_set_ambient(cap_value_t value, cap_flag_value_t to)
{
	return prctl(PR_CAP_AMBIENT,
		     to == CAP_SET ? PR_CAP_AMBIENT_RAISE :
				     PR_CAP_AMBIENT_LOWER,
		     value, 0, 0);
}

#endif
