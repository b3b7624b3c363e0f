//! Draws one sample from a plan file and writes its values, as they lie in memory:
//! `minimal PLAN.fsp OUTPUT [SEED [NAME=VALUE]...]`.

use fewstep::plan::Plan;
use fewstep::session::Session;
use std::{env, error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [plan, output, options @ ..] = &arguments[..] else {
        return Err("give a plan file and an output".into());
    };
    let (seed, conditions) = options.split_first().map_or(("0", options), |(seed, rest)| (seed, rest));

    let mut session = Session::builder().plan(&Plan::open(plan)?).seed(seed.parse()?).build()?;
    for condition in conditions {
        let (name, value) = condition.split_once('=').ok_or("a condition is NAME=VALUE")?;
        session.set_condition(name, &[value.parse()?])?;
    }
    let mut sample = vec![0.0; session.elements()];
    session.sample(&mut sample)?;
    let bytes: Vec<u8> = sample.iter().flat_map(|x| x.to_ne_bytes()).collect();
    Ok(fs::write(output, bytes)?)
}
