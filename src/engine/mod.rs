//! Runs a plan on an arena. Allocates nothing, knows no files, no ONNX, no heap.

mod execute;
mod stages;
#[cfg(feature = "std")]
mod threads;

#[cfg(feature = "std")]
pub use threads::Pool;

pub use crate::plan::MAX_HOST_OPERANDS;

use crate::kernels::{DType, Kernels, Operand, cpu};
use crate::plan::{ALIGNMENT, Kept, Packing, Plan, Port, Slots, Space, Stage, ViewId};

/// Runs independent tasks, on as many threads as it has.
pub trait Threads: Sync {
    /// Calls `task` once with every number below `count`, in any order, and returns when all calls have.
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync));
}

/// No threads: the caller's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Threads for Serial {
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(task);
    }
}

/// Runs the operators that have no kernel. Inputs and outputs are dense, in row-major order.
pub trait Host: Sync {
    /// Runs operator `operator` of the plan; false if that failed.
    fn run(&self, operator: u32, inputs: &[Operand], outputs: &[Operand]) -> bool;
}

/// Why a plan does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("the engine's memory has {found} bytes, the plan needs {needed}")]
    MemoryTooSmall { needed: usize, found: usize },
    #[error("the engine's memory does not begin at a multiple of {ALIGNMENT} bytes")]
    MemoryMisaligned,
    #[error("the plan is made for {isa}, which this CPU or this program lacks{}", Features(*isa))]
    Unsupported { isa: crate::kernels::Isa },
    #[error("the plan has weights of 16 bits, and this program is built without the feature f16")]
    NoHalf,
    #[error(
        "the plan's weights are packed otherwise than this program's kernels want; compile the model again"
    )]
    Packing,
    #[error("the network has no {kind} {index}")]
    NoPort { kind: &'static str, index: usize },
    #[error("{kind} {index} of the network is {found}, not {wanted}")]
    PortType { kind: &'static str, index: usize, found: DType, wanted: DType },
    #[error(
        "the plan has its times inside, and not these; sample as it was compiled for, or compile it without --bake"
    )]
    NotBaked,
    #[error("the plan has operators that only a host with the compiler can run")]
    NoHost,
    #[error("instruction {instruction} failed: the host's operator refused its inputs")]
    Host { instruction: usize },
    #[error("instruction {instruction} is damaged; compile the model again")]
    Damaged { instruction: usize },
}

/// What an instruction set needs, if anything.
struct Features(crate::kernels::Isa);

impl core::fmt::Display for Features {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (i, feature) in self.0.features().iter().enumerate() {
            write!(f, "{}{feature}", if i == 0 { " (needs " } else { ", " })?;
        }
        if self.0.features().is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// A plan, the memory that it works on, and the kernels that run it.
///
/// Stages of the plan that depend on the times or the condition alone run when these change, and never again for times
/// that the memory has a slot for.
pub struct Engine<'a> {
    plan: Plan<'a>,
    memory: &'a mut [u8],
    slots: Slots,
    /// The slots of the present times and the present condition.
    time: usize,
    condition: usize,
    kernels: &'static Kernels,
    threads: &'a dyn Threads,
    host: Option<&'a dyn Host>,
}

impl<'a> Engine<'a> {
    /// An engine on [`Plan::memory_bytes`] of memory, whose contents do not matter. It keeps what stages compute for one
    /// condition, and for as many times as the memory has room for.
    ///
    /// # Errors
    /// If the memory is too small or misaligned, or this CPU lacks what the plan was made for.
    pub fn new(plan: Plan<'a>, memory: &'a mut [u8]) -> Result<Engine<'a>, EngineError> {
        let slots = stages::fitting(&plan, memory.len());
        let mut engine = Engine::resume(plan, memory, slots)?;
        engine.forget();
        Ok(engine)
    }

    /// The engine whose memory this is, with what its stages have computed.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub(crate) fn resume(
        plan: Plan<'a>,
        memory: &'a mut [u8],
        slots: Slots,
    ) -> Result<Engine<'a>, EngineError> {
        let slots = plan.slots(slots);
        let needed = plan.memory_bytes(slots).unwrap_or(usize::MAX);
        if memory.len() < needed {
            return Err(EngineError::MemoryTooSmall { needed, found: memory.len() });
        }
        if needed > 0 && memory.as_ptr().align_offset(ALIGNMENT) != 0 {
            return Err(EngineError::MemoryMisaligned);
        }
        let kernels = cpu::find(plan.isa()).ok_or(EngineError::Unsupported { isa: plan.isa() })?;
        if plan.halves() > 0 && cfg!(not(feature = "f16")) {
            return Err(EngineError::NoHalf);
        }
        if Packing::of(kernels) != plan.packing() {
            return Err(EngineError::Packing);
        }
        Ok(Engine { plan, memory, slots, time: 0, condition: 0, kernels, threads: &Serial, host: None })
    }

    #[must_use]
    pub fn with_threads(self, threads: &'a dyn Threads) -> Engine<'a> {
        Engine { threads, ..self }
    }

    #[must_use]
    pub fn with_host(self, host: &'a dyn Host) -> Engine<'a> {
        Engine { host: Some(host), ..self }
    }

    pub fn plan(&self) -> Plan<'a> {
        self.plan
    }

    /// The elements of an f32 input, to be written before [`Self::run`]. Inputs keep their contents between runs.
    ///
    /// # Errors
    /// If there is no such input, or it is not f32.
    pub fn input_f32(&mut self, index: usize) -> Result<&mut [f32], EngineError> {
        let (ptr, len) = self.written(index, Some(DType::F32))?;
        // SAFETY: `check` has found the port dense and inside of the memory, aligned for its type; that is borrowed mutably
        // through self, and every bit pattern is an f32.
        Ok(unsafe { core::slice::from_raw_parts_mut(ptr.cast::<f32>(), len) })
    }

    /// The elements of an integer input, as [`Self::input_f32`].
    ///
    /// # Errors
    /// If there is no such input, or it is not i64.
    pub fn input_i64(&mut self, index: usize) -> Result<&mut [i64], EngineError> {
        let (ptr, len) = self.written(index, Some(DType::I64))?;
        // SAFETY: as for `input_f32`.
        Ok(unsafe { core::slice::from_raw_parts_mut(ptr.cast::<i64>(), len) })
    }

    /// The truth values of an input, 0 or 1 each, as [`Self::input_f32`].
    ///
    /// # Errors
    /// If there is no such input, or it is not bool.
    pub fn input_bool(&mut self, index: usize) -> Result<&mut [u8], EngineError> {
        let (ptr, len) = self.written(index, Some(DType::Bool))?;
        // SAFETY: as for `input_f32`.
        Ok(unsafe { core::slice::from_raw_parts_mut(ptr, len) })
    }

    /// The bytes of an input of any type.
    #[cfg(feature = "compile")]
    pub(crate) fn input_bytes(&mut self, index: usize) -> Result<&mut [u8], EngineError> {
        let (ptr, bytes) = self.written(index, None)?;
        // SAFETY: as for `input_f32`; every type has bytes.
        Ok(unsafe { core::slice::from_raw_parts_mut(ptr, bytes) })
    }

    /// The elements of an f32 output, after [`Self::run`].
    ///
    /// # Errors
    /// If there is no such output, or it is not f32.
    pub fn output_f32(&mut self, index: usize) -> Result<&[f32], EngineError> {
        let port = port(self.plan.outputs().nth(index), "output", index)?;
        let (ptr, len) = self.port(port, "output", index, DType::F32)?;
        // SAFETY: as for `input_f32`.
        Ok(unsafe { core::slice::from_raw_parts(ptr.cast::<f32>(), len) })
    }

    /// The elements of an integer output, as [`Self::output_f32`].
    ///
    /// # Errors
    /// If there is no such output, or it is not i64.
    pub fn output_i64(&mut self, index: usize) -> Result<&[i64], EngineError> {
        let port = port(self.plan.outputs().nth(index), "output", index)?;
        let (ptr, len) = self.port(port, "output", index, DType::I64)?;
        // SAFETY: as for `input_f32`.
        Ok(unsafe { core::slice::from_raw_parts(ptr.cast::<i64>(), len) })
    }

    /// The truth values of an output, 0 for false, as [`Self::output_f32`].
    ///
    /// # Errors
    /// If there is no such output, or it is not bool.
    pub fn output_bool(&mut self, index: usize) -> Result<&[u8], EngineError> {
        let port = port(self.plan.outputs().nth(index), "output", index)?;
        let (ptr, len) = self.port(port, "output", index, DType::Bool)?;
        // SAFETY: as for `input_f32`.
        Ok(unsafe { core::slice::from_raw_parts(ptr, len) })
    }

    /// Evaluates the network once: the stages whose inputs have changed, and the state's. Allocates nothing, unless the plan
    /// has operators that the host runs.
    ///
    /// # Errors
    /// If an operator of the host fails; the outputs hold nothing of use then.
    pub fn run(&mut self) -> Result<(), EngineError> {
        self.run_observed(|_, _| ())
    }

    /// The same, calling `after` with the number of each instruction that is done, for those who measure.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_observed(&mut self, mut after: impl FnMut(&mut Self, usize)) -> Result<(), EngineError> {
        self.refresh(&mut after)?;
        [Stage::State, Stage::StateCondition].into_iter().try_for_each(|stage| self.stage(stage, &mut after))
    }

    /// Evaluates the network for the present condition in the state of the last run, at its times: what does not depend on
    /// the condition is not computed again, if the plan is made for that.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_branch(&mut self) -> Result<(), EngineError> {
        self.run_branch_observed(|_, _| ())
    }

    /// The same, observed as by [`Self::run_observed`].
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_branch_observed(
        &mut self,
        mut after: impl FnMut(&mut Self, usize),
    ) -> Result<(), EngineError> {
        if self.plan.stage(Stage::StateCondition).is_empty() {
            return self.run_observed(after);
        }
        self.refresh(&mut after)?;
        self.stage(Stage::StateCondition, &mut after)
    }

    /// The largest magnitude in an f32 view for each index of its last dimension, as the arena holds it now; NaN where
    /// there is one. `None` if there is no such view.
    #[cfg(feature = "compile")]
    pub(crate) fn peaks(&mut self, id: ViewId, peaks: &mut [f32]) -> Option<()> {
        let operand = self.operand(id).filter(|operand| operand.dtype == DType::F32)?;
        let (layout, last) = (operand.layout, operand.layout.rank().checked_sub(1)?);
        peaks.fill(0.0);
        for row in 0..layout.len() / layout.dim(last).max(1) {
            let (mut first, mut rest) = (0, row);
            for axis in (0..last).rev() {
                first += (rest % layout.dim(axis)) as isize * layout.stride(axis);
                rest /= layout.dim(axis);
            }
            for (column, peak) in peaks.iter_mut().enumerate().take(layout.dim(last)) {
                let offset = first + column as isize * layout.stride(last);
                // SAFETY: `check` has found all elements of the view inside of its memory, aligned for f32.
                let x = unsafe { *operand.ptr.cast::<f32>().offset(offset) }.abs();
                if x > *peak || x.is_nan() {
                    *peak = x;
                }
            }
        }
        Some(())
    }

    /// Where an input lies that is about to be written, and its length, in bytes if the type does not matter.
    fn written(&mut self, index: usize, wanted: Option<DType>) -> Result<(*mut u8, usize), EngineError> {
        let port = port(self.plan.inputs().nth(index), "input", index)?;
        if port.stage == Stage::Condition {
            self.forget_condition();
        }
        match wanted {
            Some(wanted) => self.port(port, "input", index, wanted),
            None => {
                let operand = self.operand(port.view).ok_or(EngineError::NoPort { kind: "input", index })?;
                Ok((operand.ptr, operand.layout.len() * operand.dtype.size()))
            }
        }
    }

    fn port(
        &mut self,
        port: Port,
        kind: &'static str,
        index: usize,
        wanted: DType,
    ) -> Result<(*mut u8, usize), EngineError> {
        let operand = self.operand(port.view).ok_or(EngineError::NoPort { kind, index })?;
        if operand.dtype != wanted {
            return Err(EngineError::PortType { kind, index, found: operand.dtype, wanted });
        }
        Ok((operand.ptr, operand.layout.len()))
    }

    /// Where a view lies.
    fn operand(&mut self, id: ViewId) -> Option<Operand> {
        let view = self.plan.view_at(id)?;
        let base = match view.space {
            Space::Arena => self.memory.as_mut_ptr(),
            Space::Weights => self.plan.weights().as_ptr().cast_mut(),
            Space::Slot(Kept::Time) if self.plan.baked().is_some() => {
                self.plan.weights().as_ptr().cast_mut().wrapping_add(self.baked(self.time))
            }
            Space::Slot(kept) => {
                let start = self.slot(kept, self.time, self.condition);
                self.memory.as_mut_ptr().wrapping_add(start)
            }
        };
        // `check` has found the offset to be inside; wrapping, so that even a damaged one is only a wrong address.
        let ptr = base.wrapping_add(view.offset as usize);
        Some(Operand { ptr, dtype: view.dtype, layout: view.layout })
    }
}

fn port(port: Option<Port>, kind: &'static str, index: usize) -> Result<Port, EngineError> {
    port.ok_or(EngineError::NoPort { kind, index })
}
