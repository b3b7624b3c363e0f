//! Manifests: an error, or one whose table of steps is an error or can be made, and that a plan file can hold.
#![no_main]

use fewstep::manifest::{Manifest, Request};
use libfuzzer_sys::fuzz_target;
use rkyv::util::AlignedVec;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // In a folder that is none, so that no scheduler's configuration is found.
    let Ok(manifest) = Manifest::parse(text, "/dev/null/fewstep.toml") else { return };
    let table = manifest.table(&Request::default());
    let _ = manifest.guidance(&Request::default());
    let mut archive = AlignedVec::<16>::new();
    archive.extend_from_slice(&manifest.archived());
    let again = Manifest::from_archive(&archive, "fuzzed.fsp").expect("the same rules");
    assert_eq!(format!("{:?}", again.table(&Request::default())), format!("{table:?}"));
});
