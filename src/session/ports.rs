//! Which input of a network is what.

use super::SessionError;
use crate::engine::EngineError;
use crate::kernels::DType;
use crate::manifest::{Manifest, Role};
use crate::plan::Fact;
use crate::provider::{Io, Network};
use crate::sampler::{Prediction, Process, Row};
use std::string::{String, ToString};
use std::vec::Vec;

/// Numbers of the network's inputs, by role.
#[derive(Debug, Default)]
pub(super) struct Ports {
    pub(super) state: usize,
    times: Vec<(usize, TimeKind)>,
    conditions: Vec<(usize, String)>,
    pub(super) output: usize,
    /// How many outputs of the state's length there are in one, [`sampler::combine`](crate::sampler::combine)d to what the
    /// sampler sees.
    pub(super) stacked: usize,
    /// Length of the blocks in which they are stacked.
    pub(super) block: usize,
}

/// Whether `found` has the variance of the noise as well, in as many channels after the state's: improved DDPM, Nichol and
/// Dhariwal 2021, arXiv 2102.09672. Samplers have no use for it.
fn has_variance(manifest: &Manifest, state: &Fact, found: &Fact) -> bool {
    let parameterisation = &manifest.sampling.parameterisation;
    let predicts = matches!(parameterisation.process, Process::Preserving { .. })
        && parameterisation.prediction == Prediction::Epsilon;
    let doubled = |(axis, (own, found)): (usize, (&usize, &usize))| match axis {
        1 => 2 * own == *found,
        _ => own == found,
    };
    predicts
        && state.rank() == found.rank()
        && state.rank() > 2
        && state.shape.iter().zip(&found.shape).enumerate().all(doubled)
}

#[derive(Clone, Copy, Debug)]
enum TimeKind {
    Time,
    Target,
    Duration,
    Step,
    Steps,
}

/// An evaluation of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'a> {
    pub(super) row: &'a Row,
    /// From 0.
    pub(super) step: usize,
    pub(super) steps: usize,
    /// Of stacked outputs, or nothing.
    pub(super) weights: &'a [f64],
}

/// Length of the blocks in which `found` stacks so many outputs of the length of `state`: they stand in a dimension of their
/// own, or before each other in one of the state's.
fn block(state: &Fact, found: &Fact, stacked: usize) -> Option<usize> {
    if state.len() * stacked != found.len() {
        return None;
    }
    let inserted = |axis: usize| {
        let (before, rest) = found.shape.split_at(axis);
        rest.first() == Some(&stacked) && before == &state.shape[..axis] && rest[1..] == state.shape[axis..]
    };
    let differs = |(own, found): (&usize, &usize)| own != found;
    // The first dimension is the batch's, if there is one.
    let axis = if found.rank() == state.rank() + 1 {
        (1..=state.rank()).chain([0]).find(|&axis| inserted(axis))?
    } else {
        state.shape.iter().zip(&found.shape).position(differs).unwrap_or(0)
    };
    Some(state.shape[axis..].iter().product())
}

impl Ports {
    /// The network may be another one than the manifest's, with fewer inputs.
    pub(super) fn of(manifest: &Manifest, network: &Network) -> Result<Ports, SessionError> {
        let stacked = manifest.sampling.policy().map_or(1, |policy| policy.points);
        let mut ports = Ports { stacked, ..Ports::default() };
        for (index, (name, _)) in network.inputs().enumerate() {
            let role = manifest.inputs.iter().find(|i| i.name == name).map(|i| &i.role);
            match role.ok_or_else(|| SessionError::NoRole { input: name.to_string() })? {
                Role::State { .. } => ports.state = index,
                Role::Time => ports.times.push((index, TimeKind::Time)),
                Role::Target => ports.times.push((index, TimeKind::Target)),
                Role::Duration => ports.times.push((index, TimeKind::Duration)),
                Role::Step => ports.times.push((index, TimeKind::Step)),
                Role::Steps => ports.times.push((index, TimeKind::Steps)),
                Role::Condition(_) => ports.conditions.push((index, name.to_string())),
            }
        }
        let known = || network.outputs().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
        let wanted = manifest.output.name.as_deref();
        let found = network.outputs().position(|(name, _)| wanted.is_none_or(|w| w == name));
        ports.output = found.ok_or_else(|| SessionError::NoOutput {
            output: wanted.unwrap_or("0").to_string(),
            known: known(),
        })?;
        let state = network.inputs().nth(ports.state).map(|(_, fact)| fact);
        let output = network.outputs().nth(ports.output);
        let (Some(state), Some((name, found))) = (state, output) else { return Ok(ports) };
        if found.dtype == DType::F32 && has_variance(manifest, &state, &found) {
            return Ok(Ports { block: state.len(), ..ports });
        }
        match block(&state, &found, stacked) {
            Some(block) if found.dtype == DType::F32 => Ok(Ports { block, ..ports }),
            _ => Err(SessionError::OutputShape { output: name.to_string(), found, state }),
        }
    }

    /// The input of a condition; a weaker network need not read them all.
    pub(super) fn condition(&self, name: &str) -> Option<usize> {
        self.conditions.iter().find(|(_, own)| own == name).map(|&(index, _)| index)
    }

    pub(super) fn write_times(&self, io: &mut Io<'_>, at: Moment<'_>) -> Result<(), EngineError> {
        for &(index, kind) in &self.times {
            let value = match kind {
                TimeKind::Time => at.row.inputs.t,
                TimeKind::Target => at.row.inputs.s,
                TimeKind::Duration => at.row.inputs.h,
                TimeKind::Step => at.step as f64,
                TimeKind::Steps => at.steps as f64,
            };
            io.fill(index, |_| value)?;
        }
        Ok(())
    }
}
