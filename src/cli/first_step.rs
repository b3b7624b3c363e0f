//! What a network reads in the first step of a run, for those who measure one evaluation.
//!
//! Made-up numbers would do for a network's time if they were harmless; but some networks take the logarithm of their
//! time, or look up what an input counts.
#![forbid(unsafe_code)]

use fewstep::engine::EngineError;
use fewstep::graph::{Data, Fact};
use fewstep::kernels::DType;
use fewstep::manifest::{Condition, Manifest, Request, RequestError, Role};
use fewstep::plan::Depth;
use fewstep::provider::{Network, NetworkError, Precision};
use fewstep::sampler::{self, Noise, Table, TorchCpu};

/// A network's input and what it holds.
pub struct Input {
    pub name: String,
    pub data: Data,
}

/// The inputs of the first step. Without a manifest: unit normal noise, zeros for whole numbers and truth values.
///
/// # Errors
/// If the model does not allow what is asked for.
pub fn inputs(
    network: &Network,
    manifest: Option<&Manifest>,
    request: &Request,
) -> Result<Vec<Input>, RequestError> {
    let table = manifest.map(|manifest| manifest.table(request)).transpose()?;
    let input = |(name, fact): (&str, Fact)| {
        let role = manifest.and_then(|manifest| manifest.inputs.iter().find(|input| input.name == name));
        let values = match (&table, role) {
            (Some(table), Some(input)) => values(table, &input.role, fact.len())?,
            _ if fact.dtype == DType::F32 => noise(fact.len()),
            _ => vec![0.0; fact.len()],
        };
        let data = match fact.dtype {
            DType::F32 => Data::F32(values),
            DType::I64 => Data::I64(values.into_iter().map(|value| value.round_ties_even() as i64).collect()),
            DType::Bool => Data::Bool(values.into_iter().map(|value| value != 0.0).collect()),
        };
        Ok(Input { name: name.into(), data })
    };
    network.inputs().map(input).collect()
}

fn values(table: &Table, role: &Role, len: usize) -> Result<Vec<f32>, RequestError> {
    let row = &table.rows[0];
    Ok(match role {
        Role::State { .. } => {
            let mut state = noise(len);
            let mut fed = vec![0.0; len];
            sampler::start(table, &mut state, Some(&noise(len)))?;
            sampler::feed(row, &state, &mut fed)?;
            fed
        }
        Role::Time => vec![row.inputs.t as f32; len],
        Role::Target => vec![row.inputs.s as f32; len],
        Role::Duration => vec![row.inputs.h as f32; len],
        Role::Step => vec![0.0; len],
        Role::Steps => vec![table.rows.len() as f32; len],
        Role::Condition(condition) => {
            condition_values(condition).iter().map(|&value| value as f32).cycle().take(len).collect()
        }
    })
}

/// A condition's default; for one that has none, a value that it takes.
pub fn condition_values(condition: &Condition) -> Vec<f64> {
    let lowest = || vec![condition.range.map_or(0.0, |[low, _]| low)];
    condition.default.clone().unwrap_or_else(lowest)
}

fn noise(len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    TorchCpu::new(0).fill_normal(&mut values);
    values
}

/// Writes the inputs by their names.
///
/// # Errors
/// If the network has them in other types.
pub fn write(network: &mut Network, inputs: &[Input]) -> Result<(), EngineError> {
    let names: Vec<String> = network.inputs().map(|(name, _)| name.to_string()).collect();
    let mut io = network.io()?;
    for (index, name) in names.iter().enumerate() {
        let Some(input) = inputs.iter().find(|input| input.name == *name) else { continue };
        match &input.data {
            Data::F32(values) => io.input_f32(index)?.copy_from_slice(values),
            Data::I64(values) => io.input_i64(index)?.copy_from_slice(values),
            Data::Bool(values) => {
                let bytes = io.input_bool(index)?.iter_mut().zip(values);
                bytes.for_each(|(byte, value)| *byte = u8::from(*value));
            }
        }
    }
    Ok(())
}

/// The largest distance of outputs in half precision from those in f32, relative to the latter's norm.
const CLOSE: f64 = 5e-3;

/// Prepares a network for single evaluations: writes the inputs, and if it is to run in half precision, puts it into that
/// by what the inputs make of its values, as far as outputs stay the same.
///
/// # Errors
/// If the network has other inputs, does not run, or is too large.
pub fn prepare(network: &mut Network, inputs: &[Input]) -> Result<(), NetworkError> {
    write(network, inputs)?;
    settle(network)
}

/// What [`prepare`] does once the inputs are written.
///
/// # Errors
/// As [`prepare`].
pub fn settle(network: &mut Network) -> Result<(), NetworkError> {
    let isa = network.cpu().map(|cpu| cpu.plan().isa());
    match found(network, isa.map_or(&Depth::ALL[..], Depth::ways))? {
        Some((_, halved)) => *network = halved,
        None => network.settle(),
    }
    Ok(())
}

/// Which of the ways into half precision [`prepare`] takes; `None` for none.
///
/// # Errors
/// As [`prepare`].
pub fn depth(network: &mut Network, inputs: &[Input], ways: &[Depth]) -> Result<Option<Depth>, NetworkError> {
    write(network, inputs)?;
    Ok(found(network, ways)?.map(|(depth, _)| depth))
}

fn found(network: &mut Network, ways: &[Depth]) -> Result<Option<(Depth, Network)>, NetworkError> {
    let Some(precision) = network.calibrating() else { return Ok(None) };
    evaluate(network)?;
    let wanted = outputs(network)?;
    let mut found = None;
    for &depth in ways {
        let Some(mut halved) = network.halved(depth)? else { break };
        evaluate(&mut halved)?;
        let close = distance(&wanted, &outputs(&mut halved)?) < CLOSE;
        found = Some((depth, halved)).filter(|_| close || precision == Precision::F16);
        if close {
            break;
        }
    }
    Ok(found)
}

/// All f32 outputs.
fn outputs(network: &mut Network) -> Result<Vec<f32>, EngineError> {
    let floats: Vec<bool> = network.outputs().map(|(_, fact)| fact.dtype == DType::F32).collect();
    let mut io = network.io()?;
    let mut all = Vec::new();
    for (index, _) in floats.iter().enumerate().filter(|(_, float)| **float) {
        all.extend_from_slice(io.output_f32(index)?);
    }
    Ok(all)
}

/// The L2 distance of two outputs, relative to the norm of the first; infinite if their lengths differ.
pub fn distance(wanted: &[f32], found: &[f32]) -> f64 {
    if wanted.len() != found.len() {
        return f64::INFINITY;
    }
    let square = |x: f64| x * x;
    let error: f64 = wanted.iter().zip(found).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let norm: f64 = wanted.iter().map(|&a| square(f64::from(a))).sum();
    (error / norm.max(f64::MIN_POSITIVE)).sqrt()
}

/// Evaluates the network once: one hand-over to its pool, as a session's step.
///
/// # Errors
/// As [`Network::run`].
pub fn evaluate(network: &mut Network) -> Result<(), NetworkError> {
    match network.pool() {
        Some(pool) => pool.install(|| network.run()),
        None => network.run(),
    }
}
