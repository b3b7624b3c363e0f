//! A plan in memory, with what goes with it: the host's operators, and how its arena is laid out.

use super::arena::Placed;
use super::{ALIGNMENT, Plan, PlanError};
use crate::ops::Host;
use rkyv::util::AlignedVec;
use std::vec::Vec;

/// A plan that owns its bytes.
#[derive(Debug)]
pub struct CompiledPlan {
    // Private and never changed after `new` has validated them: `plan` relies on it.
    metadata: AlignedVec,
    weights: AlignedVec<ALIGNMENT>,
    hosts: Vec<Host>,
    arena: Vec<Placed>,
}

impl CompiledPlan {
    /// # Errors
    /// If the bytes are not those of a plan.
    pub(super) fn new(
        metadata: AlignedVec,
        weights: AlignedVec<ALIGNMENT>,
        hosts: Vec<Host>,
        arena: Vec<Placed>,
    ) -> Result<CompiledPlan, PlanError> {
        Plan::view(&metadata, &weights)?;
        Ok(CompiledPlan { metadata, weights, hosts, arena })
    }

    pub fn plan(&self) -> Plan<'_> {
        // SAFETY: `new` has validated these very bytes, and nothing changes them.
        unsafe { Plan::view_unchecked(&self.metadata, &self.weights) }
    }

    /// The bytes that [`Plan::view`] reads beside the weights.
    pub fn metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// The operators that the host runs, by the number in their instructions.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The buffers of the arena, and the instructions between which each is in use.
    pub fn arena(&self) -> &[Placed] {
        &self.arena
    }
}
