//! Multistep consistency sampling: Song et al. 2023, algorithm 1, as `stochastic_iterative_sampler` runs it.

use super::{Combination, Error, Process, Row, Setup, Table};

/// `x' = clean + sqrt(s^2 - sigma_min^2) * z`.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(
        |process| matches!(process, Process::Exploding { .. }),
        "a noise level from sigma_max to sigma_min",
    )?;
    let sigma_min = setup.parameterisation.process.end();
    // Both references draw after every step of several, the last included, and never for a single one.
    let draws = setup.planned > 1;
    Ok(setup.intervals(|from, to| Row {
        noise: draws.then(|| libm::sqrt((to.t * to.t - sigma_min * sigma_min).max(0.0))),
        ..setup.row(setup.parameterisation.inputs(from.t, sigma_min), from, Combination::OTHER)
    }))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::*;
    use std::vec::Vec;

    const MEAN: f64 = 0.3;
    const SPREAD: f64 = 0.5;
    const EPS: f64 = 0.002;

    fn parameterisation(prediction: Prediction, time: Time) -> Parameterisation {
        Parameterisation { process: Process::Exploding { sigma_min: EPS, sigma_max: 80.0 }, prediction, time }
    }

    /// The exact consistency function of N(MEAN, SPREAD^2): the probability-flow trajectory down to EPS.
    fn exact(x: f64, sigma: f64) -> f64 {
        MEAN + (x - MEAN) * ((EPS * EPS + SPREAD * SPREAD) / (sigma * sigma + SPREAD * SPREAD)).sqrt()
    }

    /// Runs a table on one number in f64; the network sees only what the table feeds it.
    fn run(table: &Table, start: f64, noise: &[f64], network: impl Fn(f64, f64) -> f64) -> f64 {
        let mut x = table.initial_scale * start;
        for (row, z) in table.rows.iter().zip(noise) {
            let y = row.estimate.x * x + row.estimate.y * network(row.inputs.scale * x, row.inputs.t);
            let y = row.limit.map_or(y, |limit| y.clamp(-limit, limit));
            x = row.update.x * x + row.update.y * y + row.noise.unwrap_or(0.0) * z;
        }
        x
    }

    /// The sampler of the paper, written down directly.
    fn oracle(times: &[f64], start: f64, noise: &[f64]) -> f64 {
        let mut x = times[0] * start;
        for (pair, z) in times.windows(2).zip(noise) {
            x = exact(x, pair[0]) + (pair[1] * pair[1] - EPS * EPS).sqrt() * z;
        }
        x
    }

    #[test]
    fn lands_where_the_exact_consistency_function_says() {
        let noise = [0.7, -1.1, 0.4, 2.0];
        let network = |input: f64, time: f64| exact(input, time);
        let sigma = parameterisation(Prediction::Clean, Time::Linear { scale: 1.0 });
        for times in [&[80.0, EPS][..], &[80.0, 1.382, EPS], &[80.0, 24.0, 5.0, 0.6, EPS]] {
            let table = find("cm").unwrap().table(&sigma, &Grid::times(times), &Options::default()).unwrap();
            let (found, expected) = (run(&table, -0.9, &noise, network), oracle(times, -0.9, &noise));
            assert!((found - expected).abs() < 1e-12, "{times:?}: {found} {expected}");
        }
    }

    /// The same function hidden behind preconditioning that this test writes down on its own.
    #[test]
    fn preconditioned_networks_land_there_too() {
        let noise = [0.7, -1.1, 0.4];
        let times = [80.0, 9.0, 1.382, EPS];
        for scale in [250.0, 0.25] {
            let network = |input: f64, time: f64| {
                let sigma = (time / scale).exp();
                let x = input * (sigma * sigma + 0.25).sqrt();
                let skip = 0.25 / ((sigma - EPS) * (sigma - EPS) + 0.25);
                let out = (sigma - EPS) * 0.5 / (sigma * sigma + 0.25).sqrt();
                (exact(x, sigma) - skip * x) / out
            };
            let edm = parameterisation(Prediction::EdmConsistency { sigma_data: 0.5 }, Time::Log { scale });
            let table = find("cm").unwrap().table(&edm, &Grid::times(&times), &Options::default()).unwrap();
            let (found, expected) = (run(&table, 1.3, &noise, network), oracle(&times, 1.3, &noise));
            assert!((found - expected).abs() < 1e-10, "{found} {expected}");
        }
    }

    /// diffusers 0.42.1, CMStochasticIterativeScheduler().set_timesteps(timesteps=[22, 0]), the noise and the network
    /// as below: the whole path through the f32 kernel.
    #[test]
    fn agrees_with_diffusers() {
        let edm =
            parameterisation(Prediction::EdmConsistency { sigma_data: 0.5 }, Time::Log { scale: 250.0 });
        let grid = Grid::karras_points(&[0, 22, 39], 40, 7.0);
        let table = find("consistency")
            .unwrap()
            .table(&edm, &grid, &Options { clamp: Some(1.0), ..Options::default() })
            .unwrap();
        let (mut x, mut input, z) = ([0.5, -1.0, 0.1, 2.0], [0.0; 4], [1.0, -0.5, 0.25, -2.0]);
        start(&table, &mut x, None).unwrap();
        for row in &table.rows {
            feed(row, &x, &mut input).unwrap();
            let f = input.map(|v: f32| v.sin() + row.inputs.t as f32 / 1000.0);
            apply(row, &mut x, &f, Some(&z)).unwrap();
        }
        let expected = [0.757305, -0.20451562, 0.42853492, -0.6043639];
        for (found, expected) in x.iter().zip(expected) {
            assert!((found - expected).abs() < 2e-6, "{found} {expected}");
        }
    }

    #[test]
    fn clamps_the_clean_estimate_and_not_the_noise() {
        let sigma = parameterisation(Prediction::Clean, Time::Linear { scale: 1.0 });
        let options = Options { clamp: Some(1.0), ..Options::default() };
        let table = find("cm").unwrap().table(&sigma, &Grid::times(&[80.0, 3.0, 0.0]), &options).unwrap();
        let first = Table { rows: table.rows[..1].iter().copied().collect(), ..table };
        let found = run(&first, 1.0, &[2.0], |_, _| 5.0);
        assert!((found - (1.0 + (9.0 - EPS * EPS).sqrt() * 2.0)).abs() < 1e-12, "{found}");
    }

    #[test]
    fn draws_as_often_as_the_references() {
        let sigma = parameterisation(Prediction::Clean, Time::Linear { scale: 1.0 });
        let draws = |steps| -> Vec<Option<f64>> {
            let table = find("cm").unwrap().table(&sigma, &Grid::steps(steps), &Options::default()).unwrap();
            table.rows.iter().map(|row| row.noise).collect()
        };
        assert_eq!(draws(1), [None]);
        assert_eq!(draws(3).len(), 3);
        assert!(draws(3)[..2].iter().all(|noise| noise.is_some_and(|c| c > 0.0)));
        assert_eq!(draws(3)[2], Some(0.0));
    }

    #[test]
    fn starts_from_the_first_noise_level() {
        let sigma = parameterisation(Prediction::Clean, Time::Linear { scale: 1.0 });
        let table = |grid| find("cm").unwrap().table(&sigma, &grid, &Options::default()).unwrap();
        assert_eq!(table(Grid::steps(2)).initial_scale, 80.0);
        assert_eq!(table(Grid::times(&[24.0, 0.0])).initial_scale, 24.0);
    }
}
