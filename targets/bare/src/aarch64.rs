//! Startup of an AArch64 core that comes out of reset in EL1, as QEMU's board virt has it.
//!
//! Without the MMU, all data would be device memory: uncached, and an unaligned access faults. So it is turned on, with a
//! table that maps addresses to themselves: the flash, which nobody writes, and the memory.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .start, "ax"
    .global _start
_start:
    ldr x0, =stack_top
    mov sp, x0
    ldr x0, =vectors
    msr vbar_el1, x0

    // The FPU, whose registers moves of memory use as well.
    mov x0, #(3 << 20)
    msr cpacr_el1, x0

    // Attributes: index 0 is normal memory, cached.
    mov x0, #0xff
    msr mair_el1, x0
    // Addresses of 32 bits in pages of 4 KiB, by tables that are cached themselves, and no second half.
    ldr x0, =(32 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23)
    msr tcr_el1, x0
    ldr x0, =level_1
    msr ttbr0_el1, x0
    dsb sy
    tlbi vmalle1
    dsb nsh
    isb
    // What has to be 1, and instruction cache, data cache, MMU.
    ldr x0, =(0x30d00800 | 1 << 12 | 1 << 2 | 1)
    msr sctlr_el1, x0
    isb

    ldr x0, =data_image
    ldr x1, =data_start
    ldr x2, =data_end
1:  cmp x1, x2
    b.hs 2f
    ldr x3, [x0], #8
    str x3, [x1], #8
    b 1b
2:  ldr x1, =bss_start
    ldr x2, =bss_end
3:  cmp x1, x2
    b.hs 4f
    str xzr, [x1], #8
    b 3b
4:  bl main

    .balign 2048
vectors:
    .rept 16
    mrs x0, esr_el1
    mrs x1, elr_el1
    b fault
    .balign 128
    .endr

    // Bits of an entry: 0 valid, 1 table, 7 read-only, 8 and 9 shared between cores, 10 accessed, 53 no code.
    .section .rodata.translation, "a"
    .balign 4096
level_2: // 64 MiB of flash in blocks of 2 MiB
    .set block, 0
    .rept 32
    .quad block << 21 | 1 | 1 << 7 | 3 << 8 | 1 << 10
    .set block, block + 1
    .endr
    .fill 480, 8, 0
level_1: // four times 1 GiB: what level 2 says, the memory, and nothing
    .quad level_2 + 3
    .quad 1 << 30 | 1 | 3 << 8 | 1 << 10 | 1 << 53
    .quad 0, 0
"#
);
