//! Bundles: the plans of a pipeline's networks and the small files that it needs beside them, by their names, in one file.
#![forbid(unsafe_code)]

use super::file::{ENTRY, File, HEAD, Kind, is_bundle, place};
#[cfg(feature = "compile")]
use super::package::write_sections;
use super::{OpenError, PlanError, PlanFile};
use crate::mapping::{self, Bytes};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
#[cfg(feature = "compile")]
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
#[cfg(feature = "compile")]
use std::vec::Vec;

/// An open bundle.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    /// Plans are mapped out of it one by one: each has advice of its own to the system, and an end.
    file: fs::File,
    bytes: Bytes,
    members: BTreeMap<String, Range<usize>>,
}

impl Bundle {
    /// Whether a file is a bundle, sound or not.
    pub fn is_one(path: &Path) -> bool {
        let mut head = [0; HEAD + ENTRY];
        let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
        read.is_ok() && is_bundle(&head)
    }

    /// Maps a bundle. What is in its files is not read.
    ///
    /// # Errors
    /// If the file can not be read, or is no bundle of this version.
    pub fn open(path: &Path) -> Result<Bundle, OpenError> {
        let failed = |source| OpenError::Read { path: path.into(), source };
        let file = fs::File::open(path).map_err(failed)?;
        let bytes = mapping::map_file(&file).map_err(failed)?;
        let members = members(&bytes).map_err(|source| OpenError::Plan { path: path.into(), source })?;
        Ok(Bundle { path: path.into(), file, bytes, members })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the files, and their lengths in bytes.
    pub fn members(&self) -> impl Iterator<Item = (&str, usize)> {
        self.members.iter().map(|(name, range)| (&name[..], range.len()))
    }

    /// What is in a file; `None` if there is none of that name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.bytes.get(self.members.get(name)?.clone())
    }

    /// Maps a file as a plan file; `None` if there is none of that name.
    ///
    /// # Errors
    /// As [`Plan::open`](super::Plan::open).
    pub fn plan(&self, name: &str) -> Option<Result<PlanFile, OpenError>> {
        let range = self.members.get(name)?;
        let path = self.path.join(name);
        let part = range.start as u64..range.end as u64;
        Some(match mapping::map_part(&self.file, part) {
            Ok(bytes) => PlanFile::of(path, bytes),
            Err(source) => Err(OpenError::Read { path, source }),
        })
    }

    /// Compares all files with their checksums, which reads them.
    ///
    /// # Errors
    /// If one is damaged.
    pub fn verify(&self) -> Result<(), OpenError> {
        let checked = File::view(&self.bytes).and_then(|file| file.verify());
        checked.map_err(|source| OpenError::Plan { path: self.path.clone(), source })
    }
}

/// Where the files are, by their names.
fn members(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>, PlanError> {
    let file = File::view(bytes)?;
    let names = file.names()?.ok_or(PlanError::NotAPlan)?;
    let places = file.all(Kind::Member).map(|part| place(bytes, part));
    let members: BTreeMap<_, _> = names.lines().map(ToString::to_string).zip(places).collect();
    // As many names as files, and no name twice.
    let sound = [names.lines().count(), file.all(Kind::Member).count()] == [members.len(); 2];
    if sound { Ok(members) } else { Err(PlanError::Damaged { part: "table" }) }
}

/// Writes a bundle of files, and returns its length. No name has the end of a line in it.
///
/// # Errors
/// Those of `out`.
#[cfg(feature = "compile")]
pub fn write_bundle(
    files: &BTreeMap<String, &[u8]>,
    in_pieces: bool,
    out: &mut dyn Write,
) -> io::Result<usize> {
    let names = files.keys().map(String::as_str).collect::<Vec<_>>().join("\n");
    let members = files.values().map(|&contents| (Kind::Member, contents));
    let all: Vec<_> = [(Kind::Names, names.as_bytes())].into_iter().chain(members).collect();
    write_sections(&all, in_pieces, out)
}
