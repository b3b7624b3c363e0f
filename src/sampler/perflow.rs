//! PeRFlow: a rectified flow in each of four windows of a diffusion's timesteps.

use super::{
    Betas, Combination, Error, Knot, Level, Prediction, Process, Row, Setup, Table, Time, process::TIMESTEPS,
};

/// How many windows the published networks have, of even length from 1 to 0.
pub(super) const WINDOWS: usize = 4;

/// `x' = x + (s - t) * (end - x) / (t_e - t)`, with the state that the window ends in.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    let network = setup.parameterisation;
    let Prediction::WindowedNoise { betas } = network.prediction else {
        return Err(setup.unsupported("this prediction", "the noise that leads to the end of a window"));
    };
    if network.process != Process::RectifiedFlow || !matches!(network.time, Time::Linear { .. }) {
        return Err(setup.unsupported("this time", "a rectified flow's time from 1 to 0"));
    }
    let crosses = |pair: &[Knot]| pair[1].t < window(pair[0].t)[1] - 1e-9;
    if setup.knots.windows(2).any(crosses) {
        return Err(setup.unsupported(
            "a step across the end of a window",
            "4 steps or more, or times that visit 0.75, 0.5 and 0.25",
        ));
    }
    Ok(setup.intervals(|at, to| {
        let [_, end] = window(at.t);
        let part = (at.t - to.t) / (at.t - end);
        let update = Combination { x: 1.0 - part, y: part };
        // Only the last window ends in a clean sample.
        let limit = setup.options.clamp.filter(|_| end == 0.0);
        let level = level(betas, at.t);
        Row { limit, level, ..setup.row(setup.here(at), at, update) }
    }))
}

/// The state at the end of the window that `t` is in, from the state at `t` and the noise: the reference's `ddim_eps`.
pub(super) fn end_of_window(betas: Betas, t: f64) -> Combination {
    let [start, end] = window(t);
    let level = |t| level(betas, t);
    let (from, to) = (level(start), level(end));
    let grow = to.alpha / from.alpha;
    let noise = to.sigma - grow * from.sigma;
    let norm = grow * (t - start) + (end - t);
    Combination { x: grow * (end - start) / norm, y: noise * (end - t) / norm }
}

/// What the diffusion has at `t`.
fn level(betas: Betas, t: f64) -> Level {
    betas.level((libm::rint(t * TIMESTEPS as f64) - 1.0).max(0.0))
}

/// Where the window of `t` starts and ends; a boundary belongs to the window below it.
fn window(t: f64) -> [f64; 2] {
    let n = WINDOWS as f64;
    let start = libm::ceil((t - 1e-4) * n).clamp(1.0, n);
    [start / n, (start - 1.0) / n]
}
