//! Running the program, for the tests that need it built.
#![allow(dead_code)]

use std::ffi::OsString;
use std::process::Command;
use tempfile::TempDir;

/// The words that start the program: it alone, or after the emulator that `FEWSTEP_RUNNER` names, for a CPU that is not
/// this computer's (tests/emulated.sh).
pub fn words() -> Vec<OsString> {
    let runner = std::env::var("FEWSTEP_RUNNER").unwrap_or_default();
    runner.split_whitespace().chain([env!("CARGO_BIN_EXE_fewstep")]).map(OsString::from).collect()
}

/// The program, without arguments.
pub fn program() -> Command {
    let mut words = words().into_iter();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    command
}

/// Runs the program in a folder with arguments that are split at spaces; its exit code and what it prints.
pub fn try_fewstep(folder: &TempDir, arguments: &str) -> (Option<i32>, String) {
    let mut command = program();
    command.args(arguments.split_whitespace()).current_dir(folder.path());
    // Tests leave no traces, and what one has compiled is nothing to another.
    command.env("FEWSTEP_CACHE", folder.path().join("cache"));
    let output = command.output().expect("a run");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(printed).expect("text"))
}

/// What the program prints when it succeeds, as it has to.
pub fn fewstep(folder: &TempDir, arguments: &str) -> String {
    let (code, printed) = try_fewstep(folder, arguments);
    assert_eq!(code, Some(0), "{arguments}: {printed}");
    printed
}
