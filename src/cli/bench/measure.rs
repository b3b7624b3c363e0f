//! What a model is measured by: runs of it, one after the other.
#![forbid(unsafe_code)]

use super::super::machine::{Energy, Meter};
use super::super::provider::{kernels, note_fallback};
use super::super::{allocations, first_step, models};
use super::{Bench, BenchError, wrap};
use fewstep::manifest::Manifest;
use fewstep::memory::Memory;
use fewstep::provider::{Cpu, Network, Provider, Settings};
use fewstep::sampler::{Noise, TorchCpu};
use fewstep::session::{Flow, Progress, Run, Session, SessionError};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the timed runs are to take together, and how many they are at least and at most.
const PATIENCE: Duration = Duration::from_secs(3);
const RUNS: [usize; 2] = [5, 200];
/// Untimed runs, in which caches fill and threads settle.
pub const WARM_UP: usize = 3;

/// Times of runs, in milliseconds.
#[derive(Default)]
pub struct Times {
    /// A sample each, or an evaluation.
    pub runs: Vec<f64>,
    /// One evaluation and the update that follows it, each.
    pub steps: Vec<f64>,
    /// Calls of the allocator during the runs.
    pub allocated: usize,
}

impl Times {
    /// Place for so many runs of a model, so that nothing grows between them.
    pub fn with_capacity(runs: usize, steps: usize) -> Times {
        Times { runs: Vec::with_capacity(runs), steps: Vec::with_capacity(runs * steps), allocated: 0 }
    }

    pub fn last(&self) -> f64 {
        self.runs.last().copied().unwrap_or_default()
    }
}

/// A model that is open: a session, or a network of which nothing says how it is sampled.
pub struct Subject {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Sampled(Box<Sampling>),
    Evaluated(Box<Network>),
}

impl Subject {
    /// Opens a model with so many threads, and says how long that took.
    pub fn open(
        bench: &Bench,
        source: &models::Source,
        threads: usize,
    ) -> Result<(Subject, Duration), BenchError> {
        let settings = Settings { threads, ..bench.settings()? };
        let path = source.path().to_path_buf();
        match &source.manifest {
            Some(manifest) => {
                let (sampling, open) = Sampling::open(bench, source, manifest, settings)?;
                Ok((Subject { path, kind: Kind::Sampled(Box::new(sampling)) }, open))
            }
            None => {
                let (network, open) = evaluated(bench, source, settings)?;
                Ok((Subject { path, kind: Kind::Evaluated(Box::new(network)) }, open))
            }
        }
    }

    /// Draws a sample, or evaluates the network once.
    pub fn run(&mut self, times: &mut Times) -> Result<(), BenchError> {
        match &mut self.kind {
            Kind::Sampled(sampling) => {
                let wrap = |error| BenchError::Session { path: self.path.clone(), source: Box::new(error) };
                sampling.draw(times).map_err(wrap)
            }
            Kind::Evaluated(network) => {
                let before = allocations::count();
                let begin = Instant::now();
                let done = first_step::evaluate(network);
                let milliseconds = begin.elapsed().as_secs_f64() * 1e3;
                times.allocated += allocations::count() - before;
                times.runs.push(milliseconds);
                times.steps.push(milliseconds);
                done.map_err(|error| BenchError::Network { path: self.path.clone(), source: Box::new(error) })
            }
        }
    }

    /// Untimed runs; the milliseconds of the first, and of the last.
    pub fn warm_up(&mut self) -> Result<[f64; 2], BenchError> {
        let mut times = Times::default();
        (0..WARM_UP).try_for_each(|_| self.run(&mut times))?;
        Ok([times.runs[0], times.last()])
    }

    pub fn network(&self) -> &Network {
        match &self.kind {
            Kind::Sampled(sampling) => sampling.session.network(),
            Kind::Evaluated(network) => network,
        }
    }

    /// Evaluations of a run.
    pub fn steps(&self) -> usize {
        match &self.kind {
            Kind::Sampled(sampling) => sampling.session.steps(),
            Kind::Evaluated(_) => 1,
        }
    }

    pub fn is_sampled(&self) -> bool {
        matches!(self.kind, Kind::Sampled(_))
    }

    /// Whether the state of a sample stays in the memory of a provider's device.
    pub fn keeps_state(&self) -> bool {
        matches!(&self.kind, Kind::Sampled(sampling) if sampling.session.keeps_state())
    }
}

/// A network alone, with its inputs written, and how long opening it took.
fn evaluated(
    bench: &Bench,
    source: &models::Source,
    settings: Settings,
) -> Result<(Network, Duration), BenchError> {
    if bench.steps.is_some() {
        return Err(BenchError::Steps(source.path().into()));
    }
    let begin = Instant::now();
    let provider = bench.running.provider()?;
    let mut network = match source.plan() {
        Some(file) if matches!(provider, Provider::Cpu) => {
            Network::open(file, settings).map_err(|error| wrap(source, error))?
        }
        _ => bench.network(source, &provider, settings)?,
    };
    let open = begin.elapsed();
    note_fallback(&network);
    let inputs = first_step::inputs(&network, None, &bench.request())?;
    first_step::prepare(&mut network, &inputs).map_err(|error| wrap(source, error))?;
    Ok((network, open))
}

/// Whole samples, as `fewstep sample` draws them.
struct Sampling {
    session: Session,
    seed: u64,
    noise: Vec<f32>,
    out: Vec<f32>,
    ends: Vec<Instant>,
}

impl Sampling {
    fn open(
        bench: &Bench,
        source: &models::Source,
        manifest: &Manifest,
        settings: Settings,
    ) -> Result<(Sampling, Duration), BenchError> {
        if !bench.shapes.is_empty() {
            return Err(BenchError::Shapes(source.path().into()));
        }
        let wrap = |error| BenchError::Session { path: source.path().into(), source: Box::new(error) };
        let begin = Instant::now();
        let provider = bench.running.provider()?;
        let cache = bench.running.cache()?;
        let mut session = source.session(manifest, &provider, settings, cache.as_ref())?;
        session.prepare(&bench.request()).map_err(wrap)?;
        let open = begin.elapsed();
        note_fallback(session.network());
        for (name, condition) in manifest.conditions() {
            session.set_condition(name, &first_step::condition_values(condition)).map_err(wrap)?;
        }
        let (noise, out) = (vec![0.0; session.elements()], vec![0.0; session.elements()]);
        let ends = Vec::with_capacity(session.steps());
        Ok((Sampling { session, seed: 0, noise, out, ends }, open))
    }

    fn draw(&mut self, times: &mut Times) -> Result<(), SessionError> {
        let Sampling { session, seed, noise, out, ends } = self;
        let mut generator = TorchCpu::new(*seed);
        *seed += 1;
        ends.clear();
        let before = allocations::count();
        let begin = Instant::now();
        // Drawn here and not in the session, so that the first step is as long as the others.
        generator.fill_normal(noise);
        let mut start = Instant::now();
        let mut after = |_: Progress<'_>| {
            ends.push(Instant::now());
            Flow::Continue
        };
        // Whoever looks on needs the state here; without that, all steps are of one length.
        let looks_on = !session.keeps_state();
        let after = if looks_on { Some(&mut after as _) } else { None };
        let run = Run { initial: Some(noise), after, ..Run::default() };
        session.sample_with(run, &mut generator, out)?;
        let sample = begin.elapsed();
        times.allocated += allocations::count() - before;
        times.runs.push(sample.as_secs_f64() * 1e3);
        if !looks_on {
            let (all, count) = ((begin + sample - start).as_secs_f64() * 1e3, session.steps());
            times.steps.extend(std::iter::repeat_n(all / count as f64, count));
        }
        for &end in ends.iter() {
            times.steps.push((end - start).as_secs_f64() * 1e3);
            start = end;
        }
        Ok(())
    }
}

/// What was found of our own; times in milliseconds.
pub struct Measured {
    pub open: Duration,
    /// The first run's.
    pub first: f64,
    pub times: Times,
    /// Whether runs are samples.
    pub is_sampled: bool,
    /// Of one run.
    pub evaluations: usize,
    /// Of the timed runs; or why it is not known.
    pub energy: Result<(String, Energy), String>,
    pub provider: String,
    pub kernels: String,
    /// The engine's; a general runtime does not tell, and neither of its memory.
    pub isa: Option<&'static str>,
    pub precision: &'static str,
    pub keeps_state: bool,
    pub bound_memory: Option<String>,
    pub arena_bytes: Option<usize>,
    pub weights_bytes: Option<usize>,
    pub memory: Option<Memory>,
}

impl Measured {
    /// Of a subject that was just opened, in so long.
    pub fn of(
        subject: &mut Subject,
        open: Duration,
        bench: &Bench,
        meter: impl FnOnce() -> Result<Meter, String>,
    ) -> Result<Measured, BenchError> {
        let [first, last] = subject.warm_up()?;
        let runs = bench.runs(Duration::from_secs_f64(last / 1e3));
        let mut times = Times::with_capacity(runs, subject.steps());
        let mut meter = meter();
        for _ in 0..runs {
            subject.run(&mut times)?;
            meter.iter_mut().for_each(Meter::tick);
        }
        let energy = meter.map(|meter| (meter.sensor.clone(), meter.stop()));
        let (network, evaluations) = (subject.network(), subject.steps());
        let plan = network.cpu().map(Cpu::plan);
        Ok(Measured {
            open,
            first,
            times,
            is_sampled: subject.is_sampled(),
            evaluations,
            energy,
            provider: network.provider().to_string(),
            kernels: kernels(network),
            isa: plan.map(|plan| plan.isa().name()),
            precision: network.precision(),
            keeps_state: subject.keeps_state(),
            bound_memory: network.bound_memory(),
            arena_bytes: plan.map(|plan| plan.arena_bytes()),
            weights_bytes: plan.map(|plan| plan.weights().len()),
            memory: Memory::now(),
        })
    }
}

/// How many timed runs there are, given how long one takes and what the user asks for.
pub fn runs(asked: Option<u32>, one: Duration) -> usize {
    let fitting = (PATIENCE.as_secs_f64() / one.as_secs_f64()) as usize;
    asked.map_or(fitting.clamp(RUNS[0], RUNS[1]), |runs| runs as usize)
}
