//! The file that plans are kept in, `.fsp`: a head, a table of sections, and the sections. A bundle is one as well, whose
//! sections are files. docs/plan.md has the format.
//!
//! Everything is little-endian. Nothing is copied or unpacked: a view of the bytes is all that an engine needs.
#![forbid(unsafe_code)]

use super::{Plan, PlanError, VERSION};
use twox_hash::XxHash3_64;

/// What a plan file begins with.
pub(super) const MAGIC: [u8; 8] = *b"fewstep\0";

/// Bytes of the head, and of an entry of the table.
pub(super) const HEAD: usize = 64;
pub(super) const ENTRY: usize = 32;

/// The most sections of a file.
pub(super) const MAX_SECTIONS: usize = 1024;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The network's manifest, archived, if it has one.
    Manifest = 1,
    /// What the plans were made of, for people.
    Origin = 2,
    /// The metadata of a plan.
    Plan = 3,
    /// The constants of all plans.
    Weights = 4,
    /// The names of a bundle's files, a line each.
    Names = 5,
    /// A file of a bundle, in the order of the names.
    Member = 6,
}

/// A section, as the table has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    pub(super) kind: u32,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) checksum: u64,
}

/// The checksum of a section, and of the table behind the head.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// A view of a plan file whose head and table are sound.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    bytes: &'a [u8],
    table: &'a [u8],
}

impl<'a> File<'a> {
    /// Checks the head and the table of a plan file, and all sections but weights and a bundle's files against their
    /// checksums.
    ///
    /// # Errors
    /// If the bytes are not those of a plan file of this version, or are damaged.
    pub fn view(bytes: &'a [u8]) -> Result<File<'a>, PlanError> {
        let head = bytes.get(..HEAD).ok_or(PlanError::NotAPlan)?;
        if head[..8] != MAGIC {
            return Err(PlanError::NotAPlan);
        }
        let found = u32::from_le_bytes(part(head, 8));
        if found != VERSION {
            return Err(PlanError::Version { found });
        }
        let sections = u32::from_le_bytes(part(head, 12)) as usize;
        let (needed, found) = (u64::from_le_bytes(part(head, 16)), bytes.len() as u64);
        if needed != found {
            return Err(PlanError::Length { needed, found });
        }
        let table = (sections <= MAX_SECTIONS).then(|| bytes.get(HEAD..HEAD + sections * ENTRY)).flatten();
        let table = table.ok_or(PlanError::Damaged { part: "table" })?;
        if checksum(table) != u64::from_le_bytes(part(head, 24)) {
            return Err(PlanError::Damaged { part: "table" });
        }
        let file = File { bytes, table };
        for section in file.sections() {
            let contents = file.contents(section).ok_or(PlanError::Damaged { part: "table" })?;
            let is_large = [Kind::Weights as u32, Kind::Member as u32].contains(&section.kind);
            if !is_large && checksum(contents) != section.checksum {
                return Err(PlanError::Damaged { part: "metadata" });
            }
        }
        Ok(file)
    }

    /// Compares all sections with their checksums, which reads them all.
    ///
    /// # Errors
    /// If the weights are damaged, or a bundle's files.
    pub fn verify(&self) -> Result<(), PlanError> {
        let whole = |section: Section| self.contents(section).map(checksum) == Some(section.checksum);
        if self.sections().all(whole) { Ok(()) } else { Err(PlanError::Damaged { part: "weights" }) }
    }

    /// The manifest of the network, archived; `None` if it has none. See `Manifest::from_archive`.
    pub fn manifest(&self) -> Option<&'a [u8]> {
        self.all(Kind::Manifest).next()
    }

    /// What the plans were made of, for people.
    ///
    /// # Errors
    /// If it is not text.
    pub fn origin(&self) -> Result<&'a str, PlanError> {
        let text = self.all(Kind::Origin).next().unwrap_or_default();
        core::str::from_utf8(text).map_err(|_| PlanError::Damaged { part: "text" })
    }

    /// The names of a bundle's files, a line each; `None` if it is no bundle.
    ///
    /// # Errors
    /// If they are not text.
    pub fn names(&self) -> Result<Option<&'a str>, PlanError> {
        let text = self.all(Kind::Names).next().map(core::str::from_utf8);
        text.transpose().map_err(|_| PlanError::Damaged { part: "text" })
    }

    /// Validates the plans, one after the other.
    pub fn plans(&self) -> impl Iterator<Item = Result<Plan<'a>, PlanError>> + use<'a> {
        let weights = self.all(Kind::Weights).next().unwrap_or_default();
        self.all(Kind::Plan).map(move |metadata| Plan::of(metadata, weights))
    }

    /// The contents of all sections of a kind.
    pub(super) fn all(&self, kind: Kind) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let file = *self;
        file.sections()
            .filter(move |section| section.kind == kind as u32)
            .filter_map(move |s| file.contents(s))
    }

    fn sections(&self) -> impl Iterator<Item = Section> + use<'a> {
        self.table.chunks_exact(ENTRY).map(|entry| Section {
            kind: u32::from_le_bytes(part(entry, 0)),
            offset: u64::from_le_bytes(part(entry, 8)),
            bytes: u64::from_le_bytes(part(entry, 16)),
            checksum: u64::from_le_bytes(part(entry, 24)),
        })
    }

    fn contents(&self, section: Section) -> Option<&'a [u8]> {
        let (start, len) = (usize::try_from(section.offset).ok()?, usize::try_from(section.bytes).ok()?);
        self.bytes.get(start..start.checked_add(len)?)
    }
}

/// Where in a file's bytes a part of them lies.
#[cfg(feature = "std")]
pub(super) fn place(bytes: &[u8], part: &[u8]) -> core::ops::Range<usize> {
    let start = part.as_ptr().addr() - bytes.as_ptr().addr();
    start..start + part.len()
}

/// Whether a file that begins like this is a bundle, sound or not: its names come first.
#[cfg(feature = "std")]
pub(super) fn is_bundle(head: &[u8; HEAD + ENTRY]) -> bool {
    head[..8] == MAGIC && u32::from_le_bytes(part(head, HEAD)) == Kind::Names as u32
}

/// A number's bytes; zeros beyond the end.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}
