//! Where a pipeline's files are: in a folder, or in a bundle.

use std::{
    borrow::{Cow, ToOwned},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use serde::de::DeserializeOwned;

use super::folder::FolderError;
use crate::plan::Bundle;

/// A configuration is a page; anything longer is none.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// The files of a pipeline. Names are as in a folder, with `/`.
#[derive(Clone, Debug)]
pub enum Files {
    Folder(PathBuf),
    Bundle(Arc<Bundle>),
}

impl Files {
    /// Those of a folder or a bundle.
    ///
    /// # Errors
    /// If it is a file, and no bundle.
    pub fn of(path: &Path) -> Result<Files, FolderError> {
        if path.is_file() {
            Ok(Files::Bundle(Bundle::open(path)?.into()))
        } else {
            Ok(Files::Folder(path.into()))
        }
    }

    /// The folder, or the bundle.
    pub fn root(&self) -> &Path {
        match self {
            Files::Folder(path) => path,
            Files::Bundle(bundle) => bundle.path(),
        }
    }

    /// Where a file is; for people, if that is in a bundle.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub fn has(&self, name: &str) -> bool {
        match self {
            Files::Folder(path) => path.join(name).exists(),
            Files::Bundle(bundle) => bundle.get(name).is_some(),
        }
    }

    /// The names and the lengths of the files that lie in a part of the pipeline, in order.
    pub fn list(&self, part: &str) -> Vec<(String, u64)> {
        let mut found: Vec<(String, u64)> = match self {
            Files::Folder(path) => {
                let entries = fs::read_dir(path.join(part)).into_iter().flatten().flatten();
                let entry = |entry: fs::DirEntry| {
                    let metadata = fs::metadata(entry.path()).ok().filter(fs::Metadata::is_file)?;
                    Some((entry.file_name().to_str()?.to_owned(), metadata.len()))
                };
                entries.filter_map(entry).collect()
            }
            Files::Bundle(bundle) => {
                let inside = |(name, bytes): (&str, usize)| {
                    let name = name.strip_prefix(part)?.strip_prefix('/').filter(|name| !name.contains('/'));
                    Some((name?.to_owned(), bytes as u64))
                };
                bundle.members().filter_map(inside).collect()
            }
        };
        found.sort();
        found
    }

    /// What is in a file.
    ///
    /// # Errors
    /// If it can not be read.
    pub fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, FolderError> {
        let failed = |source| FolderError::Read { path: self.path(name), source };
        match self {
            Files::Folder(path) => fs::read(path.join(name)).map(Cow::Owned).map_err(failed),
            Files::Bundle(bundle) => {
                bundle.get(name).map(Cow::Borrowed).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
            }
        }
    }

    /// The text of a configuration.
    ///
    /// # Errors
    /// If it can not be read, or is too long.
    pub fn text(&self, name: &str) -> Result<String, FolderError> {
        let failed = |source| FolderError::Read { path: self.path(name), source };
        let mut text = String::new();
        let mut read = |source: &mut dyn Read| source.take(MAX_BYTES + 1).read_to_string(&mut text);
        match self {
            Files::Folder(path) => fs::File::open(path.join(name)).and_then(|mut file| read(&mut file)),
            Files::Bundle(bundle) => {
                bundle.get(name).map_or(Err(io::ErrorKind::NotFound.into()), |mut bytes| read(&mut bytes))
            }
        }
        .map_err(failed)?;
        if text.len() as u64 > MAX_BYTES { Err(FolderError::Long(self.path(name))) } else { Ok(text) }
    }

    /// A configuration of JSON.
    ///
    /// # Errors
    /// If it can not be read, or is not as it should be.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, FolderError> {
        let problem = |error: serde_json::Error| FolderError::Json {
            path: self.path(name),
            problem: error.to_string(),
        };
        serde_json::from_str(&self.text(name)?).map_err(problem)
    }
}
