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
    /// `None` where the system does not tell: only Linux does.
    pub fn now() -> Option<Memory> {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
        };
        Some(Memory {
            rss: field("Rss:")?,
            anonymous: field("Anonymous:")?,
            private_clean: field("Private_Clean:")?,
            private_dirty: field("Private_Dirty:")?,
        })
    }
}
