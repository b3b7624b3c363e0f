//! `fewstep inspect`: what is in a network, and how it would run.
#![forbid(unsafe_code)]

use super::inspect_pipeline::PipelineReport;
use super::inspect_plan::FileReport;
use super::inspect_provider::ProviderReport;
use super::profile::Profile;
use super::provider::{ArgumentError, ProviderArgs};
use super::shapes::{self, ShapeError};
use super::stages::{self, StageReport};
use super::{
    IsaError, Precision, PrintError, columns, count, first_step, models, print, print_json, row, scaled,
    settings,
};
use fewstep::engine::EngineError;
use fewstep::graph::{Fact, Graph, Node};
use fewstep::manifest::{Manifest, Request, RequestError, Role};
use fewstep::onnx::OnnxError;
use fewstep::ops::Op;
use fewstep::pipeline::{Folder, PipelineError};
use fewstep::plan::{self, CompiledPlan, Placed};
use fewstep::provider::{Network, NetworkError, Opening, Provider, ProviderError, Settings};
use fewstep::session::{bind, bindings};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Say what is in a network and how it would run.
#[derive(clap::Args, Debug)]
pub struct Inspect {
    /// An embedded model's name, a folder with a fewstep.toml, that file, an .onnx file, or a pipeline's folder or bundle
    model: PathBuf,
    /// Print one object; times are in milliseconds, sizes in bytes
    #[arg(long)]
    json: bool,
    /// Evaluate the network on one thread, and say where its time goes
    #[arg(long)]
    profile: bool,
    /// What products are computed in
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    /// An input's shape, where the file leaves it open [default: the manifest's, with a batch of one]
    #[arg(long = "shape", value_name = "NAME=1x3x64x64", value_parser = shapes::parse)]
    shapes: Vec<shapes::Given>,
    #[command(flatten)]
    provider: ProviderArgs,
}

#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    #[error(transparent)]
    Isa(#[from] IsaError),
    #[error(transparent)]
    Model(#[from] models::ModelError),
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error("{}: {source}", path.display())]
    Import { path: PathBuf, source: OnnxError },
    #[error("{}: {source}", path.display())]
    Network { path: PathBuf, source: Box<NetworkError> },
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{}: {source}", path.display())]
    Pipeline { path: PathBuf, source: Box<PipelineError> },
    #[error(transparent)]
    Print(#[from] PrintError),
}

impl Inspect {
    pub fn run(&self) -> Result<(), InspectError> {
        let settings = settings(Some(1), self.precision)?;
        let provider = self.provider.provider()?;
        if Folder::is_one(&self.model) {
            let report = PipelineReport::of(&self.model)?;
            let printed = if self.json { print_json(&report) } else { print(&report.text()) };
            return Ok(printed?);
        }
        let source = models::find(&self.model)?;
        if !matches!(provider, Provider::Cpu) {
            return self.on(&provider, &source, settings);
        }
        if let Some(file) = source.plan() {
            let wrap = |error| InspectError::Network { path: source.path().into(), source: Box::new(error) };
            let mut profile = None;
            if self.profile {
                let mut network = Network::open(file, settings).map_err(wrap)?;
                evaluate(&mut network, source.manifest.as_ref(), wrap)?;
                profile = network.cpu_mut().map(Profile::measured).transpose()?;
            }
            let report = FileReport::of(&source, file, profile);
            let printed = if self.json { print_json(&report) } else { print(&report.text()) };
            return Ok(printed?);
        }
        self.compiled(&source, settings)
    }
}

/// Evaluates the first step, on which a network may have to find its way into half precision.
fn evaluate(
    network: &mut Network,
    manifest: Option<&Manifest>,
    wrap: impl Fn(NetworkError) -> InspectError,
) -> Result<(), InspectError> {
    let inputs = first_step::inputs(network, manifest, &Request::default())?;
    first_step::prepare(network, &inputs).map_err(wrap)
}

impl Inspect {
    /// As the engine runs it that is compiled now.
    fn compiled(&self, source: &models::Source, settings: Settings) -> Result<(), InspectError> {
        let begin = Instant::now();
        let model = source.read()?;
        let producer = model.producer.clone();
        let shapes = shapes::of(source, &model.inputs, &self.shapes)?;
        let wrap = |error| InspectError::Import { path: source.path().into(), source: error };
        let imported = model.into_graph(&shapes).map_err(wrap)?;
        let import_ms = milliseconds(begin.elapsed());

        let begin = Instant::now();
        let manifest = source.manifest.as_ref();
        let bound = match manifest {
            Some(manifest) => bind(imported.clone(), manifest),
            None => imported.clone(),
        };
        let optimized = bound.optimized();
        let wrap = |error| InspectError::Network { path: source.path().into(), source: Box::new(error) };
        let mut network = Network::compile(optimized.clone(), settings).map_err(wrap)?;
        let plan_ms = milliseconds(begin.elapsed());

        if self.profile || network.calibrating().is_some() {
            evaluate(&mut network, manifest, wrap)?;
        }
        // As it was compiled here, it is the engine's.
        let Some(cpu) = network.cpu_mut() else { return Ok(()) };
        let profile = self.profile.then(|| Profile::measured(cpu)).transpose()?;
        let (plan, compiled) = (cpu.plan(), cpu.compiled());
        let report = Report {
            name: source.name.clone(),
            path: source.path().display().to_string(),
            producer,
            inputs: inputs(&imported, manifest),
            outputs: outputs(&imported),
            sampling: manifest.map(Sampling::of),
            parameters: imported.parameters(),
            flop: imported.flops(),
            precision: cpu.precision(),
            products: plan.products(),
            halves: plan.halves(),
            islands: compiled.map(CompiledPlan::islands).unwrap_or_default().iter().map(Island::of).collect(),
            instruction_set: plan.isa().name(),
            operators: Operators { imported: operators(&imported), optimized: operators(&optimized) },
            instructions: plan.len(),
            arena_bytes: plan.arena_bytes(),
            arena_least_bytes: plan.arena_least(),
            arena: compiled.map(CompiledPlan::arena).unwrap_or_default().iter().map(Buffer::of).collect(),
            stages: stages::of(&plan),
            weights_bytes: plan.weights().len(),
            host_operators: host_operators(&optimized),
            import_ms,
            plan_ms,
            profile,
        };
        if self.json {
            print_json(&report)?
        } else {
            print(&report.text())?
        }
        Ok(())
    }

    /// As a provider has it, which is not the engine.
    fn on(
        &self,
        provider: &Provider,
        source: &models::Source,
        settings: Settings,
    ) -> Result<(), InspectError> {
        if self.profile {
            let what = "a profile of instructions";
            return Err(
                ArgumentError::from(ProviderError::EngineOnly { what, provider: provider.name() }).into()
            );
        }
        let file = source.onnx()?;
        let begin = Instant::now();
        let shapes = &shapes::of(source, &file.header()?.inputs, &self.shapes)?;
        let bindings = &source.manifest.as_ref().map(bindings).unwrap_or_default();
        let opening = Opening { shapes, settings, bindings, cache: None };
        let wrap = |error| InspectError::Network { path: source.path().into(), source: Box::new(error) };
        let network = Network::on(provider, file, &opening).map_err(wrap)?;
        let report = ProviderReport::of(source, &network, begin.elapsed());
        let printed = if self.json { print_json(&report) } else { print(&report.text()) };
        Ok(printed?)
    }
}

pub fn arena(bytes: usize, least: usize) -> String {
    format!("{}B, {}B in use at once", scaled(bytes as f64), scaled(least as f64))
}

/// What `--json` prints: keys stay, new ones may come.
#[derive(Serialize)]
struct Report {
    name: String,
    path: String,
    producer: String,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// `null` without a manifest.
    sampling: Option<Sampling>,
    parameters: usize,
    /// Floating point operations of one evaluation, a multiply-add counted as two.
    flop: u64,
    precision: &'static str,
    /// Products and convolutions with constants, and how many of them are in half precision.
    products: usize,
    halves: usize,
    /// Those that stay in f32 where half precision was asked for.
    islands: Vec<Island>,
    instruction_set: &'static str,
    operators: Operators,
    instructions: usize,
    arena_bytes: usize,
    /// The most bytes of it that are in use at once: what no arena is below.
    arena_least_bytes: usize,
    /// When the instructions run, in their order; stages without any are left out.
    stages: Vec<StageReport>,
    /// The arena's buffers, each from its first instruction to its last.
    arena: Vec<Buffer>,
    weights_bytes: usize,
    /// Operators without a native kernel.
    host_operators: Vec<HostOperator>,
    /// Reading the file and folding its shapes.
    import_ms: f64,
    /// Optimizing and laying out.
    plan_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
}

#[derive(Serialize)]
struct Buffer {
    offset: usize,
    bytes: usize,
    first: usize,
    last: usize,
}

impl Buffer {
    fn of(placed: &Placed) -> Buffer {
        let plan::Buffer { bytes, first, last } = placed.buffer;
        Buffer { offset: placed.offset, bytes, first, last }
    }
}

#[derive(Serialize)]
pub struct Port {
    pub name: String,
    pub r#type: String,
    pub shape: Vec<usize>,
    /// `null` for outputs, and without a manifest.
    pub role: Option<&'static str>,
}

#[derive(Serialize)]
pub struct Sampling {
    family: &'static str,
    sampler: &'static str,
    steps: usize,
    max_steps: usize,
}

/// Nodes by operator.
#[derive(Serialize)]
struct Operators {
    imported: BTreeMap<&'static str, usize>,
    optimized: BTreeMap<&'static str, usize>,
}

#[derive(Serialize)]
struct HostOperator {
    operator: String,
    node: String,
}

impl Sampling {
    pub fn of(manifest: &Manifest) -> Sampling {
        let sampling = &manifest.sampling;
        Sampling {
            family: sampling.family.name(),
            sampler: sampling.sampler.name,
            steps: sampling.steps,
            max_steps: sampling.max_steps,
        }
    }

    pub fn row(&self) -> Vec<String> {
        let (steps, most) = (count(self.steps, "step"), self.max_steps);
        let text = format!("{}, sampler {}, {steps}, at most {most}", self.family, self.sampler);
        row(&["sampling", &text])
    }
}

impl Port {
    fn new(name: &str, fact: &Fact, role: Option<&'static str>) -> Port {
        Port { name: name.into(), r#type: fact.dtype.to_string(), shape: fact.shape.clone(), role }
    }
}

fn inputs(graph: &Graph, manifest: Option<&Manifest>) -> Vec<Port> {
    let role = |name: &str| manifest.and_then(|manifest| role(manifest, name));
    let values = graph.inputs.iter().map(|&id| graph.value(id));
    values.map(|value| Port::new(&value.name, &value.fact, role(&value.name))).collect()
}

fn outputs(graph: &Graph) -> Vec<Port> {
    let outputs = graph.output_names.iter().zip(&graph.outputs);
    outputs.map(|(name, &id)| Port::new(name, graph.fact(id), None)).collect()
}

pub fn role(manifest: &Manifest, name: &str) -> Option<&'static str> {
    let input = manifest.inputs.iter().find(|input| input.name == name)?;
    Some(match input.role {
        Role::State { .. } => "state",
        Role::Time => "time",
        Role::Target => "target",
        Role::Duration => "duration",
        Role::Step => "step",
        Role::Steps => "steps",
        Role::Condition(_) => "condition",
    })
}

fn operators(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    graph.nodes.iter().for_each(|node| *counts.entry(node.op.name()).or_default() += 1);
    counts
}

fn host_operators(graph: &Graph) -> Vec<HostOperator> {
    let host = |node: &Node| match &node.op {
        Op::Host(host) => Some(HostOperator { operator: host.operator.clone(), node: node.name.clone() }),
        _ => None,
    };
    graph.nodes.iter().filter_map(host).collect()
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

impl Report {
    /// For people.
    fn text(&self) -> String {
        let mut rows =
            vec![row(&["model", &self.name]), row(&["file", &self.path]), row(&["producer", &self.producer])];
        rows.extend(ports("inputs", &self.inputs));
        rows.extend(ports("outputs", &self.outputs));
        rows.extend(self.sampling.as_ref().map(Sampling::row));
        rows.extend([
            row(&["parameters", &scaled(self.parameters as f64)]),
            row(&["work", &format!("{}FLOP an evaluation", scaled(self.flop as f64))]),
            row(&["kernels", &format!("{}, {}", self.instruction_set, self.precision)]),
            row(&["in f16", &format!("{} of {}", self.halves, count(self.products, "product"))]),
            row(&["plan", &count(self.instructions, "instruction")]),
            row(&["arena", &arena(self.arena_bytes, self.arena_least_bytes)]),
            row(&["weights", &format!("{}B", scaled(self.weights_bytes as f64))]),
            row(&["host", &self.host()]),
        ]);
        rows.extend(
            self.islands
                .iter()
                .map(|island| row(&["in f32", &format!("{}: {}", island.node, island.reason)])),
        );
        rows.extend([row(&[
            "opening",
            &format!("import {:.1} ms, plan {:.1} ms", self.import_ms, self.plan_ms),
        ])]);
        let profile =
            self.profile.as_ref().map(|profile| format!("\n{}", profile.text())).unwrap_or_default();
        let (stages, operators) = (stages::text(&self.stages), columns(&self.operators.rows()));
        format!("{}\n{stages}\n{}\n{operators}{profile}", columns(&rows), self.picture())
    }

    /// The arena over the run: instructions from left to right, addresses from bottom to top, darker where more is in use.
    fn picture(&self) -> String {
        const SIZE: [usize; 2] = [64, 12];
        let mut text = String::new();
        for row in (0..SIZE[1]).rev() {
            let bytes = [row, row + 1].map(|edge| self.arena_bytes * edge / SIZE[1]);
            let line: String = (0..SIZE[0])
                .map(|column| {
                    let steps = [column, column + 1].map(|edge| self.instructions * edge / SIZE[0]);
                    shade(&self.arena, bytes, steps)
                })
                .collect();
            text.push_str(&format!("arena |{line}|\n"));
        }
        text
    }

    fn host(&self) -> String {
        let nodes: Vec<_> =
            self.host_operators.iter().map(|host| format!("{} ({})", host.operator, host.node)).collect();
        if nodes.is_empty() { "every operator has a native kernel".into() } else { nodes.join(", ") }
    }
}

/// A product that stays in f32, and why.
#[derive(Serialize)]
struct Island {
    node: String,
    reason: &'static str,
}

impl Island {
    fn of(island: &plan::Island) -> Island {
        Island { node: island.node.clone(), reason: island.reason }
    }
}

/// How much of some addresses is in use during some instructions.
fn shade(arena: &[Buffer], [low, high]: [usize; 2], [first, end]: [usize; 2]) -> char {
    let overlap = |a: [usize; 2], b: [usize; 2]| a[1].min(b[1]).saturating_sub(a[0].max(b[0]));
    let area = (high - low).max(1) * end.saturating_sub(first).max(1);
    let used: usize = arena
        .iter()
        .map(|buffer| {
            let bytes = overlap([buffer.offset, buffer.offset + buffer.bytes], [low, high]);
            bytes * overlap([buffer.first, buffer.last + 1], [first, end.max(first + 1)])
        })
        .sum();
    [' ', '.', ':', '+', '#'][(used * 4).div_ceil(area).min(4)]
}

impl Operators {
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![row(&["operator", "imported", "optimized"])];
        let names: BTreeSet<_> = self.imported.keys().chain(self.optimized.keys()).collect();
        let number =
            |counts: &BTreeMap<&str, usize>, name| format!("{:>8}", counts.get(name).copied().unwrap_or(0));
        rows.extend(
            names
                .into_iter()
                .map(|name| row(&[name, &number(&self.imported, name), &number(&self.optimized, name)])),
        );
        let all = |counts: &BTreeMap<&str, usize>| format!("{:>8}", counts.values().sum::<usize>());
        rows.push(row(&["all", &all(&self.imported), &all(&self.optimized)]));
        rows
    }
}

/// A line for each port, the title on the first.
pub fn ports<'a>(title: &'a str, ports: &'a [Port]) -> impl Iterator<Item = Vec<String>> + 'a {
    let titles = std::iter::once(title).chain(std::iter::repeat(""));
    let width = ports.iter().map(|port| port.name.chars().count()).max().unwrap_or(0);
    titles.zip(ports).map(move |(title, Port { name, r#type, shape, role })| {
        let role = role.map(|role| format!("  {role}")).unwrap_or_default();
        row(&[title, &format!("{name:width$}  {type}{shape:?}{role}")])
    })
}
