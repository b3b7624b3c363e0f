//! Control: samples that begin with, keep, or agree with a reference.

use super::{Combination, Error, Level, Row, Table, update::same_length};

/// Weights of red, green and blue in the grey of openai/consistency_models `iterative_colorization`.
const LUMA: [f64; 3] = [0.2989, 0.587, 0.114];

/// Side of the squares whose mean `iterative_superres` keeps.
const PATCH: usize = 8;

/// What of a reference is put in the place of what the network estimates: the measurements of zero-shot editing, Song et al.
/// 2023, Consistency Models, arXiv 2303.01469, algorithm 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The values where a mask is 0.
    Inpaint,
    /// The grey of red, green and blue.
    Colorize,
    /// The means of squares of 8 by 8 pixels.
    SuperResolution,
}

impl Edit {
    /// Whether images of `[channels, rows, columns]` have what this edit keeps.
    ///
    /// # Errors
    /// If they have not.
    pub fn check(self, shape: &[usize]) -> Result<(), Error> {
        let (fits, edit, needs) = match (self, shape) {
            (Edit::Inpaint, _) => (true, "inpaint", ""),
            (Edit::Colorize, &[channels, _, _]) => (channels == 3, "colorize", "images of three channels"),
            (Edit::Colorize, _) => (false, "colorize", "images of three channels"),
            (Edit::SuperResolution, &[_, rows, columns]) => {
                (rows % PATCH == 0 && columns % PATCH == 0, "superres", "images of multiples of 8 pixels")
            }
            (Edit::SuperResolution, _) => (false, "superres", "images of multiples of 8 pixels"),
        };
        if fits { Ok(()) } else { Err(Error::BadEdit { edit, needs }) }
    }

    /// Puts what is kept of `reference` into the clean estimate `clean`, both of `shape`. `mask`, as long as they are, is
    /// read only by [`Edit::Inpaint`]: 0 keeps the reference, 1 the estimate.
    ///
    /// The orthogonal bases of the reference implementation have one kept component each, so the others cancel.
    ///
    /// # Errors
    /// If the shape does not fit the edit, or the slices the shape.
    pub fn apply(
        self,
        shape: &[usize],
        reference: &[f32],
        mask: &[f32],
        clean: &mut [f32],
    ) -> Result<(), Error> {
        self.check(shape)?;
        same_length("the reference", reference, clean)?;
        match (self, shape) {
            (Edit::Inpaint, _) => {
                same_length("the mask", mask, clean)?;
                for ((clean, reference), m) in clean.iter_mut().zip(reference).zip(mask) {
                    *clean = reference * (1.0 - m) + *clean * m;
                }
            }
            (Edit::Colorize, &[_, rows, columns]) => replace_grey(rows * columns, reference, clean),
            (Edit::SuperResolution, &[_, _, columns]) => replace_means(columns, reference, clean),
            _ => {}
        }
        Ok(())
    }
}

fn replace_grey(pixels: usize, reference: &[f32], clean: &mut [f32]) {
    let norm = libm::sqrt(LUMA.iter().map(|weight| weight * weight).sum());
    let weights = LUMA.map(|weight| (weight / norm) as f32);
    for i in 0..pixels {
        let channels = weights.iter().enumerate().map(|(c, weight)| (c * pixels + i, weight));
        let off: f32 = channels.clone().map(|(at, weight)| weight * (reference[at] - clean[at])).sum();
        channels.for_each(|(at, weight)| clean[at] += weight * off);
    }
}

fn replace_means(columns: usize, reference: &[f32], clean: &mut [f32]) {
    let bands = clean.chunks_exact_mut(PATCH * columns).zip(reference.chunks_exact(PATCH * columns));
    for (clean, reference) in bands {
        for left in (0..columns).step_by(PATCH) {
            let square = (0..PATCH).flat_map(|row| (0..PATCH).map(move |i| row * columns + left + i));
            let off: f32 = square.clone().map(|at| reference[at] - clean[at]).sum();
            square.for_each(|at| clean[at] += off / (PATCH * PATCH) as f32);
        }
    }
}

/// The reference with as much noise as a state of this level has: diffusers' `add_noise`. `z` is unit normal noise.
///
/// # Errors
/// If the slices are not of one length.
pub fn add_noise(level: Level, reference: &[f32], z: &[f32], out: &mut [f32]) -> Result<(), Error> {
    same_length("the reference", reference, out)?;
    same_length("the noise", z, out)?;
    let (alpha, sigma) = (level.alpha as f32, level.sigma as f32);
    for ((out, reference), z) in out.iter_mut().zip(reference).zip(z) {
        *out = alpha * reference + sigma * z;
    }
    Ok(())
}

/// Masked inpainting, after each step: where the mask is 0, the state `x` becomes the reference with its noise; 1 leaves it.
/// `level` is that of the next evaluation, and [`Level::DATA`] after the last, as diffusers' inpainting pipelines have it.
///
/// # Errors
/// If the slices are not of one length.
pub fn keep(level: Level, reference: &[f32], z: &[f32], mask: &[f32], x: &mut [f32]) -> Result<(), Error> {
    same_length("the reference", reference, x)?;
    same_length("the noise", z, x)?;
    same_length("the mask", mask, x)?;
    let (alpha, sigma) = (level.alpha as f32, level.sigma as f32);
    for (((x, reference), z), m) in x.iter_mut().zip(reference).zip(z).zip(mask) {
        *x = (1.0 - m) * (alpha * reference + sigma * z) + m * *x;
    }
    Ok(())
}

/// Unit normal noise that is `z0` at 0 and `z1` at 1: `sqrt(1 - a^2) * z0 + a * z1`. Written to `z0`. For variations of a sample.
///
/// # Errors
/// If the slices are not of one length.
pub fn interpolate(z0: &mut [f32], z1: &[f32], a: f64) -> Result<(), Error> {
    mix(z0, z1, libm::sqrt(1.0 - a * a), a)
}

/// The same along the arc between the two, at even speed: Song et al. 2020, DDIM, arXiv 2010.02502, appendix D.5.
///
/// # Errors
/// If the slices are not of one length.
pub fn slerp(z0: &mut [f32], z1: &[f32], a: f64) -> Result<(), Error> {
    same_length("the other noise", z1, z0)?;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = dot(z0, z1) / libm::sqrt(dot(z0, z0) * dot(z1, z1));
    let angle = libm::acos(cosine.clamp(-1.0, 1.0));
    if angle == 0.0 {
        return Ok(());
    }
    mix(z0, z1, libm::sin((1.0 - a) * angle) / libm::sin(angle), libm::sin(a * angle) / libm::sin(angle))
}

fn mix(z0: &mut [f32], z1: &[f32], a: f64, b: f64) -> Result<(), Error> {
    same_length("the other noise", z1, z0)?;
    let (a, b) = (a as f32, b as f32);
    z0.iter_mut().zip(z1).for_each(|(z0, z1)| *z0 = a * *z0 + b * z1);
    Ok(())
}

impl Table {
    /// The same run for [`advance`](super::advance) that is given clean estimates, which something may have changed, in place of the
    /// network's outputs: those that [`clean`](super::clean) writes.
    ///
    /// # Errors
    /// If a step does not follow from its clean estimate.
    pub fn on_clean(&self) -> Result<Table, Error> {
        let mut table = self.clone();
        for (step, row) in table.rows.iter_mut().enumerate() {
            *row = row.on_clean().ok_or(Error::NoClean { step })?;
        }
        Ok(table)
    }
}

impl Row {
    fn on_clean(&self) -> Option<Row> {
        // clean = e*x + f*y, and y = p*x + q*F: as if the network had given what leads to this estimate.
        let Combination { x: p, y: q } = self.estimate;
        let needs_output = self.direct != 0.0;
        if self.clean.y == 0.0 || needs_output && q == 0.0 {
            return None;
        }
        let estimate = Combination { x: -self.clean.x / self.clean.y, y: 1.0 / self.clean.y };
        let direct = if needs_output { self.direct / q } else { 0.0 };
        let update = Combination { x: self.update.x - direct * p, y: self.update.y + direct };
        Some(Row { estimate, limit: None, update, direct: 0.0, ..*self })
    }
}
