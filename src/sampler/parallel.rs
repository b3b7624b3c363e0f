//! Several steps at once: ParaDiGMS, Shih et al. 2023, arXiv 2305.16317, algorithm 1.

use super::{Error, MAX_STEPS, Row, Table, apply};

/// Elements that go through a window together: what they need stays in the cache.
const BLOCK: usize = 256;

/// A run that evaluates the network at several states at once, by Picard iteration: each round guesses all states of a window
/// anew, from how the steps move the states of the round before. Rounds are fewer than steps if neighbouring steps move a
/// state in much the same way; evaluations are more.
///
/// The caller holds the states of a window and one more, in one slice, and evaluates the network at them, as one batch or
/// side by side:
///
/// ```
/// use fewstep::sampler::{
///     self, Betas, Grid, Noise, Options, Parallel, Parameterisation, Philox, Prediction, Process, Time,
/// };
///
/// let network = Parameterisation {
///     process: Process::Preserving { betas: Betas::COSINE },
///     prediction: Prediction::V,
///     time: Time::Linear { scale: 1.0 },
/// };
/// let table = |name| sampler::find(name)?.table(&network, &Grid::steps(20), &Options::default());
/// let (ddim, ddpm) = (table("ddim")?, table("ddpm")?);
///
/// const ELEMENTS: usize = 4;
/// const WINDOW: usize = 8;
/// let mut run = Parallel::new(&ddim, &ddpm, WINDOW, 0.1)?;
/// let (mut states, mut f) = ([0.0; (WINDOW + 1) * ELEMENTS], [0.0; WINDOW * ELEMENTS]);
/// let mut x = [0.0; ELEMENTS];
/// Philox::new(42, 0).fill_normal(&mut x);
/// sampler::start(&ddim, &mut x, None)?;
/// run.start(&x, &mut states)?;
/// while !run.rows().is_empty() {
///     for (k, row) in run.rows().iter().enumerate() {
///         let state = k * ELEMENTS..(k + 1) * ELEMENTS;
///         sampler::feed(row, &states[state.clone()], &mut f[state.clone()])?;
///         f[state].iter_mut().for_each(|f| *f *= 0.3); // the network
///     }
///     let evaluated = run.rows().len() * ELEMENTS;
///     run.advance(&mut states, &f[..evaluated], &[])?;
/// }
/// let sample = &states[..ELEMENTS];
/// # assert!(sample.iter().all(|x| x.is_finite()));
/// # Ok::<(), sampler::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Parallel<'a> {
    table: &'a Table,
    ancestral: &'a Table,
    window: usize,
    tolerance: f64,
    /// How many steps are done.
    done: usize,
}

impl<'a> Parallel<'a> {
    /// So many steps of `table` at once. None of its rows may look back.
    ///
    /// A step is done when a round changes the state it leads to by no more, in mean square, than `tolerance^2` of the
    /// variance that `ancestral` draws in it: the table itself if it draws, or else that of `ddpm` or `euler-ancestral` on the
    /// same grid. The paper takes 0.1; with 0 the sample is to the bit that of the steps one after the other.
    pub fn new(
        table: &'a Table,
        ancestral: &'a Table,
        window: usize,
        tolerance: f64,
    ) -> Result<Parallel<'a>, Error> {
        if window == 0 {
            return Err(Error::NoSteps);
        }
        if table.history() > 0 {
            return Err(Error::MissingHistory);
        }
        if ancestral.rows.len() != table.rows.len() {
            return Err(Error::NoSuchStep { step: table.rows.len() - 1, steps: ancestral.rows.len() });
        }
        if !(tolerance.is_finite() && tolerance >= 0.0) {
            let must = "finite and not negative";
            return Err(Error::BadSetting { name: "tolerance", value: tolerance, must });
        }
        Ok(Parallel { table, ancestral, window: window.min(table.rows.len()), tolerance, done: 0 })
    }

    /// How many states the caller holds: one more than are evaluated at once.
    pub fn states(&self) -> usize {
        self.window + 1
    }

    /// The rows of the window: the network is to be evaluated at the first of the states for the first row, and so on. None
    /// when the run is over; its sample is then the first state.
    pub fn rows(&self) -> &'a [Row] {
        let rows = &self.table.rows[self.done..];
        &rows[..self.window.min(rows.len())]
    }

    /// Guesses all states of the first window to be the initial one, `x`.
    pub fn start(&self, x: &[f32], states: &mut [f32]) -> Result<(), Error> {
        same_length("the window's states", states.len(), self.states() * x.len())?;
        states.chunks_exact_mut(x.len().max(1)).for_each(|state| state.copy_from_slice(x));
        Ok(())
    }

    /// Takes one round: `f` is what the network returned for the rows of the window, and `noise` unit normals for all rows of
    /// the table, the same in every round; none if no row draws.
    pub fn advance(&mut self, states: &mut [f32], f: &[f32], noise: &[f32]) -> Result<(), Error> {
        let (rows, n) = (self.rows(), states.len() / self.states());
        same_length("the window's states", states.len(), self.states() * n)?;
        same_length("the network's output", f.len(), rows.len() * n)?;
        if !noise.is_empty() {
            same_length("the noise", noise.len(), self.table.rows.len() * n)?;
        }
        let noise = noise.get(self.done * n..);
        let mut changes = [0.0; MAX_STEPS];
        for first in (0..n).step_by(BLOCK) {
            let block = Block { rows, n, first, length: BLOCK.min(n - first) };
            block.advance(states, f, noise, &mut changes)?;
        }
        let limits = self.ancestral.rows[self.done..].iter().map(|row| {
            let deviation = self.tolerance * row.noise.unwrap_or(0.0);
            deviation * deviation * n as f64
        });
        let settled = changes[..rows.len()].iter().zip(limits).take_while(|(change, limit)| *change <= limit);
        // The first state that is not settled is as good as the settled ones that it was made from.
        let taken = (settled.count() + 1).min(rows.len());
        self.done += taken;
        // Steps that join the window begin where it ended.
        let last = rows.len() * n;
        states.copy_within(taken * n..last + n, 0);
        for slot in rows.len() - taken + 1..self.states() {
            states.copy_within(last - taken * n..last - taken * n + n, slot * n);
        }
        Ok(())
    }
}

/// Some elements of all states of a window.
struct Block<'a> {
    rows: &'a [Row],
    /// Elements of a whole state.
    n: usize,
    first: usize,
    length: usize,
}

impl Block<'_> {
    /// Each state becomes what its step makes of the guess for the state before, and what has changed in that one: the sum of
    /// all moves up to here, without adding up rounding. Adds to `changes` the squares of what changes.
    fn advance(
        &self,
        states: &mut [f32],
        f: &[f32],
        noise: Option<&[f32]>,
        changes: &mut [f64],
    ) -> Result<(), Error> {
        let span = |k: usize| k * self.n + self.first..k * self.n + self.first + self.length;
        let (mut guess, mut shift) = ([0.0; BLOCK], [0.0; BLOCK]);
        let guess = &mut guess[..self.length];
        guess.copy_from_slice(&states[span(0)]);
        for (k, row) in self.rows.iter().enumerate() {
            let z = noise.and_then(|noise| noise.get(span(k)));
            apply(row, guess, &f[span(k)], z)?;
            let next = states[span(k + 1)].iter_mut();
            for ((next, guess), shift) in next.zip(guess.iter_mut()).zip(&mut shift) {
                let new = *guess + *shift;
                (*guess, *shift) = (*next, new - *next);
                *next = new;
                changes[k] += f64::from(*shift) * f64::from(*shift);
            }
        }
        Ok(())
    }
}

fn same_length(name: &'static str, found: usize, expected: usize) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::WindowLength { name, found, expected }) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::*;
    use std::{vec, vec::Vec};

    fn table(sampler: &str, steps: usize) -> Table {
        let process = Process::Exploding { sigma_min: 0.002, sigma_max: 80.0 };
        let network =
            Parameterisation { process, prediction: Prediction::Clean, time: Time::Linear { scale: 1.0 } };
        find(sampler).unwrap().table(&network, &Grid::steps(steps), &Options::default()).unwrap()
    }

    /// Something that is not linear and depends on the time.
    fn network(row: &Row, x: &[f32], f: &mut [f32]) {
        for (f, x) in f.iter_mut().zip(x) {
            *f = (x / (1.0 + row.inputs.t as f32)).sin();
        }
    }

    fn normals(stream: u64, n: usize) -> Vec<f32> {
        let mut values = vec![0.0; n];
        Philox::new(3, stream).fill_normal(&mut values);
        values
    }

    #[test]
    fn without_tolerance_it_is_the_sequential_run_to_the_bit() {
        for sampler in ["euler", "euler-ancestral"] {
            for (n, window) in [(1, 1), (7, 3), (300, 20), (300, 50)] {
                let table = table(sampler, 20);
                let (mut x, noise) = (normals(0, n), normals(1, 20 * n));
                start(&table, &mut x, None).unwrap();
                let mut run = Parallel::new(&table, &table, window, 0.0).unwrap();
                let mut states = vec![0.0; run.states() * n];
                run.start(&x, &mut states).unwrap();
                let mut rounds = 0;
                while !run.rows().is_empty() {
                    let mut f = vec![0.0; run.rows().len() * n];
                    for (k, row) in run.rows().iter().enumerate() {
                        network(row, &states[k * n..(k + 1) * n], &mut f[k * n..(k + 1) * n]);
                    }
                    run.advance(&mut states, &f, &noise).unwrap();
                    rounds += 1;
                }
                assert!(rounds <= 20, "{rounds}");
                for (row, z) in table.rows.iter().zip(noise.chunks(n)) {
                    let mut f = vec![0.0; n];
                    network(row, &x, &mut f);
                    apply(row, &mut x, &f, Some(z)).unwrap();
                }
                assert_eq!(states[..n], x[..], "{sampler} {n} {window}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let (euler, heun, shorter) = (table("euler", 4), table("heun", 4), table("euler", 3));
        let refused = |table, ancestral, window, tolerance| {
            Parallel::new(table, ancestral, window, tolerance).unwrap_err()
        };
        assert_eq!(refused(&euler, &euler, 0, 0.1), Error::NoSteps);
        assert_eq!(refused(&heun, &heun, 2, 0.1), Error::MissingHistory);
        assert_eq!(refused(&euler, &shorter, 2, 0.1), Error::NoSuchStep { step: 3, steps: 3 });
        for tolerance in [-0.1, f64::NAN] {
            let error = refused(&euler, &euler, 2, tolerance);
            assert!(matches!(error, Error::BadSetting { name: "tolerance", .. }));
        }
        let mut run = Parallel::new(&euler, &euler, 2, 0.1).unwrap();
        let short = run.start(&[0.0; 2], &mut [0.0; 5]).unwrap_err();
        assert_eq!(short, Error::WindowLength { name: "the window's states", found: 5, expected: 6 });
        let short = run.advance(&mut [0.0; 6], &[0.0; 3], &[]).unwrap_err();
        assert_eq!(short, Error::WindowLength { name: "the network's output", found: 3, expected: 4 });
        let short = run.advance(&mut [0.0; 6], &[0.0; 4], &[0.0; 4]).unwrap_err();
        assert_eq!(short, Error::WindowLength { name: "the noise", found: 4, expected: 8 });
        let ancestral = table("euler-ancestral", 4);
        let mut run = Parallel::new(&ancestral, &ancestral, 2, 0.1).unwrap();
        assert_eq!(run.advance(&mut [0.0; 6], &[0.0; 4], &[]), Err(Error::MissingNoise));
    }
}
