//! A network in whatever evaluates it: what sessions and programs hold.

#[cfg(feature = "compile")]
use super::external::External;
#[cfg(feature = "compile")]
use super::{Assigned, OnnxFile, Opening, Precision, Provider};
use super::{Cpu, NetworkError, Settings};
use crate::engine::{Engine, EngineError, Pool};
#[cfg(feature = "compile")]
use crate::graph::Graph;
use crate::kernels::DType;
#[cfg(feature = "compile")]
use crate::onnx::{Model, Shapes};
#[cfg(feature = "compile")]
use crate::plan::{CompiledPlan, Depth, Plan, Ranges};
use crate::plan::{Fact, PlanFile, Slots};
use std::boxed::Box;
use std::string::String;
use std::sync::Arc;

/// A network at concrete shapes, ready to be evaluated again and again: in the project's own engine, or in a general
/// runtime.
#[derive(Debug)]
pub struct Network(Backend);

#[derive(Debug)]
enum Backend {
    Cpu(Box<Cpu>),
    #[cfg(feature = "compile")]
    External(Box<External>),
}

impl From<Cpu> for Network {
    fn from(cpu: Cpu) -> Network {
        Network(Backend::Cpu(Box::new(cpu)))
    }
}

impl Network {
    /// The network of a plan file, as [`Cpu::open`].
    ///
    /// # Errors
    /// As [`Cpu::open`].
    pub fn open(file: &PlanFile, settings: Settings) -> Result<Network, NetworkError> {
        Ok(Cpu::open(file, settings)?.into())
    }

    /// A model in the engine, as [`Cpu::new`].
    ///
    /// # Errors
    /// As [`Cpu::new`].
    #[cfg(feature = "compile")]
    pub fn new(model: Model, shapes: &Shapes, settings: Settings) -> Result<Network, NetworkError> {
        Ok(Cpu::new(model, shapes, settings)?.into())
    }

    /// A graph in the engine, as [`Cpu::compile`].
    ///
    /// # Errors
    /// As [`Cpu::compile`].
    #[cfg(feature = "compile")]
    pub fn compile(graph: Graph, settings: Settings) -> Result<Network, NetworkError> {
        Ok(Cpu::compile(graph, settings)?.into())
    }

    /// An ONNX file in whatever a provider is.
    ///
    /// # Errors
    /// If the provider is not here, or does not take the network.
    #[cfg(feature = "compile")]
    pub fn on(
        provider: &Provider,
        file: OnnxFile<'_>,
        opening: &Opening<'_>,
    ) -> Result<Network, NetworkError> {
        match provider {
            Provider::Cpu => Network::new(file.read()?, opening.shapes, opening.settings),
            _ => Ok(Network(Backend::External(Box::new(External::open(provider, file, opening)?)))),
        }
    }

    /// The engine, if it is that which evaluates this network.
    pub fn cpu(&self) -> Option<&Cpu> {
        match &self.0 {
            Backend::Cpu(cpu) => Some(cpu),
            #[cfg(feature = "compile")]
            Backend::External(_) => None,
        }
    }

    /// As [`Network::cpu`].
    pub fn cpu_mut(&mut self) -> Option<&mut Cpu> {
        match &mut self.0 {
            Backend::Cpu(cpu) => Some(cpu),
            #[cfg(feature = "compile")]
            Backend::External(_) => None,
        }
    }

    /// What evaluates the network, as `--provider` names it: `cpu`, `ort:openvino`.
    pub fn provider(&self) -> &str {
        match &self.0 {
            Backend::Cpu(_) => "cpu",
            #[cfg(feature = "compile")]
            Backend::External(external) => external.provider(),
        }
    }

    /// The version of what evaluates the network.
    pub fn version(&self) -> &str {
        match &self.0 {
            Backend::Cpu(_) => env!("CARGO_PKG_VERSION"),
            #[cfg(feature = "compile")]
            Backend::External(external) => external.version(),
        }
    }

    /// What products are computed in, all or some of them; a general runtime keeps to the file, or to its own options.
    pub fn precision(&self) -> &'static str {
        self.cpu().map_or("as exported", Cpu::precision)
    }

    /// The nodes of the network, and what of an ONNX Runtime evaluates each; nothing for other providers.
    #[cfg(feature = "compile")]
    pub fn assignment(&self) -> &[Assigned] {
        match &self.0 {
            Backend::Cpu(_) => &[],
            Backend::External(external) => external.assignment(),
        }
    }

    /// What the memory is called that a general runtime's inputs and outputs are in, where they are handed over and taken
    /// back in every evaluation; `None` for those that do not say, and if they are in several.
    pub fn bound_memory(&self) -> Option<String> {
        match &self.0 {
            Backend::Cpu(_) => None,
            #[cfg(feature = "compile")]
            Backend::External(external) => external.bound_memory(),
        }
    }

    /// The plan of what the engine evaluates before a general runtime gets the rest, if it does, and the number of values
    /// that it hands on.
    #[cfg(feature = "compile")]
    pub fn prelude(&self) -> Option<(Plan<'_>, usize)> {
        self.external().and_then(External::prelude)
    }

    /// Names and facts of the inputs, in the network's order.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, Fact)> {
        let own = self.cpu().into_iter().flat_map(Cpu::inputs);
        #[cfg(feature = "compile")]
        let own = own.chain(self.external().into_iter().flat_map(External::inputs));
        own
    }

    /// Names and facts of the outputs, in the network's order.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, Fact)> {
        let own = self.cpu().into_iter().flat_map(Cpu::outputs);
        #[cfg(feature = "compile")]
        let own = own.chain(self.external().into_iter().flat_map(External::outputs));
        own
    }

    #[cfg(feature = "compile")]
    fn external(&self) -> Option<&External> {
        match &self.0 {
            Backend::Cpu(_) => None,
            Backend::External(external) => Some(external),
        }
    }

    /// The inputs, to be written, and the outputs, to be read. Inputs keep their contents.
    ///
    /// # Errors
    /// If this CPU lacks what the plan was made for.
    pub fn io(&mut self) -> Result<Io<'_>, EngineError> {
        Ok(match &mut self.0 {
            Backend::Cpu(cpu) => Io(Access::Engine(cpu.engine()?)),
            #[cfg(feature = "compile")]
            Backend::External(external) => Io(Access::External(external)),
        })
    }

    /// Evaluates the network once on what its inputs hold.
    ///
    /// # Errors
    /// As [`Engine::run`], or what the runtime says.
    pub fn run(&mut self) -> Result<(), NetworkError> {
        match &mut self.0 {
            Backend::Cpu(cpu) => Ok(cpu.run()?),
            #[cfg(feature = "compile")]
            Backend::External(external) => external.run(),
        }
    }

    /// As [`Network::run`], for another condition than the last evaluation was for, in the same state at the same times.
    ///
    /// # Errors
    /// As [`Network::run`].
    pub fn run_branch(&mut self) -> Result<(), NetworkError> {
        match &mut self.0 {
            Backend::Cpu(cpu) => Ok(cpu.run_branch()?),
            #[cfg(feature = "compile")]
            Backend::External(external) => external.run(),
        }
    }

    /// Makes room for so many conditions, and for what stages compute for them and so many times. Whether that is not what
    /// there was: then all inputs have to be written anew.
    ///
    /// # Errors
    /// If the system does not give the memory, or it is more than the network may take.
    pub fn reserve(&mut self, slots: Slots) -> Result<bool, NetworkError> {
        match &mut self.0 {
            Backend::Cpu(cpu) => cpu.reserve(slots),
            #[cfg(feature = "compile")]
            Backend::External(external) => external.reserve(slots),
        }
    }

    pub fn slots(&self) -> Slots {
        match &self.0 {
            Backend::Cpu(cpu) => cpu.slots(),
            #[cfg(feature = "compile")]
            Backend::External(external) => Slots { times: 1, conditions: external.conditions() },
        }
    }

    /// Makes one of the conditions that there is room for the present one: its inputs are written, and it is what
    /// evaluations are for.
    ///
    /// # Errors
    /// If there is no room for so many.
    pub fn select_condition(&mut self, condition: usize) -> Result<(), EngineError> {
        match &mut self.0 {
            Backend::Cpu(cpu) => cpu.select_condition(condition),
            #[cfg(feature = "compile")]
            Backend::External(external) => external.select_condition(condition),
        }
    }

    /// The network in a general runtime, which may keep the state of samples.
    #[cfg(feature = "compile")]
    pub(crate) fn external_mut(&mut self) -> Option<&mut External> {
        match &mut self.0 {
            Backend::Cpu(_) => None,
            Backend::External(external) => Some(external),
        }
    }

    /// Drops what stages have computed for times that will not come again.
    ///
    /// # Errors
    /// As [`Network::io`].
    pub fn forget_times(&mut self) -> Result<(), EngineError> {
        match &mut self.0 {
            Backend::Cpu(cpu) => cpu.forget_times(),
            #[cfg(feature = "compile")]
            Backend::External(external) => external.forget_times(),
        }
    }

    /// Whether the network takes two samples at once.
    pub fn is_paired(&self) -> bool {
        self.cpu().is_some_and(|cpu| cpu.plan().is_paired())
    }

    /// The threads that the engine runs on; `None` if it is the caller's alone, or the runtime has its own.
    pub fn pool(&self) -> Option<Arc<Pool>> {
        self.cpu().and_then(Cpu::pool)
    }

    /// The same network on another's threads.
    #[must_use]
    pub fn with_pool(self, pool: Option<Arc<Pool>>) -> Network {
        match self.0 {
            Backend::Cpu(cpu) => cpu.with_pool(pool).into(),
            #[cfg(feature = "compile")]
            other => Network(other),
        }
    }

    /// As [`Cpu::calibrating`].
    #[cfg(feature = "compile")]
    pub fn calibrating(&self) -> Option<Precision> {
        self.cpu().and_then(Cpu::calibrating)
    }

    /// As [`Cpu::halved`].
    ///
    /// # Errors
    /// As [`Cpu::halved`].
    #[cfg(feature = "compile")]
    pub fn halved(&mut self, depth: Depth) -> Result<Option<Network>, NetworkError> {
        let halved = self.cpu_mut().map(|cpu| cpu.halved(depth)).transpose()?;
        Ok(halved.flatten().map(Network::from))
    }

    /// As [`Cpu::into_ranges`].
    #[cfg(feature = "compile")]
    pub fn into_ranges(self) -> Option<Ranges> {
        match self.0 {
            Backend::Cpu(cpu) => cpu.into_ranges(),
            Backend::External(_) => None,
        }
    }

    /// As [`Cpu::into_compiled`].
    #[cfg(feature = "compile")]
    pub fn into_compiled(self) -> Option<CompiledPlan> {
        match self.0 {
            Backend::Cpu(cpu) => cpu.into_compiled(),
            Backend::External(_) => None,
        }
    }

    /// As [`Cpu::settle`].
    #[cfg(feature = "compile")]
    pub fn settle(&mut self) {
        if let Some(cpu) = self.cpu_mut() {
            cpu.settle();
        }
    }
}

/// The inputs and outputs of a network, between two evaluations.
pub struct Io<'a>(Access<'a>);

enum Access<'a> {
    Engine(Engine<'a>),
    #[cfg(feature = "compile")]
    External(&'a mut External),
}

impl Io<'_> {
    /// The type of an input, if there is one of that number.
    pub fn input_type(&self, index: usize) -> Option<DType> {
        match &self.0 {
            Access::Engine(engine) => {
                let plan = engine.plan();
                plan.inputs().nth(index).and_then(|port| plan.view_at(port.view)).map(|view| view.dtype)
            }
            #[cfg(feature = "compile")]
            Access::External(external) => external.input_type(index),
        }
    }

    /// Writes an input of any type, element by element; integers are rounded.
    ///
    /// # Errors
    /// If there is no such input.
    pub fn fill(&mut self, index: usize, value: impl Fn(usize) -> f64) -> Result<(), EngineError> {
        match self.input_type(index) {
            Some(DType::I64) => {
                let input = self.input_i64(index)?.iter_mut().enumerate();
                input.for_each(|(i, x)| *x = libm::rint(value(i)) as i64);
            }
            Some(DType::Bool) => {
                let input = self.input_bool(index)?.iter_mut().enumerate();
                input.for_each(|(i, x)| *x = u8::from(value(i) != 0.0));
            }
            _ => self.input_f32(index)?.iter_mut().enumerate().for_each(|(i, x)| *x = value(i) as f32),
        }
        Ok(())
    }

    /// The elements of an f32 input, to be written before an evaluation.
    ///
    /// # Errors
    /// If there is no such input, or it is not f32.
    pub fn input_f32(&mut self, index: usize) -> Result<&mut [f32], EngineError> {
        match &mut self.0 {
            Access::Engine(engine) => engine.input_f32(index),
            #[cfg(feature = "compile")]
            Access::External(external) => external.input(index),
        }
    }

    /// The elements of an integer input, as [`Io::input_f32`].
    ///
    /// # Errors
    /// If there is no such input, or it is not i64.
    pub fn input_i64(&mut self, index: usize) -> Result<&mut [i64], EngineError> {
        match &mut self.0 {
            Access::Engine(engine) => engine.input_i64(index),
            #[cfg(feature = "compile")]
            Access::External(external) => external.input(index),
        }
    }

    /// The truth values of an input, 0 or 1 each, as [`Io::input_f32`].
    ///
    /// # Errors
    /// If there is no such input, or it is not bool.
    pub fn input_bool(&mut self, index: usize) -> Result<&mut [u8], EngineError> {
        match &mut self.0 {
            Access::Engine(engine) => engine.input_bool(index),
            #[cfg(feature = "compile")]
            Access::External(external) => external.input(index),
        }
    }

    /// The elements of an f32 output, after an evaluation.
    ///
    /// # Errors
    /// If there is no such output, or it is not f32.
    pub fn output_f32(&mut self, index: usize) -> Result<&[f32], EngineError> {
        match &mut self.0 {
            Access::Engine(engine) => engine.output_f32(index),
            #[cfg(feature = "compile")]
            Access::External(external) => external.output(index),
        }
    }

    /// The elements of an integer output, as [`Io::output_f32`].
    ///
    /// # Errors
    /// If there is no such output, or it is not i64.
    pub fn output_i64(&mut self, index: usize) -> Result<&[i64], EngineError> {
        match &mut self.0 {
            Access::Engine(engine) => engine.output_i64(index),
            #[cfg(feature = "compile")]
            Access::External(external) => external.output(index),
        }
    }

    /// The truth values of an output, 0 for false, as [`Io::output_f32`].
    ///
    /// # Errors
    /// If there is no such output, or it is not bool.
    pub fn output_bool(&mut self, index: usize) -> Result<&[u8], EngineError> {
        match &mut self.0 {
            Access::Engine(engine) => engine.output_bool(index),
            #[cfg(feature = "compile")]
            Access::External(external) => external.output(index),
        }
    }
}
