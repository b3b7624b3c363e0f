//! Where tests find ONNX Runtime.

use std::path::{Path, PathBuf};

/// The library that ORT_DYLIB_PATH names, or the one that tests/onnxruntime.sh has fetched. Says so if there is none.
pub fn library() -> Option<PathBuf> {
    let named = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let fetched =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/onnxruntime/onnxruntime/onnxruntime/capi");
    // In an emulator, what was fetched is for another CPU.
    let fits = std::env::var_os("FEWSTEP_RUNNER").is_none() && fetched.is_dir();
    let found = named.or_else(|| fits.then_some(fetched));
    if found.is_none() {
        eprintln!("not run: ORT_DYLIB_PATH is not set, and tests/onnxruntime.sh has fetched nothing");
    }
    found
}
