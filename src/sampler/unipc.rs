//! UniPC and SA-Solver: each estimate first corrects the step that led to it and then predicts the next one.

use super::{
    Error, MAX_HISTORY, Setup, Table,
    exponential::{Integrand, Meeting, Step, midway, plain, weights},
};

/// Zhao et al. 2023, arXiv 2302.04867, algorithms 1 and 2, with `B(h) = e^h - 1`.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    unipc(setup, Integrand::Data, midway)
}

/// With `B(h) = h`.
pub(super) fn plain_table(setup: &Setup<'_>) -> Result<Table, Error> {
    unipc(setup, Integrand::Data, plain)
}

/// With `B(h) = e^h - 1`, of networks that predict the noise.
pub(super) fn noise_table(setup: &Setup<'_>) -> Result<Table, Error> {
    unipc(setup, Integrand::Noise, midway)
}

/// The chosen order is that of the predictions, as in the reference. Corrections take one estimate more and add one to it.
fn unipc(setup: &Setup<'_>, integrand: Integrand, meeting: Meeting) -> Result<Table, Error> {
    setup.require_for(integrand)?;
    let order = usize::from(setup.options.order.unwrap_or(2));
    let most = [order, order + 1];
    Ok(setup.after_pure_noise(|setup| predict_and_correct(setup, integrand, meeting, most, |_| 0.0)))
}

/// Correcting takes no copy of the state before the step: it replaces what predicting had added. The noise of the step stays.
///
/// A prediction and a correction take at most so many estimates, and fewer at the ends of a run.
pub(super) fn predict_and_correct(
    setup: &Setup<'_>,
    integrand: Integrand,
    meeting: Meeting,
    [predictors, correctors]: [usize; 2],
    tau: impl Fn(usize) -> f64,
) -> Table {
    let step = |i| Step::new(integrand, setup.ends(i), tau(i));
    let predict = |i| -> [f64; MAX_HISTORY + 1] {
        let (step, count) = (step(i), predictors.min(i + 1).min(setup.steps() - i));
        weights(&setup.nodes(i)[..count], step.z, meeting).map(|weight| step.gain * weight)
    };
    let correct = |i| -> [f64; MAX_HISTORY + 1] {
        let (step, count) = (step(i), correctors.min(i + 2).min(setup.steps() - i + 1));
        let [start, before, first] = setup.nodes(i);
        weights(&[1.0, start, before, first][..count], step.z, meeting).map(|weight| step.gain * weight)
    };
    setup.integrate(integrand, |i| {
        let (keep, mut weights) = (step(i).keep, predict(i));
        if i > 0 {
            let (corrected, predicted) = (correct(i - 1), predict(i - 1));
            for (k, weight) in weights.iter_mut().enumerate() {
                let replaced = if k == 0 { 0.0 } else { predicted[k - 1] };
                *weight += keep * (corrected[k] - replaced);
            }
        }
        (keep, weights)
    })
}
