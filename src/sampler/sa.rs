//! SA-Solver: a predictor and a corrector of Adams' kind for SDEs whose noise is chosen.

use super::{
    Error, Process, Setup, Table,
    exponential::{Integrand, deviation, plain},
    process::TIMESTEPS,
    unipc::predict_and_correct,
};

/// Xue et al. 2023, arXiv 2309.05019, algorithm 1, with as many estimates in the correction as in the prediction. As in
/// the reference, `tau` is `eta` between timesteps 200 and 800, and 0 outside.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    let knows = |process| matches!(process, Process::RectifiedFlow | Process::Preserving { .. });
    setup.require(knows, "timesteps or a flow")?;
    let flow = setup.parameterisation.process == Process::RectifiedFlow;
    let scale = if flow { TIMESTEPS as f64 } else { 1.0 };
    Ok(setup.after_pure_noise(|setup| {
        let tau = |i: usize| {
            let noisy = (200.0..=800.0).contains(&(scale * setup.knots[i].t));
            if noisy { setup.eta } else { 0.0 }
        };
        let most = [usize::from(setup.order); 2];
        let table = predict_and_correct(setup, Integrand::Data, plain, most, tau);
        setup.draw(table, |i| deviation(Integrand::Data, setup.ends(i), tau(i)))
    }))
}
