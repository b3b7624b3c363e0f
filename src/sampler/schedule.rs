//! Time grids: which moments a run visits.

use core::cmp::Ordering;

use super::{
    Error, Knot, MAX_STEPS, Process, perflow::WINDOWS, positive, process::QUARTER_TURN, process::TIMESTEPS,
};

/// The exponent that EDM and the consistency models use.
const KARRAS_RHO: f64 = 7.0;

/// The two steps that SANA-Sprint was made for, as diffusers' `SCMScheduler` takes them.
const TWO_ANGLES: [f64; 3] = [QUARTER_TURN, 1.3, 0.0];

/// Which moments a run visits, from noise to data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid<'a> {
    pub curve: Curve<'a>,
    /// How many intervals; a list of times or points has its own number.
    pub steps: usize,
    /// `shift * t / (1 + (shift - 1) * t)` for a rectified flow's `t`: more steps near the noise if it is above 1, for
    /// samples of more dimensions (Esser et al. 2024, arXiv 2403.03206, equation 23). `exp(mu)` for dynamic shifting.
    pub shift: f64,
    /// Stretch a rectified flow's times so that the last one before the data is this: LTX-Video's `shift_terminal`.
    pub terminal: Option<f64>,
    pub stop: Stop,
}

/// Where the times lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve<'a> {
    /// The process's usual curve: Karras with rho 7 for a noise level, uniform for a rectified flow and for angles
    /// (whose two steps meet at 1.3), trailing for timesteps.
    Usual,
    /// Evenly spaced.
    Uniform,
    /// Evenly spaced in `sigma^(1/rho)`.
    Karras { rho: f64 },
    /// Some points of a Karras grid with `points` points, 0 the noisiest: the `ts` of consistency models.
    KarrasPoints { indices: &'a [usize], points: usize, rho: f64 },
    /// As many points of a Karras grid as steps, both ends included, and then the data: EDM and its solvers.
    KarrasPadded { rho: f64 },
    /// Timesteps from 0 up in whole strides, plus an offset.
    Leading { offset: u8 },
    /// Timesteps from 999 down, rounded.
    Trailing,
    /// Timesteps from 999 to 0, both included, not rounded.
    Linspace,
    /// Every so many of as many timesteps as were distilled: LCM and TCD, 50.
    Origin { points: usize },
    /// PeRFlow: steps in each of four windows of a rectified flow, in whole thousandths; more of them in the first.
    Windows,
    /// A list that falls from noise to data and ends there: at 0, or at `sigma_min`. Timesteps
    /// may end with -1 as well, so that 0 can be one of them.
    Times(&'a [f64]),
}

/// What the last step of a solver goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    #[default]
    Data,
    /// The smallest level of noise of the training: timestep 0, `sigma_min`.
    SigmaMin,
}

impl<'a> Grid<'a> {
    /// So many steps along a curve.
    pub const fn new(curve: Curve<'a>, steps: usize) -> Grid<'a> {
        Grid { curve, steps, shift: 1.0, terminal: None, stop: Stop::Data }
    }

    /// So many steps on the process's usual curve.
    pub const fn steps(steps: usize) -> Grid<'a> {
        Grid::new(Curve::Usual, steps)
    }

    /// [`Curve::Times`].
    pub const fn times(times: &'a [f64]) -> Grid<'a> {
        Grid::new(Curve::Times(times), times.len().saturating_sub(1))
    }

    /// [`Curve::KarrasPoints`].
    pub const fn karras_points(indices: &'a [usize], points: usize, rho: f64) -> Grid<'a> {
        Grid::new(Curve::KarrasPoints { indices, points, rho }, indices.len().saturating_sub(1))
    }
}

/// `position` of the way from `start` to `end` along the curve of Karras et al. 2022, equation 5.
pub fn karras(position: f64, start: f64, end: f64, rho: f64) -> f64 {
    let (high, low) = (libm::pow(start, 1.0 / rho), libm::pow(end, 1.0 / rho));
    libm::pow(high + position * (low - high), rho)
}

/// Moments of a whole run: one more than its steps.
pub(super) type Knots = heapless::Vec<Knot, { MAX_STEPS + 1 }>;

type Times = heapless::Vec<f64, { MAX_STEPS + 1 }>;

impl Grid<'_> {
    pub(super) fn knots(&self, process: Process) -> Result<Knots, Error> {
        let times = self.curve.times(self.steps, process)?;
        Ok(times.iter().map(|&t| process.knot(t)).collect())
    }
}

impl Curve<'_> {
    fn times(self, steps: usize, process: Process) -> Result<Times, Error> {
        let (start, end) = (process.start(), process.end());
        self.check(steps, process)?;
        match self {
            Curve::Usual => match process {
                Process::Exploding { .. } => Curve::Karras { rho: KARRAS_RHO }.times(steps, process),
                Process::Trigonometric { .. } if steps == 2 => {
                    Curve::Times(&TWO_ANGLES).times(steps, process)
                }
                Process::RectifiedFlow | Process::Trigonometric { .. } => {
                    Curve::Uniform.times(steps, process)
                }
                Process::Preserving { .. } => Curve::Trailing.times(steps, process),
            },
            Curve::Uniform => {
                let time = |i| start + i as f64 / steps as f64 * (end - start);
                collect(steps, time, start, end)
            }
            Curve::Karras { rho } => {
                positive("rho", rho)?;
                collect(steps, |i| karras(i as f64 / steps as f64, start, end, rho), start, end)
            }
            Curve::KarrasPoints { indices, points, rho } => {
                positive("rho", rho)?;
                if let Some(&index) = indices.iter().find(|&&index| index >= points) {
                    return Err(Error::OutsideGrid { index, points });
                }
                // At least 1: a grid of one point is refused below, for it has no interval.
                let last = points.saturating_sub(1).max(1);
                let time = |i: usize| karras(indices[i] as f64 / last as f64, start, end, rho);
                collect(indices.len().saturating_sub(1), time, start, end)
            }
            Curve::KarrasPadded { rho } => {
                positive("rho", rho)?;
                let last = steps.saturating_sub(1).max(1);
                let time = |i| if i == steps { 0.0 } else { karras(i as f64 / last as f64, start, end, rho) };
                collect(steps, time, start, end)
            }
            Curve::Leading { .. } | Curve::Trailing | Curve::Linspace | Curve::Origin { .. } => {
                collect(steps, |i| if i == steps { end } else { self.timestep(i, steps) }, start, end)
            }
            Curve::Windows => collect(steps, |i| windowed(i, steps), start, end),
            Curve::Times(list) => {
                if let Some((index, &value)) =
                    list.iter().enumerate().find(|(_, t)| !(t.is_finite() && **t >= end.min(0.0)))
                {
                    return Err(Error::BadTime { index, value });
                }
                collect(list.len().saturating_sub(1), |i| list[i], start, end)
            }
        }
    }

    /// Refuses a curve that is made for another kind of time.
    fn check(self, steps: usize, process: Process) -> Result<(), Error> {
        let timesteps = matches!(process, Process::Preserving { .. });
        let noise_levels = matches!(process, Process::Exploding { .. });
        let (fits, accepts) = match self {
            Curve::Usual | Curve::Times(_) => return Ok(()),
            Curve::Origin { points } if timesteps && (steps > points || points > TIMESTEPS) => {
                return Err(Error::OutsideGrid { index: steps, points });
            }
            Curve::Leading { .. } | Curve::Trailing | Curve::Linspace | Curve::Origin { .. } => {
                (timesteps, "a process of 1000 timesteps")
            }
            Curve::Windows => (process == Process::RectifiedFlow, "a rectified flow"),
            Curve::Uniform | Curve::Karras { .. } | Curve::KarrasPoints { .. } => {
                (!timesteps, "leading, trailing, linspace or origin")
            }
            Curve::KarrasPadded { .. } => (noise_levels, "another one: it is made for noise levels"),
        };
        if fits { Ok(()) } else { Err(Error::BadGrid { what: process.what(), accepts }) }
    }

    /// Timestep number `i` of `steps`, the noisiest first. Rounds half to even, as NumPy does.
    fn timestep(self, i: usize, steps: usize) -> f64 {
        let (all, n, ascending) = (TIMESTEPS as f64, steps as f64, (steps - 1 - i.min(steps - 1)) as f64);
        match self {
            Curve::Leading { offset } => ascending * (TIMESTEPS / steps) as f64 + f64::from(offset),
            Curve::Linspace if steps == 1 => 0.0,
            Curve::Linspace => ascending * ((all - 1.0) / (n - 1.0)),
            Curve::Origin { points } => {
                let skipped = libm::floor(i as f64 * (points as f64 / n));
                (points as f64 - skipped) * (TIMESTEPS / points) as f64 - 1.0
            }
            _ => libm::rint(all - i as f64 * (all / n)) - 1.0,
        }
    }
}

/// Time number `i` of `steps` that are shared out among the windows.
fn windowed(mut i: usize, steps: usize) -> f64 {
    for window in 0..WINDOWS {
        let count = steps / WINDOWS + usize::from(window < steps % WINDOWS);
        if i < count {
            let start = (WINDOWS - window) as f64 / WINDOWS as f64;
            let time = start - i as f64 * (1.0 / WINDOWS as f64 / count as f64);
            return libm::floor(time * 1000.0) / 1000.0;
        }
        i -= count;
    }
    0.0
}

/// The times of `steps` steps, checked, their ends exact.
fn collect(steps: usize, time: impl Fn(usize) -> f64, start: f64, end: f64) -> Result<Times, Error> {
    if steps == 0 {
        return Err(Error::NoSteps);
    }
    if steps > MAX_STEPS {
        return Err(Error::TooManySteps { steps });
    }
    let mut times: Times = (0..=steps).map(time).collect();
    // Rounding in `pow` must not push the ends off; a noise level of 0 stands for sigma_min.
    let near = |value: f64, exact: f64| (value - exact).abs() <= 1e-9 * exact.abs();
    if near(times[0], start) {
        times[0] = start;
    }
    let last = times[steps];
    if last > end.max(0.0) && !near(last, end) {
        return Err(Error::Unfinished { last, end: end.max(0.0) });
    }
    // A list of noise levels may visit sigma_min itself, and then what is below it.
    let visited = last == 0.0 && end > 0.0 && near(times[steps - 1], end);
    times[steps] = if visited { 0.0 } else { end };
    if times[0] > start {
        return Err(Error::AboveStart { first: times[0], start });
    }
    // Also catches a NaN, from an exponent that overflows.
    match times.windows(2).position(|pair| pair[0].partial_cmp(&pair[1]) != Some(Ordering::Greater)) {
        Some(index) => Err(Error::NotFalling { index, value: times[index], next: times[index + 1] }),
        None => Ok(times),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{string::ToString, vec, vec::Vec};

    const EDM: Process = Process::Exploding { sigma_min: 0.002, sigma_max: 80.0 };
    const FLOW: Process = Process::RectifiedFlow;

    fn times(grid: Grid<'_>, process: Process) -> Vec<f64> {
        grid.knots(process).unwrap().iter().map(|knot| knot.t).collect()
    }

    fn assert_near(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= tolerance * expected.abs(), "{found} {expected}");
        }
    }

    /// EDM algorithm 1: sigma_i = (smax^(1/rho) + i/(N-1) * (smin^(1/rho) - smax^(1/rho)))^rho.
    #[test]
    fn karras_is_the_formula_of_edm() {
        let steps = 17;
        let (high, low) = (80f64.powf(1.0 / 7.0), 0.002f64.powf(1.0 / 7.0));
        let expected: Vec<f64> =
            (0..=steps).map(|i| (high + i as f64 / steps as f64 * (low - high)).powf(7.0)).collect();
        let times = times(Grid::steps(steps), EDM);
        assert_near(&times, &expected, 1e-12);
        assert_eq!((times[0], times[steps]), (80.0, 0.002));
    }

    /// Published `ts` of consistency distillation on ImageNet 64 (0,22,39 of 40), whose middle is about 1.382.
    #[test]
    fn points_are_those_of_the_consistency_models() {
        let grid = Grid::karras_points(&[0, 22, 39], 40, 7.0);
        let times = times(grid, EDM);
        assert_near(&times, &[80.0, 1.382, 0.002], 1e-3);
    }

    #[test]
    fn a_flow_falls_evenly_from_1_to_0() {
        assert_eq!(times(Grid::steps(4), FLOW)[..], [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(times(Grid::steps(1), FLOW)[..], [1.0, 0.0]);
    }

    #[test]
    fn a_list_may_start_late_and_may_write_0_for_sigma_min() {
        assert_eq!(times(Grid::times(&[40.0, 0.821, 0.0]), EDM)[..], [40.0, 0.821, 0.002]);
        assert_eq!(times(Grid::times(&[0.999, 0.833, 0.0]), FLOW)[..], [0.999, 0.833, 0.0]);
    }

    #[test]
    fn grids_that_lead_nowhere_are_errors() {
        let too_long: Vec<f64> = (0..=MAX_STEPS + 1).map(|i| 1.0 - i as f64 / 65.0).collect();
        for (grid, process, expected) in [
            (Grid::steps(0), EDM, "0 steps"),
            (Grid::steps(65), FLOW, "65 steps are too many: ask for 1 to 64"),
            (Grid::new(Curve::Karras { rho: -7.0 }, 2), EDM, "rho is -7"),
            (Grid::karras_points(&[0, 40], 40, 7.0), EDM, "use 0 to 39"),
            (Grid::karras_points(&[0], 1, 7.0), EDM, "0 steps"),
            (Grid::karras_points(&[], 0, 7.0), EDM, "0 steps"),
            (Grid::karras_points(&[0, 22], 40, 7.0), EDM, "end the list with 0.002"),
            (Grid::times(&[]), FLOW, "0 steps"),
            (Grid::times(&[1.0]), FLOW, "0 steps"),
            (Grid::times(&too_long), FLOW, "65 steps are too many"),
            (Grid::times(&[1.0, f64::NAN, 0.0]), FLOW, "times[1] is NaN"),
            (Grid::times(&[1.0, 0.5, -0.1]), FLOW, "times[2] is -0.1"),
            (Grid::times(&[1.0, 0.5, 0.5, 0.0]), FLOW, "times[1] = 0.5 is not above the 0.5"),
            (Grid::times(&[0.0, 0.0]), FLOW, "times[0] = 0"),
            (Grid::times(&[80.0, 0.001, 0.0]), EDM, "times[1] = 0.001"),
            (Grid::new(Curve::Karras { rho: 1e-300 }, 3), EDM, "times must fall"),
            (Grid::times(&[1.0, 0.5]), FLOW, "end the list with 0"),
            (Grid::times(&[81.0, 0.0]), EDM, "start at 80 or below"),
        ] {
            let error = grid.knots(process).unwrap_err().to_string();
            assert!(error.contains(expected), "{grid:?}: {error}");
        }
    }

    #[test]
    fn a_long_list_of_steps_fits_exactly() {
        assert_eq!(times(Grid::steps(MAX_STEPS), EDM).len(), MAX_STEPS + 1);
        let list: Vec<f64> = vec![1.0, 0.0];
        assert_eq!(times(Grid::times(&list), FLOW).len(), 2);
    }
}
