//! `--against`: another runtime in the same process, on the same inputs, in turns.
#![forbid(unsafe_code)]

use super::super::first_step::{self, Input};
use super::super::models;
use super::distribution::Distribution;
use super::measure::WARM_UP;
use super::report;
use super::{Bench, BenchError, wrap};
use clap::ValueEnum;
use fewstep::kernels::DType;
use fewstep::plan::Fact;
use fewstep::provider::{Network, Provider, Settings};
use std::time::{Duration, Instant};

/// Another runtime.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Peer {
    /// ONNX Runtime's CPU provider
    Ort,
    /// tract, as it is part of this program
    Tract,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Ort => "onnxruntime",
            Peer::Tract => "tract",
        }
    }

    /// What a reader of its time has to know.
    fn note(self) -> Option<&'static str> {
        match self {
            Peer::Ort => None,
            Peer::Tract => {
                Some("tract runs on one thread, and this program's copy is compiled with opt-level 1")
            }
        }
    }
}

/// Evaluations in turns; times in milliseconds.
pub struct Turns {
    pub name: &'static str,
    version: String,
    threads: usize,
    note: Option<&'static str>,
    pub ours: Vec<f64>,
    pub theirs: Vec<f64>,
    error: Option<f64>,
}

impl Turns {
    /// One evaluation of the network here and there, in turns, so that the clock's moods meet both.
    pub fn taken(bench: &Bench, source: &models::Source, peer: Peer) -> Result<Turns, BenchError> {
        let mut network = bench.network(source, &bench.running.provider()?, bench.settings()?)?;
        let inputs = first_step::inputs(&network, source.manifest.as_ref(), &bench.request())?;
        first_step::prepare(&mut network, &inputs).map_err(|error| wrap(source, error))?;
        let mut other = open(bench, source, peer, &inputs)?;
        for _ in 0..WARM_UP {
            evaluated(source, &mut network)?;
            evaluated(source, &mut other)?;
        }
        let error = relative_error(&mut network, &mut other)?;
        let one = evaluated(source, &mut network)? + evaluated(source, &mut other)?;
        let runs = bench.runs(Duration::from_secs_f64(one / 1e3));
        let (mut ours, mut theirs) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
        for _ in 0..runs {
            ours.push(evaluated(source, &mut network)?);
            theirs.push(evaluated(source, &mut other)?);
        }
        let (version, threads) = (other.version().to_string(), bench.threads());
        let threads = if matches!(peer, Peer::Tract) { 1 } else { threads };
        Ok(Turns { name: peer.name(), version, threads, note: peer.note(), ours, theirs, error })
    }

    pub fn report(&self) -> report::Peer {
        let [step_ms, own_step_ms] = [&self.theirs, &self.ours].map(|times| Distribution::of(times));
        report::Peer {
            name: self.name,
            version: self.version.clone(),
            threads: self.threads,
            note: self.note,
            runs: self.ours.len(),
            step_ms,
            own_step_ms,
            ratio: step_ms.p50 / own_step_ms.p50,
            max_relative_l2: self.error,
        }
    }
}

fn open(bench: &Bench, source: &models::Source, peer: Peer, inputs: &[Input]) -> Result<Network, BenchError> {
    let provider = match peer {
        Peer::Ort => bench.running.provider.ort(),
        Peer::Tract => Provider::Tract,
    };
    let settings = Settings { threads: bench.threads(), ..Settings::default() };
    let mut network = bench.network(source, &provider, settings)?;
    first_step::write(&mut network, inputs)?;
    Ok(network)
}

/// Milliseconds that an evaluation takes.
fn evaluated(source: &models::Source, network: &mut Network) -> Result<f64, BenchError> {
    let begin = Instant::now();
    first_step::evaluate(network).map_err(|error| wrap(source, error))?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// The largest, over all f32 outputs, of the distance between ours and the peer's, relative to the peer's norm; `None`
/// if no output is f32.
fn relative_error(network: &mut Network, peer: &mut Network) -> Result<Option<f64>, BenchError> {
    let names: Vec<String> = network.outputs().map(|(name, _)| name.to_string()).collect();
    let index = |(at, (name, fact)): (usize, (&str, Fact))| {
        let own = names.iter().position(|own| own == name)?;
        (fact.dtype == DType::F32).then_some((own, at))
    };
    let pairs: Vec<_> = peer.outputs().enumerate().filter_map(index).collect();
    let (mut ours, mut theirs) = (network.io()?, peer.io()?);
    let mut worst: Option<f64> = None;
    for (own, at) in pairs {
        let error = first_step::distance(theirs.output_f32(at)?, ours.output_f32(own)?);
        // Not `max`, which would forget a NaN.
        worst = worst.filter(|&worst| error <= worst || worst.is_nan()).or(Some(error));
    }
    Ok(worst)
}
