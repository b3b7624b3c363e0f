//! Flow maps that predict the mean velocity of a jump: MeanFlow, shortcut models, AnyFlow.

use super::{Combination, Curve, Error, Inputs, Knot, Row, Setup, Table};

/// `x' = x - (t - s) * u(x, t, s)`: Geng et al. 2025, algorithm 2, over several jumps.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_rectified_flow()?;
    Ok(setup.intervals(|at, to| {
        // Only a jump to the data gives a clean sample; the others extrapolate, and may leave its range.
        let clamp = setup.options.clamp.filter(|_| to.t == 0.0);
        setup.straight(setup.parameterisation.inputs(at.t, to.t), at, to.t, clamp)
    }))
}

/// Jump all the way to the data, then noise the estimate again: `x' = (1 - s) * clean + s * z`.
pub(super) fn stochastic_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_rectified_flow()?;
    Ok(setup.intervals(|at, Knot { t: s, .. }| {
        let to_data = setup.straight(setup.parameterisation.inputs(at.t, 0.0), at, 0.0, setup.options.clamp);
        let clean = to_data.clean;
        Row {
            update: Combination { x: (1.0 - s) * clean.x, y: (1.0 - s) * clean.y },
            noise: (s > 0.0).then_some(s),
            ..to_data
        }
    }))
}

/// Shortcut models: `N` even jumps, and `log2(N)` in place of their length.
pub(super) fn shortcut_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_rectified_flow()?;
    let steps = setup.planned;
    if !steps.is_power_of_two() || !matches!(setup.grid.curve, Curve::Usual | Curve::Uniform) {
        return Err(setup.unsupported("these times", "1, 2, 4, 8 and so on even steps"));
    }
    Ok(setup.intervals(|at, Knot { t: s, .. }| {
        let clamp = setup.options.clamp.filter(|_| s == 0.0);
        let inputs = Inputs { h: f64::from(steps.ilog2()), ..setup.parameterisation.inputs(at.t, s) };
        setup.straight(inputs, at, s, clamp)
    }))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::*;

    const MEAN: f64 = -0.4;
    const SPREAD: f64 = 0.6;

    /// The exact flow map of N(MEAN, SPREAD^2) under the rectified flow, from its marginals.
    fn exact(x: f64, t: f64, s: f64) -> f64 {
        let deviation = |t: f64| ((1.0 - t) * (1.0 - t) * SPREAD * SPREAD + t * t).sqrt();
        (1.0 - s) * MEAN + (x - (1.0 - t) * MEAN) * deviation(s) / deviation(t)
    }

    fn mean_velocity(x: f64, t: f64, s: f64) -> f64 {
        (x - exact(x, t, s)) / (t - s)
    }

    fn flow(prediction: Prediction, time: Time) -> Parameterisation {
        Parameterisation { process: Process::RectifiedFlow, prediction, time }
    }

    fn run(table: &Table, start: f64, z: f64, network: impl Fn(f64, Inputs) -> f64) -> f64 {
        table.rows.iter().fold(table.initial_scale * start, |x, row| {
            let y = row.estimate.x * x + row.estimate.y * network(row.inputs.scale * x, row.inputs);
            let y = row.limit.map_or(y, |limit| y.clamp(-limit, limit));
            row.update.x * x + row.update.y * y + row.noise.unwrap_or(0.0) * z
        })
    }

    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    const UNIT: Time = Time::Linear { scale: 1.0 };

    #[test]
    fn lands_on_the_exact_trajectory_in_any_number_of_steps() {
        for steps in [1, 2, 4, 7] {
            let table = |time, prediction| {
                let flow = flow(prediction, time);
                find("meanflow").unwrap().table(&flow, &Grid::steps(steps), &Options::default()).unwrap()
            };
            let expected = exact(1.7, 1.0, 0.0);
            // Told the target time.
            let by_target = |x, i: Inputs| mean_velocity(x, i.t, i.s);
            assert_near(run(&table(UNIT, Prediction::Velocity), 1.7, 0.0, by_target), expected);
            // Told the duration, in thousandths.
            let by_duration = |x, i: Inputs| mean_velocity(x, i.t / 1e3, (i.t - i.h) / 1e3);
            let thousands = Time::Linear { scale: 1000.0 };
            assert_near(run(&table(thousands, Prediction::Velocity), 1.7, 0.0, by_duration), expected);
            // 0 is noise, and the velocity points to the data.
            let reversed = |x, i: Inputs| -mean_velocity(x, 1.0 - i.t, 1.0 - i.s);
            let time = Time::Reversed { scale: 1.0 };
            assert_near(run(&table(time, Prediction::Velocity), 1.7, 0.0, reversed), expected);
            // The output is where the mean velocity would reach at t = 0.
            let extrapolated = |x, i: Inputs| x - i.t * mean_velocity(x, i.t, i.s);
            assert_near(run(&table(UNIT, Prediction::Clean), 1.7, 0.0, extrapolated), expected);
        }
    }

    /// diffusers 0.42.1, FlowMapEulerDiscreteScheduler().set_timesteps(4) with the network as below.
    #[test]
    fn agrees_with_diffusers() {
        let flow = flow(Prediction::Velocity, Time::Linear { scale: 1000.0 });
        let table = find("meanflow").unwrap().table(&flow, &Grid::steps(4), &Options::default()).unwrap();
        let mut x = [0.5, -1.0, 0.1, 2.0];
        for row in &table.rows {
            let f = x.map(|v: f32| v.sin() + row.inputs.t as f32 / 1000.0 - row.inputs.s as f32 / 500.0);
            apply(row, &mut x, &f, None).unwrap();
        }
        let expected = [0.1931128, -0.3188702, 0.0577074, 1.1649342];
        for (found, expected) in x.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn one_step_reads_1_and_0_and_subtracts_the_output() {
        let flow = flow(Prediction::Velocity, UNIT);
        let table = find("meanflow").unwrap().table(&flow, &Grid::steps(1), &Options::default()).unwrap();
        assert_eq!(table.initial_scale, 1.0);
        assert_eq!(
            table.rows[..],
            [Row {
                inputs: Inputs { scale: 1.0, t: 1.0, s: 0.0, h: 1.0 },
                level: Level { alpha: 0.0, sigma: 1.0 },
                estimate: Combination { x: 0.0, y: 1.0 },
                limit: None,
                update: Combination { x: 1.0, y: -1.0 },
                direct: 0.0,
                keep: Combination { x: 0.0, y: 1.0 },
                earlier: [0.0; MAX_HISTORY],
                noise: None,
                clean: Combination { x: 1.0, y: -1.0 },
            }]
        );
    }

    #[test]
    fn a_clamp_holds_the_sample_and_leaves_the_jumps_before_it() {
        let (flow, options) =
            (flow(Prediction::Velocity, UNIT), Options { clamp: Some(0.3), ..Options::default() });
        let table = find("meanflow").unwrap().table(&flow, &Grid::steps(2), &options).unwrap();
        assert_eq!((table.rows[0].limit, table.rows[1].limit), (None, Some(0.3)));
        let network = |x, i: Inputs| mean_velocity(x, i.t, i.s);
        assert_near(run(&table, 1.7, 0.0, network), exact(1.7, 1.0, 0.0).min(0.3));
    }

    #[test]
    fn the_stochastic_form_noises_the_exact_jump_again() {
        let times = [1.0, 0.6, 0.2, 0.0];
        let z = 0.8;
        let mut expected = 1.7;
        for pair in times.windows(2) {
            expected = (1.0 - pair[1]) * exact(expected, pair[0], 0.0) + pair[1] * z;
        }
        for clamp in [None, Some(100.0)] {
            let (flow, options) = (flow(Prediction::Velocity, UNIT), Options { clamp, ..Options::default() });
            let table = find("meanflow-sde").unwrap().table(&flow, &Grid::times(&times), &options).unwrap();
            let network = |x, i: Inputs| {
                assert_eq!((i.s, i.h), (0.0, i.t));
                mean_velocity(x, i.t, 0.0)
            };
            assert_near(run(&table, 1.7, z, network), expected);
            assert_eq!(table.rows[2].noise, None);
        }
    }
}
