//! What this process has of the system's memory.
#![forbid(unsafe_code)]

use std::io::Read;

/// Bytes in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub rss: u64,
    /// Of that, what is no page of a file.
    pub anonymous: u64,
    /// What no other process has, and what of it was changed.
    pub private_clean: u64,
    pub private_dirty: u64,
}

impl Memory {
    /// The most bytes that were in memory at once; `None` where the system does not tell.
    pub fn peak() -> Option<u64> {
        of_status("VmHWM:")
    }

    /// The bytes that are in memory now, found sooner than by [`Memory::now`], and without an allocation.
    pub fn resident() -> Option<u64> {
        of_status("VmRSS:")
    }

    /// `None` where the system does not tell: only Linux does.
    pub fn now() -> Option<Memory> {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
        let field = |name| kilobytes(&text, name);
        Some(Memory {
            rss: field("Rss:")?,
            anonymous: field("Anonymous:")?,
            private_clean: field("Private_Clean:")?,
            private_dirty: field("Private_Dirty:")?,
        })
    }
}

/// The bytes that the system says of this process behind a name.
fn of_status(name: &str) -> Option<u64> {
    // It is a page at the most, and these lines are in its first half.
    let mut text = [0; 4096];
    let length = std::fs::File::open("/proc/self/status").and_then(|mut file| file.read(&mut text)).ok()?;
    kilobytes(core::str::from_utf8(&text[..length]).ok()?, name)
}

/// The bytes of the line that begins with a name.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
