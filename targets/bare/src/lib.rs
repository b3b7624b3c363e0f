//! What the programs in `bin` share: a board's startup, the debugger's console, and a model that is sampled without an
//! operating system and without a heap.
#![no_std]
#![deny(clippy::undocumented_unsafe_blocks)]

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "arm")]
mod cortex_m;
mod memory;
mod model;
pub mod semihosting;

pub use memory::{Aligned, Memory};
pub use model::{Failure, Model, print_bits};

use core::panic::PanicInfo;

/// Puts the plan of a model into the image, as the static PLAN.
#[macro_export]
macro_rules! plan {
    ($model:literal) => {
        #[unsafe(link_section = ".plan")]
static PLAN: $crate::Aligned<{ include_bytes!($crate::plan!(@file $model)).len() }> =
    $crate::Aligned(*include_bytes!($crate::plan!(@file $model)));
    };
    (@file $model:literal) => {
        concat!(env!("FEWSTEP_PLANS"), "/", $model, ".fsp")
    };
}

/// Runs a program to its end, which the exit status tells.
pub fn run(program: impl FnOnce() -> Result<(), Failure>) -> ! {
    let result = program();
    if let Err(failure) = &result {
        println!("{failure}");
    }
    semihosting::exit(result.is_err().into())
}

/// Where the startup code sends every exception. None is expected.
#[unsafe(no_mangle)]
extern "C" fn fault(cause: usize, address: usize) -> ! {
    println!("fault {cause:#x} at {address:#x}");
    semihosting::exit(2)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    println!("{info}");
    semihosting::exit(3)
}
