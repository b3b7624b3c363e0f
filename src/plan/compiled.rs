//! A plan in memory, with what goes with it: the host's operators, and how its arena is laid out.

use super::arena::Placed;
use super::lower::{Memory, Product, Report};
use super::precision::Island;
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
    memory: Memory,
    report: Report,
}

impl CompiledPlan {
    /// # Errors
    /// If the bytes are not those of a plan.
    pub(super) fn new(
        metadata: AlignedVec,
        weights: AlignedVec<ALIGNMENT>,
        hosts: Vec<Host>,
        memory: Memory,
        report: Report,
    ) -> Result<CompiledPlan, PlanError> {
        Plan::view(&metadata, &weights)?;
        Ok(CompiledPlan { metadata, weights, hosts, memory, report })
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

    /// The products with constants.
    pub fn products(&self) -> &[Product] {
        &self.report.products
    }

    /// How many of the products are in half precision.
    pub fn halves(&self) -> usize {
        self.report.halves
    }

    /// The products that stay in f32 where half precision was asked for.
    pub fn islands(&self) -> &[Island] {
        &self.report.islands
    }

    /// The buffers of the arena, and the instructions between which each is in use.
    pub fn arena(&self) -> &[Placed] {
        &self.memory.arena
    }
}
