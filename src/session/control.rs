//! Control of a session: references that samples begin with or keep, and what steers them.

use super::{Session, SessionError};
use crate::provider::Network;
use crate::sampler::{self, Edit, Level, Row, Table};
use std::string::ToString;
use std::vec::Vec;

/// What a sample has to do with the reference. Masks have one value for each element, or for each of one
/// channel: 0 keeps the reference, 1 draws anew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Control<'a> {
    /// It begins with the reference, noised: image to image.
    Start,
    /// After each step, what the mask keeps is the reference with the step's noise.
    Keep { mask: &'a [f32] },
    /// In each clean estimate, what the mask keeps is the reference.
    Inpaint { mask: &'a [f32] },
    /// Each clean estimate has the grey of the reference.
    Colorize,
    /// Each clean estimate has the means of the reference's squares of 8 by 8 pixels.
    SuperResolution,
}

impl Control<'_> {
    fn mask(&self) -> Option<&[f32]> {
        match self {
            Control::Keep { mask } | Control::Inpaint { mask } => Some(mask),
            _ => None,
        }
    }

    fn edit(&self) -> Option<Edit> {
        match self {
            Control::Start | Control::Keep { .. } => None,
            Control::Inpaint { .. } => Some(Edit::Inpaint),
            Control::Colorize => Some(Edit::Colorize),
            Control::SuperResolution => Some(Edit::SuperResolution),
        }
    }
}

/// A reference and what is kept of it.
#[derive(Debug)]
pub(super) struct Reference {
    /// [elements of a sample]
    values: Vec<f32>,
    /// [elements of a sample], or empty
    mask: Vec<f32>,
    edit: Option<Edit>,
    /// Unit normal noise of the run, the same in all its steps. [elements of a sample]
    noise: Vec<f32>,
}

/// A step as it is about to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Number of the evaluation, from 1.
    pub step: usize,
    pub steps: usize,
    pub row: &'a Row,
    /// [elements of a sample]
    pub state: &'a [f32],
    /// What the network gave, guided. A shift of it by `d` is one of the clean sample by
    /// `row.clean.y * row.estimate.y * d`. [elements of a sample]
    pub output: &'a [f32],
}

/// Changes the clean sample that a step goes to: energy guidance, posterior sampling, constraints.
pub trait Steer {
    /// `clean`: [elements of a sample].
    ///
    /// # Errors
    /// Whatever went wrong; the run ends.
    fn steer(&mut self, at: &Step<'_>, clean: &mut [f32]) -> Result<(), SessionError>;
}

/// How much of a gradient is added to the clean sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The scale. For gradients with respect to the clean sample: diffusion posterior sampling, arXiv 2209.14687.
    Constant,
    /// The scale times `sigma^2 / alpha`, nothing where alpha is 0: what Tweedie's formula makes of the gradient of a log
    /// probability of the state. Classifier guidance, arXiv 2105.05233.
    Variance,
}

/// Steers along the gradient that a network gives.
///
/// The network reads any of `x` (the state), `clean` (the estimate), both of the state's length, and `t` (the time that
/// the sampled network reads); its other inputs keep what [`Gradient::network`] is given. Its first output is the gradient.
#[derive(Debug)]
pub struct Gradient {
    network: Network,
    state: Option<usize>,
    clean: Option<usize>,
    time: Option<usize>,
    scale: f64,
    weight: Weight,
}

impl Gradient {
    /// # Errors
    /// If the network reads neither `x` nor `clean`.
    pub fn new(network: Network, scale: f64, weight: Weight) -> Result<Gradient, SessionError> {
        let find = |name: &str| network.inputs().position(|(own, _)| own == name);
        let (state, clean, time) = (find("x"), find("clean"), find("t"));
        if state.is_none() && clean.is_none() {
            let known = network.inputs().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
            return Err(SessionError::NoInput { input: "x".to_string(), known });
        }
        Ok(Gradient { network, state, clean, time, scale, weight })
    }

    /// To set inputs of its own: a class, a target.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }
}

impl Steer for Gradient {
    fn steer(&mut self, at: &Step<'_>, clean: &mut [f32]) -> Result<(), SessionError> {
        let Level { alpha, sigma } = at.row.level;
        let weight = match self.weight {
            Weight::Constant => self.scale,
            Weight::Variance if alpha > 0.0 => self.scale * sigma * sigma / alpha,
            Weight::Variance => return Ok(()),
        };
        let mut io = self.network.io()?;
        for (index, values) in [(self.state, at.state), (self.clean, &*clean)] {
            let Some(index) = index else { continue };
            let input = io.input_f32(index)?;
            let (found, expected) = (input.len(), values.len());
            if found != expected {
                return Err(sampler::Error::Length { name: "the gradient's network", found, expected }.into());
            }
            input.copy_from_slice(values);
        }
        if let Some(index) = self.time {
            io.fill(index, |_| at.row.inputs.t)?;
        }
        self.network.run()?;
        let mut io = self.network.io()?;
        let gradient = io.output_f32(0)?;
        let (found, expected) = (gradient.len(), clean.len());
        if found != expected {
            return Err(sampler::Error::Length { name: "the gradient", found, expected }.into());
        }
        clean.iter_mut().zip(gradient).for_each(|(clean, g)| *clean += weight as f32 * g);
        Ok(())
    }
}

impl Session {
    /// Gives the samples to come a reference, of one sample's length and in the network's range.
    ///
    /// # Errors
    /// If the reference or the mask has another length or values that are not finite, or the samples are no such images.
    pub fn set_reference(&mut self, values: &[f32], control: Control<'_>) -> Result<(), SessionError> {
        if !self.evaluator.prior().is_empty() {
            return Err(SessionError::Prior { model: self.manifest.model.name.clone() });
        }
        let needed = self.state.len();
        check("the reference", values, needed, &[needed])?;
        let shape = self.manifest.state_shape();
        if let Some(edit) = control.edit() {
            edit.check(shape)?;
        }
        let mut mask = Vec::new();
        if let Some(given) = control.mask() {
            let of_channels = shape.split_first().map_or(needed, |(_, rest)| rest.iter().product());
            check("the mask", given, needed, &[needed, of_channels])?;
            if let Some(&value) = given.iter().find(|value| !(0.0..=1.0).contains(*value)) {
                return Err(SessionError::Mask { value });
            }
            mask = given.iter().copied().cycle().take(needed).collect();
        }
        let edit = control.edit();
        let (values, noise) = (values.to_vec(), std::vec![0.0; needed]);
        self.reference = Some(Reference { values, mask, edit, noise });
        Ok(())
    }

    /// Samples to come have no reference.
    pub fn clear_reference(&mut self) {
        self.reference = None;
    }
}

fn check(what: &'static str, values: &[f32], needed: usize, lengths: &[usize]) -> Result<(), SessionError> {
    if !lengths.contains(&values.len()) {
        return Err(SessionError::Length { what, found: values.len(), needed });
    }
    match sampler::first_non_finite(values) {
        Some(at) => Err(SessionError::Infinite { what, at, value: values[at] }),
        None => Ok(()),
    }
}

impl Reference {
    /// Whether clean estimates are changed.
    pub(super) fn edits(&self) -> bool {
        self.edit.is_some()
    }

    /// Whether anything is changed after the start.
    #[cfg(feature = "compile")]
    pub(super) fn changes(&self) -> bool {
        self.edit.is_some() || !self.mask.is_empty()
    }

    /// Makes unit normal noise the initial state; false if the run starts from noise alone. A reference that is only begun
    /// with is begun with even if no step is left out.
    pub(super) fn start(
        &mut self,
        first: Level,
        whole: bool,
        state: &mut [f32],
    ) -> Result<bool, SessionError> {
        self.noise.copy_from_slice(state);
        if whole && (self.edit.is_some() || !self.mask.is_empty()) {
            return Ok(false);
        }
        // One draw stands for all the noise of the level, that of churn as well.
        sampler::add_noise(first, &self.values, &self.noise, state)?;
        Ok(true)
    }

    pub(super) fn edit(&self, shape: &[usize], clean: &mut [f32]) -> Result<(), SessionError> {
        match self.edit {
            Some(edit) => Ok(edit.apply(shape, &self.values, &self.mask, clean)?),
            None => Ok(()),
        }
    }

    /// What is kept after step number `step`, from 0.
    pub(super) fn keep(&self, table: &Table, step: usize, state: &mut [f32]) -> Result<(), SessionError> {
        if self.edit.is_some() || self.mask.is_empty() {
            return Ok(());
        }
        let level = table.rows.get(step + 1).map_or(Level::DATA, |row| row.level);
        Ok(sampler::keep(level, &self.values, &self.noise, &self.mask, state)?)
    }
}
