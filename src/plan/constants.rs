//! The constants of one plan or several, each stored once.

use super::ALIGNMENT;
use rkyv::util::AlignedVec;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::vec::Vec;

/// Bytes at aligned offsets that never move; what is stored again has the offset that it has.
#[derive(Debug, Default)]
pub struct Constants {
    bytes: AlignedVec<ALIGNMENT>,
    /// Where what has a hash begins, and its length.
    stored: HashMap<u64, Vec<(usize, usize)>>,
    hashes: RandomState,
}

impl Constants {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The offset of the bytes, which are added if they are not there.
    pub(super) fn store(&mut self, bytes: &[u8]) -> u64 {
        let known = self.stored.entry(self.hashes.hash_one(bytes)).or_default();
        let same = |&&(start, len): &&(usize, usize)| self.bytes.get(start..start + len) == Some(bytes);
        if let Some(&(start, _)) = known.iter().find(same) {
            return start as u64;
        }
        let start = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(start, 0);
        self.bytes.extend_from_slice(bytes);
        known.push((start, bytes.len()));
        start as u64
    }
}
