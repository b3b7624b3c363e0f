//! Which stages of a plan have to run, and where what they compute is kept.
//!
//! The engine's memory is the arena, then a slot for each condition, for each set of times, and for each pair of both. A
//! slot begins with a byte that is 1 if what it should hold is there; behind that head, a slot of times has the bytes of
//! the time inputs that it is for.

use super::{Engine, EngineError};
use crate::plan::{ALIGNMENT, Kept, Plan, SLOT_HEAD, Slots, Stage};
use core::ops::Range;

/// What is told of instructions that are done.
pub(super) type After<'f, 'a> = &'f mut dyn FnMut(&mut Engine<'a>, usize);

/// One condition, and as many times as fit.
pub(super) fn fitting(plan: &Plan<'_>, bytes: usize) -> Slots {
    let each = plan.slot_memory(Kept::Time).saturating_add(plan.slot_memory(Kept::TimeCondition));
    let rest = bytes.saturating_sub(plan.memory_bytes(Slots::ONE).unwrap_or(bytes));
    Slots { times: 1 + rest.checked_div(each).unwrap_or(0), conditions: 1 }
}

impl<'a> Engine<'a> {
    /// Makes a condition the present one, of those that the memory has slots for: its inputs are written, and it is what
    /// evaluations are for.
    ///
    /// # Errors
    /// If there is no such slot.
    #[cfg(feature = "std")]
    pub(crate) fn select_condition(&mut self, condition: usize) -> Result<(), EngineError> {
        if condition >= self.slots.conditions {
            return Err(EngineError::NoPort { kind: "condition", index: condition });
        }
        self.condition = condition;
        Ok(())
    }

    /// Everything is to be computed anew.
    pub fn forget(&mut self) {
        self.forget_times();
        for condition in 0..self.slots.conditions {
            self.mark(Kept::Condition, self.time, condition, false);
        }
    }

    /// What depends on the times is to be computed anew.
    pub(crate) fn forget_times(&mut self) {
        (0..self.slots.times).for_each(|time| self.forget_time(time));
    }

    fn forget_time(&mut self, time: usize) {
        self.mark(Kept::Time, time, self.condition, false);
        (0..self.slots.conditions)
            .for_each(|condition| self.mark(Kept::TimeCondition, time, condition, false));
    }

    /// What depends on the present condition is to be computed anew.
    pub(super) fn forget_condition(&mut self) {
        self.mark(Kept::Condition, self.time, self.condition, false);
        (0..self.slots.times).for_each(|time| self.mark(Kept::TimeCondition, time, self.condition, false));
    }

    /// Runs the stages whose results are kept and not there.
    pub(super) fn refresh(&mut self, after: After<'_, 'a>) -> Result<(), EngineError> {
        self.run_times(after)?;
        self.keep(Stage::Condition, Kept::Condition, after)?;
        self.keep(Stage::TimeCondition, Kept::TimeCondition, after)
    }

    /// Runs the stage of the present times alone, unless what it computes is there.
    pub(crate) fn run_times(&mut self, after: After<'_, 'a>) -> Result<(), EngineError> {
        if self.plan.slot_bytes(Kept::Time) > 0 {
            self.time = self.time_slot()?;
        }
        self.keep(Stage::Time, Kept::Time, after)
    }

    /// Runs a stage whose results are kept, unless they are there.
    fn keep(&mut self, stage: Stage, kept: Kept, after: After<'_, 'a>) -> Result<(), EngineError> {
        if !self.holds(kept, self.time) {
            self.stage(stage, after)?;
            self.mark(kept, self.time, self.condition, true);
        }
        Ok(())
    }

    /// All slots of times.
    #[cfg(feature = "compile")]
    pub(crate) fn times(&self) -> Option<&[u8]> {
        let start = self.slot(Kept::Time, 0, 0);
        self.memory.get(start..start + self.slots.times * self.plan.slot_bytes(Kept::Time))
    }

    /// Runs a stage's instructions.
    pub(super) fn stage(&mut self, stage: Stage, after: After<'_, 'a>) -> Result<(), EngineError> {
        self.plan.stage(stage).try_for_each(|i| {
            self.execute(i)?;
            after(self, i);
            Ok(())
        })
    }

    /// The slot for what the time inputs hold. If there is none, the first empty one, or else the last one, is made it: of a
    /// schedule that is longer than the slots, all but the last stay.
    fn time_slot(&mut self) -> Result<usize, EngineError> {
        for time in 0..self.slots.times {
            if self.holds(Kept::Time, time) && self.is_for(time)? {
                return Ok(time);
            }
        }
        if self.plan.baked().is_some() {
            return Err(EngineError::NotBaked);
        }
        let empty = (0..self.slots.times).find(|&time| !self.holds(Kept::Time, time));
        let time = empty.unwrap_or(self.slots.times.saturating_sub(1));
        self.forget_time(time);
        let mut at = self.slot(Kept::Time, time, 0) + SLOT_HEAD;
        let plan = self.plan;
        for (from, room) in keys(&plan) {
            let (from, room) = (from?, room?);
            // Time inputs lie in the arena, which is before all slots.
            let (arena, slots) = self.memory.split_at_mut_checked(at).ok_or(NO_TIME)?;
            let input = arena.get(from).ok_or(NO_TIME)?;
            slots.get_mut(..input.len()).ok_or(NO_TIME)?.copy_from_slice(input);
            at += room;
        }
        Ok(time)
    }

    /// Whether a slot is for what the time inputs hold.
    fn is_for(&self, time: usize) -> Result<bool, EngineError> {
        let plan = self.plan;
        let slot = match plan.baked() {
            Some(_) => plan.weights().get(self.baked(time)..),
            None => self.memory.get(self.slot(Kept::Time, time, 0)..),
        };
        let mut key = slot.and_then(|slot| slot.get(SLOT_HEAD..)).ok_or(NO_TIME)?;
        for (from, room) in keys(&plan) {
            let input = self.memory.get(from?).ok_or(NO_TIME)?;
            if key.get(..input.len()) != Some(input) {
                return Ok(false);
            }
            key = key.get(room?..).unwrap_or_default();
        }
        Ok(true)
    }

    /// Where a slot of times that is in the plan begins in the weights.
    pub(super) fn baked(&self, time: usize) -> usize {
        let start = self.plan.baked().map_or(0, |baked| baked.offset as usize);
        start + time * self.plan.slot_bytes(Kept::Time)
    }

    /// Where a slot begins in the memory.
    pub(super) fn slot(&self, kept: Kept, time: usize, condition: usize) -> usize {
        let Slots { times, conditions } = self.slots;
        let arena = self.plan.arena_bytes().next_multiple_of(ALIGNMENT);
        let [of_time, of_condition, of_both] = Kept::ALL.map(|kept| self.plan.slot_memory(kept));
        let after_conditions = arena + conditions * of_condition;
        match kept {
            Kept::Condition => arena + condition * of_condition,
            Kept::Time => after_conditions + time * of_time,
            Kept::TimeCondition => {
                after_conditions + times * of_time + (time * conditions + condition) * of_both
            }
        }
    }

    /// Whether a slot has what it is for: one that takes no memory lacks nothing.
    fn holds(&self, kept: Kept, time: usize) -> bool {
        self.plan.slot_memory(kept) == 0 || self.memory.get(self.slot(kept, time, self.condition)) == Some(&1)
    }

    fn mark(&mut self, kept: Kept, time: usize, condition: usize, holds: bool) {
        let start = self.slot(kept, time, condition);
        if self.plan.slot_memory(kept) > 0
            && let Some(head) = self.memory.get_mut(start)
        {
            *head = u8::from(holds);
        }
    }
}

/// A plan that `check` would have refused.
const NO_TIME: EngineError = EngineError::NoPort { kind: "time", index: 0 };

/// Where in the memory each time input lies, and the room that it takes in a slot's key.
fn keys<'p>(
    plan: &'p Plan<'_>,
) -> impl Iterator<Item = (Result<Range<usize>, EngineError>, Result<usize, EngineError>)> + 'p {
    plan.inputs().filter(|port| port.stage == Stage::Time).map(|port| {
        let view = plan.view_at(port.view).ok_or(NO_TIME);
        let range = view.map(|view| {
            let start = view.offset as usize;
            start..start + view.layout.len() * view.dtype.size()
        });
        (range, view.and_then(|view| view.key_bytes().ok_or(NO_TIME)))
    })
}
