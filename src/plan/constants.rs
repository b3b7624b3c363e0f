//! The constants of one plan or several, each stored once.
//!
//! Those of a large network are in a temporary file, mapped: the system can put its pages away, and what has grown to some
//! gigabytes is never copied to where there is more room.

use super::ALIGNMENT;
use crate::mapping::{self, Bytes};
use rkyv::util::AlignedVec;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::Path;
use std::vec::Vec;

/// Bytes beyond which constants go into a file.
const LARGE: usize = 256 << 20;

/// Bytes at aligned offsets that never move; what is stored again has the offset that it has.
#[derive(Debug, Default)]
pub struct Constants {
    store: Store,
    /// Where what has a hash begins, and its length.
    stored: HashMap<u64, Vec<(usize, usize)>>,
    hashes: RandomState,
}

#[derive(Debug)]
enum Store {
    Memory(AlignedVec<ALIGNMENT>),
    File { file: File, len: usize, mapped: Bytes, failed: Option<io::Error> },
}

impl Default for Store {
    fn default() -> Store {
        Store::Memory(AlignedVec::new())
    }
}

impl Constants {
    /// The offset of the bytes, which are added if they are not there.
    pub(super) fn store(&mut self, bytes: &[u8]) -> u64 {
        let known = self.stored.entry(self.hashes.hash_one(bytes)).or_default();
        let store = &mut self.store;
        let same = |&&(start, len): &&(usize, usize)| len == bytes.len() && store.has(start, bytes);
        if let Some(&(start, _)) = known.iter().find(same) {
            return start as u64;
        }
        if store.len() + bytes.len() > LARGE {
            store.leave_memory();
        }
        let start = store.append(bytes);
        known.push((start, bytes.len()));
        start as u64
    }

    /// Makes all that is stored readable by [`Constants::bytes`].
    ///
    /// # Errors
    /// If the temporary file could not be written, or can not be mapped.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        self.store.map()
    }

    /// All of them, if they are sealed.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.store {
            Store::Memory(bytes) => bytes,
            Store::File { mapped, .. } => mapped,
        }
    }
}

impl Store {
    fn len(&self) -> usize {
        match self {
            Store::Memory(bytes) => bytes.len(),
            Store::File { len, .. } => *len,
        }
    }

    /// Whether the bytes are what is at an offset.
    fn has(&mut self, start: usize, bytes: &[u8]) -> bool {
        let end = start + bytes.len();
        if matches!(self, Store::File { mapped, .. } if mapped.len() < end) {
            // Without it, they are stored again, or sealing says why not.
            self.map().ok();
        }
        let all: &[u8] = match self {
            Store::Memory(all) => all,
            Store::File { mapped, .. } => mapped,
        };
        all.get(start..end) == Some(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> usize {
        let start = self.len().next_multiple_of(ALIGNMENT);
        match self {
            Store::Memory(all) => {
                all.resize(start, 0);
                all.extend_from_slice(bytes);
            }
            Store::File { file, len, failed, .. } => {
                if failed.is_none() {
                    let padding = &[0; ALIGNMENT][..start - *len];
                    *failed = file.write_all(padding).and_then(|()| file.write_all(bytes)).err();
                }
                *len = start + bytes.len();
            }
        }
        start
    }

    /// Moves what is in memory into a file, if there can be one.
    fn leave_memory(&mut self) {
        let Store::Memory(bytes) = self else { return };
        if let Ok(mut file) = temporary() {
            let failed = file.write_all(bytes).err();
            *self = Store::File { file, len: bytes.len(), mapped: Bytes::default(), failed };
        }
    }

    fn map(&mut self) -> io::Result<()> {
        if let Store::File { file, len, mapped, failed } = self {
            if let Some(failed) = failed {
                return Err(io::Error::new(failed.kind(), std::format!("{failed}")));
            }
            if mapped.len() < *len {
                *mapped = mapping::map_file(file)?;
            }
        }
        Ok(())
    }
}

/// A file without a name, in a folder for large ones: the usual one may be in memory.
fn temporary() -> io::Result<File> {
    let large = Path::new("/var/tmp");
    if std::env::var_os("TMPDIR").is_none()
        && let Ok(file) = tempfile::tempfile_in(large)
    {
        return Ok(file);
    }
    tempfile::tempfile()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_have_the_same_offsets_and_bytes_in_memory_and_in_a_file() {
        let all: Vec<Vec<u8>> = (0..40u8).map(|i| std::vec![i; 1 + usize::from(i) * 7]).collect();
        let (mut memory, mut file) = (Constants::default(), Constants::default());
        for (i, bytes) in all.iter().chain(&all[..20]).enumerate() {
            if i == 10 {
                file.store.leave_memory();
                assert!(matches!(file.store, Store::File { .. }), "no temporary file");
            }
            assert_eq!(memory.store(bytes), file.store(bytes));
        }
        file.seal().unwrap();
        assert_eq!(memory.bytes(), file.bytes());
        // More come, of another plan.
        for constants in [&mut memory, &mut file] {
            constants.store(&[77; 100]);
            constants.seal().unwrap();
        }
        assert_eq!(memory.bytes(), file.bytes());
    }

    #[test]
    fn a_file_that_can_not_be_written_is_an_error_when_it_is_sealed() {
        let readable = tempfile::NamedTempFile::new().unwrap();
        let file = File::open(readable.path()).unwrap();
        let store = Store::File { file, len: 0, mapped: Bytes::default(), failed: None };
        let mut constants = Constants { store, ..Constants::default() };
        constants.store(&[1; 10]);
        assert!(constants.seal().is_err());
    }
}
