//! Plan files: an error, or a plan that runs within its memory.
#![no_main]

#[path = "../../tests/corruption/mod.rs"]
mod corruption;

use libfuzzer_sys::fuzz_target;

/// Kernels are slow where everything is instrumented; tests/corrupt.sh runs more of them.
const MOST_OPERATIONS: u64 = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let mut file = corruption::bytes(data);
    corruption::outcome_of_small(&file, 0, MOST_OPERATIONS);
    // No change of the metadata would get past the checksums.
    corruption::seal(&mut file);
    corruption::outcome_of_small(&file, 0, MOST_OPERATIONS);
});
