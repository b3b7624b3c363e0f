//! Rules with a second evaluation halfway through a step, in the logarithm of the noise level.

use super::{Combination, Error, Knot, Level, Process, Row, Setup, Table, euler::ancestral};

/// Karras et al. 2022, arXiv 2206.00364, algorithm 2, with DPM-Solver-2's second evaluation (Lu et al. 2022, arXiv
/// 2206.00927): the whole step with the slope in its middle.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_noise_levels()?;
    setup.pairs(|i| {
        let (at, [_, to]) = (setup.churned(i), setup.levels(i));
        setup.with_middle_slope(at, to)
    })
}

/// The same below the next noise level, and noise again up to it.
pub(super) fn ancestral_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_noise_levels()?;
    setup.pairs(|i| {
        let (at, [from, to]) = (setup.knots[i], setup.levels(i));
        let (low, up) = ancestral(from, to, setup.eta);
        let [first, second] = setup.with_middle_slope(at, low);
        [first, Row { noise: (setup.eta > 0.0).then_some(up), ..second }]
    })
}

/// DPM-Solver++(2S), Lu et al. 2022, arXiv 2211.01095, algorithm 1, below the next noise level, and noise again up to it.
pub(super) fn ancestral_2s_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_noise_levels()?;
    setup.pairs(|i| {
        let (at, [from, to]) = (setup.knots[i], setup.levels(i));
        let (low, up) = ancestral(from, to, setup.eta);
        let (middle, whole) = (setup.middle(from, low), from.transfer(low));
        let keep = Combination { x: whole.x, y: 0.0 };
        let first = setup.row(setup.here(at), at, from.transfer(middle.level));
        let noise = (setup.eta > 0.0).then_some(up);
        [
            Row { keep, ..first },
            Row { noise, ..setup.after_middle(middle, Combination { x: 0.0, y: whole.y }) },
        ]
    })
}

/// DPM-Solver++ for the reverse SDE with a second evaluation; both evaluations' noise is from one Brownian motion in
/// `sigma / alpha`, so half of a step's noise is, rescaled, that of its middle.
pub(super) fn sde_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_noise_levels()?;
    setup.pairs(|i| {
        let (at, [from, to]) = (setup.knots[i], setup.levels(i));
        let middle = setup.middle(from, to);
        let (low, up) = ancestral(from, middle.level, setup.eta);
        let (half, (low, whole_up)) = (from.transfer(low), ancestral(from, to, setup.eta));
        let whole = from.transfer(low);
        let shared = (from.ratio() - middle.level.ratio()) / (from.ratio() - to.ratio());
        // The state in the middle has the noise that was drawn for it; the rest of it is taken away again.
        let again = if up > 0.0 { whole_up * libm::sqrt(shared) / up } else { 0.0 };
        let keep = Combination { x: whole.x - again * half.x, y: -again * half.y };
        let draw = |deviation| (setup.eta > 0.0).then_some(deviation);
        let second = setup.after_middle(middle, Combination { x: again, y: whole.y });
        [
            Row { keep, noise: draw(up), ..setup.row(setup.here(at), at, half) },
            Row { noise: draw(whole_up * libm::sqrt(1.0 - shared)), ..second },
        ]
    })
}

impl Setup<'_> {
    /// For the rules of k-diffusion.
    pub(super) fn require_noise_levels(&self) -> Result<(), Error> {
        let knows = |process| matches!(process, Process::Exploding { .. } | Process::Preserving { .. });
        self.require(knows, "noise levels or timesteps")
    }

    fn middle(&self, from: Level, to: Level) -> Knot {
        self.parameterisation.process.knot_of_ratio(libm::sqrt(from.ratio() * to.ratio()))
    }

    /// The row of the evaluation in the middle: what it adds to what the row before kept.
    fn after_middle(&self, middle: Knot, update: Combination) -> Row {
        Row { earlier: [1.0, 0.0, 0.0], ..self.row(self.here(middle), middle, update) }
    }

    /// `x + (s - t) * slope`, the slope that of the second evaluation. The state it was made at is a combination of the first
    /// one and its estimate; spelled out, the large terms of a long step cancel here and not in single precision.
    fn with_middle_slope(&self, at: Knot, to: Level) -> [Row; 2] {
        let (from, middle) = (at.level, self.middle(at.level, to));
        let part = to.alpha * (from.ratio() - to.ratio()) / middle.level.ratio();
        let keep =
            Combination { x: to.sigma / from.sigma, y: part * (middle.level.ratio() / from.ratio() - 1.0) };
        let first = self.row(self.here(at), at, from.transfer(middle.level));
        [Row { keep, ..first }, self.after_middle(middle, Combination { x: 0.0, y: part })]
    }
}
