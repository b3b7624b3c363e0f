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

/// Puts the plan of a model for the kernels that the target has into the image, as the static PLAN.
#[macro_export]
macro_rules! plan {
    ($model:literal) => {
        $crate::plan!(PLAN, concat!(env!("FEWSTEP_PLANS"), "/", $crate::isa!(), "/", $model, ".fsp"));
    };
    ($name:ident, $file:expr) => {
        #[unsafe(link_section = ".plan")]
        static $name: $crate::Aligned<{ include_bytes!($file).len() }> =
            $crate::Aligned(*include_bytes!($file));
    };
}

/// The instruction set of the plans.
#[cfg(target_arch = "aarch64")]
#[macro_export]
macro_rules! isa {
    () => {
        "arm-neon"
    };
}

/// The instruction set of the plans.
#[cfg(target_arch = "arm")]
#[macro_export]
macro_rules! isa {
    () => {
        "portable"
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

/// Says where. The message is left out, with all that would format it.
#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    if let Some(place) = info.location() {
        println!("panic in {}, line {}", place.file(), place.line());
    }
    semihosting::exit(3)
}
