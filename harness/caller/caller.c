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
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

#include "stream.h"

int64_t raw_native(uint64_t nr, const uint64_t arg[6]);
int64_t raw_int80(uint64_t nr, const uint64_t arg[6]);

#define PAGE 4096
#define CANARY 0xa5
/* The most bytes of a struct that are really there, however large its size. */
#define REACH 12288
/* The part of the arena that a sweep lays out: a page, REACH, a page. */
#define WINDOW (PAGE + REACH + PAGE)
#define MAX_ERRNO 4095
#ifdef MAP_32BIT
#define LOW MAP_32BIT
#else
#define LOW 0
#endif
#define ROWS_PER_FRAME 2048
#define NSEC 1000000000ull

_Static_assert(sizeof(struct wire_header) == 16, "wire_header");
_Static_assert(sizeof(struct wire_op) == 96, "wire_op");
_Static_assert(sizeof(struct wire_result) == 16, "wire_result");
_Static_assert(sizeof(struct wire_dim) == 32, "wire_dim");
_Static_assert(sizeof(struct wire_sweep) == 152, "wire_sweep");
_Static_assert(sizeof(struct wire_row) == 48, "wire_row");
_Static_assert(sizeof(struct wire_loop) == 120, "wire_loop");

static unsigned char *arena;
static unsigned char *scratch;
static unsigned char shadow[WIRE_ARENA];	/* what the arena should hold */

static int wire_fd;
static struct stream out;

static sigjmp_buf *volatile fault_target;	/* where a fault of ours goes on */
static volatile sig_atomic_t fault_signal;
static volatile sig_atomic_t alarms;

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
}

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
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

static void arm(uint32_t milliseconds, bool repeat)
{
	struct itimerval timer = { 0 };

	timer.it_value.tv_sec = milliseconds / 1000;
	timer.it_value.tv_usec = milliseconds % 1000 * 1000;
	if (repeat)
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
 * An area between two inaccessible pages.  Below 4 GiB also as m64, so that an
 * address in it survives the 32-bit entry.
 */
static unsigned char *map_area(void)
{
	unsigned char *area = mmap(NULL, WIRE_ARENA + 2 * PAGE, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | LOW, -1, 0);

	if (area == MAP_FAILED)
		_exit(121);
	return area + PAGE;
}

static void reset_area(unsigned char *area)
{
	if (mmap(area - PAGE, WIRE_ARENA + 2 * PAGE, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    mmap(area, WIRE_ARENA, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		_exit(121);
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

/* Programs. */

struct run {
	const struct wire_op *ops;
	const unsigned char *data;
	uint32_t data_length;
	struct wire_result *results;	/* of ops, or of a sweep's call and after */
	struct stream *reply;		/* what READ ops gave */
};

static unsigned char *address(uint32_t kind, uint64_t value)
{
	return (kind == WIRE_A_SCRATCH ? scratch : arena) + (size_t)value;
}

/* Memory ops name their area by arg_kind[0] and must stay inside it. */
static bool inside(const struct wire_op *op, uint64_t length)
{
	return (op->arg_kind[0] == WIRE_A_ARENA || op->arg_kind[0] == WIRE_A_SCRATCH) &&
	       length <= WIRE_ARENA && op->arg[0] <= WIRE_ARENA - length;
}

/* Zero, or the refusal's code. */
static uint32_t check_op(const struct wire_op *op, uint32_t index, uint32_t data_length)
{
	int i;

	if (op->data_offset > data_length || op->data_length > data_length - op->data_offset)
		return WIRE_E_RANGE;
	switch (op->kind) {
	case WIRE_OP_SYSCALL:
		if (op->entry > WIRE_ENTRY_INT80)
			return WIRE_E_SHAPE;
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
	}
	return WIRE_E_SHAPE;
}

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
			if (r->flags || is_error(r->ret))
				return false;
			args[i] = r->ret;
			break;
		}
	}
	return true;
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
		fault_signal = 0;
		if (op->entry == WIRE_ENTRY_INT80)
			result->ret = raw_int80(op->nr, args);
		else
			result->ret = raw_native(op->nr, args);
		if (fault_signal) {
			result->flags = WIRE_R_SIGNAL;
			result->ret = fault_signal;
		}
		break;
	case WIRE_OP_WRITE:
		memcpy(address(op->arg_kind[0], op->arg[0]), run->data + op->data_offset,
		       op->data_length);
		break;
	case WIRE_OP_READ:
		stream_add(run->reply, address(op->arg_kind[0], op->arg[0]), op->arg[1]);
		result->data_length = op->arg[1];
		break;
	case WIRE_OP_FILL:
		memset(address(op->arg_kind[0], op->arg[0]), op->arg[2], op->arg[1]);
		break;
	case WIRE_OP_RESET:
		reset_area(arena);
		reset_area(scratch);
		break;
	}
	fault_target = outer;
}

static void do_program(const struct wire_header *re, const unsigned char *payload)
{
	static struct wire_op ops[WIRE_MAX_OPS];
	static struct wire_result results[WIRE_MAX_OPS];
	static struct stream reply, whole;
	struct wire_program program;
	struct run run = { .ops = ops, .results = results, .reply = &reply };
	size_t head;
	uint32_t i;

	if (re->length < sizeof(program)) {
		refuse(re, WIRE_E_SHAPE, 0);
		return;
	}
	memcpy(&program, payload, sizeof(program));
	head = sizeof(program) + (size_t)program.ops * sizeof(*ops);
	if (program.ops > WIRE_MAX_OPS || head > re->length ||
	    program.data_length != re->length - head) {
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

	reply.start = 0;
	reply.end = 0;
	for (i = 0; i < program.ops; i++) {
		int before = alarms;

		if (program.deadline_ms)
			arm(program.deadline_ms, true);
		run_op(&run, &ops[i], &results[i]);
		if (program.deadline_ms)
			arm(0, false);
		if (alarms != before)
			results[i].flags |= WIRE_R_DEADLINE;
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

/* Sweeps. */

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

	struct wire_row row;
	struct stream rows;
	struct wire_done done;
	uint64_t reported;		/* when progress was last sent, ns */
};

static unsigned char *shadow_of(const unsigned char *p)
{
	return shadow + (p - arena);
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
	uint64_t extent = w->usize;
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

static void end_row(struct walk *w)
{
	if (!w->row.count && !(w->row.flags & WIRE_ROW_CANARY))
		return;
	stream_add(&w->rows, &w->row, sizeof(w->row));
	w->done.rows++;
	w->row.count = 0;
	w->row.flags = 0;
	if (w->rows.end >= ROWS_PER_FRAME * sizeof(w->row))
		flush_rows(w);
}

/* One call at the walk's point. */
static void call_once(struct walk *w)
{
	const struct wire_sweep *s = &w->s;
	int before = alarms;
	struct wire_row row;
	bool changed;
	int64_t ret;
	uint32_t i;

	for (i = 0; i < s->before; i++)
		run_op(&w->run, &w->ops[i], &w->results[0]);
	fault_signal = 0;
	if (s->call.entry == WIRE_ENTRY_INT80)
		ret = raw_int80(s->call.nr, w->args);
	else
		ret = raw_native(s->call.nr, w->args);

	/* Nearly every call of a sweep is refused as the one before it was. */
	changed = vec_differs(w->quick, shadow_of(w->quick), sizeof(vec));
	if (!changed && w->row.count && ret == w->row.ret && is_error(ret) &&
	    !w->row.flags && !fault_signal && alarms == before) {
		w->row.count++;
		w->done.calls++;
		return;
	}

	row = (struct wire_row){ .first = w->done.calls, .count = 1 };
	if (fault_signal) {
		row.flags |= WIRE_ROW_SIGNAL;
		row.ret = fault_signal;
	} else if (is_error(ret)) {
		row.ret = ret;
		if (ret == -EINTR && alarms != before)
			row.flags |= WIRE_ROW_DEADLINE;
	} else if (s->after) {
		w->results[0].ret = ret;
		w->results[0].flags = 0;
		w->data.end = 0;
		row.flags |= WIRE_ROW_EFFECT;
		row.effect = 0xcbf29ce484222325ull;
		for (i = 0; i < s->after; i++) {
			run_op(&w->run, &w->ops[s->before + i], &w->results[i + 1]);
			row.effect = fnv(row.effect, &w->results[i + 1].ret,
					 sizeof(w->results[i + 1].ret));
		}
		row.effect = fnv(row.effect, w->data.bytes, w->data.end);
	}
	w->done.calls++;

	if (changed) {
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

	if (w->row.count && row.ret == w->row.ret && row.flags == w->row.flags &&
	    row.written == w->row.written && row.effect == w->row.effect) {
		w->row.count++;
		return;
	}
	end_row(w);
	w->row = row;
}

/* Did any call since the last check write where it should not? */
static void check_canaries(struct walk *w)
{
	unsigned char *mirror = shadow_of(w->window);
	uint64_t at = 0;

	if (vec_differs(w->window, mirror, WINDOW)) {
		while (w->window[at] == mirror[at])
			at++;
		end_row(w);
		w->row = (struct wire_row){
			.first = w->done.calls,
			.flags = WIRE_ROW_CANARY,
			.written = w->window + at - w->p,
		};
		end_row(w);
		memcpy(w->window, mirror, WINDOW);
	}
	if (now() - w->reported >= NSEC) {
		w->reported = now();
		send_frame(w->re, WIRE_T_PROGRESS, &w->done, sizeof(w->done));
	}
}

static void flip(struct walk *w, unsigned char bits)
{
	w->p[w->byte] ^= bits;
	shadow_of(w->p)[w->byte] ^= bits;
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

	if (d->kind == WIRE_DIM_TAIL)
		stop = w->s.place == WIRE_PLACE_SHORT ? w->extent : w->usize;
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
	if (s->call.kind != WIRE_OP_SYSCALL || s->size_kind > WIRE_SIZE_IOCTL ||
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
		if (d->kind == WIRE_DIM_ARG && s->call.arg_kind[d->index] != WIRE_A_LITERAL)
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
		if (most > REACH || (s->place >= WIRE_PLACE_END && reach))
			return WIRE_E_RANGE;
	}
	w->flips = byte && !bit;
	return 0;
}

static void do_sweep(const struct wire_header *re, const unsigned char *payload)
{
	static struct walk w;
	struct stream rows = w.rows, data = w.data;
	sigjmp_buf here;
	size_t head;
	uint32_t code = WIRE_E_SHAPE;
	uint32_t count, i = 0;
	int caught;

	memset(&w, 0, sizeof(w));
	w.rows = rows;
	w.data = data;
	w.rows.end = 0;
	w.re = re;
	if (re->length < sizeof(w.s))
		goto refused;
	memcpy(&w.s, payload, sizeof(w.s));
	if (w.s.dims > WIRE_MAX_DIMS || w.s.before > WIRE_MAX_AFTER ||
	    w.s.after > WIRE_MAX_AFTER)
		goto refused;
	count = w.s.before + w.s.after;
	head = sizeof(w.s) + w.s.dims * sizeof(w.dim[0]) + count * sizeof(w.ops[0]);
	if (head > re->length || w.s.data_length != re->length - head ||
	    w.s.template_length > w.s.data_length ||
	    w.s.data_length - w.s.template_length > WIRE_ARENA - WIRE_SCRATCH_DATA)
		goto refused;
	memcpy(w.dim, payload + sizeof(w.s), w.s.dims * sizeof(w.dim[0]));
	memcpy(w.ops, payload + sizeof(w.s) + w.s.dims * sizeof(w.dim[0]),
	       count * sizeof(w.ops[0]));
	w.template = payload + head;
	w.run.data = payload + head;
	w.run.data_length = w.s.data_length;
	w.run.results = w.results;
	w.run.reply = &w.data;
	code = check_sweep(&w);
	if (code)
		goto refused;
	for (i = 0; i < count; i++) {
		/* An op before the call has no result to use. */
		code = check_op(&w.ops[i], i < w.s.before ? 0 : i - w.s.before + 1,
				w.s.data_length);
		if (!code && w.ops[i].kind == WIRE_OP_RESET)
			code = WIRE_E_SHAPE;
		if (code)
			goto refused;
	}

	memcpy(w.args, w.s.call.arg, sizeof(w.args));
	for (i = 0; i < 6; i++)
		if (w.s.call.arg_kind[i] == WIRE_A_SCRATCH)
			w.args[i] = (uintptr_t)address(WIRE_A_SCRATCH, w.s.call.arg[i]);
	w.usize = w.s.usize;
	reset_area(arena);
	reset_area(scratch);
	memcpy(scratch + WIRE_SCRATCH_DATA, w.template + w.s.template_length,
	       w.s.data_length - w.s.template_length);
	lay_out(&w);
	w.done.nanoseconds = now();
	w.reported = w.done.nanoseconds;
	if (w.s.deadline_ms)
		arm(w.s.deadline_ms, true);
	caught = sigsetjmp(here, 0);
	if (!caught) {
		fault_target = &here;
		if (w.s.dims) {
			walk_dims(&w, 0);
		} else {
			call_once(&w);
			check_canaries(&w);
		}
	} else {
		end_row(&w);
		w.row = (struct wire_row){
			.first = w.done.calls,
			.count = 1,
			.ret = caught,
			.flags = WIRE_ROW_SIGNAL,
		};
	}
	fault_target = NULL;
	arm(0, false);
	end_row(&w);
	flush_rows(&w);
	w.done.nanoseconds = now() - w.done.nanoseconds;
	send_frame(re, WIRE_T_DONE, &w.done, sizeof(w.done));
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
			*(volatile uint32_t *)poke = loop.poke;
	}
	done.nanoseconds = now() - done.nanoseconds;
	send_frame(re, WIRE_T_DONE, &done, sizeof(done));
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
	arena = map_area();
	scratch = map_area();
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
			else
				refuse(&header, WIRE_E_TYPE, header.type);
			break;
		}
	}
}
