//! `fewstep compile`: a plan file, which is mapped and run as it is.
#![forbid(unsafe_code)]

use super::bundle::{BundleArgs, BundleError};
use super::output::{self, OutputError};
use super::shapes::{self, ShapeError};
use super::{IsaError, Precision, PrintError, first_step, isa, models, print, scaled, time};
use fewstep::graph::Graph;
use fewstep::kernels::{Isa, cpu};
use fewstep::manifest::{Request, RequestError};
use fewstep::onnx::{Model, OnnxError};
use fewstep::pipeline::Folder;
use fewstep::plan::{Depth, LowerError, Package, Ranges, Recipe, lower};
use fewstep::provider::{self, Network, NetworkError, Settings};
use fewstep::session::{self, SessionError};
use std::path::PathBuf;
use std::time::Instant;

/// Make a plan file of a model, which opens at once and needs nothing else.
#[derive(clap::Args, Debug)]
pub struct Compile {
    /// An embedded model's name, a folder with a fewstep.toml, that file, an .onnx file, or a pipeline's folder
    model: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "FILE.fsp")]
    output: PathBuf,
    /// The instruction set that will run it, see `fewstep list targets` [default: the best of this CPU]
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// What products are computed in: several, with commas, make a plan each
    #[arg(long, value_enum, value_delimiter = ',', default_value = "f32")]
    precision: Vec<Precision>,
    /// The way into half precision, 1 to 4 of docs/precision.md: for a CPU that is not this one, on which it was found good
    /// [default: the fastest that samples allow; for another CPU the most exact]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    way: Option<u8>,
    /// An input's shape, where the file leaves it open; another one for the same input makes another plan
    #[arg(long = "shape", value_name = "NAME=1x3x64x64", value_parser = shapes::parse)]
    shapes: Vec<shapes::Given>,
    /// Make plans that take little memory rather than little time
    #[arg(long)]
    low_memory: bool,
    /// Compute what the network makes of the schedule's times now, and leave out the weights that this takes
    #[arg(long)]
    bake: bool,
    /// The steps of the schedule that is baked [default: the manifest's]
    #[arg(long, requires = "bake")]
    steps: Option<usize>,
    #[command(flatten)]
    bundle: BundleArgs,
}

#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error(
        "--target {name}: there is no such instruction set; `native` is this CPU's, and there are {known}"
    )]
    Target { name: String, known: String },
    #[error("{}: --shape is for networks without a fewstep.toml; leave it out, or name an .onnx file elsewhere", .0.display())]
    Shapes(PathBuf),
    #[error("{}: --bake needs a fewstep.toml that says how this network is sampled; leave it out, or write one", .0.display())]
    Bake(PathBuf),
    #[error("{}: half precision is tried on values, which takes {target} or a fewstep.toml that says how to sample; compile on such a device, or write one", path.display())]
    Untried { path: PathBuf, target: Isa },
    #[error("{}: operator {operator} has no native kernel, so a plan file can not hold it; run the .onnx file itself", path.display())]
    Host { path: PathBuf, operator: String },
    #[error(transparent)]
    Isa(#[from] IsaError),
    #[error(transparent)]
    Model(#[from] models::ModelError),
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("{}: {source}", path.display())]
    Network { path: PathBuf, source: Box<NetworkError> },
    #[error("{}: {source}", path.display())]
    Lower { path: PathBuf, source: LowerError },
    #[error("{}: {source}", path.display())]
    Session { path: PathBuf, source: Box<SessionError> },
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Print(#[from] PrintError),
}

impl Compile {
    pub fn run(&self) -> Result<(), CompileError> {
        output::check(&self.output)?;
        let target = self.target()?;
        if Folder::is_one(&self.model) {
            if let Some(name) = self.of_networks() {
                return Err(BundleError::Meaningless(name).into());
            }
            return Ok(self.bundle.compile(
                &self.model,
                &self.output,
                target,
                &self.precision,
                self.low_memory,
            )?);
        }
        self.bundle.check_absent()?;
        let source = models::find(&self.model)?;
        source.check_network("compiled")?;
        let begin = Instant::now();
        let model = source.read()?;
        let mut package = match &source.manifest {
            Some(_) if !self.shapes.is_empty() => return Err(CompileError::Shapes(source.path().into())),
            Some(manifest) => {
                let precisions: Vec<provider::Precision> = self.precision.iter().map(|&p| p.into()).collect();
                let settings = Settings { isa: Some(target), frugal: self.low_memory, ..Settings::default() };
                let wrap =
                    |error| CompileError::Session { path: source.path().into(), source: Box::new(error) };
                let request = Request { steps: self.steps, ..Request::default() };
                let bake = self.bake.then_some(&request);
                session::package(manifest, &model, &precisions, settings, self.ways(target), bake)
                    .map_err(wrap)?
            }
            None if self.bake => return Err(CompileError::Bake(source.path().into())),
            None => self.package(&source, &model, target)?,
        };
        package.origin = format!(
            "{} ({}), by fewstep {}",
            source.path().file_name().unwrap_or_default().to_string_lossy(),
            model.producer,
            env!("CARGO_PKG_VERSION")
        );
        let mut bytes = 0;
        output::write_atomically(&self.output, |out| {
            bytes = package.write(out)?;
            Ok(())
        })?;
        print(&format!(
            "{}: {} for {target}, {}B, compiled in {}\n",
            self.output.display(),
            super::count(package.len(), "plan"),
            scaled(bytes as f64),
            time(begin.elapsed())
        ))?;
        Ok(())
    }

    /// What is asked for, which only single networks have.
    fn of_networks(&self) -> Option<&'static str> {
        let given =
            [("--shape", !self.shapes.is_empty()), ("--bake", self.bake), ("--way", self.way.is_some())];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    /// The ways into half precision that may be taken.
    fn ways(&self, target: Isa) -> &'static [Depth] {
        self.way.map_or(Depth::ways(target), |way| &Depth::ALL[usize::from(way) - 1..usize::from(way)])
    }

    fn target(&self) -> Result<Isa, CompileError> {
        match self.target.as_deref() {
            None | Some("native") => Ok(isa()?.unwrap_or(cpu::best().isa)),
            Some(name) => name.parse().map_err(|_| CompileError::Target {
                name: name.into(),
                known: Isa::ALL.map(Isa::name).join(", "),
            }),
        }
    }

    /// The plans of a network of which nothing says how it is sampled: one for each shape and precision.
    fn package(&self, source: &models::Source, model: &Model, target: Isa) -> Result<Package, CompileError> {
        let path = || source.path().to_path_buf();
        let mut package = Package::default();
        package.in_pieces = self.low_memory;
        for shapes in variants(&self.shapes) {
            let shapes = shapes::of(source, &model.inputs, &shapes)?;
            let graph: Graph = model.clone().into_graph(&shapes)?.optimized();
            for &precision in &self.precision {
                let half = self.calibrated(source, &graph, target, precision)?;
                let half = half.as_ref().map(|(ranges, depth)| (ranges, *depth));
                let recipe = Recipe { isa: target, half, times: None, frugal: self.low_memory };
                let plan = lower(&graph, recipe, package.constants())
                    .map_err(|source| CompileError::Lower { path: path(), source })?;
                package.add(plan).map_err(|operator| CompileError::Host { path: path(), operator })?;
            }
        }
        Ok(package)
    }

    /// How a network goes into half precision by what made-up inputs show; `None` if it stays in f32.
    fn calibrated(
        &self,
        source: &models::Source,
        graph: &Graph,
        target: Isa,
        precision: Precision,
    ) -> Result<Option<(Ranges, Depth)>, CompileError> {
        let path = || source.path().to_path_buf();
        match precision {
            Precision::F32 => return Ok(None),
            Precision::Auto if !target.supported() => return Ok(None),
            Precision::F16 if !target.supported() => {
                return Err(CompileError::Untried { path: path(), target });
            }
            _ => {}
        }
        let wrap = |error| CompileError::Network { path: path(), source: Box::new(error) };
        let settings = Settings {
            isa: Some(target),
            precision: precision.into(),
            threads: 1,
            frugal: self.low_memory,
            ..Settings::default()
        };
        let mut network = Network::compile(graph.clone(), settings).map_err(wrap)?;
        let inputs = first_step::inputs(&network, None, &Request::default())?;
        let depth = first_step::depth(&mut network, &inputs, self.ways(target)).map_err(wrap)?;
        Ok(depth.and_then(|depth| Some((network.into_ranges()?, depth))))
    }
}

/// The n-th shapes of all inputs together, for each n; an input with fewer keeps its last one.
fn variants(given: &[shapes::Given]) -> Vec<Vec<shapes::Given>> {
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in given {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let of = |name: &String| given.iter().filter(|(own, _)| own == name).cloned().collect::<Vec<_>>();
    let all: Vec<Vec<shapes::Given>> = names.into_iter().map(of).collect();
    let most = all.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let nth = |n: usize| all.iter().filter_map(|own| own.get(n).or(own.last()).cloned()).collect();
    (0..most).map(nth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_several_inputs_go_together() {
        let given = ["x=1x2", "y=3", "x=1x4"].map(|text| shapes::parse(text).expect("a shape"));
        let [x2, y3, x4] = given.clone();
        assert_eq!(variants(&given), [vec![x2, y3.clone()], vec![x4, y3]]);
        assert_eq!(variants(&[]), [vec![]]);
    }
}
