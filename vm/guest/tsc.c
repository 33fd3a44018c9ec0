// SPDX-License-Identifier: GPL-2.0-only
/*
 * tsc - print the frequency of this machine's time stamp counter, in kHz
 *
 * Runs on the host.  Under TCG a guest's rdtsc is the host's, and the guest's
 * kernel has nothing to measure it by but the PIT, in loops that fail when QEMU
 * is not on a CPU just then: on a busy host the guest would be left with a clock
 * of 4 ms (arch/x86/kernel/tsc.c:quick_pit_calibrate).  So it is told.
 */

#include <linux/time.h>

#include "sys.h"

#define TRIES		8	/* the pair read fastest is the one least disturbed */
#define WINDOW_NS	50000000	/* of measuring: a microsecond's error is 20 ppm */

struct moment {
	unsigned long ns;
	unsigned long ticks;
};

static unsigned long ticks(void)
{
	unsigned int low, high;

	__asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
	return (unsigned long)high << 32 | low;
}

static struct moment now(void)
{
	unsigned long best = ~0UL;
	struct moment moment = { 0, 0 };
	struct timespec ts;
	int i;

	for (i = 0; i < TRIES; i++) {
		unsigned long before = ticks();
		unsigned long took;

		sys(__NR_clock_gettime, CLOCK_MONOTONIC_RAW, (long)&ts, 0, 0, 0);
		took = ticks() - before;
		if (took >= best)
			continue;
		best = took;
		moment.ns = (unsigned long)ts.tv_sec * 1000000000UL + (unsigned long)ts.tv_nsec;
		moment.ticks = before + took / 2;
	}
	return moment;
}

__attribute__((used)) static _Noreturn void start(void)
{
	struct timespec nap = { 0, WINDOW_NS };
	struct moment first, last;
	char text[24];
	char *p = text + sizeof(text);
	unsigned long khz;

	first = now();
	sys(__NR_nanosleep, (long)&nap, 0, 0, 0, 0);
	last = now();
	if (last.ns <= first.ns)
		sys_exit(1);
	khz = (last.ticks - first.ticks) * 1000000UL / (last.ns - first.ns);
	*--p = '\n';
	do {
		*--p = (char)('0' + khz % 10);
		khz /= 10;
	} while (khz);
	sys_write(1, p, (unsigned long)(text + sizeof(text) - p));
	sys_exit(0);
}

START_AT(start);
