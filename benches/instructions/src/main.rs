//! One sample of a plan file, or the evaluations that it takes in ONNX Runtime, between two calls of getppid, which
//! ../counter.c counts between:
//!
//!     instructions PLAN.fsp f32|f16 SAMPLE
//!     instructions PLAN.fsp MODEL.onnx libonnxruntime.so
//!     instructions SAMPLE SAMPLE
//!
//! All on one thread, and once before, so that opening, first touches and what stages keep are not counted. The first way
//! writes the sample to a file. The second one also evaluates the plan's network in f32 on the same inputs, those of a
//! sample's first step, and prints how far its output is from ONNX Runtime's. The third prints how far the second sample
//! is from the first.

mod inputs;
mod ort;

use fewstep::plan::{Plan, PlanFile};
use fewstep::provider::{Network, Precision, Settings};
use fewstep::session::Session;
use std::error::Error;
use std::os::unix::process::parent_id;
use std::{env, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [plan, "f32", out] => sample(&Plan::open(plan)?, Precision::F32, out),
        [plan, "f16", out] => sample(&Plan::open(plan)?, Precision::F16, out),
        [plan, model, library] => evaluate(&Plan::open(plan)?, Path::new(model), Path::new(library)),
        [wanted, found] => compare(&floats(wanted)?, &floats(found)?),
        _ => Err("give a plan, f32 or f16 and a file; a plan, a network and ONNX Runtime's library; or two samples".into()),
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

fn sample(plan: &PlanFile, precision: Precision, file: &str) -> Result<(), Box<dyn Error>> {
    let mut session = Session::builder().settings(settings(precision)).plan(plan).build()?;
    let mut out = vec![0.0f32; session.elements()];
    twice(|| Ok(session.sample(&mut out)?))?;
    Ok(fs::write(file, out.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?)
}

fn floats(file: &str) -> Result<Vec<f32>, Box<dyn Error>> {
    Ok(fs::read(file)?.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

/// Prints the root mean square of what two samples differ in, and the most, relative to the range of the first.
fn compare(wanted: &[f32], found: &[f32]) -> Result<(), Box<dyn Error>> {
    if wanted.is_empty() || wanted.len() != found.len() {
        return Err("these are no two samples of a model".into());
    }
    let (low, high) = wanted.iter().fold((f32::MAX, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
    let range = f64::from(high - low);
    let off = || wanted.iter().zip(found).map(|(&a, &b)| f64::from(a - b).abs());
    let mean = (off().map(|x| x * x).sum::<f64>() / wanted.len() as f64).sqrt();
    // A difference that is not a number is the largest.
    let most = off().fold(0.0, |most, x| if x <= most { most } else { x });
    println!("{:.1e} {:.1e}", mean / range, most / range);
    Ok(())
}

fn evaluate(plan: &PlanFile, model: &Path, library: &Path) -> Result<(), Box<dyn Error>> {
    let session = Session::builder().settings(settings(Precision::F32)).plan(plan).build()?;
    let inputs = inputs::first_step(&session)?;
    let (name, fact) = session.network().outputs().next().ok_or("the network has no output")?;
    let mut peer = ort::Session::open(library, model, &inputs, (name, &fact.shape))?;
    twice(|| (0..session.steps()).try_for_each(|_| peer.run()))?;
    let mut network = Network::open(plan, settings(Precision::F32))?;
    inputs::write(&mut network, &inputs)?;
    network.run()?;
    println!("{:.1e}", distance(peer.output(), network.io()?.output_f32(0)?));
    Ok(())
}

/// The L2 distance of two outputs, relative to the norm of the first.
fn distance(wanted: &[f32], found: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = wanted.iter().zip(found).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = wanted.iter().map(|&a| square(a)).sum();
    (error / norm).sqrt()
}
