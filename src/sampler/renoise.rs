//! Samplers that jump to the data and noise the estimate again, on any process.

use super::{Combination, Error, Process, Row, Setup, Table};

/// LCM counts timesteps in tenths of its data's deviation.
const LCM_TIMESTEP_SCALE: f64 = 10.0;
const LCM_SIGMA_DATA: f64 = 0.5;

/// `x' = alpha_s * clean + sigma_s * z`: DMD2, PCM, ECT (whose noise level is not lessened by sigma_min).
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(|_| true, "any process")?;
    // diffusers' schedulers for flows draw after the last step too.
    let flow = setup.parameterisation.process == Process::RectifiedFlow;
    Ok(rows(setup, |_| Combination::OTHER, flow.then_some(0.0)))
}

/// The same between angles. The reference draws after the last step too, and multiplies by the sine of 0.
pub(super) fn angles_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(
        |process| matches!(process, Process::Trigonometric { .. }),
        "angles from a quarter turn to 0",
    )?;
    Ok(rows(setup, |_| Combination::OTHER, Some(0.0)))
}

/// The same from a clean estimate that LCM blends with the state, so that it is the state itself at timestep 0.
pub(super) fn latent_consistency_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(|process| matches!(process, Process::Preserving { .. }), "timesteps")?;
    let blend = |t: f64| {
        let (d, scaled) = (LCM_SIGMA_DATA, LCM_TIMESTEP_SCALE * t);
        let square = scaled * scaled + d * d;
        Combination { x: d * d / square, y: scaled / libm::sqrt(square) }
    };
    Ok(rows(setup, blend, None))
}

fn rows(setup: &Setup<'_>, blend: impl Fn(f64) -> Combination, last_draw: Option<f64>) -> Table {
    let end = setup.parameterisation.process.end();
    setup.numbered_intervals(|i, at, _| {
        let [_, to] = setup.levels(i);
        let clean = blend(at.t);
        let update = Combination { x: to.alpha * clean.x, y: to.alpha * clean.y };
        let noise = if setup.is_last(i) { last_draw } else { Some(to.sigma) };
        // A flow map is asked for the jump that is taken, to the data.
        let inputs = setup.parameterisation.inputs(at.t, end);
        Row { noise, clean, ..setup.row(inputs, at, update) }
    })
}
