//! What ONNX Runtime and its providers make of a network, kept in the cache of compiled models, so that the next start does
//! not make it again.

use super::Choice;
use super::library::Library;
use super::registry::Kept;
use crate::cache::{Cache, Draft, Key, KeyBuilder};
use crate::kernels::cpu;
use crate::onnx::external_files;
use crate::provider::external::Port;
use crate::provider::{OnnxFile, Opening};
use std::format;
use std::fs;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::vec::Vec;

/// Beyond this size, the copy of a network might not fit a file of protocol buffers.
const LARGEST: usize = 1 << 30;

/// What is in an entry: the network, and the weights that are mapped.
pub(super) const NETWORK: &str = "network.onnx";
pub(super) const WEIGHTS: &str = "network.data";

/// The entry of a network in the cache.
pub(super) struct Entry<'a> {
    cache: &'a Cache,
    key: Key,
    kept: Kept,
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
        let kept = choice.kept();
        let cache = opening.cache.filter(|_| !matches!(kept, Kept::Not))?;
        let bytes = file.contents().ok()?;
        // What is beside a file, ONNX Runtime maps by itself; a copy would be as large.
        if kept.is_ours() && (bytes.len() > LARGEST || !external_files(&bytes).ok()?.is_empty()) {
            return None;
        }
        let shapes: Vec<&[usize]> = inputs.iter().map(|port| &port.shape[..]).collect();
        let plugin = choice.plugin.as_deref();
        let plugin = plugin.map(|path| (path, fs::metadata(path).map_or(0, |metadata| metadata.len())));
        let made = format!("{} {} {:?} {plugin:?}", choice.name(), library.version, choice.options);
        let mut key = KeyBuilder::new();
        key.add(made.as_bytes()).add(format!("{shapes:?} {}", cpu::best().isa).as_bytes()).add(&bytes);
        Some(Entry { cache, key: key.key(), kept })
    }

    /// Options of a provider that keeps things itself, in the entry's folder.
    pub(super) fn options(&self) -> Vec<(String, String)> {
        let Kept::Folder(options) = self.kept else { return Vec::new() };
        // A full disk, or a folder that is read only, is no reason not to run.
        let folder = self.cache.folder(&self.key).ok();
        let Some(path) = folder.as_ref().and_then(|folder| folder.to_str()) else { return Vec::new() };
        options(path).into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// The network that is kept, if there is one.
    pub(super) fn find(&self) -> Option<PathBuf> {
        self.cache.find_folder(&self.key).map(|folder| folder.join(NETWORK))
    }

    /// Removes what is of no use.
    pub(super) fn remove(&self) {
        // Of what can not be removed either, the next start says the same.
        self.cache.remove(&self.key).ok();
    }

    pub(super) fn draft(&self) -> Option<Draft> {
        self.cache.draft().ok()
    }

    /// Keeps a draft, if one was written, and says where the network is.
    pub(super) fn keep(&self, draft: Draft) -> Option<PathBuf> {
        let is_written = draft.path().join(NETWORK).is_file();
        let folder = is_written.then(|| self.cache.keep(&self.key, draft).ok()).flatten()?;
        Some(folder.join(NETWORK))
    }
}
