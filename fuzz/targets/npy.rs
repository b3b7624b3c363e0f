//! `.npy` files, which the program reads and the library does not: an error, or an array.
#![no_main]
#![allow(dead_code)]

// The program is no library, so its readers are taken by their files.
#[path = "../../src/cli/npy.rs"]
mod npy;
#[path = "../../src/cli/output.rs"]
mod output;

use libfuzzer_sys::fuzz_target;
use std::io::{Seek, SeekFrom, Write};
use std::sync::LazyLock;
use tempfile::NamedTempFile;

static FILE: LazyLock<NamedTempFile> = LazyLock::new(|| NamedTempFile::new().expect("a file"));

fuzz_target!(|data: &[u8]| {
    let mut file = FILE.as_file();
    file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).expect("an empty file");
    file.write_all(data).expect("room");
    let _ = npy::read(FILE.path());
});
