//! One sample of a plan file, or the evaluations that it takes in ONNX Runtime, between two calls of getppid, which
//! ../counter.c counts between:
//!
//!     instructions PLAN.fsp f32|f16
//!     instructions PLAN.fsp MODEL.onnx libonnxruntime.so
//!
//! All on one thread, and once before, so that opening, first touches and what stages keep are not counted. The second way
//! also evaluates the plan's networks on the same inputs, those of a sample's first step, and prints how far their output
//! is from ONNX Runtime's.

mod inputs;
mod ort;

use fewstep::plan::{Plan, PlanFile};
use fewstep::provider::{Network, Precision, Settings};
use fewstep::session::Session;
use std::error::Error;
use std::os::unix::process::parent_id;
use std::{env, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [plan, "f32"] => sample(&Plan::open(plan)?, Precision::F32),
        [plan, "f16"] => sample(&Plan::open(plan)?, Precision::F16),
        [plan, model, library] => evaluate(&Plan::open(plan)?, Path::new(model), Path::new(library)),
        _ => Err("give a plan and f32 or f16, or a plan, a network and ONNX Runtime's library".into()),
    }
}

/// Calls it twice, the second time between marks.
fn twice(mut call: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    call()?;
    let _ = parent_id();
    call()?;
    let _ = parent_id();
    Ok(())
}

fn settings(precision: Precision) -> Settings {
    Settings { threads: 1, precision, ..Settings::default() }
}

fn sample(plan: &PlanFile, precision: Precision) -> Result<(), Box<dyn Error>> {
    let mut session = Session::builder().settings(settings(precision)).plan(plan).build()?;
    let mut out = vec![0.0; session.elements()];
    twice(|| Ok(session.sample(&mut out)?))
}

fn evaluate(plan: &PlanFile, model: &Path, library: &Path) -> Result<(), Box<dyn Error>> {
    let session = Session::builder().settings(settings(Precision::F32)).plan(plan).build()?;
    let inputs = inputs::first_step(&session)?;
    let (name, fact) = session.network().outputs().next().ok_or("the network has no output")?;
    let mut peer = ort::Session::open(library, model, &inputs, (name, &fact.shape))?;
    twice(|| (0..session.steps()).try_for_each(|_| peer.run()))?;
    for precision in [Precision::F32, Precision::F16] {
        let mut network = Network::open(plan, settings(precision))?;
        inputs::write(&mut network, &inputs)?;
        network.run()?;
        let off = distance(peer.output(), network.io()?.output_f32(0)?);
        println!("{} {off:.1e}", network.precision());
    }
    Ok(())
}

/// The L2 distance of two outputs, relative to the norm of the first.
fn distance(wanted: &[f32], found: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = wanted.iter().zip(found).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = wanted.iter().map(|&a| square(a)).sum();
    (error / norm).sqrt()
}
