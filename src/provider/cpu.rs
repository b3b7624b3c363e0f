//! The project's own engine: a compiled plan, its arena, and threads.

use crate::engine::{Engine, EngineError, Pool};
use crate::graph::{Fact, Graph};
use crate::kernels::{Isa, Kernels, cpu};
use crate::onnx::{Model, OnnxError, Shapes};
use crate::plan::{ALIGNMENT, CompiledPlan, LowerError, Port, lower};
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

/// How a network is to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Threads to use; 0 for as many as the CPU runs at once, 1 for none but the caller's.
    pub threads: usize,
    /// The instruction set; `None` for the best that the CPU has.
    pub isa: Option<Isa>,
    /// Bytes of weights and arena that evaluating two samples at once may take; `None` for any.
    pub max_memory: Option<usize>,
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
    #[error("the network's arena needs {bytes} bytes, which the system does not give; use smaller shapes")]
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
    arena: Arena,
    pool: Option<Arc<Pool>>,
}

impl Network {
    /// Compiles a model for inputs of the given shapes.
    ///
    /// # Errors
    /// If the model has no plan for them, or the settings ask for what the machine lacks.
    pub fn new(model: Model, shapes: &Shapes, settings: Settings) -> Result<Network, NetworkError> {
        Network::compile(&model.into_graph(shapes)?.optimized(), settings)
    }

    /// Compiles a graph.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn compile(graph: &Graph, settings: Settings) -> Result<Network, NetworkError> {
        let kernels = Self::kernels(settings.isa)?;
        let plan = lower(graph, kernels, None)?;
        let arena = Arena::new(plan.plan().arena_bytes())?;
        let threads = match settings.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        };
        let pool = if threads > 1 { Some(Arc::new(Pool::new(threads)?)) } else { None };
        Ok(Network { plan, arena, pool })
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

    /// The engine on this network's arena: write its inputs, run it, read its outputs. Inputs keep their contents.
    ///
    /// # Errors
    /// If this CPU lacks what the plan was made for.
    pub fn engine(&mut self) -> Result<Engine<'_>, EngineError> {
        let engine = Engine::new(self.plan.plan(), self.arena.bytes())?.with_host(&self.plan);
        Ok(match &self.pool {
            Some(pool) => engine.with_threads(&**pool),
            None => engine,
        })
    }
}

/// Working memory at the engine's alignment.
#[derive(Debug)]
struct Arena {
    memory: Vec<u8>,
    /// Bytes before the first aligned one.
    lead: usize,
}

impl Arena {
    fn new(bytes: usize) -> Result<Arena, NetworkError> {
        let mut memory = Vec::new();
        let room = bytes.checked_add(ALIGNMENT).ok_or(NetworkError::Memory { bytes })?;
        memory.try_reserve_exact(room).map_err(|_| NetworkError::Memory { bytes })?;
        memory.resize(room, 0);
        let lead = memory.as_ptr().align_offset(ALIGNMENT);
        Ok(Arena { memory, lead })
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.lead..]
    }
}
