//! Heun's method: Euler, and a correction with the slope where it arrived.

use super::{Combination, Error, MAX_STEPS, Process, Setup, Table};

/// Karras et al. 2022, algorithm 1, without churn. The last step is Euler's, for there is no slope at no noise.
///
/// The correction needs no copy of the state before the step: with both slopes towards the data,
/// `x + (s - t) * (d1 + d2) / 2` is the state that Euler reached plus a multiple of `y1 - y2`.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(
        |process| !matches!(process, Process::Trigonometric { .. }),
        "noise levels, timesteps or a flow",
    )?;
    let intervals = setup.times.len() - 1;
    let evaluations = 2 * intervals - 1;
    if evaluations > MAX_STEPS {
        return Err(Error::TooManyEvaluations { evaluations });
    }
    let rows = (0..evaluations).map(|evaluation| {
        let (i, corrects) = (evaluation / 2, evaluation % 2 == 1);
        let [from, to] = setup.levels(i);
        if !corrects {
            let t = setup.times[i];
            return setup.row(setup.parameterisation.inputs(t, t), t, from.transfer(to));
        }
        let s = setup.times[i + 1];
        // On a flow the straight line is in its time, elsewhere in sigma / alpha of the state divided by alpha.
        let pull = match setup.parameterisation.process {
            Process::RectifiedFlow => (from.sigma - to.sigma) / (2.0 * to.sigma),
            _ => to.alpha * (from.ratio() - to.ratio()) / (2.0 * to.ratio()),
        };
        let mut row = setup.row(setup.parameterisation.inputs(s, s), s, Combination { x: 1.0, y: pull });
        row.earlier[0] = -pull;
        row
    });
    Ok(Table { rows: rows.collect(), initial_scale: setup.scaled_start() })
}
