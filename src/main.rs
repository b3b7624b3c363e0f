//! `fewstep`, the command line program.
#![deny(unsafe_code)]

mod cli;

use clap::Parser;
use std::io::Write;
use std::panic;
use std::process::ExitCode;

fn main() -> ExitCode {
    // The host library panics on some damaged files and the importer catches it: nothing is to be printed then.
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(|| cli::Args::parse().run().map_err(|error| error.to_string()));
    let result = result.unwrap_or_else(|fault| {
        let text =
            fault.downcast_ref::<String>().map(String::as_str).or(fault.downcast_ref::<&str>().copied());
        Err(format!(
            "a fault of the program itself ({}); report it with the input",
            text.unwrap_or("unknown")
        ))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Names come from files: whatever stands in them, the message stays one line and does nothing to a terminal.
            let message = message.replace(char::is_control, " ");
            // If nobody listens, the exit code still says it.
            let _ = writeln!(std::io::stderr(), "fewstep: error: {message}");
            ExitCode::FAILURE
        }
    }
}
