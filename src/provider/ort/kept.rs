//! What ONNX Runtime and its providers make of a network, kept in the cache of compiled models, so that the next start does
//! not make it again.

use super::Choice;
use super::api::OrtError;
use super::library::Library;
use super::registry::Kept;
use crate::cache::{Cache, Key, KeyBuilder};
use crate::kernels::cpu;
use crate::onnx::external_files;
use crate::provider::external::Port;
use crate::provider::{OnnxFile, Opening};
use std::fs::{self, File};
use std::path::PathBuf;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, io};
use tempfile::TempDir;

/// Beyond this size, the copy of a network might not fit a file of protocol buffers.
const LARGEST: usize = 1 << 30;

/// The entry of a network in the cache.
pub(super) struct Entry<'a> {
    cache: &'a Cache,
    key: Key,
}

impl<'a> Entry<'a> {
    /// `None` if there is no cache, or this provider keeps nothing there.
    pub(super) fn of(
        choice: &Choice,
        library: &Library,
        file: OnnxFile<'_>,
        inputs: &[Port],
        opening: &Opening<'a>,
    ) -> Option<Entry<'a>> {
        let cache = opening.cache.filter(|_| matches!(choice.ep.kept, Kept::Network | Kept::Context))?;
        let bytes = file.contents().ok()?;
        // What is beside a file, ONNX Runtime maps by itself; a copy would have it inside.
        if bytes.len() > LARGEST || !external_files(&bytes).ok()?.is_empty() {
            return None;
        }
        let shapes: Vec<&[usize]> = inputs.iter().map(|port| &port.shape[..]).collect();
        let plugin = choice.plugin.as_deref();
        let plugin = plugin.map(|path| (path, fs::metadata(path).map_or(0, |metadata| metadata.len())));
        let made = format!("{} {} {:?} {plugin:?}", choice.name(), library.version, choice.options);
        let mut key = KeyBuilder::new();
        key.add(made.as_bytes()).add(format!("{shapes:?} {}", cpu::best().isa).as_bytes()).add(&bytes);
        Some(Entry { cache, key: key.key() })
    }

    /// Its file, if there is one.
    pub(super) fn find(&self) -> Option<PathBuf> {
        self.cache.find(&self.key)
    }

    /// Removes a file that is of no use.
    pub(super) fn remove(&self) {
        // Of a file that can not be removed either, the next start says the same.
        self.cache.remove(&self.key).ok();
    }

    /// Keeps what is in a draft. A full disk, or a folder that is read only, is no reason not to run.
    pub(super) fn store(&self, draft: &Draft) {
        if let Ok(mut made) = File::open(draft.path()) {
            self.cache.store(&self.key, |out| io::copy(&mut made, out).map(drop)).ok();
        }
    }
}

/// Where ONNX Runtime writes what it makes of a network.
pub(super) struct Draft(TempDir);

impl Draft {
    pub(super) fn new() -> Option<Draft> {
        tempfile::tempdir().ok().map(Draft)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join("network.onnx")
    }
}

/// Options of a provider that keeps things itself, in a folder beside the entries of the cache.
pub(super) fn folder(
    choice: &Choice,
    library: &Library,
    cache: Option<&Cache>,
) -> Result<Vec<(String, String)>, OrtError> {
    let (Some(cache), Kept::Folder { option, switch }) = (cache, choice.ep.kept) else {
        return Ok(Vec::new());
    };
    let folder = cache.folder.join(format!("{}-{}", choice.ep.name, library.version));
    if fs::create_dir_all(&folder).is_err() {
        return Ok(Vec::new());
    }
    let path = folder.to_str().ok_or_else(|| OrtError(format!("{} is no text", folder.display())))?;
    let switch = switch.map(|switch| (switch.to_string(), "1".to_string()));
    Ok([(option.to_string(), path.to_string())].into_iter().chain(switch).collect())
}
