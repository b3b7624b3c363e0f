//! Semihosting: a debugger, or QEMU, serves the program that it runs. The numbers are those of Arm's specification of it.

use core::arch::asm;
use core::fmt::{self, Write};

const WRITE0: usize = 0x04;
const GET_CMDLINE: usize = 0x15;
const EXIT_EXTENDED: usize = 0x20;

/// Why a program exits: because it has ended.
const APPLICATION_EXIT: usize = 0x20026;

/// The debugger's console.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const PIECE: usize = 63;
        for piece in text.as_bytes().chunks(PIECE) {
            // The call wants a zero behind the text.
            let mut line = [0; PIECE + 1];
            line[..piece.len()].copy_from_slice(piece);
            // SAFETY: the call reads up to the zero, and writes nothing.
            unsafe { call(WRITE0, line.as_ptr().cast()) };
        }
        Ok(())
    }
}

/// As std's. The console takes everything.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {{
        use core::fmt::Write as _;
        let _ = writeln!($crate::semihosting::Console, $($argument)*);
    }};
}

/// As std's. The console takes everything.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {{
        use core::fmt::Write as _;
        let _ = write!($crate::semihosting::Console, $($argument)*);
    }};
}

/// The command line, program's name first. Empty if there is none, or if it does not fit.
pub fn command_line(buffer: &mut [u8]) -> &str {
    let mut block = [buffer.as_mut_ptr().addr(), buffer.len()];
    // SAFETY: the block has the buffer's address and length, and the call writes within both.
    let status = unsafe { call(GET_CMDLINE, block.as_mut_ptr().cast()) };
    let line = buffer.get(..block[1]).filter(|_| status == 0).unwrap_or_default();
    str::from_utf8(line).unwrap_or_default()
}

/// Ends the program.
pub fn exit(status: usize) -> ! {
    let block = [APPLICATION_EXIT, status];
    loop {
        // SAFETY: the call reads two words, and does not return.
        unsafe { call(EXIT_EXTENDED, block.as_ptr().cast()) };
    }
}

/// # Safety
/// The argument is what the operation asks for.
unsafe fn call(operation: usize, argument: *const u8) -> usize {
    let result;
    // SAFETY: the caller's contract; the debugger keeps all registers but the result's.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("hlt #0xf000", inlateout("x0") operation => result, in("x1") argument, options(nostack))
    };
    // SAFETY: as above.
    #[cfg(target_arch = "arm")]
    unsafe {
        asm!("bkpt #0xab", inlateout("r0") operation => result, in("r1") argument, options(nostack))
    };
    result
}
