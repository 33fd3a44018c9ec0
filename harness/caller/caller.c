// SPDX-License-Identifier: GPL-2.0-only
/*
 * caller.c - makes system calls as told and reports what came of them
 *
 * One source, built as -m64, -m32 and -mx32.  It enumerates, calls and
 * records; it never judges: what an outcome should have been is the model's
 * business, on the host.
 *
 * Usage: caller FD, where FD is a stream socket that carries wire.h's frames.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "stream.h"

int64_t raw_native(uint64_t nr, const uint64_t arg[6]);
int64_t raw_int80(uint64_t nr, const uint64_t arg[6]);

#define PAGE 4096
#define CANARY 0xa5
/* Bytes around a struct in which a stray write is told with the struct's own place. */
#define NEAR 64
/* The most bytes of a struct that are really there, however large its size. */
#define REACH 12288
/* The part of the arena that a sweep lays out: a page, REACH, a page. */
#define WINDOW (PAGE + REACH + PAGE)
#define MAX_ERRNO 4095
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define ROWS_PER_FRAME 2048
/* Reading the clock costs as much as a call; some calls take milliseconds. */
#define CALLS_BETWEEN_CLOCKS 256
#define NSEC 1000000000ull
/* What the deadline of a program's operations does not fall below by halving. */
#define LEAST_DEADLINE_MS 50
/* Calls of a race that the deadline ends, or what is done behind them, before it is given up. */
#define MOST_LATE 4

_Static_assert(sizeof(struct wire_header) == 16, "wire_header");
_Static_assert(sizeof(struct wire_op) == 96, "wire_op");
_Static_assert(sizeof(struct wire_result) == 16, "wire_result");
_Static_assert(sizeof(struct wire_dim) == 32, "wire_dim");
_Static_assert(sizeof(struct wire_sweep) == 152, "wire_sweep");
_Static_assert(sizeof(struct wire_row) == 48, "wire_row");
_Static_assert(sizeof(struct wire_loop) == 120, "wire_loop");
_Static_assert(sizeof(struct wire_stalls) == 8, "wire_stalls");
_Static_assert(sizeof(struct wire_stall) == 32, "wire_stall");
_Static_assert(sizeof(struct wire_race) == 152, "wire_race");
_Static_assert(sizeof(struct wire_outside) == 112, "wire_outside");
_Static_assert(sizeof(struct wire_seen) == 72, "wire_seen");
_Static_assert(sizeof(struct wire_stop) == 96, "wire_stop");

static unsigned char *arena;
static unsigned char *scratch;
static unsigned char shadow[WIRE_ARENA];	/* what the arena should hold */

static int wire_fd;
static struct stream out;

/* Where a fault of ours goes on: each thread has its own. */
static __thread sigjmp_buf *volatile fault_target;
static volatile sig_atomic_t fault_signal;
static volatile sig_atomic_t alarms;
/* Either of the two above has changed: all that a loop of many calls looks at. */
static volatile sig_atomic_t events;
/* A byte that is zero in a child that nobody here has made on purpose. */
static volatile unsigned char *own;

static void on_fault(int sig)
{
	if (!fault_target) {
		signal(sig, SIG_DFL);
		raise(sig);
	}
	siglongjmp(*fault_target, sig);
}

/* Seccomp's SIGSYS comes instead of the call; it goes on behind it. */
static void on_sigsys(int sig)
{
	fault_signal = sig;
	events++;
}

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
	events++;
}

static void set_handler(int sig, void (*handler)(int))
{
	struct sigaction action = {
		.sa_handler = handler,
		/* No SA_RESTART: the alarm is there to end a call that blocks. */
		.sa_flags = SA_ONSTACK | SA_NODEFER,
	};

	sigaction(sig, &action, NULL);
}

/* Again and again from then on: the first alarm may come just before the call. */
static void arm(uint32_t milliseconds)
{
	struct itimerval timer = { 0 };

	timer.it_value.tv_sec = milliseconds / 1000;
	timer.it_value.tv_usec = milliseconds % 1000 * 1000;
	timer.it_interval = timer.it_value;
	setitimer(ITIMER_REAL, &timer, NULL);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

/*
 * Sixteen-byte steps, in place of libc's routines: those choose AVX where the
 * processor claims it, which an emulated one does many times slower.
 */
typedef uint64_t vec __attribute__((vector_size(16), aligned(1), may_alias));

static void vec_set(unsigned char *to, unsigned char byte, size_t length)
{
	const uint64_t eight = byte * 0x0101010101010101ull;

	for (; length >= sizeof(vec); to += sizeof(vec), length -= sizeof(vec))
		*(vec *)to = (vec){ eight, eight };
	while (length--)
		*to++ = byte;
}

static void vec_copy(unsigned char *to, const unsigned char *from, size_t length)
{
	for (; length >= sizeof(vec); to += sizeof(vec), from += sizeof(vec), length -= sizeof(vec))
		*(vec *)to = *(const vec *)from;
	while (length--)
		*to++ = *from++;
}

static bool vec_differs(const unsigned char *a, const unsigned char *b, size_t length)
{
	vec differ = { 0, 0 };

	for (; length >= sizeof(vec); a += sizeof(vec), b += sizeof(vec), length -= sizeof(vec))
		differ |= *(const vec *)a ^ *(const vec *)b;
	while (length--)
		differ[0] |= *a++ ^ *b++;
	return differ[0] | differ[1];
}

/* An area between two inaccessible pages, at the place that the host knows. */
static unsigned char *map_area(uintptr_t at)
{
	void *place = (void *)(at - PAGE);

	if (mmap(place, WIRE_ARENA + 2 * PAGE, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != place)
		_exit(121);
	return (void *)at;
}

static volatile unsigned char *map_own(void)
{
	unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED || madvise(page, PAGE, MADV_WIPEONFORK))
		_exit(121);
	*page = 1;
	return page;
}

static void reset_area(unsigned char *area)
{
	if (mmap(area - PAGE, WIRE_ARENA + 2 * PAGE, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    mmap(area, WIRE_ARENA, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		_exit(121);
}

/*
 * The areas between one reset of a program's and the next.  To map them anew
 * costs two calls for each, and a fault for each page that is used then: that is
 * most of what a refused call takes with all around it.  So the first reset of a
 * program does it, and those behind it clear the pages that may have been written
 * to, as long as they are still mapped as they were.
 */
static struct {
	bool fresh;			/* mapped by this program, and nothing has changed that */
	uint32_t used[2];		/* a bit for each page: arena, scratch */
} areas;

_Static_assert(WIRE_ARENA / PAGE <= 32, "a bit for each page");

/* Something is, or may be, written from there on: the page behind counts as well. */
static void use(unsigned int area, uint64_t offset, uint64_t length)
{
	uint64_t page = offset / PAGE;

	if (offset >= WIRE_ARENA)
		return;
	for (; page < WIRE_ARENA / PAGE && page <= (offset + length) / PAGE + 1; page++)
		areas.used[area] |= 1u << page;
}

/*
 * What a call may write to: two pages from each address that it is given, or as
 * much as the largest of its other arguments that may be a length.
 */
static void use_arguments(const uint64_t args[6])
{
	uint64_t length = 0;
	int i;

	for (i = 0; i < 6; i++)
		if (args[i] <= WIRE_ARENA && args[i] > length)
			length = args[i];
	for (i = 0; i < 6; i++) {
		use(0, args[i] - (uintptr_t)arena, length);
		use(1, args[i] - (uintptr_t)scratch, length);
	}
}

/* Whether a call may change how memory is mapped. */
static bool changes_mappings(uint64_t nr)
{
	switch (nr) {
	case SYS_mmap:
#ifdef SYS_mmap2
	case SYS_mmap2:
#endif
	case SYS_munmap:
	case SYS_mremap:
	case SYS_mprotect:
	case SYS_pkey_mprotect:
	case SYS_madvise:
	case SYS_remap_file_pages:
#ifdef SYS_shmat
	case SYS_shmat:
#endif
		return true;
	}
	return false;
}

static void clear_used(unsigned char *area, uint32_t pages)
{
	for (; pages; pages &= pages - 1)
		vec_set(area + (size_t)__builtin_ctz(pages) * PAGE, 0, PAGE);
}

/* Zero pages for both areas, whatever was there. */
static void reset_areas(void)
{
	sigjmp_buf *volatile outer = fault_target;
	sigjmp_buf here;

	/* What cannot be written to any more is mapped anew. */
	if (sigsetjmp(here, 0))
		areas.fresh = false;
	fault_target = &here;
	if (areas.fresh) {
		clear_used(arena, areas.used[0]);
		clear_used(scratch, areas.used[1]);
	} else {
		reset_area(arena);
		reset_area(scratch);
	}
	fault_target = outer;
	areas.fresh = true;
	memset(areas.used, 0, sizeof(areas.used));
}

static bool is_error(int64_t ret)
{
	return ret < 0 && ret >= -MAX_ERRNO;
}

static void send_frame(const struct wire_header *re, unsigned int type,
		       const void *payload, size_t length)
{
	stream_put(&out, re, type, payload, length);
	if (!stream_flush(&out, wire_fd, true))
		_exit(0);
}

static void refuse(const struct wire_header *re, uint32_t code, uint32_t value)
{
	struct wire_refusal refusal = { .code = code, .value = value };

	send_frame(re, WIRE_T_REFUSED, &refusal, sizeof(refusal));
}

/*
 * The deadline of one call among millions.  A timer for each would cost more
 * than the call, and one timer for all of them would interrupt whichever call
 * is there when it fires.  So a child looks, four times in a deadline, whether
 * calls go on; when none has ended for that long, it sends SIGALRM until one
 * does.  A child and not a thread: a process with threads may not enter a user
 * namespace, and pays for each descriptor that it looks up.
 */
#define LOOKS 4

static struct watch {
	uint32_t milliseconds;		/* 0: nobody waits for anything */
	uint32_t turn;			/* how often it was set */
	uint32_t sending;		/* the child is about to send, or has just done so */
	struct wire_done done;		/* the calls that have ended are counted here */
} *watch;
static pid_t watcher;
/* In there. */
static struct wire_done *done;

static void *map_shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		_exit(121);
	return memory;
}

/*
 * sigtimedwait(), or sigwaitinfo() with ms 0.  libc's own calls the 32-bit
 * rt_sigtimedwait as m32, which a kernel without CONFIG_COMPAT_32BIT_TIME does
 * not have; a watcher that cannot wait would keep a CPU busy.  Where there is
 * nothing to wait with, the caller goes too: deadlines are not given up in silence.
 */
static void wait_for(pid_t caller, const sigset_t *set, uint32_t ms)
{
	const struct {
		int64_t seconds, nanoseconds;
	} time = { ms / 1000, ms % 1000 * 1000000 };
#ifdef __NR_rt_sigtimedwait_time64
	const long nr = __NR_rt_sigtimedwait_time64;
#else
	const long nr = __NR_rt_sigtimedwait;
#endif
	/* Signals 1 to 64: the kernel's sigset_t. */
	long ret = syscall(nr, set, NULL, ms ? &time : NULL, sizeof(uint64_t));

	if (ret < 0 && errno != EAGAIN && errno != EINTR) {
		kill(caller, SIGABRT);
		_exit(122);
	}
}

static void watch_over(pid_t caller, const sigset_t *woken)
{
	const volatile uint64_t *calls_made = &done->calls;
	uint32_t turn = 0, calls = 0;
	uint64_t since = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(wire_fd);
	while (getppid() == caller) {
		uint32_t ms = __atomic_load_n(&watch->milliseconds, __ATOMIC_SEQ_CST);

		if (!ms) {
			wait_for(caller, woken, 0);
			continue;
		}
		/* The lower half is enough to see that it moves. */
		if (watch->turn != turn || (uint32_t)*calls_made != calls) {
			turn = watch->turn;
			calls = *calls_made;
			since = now();
		} else if (now() - since >= ms * (NSEC / 1000)) {
			__atomic_store_n(&watch->sending, 1, __ATOMIC_SEQ_CST);
			if (__atomic_load_n(&watch->milliseconds, __ATOMIC_SEQ_CST) &&
			    watch->turn == turn && (uint32_t)*calls_made == calls)
				kill(caller, SIGALRM);
			__atomic_store_n(&watch->sending, 0, __ATOMIC_SEQ_CST);
		}
		wait_for(caller, woken, ms / LOOKS + 1);
	}
	_exit(0);
}

/* From here on no call may take longer, while done->calls counts them.  Zero, or the errno. */
static int watch_calls(uint32_t milliseconds)
{
	pid_t caller = getpid();
	sigset_t woken, before;

	if (!milliseconds)
		return 0;
	if (!watcher) {
		sigemptyset(&woken);
		sigaddset(&woken, SIGUSR1);
		sigprocmask(SIG_BLOCK, &woken, &before);
		watcher = fork();
		if (watcher == 0)
			watch_over(caller, &woken);
		sigprocmask(SIG_SETMASK, &before, NULL);
		if (watcher < 0) {
			watcher = 0;
			return errno;
		}
	}
	watch->turn++;
	__atomic_store_n(&watch->milliseconds, milliseconds, __ATOMIC_SEQ_CST);
	return kill(watcher, SIGUSR1) ? errno : 0;
}

/* No alarm comes any more when this returns. */
static void watch_nothing(void)
{
	__atomic_store_n(&watch->milliseconds, 0, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&watch->sending, __ATOMIC_SEQ_CST))
		sched_yield();
}

/* Programs. */

struct run {
	const struct wire_op *ops;
	const unsigned char *data;
	uint32_t data_length;
	struct wire_result *results;	/* of ops, or of a sweep's call and after */
	struct stream *reply;		/* what READ ops gave */
};

/* It may lie outside the area, where no pointer that C knows of could point. */
static unsigned char *address(uint32_t kind, uint64_t value)
{
	return (void *)((uintptr_t)(kind == WIRE_A_SCRATCH ? scratch : arena) +
			(uintptr_t)value);
}

/* A memory op writes there. */
static void use_op(const struct wire_op *op, uint64_t length)
{
	use(op->arg_kind[0] == WIRE_A_SCRATCH, op->arg[0], length);
}

/* Memory ops name their area by arg_kind[0] and must stay inside it. */
static bool inside(const struct wire_op *op, uint64_t length)
{
	return (op->arg_kind[0] == WIRE_A_ARENA || op->arg_kind[0] == WIRE_A_SCRATCH) &&
	       length <= WIRE_ARENA && op->arg[0] <= WIRE_ARENA - length;
}

/*
 * Queued calls: an entry of an io_uring's submission queue, whose outcome is its
 * completion.  One at a time, so that the queue has one entry.
 */
static struct {
	int fd;				/* of the ring, or -1 */
	unsigned char *rings;		/* both queues' heads and tails */
	size_t length;
	struct io_uring_sqe *sqe;
	uint32_t *submitted;		/* the submission queue's tail */
	uint32_t *head, *tail;		/* the completion queue's */
	struct io_uring_cqe *cqes;
	uint32_t mask;
} queue = { .fd = -1 };

/* A queue is no descriptor that a test could meet as the lowest free one. */
#define QUEUE_FD 500

static void close_queue(void)
{
	if (queue.rings)
		munmap(queue.rings, queue.length);
	if (queue.sqe)
		munmap(queue.sqe, PAGE);
	close(queue.fd);
	queue.rings = NULL;
	queue.sqe = NULL;
	queue.fd = -1;
}

static void *map_of_queue(size_t length, off_t offset)
{
	void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			    queue.fd, offset);

	return memory == MAP_FAILED ? NULL : memory;
}

/* Zero, or the errno. */
static int open_queue(void)
{
	struct io_uring_params p = { 0 };
	size_t sq, cq;
	int fd, error;

	fd = syscall(__NR_io_uring_setup, 1, &p);
	if (fd < 0)
		return errno;
	queue.fd = fcntl(fd, F_DUPFD_CLOEXEC, QUEUE_FD);
	error = errno;
	close(fd);
	if (queue.fd < 0)
		return error;
	sq = p.sq_off.array + p.sq_entries * sizeof(uint32_t);
	cq = p.cq_off.cqes + p.cq_entries * sizeof(*queue.cqes);
	queue.length = sq > cq ? sq : cq;
	errno = EOPNOTSUPP;
	if (p.features & IORING_FEAT_SINGLE_MMAP)
		queue.rings = map_of_queue(queue.length, IORING_OFF_SQ_RING);
	if (queue.rings)
		queue.sqe = map_of_queue(PAGE, IORING_OFF_SQES);
	if (!queue.sqe) {
		error = errno;
		close_queue();
		return error;
	}
	queue.submitted = (uint32_t *)(queue.rings + p.sq_off.tail);
	queue.head = (uint32_t *)(queue.rings + p.cq_off.head);
	queue.tail = (uint32_t *)(queue.rings + p.cq_off.tail);
	queue.mask = *(uint32_t *)(queue.rings + p.cq_off.ring_mask);
	queue.cqes = (struct io_uring_cqe *)(queue.rings + p.cq_off.cqes);
	*(uint32_t *)(queue.rings + p.sq_off.array) = 0;
	return 0;
}

static int64_t enter_queue(const struct wire_op *op, const uint64_t *args)
{
	int before = alarms;
	uint32_t left = 1;
	int64_t ret;
	int error;

	if (queue.fd < 0) {
		error = open_queue();
		if (error)
			return -error;
	}
	*queue.sqe = (struct io_uring_sqe){
		.opcode = op->nr,
		.flags = op->entry == WIRE_ENTRY_WORKER ? IOSQE_ASYNC : 0,
		.fd = args[0],
		.off = args[1],
		.addr = args[2],
		.len = args[3],
		.rw_flags = args[4],
		.splice_fd_in = args[5],	/* file_index */
	};
	__atomic_store_n(queue.submitted, *queue.submitted + 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(queue.tail, __ATOMIC_ACQUIRE) == *queue.head) {
		ret = syscall(__NR_io_uring_enter, queue.fd, left, 1, IORING_ENTER_GETEVENTS,
			      NULL, 0);
		if (ret > 0)
			left = 0;
		if (ret < 0 && (errno != EINTR || alarms != before)) {
			error = errno;
			/* Whatever is still on its way ends with its ring. */
			close_queue();
			return -error;
		}
	}
	ret = queue.cqes[*queue.head & queue.mask].res;
	__atomic_store_n(queue.head, *queue.head + 1, __ATOMIC_RELEASE);
	return ret;
}

static inline int64_t enter(const struct wire_op *op, const uint64_t *args)
{
	int64_t ret;

	if (op->entry == WIRE_ENTRY_NATIVE)
		ret = raw_native(op->nr, args);
	else if (op->entry == WIRE_ENTRY_INT80)
		ret = raw_int80(op->nr, args);
	else
		ret = enter_queue(op, args);
	/* A call that makes a process returns twice: the child has nothing to do here. */
	if (!ret && !*own)
		_exit(0);
	return ret;
}

/* Zero, or the refusal's code. */
static uint32_t check_op(const struct wire_op *op, uint32_t index, uint32_t data_length)
{
	int i;

	if (op->data_offset > data_length || op->data_length > data_length - op->data_offset)
		return WIRE_E_RANGE;
	switch (op->kind) {
	case WIRE_OP_SYSCALL:
		if (op->entry > WIRE_ENTRY_WORKER)
			return WIRE_E_SHAPE;
		if (op->entry >= WIRE_ENTRY_QUEUE && op->nr > UINT8_MAX)
			return WIRE_E_RANGE;
		for (i = 0; i < 6; i++) {
			if (op->arg_kind[i] > WIRE_A_RESULT)
				return WIRE_E_SHAPE;
			if (op->arg_kind[i] == WIRE_A_RESULT && op->arg[i] >= index)
				return WIRE_E_RANGE;
		}
		return 0;
	case WIRE_OP_WRITE:
		return inside(op, op->data_length) ? 0 : WIRE_E_RANGE;
	case WIRE_OP_READ:
	case WIRE_OP_FILL:
		return inside(op, op->arg[1]) ? 0 : WIRE_E_RANGE;
	case WIRE_OP_RESET:
		return 0;
	case WIRE_OP_STORE:
		if (op->arg_kind[1] > WIRE_A_RESULT || !op->arg[2] || op->arg[2] > 8)
			return WIRE_E_SHAPE;
		for (i = 2; i < 6; i++)
			if (op->arg_kind[i] != WIRE_A_LITERAL)
				return WIRE_E_SHAPE;
		if (op->arg_kind[1] == WIRE_A_RESULT && op->arg[1] >= index)
			return WIRE_E_RANGE;
		return inside(op, op->arg[2]) ? 0 : WIRE_E_RANGE;
	case WIRE_OP_PEER:
	case WIRE_OP_BECOME:
		for (i = 0; i < 6; i++)
			if (op->arg_kind[i] != WIRE_A_LITERAL)
				return WIRE_E_SHAPE;
		return 0;
	}
	return WIRE_E_SHAPE;
}

/* An op that a sweep's or a race's call may have before or behind it. */
static bool in_a_loop(const struct wire_op *op)
{
	return op->kind < WIRE_OP_RESET;
}

/* What a store of up to eight bytes goes through, wherever they lie. */
typedef uint16_t unaligned_u16 __attribute__((aligned(1), may_alias));
typedef uint32_t unaligned_u32 __attribute__((aligned(1), may_alias));
typedef uint64_t unaligned_u64 __attribute__((aligned(1), may_alias));

/* The registers of a call.  False: it needs the result of one that failed. */
static bool resolve(const struct wire_op *op, const struct wire_result *results,
		    uint64_t *args)
{
	const struct wire_result *r;
	int i;

	for (i = 0; i < 6; i++) {
		args[i] = op->arg[i];
		switch (op->arg_kind[i]) {
		case WIRE_A_ARENA:
		case WIRE_A_SCRATCH:
			args[i] = (uintptr_t)address(op->arg_kind[i], op->arg[i]);
			break;
		case WIRE_A_RESULT:
			r = &results[op->arg[i]];
			if (r->flags & ~WIRE_R_STALLED || is_error(r->ret))
				return false;
			args[i] = r->ret;
			break;
		}
	}
	return true;
}

/* Who makes a call: a child takes another identity, and peers are there to be named. */

#ifdef SYS_setresuid32
#define SET_GROUPS SYS_setgroups32
#define SET_GID SYS_setresgid32
#define SET_UID SYS_setresuid32
#else
#define SET_GROUPS SYS_setgroups
#define SET_GID SYS_setresgid
#define SET_UID SYS_setresuid
#endif

static struct {
	pid_t pid[WIRE_MAX_PEERS];
	uint32_t count;
} peers;

/* A child of a program's, which ends with it: its exit code, where others are errnos. */
static bool forked;
#define ANSWERED 200

/* Zero, or the errno.  By system calls: libc's setresuid() is about all threads. */
static int take_identity(const struct wire_op *op)
{
	const uint64_t effective = op->arg[0], permitted = op->arg[1], required = op->arg[2];
	const uint32_t id = op->arg[3], flags = op->arg[4];
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];
	int i;

	if (id != WIRE_SAME_ID &&
	    (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || syscall(SET_GROUPS, 0, NULL) ||
	     syscall(SET_GID, id, id, id) || syscall(SET_UID, id, id, id)))
		return errno;
	if (syscall(SYS_capget, &head, caps))
		return errno;
	for (i = 0; i < 2; i++) {
		caps[i].permitted &= permitted >> 32 * i;
		caps[i].effective = caps[i].permitted & effective >> 32 * i;
		caps[i].inheritable = 0;
		if ((uint32_t)(required >> 32 * i) & ~caps[i].permitted)
			return EPERM;
	}
	if (syscall(SYS_capset, &head, caps))
		return errno;
	if (flags & WIRE_ID_NAMESPACE && syscall(SYS_unshare, CLONE_NEWUSER))
		return errno;
	/* Another uid, or fewer capabilities, and the kernel has changed that by itself. */
	if (prctl(PR_SET_DUMPABLE, !!(flags & WIRE_ID_DUMPABLE), 0, 0, 0))
		return errno;
	return 0;
}

/* A process that says what came of its identity, and then waits for its end. */
static void be_peer(const struct wire_op *op, pid_t parent, int fd)
{
	unsigned char error = take_identity(op);
	sigset_t none;

	signal(SIGALRM, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	if (write(fd, &error, 1) != 1 || op->arg[4] & WIRE_ID_ENDED)
		_exit(0);
	sigemptyset(&none);
	for (;;)
		sigsuspend(&none);
}

/* Its pid, or the errno negated. */
static int64_t make_peer(const struct wire_op *op)
{
	unsigned char error = ECHILD;
	pid_t parent = getpid();
	int ends[2];
	pid_t pid;

	if (peers.count == WIRE_MAX_PEERS)
		return -EAGAIN;
	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (!pid)
		be_peer(op, parent, ends[1]);
	close(ends[1]);
	if (pid < 0) {
		error = errno;
	} else {
		while (read(ends[0], &error, 1) < 0 && errno == EINTR)
			;
		peers.pid[peers.count++] = pid;
	}
	close(ends[0]);
	if (pid > 0 && (op->arg[4] & WIRE_ID_ENDED || error)) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		peers.count--;
	}
	return error ? -(int64_t)error : pid;
}

static void end_peers(void)
{
	while (peers.count) {
		pid_t pid = peers.pid[--peers.count];

		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
}

/*
 * The child goes on with the program, and answers; it gets zero.  We get what
 * was wrong with it, as an errno, or -1 when it has answered.
 */
static int become(const struct wire_op *op)
{
	int status = 0, error;
	pid_t pid = fork();

	if (pid < 0)
		return errno;
	if (!pid) {
		forked = true;
		*own = 1;	/* no child of a call's: its calls are made as told */
		peers.count = 0;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		error = take_identity(op);
		if (error)
			_exit(error);
		prctl(PR_SET_PDEATHSIG, SIGKILL);	/* a change of identity has undone it */
		return 0;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || !WEXITSTATUS(status))
		return ECHILD;
	return WEXITSTATUS(status) == ANSWERED ? -1 : WEXITSTATUS(status);
}

static void run_op(struct run *run, const struct wire_op *op, struct wire_result *result)
{
	sigjmp_buf *volatile outer = fault_target;
	sigjmp_buf here;
	uint64_t args[6];
	int caught;

	memset(result, 0, sizeof(*result));
	caught = sigsetjmp(here, 0);
	if (caught) {
		fault_target = outer;
		result->flags = WIRE_R_SIGNAL;
		result->ret = caught;
		return;
	}
	fault_target = &here;
	switch (op->kind) {
	case WIRE_OP_SYSCALL:
		if (!resolve(op, run->results, args)) {
			result->flags = WIRE_R_SKIPPED;
			break;
		}
		use_arguments(args);
		if (changes_mappings(op->nr))
			areas.fresh = false;
		fault_signal = 0;
		result->ret = enter(op, args);
		if (fault_signal) {
			result->flags = WIRE_R_SIGNAL;
			result->ret = fault_signal;
		}
		break;
	case WIRE_OP_WRITE:
		use_op(op, op->data_length);
		memcpy(address(op->arg_kind[0], op->arg[0]), run->data + op->data_offset,
		       op->data_length);
		break;
	case WIRE_OP_READ:
		stream_add(run->reply, address(op->arg_kind[0], op->arg[0]), op->arg[1]);
		result->data_length = op->arg[1];
		break;
	case WIRE_OP_FILL:
		use_op(op, op->arg[1]);
		memset(address(op->arg_kind[0], op->arg[0]), op->arg[2], op->arg[1]);
		break;
	case WIRE_OP_RESET:
		reset_areas();
		break;
	case WIRE_OP_STORE:
		if (!resolve(op, run->results, args)) {
			result->flags = WIRE_R_SKIPPED;
			break;
		}
		args[1] += op->arg[3];
		use_op(op, op->arg[2]);
		memcpy((void *)(uintptr_t)args[0], &args[1], op->arg[2]);
		break;
	case WIRE_OP_PEER:
		result->ret = make_peer(op);
		break;
	}
	fault_target = outer;
}

/*
 * Stalls.  A page of the arena is not there when a call is made, and the
 * kernel's fault on it waits for a thread of ours, which first changes what
 * the call may already have read.
 */

static struct {
	int fd;				/* userfaultfd, or -1 */
	pid_t thread;			/* the one that resolves the faults */
	int cpu;			/* that it runs on */
	bool stalled;			/* the fault came, and the change was made */
	unsigned char *page;
	unsigned char *change;
	const unsigned char *bytes;	/* what it changes to */
	size_t length;
	unsigned char content[PAGE];	/* of the page, when it comes */
} held = { .fd = -1, .cpu = -1 };

static void release_page(void)
{
	struct uffdio_range range = { .start = (uintptr_t)held.page, .len = PAGE };

	ioctl(held.fd, UFFDIO_UNREGISTER, &range);
}

static void resolve_fault(void)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)held.page,
		.src = (uintptr_t)held.content,
		.len = PAGE,
	};
	volatile bool changed = false;	/* it lives on over a longjmp */
	sigjmp_buf here;

	if (!sigsetjmp(here, 0)) {
		fault_target = &here;
		memcpy(held.change, held.bytes, held.length);
		changed = true;
	}
	fault_target = NULL;
	__atomic_store_n(&held.stalled, changed, __ATOMIC_SEQ_CST);
	/* Whatever fails, the call must not wait for ever: it gets a zero page. */
	if (ioctl(held.fd, UFFDIO_COPY, &copy)) {
		__atomic_store_n(&held.stalled, false, __ATOMIC_SEQ_CST);
		release_page();
	}
}

static void *resolve_faults(void *unused)
{
	struct uffd_msg msg;

	(void)unused;
	__atomic_store_n(&held.thread, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	while (read(held.fd, &msg, sizeof(msg)) == sizeof(msg))
		if (msg.event == UFFD_EVENT_PAGEFAULT)
			resolve_fault();
	return NULL;
}

/*
 * A thread for the caller's life, which sees no signal but those of its own
 * faults: the others are there to interrupt the call.  Zero, or the errno.
 *
 * Nothing here waits for a thread by libc's means: as m32 those use the futex
 * call of 32-bit times, which a kernel may be without (COMPAT_32BIT_TIME).
 */
static int start_thread(void *(*run)(void *))
{
	sigset_t most, before;
	pthread_t thread;
	int error;

	sigfillset(&most);
	sigdelset(&most, SIGSEGV);
	sigdelset(&most, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &most, &before);
	error = pthread_create(&thread, NULL, run, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error;
}

/* Zero, or the errno. */
static int open_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int error;

	if (held.fd >= 0)
		return 0;
	held.fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (held.fd < 0)
		return errno;
	error = ioctl(held.fd, UFFDIO_API, &api) ? errno :
		start_thread(resolve_faults);
	if (error) {
		close(held.fd);
		held.fd = -1;
	}
	return error;
}

/*
 * Have the thread run where we do: nothing runs at the same time anyway, and
 * an emulated CPU that has to be woken for it costs a hundred times the call.
 */
static void keep_thread_close(void)
{
	pid_t thread = __atomic_load_n(&held.thread, __ATOMIC_SEQ_CST);
	int cpu = sched_getcpu();
	cpu_set_t set;

	if (!thread || cpu < 0 || cpu == held.cpu)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (!sched_setaffinity(thread, sizeof(set), &set))
		held.cpu = cpu;
}

/* The next call meets @s's page.  Zero, or the errno. */
static int hold_page(const struct wire_stall *s, const unsigned char *data)
{
	struct uffdio_register set = {
		.range = { .start = (uintptr_t)(arena + s->page), .len = PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	keep_thread_close();
	held.page = arena + s->page;
	held.change = arena + s->change;
	held.bytes = data + s->change_offset;
	held.length = s->change_length;
	use(0, s->page, PAGE);
	use(0, s->change, s->change_length);
	vec_set(held.content, 0, PAGE);
	memcpy(held.content + s->page_start, data + s->page_offset, s->page_length);
	__atomic_store_n(&held.stalled, false, __ATOMIC_SEQ_CST);
	if (madvise(held.page, PAGE, MADV_DONTNEED) || ioctl(held.fd, UFFDIO_REGISTER, &set))
		return errno;
	return 0;
}

static uint32_t check_stall(const struct wire_stall *s, uint32_t data_length)
{
	if (s->page % PAGE || s->page_length > PAGE || s->page_start > PAGE - s->page_length)
		return WIRE_E_SHAPE;
	if (s->page > WIRE_ARENA - PAGE || s->page_offset > data_length ||
	    s->page_length > data_length - s->page_offset ||
	    s->change_offset > data_length ||
	    s->change_length > data_length - s->change_offset ||
	    s->change > WIRE_ARENA || s->change_length > WIRE_ARENA - s->change)
		return WIRE_E_RANGE;
	/* The thread must not wait for the page that it is to supply. */
	if (s->change < s->page + PAGE && s->change + s->change_length > s->page)
		return WIRE_E_RANGE;
	return 0;
}

/* A program's stalls. */
struct stalls {
	const struct wire_stall *next;
	uint32_t left;
	const unsigned char *data;
};

/* Run op number @i, the next stall's if it is.  Zero, or the errno. */
static int run_op_stalled(struct run *run, uint32_t i, struct stalls *stalls)
{
	bool mine = stalls->left && stalls->next->op == i;
	int error;

	if (mine) {
		error = hold_page(stalls->next, stalls->data);
		if (error)
			return error;
	}
	run_op(run, &run->ops[i], &run->results[i]);
	if (mine) {
		release_page();
		if (__atomic_load_n(&held.stalled, __ATOMIC_SEQ_CST))
			run->results[i].flags |= WIRE_R_STALLED;
		stalls->next++;
		stalls->left--;
	}
	return 0;
}

static void run_program(const struct wire_header *re, const unsigned char *payload,
			size_t length, struct stalls *stalls)
{
	static struct wire_op ops[WIRE_MAX_OPS];
	static struct wire_result results[WIRE_MAX_OPS];
	static struct stream reply, whole;
	struct wire_program program;
	struct run run = { .ops = ops, .results = results, .reply = &reply };
	uint32_t become_op = UINT32_MAX;
	uint32_t deadline;
	size_t head;
	uint32_t i;
	int error;

	if (length < sizeof(program)) {
		refuse(re, WIRE_E_SHAPE, 0);
		return;
	}
	memcpy(&program, payload, sizeof(program));
	head = sizeof(program) + (size_t)program.ops * sizeof(*ops);
	if (program.ops > WIRE_MAX_OPS || head > length ||
	    program.data_length != length - head) {
		refuse(re, WIRE_E_SHAPE, 0);
		return;
	}
	memcpy(ops, payload + sizeof(program), program.ops * sizeof(*ops));
	run.data = payload + head;
	run.data_length = program.data_length;
	for (i = 0; i < program.ops; i++) {
		uint32_t code = check_op(&ops[i], i, program.data_length);

		if (code) {
			refuse(re, code, i);
			return;
		}
	}
	for (i = 0; i < program.ops; i++) {
		/* A child has no thread that could resolve its faults, and no children. */
		if (ops[i].kind != WIRE_OP_BECOME)
			continue;
		if (stalls->left || become_op < program.ops) {
			refuse(re, WIRE_E_SHAPE, i);
			return;
		}
		become_op = i;
	}
	for (i = 0; i < stalls->left; i++) {
		uint32_t op = stalls->next[i].op;

		if (op >= program.ops || ops[op].kind != WIRE_OP_SYSCALL ||
		    (i && op <= stalls->next[i - 1].op)) {
			refuse(re, WIRE_E_SHAPE, i);
			return;
		}
	}
	if (stalls->left) {
		error = open_userfaultfd();
		if (error) {
			refuse(re, WIRE_E_SYSTEM, error);
			return;
		}
	}

	areas.fresh = false;	/* of what was before, nobody has kept account */
	reply.start = 0;
	reply.end = 0;
	deadline = program.deadline_ms;
	for (i = 0; i < program.ops; i++) {
		int before = alarms;

		if (i == become_op) {
			memset(&results[i], 0, sizeof(results[i]));
			error = become(&ops[i]);
			if (error > 0)
				refuse(re, WIRE_E_SYSTEM, error);
			if (error)
				return;
			continue;
		}
		if (deadline)
			arm(deadline);
		error = run_op_stalled(&run, i, stalls);
		if (deadline)
			arm(0);
		if (error) {
			refuse(re, WIRE_E_SYSTEM, error);
			return;
		}
		if (alarms != before) {
			results[i].flags |= WIRE_R_DEADLINE;
			/* Many that block take together no longer than the host waits. */
			if (deadline >= 2 * LEAST_DEADLINE_MS)
				deadline /= 2;
		}
		if (reply.end > WIRE_MAX_PAYLOAD - sizeof(results)) {
			refuse(re, WIRE_E_LENGTH, i);
			return;
		}
	}
	whole.start = 0;
	whole.end = 0;
	stream_add(&whole, results, program.ops * sizeof(*results));
	stream_add(&whole, reply.bytes, reply.end);
	send_frame(re, WIRE_T_RESULT, whole.bytes, whole.end);
}

static void do_program(const struct wire_header *re, const unsigned char *payload)
{
	struct stalls none = { 0 };

	run_program(re, payload, re->length, &none);
	end_peers();
	if (forked)
		_exit(ANSWERED);
}

static void do_stall(const struct wire_header *re, const unsigned char *payload)
{
	static struct wire_stall list[WIRE_MAX_OPS];
	struct wire_stalls head;
	struct stalls stalls;
	size_t listed, whole;
	uint32_t i, code;

	if (re->length < sizeof(head)) {
		refuse(re, WIRE_E_SHAPE, 0);
		return;
	}
	memcpy(&head, payload, sizeof(head));
	listed = sizeof(head) + (size_t)head.stalls * sizeof(*list);
	if (head.stalls > WIRE_MAX_OPS || listed > re->length ||
	    head.data_length > re->length - listed) {
		refuse(re, WIRE_E_SHAPE, 0);
		return;
	}
	memcpy(list, payload + sizeof(head), listed - sizeof(head));
	for (i = 0; i < head.stalls; i++) {
		code = check_stall(&list[i], head.data_length);
		if (code) {
			refuse(re, code, i);
			return;
		}
	}
	stalls = (struct stalls){ .next = list, .left = head.stalls, .data = payload + listed };
	whole = listed + head.data_length;
	run_program(re, payload + whole, re->length - whole, &stalls);
	end_peers();
	if (forked)
		_exit(ANSWERED);
}

/* Sweeps. */

/*
 * What the last call returned, and the quick bytes before and behind it.  From
 * these alone its row was made, if they are known: a call that is like it in
 * them belongs to the same row, and nothing more need be asked.
 */
struct last {
	bool known;
	int64_t ret;
	uint64_t before[2], after[2];
};

struct walk {
	const struct wire_header *re;
	struct wire_sweep s;
	struct wire_dim dim[WIRE_MAX_DIMS];
	struct wire_op ops[2 * WIRE_MAX_AFTER];	/* before, then after */
	struct wire_result results[WIRE_MAX_AFTER + 1];
	struct run run;
	struct stream data;		/* what the after ops read */
	const unsigned char *template;
	bool flips;			/* byte dimension without a bit dimension */

	unsigned char *p;		/* where the struct is */
	size_t extent;			/* bytes of it that are really there */
	unsigned char *window;
	unsigned char *quick;		/* the 16 bytes compared after each call */
	uint64_t usize;
	uint64_t shift;
	uint64_t byte;
	uint64_t args[6];

	struct wire_row row;		/* of the calls since row.first, while it is open */
	bool open;
	struct last last;
	struct stream rows;
	struct wire_done *done;
	sig_atomic_t alarms;		/* before the call */
	uint64_t reported;		/* when progress was last sent, ns */
};

static unsigned char *shadow_of(const unsigned char *p)
{
	return shadow + (p - arena);
}

static void changed(struct walk *w, const unsigned char *p, const unsigned char *at);

/*
 * What a call has written where a new layout goes would not be found any more;
 * what it has written near the struct is told while the struct is still there.
 */
static void check_around(struct walk *w, const unsigned char *from, const unsigned char *to,
			 const unsigned char *p, const unsigned char *end)
{
	const unsigned char *last = w->window + WINDOW;

	if (from > p - NEAR)
		from = p - NEAR < w->window ? w->window : p - NEAR;
	if (to < end + NEAR)
		to = end + NEAR > last ? last : end + NEAR;
	if (vec_differs(from, shadow_of(from), to - from))
		changed(w, p, from);
}

/*
 * Lay the struct out anew.  Only what the last layout and this one differ in
 * is written: a sweep over sizes does this once for each of them.
 */
static void lay_out(struct walk *w)
{
	const struct wire_sweep *s = &w->s;
	unsigned char *old_p = w->p;
	unsigned char *old_end = w->p + w->extent;
	uint64_t extent = w->usize ? w->usize : s->zero_means;
	uint64_t field_end = 0;
	unsigned char *from, *to, *mirror;
	size_t known;
	int i;

	if (s->size_kind == WIRE_SIZE_FIELD)
		field_end = s->size_index + s->size_width;
	if (s->size_kind == WIRE_SIZE_NONE)
		extent = s->template_length;
	if (extent < field_end)
		extent = field_end;
	if (extent > REACH)
		extent = REACH;
	/* One byte short: the last one would lie in the inaccessible page. */
	if (s->place == WIRE_PLACE_SHORT && extent)
		extent--;
	w->extent = extent;

	switch (s->place) {
	case WIRE_PLACE_END:
	case WIRE_PLACE_SHORT:
		w->window = arena + WIRE_ARENA - WINDOW;
		w->p = arena + WIRE_ARENA - extent - w->shift;
		break;
	case WIRE_PLACE_START:
		w->window = arena;
		w->p = arena + w->shift;
		break;
	default:
		w->window = arena;
		w->p = arena + PAGE + w->shift;
		break;
	}
	from = w->window;
	to = w->window + WINDOW;
	if (old_p) {
		from = old_p < w->p ? old_p : w->p;
		to = old_end > w->p + extent ? old_end : w->p + extent;
		check_around(w, from, to, old_p, old_end);
	}
	mirror = shadow_of(w->p);
	known = s->template_length < extent ? s->template_length : extent;
	vec_set(shadow_of(from), CANARY, w->p - from);
	vec_copy(mirror, w->template, known);
	vec_set(mirror + known, 0, extent - known);
	vec_set(mirror + extent, CANARY, to - (w->p + extent));
	if (s->size_kind == WIRE_SIZE_FIELD && s->size_index < extent) {
		known = extent - s->size_index;
		memcpy(mirror + s->size_index, &w->usize,
		       known < s->size_width ? known : s->size_width);
	}
	vec_copy(from, shadow_of(from), to - from);

	/* Where the size is: the one place that the kernel has leave to write. */
	w->quick = w->p;
	if (s->size_kind == WIRE_SIZE_FIELD)
		w->quick += s->size_index & ~7u;
	if (w->quick > w->window + WINDOW - sizeof(vec))
		w->quick = w->window + WINDOW - sizeof(vec);
	for (i = 0; i < 6; i++)
		if (s->call.arg_kind[i] == WIRE_A_ARENA)
			w->args[i] = (uintptr_t)(w->p + s->call.arg[i]);
	if (s->size_kind == WIRE_SIZE_ARG)
		w->args[s->size_index] = w->usize;
	if (s->size_kind == WIRE_SIZE_IOCTL)
		w->args[s->size_index] = s->call.arg[s->size_index] | w->usize << 16;
}

static uint64_t fnv(uint64_t hash, const void *bytes, size_t length)
{
	const unsigned char *b = bytes;

	while (length--) {
		hash ^= *b++;
		hash *= 0x100000001b3ull;
	}
	return hash;
}

static void flush_rows(struct walk *w)
{
	if (w->rows.end)
		send_frame(w->re, WIRE_T_ROWS, w->rows.bytes, w->rows.end);
	w->rows.end = 0;
}

static void report_progress(struct walk *w);

static void add_row(struct walk *w, const struct wire_row *row)
{
	stream_add(&w->rows, row, sizeof(*row));
	w->done->rows++;
	if (w->rows.end >= ROWS_PER_FRAME * sizeof(*row))
		flush_rows(w);
}

/* The open row has no more calls than those that are done. */
static void end_row(struct walk *w)
{
	w->last.known = false;
	if (!w->open)
		return;
	w->open = false;
	w->row.count = w->done->calls - w->row.first;
	add_row(w, &w->row);
}

/*
 * What an accepted call's @after ops give, as one number.  Its own result is
 * results[0] already.
 */
static uint64_t effect(struct run *run, const struct wire_op *after, uint32_t count)
{
	uint64_t hash = 0xcbf29ce484222325ull;
	uint32_t i;

	run->reply->end = 0;
	for (i = 0; i < count; i++) {
		struct wire_result *result = &run->results[i + 1];

		run_op(run, &after[i], result);
		hash = fnv(hash, &result->ret, sizeof(result->ret));
	}
	return fnv(hash, run->reply->bytes, run->reply->end);
}

/* One more call has returned @ret: find its row, and put the quick bytes right. */
static void settle(struct walk *w, int64_t ret)
{
	const struct wire_sweep *s = &w->s;
	const unaligned_u64 *quick = (const unaligned_u64 *)w->quick;
	const unaligned_u64 *should = (const unaligned_u64 *)shadow_of(w->quick);
	struct last last = {
		.ret = ret,
		.before = { should[0], should[1] },
		.after = { quick[0], quick[1] },
	};
	struct wire_row row = { .first = w->done->calls };

	if (fault_signal) {
		row.flags |= WIRE_ROW_SIGNAL;
		row.ret = fault_signal;
		fault_signal = 0;
	} else if (is_error(ret)) {
		row.ret = ret;
		if (ret == -EINTR && alarms != w->alarms)
			row.flags |= WIRE_ROW_DEADLINE;
		last.known = !row.flags;
	} else if (s->after) {
		w->results[0].ret = ret;
		w->results[0].flags = 0;
		row.flags |= WIRE_ROW_EFFECT;
		row.effect = effect(&w->run, &w->ops[s->before], s->after);
	}

	if (last.before[0] != last.after[0] || last.before[1] != last.after[1]) {
		unsigned char *mirror = shadow_of(w->p);

		if (s->size_kind == WIRE_SIZE_FIELD &&
		    s->size_index + s->size_width <= w->extent &&
		    memcmp(w->p + s->size_index, mirror + s->size_index, s->size_width)) {
			row.flags |= WIRE_ROW_WRITTEN;
			memcpy(&row.written, w->p + s->size_index, s->size_width);
			memcpy(w->p + s->size_index, mirror + s->size_index, s->size_width);
		}
		mirror = shadow_of(w->quick);
		if (vec_differs(w->quick, mirror, sizeof(vec))) {
			row.flags |= WIRE_ROW_STRAY;
			vec_copy(w->quick, mirror, sizeof(vec));
		}
	}

	if (!w->open || row.ret != w->row.ret || row.flags != w->row.flags ||
	    row.written != w->row.written || row.effect != w->row.effect) {
		end_row(w);
		w->row = row;
		w->open = true;
	}
	w->last = last;
	w->done->calls++;
	w->alarms = alarms;
}

/* One call at the walk's point. */
static void call_once(struct walk *w)
{
	uint32_t i;

	w->alarms = alarms;
	for (i = 0; i < w->s.before; i++)
		run_op(&w->run, &w->ops[i], &w->results[0]);
	fault_signal = 0;
	settle(w, enter(&w->s.call, w->args));
	/* The host takes silence for a hang, and one loop may be all there is. */
	if (!((uint32_t)w->done->calls % CALLS_BETWEEN_CLOCKS))
		report_progress(w);
}

/* Some byte from @at on is not what it should be: say where, seen from @p, and mend it. */
static void changed(struct walk *w, const unsigned char *p, const unsigned char *at)
{
	struct wire_row row = { .first = w->done->calls, .flags = WIRE_ROW_CANARY };

	while (*at == *shadow_of(at))
		at++;
	row.written = at - p;
	end_row(w);
	add_row(w, &row);
	memcpy(w->window, shadow_of(w->window), WINDOW);
}

static void report_progress(struct walk *w)
{
	if (now() - w->reported >= NSEC) {
		w->reported = now();
		send_frame(w->re, WIRE_T_PROGRESS, w->done, sizeof(*w->done));
	}
}

/* Did any call since the last check write where it should not? */
static void check_canaries(struct walk *w)
{
	if (vec_differs(w->window, shadow_of(w->window), WINDOW))
		changed(w, w->p, w->window);
	report_progress(w);
}

static void flip(struct walk *w, unsigned char bits)
{
	w->p[w->byte] ^= bits;
	shadow_of(w->p)[w->byte] ^= bits;
}

/* Whether the byte at @at is one that each call is looked at by. */
static bool is_quick(const struct walk *w, const unsigned char *at)
{
	return at >= w->quick && at < w->quick + sizeof(vec);
}

/*
 * The innermost dimension, with nothing to be done before a call.  Most calls
 * are refused as the one before was, and cost a few instructions beside the
 * call itself; those take the place of everything in call_once().  The byte
 * that is flipped must not be a quick one.
 */
static void walk_calls(struct walk *w, const struct wire_dim *d, uint64_t stop)
{
	const struct wire_op *call = &w->s.call;
	const bool bits = d->kind == WIRE_DIM_BIT;
	const bool bytes = d->kind == WIRE_DIM_BYTE || d->kind == WIRE_DIM_TAIL;
	unaligned_u64 *quick = (unaligned_u64 *)w->quick;
	const unaligned_u64 *should = (const unaligned_u64 *)shadow_of(w->quick);
	uint64_t *arg = &w->args[d->index];
	uint64_t was = *arg;
	unsigned char *at = w->p + w->byte;
	unsigned char flipped = w->s.flip;
	sig_atomic_t seen = events;
	struct last last = w->last;
	uint64_t *calls = &w->done->calls;
	uint64_t v;

	w->alarms = alarms;
	fault_signal = 0;
	if (last.before[0] != should[0] || last.before[1] != should[1])
		last.known = false;
	for (v = d->start; v < stop; v += d->step) {
		int64_t ret;

		if (bits) {
			flipped = 1u << v;
			*at ^= flipped;
		} else if (bytes) {
			at = w->p + v;
			*at ^= flipped;
		} else {
			*arg = d->kind == WIRE_DIM_ARG ? v : was ^ 1ull << v;
		}
		ret = enter(call, w->args);
		if (!((ret ^ last.ret) | (int64_t)(quick[0] ^ last.after[0]) |
		      (int64_t)(quick[1] ^ last.after[1]) | (events ^ seen)) && last.known) {
			(*calls)++;
			quick[0] = last.before[0];
			quick[1] = last.before[1];
		} else {
			settle(w, ret);
			last = w->last;
			seen = events;
		}
		if (bits || bytes)
			*at ^= flipped;
		if (!((uint32_t)*calls % CALLS_BETWEEN_CLOCKS)) {
			report_progress(w);
			seen = events;
			w->alarms = alarms;
		}
		if (v > UINT64_MAX - d->step)
			break;
	}
	if (d->kind == WIRE_DIM_ARG)
		was = w->s.call.arg[d->index];
	*arg = was;
}

/* Whether walk_calls() may walk this dimension at this point of the outer ones. */
static bool is_plain(const struct walk *w, const struct wire_dim *d, uint64_t stop)
{
	const unsigned char *last = w->quick + sizeof(vec);

	if (w->s.before)
		return false;
	switch (d->kind) {
	case WIRE_DIM_BIT:
		return !is_quick(w, w->p + w->byte);
	case WIRE_DIM_BYTE:
	case WIRE_DIM_TAIL:
		return w->p + d->start >= last || w->p + stop <= w->quick;
	case WIRE_DIM_ARG:
	case WIRE_DIM_ARG_BIT:
		return true;
	}
	return false;
}

static void walk_dims(struct walk *w, unsigned int depth);

static inline void walk_inner(struct walk *w, unsigned int depth)
{
	if (depth + 1 == w->s.dims)
		call_once(w);
	else
		walk_dims(w, depth + 1);
}

static void walk_dims(struct walk *w, unsigned int depth)
{
	const struct wire_dim *d = &w->dim[depth];
	uint64_t stop = d->stop;
	uint64_t v;

	if (d->kind == WIRE_DIM_TAIL) {
		stop = w->s.place == WIRE_PLACE_SHORT ? w->extent : w->usize;
		if (stop > w->extent)
			stop = w->extent;
	}
	if (depth + 1 == w->s.dims && is_plain(w, d, stop)) {
		walk_calls(w, d, stop);
		stop = d->start;
	}
	for (v = d->start; v < stop; v += d->step) {
		switch (d->kind) {
		case WIRE_DIM_USIZE:
			w->usize = v;
			lay_out(w);
			walk_inner(w, depth);
			break;
		case WIRE_DIM_SHIFT:
			w->shift = v;
			lay_out(w);
			walk_inner(w, depth);
			break;
		case WIRE_DIM_BYTE:
		case WIRE_DIM_TAIL:
			w->byte = v;
			if (w->flips)
				flip(w, w->s.flip);
			walk_inner(w, depth);
			if (w->flips)
				flip(w, w->s.flip);
			break;
		case WIRE_DIM_BIT:
			flip(w, 1u << v);
			walk_inner(w, depth);
			flip(w, 1u << v);
			break;
		case WIRE_DIM_ARG_BIT:
			w->args[d->index] ^= 1ull << v;
			walk_inner(w, depth);
			w->args[d->index] ^= 1ull << v;
			break;
		case WIRE_DIM_ARG:
			w->args[d->index] = v;
			walk_inner(w, depth);
			w->args[d->index] = w->s.call.arg[d->index];
			break;
		}
		if (v > UINT64_MAX - d->step)
			break;
	}
	/* The window is large: not behind every eight bits, but behind the bytes. */
	if (depth + 1 == w->s.dims ? d->kind != WIRE_DIM_BIT :
				     w->dim[depth + 1].kind == WIRE_DIM_BIT)
		check_canaries(w);
}

/* Zero, or the refusal's code. */
static uint32_t check_sweep(struct walk *w)
{
	const struct wire_sweep *s = &w->s;
	bool byte = false, bit = false;
	uint32_t i, code;

	code = check_op(&s->call, 0, 0);
	if (code)
		return code;
	if (s->call.kind != WIRE_OP_SYSCALL || s->size_kind > WIRE_SIZE_UNTOLD ||
	    s->place > WIRE_PLACE_SHORT || s->flip > 0xff)
		return WIRE_E_SHAPE;
	if (s->size_kind == WIRE_SIZE_FIELD &&
	    (s->size_width > 8 || s->size_index > REACH - 8))
		return WIRE_E_RANGE;
	if (s->size_kind > WIRE_SIZE_FIELD && s->size_index > 5)
		return WIRE_E_RANGE;
	if (s->template_length > REACH)
		return WIRE_E_RANGE;
	for (i = 0; i < 6; i++)
		if (s->call.arg_kind[i] == WIRE_A_ARENA && s->call.arg[i] > REACH)
			return WIRE_E_RANGE;
	for (i = 0; i < s->dims; i++) {
		const struct wire_dim *d = &w->dim[i];
		uint64_t limit;

		/* One byte is flipped at a time, and the walk remembers one only. */
		if ((byte && (d->kind == WIRE_DIM_BYTE || d->kind == WIRE_DIM_TAIL)) ||
		    (bit && d->kind == WIRE_DIM_BIT))
			return WIRE_E_SHAPE;
		switch (d->kind) {
		case WIRE_DIM_USIZE:
		case WIRE_DIM_ARG:
			limit = UINT64_MAX;
			break;
		case WIRE_DIM_BYTE:
			byte = true;
			limit = REACH;
			break;
		case WIRE_DIM_TAIL:
			/* Its end is the usize, which must be that of a real tail. */
			byte = true;
			limit = UINT64_MAX;
			break;
		case WIRE_DIM_BIT:
			bit = true;
			limit = 8;
			break;
		case WIRE_DIM_ARG_BIT:
			limit = 64;
			break;
		case WIRE_DIM_SHIFT:
			limit = PAGE;
			break;
		default:
			return WIRE_E_SHAPE;
		}
		if (!d->step || d->stop > limit || d->index > 5)
			return WIRE_E_RANGE;
		/* Laying out anew would forget the byte that is flipped. */
		if (byte && (d->kind == WIRE_DIM_USIZE || d->kind == WIRE_DIM_SHIFT))
			return WIRE_E_SHAPE;
		if ((d->kind == WIRE_DIM_ARG || d->kind == WIRE_DIM_ARG_BIT) &&
		    s->call.arg_kind[d->index] != WIRE_A_LITERAL)
			return WIRE_E_SHAPE;
		if (d->kind == WIRE_DIM_BIT && !byte)
			return WIRE_E_SHAPE;
	}
	/* A byte is flipped where the struct lies in the window, whole. */
	if (byte) {
		uint64_t most = s->usize;
		uint64_t reach = 0;

		for (i = 0; i < s->dims; i++) {
			if (w->dim[i].kind == WIRE_DIM_USIZE)
				most = w->dim[i].stop;
			if (w->dim[i].kind == WIRE_DIM_BYTE)
				reach = w->dim[i].stop;
		}
		if (s->place != WIRE_PLACE_END && s->place != WIRE_PLACE_SHORT)
			reach = 0;
		if (most > REACH || reach)
			return WIRE_E_RANGE;
	}
	w->flips = byte && !bit;
	return 0;
}

static void do_sweep(const struct wire_header *re, const unsigned char *payload)
{
	static struct walk walk;
	struct walk *w = &walk;
	struct stream rows = w->rows, data = w->data;
	sigjmp_buf here;
	size_t head;
	uint32_t code = WIRE_E_SHAPE;
	uint32_t count, i = 0;
	int caught, error;

	memset(w, 0, sizeof(*w));
	w->rows = rows;
	w->data = data;
	w->rows.end = 0;
	w->done = done;
	memset(done, 0, sizeof(*done));
	w->re = re;
	if (re->length < sizeof(w->s))
		goto refused;
	memcpy(&w->s, payload, sizeof(w->s));
	if (w->s.dims > WIRE_MAX_DIMS || w->s.before > WIRE_MAX_AFTER ||
	    w->s.after > WIRE_MAX_AFTER)
		goto refused;
	count = w->s.before + w->s.after;
	head = sizeof(w->s) + w->s.dims * sizeof(w->dim[0]) + count * sizeof(w->ops[0]);
	if (head > re->length || w->s.data_length != re->length - head ||
	    w->s.template_length > w->s.data_length ||
	    w->s.data_length - w->s.template_length > WIRE_ARENA - WIRE_SCRATCH_DATA)
		goto refused;
	memcpy(w->dim, payload + sizeof(w->s), w->s.dims * sizeof(w->dim[0]));
	memcpy(w->ops, payload + sizeof(w->s) + w->s.dims * sizeof(w->dim[0]),
	       count * sizeof(w->ops[0]));
	w->template = payload + head;
	w->run.data = payload + head;
	w->run.data_length = w->s.data_length;
	w->run.results = w->results;
	w->run.reply = &w->data;
	code = check_sweep(w);
	if (code)
		goto refused;
	for (i = 0; i < count; i++) {
		/* An op before the call has no result to use. */
		code = check_op(&w->ops[i], i < w->s.before ? 0 : i - w->s.before + 1,
				w->s.data_length);
		if (!code && !in_a_loop(&w->ops[i]))
			code = WIRE_E_SHAPE;
		if (code)
			goto refused;
	}

	memcpy(w->args, w->s.call.arg, sizeof(w->args));
	for (i = 0; i < 6; i++)
		if (w->s.call.arg_kind[i] == WIRE_A_SCRATCH)
			w->args[i] = (uintptr_t)address(WIRE_A_SCRATCH, w->s.call.arg[i]);
	w->usize = w->s.usize;
	reset_area(arena);
	reset_area(scratch);
	memcpy(scratch + WIRE_SCRATCH_DATA, w->template + w->s.template_length,
	       w->s.data_length - w->s.template_length);
	lay_out(w);
	w->done->nanoseconds = now();
	w->reported = w->done->nanoseconds;
	error = watch_calls(w->s.deadline_ms);
	if (error) {
		refuse(re, WIRE_E_SYSTEM, error);
		return;
	}
	caught = sigsetjmp(here, 0);
	if (!caught) {
		fault_target = &here;
		if (w->s.dims) {
			walk_dims(w, 0);
		} else {
			call_once(w);
			check_canaries(w);
		}
	} else {
		struct wire_row row = {
			.first = w->done->calls,
			.count = 1,
			.ret = caught,
			.flags = WIRE_ROW_SIGNAL,
		};

		end_row(w);
		add_row(w, &row);
		w->done->calls++;
	}
	fault_target = NULL;
	watch_nothing();
	end_row(w);
	flush_rows(w);
	w->done->nanoseconds = now() - w->done->nanoseconds;
	send_frame(re, WIRE_T_DONE, w->done, sizeof(*w->done));
	return;
refused:
	refuse(re, code, i);
}

static void do_loop(const struct wire_header *re, const unsigned char *payload)
{
	struct wire_loop loop;
	struct wire_done done = { 0 };
	unsigned char *poke;
	uint64_t args[6];
	uint64_t i;

	if (re->length != sizeof(loop)) {
		refuse(re, WIRE_E_SHAPE, 0);
		return;
	}
	memcpy(&loop, payload, sizeof(loop));
	if (check_op(&loop.call, 0, 0) || loop.call.kind != WIRE_OP_SYSCALL) {
		refuse(re, WIRE_E_SHAPE, 0);
		return;
	}
	if ((loop.poke_width != 0 && loop.poke_width != 4) || loop.poke_offset > WIRE_ARENA - 8) {
		refuse(re, WIRE_E_RANGE, 0);
		return;
	}
	poke = arena + loop.poke_offset;
	resolve(&loop.call, NULL, args);
	done.calls = loop.count;
	done.nanoseconds = now();
	for (i = 0; i < loop.count; i++) {
		raw_native(loop.call.nr, args);
		if (loop.poke_width == 4)
			*(volatile unaligned_u32 *)poke = loop.poke;
	}
	done.nanoseconds = now() - done.nanoseconds;
	send_frame(re, WIRE_T_DONE, &done, sizeof(done));
}

/* A race: two values in turn, by a second thread, while a call is made. */

static struct {
	int start[2], stopped[2];	/* pipes to the thread and back: a byte each time */
	bool running;			/* the thread is there */
	bool stop;
	bool alone;			/* there is one CPU: nothing runs beside us */
	unsigned char *at;
	uint32_t width;			/* bytes */
	uint64_t value[2];
} flipped;

/* One instruction, so that a reader gets the one value or the other. */
static void store(unsigned char *at, uint32_t width, uint64_t value)
{
	switch (width) {
	case 1:
		*(volatile unsigned char *)at = value;
		break;
	case 2:
		*(volatile unaligned_u16 *)at = value;
		break;
	case 4:
		*(volatile unaligned_u32 *)at = value;
		break;
	case 8:
		*(volatile unaligned_u64 *)at = value;
		break;
	}
}

static bool pass_byte(int fd)
{
	return write(fd, "", 1) == 1;
}

static bool take_byte(int fd)
{
	char byte;
	ssize_t n;

	do {
		n = read(fd, &byte, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1;
}

static void *flip_in_turn(void *unused)
{
	unsigned int turn = 0;

	(void)unused;
	while (take_byte(flipped.start[0])) {
		while (!__atomic_load_n(&flipped.stop, __ATOMIC_ACQUIRE)) {
			store(flipped.at, flipped.width, flipped.value[turn ^= 1]);
			if (flipped.alone)
				sched_yield();
		}
		if (!pass_byte(flipped.stopped[1]))
			break;
	}
	return NULL;
}

/* Zero, or the errno. */
static int start_flipping(void)
{
	int error;

	if (!flipped.running) {
		if (pipe2(flipped.start, O_CLOEXEC) || pipe2(flipped.stopped, O_CLOEXEC))
			return errno;
		error = start_thread(flip_in_turn);
		if (error)
			return error;
		flipped.running = true;
		flipped.alone = sysconf(_SC_NPROCESSORS_ONLN) == 1;
	}
	__atomic_store_n(&flipped.stop, false, __ATOMIC_RELEASE);
	return pass_byte(flipped.start[1]) ? 0 : errno;
}

static void stop_flipping(void)
{
	__atomic_store_n(&flipped.stop, true, __ATOMIC_RELEASE);
	take_byte(flipped.stopped[0]);
}

/* Zero, or the refusal's code. */
static uint32_t check_race(const struct wire_race *r, const struct wire_op *ops)
{
	uint32_t i, code;

	code = check_op(&r->call, 0, 0);
	if (!code && r->call.kind != WIRE_OP_SYSCALL)
		code = WIRE_E_SHAPE;
	if (!code && ((r->width != 1 && r->width != 2 && r->width != 4 && r->width != 8) ||
		      (r->poke_width != 0 && r->poke_width != 4)))
		code = WIRE_E_SHAPE;
	if (!code && (r->at > WIRE_ARENA - 8 || r->poke_offset > WIRE_ARENA - 8))
		code = WIRE_E_RANGE;
	for (i = 0; !code && i < r->after; i++) {
		code = check_op(&ops[i], i + 1, 0);
		if (!code && !in_a_loop(&ops[i]))
			code = WIRE_E_SHAPE;
	}
	return code;
}

static void race(const struct wire_header *re, const struct wire_race *r,
		 const struct wire_op *ops, struct wire_done *done, struct wire_row *rows)
{
	static struct wire_result results[WIRE_MAX_AFTER + 1];
	static struct stream data;
	struct run run = { .data = (const unsigned char *)ops, .results = results, .reply = &data };
	unsigned int late = 0;
	uint64_t reported = now();
	uint64_t args[6];
	uint64_t call, i;

	resolve(&r->call, NULL, args);
	for (call = 0; call < r->count; call++) {
		struct wire_row row = { .first = call, .count = 1 };
		int before = alarms;
		int64_t ret;

		if (call % CALLS_BETWEEN_CLOCKS == 0 && now() - reported >= NSEC) {
			reported = now();
			send_frame(re, WIRE_T_PROGRESS, done, sizeof(*done));
		}
		store(arena + r->poke_offset, r->poke_width, r->poke);
		if (flipped.alone)
			sched_yield();
		fault_signal = 0;
		ret = enter(&r->call, args);
		if (fault_signal) {
			row.flags |= WIRE_ROW_SIGNAL;
			row.ret = fault_signal;
		} else if (is_error(ret)) {
			row.ret = ret;
			if (ret == -EINTR && alarms != before)
				row.flags |= WIRE_ROW_DEADLINE;
		} else if (r->after) {
			results[0] = (struct wire_result){ .ret = ret };
			row.flags |= WIRE_ROW_EFFECT;
			row.effect = effect(&run, ops, r->after);
		}
		late += alarms != before;
		if (late == MOST_LATE)
			row.flags |= WIRE_ROW_DEADLINE;
		done->calls++;
		for (i = 0; i < done->rows; i++)
			if (rows[i].ret == row.ret && rows[i].flags == row.flags &&
			    rows[i].effect == row.effect)
				break;
		if (i < done->rows)
			rows[i].count++;
		else
			rows[done->rows++] = row;
		/* Outcomes beyond the table: as many rows of one call, and no more calls. */
		if (done->rows == WIRE_MAX_OUTCOMES || late == MOST_LATE)
			return;
	}
}

static void do_race(const struct wire_header *re, const unsigned char *payload)
{
	static struct wire_row rows[WIRE_MAX_OUTCOMES];
	struct wire_op ops[WIRE_MAX_AFTER];
	struct wire_race r;
	sigjmp_buf here;
	uint32_t code;
	int error;

	if (re->length < sizeof(r)) {
		refuse(re, WIRE_E_SHAPE, 0);
		return;
	}
	memcpy(&r, payload, sizeof(r));
	if (r.after > WIRE_MAX_AFTER || re->length != sizeof(r) + r.after * sizeof(ops[0])) {
		refuse(re, WIRE_E_SHAPE, 0);
		return;
	}
	memcpy(ops, payload + sizeof(r), r.after * sizeof(ops[0]));
	code = check_race(&r, ops);
	if (code) {
		refuse(re, code, 0);
		return;
	}
	/* What the second thread may not write to would end it: better before. */
	if (sigsetjmp(here, 0)) {
		fault_target = NULL;
		refuse(re, WIRE_E_SYSTEM, EFAULT);
		return;
	}
	fault_target = &here;
	store(arena + r.at, r.width, r.value[0]);
	store(arena + r.poke_offset, r.poke_width, r.poke);
	fault_target = NULL;

	flipped.at = arena + r.at;
	flipped.width = r.width;
	memcpy(flipped.value, r.value, sizeof(flipped.value));
	error = start_flipping();
	if (error) {
		refuse(re, WIRE_E_SYSTEM, error);
		return;
	}
	memset(done, 0, sizeof(*done));
	done->nanoseconds = now();
	error = watch_calls(r.deadline_ms);
	if (!error)
		race(re, &r, ops, done, rows);
	watch_nothing();
	done->nanoseconds = now() - done->nanoseconds;
	stop_flipping();
	if (error) {
		refuse(re, WIRE_E_SYSTEM, error);
		return;
	}
	send_frame(re, WIRE_T_ROWS, rows, done->rows * sizeof(rows[0]));
	send_frame(re, WIRE_T_DONE, done, sizeof(*done));
}

/* A call as others see it: a child of ours makes it. */

enum phase { BEFORE, DURING, AFTER };

/* What the child says of itself: shared with it, since a filter may forbid a pipe. */
struct report {
	enum phase phase;
	int error;			/* that it was to be watched failed with this */
	int signal;
	int64_t ret;
};

static void child(const struct wire_outside *o, const uint64_t *args,
		  struct sock_filter *filter, volatile struct report *report)
{
	struct sock_fprog program = {
		.len = o->filter_length / sizeof(*filter),
		.filter = filter,
	};
	int64_t ret;

	*own = 1;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (o->trace && ptrace(PTRACE_TRACEME, 0, NULL, NULL)) {
		report->error = errno;
		_exit(0);
	}
	if (o->trace)
		kill(getpid(), SIGSTOP);
	if (o->filter_length &&
	    (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	     prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))) {
		report->error = errno;
		_exit(0);
	}
	fault_signal = 0;
	report->phase = DURING;
	ret = enter(&o->call, args);
	report->ret = ret;
	report->signal = fault_signal;
	report->phase = AFTER;
	_exit(0);
}

/* Follow the child to its end; its stops during the call are kept. */
static void follow(pid_t pid, const volatile struct report *report, struct wire_seen *seen,
		  struct wire_stop *stops)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
	bool traced = false;
	int before = alarms;
	int status;

	for (;;) {
		int sig = 0;

		if (alarms != before) {
			seen->flags |= WIRE_R_DEADLINE;
			kill(pid, SIGKILL);
		}
		if (waitpid(pid, &status, 0) != pid) {
			if (errno == EINTR)
				continue;
			return;
		}
		if (!WIFSTOPPED(status))
			break;
		if (!traced) {
			/* The SIGSTOP that it sent itself. */
			ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)options);
			traced = true;
		} else if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
			sig = WSTOPSIG(status);
		} else if (report->phase == DURING && seen->stops < WIRE_MAX_STOPS) {
			struct wire_stop *stop = &stops[seen->stops++];
			long length = ptrace(PTRACE_GET_SYSCALL_INFO, pid,
					     (void *)sizeof(stop->info), stop->info);

			stop->length = length < 0 ? 0 : length;
		}
		ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(long)sig);
	}
	seen->status = status;
}

static void do_outside(const struct wire_header *re, const unsigned char *payload)
{
	static struct sock_filter filter[WIRE_MAX_PAYLOAD / sizeof(struct sock_filter)];
	static struct wire_stop stops[WIRE_MAX_STOPS];
	static struct stream whole;
	struct wire_outside o;
	struct wire_seen seen = { 0 };
	struct report *report;
	uint32_t code;
	int error = 0;
	pid_t pid;

	if (re->length < sizeof(o)) {
		refuse(re, WIRE_E_SHAPE, 0);
		return;
	}
	memcpy(&o, payload, sizeof(o));
	if (o.trace > 1 || o.filter_length != re->length - sizeof(o) ||
	    o.filter_length % sizeof(filter[0]) ||
	    o.filter_length / sizeof(filter[0]) > BPF_MAXINSNS) {
		refuse(re, WIRE_E_SHAPE, 0);
		return;
	}
	code = check_op(&o.call, 0, 0);
	if (!code && o.call.kind != WIRE_OP_SYSCALL)
		code = WIRE_E_SHAPE;
	if (code) {
		refuse(re, code, 0);
		return;
	}
	memcpy(filter, payload + sizeof(o), o.filter_length);
	memset(stops, 0, sizeof(stops));
	report = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (report == MAP_FAILED) {
		refuse(re, WIRE_E_SYSTEM, errno);
		return;
	}
	resolve(&o.call, NULL, seen.arg);
	pid = fork();
	if (pid == 0)
		child(&o, seen.arg, filter, report);
	if (pid > 0) {
		if (o.deadline_ms)
			arm(o.deadline_ms);
		follow(pid, report, &seen, stops);
		arm(0);
		error = report->error;
	} else {
		error = errno;
	}
	if (report->phase == AFTER) {
		seen.ret = report->ret;
		if (report->signal) {
			seen.flags |= WIRE_R_SIGNAL;
			seen.ret = report->signal;
		}
	} else {
		seen.flags |= WIRE_R_ENDED;
	}
	munmap(report, PAGE);
	if (error) {
		refuse(re, WIRE_E_SYSTEM, error);
		return;
	}
	whole.start = 0;
	whole.end = 0;
	stream_add(&whole, &seen, sizeof(seen));
	stream_add(&whole, stops, seen.stops * sizeof(stops[0]));
	send_frame(re, WIRE_T_SEEN, whole.bytes, whole.end);
}

int main(int argc, char **argv)
{
	static unsigned char alternate[65536];
	static struct stream in;
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof(alternate) };
	struct wire_header header = { 0 };
	struct wire_refusal junk;
	const unsigned char *payload;

	if (argc != 2) {
		fprintf(stderr, "usage: caller FD\n");
		return 2;
	}
	wire_fd = atoi(argv[1]);
	fcntl(wire_fd, F_SETFD, FD_CLOEXEC);
	sigaltstack(&stack, NULL);
	set_handler(SIGSEGV, on_fault);
	set_handler(SIGBUS, on_fault);
	set_handler(SIGILL, on_fault);
	set_handler(SIGFPE, on_fault);
	set_handler(SIGSYS, on_sigsys);
	set_handler(SIGALRM, on_alarm);
	signal(SIGPIPE, SIG_IGN);
	watch = map_shared(sizeof(*watch));
	done = &watch->done;
	own = map_own();
	arena = map_area(WIRE_ARENA_AT);
	scratch = map_area(WIRE_SCRATCH_AT);
	reset_area(arena);
	reset_area(scratch);

	for (;;) {
		switch (stream_take(&in, &header, &payload, &junk)) {
		case STREAM_MORE:
			if (!stream_fill(&in, wire_fd))
				return 0;
			break;
		case STREAM_JUNK:
			/* Whose request it was meant to be, nobody knows. */
			memset(&header, 0, sizeof(header));
			send_frame(&header, WIRE_T_REFUSED, &junk, sizeof(junk));
			break;
		case STREAM_FRAME:
			if (header.type == WIRE_T_PROGRAM)
				do_program(&header, payload);
			else if (header.type == WIRE_T_SWEEP)
				do_sweep(&header, payload);
			else if (header.type == WIRE_T_LOOP)
				do_loop(&header, payload);
			else if (header.type == WIRE_T_STALL)
				do_stall(&header, payload);
			else if (header.type == WIRE_T_RACE)
				do_race(&header, payload);
			else if (header.type == WIRE_T_OUTSIDE)
				do_outside(&header, payload);
			else
				refuse(&header, WIRE_E_TYPE, header.type);
			break;
		}
	}
}
