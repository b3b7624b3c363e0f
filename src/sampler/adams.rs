//! PNDM: DDIM with the noise that Adams and Bashforth's even steps make of the latest four.

use super::{
    Combination, Error, Knot, Level, MAX_HISTORY, MAX_STEPS, Process, Row, Setup, Table,
    ddim::{stride_above, stride_below},
};

/// As many estimates as can be kept, and this one.
const ORDER: u8 = MAX_HISTORY as u8 + 1;

/// Below this diffusers takes the state for pure noise, and the data for 0.
const LEAST_ALPHA: f64 = 1e-8;

/// iPNDM: Zhang and Chen 2022, arXiv 2204.13902, on any process, the first steps of lower order.
pub(super) fn improved_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(|process| process != Process::RectifiedFlow, "noise levels, timesteps or angles")?;
    let order = usize::from(setup.options.order.unwrap_or(ORDER));
    let table = setup.numbered_intervals(|i, at, _| {
        let [from, to] = setup.levels(i);
        let step = Step::new(from, to);
        let [newest, older @ ..] = weights(order.min(i + 1)).map(|weight| weight * step.noise);
        let keep = Combination { x: 1.0 / from.sigma, y: -from.alpha / from.sigma };
        let update = Combination { x: step.state + newest * keep.x, y: newest * keep.y };
        Row { keep, earlier: older, ..setup.row(setup.here(at), at, update) }
    });
    Ok(setup.scaled_start(table))
}

/// Liu et al. 2022, arXiv 2202.09778, without Runge and Kutta's steps at the start: the first step is taken twice, the second
/// time with the mean of what the network says at both of its ends. What is kept is what the network returned.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(|process| matches!(process, Process::Preserving { .. }), "timesteps")?;
    if setup.options.clamp.is_some() {
        return Err(setup.unsupported("a clamp", "none, for it knows no clean sample"));
    }
    let evaluations = if setup.steps() == 1 { 1 } else { setup.steps() + 1 };
    if evaluations > MAX_STEPS {
        return Err(Error::TooManyEvaluations { evaluations });
    }
    let rows = (0..evaluations).map(|evaluation| match evaluation {
        0 => setup.pseudo(0, 1),
        1 => setup.again(),
        _ => setup.pseudo(evaluation - 1, evaluation),
    });
    Ok(setup.table(rows.collect()))
}

impl Setup<'_> {
    /// Step `i`, with so many of the latest outputs.
    fn pseudo(&self, i: usize, count: usize) -> Row {
        let at = self.knots[i];
        let whole = self.of_output(at, stride_below(self, i));
        let [newest, older @ ..] = weights(count).map(|weight| weight * whole.y);
        Row { earlier: older, ..self.output_row(at, Combination { x: whole.x, y: newest }) }
    }

    /// The first step once more, after an evaluation where it arrived. Its start is what that state would be without the
    /// first output.
    fn again(&self) -> Row {
        let (start, arrived) = (self.knots[0], self.knots[1]);
        let first = self.of_output(start, stride_below(self, 0));
        // diffusers counts a whole stride back from the second timestep.
        let second = self.of_output(stride_above(self, 1), arrived.level);
        let kept = second.x / first.x;
        let half = 0.5 * second.y;
        let row = self.output_row(arrived, Combination { x: kept, y: half });
        Row { keep: Combination::NOTHING, earlier: [half - kept * first.y, 0.0, 0.0], ..row }
    }

    /// A step from the state and what the network returned.
    fn of_output(&self, at: Knot, to: Level) -> Combination {
        let (step, noise) = (Step::new(at.level, to), self.parameterisation.noise(at));
        Combination { x: step.state + step.noise * noise.x, y: step.noise * noise.y }
    }

    fn output_row(&self, at: Knot, update: Combination) -> Row {
        let clean = self.parameterisation.clean(at);
        Row { estimate: Combination::OTHER, clean, ..self.row(self.here(at), at, update) }
    }
}

/// DDIM's `x' = state * x + noise * epsilon`.
struct Step {
    state: f64,
    noise: f64,
}

impl Step {
    fn new(from: Level, to: Level) -> Step {
        let state = if from.alpha < LEAST_ALPHA { 0.0 } else { to.alpha / from.alpha };
        Step { state, noise: to.sigma - state * from.sigma }
    }
}

/// Of the latest estimate and those before it.
fn weights(count: usize) -> [f64; ORDER as usize] {
    let (divisor, weights) = match count {
        1 => (1.0, [1.0, 0.0, 0.0, 0.0]),
        2 => (2.0, [3.0, -1.0, 0.0, 0.0]),
        3 => (12.0, [23.0, -16.0, 5.0, 0.0]),
        _ => (24.0, [55.0, -59.0, 37.0, -9.0]),
    };
    weights.map(|weight| weight / divisor)
}

#[cfg(test)]
mod tests {
    use super::super::*;

    const NETWORK: Parameterisation = Parameterisation {
        process: Process::Preserving { betas: Betas::COSINE },
        prediction: Prediction::V,
        time: Time::Linear { scale: 1.0 },
    };

    #[test]
    fn the_first_step_twice_is_one_evaluation_more() {
        let plms = |steps| find("plms").unwrap().table(&NETWORK, &Grid::steps(steps), &Options::default());
        assert_eq!(plms(63).unwrap().rows.len(), 64);
        assert_eq!(plms(64), Err(Error::TooManyEvaluations { evaluations: 65 }));
    }

    #[test]
    fn a_rule_for_outputs_has_no_clamp() {
        let options = Options { clamp: Some(1.0), ..Options::default() };
        let refused = find("plms").unwrap().table(&NETWORK, &Grid::steps(3), &options);
        assert!(matches!(refused, Err(Error::Unsupported { what: "a clamp", .. })));
    }
}
