//! The fused kernel that applies a [`Row`], and what stands around it.
//!
//! Arithmetic is f32, from coefficients rounded once. Products and sums are never contracted, so that a sample is
//! the same to the bit on every CPU.

use super::{Error, Row, Table};

/// Turns unit normal noise `x` into the initial state, in place.
///
/// `z` is more unit normal noise, read only if [`Table::initial_noise`] is there.
pub fn start(table: &Table, x: &mut [f32], z: Option<&[f32]>) -> Result<(), Error> {
    let scale = table.initial_scale as f32;
    x.iter_mut().for_each(|x| *x *= scale);
    let c = table.initial_noise.unwrap_or(0.0) as f32;
    if c != 0.0 {
        let z = z.ok_or(Error::MissingNoise)?;
        same_length("the noise", z, x)?;
        x.iter_mut().zip(z).for_each(|(x, z)| *x += c * z);
    }
    Ok(())
}

/// Writes what the network reads for the state `x`.
pub fn feed(row: &Row, x: &[f32], input: &mut [f32]) -> Result<(), Error> {
    same_length("the network's input", input, x)?;
    let scale = row.inputs.scale as f32;
    for (input, x) in input.iter_mut().zip(x) {
        *input = scale * x;
    }
    Ok(())
}

/// Takes one step: `x` becomes the next state, given the network's output `f` and unit normal noise `z`.
///
/// `z` is read only if the row's noise coefficient is not zero, and may be `None` otherwise. For tables whose rows look
/// back at earlier estimates there is [`advance`].
pub fn apply(row: &Row, x: &mut [f32], f: &[f32], z: Option<&[f32]>) -> Result<(), Error> {
    if row.looks_back() > 0 {
        return Err(Error::MissingHistory);
    }
    kernel::<0>(row, x, f, z, [])
}

/// Takes step number `step` of a table that may look back at what earlier rows kept, which `history` holds: a slice of
/// [`Table::history`] times the state's length, the same one for all steps of a run. Its contents before step 0 do not
/// matter.
pub fn advance(
    table: &Table,
    step: usize,
    x: &mut [f32],
    f: &[f32],
    z: Option<&[f32]>,
    history: &mut [f32],
) -> Result<(), Error> {
    let (depth, n) = (table.history(), x.len());
    let row = table.rows.get(step).ok_or(Error::NoSuchStep { step, steps: table.rows.len() })?;
    let expected = depth * n;
    if history.len() != expected {
        return Err(Error::HistoryLength { found: history.len(), expected });
    }
    if step == 0 {
        // What an earlier run left may be infinite, and 0 times it would spoil this one.
        history.fill(0.0);
    }
    // The slots are a ring: the oldest of what was kept stands where this step's will be written.
    let kept = table.rows[..step].iter().filter(|row| row.keeps()).count();
    let slot = |age: usize| (kept + depth * age - age) % depth;
    let (one, rest) = history.split_at_mut(n.min(expected));
    let (two, three) = rest.split_at_mut(n.min(rest.len()));
    match depth {
        0 => kernel::<0>(row, x, f, z, []),
        1 => kernel(row, x, f, z, [one]),
        2 => kernel(row, x, f, z, if slot(1) == 0 { [one, two] } else { [two, one] }),
        _ => kernel(
            row,
            x,
            f,
            z,
            match slot(1) {
                0 => [one, three, two],
                1 => [two, one, three],
                _ => [three, two, one],
            },
        ),
    }
}

/// The one update: `x' = a*x + b*y + sum_k d_k*kept_{-k} + e*F + c*z`. `earlier` has what was kept, the latest first; the
/// oldest of it makes room for this row's.
fn kernel<const DEPTH: usize>(
    row: &Row,
    x: &mut [f32],
    f: &[f32],
    z: Option<&[f32]>,
    earlier: [&mut [f32]; DEPTH],
) -> Result<(), Error> {
    same_length("the network's output", f, x)?;
    let (c, e, f) = (row.noise.unwrap_or(0.0) as f32, row.direct as f32, &f[..x.len()]);
    let z = if c == 0.0 { None } else { Some(z.ok_or(Error::MissingNoise)?) };
    z.map_or(Ok(()), |z| same_length("the noise", z, x))?;
    let z = z.map(|z| &z[..x.len()]);
    // What most rows do not have costs them nothing: the loop is compute-bound without wide vectors.
    match (row.limit.is_some(), e == 0.0, z) {
        (false, true, None) => pass::<DEPTH, false>(row, x, f, earlier, |_, next| next),
        (false, true, Some(z)) => pass::<DEPTH, false>(row, x, f, earlier, |i, next| next + c * z[i]),
        (_, true, None) => pass::<DEPTH, true>(row, x, f, earlier, |_, next| next),
        (_, true, Some(z)) => pass::<DEPTH, true>(row, x, f, earlier, |i, next| next + c * z[i]),
        (_, false, None) => pass::<DEPTH, true>(row, x, f, earlier, |i, next| next + e * f[i]),
        (_, false, Some(z)) => {
            pass::<DEPTH, true>(row, x, f, earlier, |i, next| next + e * f[i] + c * z[i]);
        }
    }
    Ok(())
}

#[inline(always)]
fn pass<const DEPTH: usize, const CLAMPS: bool>(
    row: &Row,
    x: &mut [f32],
    f: &[f32],
    mut earlier: [&mut [f32]; DEPTH],
    finish: impl Fn(usize, f32) -> f32,
) {
    let estimate = Estimate::of(row);
    let (a, b, d) = (row.update.x as f32, row.update.y as f32, row.earlier.map(|d| d as f32));
    let (keeps, kept) = (row.keeps(), (row.keep.x as f32, row.keep.y as f32));
    let n = x.len();
    // One length for all, so that the loop needs no checks.
    let f = &f[..n];
    for slot in &mut earlier {
        *slot = &mut core::mem::take(slot)[..n];
    }
    for i in 0..n {
        let before = x[i];
        let y = if CLAMPS { estimate.at(before, f[i]) } else { estimate.free(before, f[i]) };
        let mut next = a * before + b * y;
        for k in 0..DEPTH {
            next += d[k] * earlier[k][i];
        }
        x[i] = finish(i, next);
        if DEPTH > 0 && keeps {
            earlier[DEPTH - 1][i] = kept.0 * before + kept.1 * y;
        }
    }
}

/// Writes the clean sample as this step sees it. Call it before [`apply`] with the same state and output.
pub fn clean(row: &Row, x: &[f32], f: &[f32], out: &mut [f32]) -> Result<(), Error> {
    same_length("the network's output", f, x)?;
    same_length("the clean sample", out, x)?;
    let estimate = Estimate::of(row);
    let (a, b) = (row.clean.x as f32, row.clean.y as f32);
    for ((out, x), f) in out.iter_mut().zip(x).zip(f) {
        *out = a * x + b * estimate.at(*x, *f);
    }
    Ok(())
}

/// Index of the first value that is infinite or not a number.
pub fn first_non_finite(values: &[f32]) -> Option<usize> {
    // Whole blocks first: without an exit inside, the compiler vectorises the scan.
    const BLOCK: usize = 256;
    let finite = |block: &[f32]| block.iter().fold(true, |finite, v| finite & v.is_finite());
    let block = values.chunks(BLOCK).position(|block| !finite(block))?;
    let first = block * BLOCK;
    values[first..].iter().position(|v| !v.is_finite()).map(|i| first + i)
}

/// A row's `y`, with coefficients rounded to f32.
#[derive(Clone, Copy)]
struct Estimate {
    x: f32,
    f: f32,
    limit: f32,
}

impl Estimate {
    fn of(row: &Row) -> Estimate {
        let limit = row.limit.map_or(f32::INFINITY, |limit| limit as f32);
        Estimate { x: row.estimate.x as f32, f: row.estimate.y as f32, limit }
    }

    #[inline(always)]
    fn free(self, x: f32, f: f32) -> f32 {
        self.x * x + self.f * f
    }

    #[inline(always)]
    fn at(self, x: f32, f: f32) -> f32 {
        let y = self.free(x, f);
        // Not min and max: they would turn a NaN into a limit and hide a network that failed.
        if y > self.limit {
            self.limit
        } else if y < -self.limit {
            -self.limit
        } else {
            y
        }
    }
}

pub(super) fn same_length(name: &'static str, slice: &[f32], state: &[f32]) -> Result<(), Error> {
    if slice.len() == state.len() {
        return Ok(());
    }
    Err(Error::Length { name, found: slice.len(), expected: state.len() })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::*;
    use std::{string::ToString, vec, vec::Vec};

    const ROW: Row = Row {
        inputs: Inputs { scale: 0.25, t: 1.0, s: 0.0, h: 1.0 },
        level: Level { alpha: 0.6, sigma: 0.8 },
        estimate: Combination { x: 0.3, y: -1.7 },
        limit: Some(1.0),
        update: Combination { x: 0.9, y: 0.4 },
        direct: 0.0,
        keep: Combination { x: 0.2, y: -1.1 },
        earlier: [0.0; MAX_HISTORY],
        noise: Some(0.6),
        clean: Combination { x: 0.1, y: 2.0 },
    };

    fn normals(stream: u64, n: usize) -> Vec<f32> {
        let mut values = vec![0.0; n];
        Philox::new(5, stream).fill_normal(&mut values);
        values
    }

    /// Rounding of four products and three sums of values near 1.
    const TOLERANCE: f64 = 8.0 * f32::EPSILON as f64;

    #[test]
    fn agrees_with_the_same_rule_in_f64() {
        for n in [0, 1, 7, 16, 1000] {
            for (noise, limit, direct) in [
                (Some(0.6), Some(1.0), 0.0),
                (Some(0.6), Some(1.0), -0.8),
                (Some(0.0), None, 0.0),
                (None, Some(0.5), 0.3),
            ] {
                let row = Row { noise, limit, direct, ..ROW };
                let (x, f, z) = (normals(0, n), normals(1, n), normals(2, n));
                let (mut next, mut preview) = (x.clone(), vec![0.0; n]);
                clean(&row, &x, &f, &mut preview).unwrap();
                apply(&row, &mut next, &f, Some(&z)).unwrap();
                for i in 0..n {
                    let (x, f, z) = (f64::from(x[i]), f64::from(f[i]), f64::from(z[i]));
                    let limit = limit.unwrap_or(f64::MAX);
                    let y = (0.3 * x - 1.7 * f).clamp(-limit, limit);
                    let expected = 0.9 * x + 0.4 * y + direct * f + noise.unwrap_or(0.0) * z;
                    let scale = 1.0 + x.abs() + f.abs() + z.abs();
                    assert!((f64::from(next[i]) - expected).abs() <= TOLERANCE * scale);
                    assert!((f64::from(preview[i]) - (0.1 * x + 2.0 * y)).abs() <= 2.0 * TOLERANCE * scale);
                }
            }
        }
    }

    #[test]
    fn feeds_and_starts_with_their_scales() {
        let mut input = [0.0; 2];
        feed(&ROW, &[4.0, -8.0], &mut input).unwrap();
        assert_eq!(input, [1.0, -2.0]);
        let table = Table { rows: heapless::Vec::new(), initial_scale: 80.0, initial_noise: Some(3.0) };
        assert_eq!(start(&table, &mut [0.0], None), Err(Error::MissingNoise));
        start(&table, &mut input, Some(&[1.0, -1.0])).unwrap();
        assert_eq!(input, [83.0, -163.0]);
    }

    #[test]
    fn a_clamp_does_not_hide_a_failed_network() {
        let mut x = [0.0; 3];
        apply(&ROW, &mut x, &[f32::NAN, f32::INFINITY, 0.0], Some(&[0.0; 3])).unwrap();
        assert!(x[0].is_nan());
        assert_eq!(x[1..], [-0.4, 0.0]);
        assert_eq!(first_non_finite(&x), Some(0));
    }

    #[test]
    fn slices_of_other_lengths_are_errors() {
        let (mut x, mut out) = ([0.0; 3], [0.0; 2]);
        let texts = [
            apply(&ROW, &mut x, &[0.0; 4], None).unwrap_err().to_string(),
            apply(&ROW, &mut x, &[0.0; 3], Some(&[0.0; 2])).unwrap_err().to_string(),
            feed(&ROW, &x, &mut out).unwrap_err().to_string(),
            clean(&ROW, &x, &[0.0; 3], &mut out).unwrap_err().to_string(),
        ];
        let starts = [
            "the network's output has 4 values and the state has 3",
            "the noise has 2 values and the state has 3",
            "the network's input has 2 values and the state has 3",
            "the clean sample has 2 values and the state has 3",
        ];
        for (text, start) in texts.iter().zip(starts) {
            assert!(text.starts_with(start), "{text}");
        }
    }

    #[test]
    fn noise_is_needed_only_where_it_counts() {
        let mut x = [0.0; 3];
        assert_eq!(apply(&ROW, &mut x, &[0.0; 3], None), Err(Error::MissingNoise));
        for noise in [None, Some(0.0)] {
            assert_eq!(apply(&Row { noise, ..ROW }, &mut x, &[0.0; 3], None), Ok(()));
        }
    }

    #[test]
    fn finds_the_first_value_that_is_not_finite() {
        assert_eq!(first_non_finite(&[]), None);
        let mut values = vec![1.0; 1000];
        assert_eq!(first_non_finite(&values), None);
        for i in [999, 600, 256, 255, 0] {
            values[i] = if i % 2 == 0 { f32::NEG_INFINITY } else { f32::NAN };
            assert_eq!(first_non_finite(&values), Some(i));
        }
    }

    /// A table that looks back `depth` estimates, and the same rule with all estimates kept.
    #[test]
    fn looks_back_as_far_as_the_table_says() {
        for depth in 0..=MAX_HISTORY {
            let mut row = Row { limit: None, noise: None, ..ROW };
            for (k, d) in [0.5, -0.25, 0.125][..depth].iter().enumerate() {
                row.earlier[k] = *d;
            }
            let mut table = Table {
                rows: core::iter::repeat_n(row, 7).collect(),
                initial_scale: 1.0,
                initial_noise: None,
            };
            // The fourth row keeps nothing, so the fifth sees what the third kept.
            table.rows[3].keep = Combination::NOTHING;
            assert_eq!(table.history(), depth);
            let n = 5;
            let (mut x, mut history) = (normals(3, n), vec![f32::NAN; depth * n]);
            let mut exact: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
            let mut kept: Vec<Vec<f64>> = Vec::new();
            for step in 0..7 {
                let f = normals(4 + step as u64, n);
                let y: Vec<f64> = (0..n).map(|i| 0.3 * exact[i] - 1.7 * f64::from(f[i])).collect();
                let mut keeps = vec![0.0; n];
                for i in 0..n {
                    let back = kept.iter().rev().zip(row.earlier).map(|(kept, d)| d * kept[i]).sum::<f64>();
                    keeps[i] = 0.2 * exact[i] - 1.1 * y[i];
                    exact[i] = 0.9 * exact[i] + 0.4 * y[i] + back;
                }
                if step != 3 {
                    kept.push(keeps);
                }
                advance(&table, step, &mut x, &f, None, &mut history).unwrap();
                for i in 0..n {
                    assert!((f64::from(x[i]) - exact[i]).abs() < 1e-5, "{depth} {step}");
                }
            }
        }
    }

    #[test]
    fn history_that_is_missing_is_an_error() {
        let row = Row { earlier: [0.5, 0.0, 0.0], ..ROW };
        let table = Table { rows: [row].into_iter().collect(), initial_scale: 1.0, initial_noise: None };
        let (mut x, f) = ([0.0; 3], [0.0; 3]);
        assert_eq!(apply(&row, &mut x, &f, Some(&f)), Err(Error::MissingHistory));
        let error = advance(&table, 0, &mut x, &f, Some(&f), &mut [0.0; 2]).unwrap_err().to_string();
        assert!(error.starts_with("the history has 2 values"), "{error}");
        let error = advance(&table, 1, &mut x, &f, Some(&f), &mut [0.0; 3]).unwrap_err();
        assert_eq!(error, Error::NoSuchStep { step: 1, steps: 1 });
    }
}
