//! Heun's method: Euler, and a correction with the slope where it arrived.

use super::{Combination, Error, Level, MAX_STEPS, Process, Row, Setup, Table};

/// Karras et al. 2022, algorithm 1, without churn. The last step is Euler's, for there is no slope at no noise.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(
        |process| !matches!(process, Process::Trigonometric { .. }),
        "noise levels, timesteps or a flow",
    )?;
    let evaluations = 2 * setup.steps() - 1;
    if evaluations > MAX_STEPS {
        return Err(Error::TooManyEvaluations { evaluations });
    }
    let flow = setup.parameterisation.process == Process::RectifiedFlow;
    let rows = (0..evaluations).map(|evaluation| {
        let i = evaluation / 2;
        let [from, to] = setup.levels(i);
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
        if evaluation % 2 == 1 {
            // The state is what Euler arrived at; what counts is what the row before kept, and the slope here.
            let at = setup.knots[i + 1];
            let row = setup.row(setup.here(at), at, half(to));
            return Row { earlier: [1.0, 0.0, 0.0], ..row };
        }
        let (at, first) = (setup.knots[i], half(from));
        let unmoved = if flow { 1.0 } else { to.alpha / from.alpha };
        let keep = Combination { x: unmoved + first.x, y: first.y };
        Row { keep, ..setup.row(setup.here(at), at, from.transfer(to)) }
    });
    Ok(setup.scaled_start(setup.table(rows.collect())))
}
