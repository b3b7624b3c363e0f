//! What this process has of the system's memory.
#![forbid(unsafe_code)]

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
        kilobytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
    }

    /// The bytes that are in memory now, found sooner than by [`Memory::now`].
    pub fn resident() -> Option<u64> {
        kilobytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
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

/// The bytes of the line that begins with a name.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
