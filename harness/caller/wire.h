/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wire.h - what travels between the host and the programs in the guest
 *
 * The one definition of the format: the agent and the three callers include
 * this file, and the cffi module that Python uses is made from it.  So it is
 * written for two readers, a C compiler and cffi's parser: fixed-width types,
 * plain #define's, no expressions.
 *
 * Every 64-bit field lies at a multiple of eight bytes and every struct is a
 * multiple of eight bytes long.  i386 aligns a uint64_t to four bytes only, so
 * nothing less would give the three ABIs one layout.  All values are little
 * endian, as x86 is.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdint.h>

#define WIRE_MAGIC 0x53595358
#define WIRE_VERSION 1
/* The longest payload, in bytes.  A longer one is refused, not allocated. */
#define WIRE_MAX_PAYLOAD 262144

/* Before each payload.  Replies carry their request's channel and seq. */
struct wire_header {
	uint32_t magic;		/* WIRE_MAGIC */
	uint32_t length;	/* of the payload that follows, in bytes */
	uint16_t type;		/* WIRE_T_* */
	uint16_t channel;	/* 0: the agent; 1 to WIRE_CHANNELS - 1: a caller */
	uint32_t seq;		/* the request's own number */
};

#define WIRE_CHANNELS 8

/* Agent, from the host. */
#define WIRE_T_START 1		/* text: path of the program for this channel */
#define WIRE_T_STOP 2		/* kill this channel's program */
#define WIRE_T_EXEC 3		/* argv, each string with its NUL */
#define WIRE_T_EXEC_KILL 4	/* end the program that WIRE_T_EXEC runs */
#define WIRE_T_MARK 5		/* text for the kernel's log */
#define WIRE_T_READ 6		/* text: path; answered with WIRE_T_DATA */
#define WIRE_T_WRITE 7		/* path, NUL, bytes for the file */
#define WIRE_T_DMESG 8		/* answered with WIRE_T_DATA */
#define WIRE_T_HALT 9		/* reboot, which ends QEMU */

/* Agent, to the host. */
#define WIRE_T_HELLO 32		/* struct wire_hello, once, unasked */
#define WIRE_T_OK 33		/* done; payload empty */
#define WIRE_T_DATA 34
#define WIRE_T_GONE 35		/* struct wire_gone: a caller ended */
#define WIRE_T_OUTPUT 36	/* what the executed program printed */
#define WIRE_T_EXIT 37		/* struct wire_gone: the executed program ended */

/* Caller, from the host. */
#define WIRE_T_PROGRAM 64	/* struct wire_program, ops, data */
#define WIRE_T_SWEEP 65		/* struct wire_sweep, dims, ops, data */
#define WIRE_T_LOOP 66		/* struct wire_loop: the bare loop, for comparison */
#define WIRE_T_STALL 67		/* struct wire_stalls, wire_stall's, data, a program */
#define WIRE_T_RACE 68		/* struct wire_race, ops */
#define WIRE_T_OUTSIDE 69	/* struct wire_outside, data */

/* Caller, to the host. */
#define WIRE_T_RESULT 96	/* struct wire_result for each op, then data */
#define WIRE_T_ROWS 97		/* struct wire_row's, more follow */
#define WIRE_T_PROGRESS 98	/* struct wire_done, more follow */
#define WIRE_T_DONE 99		/* struct wire_done, the sweep's end */
#define WIRE_T_SEEN 100		/* struct wire_seen, wire_stop's */

/* Anybody: the frame was refused.  struct wire_refusal. */
#define WIRE_T_REFUSED 127

#define WIRE_E_MAGIC 1		/* bytes that are no frame were passed over */
#define WIRE_E_LENGTH 2		/* payload longer than WIRE_MAX_PAYLOAD */
#define WIRE_E_TYPE 3		/* unknown type for this receiver */
#define WIRE_E_SHAPE 4		/* the payload is not what its type says */
#define WIRE_E_RANGE 5		/* an offset or a length outside its area */
#define WIRE_E_CHANNEL 6	/* no such channel, or nothing started on it */
#define WIRE_E_SYSTEM 7		/* a system call of our own failed: value is errno */

struct wire_refusal {
	uint32_t code;		/* WIRE_E_* */
	uint32_t value;		/* errno, bytes passed over, or an op's index */
};

struct wire_hello {
	uint32_t version;	/* WIRE_VERSION */
	uint32_t pid;
	uint32_t cpus;
	uint32_t page_size;	/* bytes */
	char hypervisor[16];	/* CPUID 0x40000000's signature, NUL padded */
	char release[64];	/* uname -r, NUL padded */
};

struct wire_gone {
	uint32_t pid;
	uint32_t status;	/* as waitpid() gives it */
};

/*
 * A caller's memory: the arena, WIRE_ARENA bytes with an inaccessible page on
 * either side, where the struct under test is laid out; and the scratch area,
 * of the same size, for what other calls need (a buffer to read into).
 */
#define WIRE_ARENA 65536
/*
 * Where they are, the same in every caller: an address is then a number that
 * the host knows, and a struct may hold it.  Below 4 GiB, so that it survives
 * the 32-bit entry, and where neither a program nor its heap ever lies.
 */
#define WIRE_ARENA_AT 0x60010000
#define WIRE_SCRATCH_AT 0x60110000

/* What an argument's 64-bit value means. */
#define WIRE_A_LITERAL 0	/* the register's value, all 64 bits */
#define WIRE_A_ARENA 1		/* address of the arena plus the value */
#define WIRE_A_SCRATCH 2	/* address of the scratch area plus the value */
#define WIRE_A_RESULT 3		/* what op number `value` returned */

#define WIRE_OP_SYSCALL 1
#define WIRE_OP_WRITE 2		/* arg[0]: where; the op's data goes there */
#define WIRE_OP_READ 3		/* arg[0]: where, arg[1]: bytes; into the reply */
#define WIRE_OP_FILL 4		/* arg[0]: where, arg[1]: bytes, arg[2]: value */
#define WIRE_OP_RESET 5		/* arena and scratch: fresh zero pages, all RW */
/* The rest in programs only. */
#define WIRE_OP_STORE 6		/* arg[0]: where, arg[1] + arg[3]: value, arg[2]: bytes */
#define WIRE_OP_PEER 7		/* another process; its pid.  It ends with the program */
#define WIRE_OP_BECOME 8	/* what follows is done by a child of that identity */

/*
 * Who WIRE_OP_PEER's process is, and WIRE_OP_BECOME's: arg[0] is the mask of the
 * capabilities that stay effective, arg[1] of those that stay permitted,
 * arg[2] of those of them that it must have; arg[3] is the uid and gid that it
 * takes, or WIRE_SAME_ID; arg[4] are WIRE_ID_*.
 */
#define WIRE_SAME_ID 0xffffffff
#define WIRE_ID_NAMESPACE 1	/* in a user namespace of its own, without a map */
#define WIRE_ID_DUMPABLE 2	/* for others of its user to look at */
#define WIRE_ID_ENDED 4		/* a peer that has ended and was waited for */
#define WIRE_MAX_PEERS 16

/* How a WIRE_OP_SYSCALL enters the kernel. */
#define WIRE_ENTRY_NATIVE 0	/* syscall as m64 and mx32, int 0x80 as m32 */
#define WIRE_ENTRY_INT80 1	/* int 0x80, from a 64-bit program too */
/*
 * By an entry of an io_uring's submission queue, and its result is the completion's.
 * nr is the opcode, 255 at most; arg[] are members of struct io_uring_sqe in their
 * order: fd, off, addr, len, the operation's flags, file_index.  The ring is made when
 * it is first used: an errno of that is the call's result.
 */
#define WIRE_ENTRY_QUEUE 2
#define WIRE_ENTRY_WORKER 3	/* the same, done by a kernel thread: IOSQE_ASYNC */

struct wire_op {
	uint32_t kind;		/* WIRE_OP_* */
	uint32_t entry;		/* WIRE_ENTRY_* */
	uint64_t nr;		/* the number's register, all 64 bits */
	uint64_t arg[6];
	uint32_t arg_kind[6];	/* WIRE_A_* */
	uint32_t data_offset;	/* of the op's data in the data area, bytes */
	uint32_t data_length;	/* bytes */
};

/* WIRE_T_PROGRAM: ops run in turn; one that needs a failed result is skipped. */
struct wire_program {
	uint32_t ops;
	uint32_t data_length;	/* of the data area behind the ops, bytes */
	uint32_t deadline_ms;	/* for each op, and halved by each that meets it; 0: none */
	uint32_t reserved;
};

#define WIRE_MAX_OPS 1024

#define WIRE_R_SKIPPED 1	/* an op that it depends on had failed */
#define WIRE_R_SIGNAL 2		/* ended by a signal; ret is its number */
#define WIRE_R_DEADLINE 4	/* the deadline passed while it ran */
#define WIRE_R_STALLED 8	/* it met the absent page, and the change was made */
#define WIRE_R_ENDED 16		/* its process ended before it returned */

struct wire_result {
	int64_t ret;		/* rax, or eax with its sign, as the kernel left it */
	uint32_t flags;		/* WIRE_R_* */
	uint32_t data_length;	/* bytes of this op in the reply's data area */
};

/*
 * WIRE_T_SWEEP: one call, made for every point of up to WIRE_MAX_DIMS nested
 * dimensions; the outcomes come back as run lengths in the order of the walk.
 *
 * Its deadline is each call's own, with what is done before and after it: one
 * that has not ended by then is interrupted (EINTR), at most half as late again.
 */
#define WIRE_MAX_DIMS 4
#define WIRE_MAX_AFTER 8
/* Where in the scratch area a sweep puts the data behind its template. */
#define WIRE_SCRATCH_DATA 32768

#define WIRE_SIZE_NONE 0
#define WIRE_SIZE_FIELD 1	/* size_index: offset in the struct, size_width bytes */
#define WIRE_SIZE_ARG 2		/* size_index: which argument */
#define WIRE_SIZE_IOCTL 3	/* the same, in bits 16 and up, ORed in */
#define WIRE_SIZE_UNTOLD 4	/* so many bytes are laid out, and the call is not told */

#define WIRE_PLACE_MIDDLE 0	/* canaries on both sides */
#define WIRE_PLACE_END 1	/* flush against the inaccessible page behind */
#define WIRE_PLACE_START 2	/* at the first byte after the one before */
#define WIRE_PLACE_SHORT 3	/* like END, but the last byte is not there */

#define WIRE_DIM_USIZE 1	/* the caller's size */
#define WIRE_DIM_BYTE 2		/* position of a byte, start <= position < stop */
#define WIRE_DIM_TAIL 3		/* the same, up to the end of the current struct */
#define WIRE_DIM_BIT 4		/* of that byte: it is inverted */
#define WIRE_DIM_ARG_BIT 5	/* of argument `index`: it is inverted */
#define WIRE_DIM_ARG 6		/* value of argument `index` */
#define WIRE_DIM_SHIFT 7	/* bytes by which the struct is moved up */

struct wire_dim {
	uint32_t kind;		/* WIRE_DIM_* */
	uint32_t index;
	uint64_t start;
	uint64_t stop;		/* exclusive */
	uint64_t step;
};

struct wire_sweep {
	struct wire_op call;	/* arg of kind WIRE_A_ARENA: offset in the struct */
	uint32_t dims;
	uint32_t before;	/* ops before each call */
	uint32_t after;		/* ops after a call that succeeded */
	uint32_t size_kind;	/* WIRE_SIZE_* */
	uint32_t size_index;
	uint32_t size_width;	/* bytes */
	uint32_t place;		/* WIRE_PLACE_* */
	uint32_t flip;		/* byte that is XORed in where no bit dimension is */
	uint64_t usize;		/* where no dimension sets it */
	uint32_t deadline_ms;	/* for each call, as above; 0: none */
	uint32_t template_length; /* the struct's first bytes, in the data area */
	uint32_t data_length;	/* of the data area: the template, then scratch's bytes */
	uint32_t zero_means;	/* bytes that are laid out for a usize of 0 */
};

#define WIRE_ROW_WRITTEN 1	/* the size field changed; written has its value */
#define WIRE_ROW_STRAY 2	/* another byte near the size field changed */
#define WIRE_ROW_CANARY 4	/* no call: memory differed after these; written: where */
#define WIRE_ROW_SIGNAL 8	/* ended by a signal; ret is its number */
#define WIRE_ROW_DEADLINE 16	/* the deadline passed while it ran */
#define WIRE_ROW_EFFECT 32	/* effect is valid */

struct wire_row {
	uint64_t first;		/* index of the run's first call in the walk */
	uint64_t count;		/* calls in the run */
	int64_t ret;		/* 0 for every result that is not an error */
	uint64_t written;
	uint64_t effect;	/* FNV-1a 64 over what the `after` ops gave */
	uint32_t flags;		/* WIRE_ROW_* */
	uint32_t reserved;
};

struct wire_done {
	uint64_t calls;
	uint64_t rows;
	uint64_t nanoseconds;
};

/*
 * WIRE_T_LOOP: the same native call `count` times and nothing else, but for a
 * store that undoes the kernel's write-back; answered with WIRE_T_DONE.
 */
struct wire_loop {
	struct wire_op call;
	uint64_t count;
	uint32_t poke_offset;	/* in the arena */
	uint32_t poke_width;	/* bytes: 4, or 0 for no store */
	uint32_t poke;
	uint32_t reserved;
};

/*
 * WIRE_T_STALL: a program, some of whose calls meet a page of the arena that
 * is not there.  The kernel's fault is held by userfaultfd(2) while a second
 * thread changes bytes in another page; then the page is supplied and the call
 * goes on.  Answered as a program is; WIRE_R_STALLED tells which calls met
 * their page.  The stalls stand in the order of the ops that they are for.
 */
struct wire_stalls {
	uint32_t stalls;
	uint32_t data_length;	/* of the stalls' own data area, bytes */
};

struct wire_stall {
	uint32_t op;		/* index of a WIRE_OP_SYSCALL in the program */
	uint32_t page;		/* offset in the arena of the page, a multiple of 4096 */
	uint32_t page_start;	/* of its bytes in it; what is left of it is zero */
	uint32_t page_offset;	/* of its bytes in the data area */
	uint32_t page_length;
	uint32_t change;	/* offset in the arena of the bytes that change */
	uint32_t change_offset;	/* in the data area: what they change to */
	uint32_t change_length;
};

/*
 * WIRE_T_RACE: the same call `count` times while a second thread stores two
 * values in turn.  Answered with WIRE_T_ROWS, one for each distinct outcome,
 * with the first call that had it and how many had, and WIRE_T_DONE; with
 * WIRE_T_PROGRESS every second, where it takes longer.  A race is
 * given up when several calls have met the deadline: the last then has
 * WIRE_ROW_DEADLINE, whatever it returned.
 */
#define WIRE_MAX_OUTCOMES 64

struct wire_race {
	struct wire_op call;
	uint64_t count;
	uint64_t value[2];
	uint32_t at;		/* offset in the arena of what alternates */
	uint32_t width;		/* bytes: 1, 2, 4 or 8 */
	uint32_t poke_offset;	/* in the arena; as in wire_loop, before each call */
	uint32_t poke_width;	/* bytes: 4, or 0 for no store */
	uint32_t poke;
	uint32_t after;		/* ops after a call that succeeded; they have no data */
	uint32_t deadline_ms;	/* for each call; 0: none */
	uint32_t reserved;
};

/*
 * WIRE_T_OUTSIDE: one call, made by a child of the caller's that is watched:
 * behind a seccomp filter, by a tracer, or both.
 */
#define WIRE_MAX_STOPS 8

struct wire_outside {
	struct wire_op call;
	uint32_t trace;		/* 1: by PTRACE_SYSCALL, every stop of the call is shown */
	uint32_t filter_length;	/* bytes of struct sock_filter's, which follow; 0: no filter */
	uint32_t deadline_ms;	/* for the child; 0: none */
	uint32_t reserved;
};

struct wire_seen {
	int64_t ret;		/* as in wire_result; 0 with WIRE_R_ENDED */
	uint64_t arg[6];	/* the registers as they were set, addresses too */
	uint32_t flags;		/* WIRE_R_* */
	uint32_t status;	/* of the child, as waitpid() gives it */
	uint32_t stops;
	uint32_t reserved;
};

struct wire_stop {
	uint64_t length;	/* bytes that the kernel has, as PTRACE_GET_SYSCALL_INFO says */
	unsigned char info[88];	/* struct ptrace_syscall_info */
};

#endif /* WIRE_H */
