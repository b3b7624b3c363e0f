//! Bytes in statics, at the alignment that the engine wants.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// Bytes that begin at a multiple of 64.
#[repr(C, align(64))]
pub struct Aligned<const LEN: usize>(pub [u8; LEN]);

/// Working memory for one who takes it.
pub struct Memory<const LEN: usize> {
    bytes: UnsafeCell<Aligned<LEN>>,
    taken: AtomicBool,
}

// SAFETY: only `take` reaches the bytes, and hands them out once.
unsafe impl<const LEN: usize> Sync for Memory<LEN> {}

impl<const LEN: usize> Memory<LEN> {
    #[expect(clippy::new_without_default, reason = "statics have no default")]
    pub const fn new() -> Memory<LEN> {
        Memory { bytes: UnsafeCell::new(Aligned([0; LEN])), taken: AtomicBool::new(false) }
    }

    /// The memory, to whoever asks first.
    #[expect(clippy::mut_from_ref, reason = "nobody gets it twice")]
    pub fn take(&'static self) -> Option<&'static mut [u8]> {
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: this is the first call, and there is no other way to the bytes.
        Some(unsafe { &mut (*self.bytes.get()).0 })
    }
}
