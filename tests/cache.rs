//! The program compiles a model once, and stays within the memory that it is given.

mod program;

use program::{fewstep, try_fewstep};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with the digits model, its network replaced by what `change` makes of it.
fn model(change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits");
    let network = std::fs::read(own.join("digits.onnx")).expect("a network");
    std::fs::create_dir(folder.path().join("m")).expect("a folder");
    std::fs::write(folder.path().join("m/digits.onnx"), change(network)).expect("a file");
    std::fs::copy(own.join("fewstep.toml"), folder.path().join("m/fewstep.toml")).expect("a file");
    folder
}

/// Plans: beside them is what was found out about a file, once that has been as it is for a while.
fn entries(folder: &TempDir) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder.path().join("cache")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "fsp")).collect()
}

fn samples(folder: &TempDir, arguments: &str) -> Vec<u8> {
    fewstep(folder, &format!("sample {arguments} --seed 5 -o out.npy"));
    std::fs::read(folder.path().join("out.npy")).expect("samples")
}

#[test]
fn a_model_is_compiled_once() {
    let folder = model(|network| network);
    let alone = samples(&folder, "m --no-cache");
    assert!(entries(&folder).is_empty(), "nothing is kept of what was not to be");
    let first = samples(&folder, "m");
    let [entry] = &entries(&folder)[..] else { panic!("one entry") };
    let written = || std::fs::metadata(entry).expect("an entry").len();
    let length = written();
    let second = samples(&folder, "m");
    assert_eq!(entries(&folder).len(), 1);
    assert!(first == alone && second == alone && samples(&folder, "digits") == alone);

    // Another precision is another plan.
    samples(&folder, "m --precision f16");
    assert_eq!(entries(&folder).len(), 2);

    // What is damaged is made again.
    std::fs::write(entry, "not a plan").expect("a file");
    assert!(samples(&folder, "m") == alone);
    assert_eq!(written(), length);
}

#[test]
fn other_weights_are_another_model() {
    let folder = model(|network| network);
    let before = samples(&folder, "m");
    let path = folder.path().join("m/digits.onnx");
    let mut network = std::fs::read(&path).expect("a network");
    let middle = network.len() / 2;
    network[middle..middle + 64].fill(0);
    std::fs::write(&path, network).expect("a file");
    assert!(samples(&folder, "m") != before);
    assert_eq!(entries(&folder).len(), 2);
}

#[test]
fn a_cache_that_cannot_be_written_is_done_without() {
    let folder = model(|network| network);
    std::fs::write(folder.path().join("cache"), "a file where the folder should be").expect("a file");
    let sampled = samples(&folder, "m");
    assert!(sampled == samples(&folder, "m --no-cache"));
}

/// What a cached plan can not keep to is told, and not done without it.
#[cfg(target_os = "linux")]
#[test]
fn a_budget_that_is_too_small_is_an_error_for_a_network_too() {
    let folder = model(|network| network);
    for _ in 0..2 {
        let (code, printed) = try_fewstep(&folder, "sample m --threads 1 --max-memory 1M");
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains("does not run in 1000000 bytes of memory, but in "), "{printed}");
    }
}

/// Where the fast plan does not fit, one is made that does.
#[cfg(target_os = "linux")]
#[test]
fn a_model_that_needs_too_much_memory_is_compiled_for_less() {
    let folder = model(|network| network);
    let least = |arguments: &str| {
        let (code, printed) =
            try_fewstep(&folder, &format!("sample {arguments} --threads 1 --max-memory 1M"));
        assert_eq!(code, Some(1), "{printed}");
        let least = printed.split_once("but in ").and_then(|(_, rest)| rest.split(';').next());
        least.and_then(|bytes| bytes.parse::<u64>().ok()).expect("the least that it needs")
    };
    fewstep(&folder, "compile m -o fast.fsp");
    // A process that has compiled needs somewhat more than those that find what it has made.
    least("m");
    let (fast, little) = (least("fast.fsp"), least("m"));
    let budget = little.midpoint(fast);
    let sample = || try_fewstep(&folder, &format!("sample m --threads 1 --max-memory {budget} -o m.npy"));
    sample();
    let (code, printed) = sample();
    assert_eq!(code, Some(0), "{printed}");
}

/// Samples stay the same, in as little memory as the program says that it needs.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_kept_to() {
    let folder = tempfile::tempdir().expect("a folder");
    fewstep(&folder, "compile digits -o digits.fsp");
    let plain = samples(&folder, "digits.fsp --threads 1");
    let (code, printed) = try_fewstep(&folder, "sample digits.fsp --threads 1 --max-memory 1M");
    assert_eq!(code, Some(1), "{printed}");
    let least: Option<u64> =
        printed.split_once("but in ").and_then(|(_, rest)| rest.split(';').next()?.parse().ok());
    let least = least.expect("the least that it needs") + (1 << 20);
    assert!(samples(&folder, &format!("digits.fsp --threads 1 --max-memory {least}")) == plain);
    assert!(samples(&folder, "digits.fsp --threads 1 --max-memory 1G") == plain);
}
