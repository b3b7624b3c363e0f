//! Where a value lies while a plan is being made.

use crate::graph::{Fact, contiguous_strides};
use crate::kernels::DType;
use std::ops::Range;
use std::vec::Vec;

/// The memory that a place is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A buffer of the arena, not yet at an offset.
    Buffer(u32),
    /// Byte offset into the weights.
    Weights(u64),
}

/// A strided view of a buffer. Dimensions are in the network's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub source: Source,
    pub dtype: DType,
    /// Elements from the start of the source to index 0.
    pub offset: isize,
    pub dims: Vec<usize>,
    pub strides: Vec<isize>,
}

impl Place {
    /// A dense place whose axes lie in memory in the given order, outermost first.
    pub fn dense(source: Source, fact: &Fact, order: &[usize]) -> Place {
        let sizes: Vec<usize> = order.iter().map(|&a| fact.shape[a]).collect();
        let mut strides = std::vec![0; order.len()];
        for (&axis, stride) in order.iter().zip(contiguous_strides(&sizes)) {
            strides[axis] = stride;
        }
        Place { source, dtype: fact.dtype, offset: 0, dims: fact.shape.clone(), strides }
    }

    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The axes in the order in which they lie in memory, outermost first; axes of size 1 come where they stand.
    pub fn order(&self) -> Vec<usize> {
        let mut long: Vec<usize> = (0..self.rank()).filter(|&a| self.dims[a] > 1).collect();
        long.sort_by_key(|&a| std::cmp::Reverse(self.strides[a].abs()));
        let mut long = long.into_iter();
        (0..self.rank()).map(|a| if self.dims[a] > 1 { long.next().unwrap_or(a) } else { a }).collect()
    }

    /// Whether the elements fill memory without gaps in this order of axes.
    pub fn is_dense(&self, order: &[usize]) -> bool {
        let mut expected = 1;
        for &axis in order.iter().rev().filter(|&&a| self.dims[a] != 1) {
            if self.strides[axis] != expected {
                return false;
            }
            expected *= self.dims[axis] as isize;
        }
        true
    }

    /// Whether some axis repeats the same elements.
    pub fn repeats(&self) -> bool {
        (0..self.rank()).any(|a| self.dims[a] > 1 && self.strides[a] == 0)
    }

    /// Axis i of the result is axis `order[i]` of this place.
    pub fn permuted(&self, order: &[usize]) -> Place {
        Place {
            dims: order.iter().map(|&a| self.dims[a]).collect(),
            strides: order.iter().map(|&a| self.strides[a]).collect(),
            ..self.clone()
        }
    }

    pub fn sliced(&self, starts: &[i64], steps: &[i64], sizes: &[usize]) -> Place {
        let offset: isize = (0..self.rank()).map(|a| starts[a] as isize * self.strides[a]).sum();
        Place {
            offset: self.offset + offset,
            dims: sizes.to_vec(),
            strides: (0..self.rank()).map(|a| self.strides[a] * steps[a] as isize).collect(),
            ..self.clone()
        }
    }

    /// The part `start..start + size` of one axis.
    pub fn part(&self, axis: usize, start: usize, size: usize) -> Place {
        let mut part = self.clone();
        part.offset += start as isize * self.strides[axis];
        part.dims[axis] = size;
        part
    }

    pub fn broadcast(&self, dims: &[usize]) -> Place {
        let lead = dims.len() - self.rank();
        let stride = |a: usize| {
            if a < lead || self.dims[a - lead] == 1 { 0 } else { self.strides[a - lead] }
        };
        Place { dims: dims.to_vec(), strides: (0..dims.len()).map(stride).collect(), ..self.clone() }
    }

    /// The same elements under other dimensions without moving them; `None` where the strides do not allow it.
    pub fn reshaped(&self, dims: &[usize]) -> Option<Place> {
        if self.is_empty() {
            return Some(Place { dims: dims.to_vec(), strides: contiguous_strides(dims), ..self.clone() });
        }
        let mut strides = std::vec![0isize; dims.len()];
        for (old, new) in runs(&self.dims, dims)? {
            let mut stride = self.run_stride(old)?;
            for axis in new.rev() {
                strides[axis] = stride;
                stride *= dims[axis] as isize;
            }
        }
        Some(Place { dims: dims.to_vec(), strides, ..self.clone() })
    }

    /// The order of axes for a dense copy that can be seen with other dimensions: as they lie in memory now, except that
    /// axes which the other dimensions merge or split follow on each other.
    pub fn order_for(&self, dims: &[usize]) -> Vec<usize> {
        let Some(mut runs) = runs(&self.dims, dims).filter(|_| !self.is_empty()) else {
            return (0..self.rank()).collect();
        };
        let reach = |axes: &Range<usize>| {
            let long = axes.clone().filter(|&a| self.dims[a] > 1).map(|a| self.strides[a].abs());
            std::cmp::Reverse(long.max().unwrap_or(isize::MAX))
        };
        runs.sort_by_key(|(old, _)| reach(old));
        runs.into_iter().flat_map(|(old, _)| old).collect()
    }

    /// The stride with which a run of axes can be walked as one; `None` if they do not follow on each other.
    fn run_stride(&self, axes: Range<usize>) -> Option<isize> {
        let mut long = axes.rev().filter(|&a| self.dims[a] != 1);
        let Some(last) = long.next() else { return Some(0) };
        let (stride, mut span) = (self.strides[last], self.strides[last] * self.dims[last] as isize);
        for axis in long {
            if self.strides[axis] != span {
                return None;
            }
            span *= self.dims[axis] as isize;
        }
        Some(stride)
    }
}

/// Pairs of runs of axes, of old and of new dimensions, that hold the same number of elements; `None` if the dimensions
/// do not hold the same.
fn runs(old_dims: &[usize], new_dims: &[usize]) -> Option<Vec<(Range<usize>, Range<usize>)>> {
    let (mut runs, mut old, mut new) = (Vec::new(), 0, 0);
    while new < new_dims.len() || old < old_dims.len() {
        let first = (old, new);
        let mut have = old_dims.get(old).copied().unwrap_or(1);
        let mut want = new_dims.get(new).copied().unwrap_or(1);
        old = (old + 1).min(old_dims.len());
        new = (new + 1).min(new_dims.len());
        while have != want {
            if have < want && old < old_dims.len() {
                have *= old_dims[old];
                old += 1;
            } else if want < have && new < new_dims.len() {
                want *= new_dims[new];
                new += 1;
            } else {
                return None;
            }
        }
        runs.push((first.0..old, first.1..new));
    }
    Some(runs)
}

/// Merges neighbouring axes that are contiguous in all places at once and drops those of size 1. All places have the
/// same dimensions, except that a broadcast axis has stride 0.
pub fn merge_axes(places: &mut [Place]) {
    let Some(first) = places.first() else { return };
    let dims = first.dims.clone();
    let mut kept: Vec<usize> = Vec::new();
    let mut sizes: Vec<usize> = Vec::new();
    for axis in (0..dims.len()).filter(|&a| dims[a] != 1) {
        let joins = kept.last().is_some_and(|&outer| {
            places.iter().all(|p| p.strides[outer] == p.strides[axis] * dims[axis] as isize)
        });
        match (joins, kept.last_mut(), sizes.last_mut()) {
            (true, Some(outer), Some(size)) => {
                *outer = axis;
                *size *= dims[axis];
            }
            _ => {
                kept.push(axis);
                sizes.push(dims[axis]);
            }
        }
    }
    for place in places {
        let strides = kept.iter().map(|&a| place.strides[a]).collect();
        (place.dims, place.strides) = (sizes.clone(), strides);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::strided_offsets;

    fn place(dims: &[usize], order: &[usize]) -> Place {
        Place::dense(Source::Buffer(0), &Fact::new(DType::F32, dims), order)
    }

    fn offsets(place: &Place) -> Vec<usize> {
        strided_offsets(&place.dims, &place.strides, place.offset).collect()
    }

    #[test]
    fn a_reshape_without_moving_names_the_same_elements_in_the_same_order() {
        let nhwc = [0, 2, 3, 1];
        let cases: &[(Place, &[usize], bool)] = &[
            (place(&[2, 3, 4], &[0, 1, 2]), &[6, 4], true),
            (place(&[2, 3, 4], &[0, 1, 2]), &[2, 2, 6], true),
            (place(&[1, 8, 4, 5], &nhwc), &[1, 8, 20], true),
            (place(&[2, 8, 4, 5], &nhwc), &[2, 2, 4, 4, 5], true),
            // Channels and positions are not neighbours in memory.
            (place(&[1, 8, 4, 5], &nhwc), &[1, 160], false),
            (place(&[3, 4], &[1, 0]), &[12], false),
            (place(&[1, 1, 6], &[0, 1, 2]), &[6, 1, 1], true),
            (place(&[0, 4], &[0, 1]), &[2, 0], true),
            (place(&[6], &[0]).broadcast(&[2, 6]), &[2, 3, 2], true),
            (place(&[6], &[0]).broadcast(&[2, 6]), &[12], false),
        ];
        for (place, dims, possible) in cases {
            let reshaped = place.reshaped(dims);
            assert_eq!(reshaped.is_some(), *possible, "{place:?} to {dims:?}");
            if let Some(reshaped) = reshaped {
                assert_eq!(offsets(&reshaped), offsets(place), "{place:?} to {dims:?}");
            }
        }
    }

    #[test]
    fn merged_axes_walk_the_same_memory() {
        let mut places =
            [place(&[2, 1, 3, 4], &[0, 1, 2, 3]), place(&[3, 4], &[0, 1]).broadcast(&[2, 1, 3, 4])];
        let before: Vec<_> = places.iter().map(offsets).collect();
        merge_axes(&mut places);
        assert_eq!(places[0].dims, [2, 12]);
        assert_eq!(places.iter().map(offsets).collect::<Vec<_>>(), before);
    }

    #[test]
    fn order_and_density_agree() {
        for order in [[0, 1, 2, 3], [0, 2, 3, 1], [3, 2, 1, 0]] {
            let place = place(&[2, 3, 4, 5], &order);
            assert_eq!(place.order(), order);
            assert!(place.is_dense(&order) && !place.part(1, 1, 2).is_dense(&order));
        }
    }
}
