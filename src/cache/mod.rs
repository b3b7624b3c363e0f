//! Compiled plans kept on disk, so that a model is compiled once and not at every start.
//!
//! An entry is named by a hash of all that it was made from ([`Key`]), so none goes out of date: a changed model, or other
//! settings, have another key. Any number of threads and processes may use a folder at the same time, and may be killed
//! or lose power at any moment: what has an entry's name is whole. Beyond a limit the least recently used entries go.
//!
//! ```no_run
//! # use fewstep::cache::{Cache, KeyBuilder};
//! # let (model, compiled) = ([0; 0], [0; 0]);
//! let key = KeyBuilder::new().add(&model).add(b"x86-avx2").key();
//! if let Some(cache) = Cache::user()? {
//!     let plan = match cache.find(&key) {
//!         Some(plan) => plan,
//!         None => cache.store(&key, |out| out.write_all(&compiled))?,
//!     };
//! }
//! # Ok::<(), fewstep::cache::CacheError>(())
//! ```
#![forbid(unsafe_code)]

mod findings;
mod folders;

pub use folders::Draft;

use crate::files;
use std::{
    ffi::{OsStr, OsString},
    fmt, format, fs, io,
    path::{Path, PathBuf},
    string::String,
    time::SystemTime,
    vec::Vec,
};
use twox_hash::xxhash3_128;

/// Bytes that the entries may take where `FEWSTEP_CACHE_LIMIT` does not say.
pub const LIMIT: u64 = 4 << 30;

const EXTENSION: &str = ".fsp";

/// What a plan was made from, in 128 bits.
///
/// The hash (XXH3) is good against accidents and not against people: a folder is for those who trust who writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u128);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Makes a [`Key`] of parts: the contents of files, settings, a version.
#[derive(Clone, Default)]
pub struct KeyBuilder(xxhash3_128::Hasher);

impl KeyBuilder {
    pub fn new() -> KeyBuilder {
        KeyBuilder::default()
    }

    /// The next part. Where one ends and the next begins counts: "ab", "c" and "a", "bc" are different keys.
    pub fn add(&mut self, part: &[u8]) -> &mut KeyBuilder {
        self.0.write(&(part.len() as u64).to_le_bytes());
        self.0.write(part);
        self
    }

    pub fn key(&self) -> Key {
        Key(self.0.finish_128())
    }
}

/// A folder of compiled plans, and of what other runtimes make of networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Made when the first entry is stored.
    pub folder: PathBuf,
    /// Bytes that the entries may take. One that was just stored is kept however large it is.
    pub limit: u64,
}

impl Cache {
    /// The user's cache, or none, if there is no place for it or the user wants none.
    ///
    /// The folder is `FEWSTEP_CACHE`; empty or `off` means that there is none. Without it, it is `fewstep` in the system's
    /// folder for such things: `$XDG_CACHE_HOME` or `~/.cache`, on Windows `%LOCALAPPDATA%`, on macOS `~/Library/Caches`.
    /// The limit is `FEWSTEP_CACHE_LIMIT`, in bytes or as `500M` or `4G`, without it [`LIMIT`].
    ///
    /// # Errors
    /// If `FEWSTEP_CACHE_LIMIT` is no size.
    pub fn user() -> Result<Option<Cache>, CacheError> {
        Cache::of(std::env::consts::OS, &|name| std::env::var_os(name))
    }

    fn of(system: &str, variable: Variables) -> Result<Option<Cache>, CacheError> {
        let folder = match variable("FEWSTEP_CACHE") {
            Some(folder) if folder.is_empty() || folder == "off" => None,
            Some(folder) => Some(folder.into()),
            None => system_folder(system, variable).map(|folder| folder.join("fewstep")),
        };
        let Some(folder) = folder else { return Ok(None) };
        let limit = match variable("FEWSTEP_CACHE_LIMIT") {
            Some(value) => size(&value)
                .ok_or_else(|| CacheError::Limit { value: value.to_string_lossy().into_owned() })?,
            None => LIMIT,
        };
        Ok(Some(Cache { folder, limit }))
    }

    /// The file of an entry, if there is one. It counts as used now.
    ///
    /// Another process may remove it at any time, so that it may be gone before it is opened; once open or mapped it stays.
    pub fn find(&self, key: &Key) -> Option<PathBuf> {
        let path = self.path(key, EXTENSION);
        if !path.is_file() {
            return None;
        }
        // An entry that belongs to someone else cannot be marked, and serves all the same.
        mark_used(&path).ok();
        Some(path)
    }

    /// Stores what `write` produces as an entry, and returns its file. Then the least recently used entries are removed
    /// until the others keep to the limit, and what killed processes left; what cannot be removed stays.
    ///
    /// # Errors
    /// If the folder cannot be made or the file not be written, or `write` fails. An older entry stays, and a caller that has
    /// the plan itself can do without.
    pub fn store(
        &self,
        key: &Key,
        write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<PathBuf, CacheError> {
        make_folder(&self.folder)
            .map_err(|source| CacheError::Folder { path: self.folder.clone(), source })?;
        let path = self.path(key, EXTENSION);
        files::write_whole(&path, write)
            .map_err(|source| CacheError::Store { path: path.clone(), source })?;
        // Although it is new: the system's clock for files may lag behind the one that `find` asks.
        mark_used(&path).ok();
        self.evict(&path);
        Ok(path)
    }

    /// Removes an entry, if it is there: one that was found to be damaged.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, key: &Key) -> Result<(), CacheError> {
        [EXTENSION, folders::EXTENSION].into_iter().try_for_each(|extension| {
            let path = self.path(key, extension);
            folders::remove(&path).map_err(|source| CacheError::Remove { path, source })
        })
    }

    fn path(&self, key: &Key, extension: &str) -> PathBuf {
        self.folder.join(format!("{key}{extension}"))
    }

    fn evict(&self, keep: &Path) {
        let mut entries: Vec<Entry> = entries_of(&self.folder).collect();
        entries.sort_by_key(|entry| entry.used);
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for entry in entries.iter().filter(|entry| entry.path != keep) {
            if total <= self.limit {
                return;
            }
            if folders::remove(&entry.path).is_ok() {
                total -= entry.bytes;
            }
        }
    }
}

/// Errors of a cache. None of them need end the work: a plan can be compiled, and used, without one.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("FEWSTEP_CACHE_LIMIT={value}: this is no size; write a number of bytes, such as 500M or 4G")]
    Limit { value: String },
    #[error(
        "{path}: cannot make the folder for compiled plans: {source}; \
         set FEWSTEP_CACHE to another folder, or to off to keep none"
    )]
    Folder { path: PathBuf, source: io::Error },
    #[error(
        "{path}: cannot keep the compiled plan: {source}; \
         set FEWSTEP_CACHE to a folder with room that can be written to, or to off to keep none"
    )]
    Store { path: PathBuf, source: io::Error },
    #[error("{path}: cannot remove the compiled plan: {source}; delete it by hand")]
    Remove { path: PathBuf, source: io::Error },
}

/// Environment variables by their names.
type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Where the system has programs keep what they can make again.
fn system_folder(system: &str, variable: Variables) -> Option<PathBuf> {
    // Relative paths are to be ignored, says the XDG specification; so are empty ones with that.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match system {
        "windows" => absolute("LOCALAPPDATA"),
        "macos" | "ios" => Some(absolute("HOME")?.join("Library/Caches")),
        _ => absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache"))),
    }
}

/// Bytes, of `4096`, `64K`, `500M` or `4G`.
fn size(text: &OsStr) -> Option<u64> {
    let text = text.to_str()?.trim();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// What is kept.
struct Entry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// The entries in a folder; other files are none of the cache's business.
fn entries_of(folder: &Path) -> impl Iterator<Item = Entry> {
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|file| {
        let name = file.file_name();
        let is = |extension| name.to_str().is_some_and(|name| is_entry(name, extension));
        let metadata = file.metadata().ok()?;
        if is(folders::EXTENSION) && metadata.is_dir() {
            return folders::entry(file.path());
        }
        let is_file = is(EXTENSION) || is(findings::EXTENSION);
        (is_file && metadata.is_file()).then_some(())?;
        Some(Entry { path: file.path(), bytes: metadata.len(), used: metadata.modified().ok()? })
    })
}

fn is_entry(name: &str, extension: &str) -> bool {
    let hexadecimal = |digits: &str| digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    name.strip_suffix(extension).is_some_and(|digits| digits.len() == 32 && hexadecimal(digits))
}

/// The folder is the user's own, as the XDG specification asks, if it has to be made.
fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// The time of modification is that of the last use: times of access are switched off on many systems.
fn mark_used(path: &Path) -> io::Result<()> {
    // Windows wants a file that is open for writing.
    fs::File::options().append(true).open(path)?.set_modified(SystemTime::now())
}

/// Files that are gone have been removed by another process, as they may.
fn unless_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        collections::HashSet,
        ffi::OsString,
        io::Write,
        process::{Child, Command, Stdio},
        string::ToString,
        thread,
        time::{Duration, Instant},
        vec,
    };

    fn key(name: &str) -> Key {
        KeyBuilder::new().add(name.as_bytes()).key()
    }

    fn cache(folder: &tempfile::TempDir, limit: u64) -> Cache {
        Cache { folder: folder.path().join("made/when/needed"), limit }
    }

    fn store(cache: &Cache, name: &str, bytes: usize) -> PathBuf {
        cache.store(&key(name), |out| out.write_all(&vec![7; bytes])).unwrap()
    }

    fn names(folder: &Path) -> HashSet<String> {
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn keys_tell_parts_from_their_sum() {
        let key = |parts: &[&str]| {
            let mut builder = KeyBuilder::new();
            for part in parts {
                builder.add(part.as_bytes());
            }
            builder.key()
        };
        let parts: [&[&str]; 9] = [
            &[],
            &[""],
            &["", ""],
            &["abc"],
            &["ab", "c"],
            &["a", "bc"],
            &["abc", ""],
            &["", "abc"],
            // A part that looks like the frame of another.
            &["a\x02\0\0\0\0\0\0\0bc"],
        ];
        let keys: HashSet<Key> = parts.iter().map(|parts| key(parts)).collect();
        assert_eq!(keys.len(), parts.len());
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
        // Files outlive the program: another hash would orphan every entry.
        assert_eq!(key(&["ab", "c"]).to_string(), "f2eda2708bcfd51cc05c0ee4c9f60440");
        assert_eq!(Key(0xabc).to_string(), "00000000000000000000000000000abc");
    }

    #[test]
    fn what_is_stored_is_found_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, LIMIT);
        assert_eq!(cache.find(&key("a")), None);
        for contents in ["first, and longer", "second"] {
            let path = cache.store(&key("a"), |out| out.write_all(contents.as_bytes())).unwrap();
            assert_eq!(cache.find(&key("a")), Some(path.clone()));
            assert_eq!(fs::read_to_string(path).unwrap(), contents);
        }
        assert_eq!(cache.find(&key("b")), None);
        cache.remove(&key("a")).unwrap();
        assert_eq!(cache.find(&key("a")), None);
        cache.remove(&key("a")).unwrap();
        assert!(names(&cache.folder).is_empty());
    }

    #[test]
    fn a_failed_store_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, LIMIT);
        let path = store(&cache, "a", 5);
        let error = cache.store(&key("a"), |out| {
            out.write_all(&[8; 1 << 17])?;
            Err(io::ErrorKind::StorageFull.into())
        });
        let expected = format!("{}: cannot keep the compiled plan: no storage space; set", path.display());
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(fs::read(path).unwrap(), [7; 5]);
        assert_eq!(names(&cache.folder).len(), 1);
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, 300);
        let present = |names: &str| {
            let found: String = "abcdef"
                .chars()
                .filter(|name| cache.path(&key(&name.to_string()), EXTENSION).exists())
                .collect();
            assert_eq!(found, names);
        };
        for name in ["a", "b", "c"] {
            store(&cache, name, 100);
        }
        present("abc"); // The limit itself is allowed.
        cache.find(&key("a"));
        store(&cache, "d", 100);
        present("acd");
        store(&cache, "c", 100); // Replaced: as large as before, and used.
        present("acd");
        store(&cache, "e", 150);
        present("ce");
        store(&cache, "f", 1000);
        present("f"); // Kept, although it is larger than the limit.
        store(&cache, "a", 0);
        present("a");
    }

    #[test]
    fn any_number_go_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = cache(&folder, LIMIT);
        let names = ["p", "c", "x", "m", "a", "t", "k", "z", "e", "r"];
        for name in ["a", "c", "e", "k", "m", "p", "r", "t", "x", "z"] {
            store(&cache, name, 100);
        }
        for name in names {
            cache.find(&key(name));
        }
        cache.limit = 500;
        store(&cache, "new", 100);
        let left = names.map(|name| cache.path(&key(name), EXTENSION).exists());
        assert_eq!(left, [false, false, false, false, false, false, true, true, true, true]);
    }

    #[test]
    fn only_its_own_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, 0);
        fs::create_dir_all(&cache.folder).unwrap();
        let entry = "0123456789abcdef0123456789abcdef";
        let old = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
        let make = |name: &str, time| {
            let file = fs::File::create(cache.folder.join(name)).unwrap();
            (&file).write_all(b"contents").unwrap();
            file.set_modified(time).unwrap();
        };
        let others = [
            "notes.txt".into(),
            "plan.fsp".into(),
            format!("{}.fsp", &entry[1..]),
            format!("{entry}0.fsp"),
            format!("{entry}.fsp.bak"),
            format!("{}.fsp", entry.to_uppercase()),
            format!("{}g.fsp", &entry[1..]),
            ".fewstep-settings".into(),
            "fewstep-a.part".into(),
        ];
        for name in &others {
            make(name, old);
        }
        make(&format!("{entry}.fsp"), old);
        make(".fewstep-abandoned.part", old);
        let [odd_folder, odd_link] = ["e", "f"].map(|digit| format!("{}.fsp", entry.replace('0', digit)));
        fs::create_dir(cache.folder.join(&odd_folder)).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("notes.txt", cache.folder.join(&odd_link)).unwrap();

        let stored = store(&cache, "a", 10);
        let mut expected: HashSet<String> = others.into();
        expected.insert(odd_folder);
        if cfg!(unix) {
            expected.insert(odd_link);
        }
        expected.insert(stored.file_name().unwrap().to_str().unwrap().into());
        assert_eq!(names(&cache.folder), expected);
    }

    #[test]
    fn variables_say_where_and_how_much() {
        let base = std::env::temp_dir(); // An absolute path on any system.
        let set = |system: &str, variables: &[(&str, &Path)]| {
            let variables: Vec<_> = variables.to_vec();
            Cache::of(system, &move |name| {
                variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into())
            })
        };
        let path = |rest: &str| base.join(rest);
        let folder = |system: &str, variables: &[(&str, &Path)]| {
            set(system, variables).unwrap().map(|cache| cache.folder)
        };
        let (home, xdg, local) =
            (("HOME", &*path("home")), ("XDG_CACHE_HOME", &*path("xdg")), ("LOCALAPPDATA", &*path("local")));
        let all = [home, xdg, local];
        assert_eq!(folder("linux", &all), Some(path("xdg/fewstep")));
        assert_eq!(folder("linux", &[home]), Some(path("home/.cache/fewstep")));
        for ignored in ["", "relative"] {
            let ignored = Path::new(ignored);
            assert_eq!(
                folder("linux", &[home, ("XDG_CACHE_HOME", ignored)]),
                Some(path("home/.cache/fewstep"))
            );
            assert_eq!(folder("linux", &[("HOME", ignored)]), None);
        }
        assert_eq!(folder("windows", &all), Some(path("local/fewstep")));
        assert_eq!(folder("windows", &[home, xdg]), None);
        assert_eq!(folder("macos", &all), Some(path("home/Library/Caches/fewstep")));
        assert_eq!(folder("linux", &[]), None);

        let with = |value: &'static str| [home, ("FEWSTEP_CACHE", Path::new(value))];
        assert_eq!(folder("linux", &with("off")), None);
        assert_eq!(folder("linux", &with("")), None);
        assert_eq!(folder("linux", &with("plans")), Some("plans".into()));

        let limit = |value: &'static str| set("linux", &[home, ("FEWSTEP_CACHE_LIMIT", Path::new(value))]);
        assert_eq!(set("linux", &[home]).unwrap().unwrap().limit, 4 << 30);
        let sizes = [("0", 0), ("4096", 4096), ("64K", 65536), ("500M", 500 << 20), ("3g", 3 << 30)];
        for (text, bytes) in sizes {
            assert_eq!(limit(text).unwrap().unwrap().limit, bytes, "{text}");
        }
        for nonsense in ["", "M", "much", "-1", "1.5G", "1T", "4GB", "4 G", "18014398509481984K", "1é"] {
            let error = limit(nonsense).unwrap_err().to_string();
            let expected = format!(
                "FEWSTEP_CACHE_LIMIT={nonsense}: this is no size; write a number of bytes, such as 500M or 4G"
            );
            assert_eq!(error, expected);
        }
        let off = [("FEWSTEP_CACHE", Path::new("off")), ("FEWSTEP_CACHE_LIMIT", Path::new("much"))];
        assert_eq!(set("linux", &off).unwrap(), None);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let cache = Cache { folder: file.join("cache"), limit: LIMIT };
        assert_eq!(cache.find(&key("a")), None);
        let error = cache.store(&key("a"), |_| panic!("nothing can be written")).unwrap_err().to_string();
        let expected = format!("{}: cannot make the folder for compiled plans: ", cache.folder.display());
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.ends_with("; set FEWSTEP_CACHE to another folder, or to off to keep none"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_is_read_only_still_serves() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, LIMIT);
        let path = store(&cache, "a", 5);
        let allow = |mode| fs::set_permissions(&cache.folder, PermissionsExt::from_mode(mode)).unwrap();
        let made = fs::metadata(&cache.folder).unwrap().permissions().mode();
        assert_eq!(made & 0o777, 0o700);
        allow(0o500);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
        assert_eq!(cache.find(&key("a")), Some(path.clone()));
        // The superuser may write to it all the same.
        if fs::File::create(cache.folder.join("probe")).is_err() {
            let error = cache.store(&key("b"), |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains("cannot keep the compiled plan: Permission denied"), "{error}");
            let error = cache.remove(&key("a")).unwrap_err().to_string();
            assert!(error.contains("cannot remove the compiled plan: Permission denied"), "{error}");
        }
        allow(0o700);
        assert_eq!(fs::read(path).unwrap(), [7; 5]);
    }

    /// Contents that can be told whole from torn, and of many lengths.
    fn payload(seed: u32) -> Vec<u8> {
        let length = 100_000 + seed.wrapping_mul(2_654_435_761) % 400_000;
        let mut bytes: Vec<u8> = (0..length).map(|i| (i.wrapping_mul(seed | 1) >> 8) as u8).collect();
        bytes.extend(xxhash3_128::Hasher::oneshot(&bytes).to_le_bytes());
        bytes
    }

    fn is_whole(bytes: &[u8]) -> bool {
        bytes.split_last_chunk().is_some_and(|(bytes, sum)| {
            xxhash3_128::Hasher::oneshot(bytes) == u128::from_le_bytes(*sum) && !bytes.is_empty()
        })
    }

    /// Stores entries of four keys, of which three find room, as fast as it can.
    fn store_for(folder: &Path, time: Duration, first: u32) {
        let cache = Cache { folder: folder.into(), limit: 1_000_000 };
        let start = Instant::now();
        for seed in first.. {
            if start.elapsed() > time {
                return;
            }
            let payload = payload(seed);
            let stored = cache.store(&key(&(seed % 4).to_string()), |out| {
                payload.chunks(10_000).try_for_each(|chunk| out.write_all(chunk))
            });
            stored.unwrap();
        }
    }

    const CHILD: &str = "FEWSTEP_TEST_CACHE";

    /// No test by itself: what the processes do that other tests start.
    #[test]
    fn child() {
        if let Some(folder) = std::env::var_os(CHILD) {
            fs::write(Path::new(&folder).join(format!("{}", std::process::id())), "started").unwrap();
            // An end, should the test that started it fail to kill it.
            store_for(folder.as_ref(), Duration::from_secs(10), std::process::id());
        }
    }

    struct Process(Child);

    impl Process {
        /// A process that is about to store its first entry.
        fn start(folder: &Path) -> Process {
            // After the emulator, where these tests run in one (tests/emulated.sh).
            let runner = std::env::var("FEWSTEP_RUNNER").unwrap_or_default();
            let own = std::env::current_exe().unwrap().into_os_string();
            let mut words = runner.split_whitespace().map(OsString::from).chain([own]);
            let mut command = Command::new(words.next().unwrap());
            command.args(words).args(["--exact", "cache::tests::child"]);
            command.env(CHILD, folder).stdout(Stdio::null());
            let process = Process(command.spawn().unwrap());
            let (sign, start) = (folder.join(process.0.id().to_string()), Instant::now());
            while !sign.exists() {
                assert!(start.elapsed() < Duration::from_secs(10), "the process does not start");
                thread::sleep(Duration::from_millis(1));
            }
            process
        }

        fn is_running(&mut self) -> bool {
            self.0.try_wait().unwrap().is_none()
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    /// How many entries there are, all of them whole.
    fn count_whole(folder: &Path) -> usize {
        entries_of(folder)
            // Another process may have removed it since.
            .filter_map(|file| fs::read(&file.path).ok())
            .inspect(|bytes| assert!(is_whole(bytes), "a torn entry of {} bytes", bytes.len()))
            .count()
    }

    #[test]
    fn processes_killed_at_any_moment_leave_whole_entries() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for i in 0..30 {
            let mut process = Process::start(folder);
            thread::sleep(Duration::from_micros((i * 7_919) % 20_000));
            // However slow the disk, there is something to find whole.
            while process.is_running() && count_whole(folder) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            assert!(process.is_running());
            drop(process);
            assert!(count_whole(folder) > 0);
        }

        // Each process has removed what the one before it left.
        let leftovers = || names(folder).into_iter().filter(|name| name.ends_with(".part")).count();
        assert!(leftovers() <= 1, "{:?}", names(folder));
        store(&Cache { folder: folder.into(), limit: LIMIT }, "a", 5);
        assert_eq!(leftovers(), 0);
    }

    #[test]
    fn writers_at_the_same_time_leave_whole_entries() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut processes = [Process::start(folder), Process::start(folder)];
        let time = Duration::from_millis(400);
        let seen = thread::scope(|scope| {
            let writers = [1, 1_000].map(|first| scope.spawn(move || store_for(folder, time, first)));
            let mut seen = 0;
            while !writers.iter().all(|writer| writer.is_finished()) {
                seen += count_whole(folder);
            }
            seen + count_whole(folder)
        });
        assert!(seen > 0);
        assert!(processes.iter_mut().all(Process::is_running), "a writer was disturbed by the others");
    }
}
