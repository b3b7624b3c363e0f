//! Draws one sample from a plan file and writes its values, as they lie in memory:
//! `minimal PLAN.fsp OUTPUT [SEED [NAME=VALUE]...]`.

use fewstep::plan::Plan;
use fewstep::session::Session;
use std::{env, fmt::Display, fs, process::ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, in words: a `dyn Error` would bring how each error is debugged, which is 20 kB.
fn words(error: impl Display) -> String {
    error.to_string()
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [plan, output, options @ ..] = &arguments[..] else {
        return Err("give a plan file and an output".into());
    };
    let (seed, conditions) = options.split_first().map_or(("0", options), |(seed, rest)| (seed, rest));

    let plan = Plan::open(plan).map_err(words)?;
    let seed = seed.parse().map_err(words)?;
    let mut session = Session::builder().plan(&plan).seed(seed).build().map_err(words)?;
    for condition in conditions {
        let (name, value) = condition.split_once('=').ok_or("a condition is NAME=VALUE")?;
        session.set_condition(name, &[value.parse().map_err(words)?]).map_err(words)?;
    }
    let mut sample = vec![0.0; session.elements()];
    session.sample(&mut sample).map_err(words)?;
    let bytes: Vec<u8> = sample.iter().flat_map(|x| x.to_ne_bytes()).collect();
    fs::write(output, bytes).map_err(words)
}
