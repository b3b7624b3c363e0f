//! What was found out about a file by reading it whole, kept for as long as it is the same file: one of gigabytes takes
//! seconds to read, and a start has milliseconds.
//!
//! Whether it is the same file, its name, length and times say, as build tools ask them too. On Unix the time of the last
//! change of any kind is one of them, which no program can set.

use super::{Cache, KeyBuilder, make_folder, mark_used};
use crate::files;
use std::format;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::string::String;
use std::time::{Duration, SystemTime};

pub(super) const EXTENSION: &str = ".found";

/// Clocks of file systems are this coarse at most: who writes to a file so soon after it was last written may leave its times
/// what they were.
const COARSE: Duration = Duration::from_secs(3);

impl Cache {
    /// What `find` says of a file, a line or some, or what it has said of the same file before. `question` is what it finds.
    ///
    /// # Errors
    /// If it is no regular file that can be read, or those of `find`.
    pub fn finding(
        &self,
        question: &str,
        path: &Path,
        find: impl FnOnce(&File) -> io::Result<String>,
    ) -> io::Result<String> {
        // Anything else may have no end, or wait for somebody to write to it.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        let before = file.metadata()?;
        let place = path.canonicalize()?;
        let mut key = KeyBuilder::new();
        key.add(question.as_bytes())
            .add(place.as_os_str().as_encoded_bytes())
            .add(identity(&before).as_bytes());
        let kept = self.path(&key.key(), EXTENSION);
        if let Ok(found) = fs::read_to_string(&kept) {
            mark_used(&kept).ok();
            return Ok(found);
        }
        let found = find(&file)?;
        let unchanged = file.metadata().is_ok_and(|after| identity(&after) == identity(&before));
        if unchanged && is_settled(&before) {
            // A folder that is full or read only is no reason not to go on.
            self.keep_finding(&kept, &found).ok();
        }
        Ok(found)
    }

    fn keep_finding(&self, path: &Path, found: &str) -> io::Result<()> {
        make_folder(&self.folder)?;
        files::write_whole(path, |out| out.write_all(found.as_bytes()))
    }
}

impl KeyBuilder {
    /// The contents of a file as the next part, which are in memory a piece at a time.
    ///
    /// # Errors
    /// If it can not be read.
    pub fn add_file(&mut self, file: &File) -> io::Result<&mut KeyBuilder> {
        self.0.write(&file.metadata()?.len().to_le_bytes());
        let mut piece = std::vec![0; 1 << 20];
        let mut file = file;
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(self),
                Ok(bytes) => self.0.write(&piece[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What tells a file from what was at its place before.
fn identity(file: &Metadata) -> String {
    let times = [file.modified(), file.created()].map(|time| time.ok());
    #[cfg(unix)]
    let system = {
        use std::os::unix::fs::MetadataExt;
        [file.dev() as i64, file.ino() as i64, file.ctime(), file.ctime_nsec()]
    };
    #[cfg(not(unix))]
    let system = [0; 0];
    format!("{} {times:?} {system:?}", file.len())
}

/// Whether a file was left alone for long enough that its times would tell if it had changed since.
fn is_settled(file: &Metadata) -> bool {
    #[cfg(unix)]
    let changed = {
        let seconds = std::os::unix::fs::MetadataExt::ctime(file).try_into().unwrap_or(0);
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    };
    #[cfg(not(unix))]
    let changed = Some(SystemTime::UNIX_EPOCH);
    let last = file.modified().ok().zip(changed).map(|(modified, changed)| modified.max(changed));
    last.and_then(|last| SystemTime::now().duration_since(last).ok()).is_some_and(|age| age > COARSE)
}

#[cfg(test)]
mod tests {
    use super::super::LIMIT;
    use super::*;
    use std::cell::Cell;
    use std::path::PathBuf;
    use std::string::ToString;

    /// A cache, and a file that was last changed in another year as far as its time of modification says.
    fn made(folder: &tempfile::TempDir) -> (Cache, PathBuf) {
        let cache = Cache { folder: folder.path().join("made"), limit: LIMIT };
        let path = folder.path().join("weights");
        fs::write(&path, "contents").expect("a file");
        (cache, path)
    }

    fn age(path: &Path) {
        let old = SystemTime::now() - Duration::from_secs(1 << 25);
        File::options().append(true).open(path).and_then(|file| file.set_modified(old)).expect("a time");
    }

    #[test]
    fn what_was_found_is_not_looked_for_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (cache, path) = made(&folder);
        let asked = Cell::new(0);
        let find = |question: &str| {
            let find = |file: &File| {
                asked.set(asked.get() + 1);
                let mut text = String::new();
                Read::read_to_string(&mut &*file, &mut text)?;
                Ok(text)
            };
            cache.finding(question, &path, find).expect("a finding")
        };
        // Just written, so that it may be written again without a trace.
        assert_eq!([find("text"), find("text")], ["contents", "contents"]);
        assert_eq!(asked.get(), 2);
        age(&path);
        std::thread::sleep(COARSE + Duration::from_millis(100));
        assert_eq!([find("text"), find("text"), find("text")], ["contents"; 3]);
        assert_eq!(asked.get(), 3);
        assert_eq!([find("another"), find("text")], ["contents"; 2]);
        assert_eq!(asked.get(), 4);
        // As long, and as old by the time that programs can set.
        fs::write(&path, "changed.").expect("a file");
        age(&path);
        assert_eq!([find("text"), find("another")], ["changed."; 2]);
        assert_eq!(asked.get(), 6);
        assert!(cache.finding("text", &folder.path().join("none"), |_| Ok(String::new())).is_err());
    }

    #[test]
    fn a_file_counts_as_its_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        for length in [0, 1, 3 << 20] {
            let bytes: std::vec::Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            fs::write(&path, &bytes).expect("a file");
            let mut streamed = KeyBuilder::new();
            streamed.add_file(&File::open(&path).expect("a file")).expect("its bytes");
            assert_eq!(streamed.key().to_string(), KeyBuilder::new().add(&bytes).key().to_string());
        }
    }
}
