//! Plans: instructions, kernel choices, arena offsets and packed weights of one network at concrete shapes.
//!
//! What the engine needs of a plan, [`Plan`], is a validated view of bytes: no heap, no parsing. Making one from a graph
//! (`Lower`, feature `compile`) needs both.

#[cfg(feature = "compile")]
mod arena;
#[cfg(feature = "compile")]
mod arrange;
#[cfg(feature = "compile")]
mod compiled;
#[cfg(feature = "compile")]
mod constants;
#[cfg(feature = "compile")]
mod lower;
#[cfg(feature = "compile")]
mod operands;
#[cfg(feature = "compile")]
pub(crate) mod pack;
#[cfg(feature = "compile")]
mod place;
#[cfg(feature = "compile")]
mod precision;

#[cfg(feature = "std")]
mod bundle;
mod check;
#[cfg(feature = "std")]
mod fact;
mod file;
mod instruction;
#[cfg(feature = "std")]
mod open;
mod overlap;
#[cfg(feature = "compile")]
mod package;

#[cfg(feature = "compile")]
pub use arena::{Buffer, Placed};
#[cfg(feature = "compile")]
pub use compiled::CompiledPlan;
#[cfg(feature = "compile")]
pub use constants::Constants;
#[cfg(feature = "compile")]
pub use lower::{Lower, LowerError, Product, Recipe, lower};
#[cfg(feature = "compile")]
pub(crate) use lower::{canonical, channels_last};
#[cfg(feature = "compile")]
pub(crate) use operands::{element_wise, merge_rows, natural_order};
#[cfg(feature = "compile")]
pub use place::{Place, Source};
#[cfg(feature = "compile")]
pub use precision::{Depth, Island, Ranges};

#[cfg(feature = "std")]
pub use bundle::Bundle;
#[cfg(feature = "compile")]
pub use bundle::write_bundle;
pub use check::PlanError;
#[cfg(feature = "std")]
pub use fact::Fact;
pub use file::File;
pub use instruction::{
    Baked, Cost, Geometry, Instruction, Kept, Matrix, Packing, Panels, PlanData, Port, Scales, Space, Span,
    Stage, View, ViewId,
};
#[cfg(feature = "std")]
pub use open::{OpenError, PlanFile};
#[cfg(feature = "compile")]
pub use package::Package;

use instruction::ArchivedPlanData;
use rkyv::rancor::Infallible;

/// Version of the plan format. Another one is another program.
pub const VERSION: u32 = 7;

/// Alignment of the arena, of the weights and of every buffer within, in bytes: a cache line, and the widest vector.
pub const ALIGNMENT: usize = 64;

/// The most inputs, and the most outputs, of an operator that the host runs.
pub const MAX_HOST_OPERANDS: usize = 32;

/// Bytes at the beginning of a slot that say whether it holds anything. Behind them, a slot of times has the time inputs
/// that it is for.
pub(crate) const SLOT_HEAD: usize = ALIGNMENT;

/// For how many times and conditions an engine keeps what stages compute, 1 at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    pub times: usize,
    pub conditions: usize,
}

impl Slots {
    /// One of each.
    pub const ONE: Slots = Slots { times: 1, conditions: 1 };

    /// The slots of a kept stage.
    pub(crate) fn of(self, kept: Kept) -> Option<usize> {
        match kept {
            Kept::Time => Some(self.times),
            Kept::Condition => Some(self.conditions),
            Kept::TimeCondition => self.times.checked_mul(self.conditions),
        }
    }
}

/// A validated plan: every offset lies inside of the arena or the weights.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    root: &'a ArchivedPlanData<'a>,
    weights: &'a [u8],
}

impl<'a> Plan<'a> {
    /// Validates the plans of a plan file, and is the first one that this CPU can run, or else the first.
    ///
    /// # Errors
    /// If the bytes are not those of a plan file of this version, are damaged, or do not begin at a multiple of
    /// [`ALIGNMENT`] bytes.
    pub fn view(bytes: &'a [u8]) -> Result<Plan<'a>, PlanError> {
        let mut first = None;
        for plan in File::view(bytes)?.plans() {
            let plan = plan?;
            if plan.isa().supported() {
                return Ok(plan);
            }
            first = first.or(Some(plan));
        }
        first.ok_or(PlanError::Damaged { part: "table" })
    }

    /// Validates a plan's metadata, with the weights that it is about.
    ///
    /// # Errors
    /// If the metadata are not those of a plan of this version, or reach outside of the arena or the weights, or either
    /// slice is misaligned ([`ALIGNMENT`] bytes for the weights, 8 for the metadata).
    pub fn of(metadata: &'a [u8], weights: &'a [u8]) -> Result<Plan<'a>, PlanError> {
        if weights.as_ptr().align_offset(ALIGNMENT) != 0 && !weights.is_empty() {
            return Err(PlanError::Misaligned);
        }
        let root = rkyv::api::low::access::<ArchivedPlanData, rkyv::rancor::Failure>(metadata);
        let plan = Plan { root: root.map_err(|_| PlanError::Malformed)?, weights };
        check::check(&plan)?;
        Ok(plan)
    }

    /// The same view of bytes that [`Plan::of`] has accepted before.
    ///
    /// # Safety
    /// `Plan::of` returned a plan for these very slices, and their contents have not changed since.
    #[cfg(feature = "std")]
    pub(crate) unsafe fn view_unchecked(metadata: &'a [u8], weights: &'a [u8]) -> Plan<'a> {
        // SAFETY: the caller vouches that the bytes are those of a valid archive.
        let root = unsafe { rkyv::access_unchecked::<ArchivedPlanData>(metadata) };
        Plan { root, weights }
    }

    pub fn version(&self) -> u32 {
        self.root.version.to_native()
    }

    /// The instruction set whose kernels the weights are packed for.
    pub fn isa(&self) -> crate::kernels::Isa {
        decode(&self.root.isa)
    }

    pub fn packing(&self) -> Packing {
        decode(&self.root.packing)
    }

    /// Size of the working memory that one evaluation needs beside what stages keep, in bytes.
    pub fn arena_bytes(&self) -> usize {
        self.root.arena_bytes.to_native() as usize
    }

    /// What a stage keeps for each time, condition or both, in bytes.
    pub fn slot_bytes(&self, kept: Kept) -> usize {
        self.root.slot_bytes[kept as usize].to_native() as usize
    }

    /// What the time's stage gives for a schedule, if that was computed when the plan was made.
    pub fn baked(&self) -> Option<Baked> {
        decode(&self.root.baked)
    }

    /// What a slot takes of an engine's memory, in bytes: nothing if it is in the plan.
    pub(crate) fn slot_memory(&self, kept: Kept) -> usize {
        if kept == Kept::Time && self.baked().is_some() { 0 } else { self.slot_bytes(kept) }
    }

    /// As many slots as an engine can use of those that are asked for: of times that are in the plan, there are no others.
    pub fn slots(&self, wanted: Slots) -> Slots {
        let times = self.baked().map_or(wanted.times.max(1), |baked| baked.times as usize);
        Slots { times, conditions: wanted.conditions.max(1) }
    }

    /// Size of the memory that an engine with so many slots needs, in bytes; `None` if no machine has that much.
    pub fn memory_bytes(&self, slots: Slots) -> Option<usize> {
        let slots = self.slots(slots);
        let sizes = Kept::ALL.map(|kept| self.slot_memory(kept).checked_mul(slots.of(kept)?));
        let arena = self.arena_bytes().checked_next_multiple_of(ALIGNMENT)?;
        sizes.into_iter().try_fold(arena, |sum, size| sum.checked_add(size?))
    }

    /// The instructions of a stage.
    pub fn stage(&self, stage: Stage) -> core::ops::Range<usize> {
        let end = |at: usize| self.root.stages[at].to_native() as usize;
        let at = stage as usize;
        (if at == 0 { 0 } else { end(at - 1) })..end(at)
    }

    /// The most bytes of the arena that are in use at once.
    pub fn arena_least(&self) -> usize {
        self.root.arena_least.to_native() as usize
    }

    /// What a stage is made of.
    pub fn cost(&self, stage: Stage) -> Cost {
        decode(&self.root.costs[stage as usize])
    }

    /// The number of products and convolutions with constants.
    pub fn products(&self) -> usize {
        self.root.products.to_native() as usize
    }

    /// How many of the products are in half precision.
    pub fn halves(&self) -> usize {
        self.root.halves.to_native() as usize
    }

    /// Whether the network takes two samples at once, for guidance.
    pub fn is_paired(&self) -> bool {
        self.root.paired
    }

    pub fn weights(&self) -> &'a [u8] {
        self.weights
    }

    pub fn len(&self) -> usize {
        self.root.instructions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // Decoding is 10 kB of code: once for all who ask, and so below.
    #[inline(never)]
    pub fn instruction(&self, i: usize) -> Option<Instruction> {
        self.root.instructions.get().get(i).map(decode)
    }

    #[inline(never)]
    pub fn view_at(&self, id: ViewId) -> Option<View> {
        self.root.views.get().get(id as usize).map(decode)
    }

    /// Calls `f` with the ranges of the weights that an instruction reads.
    pub fn weights_of(&self, i: usize, f: &mut dyn FnMut(core::ops::Range<usize>)) {
        let Some(instruction) = self.instruction(i) else { return };
        let mut visit = |id: ViewId| {
            let Some(view) = self.view_at(id).filter(|view| view.space == Space::Weights) else { return };
            let Some((low, high)) = view.layout.reach() else { return };
            let at = |element: i64| (view.offset as i64 + element * view.dtype.size() as i64) as usize;
            f(at(low)..at(high + 1));
        };
        instruction.views(&mut |id, _| visit(id));
        for (span, _) in instruction.spans() {
            self.operands(span).for_each(&mut visit);
        }
        if let Some(panels) = instruction.panels() {
            f(panels.offset as usize..(panels.offset + panels.bytes) as usize);
        }
    }

    /// Where the views of a kept stage lie in its slots.
    #[cfg(feature = "compile")]
    pub(crate) fn kept_views(&self, kept: Kept) -> std::collections::BTreeSet<(u64, [u32; 8], [i32; 8])> {
        let views = self.root.views.get().iter().map(decode::<View>);
        let own = views.filter(|view| view.space == Space::Slot(kept));
        own.map(|view| (view.offset, view.layout.dims, view.layout.strides)).collect()
    }

    /// View ids of a span of operands.
    pub fn operands(&self, span: Span) -> impl Iterator<Item = ViewId> + use<'a> {
        let operands = self.root.operands.get().get(span.range()).unwrap_or_default();
        operands.iter().map(|id| id.to_native())
    }

    /// The steps of an element-wise program.
    pub fn steps(&self, span: Span) -> impl Iterator<Item = crate::kernels::MapStep> + use<'a> {
        self.root.steps.get().get(span.range()).unwrap_or_default().iter().map(decode)
    }

    pub fn inputs(&self) -> impl ExactSizeIterator<Item = Port> + use<'a> {
        self.root.inputs.get().iter().map(decode)
    }

    pub fn outputs(&self) -> impl ExactSizeIterator<Item = Port> + use<'a> {
        self.root.outputs.get().iter().map(decode)
    }

    /// The name of an input or output.
    pub fn name(&self, port: Port) -> &'a str {
        self.root.names.get().get(port.name.range()).unwrap_or("?")
    }
}

/// Plain data out of its archived form.
fn decode<T>(archived: &T::Archived) -> T
where
    T: rkyv::Archive,
    T::Archived: rkyv::Deserialize<T, rkyv::rancor::Strategy<(), Infallible>>,
{
    match rkyv::api::low::deserialize::<T, Infallible>(archived) {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
