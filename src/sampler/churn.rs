//! Churn: noise that is added before a step, for the step to take away. Karras et al. 2022, arXiv 2206.00364, algorithm 2.

use core::f64::consts::SQRT_2;

use super::{Churn, Combination, Error, Knot, Process, Row, Setup, Table};

impl Setup<'_> {
    /// Pure noise of a flow and of angles has no data, in whose terms churn counts noise.
    pub(super) fn check_churn(&self) -> Result<(), Error> {
        match self.parameterisation.process {
            Process::Exploding { .. } | Process::Preserving { .. } => Ok(()),
            _ if self.options.churn.is_none() => Ok(()),
            _ => Err(self.unsupported("churn on this process", "noise levels or timesteps")),
        }
    }

    /// The moment at which step `i` begins, above the grid's by what churn adds.
    pub(super) fn churned(&self, i: usize) -> Knot {
        let (knot, gamma) = (self.knots[i], self.gamma(i));
        if gamma == 0.0 {
            return knot;
        }
        self.parameterisation.process.knot_of_ratio(knot.level.ratio() * (1.0 + gamma))
    }

    /// The last row of step `i`, with the noise that the next one begins with.
    pub(super) fn churn_after(&self, i: usize, row: Row) -> Row {
        if self.options.churn.is_none() || self.is_last(i) {
            return row;
        }
        let (scale, noise) = self.raise(i + 1);
        let update = Combination { x: row.update.x * scale, y: row.update.y * scale };
        Row { update, earlier: row.earlier.map(|d| d * scale), noise: Some(noise), ..row }
    }

    /// A table whose initial state has the noise that the first step begins with.
    pub(super) fn churn_start(&self, table: Table) -> Table {
        if self.options.churn.is_none() {
            return table;
        }
        let (scale, noise) = self.raise(0);
        Table { initial_scale: table.initial_scale * scale, initial_noise: Some(noise), ..table }
    }

    fn gamma(&self, i: usize) -> f64 {
        let Some(Churn { amount, range: [low, high] }) = self.options.churn else { return 0.0 };
        if !(low..=high).contains(&self.knots[i].level.ratio()) {
            return 0.0;
        }
        (amount / self.planned as f64).min(SQRT_2 - 1.0)
    }

    /// What brings a state from the grid's level up to where step `i` begins: a scale, and a deviation, 0 outside of the range
    /// because the references draw there as well.
    fn raise(&self, i: usize) -> (f64, f64) {
        let (from, to) = (self.knots[i].level, self.churned(i).level);
        let (low, high) = (from.ratio(), to.ratio());
        (to.alpha / from.alpha, to.alpha * libm::sqrt((high - low) * (high + low)))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::{super::*, SQRT_2};
    use std::string::ToString;

    #[test]
    fn a_flow_has_no_churn() {
        let time = Time::Linear { scale: 1.0 };
        let flow =
            Parameterisation { process: Process::RectifiedFlow, prediction: Prediction::Velocity, time };
        let churn = Some(Churn { amount: 1.0, range: [0.0, f64::INFINITY] });
        for sampler in ["euler", "heun"] {
            let options = Options { churn, ..Options::default() };
            let error = find(sampler).unwrap().table(&flow, &Grid::steps(3), &options).unwrap_err();
            assert!(error.to_string().contains("churn on this process"), "{error}");
        }
    }

    /// The first levels of these three steps are 80, 2.5 and 0.002; the share is cut at `sqrt(2) - 1`.
    #[test]
    fn churn_raises_the_levels_in_its_range_and_draws_in_each_step() {
        let process = Process::Exploding { sigma_min: 0.002, sigma_max: 80.0 };
        let network =
            Parameterisation { process, prediction: Prediction::Clean, time: Time::Linear { scale: 1.0 } };
        let options =
            Options { churn: Some(Churn { amount: 99.0, range: [1.0, 10.0] }), ..Options::default() };
        let grid = Grid::new(Curve::Levels { spread: Spread::Karras { rho: 7.0 }, within: Within::All }, 3);
        let table = find("euler").unwrap().table(&network, &grid, &options).unwrap();
        let middle = karras(0.5, 80.0, 0.002, 7.0);
        assert_eq!(
            (table.initial_noise, table.rows[1].noise, table.rows[2].noise),
            (Some(0.0), Some(0.0), None)
        );
        // Twice the variance, so as much of it again.
        assert!((table.rows[0].noise.unwrap() - middle).abs() < 1e-12);
        assert!((table.rows[1].inputs.t - middle * SQRT_2).abs() < 1e-12);
        assert_eq!((table.rows[0].inputs.t, table.rows[2].inputs.t), (80.0, 0.002));
    }
}
