//! Euler's method, on a rectified flow and on noise levels, and with noise added after each step.

use super::{Curve, Error, Level, Process, Row, Setup, Table, Within};

/// `x' = x + (s - t) * v(x, t)`; on other processes the same line in `sigma / alpha`, down to the data.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.check_churn()?;
    if setup.parameterisation.process == Process::RectifiedFlow {
        setup.require_rectified_flow()?;
        return Ok(setup.intervals(|at, to| setup.straight(setup.here(at), at, to.t, setup.options.clamp)));
    }
    setup.require(|_| true, "any process")?;
    let table = setup.numbered_intervals(|i, _, _| setup.churn_after(i, setup.euler(i)));
    Ok(setup.churn_start(setup.scaled_start(table)))
}

/// Steps below the next noise level, and noises again up to it: `eta` 1 leaves the marginals as they are.
pub(super) fn ancestral_table(setup: &Setup<'_>) -> Result<Table, Error> {
    let flow = setup.parameterisation.process == Process::RectifiedFlow;
    setup.require(
        |process| !matches!(process, Process::Trigonometric { .. }),
        "noise levels, timesteps or a flow",
    )?;
    let table = setup.numbered_intervals(|i, at, _| {
        let [from, to] = setup.levels(i);
        let (low, up) =
            if flow { flow_ancestral(from, to, setup.eta) } else { ancestral(from, to, setup.eta) };
        // diffusers draws after the last step as well, except on a flow.
        let draws = setup.eta > 0.0 && !(flow && setup.is_last(i));
        Row { noise: draws.then_some(up), ..setup.row(setup.here(at), at, from.transfer(low)) }
    });
    Ok(setup.scaled_start(table))
}

/// Where an ancestral step to `to` goes before it draws, in the scale of `to`, and the deviation of what it draws.
pub(super) fn ancestral(from: Level, to: Level, eta: f64) -> (Level, f64) {
    let (kept, drawn) = (to.ratio() / from.ratio(), eta * eta);
    let up = eta * to.sigma * libm::sqrt(1.0 - kept * kept);
    // Not the root of a difference: next to nothing is left of a long step.
    let sigma = to.sigma * libm::sqrt(1.0 - drawn + drawn * kept * kept);
    (Level { alpha: to.alpha, sigma }, up)
}

/// The same in a rectified flow's own time, in which the step goes further by a share `eta` of its length.
fn flow_ancestral(from: Level, to: Level, eta: f64) -> (Level, f64) {
    let below = to.sigma * (1.0 - eta * (1.0 - to.sigma / from.sigma));
    let sigma = to.alpha * below / (1.0 - below);
    (Level { alpha: to.alpha, sigma }, libm::sqrt((to.sigma - sigma) * (to.sigma + sigma)))
}

impl Setup<'_> {
    /// All of step `i` in one row.
    pub(super) fn euler(&self, i: usize) -> Row {
        let (at, [_, to]) = (self.churned(i), self.levels(i));
        self.row(self.here(at), at, at.level.transfer(to))
    }

    /// The ends of solvers that count noise levels, as diffusers has them on timesteps: the initial state leaves out the
    /// little of the data that the last timestep has, and what is left at the smallest is divided by `alpha`.
    pub(super) fn scaled_start(&self, mut table: Table) -> Table {
        if let (Process::Preserving { .. }, Some(row)) =
            (self.parameterisation.process, table.rows.last_mut())
        {
            row.stretch(1.0 / self.levels(self.steps() - 1)[1].alpha);
        }
        let leads = matches!(
            self.grid.curve,
            Curve::Leading { .. } | Curve::Levels { within: Within::Leading { .. }, .. }
        );
        match self.parameterisation.process {
            Process::Preserving { .. } if !leads => {
                Table { initial_scale: self.knots[0].level.sigma, ..table }
            }
            _ => table,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::*;

    const MEAN: f64 = 0.25;

    fn deviation(t: f64, spread: f64) -> f64 {
        ((1.0 - t) * (1.0 - t) * spread * spread + t * t).sqrt()
    }

    /// The exact velocity E[noise - data | x] for data N(MEAN, spread^2).
    fn velocity(x: f64, t: f64, spread: f64) -> f64 {
        let variance = deviation(t, spread).powi(2);
        -MEAN + (t - (1.0 - t) * spread * spread) / variance * (x - (1.0 - t) * MEAN)
    }

    fn run(
        time: Time,
        prediction: Prediction,
        options: &Options,
        steps: usize,
        f: impl Fn(f64, f64) -> f64,
    ) -> f64 {
        let flow = Parameterisation { process: Process::RectifiedFlow, prediction, time };
        let table = find("euler").unwrap().table(&flow, &Grid::steps(steps), options).unwrap();
        table.rows.iter().fold(1.4, |x, row| {
            assert_eq!((row.inputs.h, row.inputs.s), (0.0, row.inputs.t));
            let y = row.estimate.x * x + row.estimate.y * f(row.inputs.scale * x, row.inputs.t);
            let y = row.limit.map_or(y, |limit| y.clamp(-limit, limit));
            row.update.x * x + row.update.y * y
        })
    }

    const UNIT: Time = Time::Linear { scale: 1.0 };

    #[test]
    fn straight_trajectories_are_exact_in_any_number_of_steps() {
        for steps in [1, 2, 5] {
            let found =
                run(UNIT, Prediction::Velocity, &Options::default(), steps, |x, t| velocity(x, t, 0.0));
            assert!((found - MEAN).abs() < 1e-12, "{steps}: {found}");
        }
    }

    /// Each doubling of the steps halves the distance to the closed-form end of the trajectory.
    #[test]
    fn converges_with_order_one() {
        let expected = MEAN + 1.4 * deviation(0.0, 0.5) / deviation(1.0, 0.5);
        let error = |steps| {
            let found =
                run(UNIT, Prediction::Velocity, &Options::default(), steps, |x, t| velocity(x, t, 0.5));
            (found - expected).abs()
        };
        for steps in [16, 32] {
            let order = (error(steps) / error(2 * steps)).log2();
            assert!((order - 1.0).abs() < 0.1, "{order}");
        }
    }

    #[test]
    fn conventions_of_time_and_output_do_not_move_the_sample() {
        let options = Options::default();
        let expected = run(UNIT, Prediction::Velocity, &options, 5, |x, t| velocity(x, t, 0.5));
        let reversed = Time::Reversed { scale: 1000.0 };
        let clean = |x: f64, t: f64| x - t * velocity(x, t, 0.5);
        for found in [
            run(Time::Linear { scale: 1000.0 }, Prediction::Velocity, &options, 5, |x, t| {
                velocity(x, t / 1e3, 0.5)
            }),
            run(reversed, Prediction::Velocity, &options, 5, |x, t| -velocity(x, 1.0 - t / 1e3, 0.5)),
            run(UNIT, Prediction::Clean, &options, 5, clean),
            run(
                UNIT,
                Prediction::Velocity,
                &Options { clamp: Some(100.0), ..Options::default() },
                5,
                |x, t| velocity(x, t, 0.5),
            ),
            run(
                reversed,
                Prediction::Velocity,
                &Options { clamp: Some(100.0), ..Options::default() },
                5,
                |x, t| -velocity(x, 1.0 - t / 1e3, 0.5),
            ),
        ] {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

    /// diffusers 0.42.1, FlowMatchEulerDiscreteScheduler().set_timesteps(sigmas=[1.0, 0.7, 0.2]) with the network as
    /// below.
    #[test]
    fn agrees_with_diffusers() {
        let time = Time::Linear { scale: 1000.0 };
        let flow =
            Parameterisation { process: Process::RectifiedFlow, prediction: Prediction::Velocity, time };
        let grid = Grid::times(&[1.0, 0.7, 0.2, 0.0]);
        let table = find("euler").unwrap().table(&flow, &grid, &Options::default()).unwrap();
        let mut x = [0.5, -1.0, 0.1, 2.0];
        for row in &table.rows {
            let f = x.map(|v: f32| v.sin() - row.inputs.t as f32 / 1000.0);
            apply(row, &mut x, &f, None).unwrap();
        }
        let expected = [0.61211205, 0.13511533, 0.4765258, 1.7810432];
        for (found, expected) in x.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn a_clamp_holds_the_end_inside_its_limit() {
        let options = Options { clamp: Some(0.1), ..Options::default() };
        assert_eq!(run(UNIT, Prediction::Velocity, &options, 3, |x, t| velocity(x, t, 0.5)), 0.1);
    }
}
