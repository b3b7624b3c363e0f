//! Startup of a Cortex-M core of Armv8-M with an FPU.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .start, "a"
    .word stack_top
    .word _start
    .rept 14
    .word exception
    .endr

    .section .text.start, "ax"
    .global _start
    .thumb_func
_start:
    // A stack that would run into the statics faults.
    ldr r0, =bss_end
    msr msplim, r0

    // The FPU, coprocessors 10 and 11, by register CPACR.
    ldr r0, =0xe000ed88
    ldr r1, [r0]
    orr r1, r1, #(0xf << 20)
    str r1, [r0]
    dsb
    isb

    ldr r0, =data_image
    ldr r1, =data_start
    ldr r2, =data_end
1:  cmp r1, r2
    bhs 2f
    ldr r3, [r0], #4
    str r3, [r1], #4
    b 1b
2:  ldr r1, =bss_start
    ldr r2, =bss_end
    movs r3, #0
3:  cmp r1, r2
    bhs 4f
    str r3, [r1], #4
    b 3b
4:  bl main

    // Which exception it is, and where it struck, out of the frame on the stack.
    .thumb_func
exception:
    mrs r0, ipsr
    ldr r1, [sp, #24]
    b fault
"#
);
