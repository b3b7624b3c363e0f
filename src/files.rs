//! Files that are written whole or not at all.
//!
//! What is written goes to a temporary file in the folder it is meant for and takes its name only when every byte is on
//! the disk, so that an interrupted or failed run, or a loss of power, never leaves half a file, and never damages an
//! older one. Its writer holds a lock on the temporary file, which ends with the process: of one that was killed, the next
//! writer to the folder removes it.
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::Path,
};
use tempfile::NamedTempFile;

pub(crate) const PREFIX: &str = ".fewstep-";
pub(crate) const SUFFIX: &str = ".part";

/// Creates or replaces the file `path` with what `write` produces.
///
/// Large pieces are passed on as they are. Linux keeps what is written in one piece of many megabytes in large pages, which
/// are mapped in a tenth of the time: weights are best written at once.
///
/// # Errors
/// If `write` fails, or the system does. What is there then is what was there before or, if only its name could not be
/// synced, the new file.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let folder = folder(path);
    remove_abandoned(folder);
    // On every early return `temporary` is dropped, and its file deleted.
    let mut temporary = temporary_file(folder)?;
    let mut buffered = BufWriter::with_capacity(1 << 16, temporary.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    sync_folder(folder)
}

/// The folder that `path` lies in.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Whether a file of this name is one that [`write_whole`] was writing.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Removes what killed writers have left. What can not be removed stays for the next one.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && entry.file_name().to_str().is_some_and(is_temporary) {
            // Removed under the lock: a writer that comes for it in between finds out.
            let unused = fs::File::open(entry.path()).ok().filter(|file| file.try_lock().is_ok());
            if unused.is_some() {
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}

/// A temporary file, and a lock on it where the file system has locks.
fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    // The file will be an ordinary one, so not tempfile's 0600; the system takes the umask off.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    loop {
        let file = builder.tempfile_in(folder)?;
        // Another writer may have taken it for abandoned before it was locked.
        if file.as_file().lock().is_err() || file.path().exists() {
            return Ok(file);
        }
    }
}

/// The new name reaches the disk too.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match fs::File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems sync no folders, and some folders can be written to but not read: the file itself is synced.
        Err(error) if matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => Ok(()),
        result => result,
    }
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{string::String, vec::Vec};

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_created_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for text in ["first, and longer", "second"] {
            write_whole(&path, |out| out.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn while_it_is_written_the_old_file_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        write_whole(&path, |out| {
            out.write_all(&[0; 1 << 17])?;
            let names = names(folder.path());
            assert_eq!(names.len(), 2);
            assert!(names.iter().all(|name| name == "a" || is_temporary(name)), "{names:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 17);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        let error = write_whole(&path, |out| {
            out.write_all(&[0; 1 << 17])?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let others = ["fewstep-a.part", ".fewstep-settings", "plan.part"];
        for name in others.into_iter().chain([".fewstep-left.part"]) {
            fs::write(at(name), "contents").unwrap();
        }
        fs::create_dir(at(".fewstep-folder.part")).unwrap();
        // Another one is writing, as is a third inside of it.
        let writing = temporary_file(folder.path()).unwrap();
        write_whole(&at("a"), |_| write_whole(&at("b"), |_| Ok(()))).unwrap();
        let mut found = names(folder.path());
        found.sort();
        let mut expected: Vec<String> = others.into_iter().map(String::from).collect();
        expected.extend(["a", "b", ".fewstep-folder.part"].map(String::from));
        expected.push(writing.path().file_name().unwrap().to_str().unwrap().into());
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_without_a_folder_lies_in_this_one() {
        assert_eq!(folder(Path::new("a")), Path::new("."));
        assert_eq!(folder(Path::new("b/a")), Path::new("b"));
        assert_eq!(folder(Path::new("/a")), Path::new("/"));
    }
}
