//! The project's own engine: a plan, its memory, and threads.

use super::NetworkError;
#[cfg(feature = "compile")]
use super::compile::Calibration;
use super::pager::{self, Pager};
use crate::engine::{Engine, EngineError, Pool};
use crate::kernels::Isa;
use crate::mapping::Scratch;
#[cfg(feature = "compile")]
use crate::plan::CompiledPlan;
use crate::plan::{Fact, Plan, PlanFile, Port, Slots};
#[cfg(feature = "compile")]
use std::boxed::Box;
use std::format;
use std::sync::Arc;
use std::vec::Vec;

/// What products and convolutions are computed in. Everything else is f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    F32,
    /// Half precision, where magnitudes allow it: weights, and arithmetic too if the CPU has it. With AVX512-VNNI or AVX2,
    /// fixed point of 16 bits.
    F16,
    /// The same if the CPU computes faster in 16 bits, and if what comes out is close enough to what f32 gives.
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
    /// Bytes of memory that this process may take, for networks out of plan files on Linux: weights leave it after they have
    /// been read, where not all fit. And bytes of weights and arena that evaluating two samples at once may take. `None`
    /// for any.
    pub max_memory: Option<usize>,
    /// Bytes of weights of a plan file that are in this process's memory at once, on Linux: where there are more, they leave
    /// it after they have been read, for the system's cache of files, which has them as long as nothing else needs the
    /// memory. `None` for any.
    pub resident: Option<usize>,
    /// Bring the weights of a plan file into memory beforehand: no step waits for them.
    pub prefault: bool,
    /// Compile for little memory rather than little time.
    pub frugal: bool,
    /// Run all stages in every evaluation, as if nothing were known of when inputs change: to compare with.
    pub unstaged: bool,
}

/// A network in the project's own engine, at the shapes that its plan is made for.
#[derive(Debug)]
pub struct Cpu {
    pub(super) program: Program,
    memory: Scratch,
    /// Weights that may stay in memory; `None` for all.
    pager: Option<Pager>,
    pub(super) slots: Slots,
    /// The slot of the present condition.
    pub(super) condition: usize,
    pub(super) unstaged: bool,
    max_memory: Option<usize>,
    resident: Option<usize>,
    pub(super) pool: Option<Arc<Pool>>,
    #[cfg(feature = "compile")]
    pub(super) calibration: Option<Calibration>,
}

/// Where a network's plan is.
#[derive(Debug)]
pub(super) enum Program {
    #[cfg(feature = "compile")]
    Compiled(Box<CompiledPlan>),
    File {
        file: PlanFile,
        index: usize,
    },
}

impl Program {
    fn plan(&self) -> Plan<'_> {
        match self {
            #[cfg(feature = "compile")]
            Program::Compiled(plan) => plan.plan(),
            Program::File { file, index } => file.known_plan(*index),
        }
    }

    /// The plan file, if it is one.
    fn file(&self) -> Option<&PlanFile> {
        match self {
            #[cfg(feature = "compile")]
            Program::Compiled(_) => None,
            Program::File { file, .. } => Some(file),
        }
    }
}

/// The threads that settings ask for; `None` if it is the caller's alone.
pub(super) fn threads(settings: Settings) -> Result<Option<Arc<Pool>>, NetworkError> {
    let threads = match settings.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n,
    };
    Ok(if threads > 1 { Some(Arc::new(Pool::new(threads)?)) } else { None })
}

impl Cpu {
    /// The network of a plan file: of its plans, the first that this CPU can run and the settings allow. A plan in half
    /// precision is taken where f32 is asked for only if there is no other.
    ///
    /// # Errors
    /// If there is none, or the system does not give the memory.
    pub fn open(file: &PlanFile, settings: Settings) -> Result<Cpu, NetworkError> {
        let fits = |plan: &Plan<'_>| match settings.isa {
            Some(isa) => plan.isa() == isa && isa.supported(),
            None => plan.isa().supported(),
        };
        let find =
            |wanted: &dyn Fn(&Plan<'_>) -> bool| file.plans().position(|plan| fits(&plan) && wanted(&plan));
        let index = match settings.precision {
            Precision::F32 => find(&|plan| plan.halves() == 0).or_else(|| find(&|_| true)),
            Precision::F16 => find(&|plan| plan.halves() > 0),
            Precision::Auto => find(&|_| true),
        };
        let Some(index) = index else {
            let found = file.plans().map(|plan| format!("{} in {}", plan.isa(), precision(&plan)));
            let found = found.collect::<Vec<_>>().join(", ");
            return Err(NetworkError::NoPlan { found });
        };
        if settings.prefault {
            file.prefault()?;
        }
        let program = Program::File { file: file.clone(), index };
        let mut network = Cpu::of(program, Slots::ONE, threads(settings)?)?;
        network.unstaged = settings.unstaged;
        (network.max_memory, network.resident) = (settings.max_memory, settings.resident);
        network.budget()?;
        Ok(network)
    }

    pub(super) fn of(program: Program, slots: Slots, pool: Option<Arc<Pool>>) -> Result<Cpu, NetworkError> {
        let memory = scratch(program.plan().memory_bytes(slots))?;
        Ok(Cpu {
            program,
            memory,
            pager: None,
            slots,
            condition: 0,
            unstaged: false,
            max_memory: None,
            resident: None,
            pool,
            #[cfg(feature = "compile")]
            calibration: None,
        })
    }

    /// Makes room for what stages compute for so many times and conditions. Whether that is not what there was: then all
    /// inputs have to be written anew.
    ///
    /// # Errors
    /// If the system does not give the memory, or it is more than the network may take.
    pub fn reserve(&mut self, slots: Slots) -> Result<bool, NetworkError> {
        let slots = self.plan().slots(slots);
        if slots == self.slots {
            return Ok(false);
        }
        self.memory = scratch(self.plan().memory_bytes(slots))?;
        (self.slots, self.condition) = (slots, 0);
        self.budget()?;
        Ok(true)
    }

    /// Finds how much of the weights may stay in memory.
    fn budget(&mut self) -> Result<(), NetworkError> {
        let Some(file) = self.program.file() else { return Ok(()) };
        let (plan, working) = (self.program.plan(), self.memory.len());
        let room =
            |given| pager::room(&plan, working, given).map_err(|least| NetworkError::Budget { given, least });
        let room = self.max_memory.map(room).transpose()?;
        let room = [room, self.resident].into_iter().flatten().min();
        self.pager = room.and_then(|room| Pager::new(file, room, self.max_memory));
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
    /// As [`Cpu::engine`].
    pub fn forget_times(&mut self) -> Result<(), EngineError> {
        self.engine()?.forget_times();
        Ok(())
    }

    /// Evaluates the network once on what its inputs hold.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run(&mut self) -> Result<(), EngineError> {
        if self.unstaged {
            self.engine()?.forget();
        }
        #[cfg(feature = "compile")]
        if let Some(calibration) = self.calibration.take() {
            return self.run_watched(calibration);
        }
        self.paged(|engine, after| engine.run_observed(after))
    }

    /// Runs the engine so that weights leave the memory after they have been read, if they must.
    fn paged(
        &mut self,
        run: impl FnOnce(&mut Engine<'_>, &mut dyn FnMut(&mut Engine<'_>, usize)) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut pager = self.pager.take();
        let result = self.engine().and_then(|mut engine| {
            run(&mut engine, &mut |engine, i| {
                if let Some(pager) = &mut pager {
                    pager.after(&engine.plan(), i);
                }
            })
        });
        self.pager = pager;
        result
    }

    /// As [`Cpu::run`], for another condition than the last evaluation was for, in the same state at the same times.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run_branch(&mut self) -> Result<(), EngineError> {
        // What is watched has to be computed.
        #[cfg(feature = "compile")]
        if self.calibration.is_some() {
            return self.run();
        }
        if self.unstaged {
            return self.run();
        }
        self.paged(|engine, after| engine.run_branch_observed(after))
    }

    /// What products are computed in, all or some of them.
    pub fn precision(&self) -> &'static str {
        precision(&self.plan())
    }

    pub fn plan(&self) -> Plan<'_> {
        self.program.plan()
    }

    /// Names and facts of the inputs, in the network's order.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, Fact)> {
        let plan = self.plan();
        plan.inputs().map(move |port| (plan.name(port), self.fact(port)))
    }

    /// Names and facts of the outputs, in the network's order.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, Fact)> {
        let plan = self.plan();
        plan.outputs().map(move |port| (plan.name(port), self.fact(port)))
    }

    fn fact(&self, port: Port) -> Fact {
        let view = self.plan().view_at(port.view);
        let shape = |v: &crate::plan::View| (0..v.layout.rank()).map(|a| v.layout.dim(a)).collect();
        view.map_or(Fact::new(crate::kernels::DType::F32, &[]), |v| Fact { dtype: v.dtype, shape: shape(&v) })
    }

    /// The threads that the engine runs on; `None` if it is the caller's alone.
    pub fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.clone()
    }

    /// The same network on another's threads.
    #[must_use]
    pub fn with_pool(self, pool: Option<Arc<Pool>>) -> Cpu {
        Cpu { pool, ..self }
    }

    /// The engine on this network's memory: write its inputs, run it, read its outputs. Inputs keep their contents.
    ///
    /// # Errors
    /// If this CPU lacks what the plan was made for.
    pub fn engine(&mut self) -> Result<Engine<'_>, EngineError> {
        let mut engine = Engine::resume(self.program.plan(), &mut self.memory, self.slots)?;
        #[cfg(feature = "compile")]
        if let Program::Compiled(plan) = &self.program {
            engine = engine.with_host(&**plan);
        }
        engine.select_condition(self.condition)?;
        Ok(match &self.pool {
            Some(pool) => engine.with_threads(&**pool),
            None => engine,
        })
    }
}

/// What products of a plan are computed in, all or some of them.
fn precision(plan: &Plan<'_>) -> &'static str {
    if plan.halves() > 0 { "f16" } else { "f32" }
}

/// Working memory: zeros at first, so that no slot of it holds anything.
fn scratch(bytes: Option<usize>) -> Result<Scratch, NetworkError> {
    let none = || NetworkError::Memory { bytes: bytes.unwrap_or(usize::MAX) };
    Scratch::new(bytes.ok_or_else(none)?).map_err(|_| none())
}
