//! How a component's network becomes a plan.

use std::path::Path;

use super::{
    PipelineError,
    component::{Evaluate, failed, session_failed},
};
use crate::graph::Graph;
use crate::kernels::{Isa, cpu};
use crate::onnx::{Model, Shapes};
use crate::plan::{CompiledPlan, Constants, Depth, Package, PlanFile, Recipe, lower};
use crate::provider::cached::Compilation;
use crate::provider::{Network, NetworkError, Precision, Settings};
use crate::session::{Change, SessionError};

/// A network of a component, for inputs of some shapes.
pub(super) struct Compiled<'a> {
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
    pub(super) shapes: &'a Shapes,
    pub(super) evaluate: Evaluate<'a>,
}

impl Compilation for Compiled<'_> {
    type Opened = Network;
    type Error = PipelineError;

    fn open(&mut self, plan: &PlanFile, settings: Settings) -> Result<Network, PipelineError> {
        Network::open(plan, settings).map_err(|error| failed(self.name, error))
    }

    fn package(&mut self, settings: Settings) -> Result<Package, PipelineError> {
        let isa = settings.isa.unwrap_or(cpu::best().isa);
        // What this computer runs is compiled and tried here.
        let made = if isa.supported() { self.compile(settings)?.into_compiled() } else { None };
        let plan = made.map_or_else(|| self.foreign(isa, settings), Ok)?;
        let mut package = Package::default();
        package.in_pieces = settings.frugal;
        package
            .add(plan)
            .map_err(|operator| session_failed(self.name, SessionError::HostInPlan { operator }))?;
        Ok(package)
    }

    /// The network, in half precision if that is what was asked for, by what `evaluate` has it compute.
    fn compile(&mut self, settings: Settings) -> Result<Network, PipelineError> {
        let wrap = |error| failed(self.name, error);
        let mut network = Network::compile(self.graph()?, settings).map_err(wrap)?;
        let Some(precision) = network.calibrating() else { return Ok(network) };
        let wanted = (self.evaluate)(&mut network)?;
        let ways = Depth::ways(settings.isa.unwrap_or(cpu::best().isa));
        for (i, &depth) in ways.iter().enumerate() {
            let Some(mut halved) = network.halved(depth).map_err(wrap)? else { break };
            let last = precision == Precision::F16 && i + 1 == ways.len();
            if last || (self.evaluate)(&mut halved).is_ok_and(|found| Change::of(&wanted, &found).is_small())
            {
                return Ok(halved);
            }
        }
        network.settle();
        Ok(network)
    }

    fn weighs_memory(&self) -> bool {
        false
    }

    fn needs_less(error: &PipelineError) -> bool {
        error.budget().is_some()
    }
}

impl Compiled<'_> {
    fn graph(&self) -> Result<Graph, PipelineError> {
        let model = Model::read(self.path).map_err(NetworkError::from);
        let graph = model.and_then(|model| Ok(model.into_graph(self.shapes)?));
        Ok(graph.map_err(|error| failed(self.name, error))?.optimized())
    }

    /// The plan for the CPU of another computer. What half precision makes of it can not be tried: it goes the most exact way
    /// there, if it is asked for whatever comes of it, by the values that this computer finds in f32.
    fn foreign(&mut self, isa: Isa, settings: Settings) -> Result<CompiledPlan, PipelineError> {
        let wrap = |error| failed(self.name, error);
        let graph = self.graph()?;
        let ranges = match settings.precision {
            Precision::F16 => {
                let compiled = Network::compile(graph.clone(), Settings { isa: None, ..settings });
                let mut network = compiled.map_err(wrap)?;
                (self.evaluate)(&mut network)?;
                network.into_ranges()
            }
            _ => None,
        };
        let half = ranges.as_ref().zip(Depth::ALL.last().copied());
        let recipe = Recipe { half, frugal: settings.frugal, ..Recipe::new(isa) };
        lower(&graph, recipe, Constants::default()).map_err(|error| wrap(error.into()))
    }
}
