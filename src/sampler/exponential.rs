//! What the exponential integrators share: DPM-Solver, UniPC, DEIS, SA-Solver, RES.
//!
//! In `lambda = ln(alpha / sigma)` the probability flow is a linear part, which they solve exactly, and an integral of the
//! clean sample or of the noise, for which they take a polynomial through the estimates that they have.

use super::{Combination, Level, MAX_HISTORY, Row, Setup, Table, schedule::Knots};

/// diffusers' UniPC starts a flow this much below 1.
const LEAST_DATA: f64 = 1e-6;

/// What is integrated.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Integrand {
    /// The clean sample: DPM-Solver++ and what came after it.
    Data,
    /// The noise: DPM-Solver, DEIS.
    Noise,
}

/// `x' = keep * x + gain * mean`: the mean of the integrand, weighted by `e^(z * (1 - s))`, `s` from 0 at the step's start to
/// 1 at its end.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) keep: f64,
    pub(super) gain: f64,
    pub(super) z: f64,
}

impl Step {
    /// `tau` 0 is the probability flow, 1 the reverse SDE: Xue et al. 2023, SA-Solver, arXiv 2309.05019.
    pub(super) fn new(integrand: Integrand, [from, to]: [Level; 2], tau: f64) -> Step {
        let (shrink, power) = (to.ratio() / from.ratio(), 1.0 + tau * tau);
        match integrand {
            Integrand::Data => Step {
                keep: to.sigma / from.sigma * libm::pow(shrink, tau * tau),
                gain: to.alpha * (1.0 - libm::pow(shrink, power)),
                z: power * libm::log(shrink),
            },
            Integrand::Noise => Step {
                keep: to.alpha / from.alpha,
                gain: power * to.alpha * (to.ratio() - from.ratio()),
                z: -libm::log(shrink),
            },
        }
    }
}

/// Deviation of the noise that goes with [`Step::new`].
pub(super) fn deviation(integrand: Integrand, [from, to]: [Level; 2], tau: f64) -> f64 {
    let (low, high) = (to.ratio(), from.ratio());
    match integrand {
        Integrand::Data => to.sigma * libm::sqrt(1.0 - libm::pow(low / high, 2.0 * tau * tau)),
        Integrand::Noise => tau * to.alpha * libm::sqrt((high - low) * (high + low)),
    }
}

/// Means of `1`, `s`, `s^2` and `s^3` over a step.
pub(super) fn moments(z: f64) -> [f64; 4] {
    let whole = libm::expm1(z);
    let first = whole / z - 1.0;
    let second = first / z - 0.5;
    let third = second / z - 1.0 / 6.0;
    [1.0, first / whole, 2.0 * second / whole, 6.0 * third / whole]
}

/// Where in its course a step takes the value of a straight line through two estimates. Any function serves that differs
/// from the exact mean by no more than the line differs from the integrand.
pub(super) type Meeting = fn(f64) -> f64;

pub(super) fn exact(z: f64) -> f64 {
    moments(z)[1]
}

pub(super) fn midway(_: f64) -> f64 {
    0.5
}

/// UniPC's `B(h) = h`.
pub(super) fn plain(z: f64) -> f64 {
    0.5 * z / libm::expm1(z)
}

/// Weights of the estimates at `nodes` of a step, 1 to 4 values of `s`, in the mean of the polynomial through them.
pub(super) fn weights(nodes: &[f64], z: f64, meeting: Meeting) -> [f64; 4] {
    let mut weights = [0.0; 4];
    match *nodes {
        [_] => weights[0] = 1.0,
        [one, other] => {
            weights[1] = (meeting(z) - one) / (other - one);
            weights[0] = 1.0 - weights[1];
        }
        _ => {
            let moments = moments(z);
            for (j, weight) in weights.iter_mut().enumerate().take(nodes.len()) {
                let terms = basis(nodes, j).into_iter().zip(moments);
                *weight = terms.map(|(coefficient, moment)| coefficient * moment).sum();
            }
        }
    }
    weights
}

/// Coefficients of the polynomial that is 1 at node `j` and 0 at the others, the constant first.
fn basis(nodes: &[f64], j: usize) -> [f64; 4] {
    let mut polynomial = [1.0, 0.0, 0.0, 0.0];
    for (_, &other) in nodes.iter().enumerate().filter(|(k, _)| *k != j) {
        for power in (0..4).rev() {
            let lower = if power == 0 { 0.0 } else { polynomial[power - 1] };
            polynomial[power] = (lower - other * polynomial[power]) / (nodes[j] - other);
        }
    }
    polynomial
}

impl Setup<'_> {
    /// [`Setup::levels`]. An angle that is rounded up to a little more than a quarter turn has no data, and not less.
    pub(super) fn ends(&self, i: usize) -> [Level; 2] {
        self.levels(i).map(|level| Level { alpha: level.alpha.max(0.0), ..level })
    }

    /// Where in step `i` the latest estimates are: at its start, and before it.
    pub(super) fn nodes(&self, i: usize) -> [f64; 3] {
        let [from, to] = self.ends(i).map(Level::ratio);
        let length = libm::log(from / to);
        core::array::from_fn(|k| libm::log(from / self.ends(i.saturating_sub(k))[0].ratio()) / length)
    }

    /// The order of step `i`, from the start of a run up, and down again to the end of a short one: what diffusers calls
    /// `lower_order_final`. A grid may visit the noise level at which the run stops; that step has no length, and order 1.
    pub(super) fn order_of(&self, i: usize) -> usize {
        let [from, to] = self.ends(i);
        if from == to {
            return 1;
        }
        let left = if self.planned < 15 { self.steps() - i } else { usize::MAX };
        usize::from(self.order).min(i + 1).min(left)
    }

    /// A row for each interval, `x' = keep * x + sum_k weights[k] * integrand_{-k}`. A step to the data takes the clean sample.
    pub(super) fn integrate(
        &self,
        integrand: Integrand,
        step: impl Fn(usize) -> (f64, [f64; MAX_HISTORY + 1]),
    ) -> Table {
        self.numbered_intervals(|i, at, _| {
            let row = |update| self.row(self.here(at), at, update);
            let keep = match integrand {
                Integrand::Data => Combination::OTHER,
                Integrand::Noise => {
                    Combination { x: 1.0 / at.level.sigma, y: -at.level.alpha / at.level.sigma }
                }
            };
            if self.levels(i)[1] == Level::DATA {
                return row(Combination::OTHER);
            }
            let (kept, [newest, earlier @ ..]) = step(i);
            let update = Combination { x: kept + newest * keep.x, y: newest * keep.y };
            Row { keep, earlier, ..row(update) }
        })
    }

    /// Adds a draw to every row. Where a run ends with the data, diffusers ignores the last one.
    pub(super) fn draw(&self, mut table: Table, deviation: impl Fn(usize) -> f64) -> Table {
        for (i, row) in table.rows.iter_mut().enumerate() {
            let ends = self.levels(i)[1] == Level::DATA;
            row.noise = Some(if ends { 0.0 } else { deviation(i) });
        }
        table
    }

    /// For rules that divide by the share of data in the first state: starts a little later if there is none.
    pub(super) fn after_pure_noise(&self, table: impl FnOnce(&Setup<'_>) -> Table) -> Table {
        let mut knots: Knots = self.knots.iter().copied().collect();
        if knots[0].level.alpha < LEAST_DATA {
            let process = self.parameterisation.process;
            knots[0] = self.grid.told(process.knot_of_ratio(1.0 / LEAST_DATA - 1.0), process);
        }
        table(&Setup { knots: &knots, ..*self })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::*;
    use super::{exact, weights};
    use std::vec::Vec;

    /// The mean of the polynomial, by Simpson's rule with Lagrange's formula.
    #[test]
    fn weights_are_those_of_the_polynomial_through_the_nodes() {
        let nodes = [1.0, 0.0, -0.7, -1.9];
        for count in 1..=4 {
            for z in [-13.0, -0.8, 0.02, 2.5] {
                for (j, found) in weights(&nodes[..count], z, exact).into_iter().enumerate().take(count) {
                    let others = || (0..count).filter(|&k| k != j);
                    let value = |s: f64| {
                        others().map(|k| (s - nodes[k]) / (nodes[j] - nodes[k])).product::<f64>()
                            * (z * (1.0 - s)).exp()
                    };
                    let intervals = 2000;
                    let simpson = (0..=intervals).map(|i| {
                        let end = i == 0 || i == intervals;
                        let weight = if end { 1.0 } else { 2.0 * (1 + i % 2) as f64 };
                        weight * value(f64::from(i) / f64::from(intervals))
                    });
                    let mean = simpson.sum::<f64>() / f64::from(3 * intervals) * z / z.exp_m1();
                    assert!((found - mean).abs() < 1e-9, "{count} {z} {j}: {found} {mean}");
                }
            }
        }
    }

    /// Of order one all of them are DDIM, and a clamp of the clean sample counts for those too that integrate the noise.
    #[test]
    fn a_clamp_applies_to_the_clean_sample() {
        let betas = Betas::scaled_linear(0.00085, 0.012);
        let network = Parameterisation {
            process: Process::Preserving { betas },
            prediction: Prediction::Epsilon,
            time: Time::Linear { scale: 1.0 },
        };
        let end = |name: &str, clamp| {
            let options = Options { clamp, order: Some(1), ..Options::default() };
            let grid = Grid { stop: Stop::SigmaMin, ..Grid::steps(6) };
            let table = find(name).unwrap().table(&network, &grid, &options).unwrap();
            table.rows.iter().fold(1.3, |x, row| {
                let y = row.estimate.x * x + row.estimate.y * (x - 0.2).tanh();
                let y = row.limit.map_or(y, |limit: f64| y.clamp(-limit, limit));
                row.update.x * x + row.update.y * y
            })
        };
        for name in ["dpm-solver", "dpmpp-2s", "dpm-solver-2s", "deis", "dpmpp-2m-heun"] {
            for clamp in [None, Some(0.4)] {
                let (found, expected) = (end(name, clamp), end("dpmpp-2m", clamp));
                assert!((found - expected).abs() < 1e-12, "{name} {clamp:?}: {found} {expected}");
            }
        }
        let ends: Vec<f64> = [None, Some(0.4)].map(|clamp| end("dpmpp-2m", clamp)).to_vec();
        assert!((ends[0] - ends[1]).abs() > 0.1, "{ends:?}");
    }
}
