//! Samples whose state stays in a provider's memory from step to step.

use super::guidance::Evaluator;
use super::ports::Moment;
use super::{Session, SessionError};
use crate::provider::Schedule;
use crate::sampler::{self, Noise};

impl Session {
    /// Whether the state of a sample stays where the network is, and is updated there: on a provider whose device has
    /// memory of its own, unless something here has to see every step.
    pub fn keeps_state(&self) -> bool {
        self.resident && !self.reference.as_ref().is_some_and(super::Reference::changes)
    }

    /// Has the provider keep the state, if it can.
    pub(super) fn keep_state(&mut self) -> Result<(), SessionError> {
        let plain = self.evaluator.is_plain() && self.manifest.sampling.policy().is_none();
        let Evaluator { network, ports, .. } = &mut self.evaluator;
        let schedule = Schedule { table: &self.table, state: ports.state, output: ports.output };
        let kept = network.external_mut().map(|own| own.keep_state(Some(schedule).filter(|_| plain)));
        self.resident = kept.transpose()?.unwrap_or(false);
        Ok(())
    }

    /// All steps of a sample that the provider keeps.
    pub(super) fn resident_steps(&mut self, noise: &mut dyn Noise) -> Result<(), SessionError> {
        let steps = self.table.rows.len();
        let Evaluator { network, ports, .. } = &mut self.evaluator;
        if !network.external_mut().is_some_and(|own| own.is_fixed()) {
            for (step, row) in self.table.rows.iter().enumerate() {
                ports.write_times(&mut network.io()?, Moment { row, step, steps, weights: &[] })?;
                network.external_mut().map_or(Ok(()), |own| own.fix(step))?;
            }
        }
        let Some(network) = network.external_mut() else { return Ok(()) };
        network.begin(&self.state)?;
        for (step, row) in self.table.rows.iter().enumerate() {
            if row.noise.is_some() {
                noise.fill_normal(&mut self.noise);
            }
            network.advance(step, &self.noise)?;
        }
        network.end(&mut self.state)?;
        match sampler::first_non_finite(&self.state) {
            Some(at) => Err(SessionError::NotFinite { step: steps, steps, at, value: self.state[at] }),
            None => Ok(()),
        }
    }
}
