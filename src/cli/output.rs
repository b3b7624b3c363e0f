//! Results written to where the user wants them: files whole or not at all, pipes and devices as they are.
#![forbid(unsafe_code)]

use fewstep::files;
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// Create or replace the file `path` with what `write` produces.
///
/// What exists and is no ordinary file, such as `/dev/stdout`, is written directly: it cannot be replaced.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), OutputError> {
    let written = match fs::canonicalize(path) {
        Ok(folder) if folder.is_dir() => return Err(OutputError::IsFolder { path: path.into() }),
        // The file behind a link is replaced, not the link.
        Ok(file) if file.is_file() => files::write_whole(&file, write),
        Ok(_) => write_directly(path, write),
        // A link without a name behind it: a pipe (`/dev/stdout`), or a file still to be made.
        Err(_) if path.is_symlink() => write_directly(path, write),
        Err(_) => {
            check_folder(path)?;
            files::write_whole(path, write)
        }
    };
    written.map_err(|source| OutputError::Write { path: path.into(), source })
}

/// Whether a file can be meant by `path`: for an error before the work, not after it.
pub fn check(path: &Path) -> Result<(), OutputError> {
    if path.is_dir() {
        return Err(OutputError::IsFolder { path: path.into() });
    }
    check_folder(path)
}

#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("{path}: cannot write the file: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path}: cannot write the file: there is no folder {folder}; create it first")]
    NoFolder { path: PathBuf, folder: PathBuf },
    #[error("{path}: cannot write the file: this is a folder; name a file in it")]
    IsFolder { path: PathBuf },
}

fn write_directly(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut buffered = BufWriter::with_capacity(1 << 16, File::create(path)?);
    write(&mut buffered)?;
    buffered.flush()
}

fn check_folder(path: &Path) -> Result<(), OutputError> {
    let folder = files::folder(path);
    if folder.is_dir() {
        return Ok(());
    }
    Err(OutputError::NoFolder { path: path.into(), folder: folder.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_created_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for text in ["first, and longer", "second"] {
            write_atomically(&path, |out| out.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let fail = |out: &mut dyn Write| {
            out.write_all(&[0; 1 << 17])?;
            Err(io::ErrorKind::StorageFull.into())
        };
        let error = write_atomically(&path, fail).unwrap_err().to_string();
        assert_eq!(error, format!("{}: cannot write the file: no storage space", path.display()));
        assert!(names(folder.path()).is_empty());

        fs::write(&path, "old").unwrap();
        write_atomically(&path, fail).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not/here/a.txt");
        let error = write_atomically(&path, |_| Ok(())).unwrap_err().to_string();
        let expected = format!("there is no folder {}; create it first", path.parent().unwrap().display());
        assert!(error.ends_with(&expected), "{error}");
        let error = write_atomically(folder.path(), |_| Ok(())).unwrap_err().to_string();
        assert!(error.ends_with("this is a folder; name a file in it"), "{error}");
        write_atomically(&folder.path().join("new/"), |_| Ok(())).unwrap_err();
        assert!(names(folder.path()).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_an_error_in_one_line() {
        for count in [1, 1 << 20] {
            let bytes = vec![0; count];
            let error = write_atomically(Path::new("/dev/full"), |out| out.write_all(&bytes));
            let error = error.unwrap_err().to_string();
            assert_eq!(error, "/dev/full: cannot write the file: No space left on device (os error 28)");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_like_any_new_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, ordinary) = (folder.path().join("a.txt"), folder.path().join("b.txt"));
        write_atomically(&path, |_| Ok(())).unwrap();
        File::create(&ordinary).unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&ordinary));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (link, path) = (folder.path().join("link"), folder.path().join("a.txt"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for text in ["through a link to nothing", "through a link to a file"] {
            write_atomically(&link, |out| out.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert!(link.is_symlink());
        }
    }
}
