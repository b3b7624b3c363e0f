//! The project's own engine: a compiled plan, its arena, and threads.

use crate::engine::{Engine, EngineError, Pool};
use crate::graph::{Fact, Graph};
use crate::kernels::{Isa, Kernels, cpu};
use crate::onnx::{Model, OnnxError, Shapes};
use crate::plan::{ALIGNMENT, CompiledPlan, Depth, LowerError, Port, Product, Ranges, Slots, lower};
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

/// What products and convolutions are computed in. Everything else is f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    F32,
    /// Half precision, where magnitudes allow it: weights, and arithmetic too if the CPU has it.
    F16,
    /// Half precision if the CPU computes in it, and if what comes out is close enough to what f32 gives.
    Auto,
}

/// How a network is to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Threads to use; 0 for as many as the CPU runs at once, 1 for none but the caller's.
    pub threads: usize,
    /// The instruction set; `None` for the best that the CPU has.
    pub isa: Option<Isa>,
    pub precision: Precision,
    /// Bytes of weights and arena that evaluating two samples at once may take; `None` for any.
    pub max_memory: Option<usize>,
    /// Run all stages in every evaluation, as if nothing were known of when inputs change: to compare with.
    pub unstaged: bool,
}

/// Why a network does not run.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error("{0}; give smaller shapes, or report the model")]
    Lower(#[from] LowerError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("this CPU lacks the instruction set {isa} (it has {})", supported())]
    Unsupported { isa: Isa },
    #[error(
        "the network's working memory needs {bytes} bytes, which the system does not give; use smaller shapes"
    )]
    Memory { bytes: usize },
    #[error("the system gives no threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

fn supported() -> String {
    let names: Vec<&str> = Isa::ALL.iter().filter(|isa| isa.supported()).map(|isa| isa.name()).collect();
    names.join(", ")
}

/// A network at concrete shapes, ready to be evaluated again and again.
#[derive(Debug)]
pub struct Network {
    plan: CompiledPlan,
    memory: Memory,
    slots: Slots,
    /// The slot of the present condition.
    condition: usize,
    unstaged: bool,
    pool: Option<Arc<Pool>>,
    calibration: Option<Calibration>,
}

/// What a network is that is to run in half precision, and has yet to see values.
#[derive(Debug)]
struct Calibration {
    precision: Precision,
    graph: Graph,
    ranges: Ranges,
    /// Of the product whose turn it is.
    peaks: Vec<f32>,
}

impl Network {
    /// Compiles a model for inputs of the given shapes.
    ///
    /// # Errors
    /// If the model has no plan for them, or the settings ask for what the machine lacks.
    pub fn new(model: Model, shapes: &Shapes, settings: Settings) -> Result<Network, NetworkError> {
        Network::compile(model.into_graph(shapes)?.optimized(), settings)
    }

    /// Compiles a graph. The network runs in f32, and unless that is the precision asked for, watches the values of what
    /// it evaluates until [`Network::settle`]: see [`Network::halved`].
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn compile(graph: Graph, settings: Settings) -> Result<Network, NetworkError> {
        let kernels = Self::kernels(settings.isa)?;
        let plan = lower(&graph, kernels, None)?;
        let threads = match settings.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        };
        let pool = if threads > 1 { Some(Arc::new(Pool::new(threads)?)) } else { None };
        let half = match settings.precision {
            Precision::F32 => false,
            Precision::F16 => true,
            Precision::Auto => kernels.half.native,
        };
        let precision = settings.precision;
        let watching = || Calibration { precision, graph, ranges: Ranges::default(), peaks: Vec::new() };
        let calibration = half.then(watching);
        let network = Network::of(plan, Slots::ONE, pool)?;
        Ok(Network { calibration, unstaged: settings.unstaged, ..network })
    }

    fn of(plan: CompiledPlan, slots: Slots, pool: Option<Arc<Pool>>) -> Result<Network, NetworkError> {
        let memory = Memory::new(plan.plan().memory_bytes(slots))?;
        Ok(Network { plan, memory, slots, condition: 0, unstaged: false, pool, calibration: None })
    }

    /// Makes room for what stages compute for so many times and conditions. All inputs have to be written anew if that is
    /// not what there was.
    ///
    /// # Errors
    /// If the system does not give the memory.
    pub fn reserve(&mut self, slots: Slots) -> Result<(), NetworkError> {
        if slots != self.slots {
            self.memory = Memory::new(self.plan.plan().memory_bytes(slots))?;
            (self.slots, self.condition) = (slots, 0);
        }
        Ok(())
    }

    pub fn slots(&self) -> Slots {
        self.slots
    }

    /// Makes one of the conditions that there is room for the present one: its inputs are written, and it is what
    /// evaluations are for.
    ///
    /// # Errors
    /// If there is no room for so many.
    pub fn select_condition(&mut self, condition: usize) -> Result<(), EngineError> {
        self.engine()?.select_condition(condition)?;
        self.condition = condition;
        Ok(())
    }

    /// Drops what stages have computed for times that will not come again.
    ///
    /// # Errors
    /// As [`Network::engine`].
    pub fn forget_times(&mut self) -> Result<(), EngineError> {
        self.engine()?.forget_times();
        Ok(())
    }

    /// The precision that was asked for, while the network watches values to be [halved](Network::halved) later.
    pub fn calibrating(&self) -> Option<Precision> {
        self.calibration.as_ref().map(|calibration| calibration.precision)
    }

    /// Evaluates the network once on what its inputs hold.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run(&mut self) -> Result<(), EngineError> {
        if self.unstaged {
            self.engine()?.forget();
        }
        let Some(mut calibration) = self.calibration.take() else { return self.engine()?.run() };
        let products = self.plan.products().to_vec();
        let mut next = products.iter().peekable();
        let watch = |engine: &mut Engine<'_>, i| {
            while let Some(product) = next.next_if(|product| product.instruction == i) {
                calibration.watch(engine, product);
            }
        };
        let result = self.engine().and_then(|mut engine| engine.run_observed(watch));
        self.calibration = Some(calibration);
        result
    }

    /// As [`Network::run`], for another condition than the last evaluation was for, in the same state at the same times.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run_branch(&mut self) -> Result<(), EngineError> {
        // What is watched has to be computed.
        if self.unstaged || self.calibration.is_some() {
            return self.run();
        }
        self.engine()?.run_branch()
    }

    /// This network with products in half precision, by the ranges of the values that evaluations have shown; `None` if it
    /// is not [calibrating](Network::calibrating). Its inputs hold what they do here.
    ///
    /// # Errors
    /// If the system does not give the memory.
    pub fn halved(&mut self, depth: Depth) -> Result<Option<Network>, NetworkError> {
        let Some(Calibration { graph, ranges, .. }) = &self.calibration else { return Ok(None) };
        let kernels = Self::kernels(Some(self.plan.plan().isa()))?;
        let plan = lower(graph, kernels, Some((ranges, depth)))?;
        let mut halved = Network::of(plan, self.slots, self.pool.clone())?;
        halved.unstaged = self.unstaged;
        let (inputs, present) = (self.plan.plan().inputs().len(), self.condition);
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

    /// Ends the watching of values.
    pub fn settle(&mut self) {
        self.calibration = None;
    }

    /// What products are computed in, all or some of them.
    pub fn precision(&self) -> &'static str {
        if self.plan.halves() > 0 { "f16" } else { "f32" }
    }

    fn kernels(isa: Option<Isa>) -> Result<&'static Kernels, NetworkError> {
        match isa {
            Some(isa) => cpu::find(isa).ok_or(NetworkError::Unsupported { isa }),
            None => Ok(cpu::best()),
        }
    }

    pub fn plan(&self) -> &CompiledPlan {
        &self.plan
    }

    /// Names and facts of the inputs, in the network's order.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, Fact)> {
        let plan = self.plan.plan();
        plan.inputs().map(move |port| (plan.name(port), self.fact(port)))
    }

    /// Names and facts of the outputs, in the network's order.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, Fact)> {
        let plan = self.plan.plan();
        plan.outputs().map(move |port| (plan.name(port), self.fact(port)))
    }

    fn fact(&self, port: Port) -> Fact {
        let view = self.plan.plan().view_at(port.view);
        let shape = |v: &crate::plan::View| (0..v.layout.rank()).map(|a| v.layout.dim(a)).collect();
        view.map_or(Fact { dtype: crate::kernels::DType::F32, shape: Vec::new() }, |v| Fact {
            dtype: v.dtype,
            shape: shape(&v),
        })
    }

    /// The threads that the engine runs on; `None` if it is the caller's alone.
    pub fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.clone()
    }

    /// The same network on another's threads.
    #[must_use]
    pub fn with_pool(self, pool: Option<Arc<Pool>>) -> Network {
        Network { pool, ..self }
    }

    /// The engine on this network's memory: write its inputs, run it, read its outputs. Inputs keep their contents.
    ///
    /// # Errors
    /// If this CPU lacks what the plan was made for.
    pub fn engine(&mut self) -> Result<Engine<'_>, EngineError> {
        let mut engine =
            Engine::resume(self.plan.plan(), self.memory.bytes(), self.slots)?.with_host(&self.plan);
        engine.select_condition(self.condition)?;
        Ok(match &self.pool {
            Some(pool) => engine.with_threads(&**pool),
            None => engine,
        })
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

/// Working memory at the engine's alignment, zeros at first: no slot of it holds anything.
#[derive(Debug)]
struct Memory {
    bytes: Vec<u8>,
    /// Bytes before the first aligned one.
    lead: usize,
}

impl Memory {
    fn new(bytes: Option<usize>) -> Result<Memory, NetworkError> {
        let none = NetworkError::Memory { bytes: bytes.unwrap_or(usize::MAX) };
        let Some(room) = bytes.and_then(|bytes| bytes.checked_add(ALIGNMENT)) else { return Err(none) };
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(room).is_err() {
            return Err(none);
        }
        bytes.resize(room, 0);
        let lead = bytes.as_ptr().align_offset(ALIGNMENT);
        Ok(Memory { bytes, lead })
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.lead..]
    }
}
