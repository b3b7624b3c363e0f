//! Entries that are folders: what ONNX Runtime and its providers make of a network takes several files, or they write it
//! by themselves.
//!
//! A folder has a file that is locked while it is in the making, and tells by its time when the entry was last used.

use super::{Cache, CacheError, Entry, Key, make_folder, mark_used, unless_missing};
use crate::files;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};
use tempfile::TempDir;

pub(super) const EXTENSION: &str = ".onnxruntime";

/// The file that every folder has.
const USED: &str = "used";

/// A folder in the making, which goes with this unless it is [kept](Cache::keep).
#[derive(Debug)]
pub struct Draft {
    /// Dropped before the lock on what it has: the system ends that with the file.
    folder: TempDir,
    _lock: fs::File,
}

impl Draft {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Cache {
    /// The folder of an entry, if there is one, as [`Cache::find`].
    pub fn find_folder(&self, key: &Key) -> Option<PathBuf> {
        let path = self.path(key, EXTENSION);
        if !path.is_dir() {
            return None;
        }
        mark_used(&path.join(USED)).ok();
        Some(path)
    }

    /// The folder of an entry that someone else writes into from now on. What has become of it counts when the next entry
    /// is stored.
    ///
    /// # Errors
    /// If it can not be made.
    pub fn folder(&self, key: &Key) -> Result<PathBuf, CacheError> {
        let path = self.path(key, EXTENSION);
        let made = make_folder(&path).and_then(|()| fs::File::create(path.join(USED)));
        made.map_err(|source| CacheError::Folder { path: path.clone(), source })?;
        // An empty file that is emptied again may keep its time.
        mark_used(&path.join(USED)).ok();
        self.evict(&path);
        Ok(path)
    }

    /// A folder to write an entry into.
    ///
    /// # Errors
    /// If it can not be made.
    pub fn draft(&self) -> Result<Draft, CacheError> {
        let wrap = |source| CacheError::Folder { path: self.folder.clone(), source };
        make_folder(&self.folder).map_err(wrap)?;
        remove_abandoned(&self.folder);
        let folder = tempfile::Builder::new()
            .prefix(files::PREFIX)
            .suffix(files::SUFFIX)
            .tempdir_in(&self.folder)
            .map_err(wrap)?;
        let lock = fs::File::create(folder.path().join(USED)).map_err(wrap)?;
        // Some file systems have no locks.
        lock.lock().ok();
        Ok(Draft { folder, _lock: lock })
    }

    /// Makes a draft an entry, as [`Cache::store`]. Where there is one already, that is as good.
    ///
    /// # Errors
    /// If the files can not be synced, or the folder can not have its name.
    pub fn keep(&self, key: &Key, draft: Draft) -> Result<PathBuf, CacheError> {
        let path = self.path(key, EXTENSION);
        let kept = files_of(draft.path())
            .try_for_each(|(file, _)| fs::File::open(file)?.sync_all())
            .and_then(|()| fs::rename(draft.path(), &path))
            .and_then(|()| files::sync_folder(&self.folder));
        kept.or_else(|source| if path.is_dir() { Ok(()) } else { Err(source) })
            .map_err(|source| CacheError::Store { path: path.clone(), source })?;
        mark_used(&path.join(USED)).ok();
        self.evict(&path);
        Ok(path)
    }
}

/// The entry that a folder of this path is.
pub(super) fn entry(path: PathBuf) -> Option<Entry> {
    let used = fs::metadata(path.join(USED)).ok()?.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let bytes = files_of(&path).map(|(_, metadata)| metadata.len()).sum();
    Some(Entry { path, bytes, used })
}

/// Removes an entry, be it a file or a folder.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.or_else(unless_missing)
}

/// All files under a folder. Links are not followed.
fn files_of(folder: &Path) -> impl Iterator<Item = (PathBuf, fs::Metadata)> + use<> {
    let mut found = std::vec::Vec::new();
    let mut folders = std::vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => found.push((entry.path(), metadata)),
                Err(_) => {}
            }
        }
    }
    found.into_iter()
}

/// Removes the drafts of processes that were killed.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_draft = entry.file_name().to_str().is_some_and(files::is_temporary);
        let lock = fs::File::open(entry.path().join(USED)).ok().filter(|_| is_draft);
        if lock.is_some_and(|lock| lock.try_lock().is_ok()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KeyBuilder, LIMIT};
    use super::*;

    fn key(name: &str) -> Key {
        KeyBuilder::new().add(name.as_bytes()).key()
    }

    fn keep(cache: &Cache, name: &str, bytes: usize) -> PathBuf {
        let draft = cache.draft().expect("a draft");
        fs::write(draft.path().join("network.data"), std::vec![7; bytes]).expect("a file");
        cache.keep(&key(name), draft).expect("an entry")
    }

    fn names(folder: &Path) -> std::vec::Vec<std::ffi::OsString> {
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect()
    }

    #[test]
    fn a_draft_is_kept_or_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache { folder: folder.path().join("made"), limit: LIMIT };
        drop(cache.draft().expect("a draft"));
        assert!(names(&cache.folder).is_empty());
        assert_eq!(cache.find_folder(&key("a")), None);
        let path = keep(&cache, "a", 5);
        assert_eq!(cache.find_folder(&key("a")), Some(path.clone()));
        // The second is as good as the first, which may be in use.
        assert_eq!(keep(&cache, "a", 6), path);
        assert_eq!(fs::metadata(path.join("network.data")).expect("a file").len(), 5);
        assert_eq!(names(&cache.folder).len(), 1);
        cache.remove(&key("a")).expect("removed");
        assert!(names(&cache.folder).is_empty());
    }

    #[test]
    fn what_providers_write_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache { folder: folder.path().into(), limit: 1000 };
        let own = cache.folder(&key("provider")).expect("a folder");
        let deep = own.join("engines");
        fs::create_dir(&deep).expect("a folder");
        fs::write(deep.join("engine.bin"), [1; 800]).expect("a file");
        keep(&cache, "a", 100);
        assert_eq!(cache.folder(&key("provider")).expect("a folder"), own);
        assert!(deep.is_dir());
        // Now it has been used last, and the other one has to go first.
        keep(&cache, "b", 150);
        assert!(deep.is_dir() && cache.find_folder(&key("a")).is_none());
        keep(&cache, "c", 900);
        assert_eq!(cache.find_folder(&key("provider")), None);
        assert!(cache.find_folder(&key("c")).is_some());
    }

    #[test]
    fn drafts_of_the_dead_are_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache { folder: folder.path().into(), limit: LIMIT };
        let dead = folder.path().join(".fewstep-dead.part");
        fs::create_dir(&dead).expect("a folder");
        fs::write(dead.join(USED), "").expect("a file");
        let alive = cache.draft().expect("a draft");
        assert!(!dead.exists());
        let other = cache.draft().expect("a draft");
        assert!(alive.path().exists() && other.path().exists());
    }
}
