/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * entry.S - into the kernel with every register set by hand
 *
 *	int64_t raw_native(uint64_t nr, const uint64_t arg[6]);
 *	int64_t raw_int80(uint64_t nr, const uint64_t arg[6]);
 *
 * libc's syscall() loads what its prototype says: on x32 and i386 that leaves
 * out the upper halves, which are just what a test of an ABI's entry has to
 * fill with garbage.  Here all 64 bits go in and all of rax comes back.
 */
	.text
#ifdef __x86_64__
#ifdef __ILP32__
#define POINTER_TO_R11	movl	%esi, %r11d
#else
#define POINTER_TO_R11	movq	%rsi, %r11
#endif

	.globl	raw_native
	.type	raw_native, @function
raw_native:
	POINTER_TO_R11
	movq	%rdi, %rax
	movq	0(%r11), %rdi
	movq	8(%r11), %rsi
	movq	16(%r11), %rdx
	movq	24(%r11), %r10
	movq	32(%r11), %r8
	movq	40(%r11), %r9
	syscall
	ret
	.size	raw_native, . - raw_native

	.globl	raw_int80
	.type	raw_int80, @function
raw_int80:
	pushq	%rbx
	pushq	%rbp
	POINTER_TO_R11
	movq	%rdi, %rax
	movq	0(%r11), %rbx
	movq	8(%r11), %rcx
	movq	16(%r11), %rdx
	movq	24(%r11), %rsi
	movq	32(%r11), %rdi
	movq	40(%r11), %rbp
	int	$0x80
	popq	%rbp
	popq	%rbx
	ret
	.size	raw_int80, . - raw_int80
#else
	/* A 32-bit program has no upper halves to set. */
	.globl	raw_native
	.globl	raw_int80
	.type	raw_native, @function
	.type	raw_int80, @function
raw_native:
raw_int80:
	pushl	%ebx
	pushl	%esi
	pushl	%edi
	pushl	%ebp
	movl	20(%esp), %eax		/* nr, lower half; upper at 24 */
	movl	28(%esp), %ebp		/* arg */
	movl	0(%ebp), %ebx
	movl	8(%ebp), %ecx
	movl	16(%ebp), %edx
	movl	24(%ebp), %esi
	movl	32(%ebp), %edi
	movl	40(%ebp), %ebp
	int	$0x80
	cltd				/* the result is edx:eax, with its sign */
	popl	%ebp
	popl	%edi
	popl	%esi
	popl	%ebx
	ret
	.size	raw_native, . - raw_native
	.size	raw_int80, . - raw_int80
#endif
	.section .note.GNU-stack, "", @progbits
