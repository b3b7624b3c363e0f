//! `fewstep bench`: how long a model takes, and what it takes of the machine.
#![forbid(unsafe_code)]

use super::bench_report::{self, Distribution, Report, round};
use super::first_step::{self, Input};
use super::machine::{self, Machine};
use super::output::{self, OutputError};
use super::provider::{ArgumentError, kernels, note_fallback};
use super::shapes::{self, ShapeError};
use super::{IsaError, PrintError, Running, allocations, columns, models, print};
use clap::ValueEnum;
use fewstep::cache::CacheError;
use fewstep::engine::EngineError;
use fewstep::kernels::DType;
use fewstep::manifest::{Manifest, Request, RequestError};
use fewstep::memory::Memory;
use fewstep::onnx::OnnxError;
use fewstep::plan::Fact;
use fewstep::provider::{Cpu, Network, NetworkError, Opening, Provider, Settings};
use fewstep::sampler::{Noise, TorchCpu};
use fewstep::session::{Flow, Progress, Run, Session, SessionError};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the timed runs are to take together, and how many they are at least and at most.
const PATIENCE: Duration = Duration::from_secs(3);
const RUNS: [usize; 2] = [5, 200];
/// Untimed runs, in which caches fill and threads settle.
const WARM_UP: usize = 3;

/// Another runtime, in the same process on the same inputs.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Peer {
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

/// Measure a model: samples if it has a manifest, evaluations of the network if not.
///
/// docs/bench.md says how everything is measured.
#[derive(clap::Args, Debug)]
pub struct Bench {
    /// An embedded model's name, a folder with a fewstep.toml, that file, or an .onnx file
    model: PathBuf,
    /// Measure one evaluation of the network against another runtime, in turns
    #[arg(long, value_enum)]
    against: Option<Peer>,
    /// Write one object; times are in milliseconds, sizes in bytes
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    running: Running,
    /// Run all of the network in every evaluation, and keep nothing for the next: to compare with
    #[arg(long)]
    no_stages: bool,
    /// Network evaluations a sample [default: the manifest's]
    #[arg(long)]
    steps: Option<usize>,
    /// Timed samples, or evaluations [default: what fits into three seconds, 5 to 200]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// An input's shape, where the file leaves it open [default: the manifest's, with a batch of one]
    #[arg(long = "shape", value_name = "NAME=1x3x64x64", value_parser = shapes::parse)]
    shapes: Vec<shapes::Given>,
}

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    #[error("{}: --steps needs a fewstep.toml that says how this network is sampled; leave it out", .0.display())]
    Steps(PathBuf),
    #[error("{}: --shape is for networks without a fewstep.toml; leave it out, or name an .onnx file elsewhere", .0.display())]
    Shapes(PathBuf),
    #[error(transparent)]
    Isa(#[from] IsaError),
    #[error(transparent)]
    Model(#[from] models::ModelError),
    #[error(transparent)]
    Source(#[from] models::SourceError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("{}: {source}", path.display())]
    Network { path: PathBuf, source: Box<NetworkError> },
    #[error("{}: {source}", path.display())]
    Session { path: PathBuf, source: Box<SessionError> },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Print(#[from] PrintError),
}

impl Bench {
    pub fn run(&self) -> Result<(), BenchError> {
        for file in [&self.json, &self.html].into_iter().flatten() {
            output::check(file)?;
        }
        let source = models::find(&self.model)?;
        let own = match &source.manifest {
            Some(manifest) => self.samples(&source, manifest)?,
            None => self.evaluations(&source)?,
        };
        let comparison = match self.against {
            Some(peer) => Some(self.compare(&source, peer)?),
            None => None,
        };
        let report = self.report(&source, &own, comparison.as_ref());
        print(&columns(&report.table()))?;
        if let Some(file) = &self.json {
            output::write_atomically(file, |out| {
                serde_json::to_writer_pretty(&mut *out, &report)?;
                out.write_all(b"\n")
            })?;
        }
        if let Some(file) = &self.html {
            let page = match &comparison {
                Some(found) => report.page(&[("fewstep", &found.ours), (found.name, &found.theirs)]),
                None => report.page(&[("fewstep", &own.steps)]),
            };
            output::write_atomically(file, |out| out.write_all(page.as_bytes()))?;
        }
        Ok(())
    }

    fn request(&self) -> Request<'_> {
        Request { steps: self.steps, ..Request::default() }
    }

    fn settings(&self) -> Result<Settings, IsaError> {
        Ok(Settings { unstaged: self.no_stages, ..self.running.settings()? })
    }

    fn threads(&self) -> usize {
        self.running.threads.map_or_else(machine::cores, usize::from)
    }

    /// How many timed runs there are, given how long one takes.
    fn runs(&self, one: Duration) -> usize {
        let fitting = (PATIENCE.as_secs_f64() / one.as_secs_f64()) as usize;
        self.runs.map_or(fitting.clamp(RUNS[0], RUNS[1]), |runs| runs as usize)
    }

    /// Whole samples, as `fewstep sample` draws them.
    fn samples(&self, source: &models::Source, manifest: &Manifest) -> Result<Measured, BenchError> {
        if !self.shapes.is_empty() {
            return Err(BenchError::Shapes(source.path().into()));
        }
        let wrap = |error| BenchError::Session { path: source.path().into(), source: Box::new(error) };
        let begin = Instant::now();
        let provider = self.running.provider()?;
        let cache = self.running.cache()?;
        let mut session = source.session(manifest, &provider, self.settings()?, cache.as_ref())?;
        note_fallback(session.network());
        session.prepare(&self.request()).map_err(wrap)?;
        let open = begin.elapsed();
        for (name, condition) in manifest.conditions() {
            session.set_condition(name, &first_step::condition_values(condition)).map_err(wrap)?;
        }
        let mut sampling = Sampling::new(&session);
        sampling.draw(&mut session).map_err(wrap)?;
        let first = sampling.samples[0];
        for _ in 1..WARM_UP {
            sampling.draw(&mut session).map_err(wrap)?;
        }
        let runs = self.runs(Duration::from_secs_f64(sampling.samples[WARM_UP - 1] / 1e3));
        sampling.clear();
        for _ in 0..runs {
            sampling.draw(&mut session).map_err(wrap)?;
        }
        let Sampling { samples, steps, allocated, .. } = sampling;
        Ok(Measured {
            samples,
            steps,
            allocated,
            ..Measured::of(session.network(), open, first, session.steps())
        })
    }

    /// Single evaluations of a network of which nothing says how it is sampled.
    fn evaluations(&self, source: &models::Source) -> Result<Measured, BenchError> {
        if self.steps.is_some() {
            return Err(BenchError::Steps(source.path().into()));
        }
        let begin = Instant::now();
        let provider = self.running.provider()?;
        let mut network = match source.plan() {
            Some(file) if matches!(provider, Provider::Cpu) => {
                Network::open(file, self.settings()?).map_err(|error| wrap(source, error))?
            }
            _ => self.network(source, &provider, self.settings()?)?,
        };
        note_fallback(&network);
        let open = begin.elapsed();
        let inputs = first_step::inputs(&network, None, &self.request())?;
        first_step::prepare(&mut network, &inputs).map_err(|error| wrap(source, error))?;
        let mut evaluate = || evaluated(source, &mut network);
        let first = evaluate()?;
        (2..WARM_UP).try_for_each(|_| evaluate().map(drop))?;
        let runs = self.runs(Duration::from_secs_f64(evaluate()? / 1e3));
        let mut steps = Vec::with_capacity(runs);
        let before = allocations::count();
        for _ in 0..runs {
            steps.push(evaluate()?);
        }
        let allocated = allocations::count() - before;
        Ok(Measured { steps, allocated, ..Measured::of(&network, open, first, 1) })
    }

    fn network(
        &self,
        source: &models::Source,
        provider: &Provider,
        settings: Settings,
    ) -> Result<Network, BenchError> {
        let file = source.onnx()?;
        let opened = match provider {
            Provider::Cpu => {
                let model = source.read()?;
                let shapes = shapes::of(source, &model.inputs, &self.shapes)?;
                Network::new(model, &shapes, settings)
            }
            _ => {
                let shapes = &shapes::of(source, &file.header()?.inputs, &self.shapes)?;
                let cache = self.running.cache()?;
                let opening = Opening { shapes, settings, conditions: &[], cache: cache.as_ref() };
                Network::on(provider, file, &opening)
            }
        };
        opened.map_err(|error| wrap(source, error))
    }

    /// One evaluation of the network here and there, in turns, so that the clock's moods meet both.
    fn compare(&self, source: &models::Source, peer: Peer) -> Result<Comparison, BenchError> {
        let mut network = self.network(source, &self.running.provider()?, self.settings()?)?;
        let inputs = first_step::inputs(&network, source.manifest.as_ref(), &self.request())?;
        first_step::prepare(&mut network, &inputs).map_err(|error| wrap(source, error))?;
        let mut other = self.peer(source, peer, &inputs)?;
        for _ in 0..WARM_UP {
            evaluated(source, &mut network)?;
            evaluated(source, &mut other)?;
        }
        let error = relative_error(&mut network, &mut other)?;
        let one = evaluated(source, &mut network)? + evaluated(source, &mut other)?;
        let runs = self.runs(Duration::from_secs_f64(one / 1e3));
        let (mut ours, mut theirs) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
        for _ in 0..runs {
            ours.push(evaluated(source, &mut network)?);
            theirs.push(evaluated(source, &mut other)?);
        }
        let (version, threads) = (other.version().to_string(), self.threads());
        let threads = if matches!(peer, Peer::Tract) { 1 } else { threads };
        Ok(Comparison { name: peer.name(), version, threads, note: peer.note(), ours, theirs, error })
    }

    fn peer(&self, source: &models::Source, peer: Peer, inputs: &[Input]) -> Result<Network, BenchError> {
        let provider = match peer {
            Peer::Ort => self.running.provider.ort(),
            Peer::Tract => Provider::Tract,
        };
        let settings = Settings { threads: self.threads(), ..Settings::default() };
        let mut network = self.network(source, &provider, settings)?;
        first_step::write(&mut network, inputs)?;
        Ok(network)
    }

    fn report(&self, source: &models::Source, own: &Measured, comparison: Option<&Comparison>) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::measured(),
            model: source.name.clone(),
            provider: own.provider.clone(),
            kernels: own.kernels.clone(),
            instruction_set: own.isa,
            precision: own.precision,
            threads: if own.provider == "tract" { 1 } else { self.threads() },
            steps: own.evaluations,
            runs: own.steps.len() / own.evaluations,
            open_ms: round(own.open.as_secs_f64() * 1e3),
            first_sample_ms: round(own.first),
            step_ms: Distribution::of(&own.steps),
            sample_ms: Some(&own.samples).filter(|samples| !samples.is_empty()).map(|s| Distribution::of(s)),
            allocations_per_step: own.allocated as f64 / own.steps.len() as f64,
            arena_bytes: own.arena_bytes,
            weights_bytes: own.weights_bytes,
            rss_bytes: own.memory.map(|memory| memory.rss),
            private_dirty_bytes: own.memory.map(|memory| memory.private_dirty),
            peer: comparison.map(Comparison::report),
        }
    }
}

fn wrap(source: &models::Source, error: NetworkError) -> BenchError {
    BenchError::Network { path: source.path().into(), source: Box::new(error) }
}

/// Milliseconds that some work takes.
fn timed<E>(work: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// Milliseconds that an evaluation takes.
fn evaluated(source: &models::Source, network: &mut Network) -> Result<f64, BenchError> {
    timed(|| first_step::evaluate(network)).map_err(|error| wrap(source, error))
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

/// Drawing samples and taking the time, in milliseconds.
struct Sampling {
    samples: Vec<f64>,
    /// One evaluation and the update that follows it, each.
    steps: Vec<f64>,
    allocated: usize,
    seed: u64,
    noise: Vec<f32>,
    out: Vec<f32>,
    ends: Vec<Instant>,
}

impl Sampling {
    fn new(session: &Session) -> Sampling {
        let (noise, out) = (vec![0.0; session.elements()], vec![0.0; session.elements()]);
        let ends = Vec::with_capacity(session.steps());
        Sampling { samples: Vec::new(), steps: Vec::new(), allocated: 0, seed: 0, noise, out, ends }
    }

    fn clear(&mut self) {
        self.samples.clear();
        self.steps.clear();
        self.allocated = 0;
    }

    fn draw(&mut self, session: &mut Session) -> Result<(), SessionError> {
        let Sampling { noise, out, ends, .. } = self;
        let mut generator = TorchCpu::new(self.seed);
        self.seed += 1;
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
        let run = Run { initial: Some(noise), after: Some(&mut after), ..Run::default() };
        session.sample_with(run, &mut generator, out)?;
        let sample = begin.elapsed();
        self.allocated += allocations::count() - before;
        self.samples.push(sample.as_secs_f64() * 1e3);
        for &end in ends.iter() {
            self.steps.push((end - start).as_secs_f64() * 1e3);
            start = end;
        }
        Ok(())
    }
}

/// What was found of our own; times in milliseconds.
struct Measured {
    open: Duration,
    first: f64,
    samples: Vec<f64>,
    steps: Vec<f64>,
    /// During all steps.
    allocated: usize,
    /// Of one sample.
    evaluations: usize,
    provider: String,
    kernels: String,
    /// The engine's; a general runtime does not tell, and neither of its memory.
    isa: Option<&'static str>,
    precision: &'static str,
    arena_bytes: Option<usize>,
    weights_bytes: Option<usize>,
    memory: Option<Memory>,
}

impl Measured {
    /// Nothing timed yet but opening and the first run.
    fn of(network: &Network, open: Duration, first: f64, evaluations: usize) -> Measured {
        let plan = network.cpu().map(Cpu::plan);
        Measured {
            open,
            first,
            samples: Vec::new(),
            steps: Vec::new(),
            allocated: 0,
            evaluations,
            provider: network.provider().to_string(),
            kernels: kernels(network),
            isa: plan.map(|plan| plan.isa().name()),
            precision: network.precision(),
            arena_bytes: plan.map(|plan| plan.arena_bytes()),
            weights_bytes: plan.map(|plan| plan.weights().len()),
            memory: Memory::now(),
        }
    }
}

/// Evaluations in turns; times in milliseconds.
struct Comparison {
    name: &'static str,
    version: String,
    threads: usize,
    note: Option<&'static str>,
    ours: Vec<f64>,
    theirs: Vec<f64>,
    error: Option<f64>,
}

impl Comparison {
    fn report(&self) -> bench_report::Peer {
        let [step_ms, own_step_ms] = [&self.theirs, &self.ours].map(|times| Distribution::of(times));
        bench_report::Peer {
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
