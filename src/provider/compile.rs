//! Networks that are compiled where they run, and put into half precision by what they see.

use super::cpu::{Program, threads};
use super::{Cpu, NetworkError, Precision, Settings};
use crate::engine::{Engine, EngineError};
use crate::graph::Graph;
use crate::kernels::cpu;
use crate::onnx::{Model, Shapes};
use crate::peaks;
use crate::plan::{CompiledPlan, Constants, Depth, Product, Ranges, Recipe, Slots, lower};
use std::boxed::Box;
use std::vec::Vec;

/// What a network is that is to run in half precision, and has yet to see values.
#[derive(Debug)]
pub(super) struct Calibration {
    precision: Precision,
    graph: Graph,
    frugal: bool,
    ranges: Ranges,
    /// Of the product whose turn it is.
    peaks: Vec<f32>,
}

impl Cpu {
    /// Compiles a model for inputs of the given shapes.
    ///
    /// # Errors
    /// If the model has no plan for them, or the settings ask for what the machine lacks.
    pub fn new(model: Model, shapes: &Shapes, settings: Settings) -> Result<Cpu, NetworkError> {
        Cpu::compile(model.into_graph(shapes)?.optimized(), settings)
    }

    /// Compiles a graph. The network runs in f32, and unless that is the precision asked for, watches the values of what
    /// it evaluates until [`Cpu::settle`]: see [`Cpu::halved`].
    ///
    /// # Errors
    /// As [`Cpu::new`].
    pub fn compile(graph: Graph, settings: Settings) -> Result<Cpu, NetworkError> {
        let kernels = match settings.isa {
            Some(isa) => cpu::find(isa).ok_or(NetworkError::Unsupported { isa })?,
            None => cpu::best(),
        };
        let recipe = Recipe { frugal: settings.frugal, ..Recipe::new(kernels.isa) };
        let plan = lower(&graph, recipe, Constants::default())?;
        let half = match settings.precision {
            Precision::F32 => false,
            Precision::F16 => true,
            Precision::Auto => peaks::halves_pay(kernels),
        };
        let Settings { precision, frugal, .. } = settings;
        let watching =
            || Calibration { precision, graph, frugal, ranges: Ranges::default(), peaks: Vec::new() };
        let calibration = half.then(watching);
        let mut network = Cpu::of(Program::Compiled(Box::new(plan)), Slots::ONE, threads(settings)?)?;
        (network.calibration, network.unstaged) = (calibration, settings.unstaged);
        Ok(network)
    }

    /// The precision that was asked for, while the network watches values to be [halved](Cpu::halved) later.
    pub fn calibrating(&self) -> Option<Precision> {
        self.calibration.as_ref().map(|calibration| calibration.precision)
    }

    /// Evaluates the network, watching.
    pub(super) fn run_watched(&mut self, mut calibration: Calibration) -> Result<(), EngineError> {
        let products = self.compiled().map(CompiledPlan::products).unwrap_or_default().to_vec();
        let mut next = products.iter().peekable();
        let watch = |engine: &mut Engine<'_>, i| {
            // Stages that need not run again have been seen.
            while next.next_if(|product| product.instruction < i).is_some() {}
            while let Some(product) = next.next_if(|product| product.instruction == i) {
                calibration.watch(engine, product);
            }
        };
        let result = self.engine().and_then(|mut engine| engine.run_observed(watch));
        self.calibration = Some(calibration);
        result
    }

    /// This network with products in half precision, by the ranges of the values that evaluations have shown; `None` if it
    /// is not [calibrating](Cpu::calibrating). Its inputs hold what they do here.
    ///
    /// # Errors
    /// If the system does not give the memory.
    pub fn halved(&mut self, depth: Depth) -> Result<Option<Cpu>, NetworkError> {
        let Some(Calibration { graph, ranges, frugal, .. }) = &self.calibration else { return Ok(None) };
        let recipe =
            Recipe { half: Some((ranges, depth)), frugal: *frugal, ..Recipe::new(self.plan().isa()) };
        let plan = lower(graph, recipe, Constants::default())?;
        let mut halved = Cpu::of(Program::Compiled(Box::new(plan)), self.slots, self.pool.clone())?;
        halved.unstaged = self.unstaged;
        let (inputs, present) = (self.plan().inputs().len(), self.condition);
        for condition in (0..self.slots.conditions).filter(|&c| c != present).chain([present]) {
            self.select_condition(condition)?;
            halved.select_condition(condition)?;
            for index in 0..inputs {
                let (mut from, mut to) = (self.engine()?, halved.engine()?);
                to.input_bytes(index)?.copy_from_slice(from.input_bytes(index)?);
            }
        }
        Ok(Some(halved))
    }

    /// What was seen of values, if the network watches them.
    pub fn into_ranges(self) -> Option<Ranges> {
        self.calibration.map(|calibration| calibration.ranges)
    }

    /// The plan that was compiled here; `None` for one out of a file.
    pub fn into_compiled(self) -> Option<CompiledPlan> {
        match self.program {
            Program::Compiled(plan) => Some(*plan),
            Program::File { .. } => None,
        }
    }

    /// Ends the watching of values.
    pub fn settle(&mut self) {
        self.calibration = None;
    }

    /// What was compiled here; `None` for a plan out of a file.
    pub fn compiled(&self) -> Option<&CompiledPlan> {
        match &self.program {
            Program::Compiled(plan) => Some(plan),
            Program::File { .. } => None,
        }
    }
}

impl Calibration {
    /// Takes in the left matrix of a product that has just been computed.
    fn watch(&mut self, engine: &mut Engine<'_>, product: &Product) {
        self.peaks.resize(product.columns, 0.0);
        if engine.peaks(product.view, &mut self.peaks).is_some() {
            self.ranges.widen(product.value, product.first, &self.peaks);
        }
    }
}
