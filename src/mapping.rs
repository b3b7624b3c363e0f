//! Files mapped into memory, so that weights are pages that the system can share and drop.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::path::Path;

/// A file's contents.
#[derive(Debug)]
pub struct Bytes(Option<Mmap>);

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Maps a file, read only.
///
/// # Errors
/// If it can not be opened, or is no regular file.
pub fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() == 0 {
        return Ok(Bytes(None));
    }
    // SAFETY: the map is private and read only. As with every memory-mapped weight file, whoever truncates or rewrites
    // it while it is in use breaks the program that uses it; files are replaced by renaming instead.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes(Some(map)))
}
