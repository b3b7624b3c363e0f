//! pi-Flow: one evaluation gives the velocities for a whole step, and a policy without a network takes the step's substeps.
//!
//! Chen et al. 2025, arXiv 2510.14974, as diffusers' `PiflowScheduler` runs it. What the substeps do is linear in the
//! velocities, so that all of them are one Euler step with a weighted mean.

use super::{Error, Knot, Prediction, Process, Setup, Table, curves::shifted};

/// The most velocities that an evaluation may give.
pub const MAX_VELOCITIES: usize = 16;

/// Substeps of a whole run, from 1 to 0 before the shift.
const SUBSTEPS: f64 = 128.0;

/// Where a run ends, before the shift.
const LAST: f64 = 1e-6;

/// How the velocities of a step become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// How many velocities there are, 2 to [`MAX_VELOCITIES`].
    pub points: usize,
    /// The shift of the training: [`Grid::shift`](super::Grid::shift). Velocities and substeps are even before it.
    pub shift: f64,
}

/// One weight for each of the velocities, whose sum is 1. The first is that of the step's end.
pub type Weights = heapless::Vec<f64, MAX_VELOCITIES>;

impl Policy {
    /// The weights of step number `step`.
    ///
    /// # Errors
    /// If there is no such step.
    pub fn weights(&self, table: &Table, step: usize) -> Result<Weights, Error> {
        let row = table.rows.get(step).ok_or(Error::NoSuchStep { step, steps: table.rows.len() })?;
        let end = table.rows.get(step + 1).map_or(LAST, |row| self.unshifted(row.level.sigma));
        Ok(self.weights_between(self.unshifted(row.level.sigma), end))
    }

    fn weights_between(&self, start: f64, end: f64) -> Weights {
        let substeps = libm::rint((start - end) * SUBSTEPS).max(1.0);
        let sigma = |i: f64| shifted(start - i * (start - end) / substeps, self.shift);
        let mut weights: Weights = core::iter::repeat_n(0.0, self.points).collect();
        for i in 0..substeps as usize {
            let (i, left) = (i as f64, substeps - i as f64);
            // A substep multiplies what those before it have added by the ratio of its levels, as all after it will: what
            // comes of its clean sample is in proportion to 1/sigma - 1/sigma'.
            let share = 1.0 / sigma(i + 1.0) - 1.0 / sigma(i);
            let at = left / substeps * (self.points - 1) as f64;
            let below = (at as usize).min(self.points - 2);
            weights[below] += share * ((below + 1) as f64 - at);
            weights[below + 1] += share * (at - below as f64);
        }
        let all = 1.0 / sigma(substeps) - 1.0 / sigma(0.0);
        weights.iter_mut().for_each(|weight| *weight /= all);
        weights
    }

    fn unshifted(&self, sigma: f64) -> f64 {
        sigma / (self.shift + (1.0 - self.shift) * sigma)
    }
}

/// Writes the weighted mean of stacked velocities. They are in blocks of `inner` values, one block of each after the other.
///
/// # Errors
/// If the slices are not as long as each other and the weights say.
pub fn combine(weights: &[f64], stacked: &[f32], inner: usize, out: &mut [f32]) -> Result<(), Error> {
    let expected = out.len() * weights.len();
    if stacked.len() != expected || inner == 0 || !out.len().is_multiple_of(inner) {
        return Err(Error::WindowLength { name: "the stack of outputs", found: stacked.len(), expected });
    }
    let groups = out.chunks_exact_mut(inner).zip(stacked.chunks_exact(inner * weights.len()));
    for (out, blocks) in groups {
        out.fill(0.0);
        for (&weight, block) in weights.iter().zip(blocks.chunks_exact(inner)) {
            out.iter_mut().zip(block).for_each(|(out, v)| *out += weight as f32 * v);
        }
    }
    Ok(())
}

pub(super) fn check(points: u8) -> Result<(), Error> {
    if (2..=MAX_VELOCITIES).contains(&usize::from(points)) {
        return Ok(());
    }
    Err(Error::BadSetting { name: "points", value: f64::from(points), must: "2 to 16" })
}

/// Euler's method with the weighted mean of the velocities, down to next to nothing.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    let network = setup.parameterisation;
    if !matches!(network.prediction, Prediction::VelocityGrid { .. }) {
        return Err(setup.unsupported("this prediction", "several velocities a step"));
    }
    if network.process != Process::RectifiedFlow || network.time.direction() < 0.0 {
        return Err(setup.unsupported("this time", "a rectified flow's time from 1 to 0"));
    }
    let last = shifted(LAST, setup.grid.shift);
    Ok(setup.intervals(|at, Knot { t, .. }| {
        let update = at.level.transfer(network.process.level(t.max(last)));
        setup.row(setup.here(at), at, update)
    }))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    fn policy(points: usize, shift: f64) -> Policy {
        Policy { points, shift }
    }

    /// The substeps one by one, for one velocity after the other.
    #[test]
    fn weights_are_what_the_substeps_do() {
        let (policy, start, end) = (policy(4, 5.0), 0.8, 0.35);
        let substeps = 58.0;
        for (k, weight) in policy.weights_between(start, end).iter().enumerate() {
            let sigma = |i: f64| shifted(start - i * (start - end) / substeps, 5.0);
            let mut x = 0.0;
            for i in 0..58 {
                let place = (58 - i) as f64 / substeps * 3.0;
                let clean = -sigma(0.0) * (1.0 - (place - k as f64).abs()).max(0.0);
                let (from, to) = (sigma(f64::from(i)), sigma(f64::from(i) + 1.0));
                x += (x - clean) / from * (to - from);
            }
            let expected = x / (sigma(substeps) - sigma(0.0));
            assert!((weight - expected).abs() < 1e-12, "{k}: {weight} {expected}");
        }
    }

    #[test]
    fn equal_velocities_are_one() {
        for (start, end) in [(1.0, LAST), (0.3, 0.299), (0.5, 0.0625)] {
            let weights = policy(16, 3.0).weights_between(start, end);
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert!(weights.iter().all(|weight| *weight >= 0.0));
        }
    }

    #[test]
    fn stacks_are_combined_in_blocks() {
        let (weights, mut out) = ([2.0, 10.0], [f32::NAN; 4]);
        let stacked = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        combine(&weights, &stacked, 4, &mut out).unwrap();
        assert_eq!(out, [52.0, 64.0, 76.0, 88.0]);
        combine(&weights, &stacked, 2, &mut out).unwrap();
        assert_eq!(out, [32.0, 44.0, 80.0, 92.0]);
        for inner in [0, 3] {
            assert!(combine(&weights, &stacked, inner, &mut out).is_err());
        }
        let error = combine(&weights, &stacked[1..], 2, &mut out).unwrap_err();
        assert_eq!(error, Error::WindowLength { name: "the stack of outputs", found: 7, expected: 8 });
    }

    #[test]
    fn too_few_and_too_many_velocities_are_errors() {
        assert_eq!([1, 2, 16, 17].map(|points| check(points).is_ok()), [false, true, true, false]);
    }
}
