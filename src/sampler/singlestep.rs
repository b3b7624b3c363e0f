//! DPM-Solver and DPM-Solver++ as singlestep rules: blocks of as many intervals as their order, each with an evaluation at
//! its start, and every state of a block anew from the first one.

use super::{
    Error, Level, Setup, Table,
    exponential::{Integrand, Step, exact, midway, weights},
};

/// Lu et al. 2022, arXiv 2211.01095, algorithm 1, on the intervals of the grid.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    blocks(setup, Integrand::Data)
}

/// Lu et al. 2022, arXiv 2206.00927, algorithms 1 and 2.
pub(super) fn noise_table(setup: &Setup<'_>) -> Result<Table, Error> {
    blocks(setup, Integrand::Noise)
}

/// Nothing keeps the first state of a block: a row takes away what the one before it had added.
fn blocks(setup: &Setup<'_>, integrand: Integrand) -> Result<Table, Error> {
    setup.require_for(integrand)?;
    // Blocks are those of the whole grid, of which a run may leave out the first steps.
    let skipped = setup.planned - setup.steps();
    Ok(setup.after_pure_noise(|setup| {
        setup.integrate(integrand, |i| {
            let order = ((skipped + i) % usize::from(setup.order) + 1).min(i + 1);
            let leap = Leap::new(setup, integrand, i, order);
            let mut weights = [leap.newest, 0.0, 0.0, 0.0];
            if order == 1 {
                return (leap.keep, weights);
            }
            let before = Leap::new(setup, integrand, i - 1, order - 1);
            let kept = leap.keep / before.keep;
            weights[1] -= kept * before.newest;
            weights[order - 1] += leap.first - kept * before.first;
            (kept, weights)
        })
    }))
}

/// From the start of a block to the end of interval `i`, with the estimates at the start and at the start of that interval.
/// A block of three leaves out the one between.
struct Leap {
    keep: f64,
    first: f64,
    newest: f64,
}

impl Leap {
    fn new(setup: &Setup<'_>, integrand: Integrand, i: usize, order: usize) -> Leap {
        let [newest, to] = setup.ends(i);
        let [from, _] = setup.ends(i + 1 - order);
        let step = Step::new(integrand, [from, to], 0.0);
        let [from, newest, to] = [from, newest, to].map(Level::ratio);
        let [first, newest, ..] = match order {
            1 => [0.0, 1.0, 0.0, 0.0],
            _ => {
                let node = libm::log(from / newest) / libm::log(from / to);
                weights(&[0.0, node], step.z, if order == 2 { midway } else { exact })
            }
        };
        Leap { keep: step.keep, first: step.gain * first, newest: step.gain * newest }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::*;
    use std::vec::Vec;

    /// diffusers' `order_list` of six steps is 1, 2, 3, 1, 2, 1, and the order is no higher than the estimates there are.
    #[test]
    fn blocks_are_those_of_the_whole_grid() {
        let network = Parameterisation {
            process: Process::Exploding { sigma_min: 0.002, sigma_max: 80.0 },
            prediction: Prediction::Edm { sigma_data: 0.5 },
            time: Time::Log { scale: 0.25 },
        };
        for (strength, expected) in
            [(1.0, &[0, 1, 2, 0, 1, 0][..]), (0.9, &[0, 1, 0, 1, 0]), (0.7, &[0, 0, 1, 0])]
        {
            let options = Options { order: Some(3), strength, ..Options::default() };
            let table = find("dpmpp-2s").unwrap().table(&network, &Grid::steps(6), &options).unwrap();
            let looks_back: Vec<usize> = table.rows.iter().map(Row::looks_back).collect();
            assert_eq!(looks_back, expected, "{strength}");
        }
    }
}
