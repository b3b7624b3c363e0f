//! Plan files: an error, or a plan that runs within its memory.
#![no_main]

#[path = "../../tests/corruption/mod.rs"]
mod corruption;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut file = corruption::bytes(data);
    corruption::outcome(&file, 0);
    // No change of the metadata would get past the checksums.
    corruption::seal(&mut file);
    corruption::outcome(&file, 0);
});
