//! A plan in memory, with what goes with it: the host's operators, and how its arena is laid out.

use super::arena::Placed;
use super::arrange::Memory;
use super::constants::Constants;
use super::lower::{Product, Report};
use super::precision::Island;
use super::{Plan, PlanError};
use crate::ops::Host;
use rkyv::util::AlignedVec;
use std::vec::Vec;

/// A plan that owns its bytes.
#[derive(Debug)]
pub struct CompiledPlan {
    // Private and never changed after `new` has validated them: `plan` relies on it.
    metadata: AlignedVec,
    constants: Constants,
    hosts: Vec<Host>,
    memory: Memory,
    report: Report,
}

impl CompiledPlan {
    /// # Errors
    /// If the bytes are not those of a plan.
    pub(super) fn new(
        metadata: AlignedVec,
        constants: Constants,
        hosts: Vec<Host>,
        memory: Memory,
        report: Report,
    ) -> Result<CompiledPlan, PlanError> {
        Plan::of(&metadata, constants.bytes())?;
        Ok(CompiledPlan { metadata, constants, hosts, memory, report })
    }

    pub fn plan(&self) -> Plan<'_> {
        // SAFETY: `new` has validated these very bytes, and nothing changes them.
        unsafe { Plan::view_unchecked(&self.metadata, self.constants.bytes()) }
    }

    /// The bytes that [`Plan::of`] reads beside the weights.
    pub fn metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// The metadata, and the constants, which another plan may share.
    pub fn into_parts(self) -> (AlignedVec, Constants) {
        (self.metadata, self.constants)
    }

    /// The operators that the host runs, by the number in their instructions.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The products with constants.
    pub fn products(&self) -> &[Product] {
        &self.report.products
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
