//! `fewstep bench`: how long a model takes, and what it takes of the machine.
#![forbid(unsafe_code)]

mod against;
mod budget;
mod cold;
mod compare;
mod distribution;
mod measure;
mod page;
mod plot;
mod report;
mod sustain;
mod sweep;
mod table;

use super::machine::{self, Machine, Meter, Tree};
use super::output::{self, OutputError};
use super::provider::ArgumentError;
use super::shapes::{self, ShapeError};
use super::{IsaError, PrintError, Running, columns, models, print};
use against::{Peer, Turns};
use budget::{Budget, BudgetError};
use compare::{CompareError, Comparison};
use distribution::{Distribution, round};
use fewstep::cache::CacheError;
use fewstep::engine::EngineError;
use fewstep::manifest::{Request, RequestError};
use fewstep::onnx::OnnxError;
use fewstep::provider::{Network, NetworkError, Opening, Provider, Settings};
use fewstep::session::SessionError;
use measure::{Measured, Subject};
use report::{Energy, Report};
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use sustain::Sustained;

/// Arguments that have no meaning where nothing is measured.
const MEASURING: [&str; 9] =
    ["model", "against", "sustain", "sweep", "budget", "html", "steps", "runs", "shapes"];

/// Measure a model: samples if it has a manifest, evaluations of the network if not.
///
/// docs/bench.md says how everything is measured.
#[derive(clap::Args, Debug)]
pub struct Bench {
    /// An embedded model's name, a folder with a fewstep.toml, that file, or an .onnx file
    #[arg(required_unless_present = "compare")]
    model: Option<PathBuf>,
    /// Measure one evaluation of the network against another runtime, in turns
    #[arg(long, value_enum)]
    against: Option<Peer>,
    /// Go on for so long, to see whether the machine keeps its speed
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    sustain: Option<u32>,
    /// Measure on one thread, two, and so on up to all
    #[arg(long)]
    sweep: bool,
    /// A device's file (targets/NAME.toml): it is an error if a figure is over its [budget.MODEL]
    #[arg(long, value_name = "FILE")]
    budget: Option<PathBuf>,
    /// Measure nothing, but set two files of --json side by side
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"], conflicts_with_all = MEASURING)]
    compare: Option<Vec<PathBuf>>,
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
    /// This process is one of those that measure the cold start
    #[arg(long = cold::ARGUMENT, hide = true)]
    is_cold_start: bool,
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
    Budget(#[from] BudgetError),
    #[error(transparent)]
    Compare(#[from] CompareError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Print(#[from] PrintError),
}

/// What was measured, one after the other.
struct Found {
    cold_start: Result<Vec<cold::Start>, String>,
    own: Measured,
    sustained: Option<Sustained>,
    sweep: Option<Vec<sweep::Point>>,
    turns: Option<Turns>,
}

impl Bench {
    pub fn run(&self) -> Result<(), BenchError> {
        for file in [&self.json, &self.html].into_iter().flatten() {
            output::check(file)?;
        }
        match (&self.model, &self.compare) {
            (_, Some(files)) => self.compare(&files[0], &files[1]),
            (Some(model), None) => self.measure(model),
            // What clap does not let through.
            (None, None) => Ok(()),
        }
    }

    fn measure(&self, model: &Path) -> Result<(), BenchError> {
        let source = models::find(model)?;
        if self.is_cold_start {
            let line = serde_json::to_string(&cold::Inside::measured(self, &source)?);
            return Ok(print(&(line.map_err(io::Error::from).map_err(PrintError::from)? + "\n"))?);
        }
        let budget = self.budget.as_deref().map(|file| Budget::read(file, &source.name)).transpose()?;
        let Found { cold_start, own, sustained, sweep, turns } = self.found(&source)?;
        let mut report = Report { cold_start, sustained, sweep, ..self.report(&source, &own) };
        report.peer = turns.as_ref().map(Turns::report);
        report.budget = budget.as_ref().map(|budget| budget.verdict(&report));
        print(&columns(&report.table()))?;
        self.write(&report)?;
        if let Some(file) = &self.html {
            let page = page::of(&report, &own.times, turns.as_ref());
            output::write_atomically(file, |out| out.write_all(page.as_bytes()))?;
        }
        match budget.as_ref().zip(report.budget.as_ref()) {
            Some((budget, verdict)) => {
                for figure in verdict.figures.iter().filter(|figure| !figure.pass) {
                    // If nobody listens, the exit code still says it.
                    writeln!(io::stderr(), "fewstep: {}", figure.text()).ok();
                }
                Ok(budget.check(verdict)?)
            }
            None => Ok(()),
        }
    }

    /// Cold starts come first: they find the page cache as it was.
    fn found(&self, source: &models::Source) -> Result<Found, BenchError> {
        let cold_start = cold::starts().map_err(|error| error.to_string());
        let meter = || Meter::start(&Tree::system()).map_err(|error| error.to_string());
        let (mut subject, open) = Subject::open(self, source, self.threads())?;
        let own = Measured::of(&mut subject, open, self, meter)?;
        let sustain = |seconds: u32| {
            Sustained::measured(&mut subject, Duration::from_secs(seconds.into()), meter().ok())
        };
        let sustained = self.sustain.map(sustain).transpose()?;
        drop(subject);
        let sweep = self.sweep.then(|| sweep::measured(self, source, self.threads())).transpose()?;
        let turns = self.against.map(|peer| Turns::taken(self, source, peer)).transpose()?;
        Ok(Found { cold_start, own, sustained, sweep, turns })
    }

    fn compare(&self, a: &Path, b: &Path) -> Result<(), BenchError> {
        let comparison = Comparison::read([a, b])?;
        for warning in comparison.warnings() {
            // If nobody listens, the file still says it.
            writeln!(io::stderr(), "fewstep: warning: {warning}").ok();
        }
        print(&columns(&comparison.table()))?;
        self.write(&comparison)
    }

    /// What `--json` asks for.
    fn write(&self, found: &impl Serialize) -> Result<(), BenchError> {
        let Some(file) = &self.json else { return Ok(()) };
        output::write_atomically(file, |out| {
            serde_json::to_writer_pretty(&mut *out, found)?;
            out.write_all(b"\n")
        })?;
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

    fn runs(&self, one: Duration) -> usize {
        measure::runs(self.runs, one)
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
                let opening = Opening { shapes, settings, bindings: &[], cache: cache.as_ref() };
                Network::on(provider, file, &opening)
            }
        };
        opened.map_err(|error| wrap(source, error))
    }

    /// What is known of a machine and a measurement alone.
    fn report(&self, source: &models::Source, own: &Measured) -> Report {
        let (runs, steps) = (&own.times.runs, &own.times.steps);
        let step_ms = Distribution::of(steps);
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
            runs: runs.len(),
            open_ms: round(own.open.as_secs_f64() * 1e3),
            first_sample_ms: round(own.first),
            cold_start: Ok(Vec::new()),
            step_ms,
            sample_ms: own.is_sampled.then(|| Distribution::of(runs)),
            jitter: step_ms.jitter(),
            allocations_per_step: own.times.allocated as f64 / steps.len() as f64,
            state_on_device: own.keeps_state,
            bound_memory: own.bound_memory.clone(),
            arena_bytes: own.arena_bytes,
            weights_bytes: own.weights_bytes,
            rss_bytes: own.memory.map(|memory| memory.rss),
            private_dirty_bytes: own.memory.map(|memory| memory.private_dirty),
            energy: own.energy.clone().map(|(sensor, energy)| Energy::of(sensor, energy, runs.len())),
            sustained: None,
            sweep: None,
            budget: None,
            peer: None,
        }
    }
}

fn wrap(source: &models::Source, error: NetworkError) -> BenchError {
    BenchError::Network { path: source.path().into(), source: Box::new(error) }
}
