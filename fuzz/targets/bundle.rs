//! Bundles: an error, or files and plans out of it.
#![no_main]

#[path = "../../tests/corruption/mod.rs"]
#[allow(dead_code)]
mod corruption;

use fewstep::plan::Bundle;
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::NamedTempFile;

static FILE: LazyLock<NamedTempFile> = LazyLock::new(|| NamedTempFile::new().expect("a file"));

fuzz_target!(|data: &[u8]| {
    let mut file = corruption::bytes(data);
    read(&file);
    // No change of the table would get past its checksum.
    corruption::seal(&mut file);
    read(&file);
});

fn read(bytes: &[u8]) {
    let path: &Path = FILE.path();
    std::fs::write(path, bytes).expect("room");
    let Ok(bundle) = Bundle::open(path) else { return };
    assert!(Bundle::is_one(path));
    let _ = bundle.verify();
    for (name, length) in bundle.members() {
        assert_eq!(bundle.get(name).map(<[u8]>::len), Some(length));
        let _ = bundle.plan(name);
    }
}
