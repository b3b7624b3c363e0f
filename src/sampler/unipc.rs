//! UniPC: each estimate first corrects the step that led to it and then predicts the next one.

use super::{Combination, Error, Process, Setup, Table};

/// Zhao et al. 2023, algorithms 1 and 2, with `B(h) = e^h - 1`: the predictor of order two, with the
/// corrector three; of order one in the first and in the last step.
///
/// Correcting needs no copy of the state before the step: the correction replaces what the prediction had added.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(
        |process| matches!(process, Process::Exploding { .. } | Process::Preserving { .. }),
        "noise levels or timesteps",
    )?;
    Ok(setup.numbered_intervals(|i, at, _| {
        if setup.is_last(i) {
            return setup.row(setup.here(at), at, Combination::OTHER);
        }
        let step = Step::of(setup, i);
        // Coefficients of this estimate and of the two before it.
        let corrected = if i == 0 { [0.0; 3] } else { Step::of(setup, i - 1).correction() };
        let mut row = setup.row(
            setup.here(at),
            at,
            Combination { x: step.keep, y: step.keep * corrected[0] + step.clean - step.slope() },
        );
        row.earlier = [step.keep * corrected[1] + step.slope(), step.keep * corrected[2], 0.0];
        row
    }))
}

/// One interval of the grid: `x' = keep * x + clean * y`, and what the slope of the estimates adds.
struct Step {
    keep: f64,
    clean: f64,
    /// `-h`, h the step in lambda = ln(alpha / sigma).
    hh: f64,
    /// The step before it, in steps like this and so negative; none in the first.
    back: Option<f64>,
}

impl Step {
    fn of(setup: &Setup<'_>, i: usize) -> Step {
        let [from, to] = setup.levels(i);
        let hh = libm::log(to.ratio() / from.ratio());
        let back = (i > 0).then(|| -libm::log(setup.levels(i - 1)[0].ratio() / from.ratio()) / hh.abs());
        Step { keep: to.sigma / from.sigma, clean: -to.alpha * libm::expm1(hh), hh, back }
    }

    /// What the prediction adds of the estimate before the step's start, and takes of the one there.
    fn slope(&self) -> f64 {
        self.back.map_or(0.0, |back| 0.5 * self.clean / back)
    }

    /// What the state at the step's end changes by, of the estimate there and of the two before.
    fn correction(&self) -> [f64; 3] {
        let length = libm::expm1(self.hh);
        let phi_2 = length / self.hh - 1.0;
        let phi_3 = phi_2 / self.hh - 0.5;
        let (first, second) = (phi_2 / length, 2.0 * phi_3 / length);
        let (new, old) = match self.back {
            None => (0.5, 0.0),
            Some(back) => {
                let old = (first - second) / (1.0 - back);
                (first - old, old / back)
            }
        };
        let (new, old) = (self.clean * new, self.clean * old);
        [new, self.slope() - new - old, old - self.slope()]
    }
}
