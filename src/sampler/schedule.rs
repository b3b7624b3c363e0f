//! Time grids: which times a run visits.

use core::cmp::Ordering;

use super::{
    Error, MAX_STEPS, Process, perflow::WINDOWS, positive, process::QUARTER_TURN, process::TIMESTEPS,
};

/// The exponent that EDM and the consistency models use.
const KARRAS_RHO: f64 = 7.0;

/// The two steps that SANA-Sprint was made for, as diffusers' `SCMScheduler` takes them.
const TWO_ANGLES: [f64; 3] = [QUARTER_TURN, 1.3, 0.0];

/// Which times a run visits, from noise to data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Grid<'a> {
    /// So many steps on the process's usual grid: Karras with rho 7 for a noise level, uniform for a rectified flow and
    /// for angles (whose two steps meet at 1.3), trailing for timesteps.
    Steps(usize),
    /// Evenly spaced.
    Uniform { steps: usize },
    /// Evenly spaced in `sigma^(1/rho)`.
    Karras { steps: usize, rho: f64 },
    /// Some points of a Karras grid with `points` points, 0 the noisiest: the `ts` of consistency models.
    KarrasPoints { indices: &'a [usize], points: usize, rho: f64 },
    /// As many points of a Karras grid as steps, both ends included, and then the data: EDM and its solvers.
    KarrasPadded { steps: usize, rho: f64 },
    /// Timesteps of a variance-preserving process, chosen as diffusers does.
    Spaced { steps: usize, spacing: Spacing },
    /// PeRFlow: steps in each of four windows of a rectified flow, in whole thousandths; more of them in the first.
    Windows { steps: usize },
    /// A list that falls from noise to data and ends there: at 0, or at `sigma_min`. Timesteps
    /// may end with -1 as well, so that 0 can be one of them.
    Times(&'a [f64]),
}

/// Where the timesteps of a run lie among all 1000.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spacing {
    /// From 0 up in whole strides, plus an offset.
    Leading { offset: u8 },
    /// From 999 down, rounded.
    Trailing,
    /// From 999 to 0, both included, not rounded.
    Linspace,
    /// Every so many of as many timesteps as were distilled: LCM and TCD, 50.
    Origin { points: usize },
}

/// `position` of the way from `start` to `end` along the curve of Karras et al. 2022, equation 5.
pub fn karras(position: f64, start: f64, end: f64, rho: f64) -> f64 {
    let (high, low) = (libm::pow(start, 1.0 / rho), libm::pow(end, 1.0 / rho));
    libm::pow(high + position * (low - high), rho)
}

/// Times of a whole run: one more than its steps.
pub(super) type Times = heapless::Vec<f64, { MAX_STEPS + 1 }>;

impl Grid<'_> {
    pub(super) fn times(&self, process: Process) -> Result<Times, Error> {
        let (start, end) = (process.start(), process.end());
        self.check(process)?;
        match *self {
            Grid::Steps(steps) => match process {
                Process::Exploding { .. } => Grid::Karras { steps, rho: KARRAS_RHO }.times(process),
                Process::Trigonometric { .. } if steps == 2 => Grid::Times(&TWO_ANGLES).times(process),
                Process::RectifiedFlow | Process::Trigonometric { .. } => {
                    Grid::Uniform { steps }.times(process)
                }
                Process::Preserving { .. } => {
                    Grid::Spaced { steps, spacing: Spacing::Trailing }.times(process)
                }
            },
            Grid::Uniform { steps } => {
                let time = |i| start + i as f64 / steps as f64 * (end - start);
                collect(steps, time, start, end)
            }
            Grid::Karras { steps, rho } => {
                positive("rho", rho)?;
                collect(steps, |i| karras(i as f64 / steps as f64, start, end, rho), start, end)
            }
            Grid::KarrasPoints { indices, points, rho } => {
                positive("rho", rho)?;
                if let Some(&index) = indices.iter().find(|&&index| index >= points) {
                    return Err(Error::OutsideGrid { index, points });
                }
                // At least 1: a grid of one point is refused below, for it has no interval.
                let last = points.saturating_sub(1).max(1);
                let time = |i: usize| karras(indices[i] as f64 / last as f64, start, end, rho);
                collect(indices.len().saturating_sub(1), time, start, end)
            }
            Grid::KarrasPadded { steps, rho } => {
                positive("rho", rho)?;
                let last = steps.saturating_sub(1).max(1);
                let time = |i| if i == steps { 0.0 } else { karras(i as f64 / last as f64, start, end, rho) };
                collect(steps, time, start, end)
            }
            Grid::Spaced { steps, spacing } => {
                spacing.check(steps)?;
                collect(steps, |i| if i == steps { end } else { spacing.timestep(i, steps) }, start, end)
            }
            Grid::Windows { steps } => collect(steps, |i| windowed(i, steps), start, end),
            Grid::Times(list) => {
                if let Some((index, &value)) =
                    list.iter().enumerate().find(|(_, t)| !(t.is_finite() && **t >= end.min(0.0)))
                {
                    return Err(Error::BadTime { index, value });
                }
                collect(list.len().saturating_sub(1), |i| list[i], start, end)
            }
        }
    }
}

impl Grid<'_> {
    /// Refuses a grid that is made for another kind of time.
    fn check(&self, process: Process) -> Result<(), Error> {
        let timesteps = matches!(process, Process::Preserving { .. });
        let noise_levels = matches!(process, Process::Exploding { .. });
        let (fits, accepts) = match self {
            Grid::Steps(_) | Grid::Times(_) => return Ok(()),
            Grid::Uniform { .. } => (!timesteps, "leading, trailing, linspace or origin"),
            Grid::Spaced { .. } => (timesteps, "a process of 1000 timesteps"),
            Grid::Windows { .. } => (process == Process::RectifiedFlow, "a rectified flow"),
            Grid::Karras { .. } | Grid::KarrasPoints { .. } => {
                (!timesteps, "leading, trailing, linspace or origin")
            }
            Grid::KarrasPadded { .. } => (noise_levels, "another one: it is made for noise levels"),
        };
        if fits { Ok(()) } else { Err(Error::BadGrid { what: process.what(), accepts }) }
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

impl Spacing {
    fn check(self, steps: usize) -> Result<(), Error> {
        match self {
            Spacing::Origin { points } if steps > points || points > TIMESTEPS => {
                Err(Error::OutsideGrid { index: steps, points })
            }
            _ => Ok(()),
        }
    }

    /// Timestep number `i` of `steps`, the noisiest first. Rounds half to even, as NumPy does.
    fn timestep(self, i: usize, steps: usize) -> f64 {
        let (all, n, ascending) = (TIMESTEPS as f64, steps as f64, (steps - 1 - i.min(steps - 1)) as f64);
        match self {
            Spacing::Leading { offset } => ascending * (TIMESTEPS / steps) as f64 + f64::from(offset),
            Spacing::Trailing => libm::rint(all - i as f64 * (all / n)) - 1.0,
            Spacing::Linspace if steps == 1 => 0.0,
            Spacing::Linspace => ascending * ((all - 1.0) / (n - 1.0)),
            Spacing::Origin { points } => {
                let skipped = libm::floor(i as f64 * (points as f64 / n));
                (points as f64 - skipped) * (TIMESTEPS / points) as f64 - 1.0
            }
        }
    }
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
        let times = Grid::Steps(steps).times(EDM).unwrap();
        assert_near(&times, &expected, 1e-12);
        assert_eq!((times[0], times[steps]), (80.0, 0.002));
    }

    /// Published `ts` of consistency distillation on ImageNet 64 (0,22,39 of 40), whose middle is about 1.382.
    #[test]
    fn points_are_those_of_the_consistency_models() {
        let grid = Grid::KarrasPoints { indices: &[0, 22, 39], points: 40, rho: 7.0 };
        let times = grid.times(EDM).unwrap();
        assert_near(&times, &[80.0, 1.382, 0.002], 1e-3);
    }

    #[test]
    fn a_flow_falls_evenly_from_1_to_0() {
        assert_eq!(Grid::Steps(4).times(FLOW).unwrap()[..], [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(Grid::Steps(1).times(FLOW).unwrap()[..], [1.0, 0.0]);
    }

    #[test]
    fn a_list_may_start_late_and_may_write_0_for_sigma_min() {
        assert_eq!(Grid::Times(&[40.0, 0.821, 0.0]).times(EDM).unwrap()[..], [40.0, 0.821, 0.002]);
        assert_eq!(Grid::Times(&[0.999, 0.833, 0.0]).times(FLOW).unwrap()[..], [0.999, 0.833, 0.0]);
    }

    #[test]
    fn grids_that_lead_nowhere_are_errors() {
        let too_long: Vec<f64> = (0..=MAX_STEPS + 1).map(|i| 1.0 - i as f64 / 65.0).collect();
        for (grid, process, expected) in [
            (Grid::Steps(0), EDM, "0 steps"),
            (Grid::Steps(65), FLOW, "65 steps are too many: ask for 1 to 64"),
            (Grid::Karras { steps: 2, rho: -7.0 }, EDM, "rho is -7"),
            (Grid::KarrasPoints { indices: &[0, 40], points: 40, rho: 7.0 }, EDM, "use 0 to 39"),
            (Grid::KarrasPoints { indices: &[0], points: 1, rho: 7.0 }, EDM, "0 steps"),
            (Grid::KarrasPoints { indices: &[], points: 0, rho: 7.0 }, EDM, "0 steps"),
            (Grid::KarrasPoints { indices: &[0, 22], points: 40, rho: 7.0 }, EDM, "end the list with 0.002"),
            (Grid::Times(&[]), FLOW, "0 steps"),
            (Grid::Times(&[1.0]), FLOW, "0 steps"),
            (Grid::Times(&too_long), FLOW, "65 steps are too many"),
            (Grid::Times(&[1.0, f64::NAN, 0.0]), FLOW, "times[1] is NaN"),
            (Grid::Times(&[1.0, 0.5, -0.1]), FLOW, "times[2] is -0.1"),
            (Grid::Times(&[1.0, 0.5, 0.5, 0.0]), FLOW, "times[1] = 0.5 is not above the 0.5"),
            (Grid::Times(&[0.0, 0.0]), FLOW, "times[0] = 0"),
            (Grid::Times(&[80.0, 0.001, 0.0]), EDM, "times[1] = 0.001"),
            (Grid::Karras { steps: 3, rho: 1e-300 }, EDM, "times must fall"),
            (Grid::Times(&[1.0, 0.5]), FLOW, "end the list with 0"),
            (Grid::Times(&[81.0, 0.0]), EDM, "start at 80 or below"),
        ] {
            let error = grid.times(process).unwrap_err().to_string();
            assert!(error.contains(expected), "{grid:?}: {error}");
        }
    }

    #[test]
    fn a_long_list_of_steps_fits_exactly() {
        assert_eq!(Grid::Steps(MAX_STEPS).times(EDM).unwrap().len(), MAX_STEPS + 1);
        let list: Vec<f64> = vec![1.0, 0.0];
        assert_eq!(Grid::Times(&list).times(FLOW).unwrap().len(), 2);
    }
}
