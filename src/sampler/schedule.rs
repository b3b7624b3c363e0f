//! Time grids: which moments a run visits.

use core::cmp::Ordering;

use rkyv::{Archive, Deserialize, Serialize, with::Skip};

use super::{
    Error, Knot, MAX_STEPS, Process,
    curves::{Aligned, Spread, shifted},
    positive,
    process::TIMESTEPS,
};

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
    pub rounding: Option<Rounding>,
}

/// Where the times lie. Archived, the lists that are borrowed are empty.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub enum Curve<'a> {
    /// The process's usual curve: Karras with rho 7 for a noise level, uniform for a rectified flow and for angles
    /// (whose two steps meet at 1.3), trailing for timesteps, and from 1 to 0.03 evenly where noise reverts to a mean.
    Usual,
    /// Evenly spaced.
    Uniform,
    /// Noise levels evenly spaced in `sigma^(1/rho)`, of which the last counts as data.
    Karras { rho: f64 },
    /// Some points of a Karras grid with `points` points, 0 the noisiest: the `ts` of consistency models.
    KarrasPoints {
        #[rkyv(with = Skip)]
        indices: &'a [usize],
        points: usize,
        rho: f64,
    },
    /// The points of such a grid at whole strides of `points / steps`, and then its end: how diffusers runs consistency models.
    KarrasStrides { points: usize, rho: f64 },
    /// As many noise levels as steps and then the data: EDM and its solvers. On timesteps a level is `sigma / alpha`, on a
    /// rectified flow the time.
    Levels { spread: Spread, within: Within },
    /// Noise levels or timesteps that were optimised for a network.
    Aligned(Aligned),
    /// Timesteps from 0 up in whole strides, plus an offset.
    Leading { offset: u8 },
    /// The same for one step more, without the lowest: the leading spacing of diffusers' multistep solvers.
    LeadingOpen { offset: u8 },
    /// Timesteps from 999 down, rounded.
    Trailing,
    /// Timesteps from 999 to 0, both included. A rectified flow's times end with the first timestep, which is
    /// shifted twice: diffusers' `FlowMatchEulerDiscreteScheduler` when it is given no times.
    Linspace,
    /// The same for one step more, without the last, of whole timesteps: diffusers' multistep solvers. A rectified flow's
    /// first timestep is not shifted twice here.
    LinspaceOpen,
    /// The same between timesteps, with levels that are even in `ln(sigma)` there. A rectified flow's first timestep is
    /// shifted twice. Stability AI's generative-models, as ComfyUI has it.
    SgmUniform,
    /// Even whole timesteps from the last one down, those between two rounded up: ComfyUI's `simple_scheduler`.
    Simple,
    /// Every so many of as many timesteps as were distilled: LCM and TCD, 50.
    Origin { points: usize },
    /// PeRFlow: steps in each of four windows of a rectified flow, in whole thousandths; more of them in the first.
    Windows,
    /// A rectified flow's times, even but for the last step, which is half as long: pi-Flow.
    HalfLast,
    /// A rectified flow's times, even from 0.999: `use_flow_sigmas` of diffusers' DPM-Solver.
    FlowSigmas,
    /// A rectified flow's times, first even and short and then along a parabola: Mochi 1, Movie Gen (Polyak et al. 2024,
    /// arXiv 2410.13720).
    LinearQuadratic,
    /// Even times of a rectified flow, moved by `coefficient`, -1 to 1: F5-TTS (Chen et al. 2024, arXiv 2410.06885, equation 5).
    Sway { coefficient: f64 },
    /// A list that falls from noise to data and ends there: at 0, or at `sigma_min`. Timesteps
    /// may end with -1 as well, so that 0 can be one of them.
    Times(#[rkyv(with = Skip)] &'a [f64]),
    /// A list of `sigma / alpha` on timesteps that falls to 0: diffusers' `sigmas`.
    Sigmas(#[rkyv(with = Skip)] &'a [f64]),
}

/// The ends of [`Curve::Levels`] on timesteps: all of the training, or the ends of a spacing of as many steps.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Within {
    #[default]
    All,
    Linspace,
    Leading {
        offset: u8,
    },
    Trailing,
}

/// What the last step of a solver goes to.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    #[default]
    Data,
    /// The smallest level of noise of the training: timestep 0, `sigma_min`, or the last time of a rectified flow's list.
    SigmaMin,
}

/// What the network is told of a moment between two timesteps, in place of the moment. Curves over timesteps meet
/// the noise of that timestep, curves over noise levels and rectified flows their own.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    Nearest,
    Down,
}

impl<'a> Grid<'a> {
    /// So many steps along a curve.
    pub const fn new(curve: Curve<'a>, steps: usize) -> Grid<'a> {
        Grid { curve, steps, shift: 1.0, terminal: None, stop: Stop::Data, rounding: None }
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

/// Moments of a whole run: one more than its steps.
pub(super) type Knots = heapless::Vec<Knot, { MAX_STEPS + 1 }>;

type Times = heapless::Vec<f64, { MAX_STEPS + 1 }>;

impl Grid<'_> {
    pub(super) fn knots(&self, process: Process) -> Result<Knots, Error> {
        positive("shift", self.shift)?;
        let listed = match self.curve {
            Curve::KarrasPoints { indices, .. } => indices.len().saturating_sub(1),
            Curve::Times(list) | Curve::Sigmas(list) => list.len().saturating_sub(1),
            _ => self.steps,
        };
        self.curve.check(listed, process)?;
        match listed {
            0 => Err(Error::NoSteps),
            1..=MAX_STEPS => self.moments(listed, process),
            steps => Err(Error::TooManySteps { steps }),
        }
    }

    fn moments(&self, steps: usize, process: Process) -> Result<Knots, Error> {
        match self.curve {
            Curve::Levels { spread, within } => {
                let ends = self.ends(within, steps, process)?;
                levels(steps, |i| spread.level(i, steps, ends), process)
            }
            Curve::Aligned(Aligned::StableVideoDiffusion) => {
                let table = aligned(Aligned::StableVideoDiffusion, process.end(), |sigma| sigma);
                levels(steps, |i| Aligned::level(&table, i, steps), process)
            }
            Curve::Aligned(network) => {
                let ratio = |t| process.level(t).ratio();
                let table = aligned(network, ratio(0.0), ratio);
                levels(steps, |i| Aligned::level(&table, i, steps), process)
            }
            Curve::Sigmas(list) => match list[steps] {
                0.0 => levels(steps, |i| list[i], process),
                last => Err(Error::Unfinished { last, end: 0.0 }),
            },
            _ => return self.times_of(steps, process),
        }
        .map(|knots| knots.into_iter().map(|knot| self.told(knot, process)).collect())
    }

    fn times_of(&self, steps: usize, process: Process) -> Result<Knots, Error> {
        let (start, end) = match self.curve {
            Curve::Times(list) if self.stop == Stop::SigmaMin && process == Process::RectifiedFlow => {
                (process.start(), list[steps])
            }
            _ => (process.start(), process.end()),
        };
        let mut times = checked(steps, |i| self.curve.time(i, steps, self.shift, process), start, end)?;
        if process == Process::RectifiedFlow && !matches!(self.curve, Curve::Times(_)) {
            times.iter_mut().for_each(|t| *t = shifted(*t, self.shift));
            self.stretch(&mut times)?;
        }
        let knot = |t| match (self.curve, process, self.rounding) {
            (Curve::Times(_), ..) => process.knot(t),
            (Curve::SgmUniform, Process::Preserving { betas }, None) => {
                Knot { t, level: betas.level_in_logs(t) }
            }
            (_, Process::Preserving { .. }, Some(rounding)) => process.knot(rounding.of(t)),
            _ => self.told(process.knot(t), process),
        };
        Ok(times.into_iter().map(knot).collect())
    }

    /// What the network is told of a moment at which it was not trained.
    pub(super) fn told(&self, knot: Knot, process: Process) -> Knot {
        let t = match (self.rounding, process) {
            (Some(rounding), Process::Preserving { .. }) => rounding.of(knot.t),
            (Some(rounding), Process::RectifiedFlow) => {
                rounding.of(knot.t * TIMESTEPS as f64) / TIMESTEPS as f64
            }
            _ => knot.t,
        };
        Knot { t, ..knot }
    }

    /// The largest and the smallest of as many noise levels as steps.
    fn ends(&self, within: Within, steps: usize, process: Process) -> Result<[f64; 2], Error> {
        let spacing = match within {
            Within::All if process != Process::RectifiedFlow => {
                let ratio = |t| process.level(t).ratio();
                return Ok([ratio(process.start()), ratio(process.end().max(0.0))]);
            }
            Within::All | Within::Linspace => Curve::Linspace,
            Within::Leading { offset } => Curve::Leading { offset },
            Within::Trailing => Curve::Trailing,
        };
        let base = Grid { curve: spacing, rounding: None, ..*self };
        let knots = base.knots(process)?;
        let measure = |knot: Knot| match process {
            Process::RectifiedFlow => knot.t,
            _ => knot.level.ratio(),
        };
        Ok([measure(knots[0]), measure(knots[steps - 1])])
    }

    fn stretch(&self, times: &mut Times) -> Result<(), Error> {
        let (Some(terminal), [_, .., last, _]) = (self.terminal, &times[..]) else { return Ok(()) };
        if !(terminal > 0.0 && terminal < 1.0) {
            return Err(Error::BadSetting { name: "terminal", value: terminal, must: "between 0 and 1" });
        }
        let (scale, steps) = ((1.0 - last) / (1.0 - terminal), times.len() - 1);
        times[..steps].iter_mut().for_each(|t| *t = 1.0 - (1.0 - *t) / scale);
        Ok(())
    }
}

impl Rounding {
    fn of(self, t: f64) -> f64 {
        match self {
            Rounding::Nearest => libm::rint(t),
            Rounding::Down => libm::floor(t),
        }
    }
}

/// Rounding in `pow` must not push an end off.
fn near(value: f64, exact: f64) -> bool {
    (value - exact).abs() <= 1e-9 * exact.abs()
}

/// The times of `steps` steps, checked, their ends exact.
fn checked(steps: usize, time: impl Fn(usize) -> f64, start: f64, end: f64) -> Result<Times, Error> {
    let mut times: Times = (0..=steps).map(time).collect();
    if near(times[0], start) {
        times[0] = start;
    }
    // A noise level of 0 stands for sigma_min.
    let last = times[steps];
    if last > end.max(0.0) && !near(last, end) {
        return Err(Error::Unfinished { last, end: end.max(0.0) });
    }
    // A list of noise levels may visit sigma_min itself, and then what is below it.
    let visited = last == 0.0 && end > 0.0 && near(times[steps - 1], end);
    times[steps] = if visited { 0.0 } else { end };
    falling(times.iter().copied(), start)?;
    Ok(times)
}

/// The moments at `steps` noise levels, and the data.
fn levels(steps: usize, level: impl Fn(usize) -> f64, process: Process) -> Result<Knots, Error> {
    let timesteps = matches!(process, Process::Preserving { .. });
    let measure = |knot: Knot| if timesteps { knot.level.ratio() } else { knot.t };
    let ends = [process.start(), process.end().max(0.0)].map(|t| process.knot(t));
    let knot = |i| {
        let level = level(i);
        let exact = ends.into_iter().find(|&end| near(level, measure(end)));
        exact.unwrap_or_else(|| if timesteps { process.knot_of_ratio(level) } else { process.knot(level) })
    };
    let mut knots: Knots = (0..steps).map(knot).collect();
    // There is room: a run has at most one step less.
    let _ = knots.push(process.knot(process.end().min(0.0)));
    let most = if timesteps { f64::INFINITY } else { process.start() };
    falling(knots.iter().map(|&knot| measure(knot)), most)?;
    Ok(knots)
}

/// The levels at the points of a table, and the smallest of the training.
fn aligned(network: Aligned, least: f64, level: impl Fn(f64) -> f64) -> [f64; 11] {
    let points = network.points();
    core::array::from_fn(|i| points.get(i).map_or(least, |&point| level(point)))
}

/// Refuses times that do not fall, or that start above what the network knows. A NaN does not fall.
fn falling(times: impl Iterator<Item = f64> + Clone, most: f64) -> Result<(), Error> {
    let mut pairs = times.clone().zip(times.clone().skip(1)).enumerate();
    if let Some(first) = times.clone().next().filter(|&first| first > most) {
        return Err(Error::AboveStart { first, start: most });
    }
    match pairs.find(|(_, (value, next))| value.partial_cmp(next) != Some(Ordering::Greater)) {
        Some((index, (value, next))) => Err(Error::NotFalling { index, value, next }),
        None => Ok(()),
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
