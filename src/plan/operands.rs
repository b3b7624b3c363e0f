//! What the operators' lowerings share: operands in the forms that the kernels take.

use super::instruction::{Instruction, ViewId};
use super::lower::{Lower, canonical, channels_last};
use super::place::{Place, Source, merge_axes};
use crate::graph::ValueId;
use crate::ops::{OpError, problem};
use std::vec::Vec;

impl Lower<'_> {
    /// Copies elements from one place to another of the same dimensions.
    ///
    /// # Errors
    /// If a place is too large for a view.
    pub fn copy(&mut self, from: &Place, to: &Place) -> Result<(), OpError> {
        let (inputs, output) = element_wise(std::slice::from_ref(from), to, &to.order());
        let (input, output) = (self.view(&inputs[0])?, self.view(&output)?);
        self.emit(Instruction::Copy { input, output });
        Ok(())
    }

    /// The operands of an element-wise operator, broadcast to its result.
    ///
    /// # Errors
    /// If one has not been computed.
    pub fn broadcast(&mut self, inputs: &[ValueId], output: ValueId) -> Result<Vec<Place>, OpError> {
        let shape = &self.fact(output).shape;
        inputs.iter().map(|&id| Ok(self.place(id)?.broadcast(shape))).collect()
    }

    /// The place itself if its last axis has stride 1, or a copy whose has.
    ///
    /// # Errors
    /// If a place is too large for a view.
    pub fn rows(&mut self, place: Place) -> Result<Place, OpError> {
        let last = place.rank() - 1;
        if place.dims[last] == 1 || place.strides[last] == 1 {
            return Ok(place);
        }
        let order = canonical(place.rank());
        self.dense(place, &order)
    }

    /// A vector operand of a kernel, dense.
    ///
    /// # Errors
    /// If it has not been computed.
    pub fn vector(&mut self, id: Option<ValueId>) -> Result<Option<Place>, OpError> {
        let Some(id) = id else { return Ok(None) };
        let place = self.place(id)?;
        let order = canonical(place.rank());
        let dense = self.dense(place, &order)?;
        let flat = dense.reshaped(&[dense.len()]);
        Ok(Some(flat.ok_or_else(|| problem!("a vector operand is not contiguous"))?))
    }

    /// The view of an operand that may be missing.
    ///
    /// # Errors
    /// If the place is too large for a view.
    pub fn optional_view(&mut self, place: Option<&Place>) -> Result<Option<ViewId>, OpError> {
        place.map(|place| self.view(place)).transpose()
    }

    /// An operand `[n, c, w]` or `[n, c, h, w]` as `[n, h, w, c]`, whose channels have stride 1.
    ///
    /// # Errors
    /// If it has not been computed.
    pub fn image(&mut self, id: ValueId) -> Result<Place, OpError> {
        let place = self.place(id)?;
        let order = channels_last(place.rank());
        let fits = place.dims[1] == 1 || place.strides[1] == 1;
        let place = if fits { place } else { self.dense(place, &order)? };
        Ok(as_image(&place))
    }

    /// As [`Self::image`], with all pixels evenly spaced.
    ///
    /// # Errors
    /// As [`Self::image`].
    pub fn even_image(&mut self, id: ValueId) -> Result<Place, OpError> {
        let image = self.image(id)?;
        let [n, h, w, c] = image.dims[..] else { return Err(problem!("an image has not 4 dimensions")) };
        if image.reshaped(&[n * h * w, c]).is_some() {
            return Ok(image);
        }
        self.dense(image, &[0, 1, 2, 3])
    }

    /// Where a result `[n, c, w]` or `[n, c, h, w]` goes, as `[n, h, w, c]`.
    ///
    /// # Errors
    /// As [`Self::output`].
    pub fn image_output(&mut self, id: ValueId) -> Result<Place, OpError> {
        let order = channels_last(self.fact(id).rank());
        Ok(as_image(&self.output(id, &order)?))
    }
}

/// The memory order of the first operand that varies along every axis; one that is computed before one that is constant.
pub fn natural_order(operands: &[Place]) -> Vec<usize> {
    let constant = |p: &&Place| matches!(p.source, Source::Weights(_));
    let full = || operands.iter().filter(|p| !p.repeats());
    let chosen = full().find(|p| !constant(p)).or(full().next());
    chosen.map_or_else(|| canonical(operands.first().map_or(0, Place::rank)), Place::order)
}

/// Operands and result with their axes in the given order, outermost first, merged where all of them allow it.
pub fn element_wise(operands: &[Place], result: &Place, order: &[usize]) -> (Vec<Place>, Place) {
    let mut all: Vec<Place> = operands.iter().map(|p| p.permuted(order)).collect();
    all.push(result.permuted(order));
    merge_axes(&mut all);
    let result = all.pop().unwrap_or_else(|| result.clone());
    (all, result)
}

/// Merges all axes but the last into one, if that can be done to all places.
pub fn merge_rows(places: &mut [Place]) {
    let row = |p: &Place| p.reshaped(&[p.dims[..p.rank() - 1].iter().product(), p.dims[p.rank() - 1]]);
    let merged: Option<Vec<Place>> = places.iter().map(row).collect();
    if let Some(merged) = merged {
        places.clone_from_slice(&merged);
    }
}

fn as_image(place: &Place) -> Place {
    let mut image = place.permuted(&channels_last(place.rank()));
    if image.rank() == 3 {
        image.dims.insert(1, 1);
        image.strides.insert(1, 0);
    }
    image
}
