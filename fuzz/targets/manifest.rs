//! Manifests: an error, or one whose table of steps is an error or can be made.
#![no_main]

use fewstep::manifest::{Manifest, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A scheduler's configuration is given, so that none is looked for in the file system.
    let Ok(manifest) = Manifest::parse_with(text, Some("{}"), "fewstep.toml") else { return };
    let _ = manifest.table(&Request::default());
    let _ = manifest.guidance(&Request::default());
});
