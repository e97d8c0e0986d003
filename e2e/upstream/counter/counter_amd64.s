// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// What read reads: the rate, and the moment of the base.
GLOBL scale<>(SB), NOPTR, $32

// read is clock_gettime as C calls it: DI is the number of the clock, 0 for the time of day and 1 for the monotonic one; SI
// is where seconds and nanoseconds go. Only registers are used that are the called function's in C.
TEXT read<>(SB), NOSPLIT|NOFRAME, $0
	CMPL DI, $1
	JHI  kernel
	LEAQ scale<>(SB), R8
	LFENCE
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	SUBQ 8(R8), AX
	MULQ 0(R8)
	SHRQ $32, DX, AX
	TESTL DI, DI
	JEQ  day
	ADDQ 16(R8), AX
	JMP  split
day:
	ADDQ 24(R8), AX
split:
	XORL DX, DX
	MOVQ $1000000000, CX
	DIVQ CX
	MOVQ AX, 0(SI)
	MOVQ DX, 8(SI)
	XORL AX, AX
	RET
kernel:
	MOVL $228, AX // clock_gettime
	SYSCALL
	RET

// func set(rate uint64, base moment)
TEXT ·set(SB), NOSPLIT, $0-32
	LEAQ scale<>(SB), R8
	MOVQ rate+0(FP), AX
	MOVQ AX, 0(R8)
	MOVQ base_ticks+8(FP), AX
	MOVQ AX, 8(R8)
	MOVQ base_monotonic+16(FP), AX
	MOVQ AX, 16(R8)
	MOVQ base_real+24(FP), AX
	MOVQ AX, 24(R8)
	RET

// func clock() uintptr
TEXT ·clock(SB), NOSPLIT, $0-8
	LEAQ read<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func swap(clock uintptr) (before uintptr)
TEXT ·swap(SB), NOSPLIT, $0-16
	MOVQ clock+0(FP), AX
	XCHGQ AX, runtime·vdsoClockgettimeSym(SB)
	MOVQ AX, before+8(FP)
	RET

// func ticks() uint64
TEXT ·ticks(SB), NOSPLIT, $0-8
	LFENCE
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, ret+0(FP)
	RET

// func steady() bool
TEXT ·steady(SB), NOSPLIT, $0-1
	MOVL $0x80000000, AX
	XORL CX, CX
	CPUID
	CMPL AX, $0x80000007
	JCS  no
	MOVL $0x80000007, AX
	XORL CX, CX
	CPUID
	SHRL $8, DX
	ANDL $1, DX
	MOVB DX, ret+0(FP)
	RET
no:
	MOVB $0, ret+0(FP)
	RET
