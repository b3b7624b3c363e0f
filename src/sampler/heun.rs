//! Heun's method: Euler, and a correction with the slope where it arrived.

use super::{Combination, Error, Level, MAX_STEPS, Process, Row, Setup, Table};

/// Karras et al. 2022, algorithms 1 and 2.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(
        |process| !matches!(process, Process::Trigonometric { .. }),
        "noise levels, timesteps or a flow",
    )?;
    setup.check_churn()?;
    let flow = setup.parameterisation.process == Process::RectifiedFlow;
    setup.pairs(|i| {
        let (at, next, [_, to]) = (setup.churned(i), setup.knots[i + 1], setup.levels(i));
        let from = at.level;
        // Half of the step with the slope at one of its ends. On a flow the straight line is in its time, elsewhere in
        // sigma / alpha of the state divided by alpha.
        let half = |end: Level| {
            if flow {
                let part = 0.5 * (from.sigma - to.sigma) / end.sigma;
                return Combination { x: -part, y: part };
            }
            let part = 0.5 * to.alpha * (from.ratio() - to.ratio()) / end.ratio();
            Combination { x: -part / end.alpha, y: part }
        };
        let (first, unmoved) = (half(from), if flow { 1.0 } else { to.alpha / from.alpha });
        let keep = Combination { x: unmoved + first.x, y: first.y };
        // The state is then what Euler arrived at; what counts is what the row before kept, and the slope here.
        let second = setup.row(setup.here(next), next, half(to));
        [Row { keep, ..setup.euler(i) }, Row { earlier: [1.0, 0.0, 0.0], ..second }]
    })
}

impl Setup<'_> {
    /// A table with two rows for each interval of the grid but the last, which is Euler's, for there is no slope at no noise.
    pub(super) fn pairs(&self, pair: impl Fn(usize) -> [Row; 2]) -> Result<Table, Error> {
        let evaluations = 2 * self.steps() - 1;
        if evaluations > MAX_STEPS {
            return Err(Error::TooManyEvaluations { evaluations });
        }
        let rows = (0..evaluations).map(|evaluation| match evaluation / 2 {
            i if self.is_last(i) => self.euler(i),
            i if evaluation % 2 == 0 => pair(i)[0],
            i => self.churn_after(i, pair(i)[1]),
        });
        Ok(self.churn_start(self.scaled_start(self.table(rows.collect()))))
    }
}
