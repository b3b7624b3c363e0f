//! The coefficients of a run, and what samplers make them from.

use super::{Error, Grid, Knot, Level, MAX_HISTORY, MAX_STEPS, Options, Parameterisation, Process, Stop};

/// The coefficients of a whole run: one row for each network evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub rows: heapless::Vec<Row, MAX_STEPS>,
    /// The initial state is this times unit normal noise.
    pub initial_scale: f64,
    /// Coefficient of noise that is added to the initial state: what EDM's churn of the first step draws. `None`: no draw.
    pub initial_noise: Option<f64>,
}

impl Table {
    /// How many earlier [`Row::keep`] [`advance`](super::advance) has to hold for this table.
    pub fn history(&self) -> usize {
        self.rows.iter().map(Row::looks_back).max().unwrap_or(0)
    }
}

/// One network evaluation and the update that follows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub inputs: Inputs,
    /// Scales of data and noise in the state before the update.
    pub level: Level,
    /// `y` from the state and the network's output `F`: `x*state + y*F`.
    pub estimate: Combination,
    /// Clamp `y` to `[-limit, limit]`.
    pub limit: Option<f64>,
    /// The next state, before noise, from the state and `y`.
    pub update: Combination,
    /// What is added to the next state of `F` itself, which no clamp has touched.
    pub direct: f64,
    /// What later rows can look back at, from the state before the update and `y`. Multistep rules keep `y`, rules with
    /// several evaluations a step keep what that step adds to. A row that keeps 0 of both leaves what there is.
    pub keep: Combination,
    /// What is added to the next state of what was kept last, before that, and so on.
    pub earlier: [f64; MAX_HISTORY],
    /// Coefficient of the noise added to the next state. `None`: no draw. `Some(0.0)`: the reference draws here
    /// and ignores it, so a generator that is used afterwards has to draw as well.
    pub noise: Option<f64>,
    /// The clean sample as this step sees it, from the state before the update and `y`: for previews.
    pub clean: Combination,
}

impl Row {
    pub(super) fn looks_back(&self) -> usize {
        self.earlier.iter().rposition(|&d| d != 0.0).map_or(0, |last| last + 1)
    }

    /// Multiplies the next state.
    pub(super) fn stretch(&mut self, by: f64) {
        let Row { update, direct, earlier, noise, .. } = self;
        for coefficient in [&mut update.x, &mut update.y, direct].into_iter().chain(earlier).chain(noise) {
            *coefficient *= by;
        }
    }

    pub(crate) fn keeps(&self) -> bool {
        self.keep != Combination::NOTHING
    }
}

/// What the network reads in one evaluation, in the conventions it was trained with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inputs {
    /// The network is fed this times the state.
    pub scale: f64,
    /// Value of the time input.
    pub t: f64,
    /// Value of the target-time input. Networks without one ignore it.
    pub s: f64,
    /// Value of the duration input, `t - s` before scaling, never negative.
    pub h: f64,
}

/// The scalars of `x * state + y * other`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Combination {
    pub x: f64,
    pub y: f64,
}

impl Combination {
    pub(super) const NOTHING: Combination = Combination { x: 0.0, y: 0.0 };
    /// The other operand as it is.
    pub(super) const OTHER: Combination = Combination { x: 0.0, y: 1.0 };
}

/// What a sampler is given: checked values, and moments that fall from noise to data.
pub(super) struct Setup<'a> {
    pub(super) sampler: &'static str,
    pub(super) parameterisation: &'a Parameterisation,
    pub(super) grid: &'a Grid<'a>,
    pub(super) knots: &'a [Knot],
    /// Steps of the whole grid, of which [`Options::strength`] may have left out the first.
    pub(super) planned: usize,
    pub(super) options: &'a Options,
    /// [`Options::eta`], or the sampler's own.
    pub(super) eta: f64,
    /// [`Options::order`], or the sampler's own.
    pub(super) order: u8,
}

impl Setup<'_> {
    /// A table with one row for each interval of the grid.
    pub(super) fn intervals(&self, row: impl Fn(Knot, Knot) -> Row) -> Table {
        self.numbered_intervals(|_, from, to| row(from, to))
    }

    /// The same for rules that have to know which interval it is.
    pub(super) fn numbered_intervals(&self, row: impl Fn(usize, Knot, Knot) -> Row) -> Table {
        let intervals = self.knots.windows(2).enumerate();
        self.table(intervals.map(|(i, interval)| row(i, interval[0], interval[1])).collect())
    }

    /// A run of these rows, from the noise of the process.
    pub(super) fn table(&self, rows: heapless::Vec<Row, MAX_STEPS>) -> Table {
        let initial_scale = self.parameterisation.process.noise_level(self.knots[0].t);
        Table { rows, initial_scale, initial_noise: None }
    }

    /// How many intervals there are.
    pub(super) fn steps(&self) -> usize {
        self.knots.len() - 1
    }

    /// The levels of noise before and after interval `i`. The last one ends where the grid stops: with none, or with the
    /// smallest of the training.
    pub(super) fn levels(&self, i: usize) -> [Level; 2] {
        let process = self.parameterisation.process;
        let to = match self.grid.stop {
            _ if !self.is_last(i) => self.knots[i + 1].level,
            Stop::Data => Level::DATA,
            Stop::SigmaMin if process == Process::RectifiedFlow => self.knots[i + 1].level,
            Stop::SigmaMin => process.level(process.end().max(0.0)),
        };
        [self.knots[i].level, to]
    }

    /// Whether interval `i` is the last.
    pub(super) fn is_last(&self, i: usize) -> bool {
        i + 1 == self.steps()
    }

    pub(super) fn unsupported(&self, what: &'static str, accepts: &'static str) -> Error {
        Error::Unsupported { sampler: self.sampler, what, accepts }
    }
}
