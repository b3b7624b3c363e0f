//! The memory of an instance, which grows by pages, and what stays in it between two calls.

use core::arch::wasm32::{memory_grow, memory_size};
use core::cell::UnsafeCell;

/// Bytes of a page.
const PAGE: usize = 1 << 16;

/// Bytes that nobody has had before, at the beginning of a page; `None` if the browser gives no more.
pub fn grow(bytes: usize) -> Option<&'static mut [u8]> {
    let pages = bytes.div_ceil(PAGE);
    // The last page is left out, so that its end still is an address.
    if memory_size::<0>().checked_add(pages)? >= usize::MAX / PAGE {
        return None;
    }
    let first = memory_grow::<0>(pages);
    if first == usize::MAX {
        return None;
    }
    let start = core::ptr::with_exposed_provenance_mut::<u8>(first * PAGE);
    // SAFETY: these pages are new, zero, and given out this once.
    Some(unsafe { core::slice::from_raw_parts_mut(start, bytes) })
}

/// A value that one call leaves for the next.
pub struct Global<T>(UnsafeCell<T>);

// SAFETY: the program is built without threads.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    pub const fn new(value: T) -> Global<T> {
        Global(UnsafeCell::new(value))
    }

    /// Calls a function on the value. It must not ask for the same value again.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: there is one thread, and no function here asks twice; exported ones call nothing of the page, which
        // could call them.
        f(unsafe { &mut *self.0.get() })
    }
}
