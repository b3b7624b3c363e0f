//! Products of a few columns, such as the last convolution of a network that makes an image. Tiles would use as many lanes as
//! there are columns. Here lanes hold values of the depth: a vector of a row times one of a column, lane by lane, and a sum over
//! the lanes at the end.

use super::args::{GemmArgs, Rows};
use super::gemm::{self, DEPTH, Depth, Grain, MAX_MR, MAX_TAPS, Panel, STRIPS, Strips, Table};
use super::simd::{MAX_LANES, Simd};
use core::marker::PhantomData;

/// The most columns, and how many lanes there have to be for each.
const COLUMNS: usize = 4;
const LANES_EACH: usize = 4;
/// Rows whose sums are taken at once.
const ROWS: usize = 8;
/// Values of a column at one depth, whose taps are whole vectors.
const COLUMN: usize = DEPTH + MAX_TAPS * MAX_LANES;

/// Whether a product is one.
pub(super) fn is_narrow<V: Simd>(args: &GemmArgs) -> bool {
    args.n <= COLUMNS && args.n * LANES_EACH <= V::LANES && args.m >= ROWS && args.k >= V::LANES
}

/// Rows of A where they lie, and the columns of B.
pub(super) struct Narrow<V, const MR: usize, const NV: usize> {
    tables: [Table; STRIPS],
    columns: [[f32; COLUMN]; COLUMNS],
    lanes: PhantomData<V>,
}

impl<V: Simd, const MR: usize, const NV: usize> Narrow<V, MR, NV> {
    pub(super) fn new() -> Self {
        let tables = [[[core::ptr::null(); MAX_MR]; MAX_TAPS]; STRIPS];
        Narrow { tables, columns: [[0.0; COLUMN]; COLUMNS], lanes: PhantomData }
    }
}

impl<V: Simd, const MR: usize, const NV: usize> Strips for Narrow<V, MR, NV> {
    const GRAIN: Grain = gemm::grain(MR, NV * V::LANES);
    type B = f32;

    #[inline(always)]
    unsafe fn prepare(&mut self, a: &Rows, strip: usize, rows: [usize; 2], depth: &Depth) {
        // SAFETY: the caller's contract. Rows are taken in eights, so all of a table is filled.
        unsafe { gemm::point(a, rows, MAX_MR, depth, &mut self.tables[strip]) }
    }

    #[inline(always)]
    unsafe fn take(&mut self, depth: &Depth, b: *const f32, columns: usize) {
        let (k, nr) = (depth.k(), Self::GRAIN.nr);
        for (column, values) in self.columns[..columns].iter_mut().enumerate() {
            let taps = values.chunks_exact_mut(k.next_multiple_of(V::LANES)).take(depth.taps());
            for (tap, values) in taps.enumerate() {
                for (i, value) in values.iter_mut().enumerate() {
                    // SAFETY: an element of the panel.
                    *value = if i < k { unsafe { *b.add((tap * k + i) * nr + column) } } else { 0.0 };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply(&self, strip: usize, rows: usize, depth: &Depth, panel: &Panel<f32>) {
        let (k, nr) = (depth.k(), Self::GRAIN.nr);
        let whole = k / V::LANES * V::LANES;
        // SAFETY: the caller's contract; the columns were taken at this depth.
        unsafe {
            for row in 0..rows {
                // Lanes beyond the columns are read with them.
                V::splat(0.0).store(panel.acc.add(row * nr));
            }
            for first in (0..rows).step_by(ROWS) {
                for (column, values) in self.columns[..panel.columns].iter().enumerate() {
                    let mut sums = [V::splat(0.0); ROWS];
                    let mut values = values.as_ptr();
                    for tap in &self.tables[strip][..depth.taps()] {
                        let from = tap.as_ptr().add(first);
                        for i in (0..whole).step_by(V::LANES) {
                            let b = V::load(values);
                            for (r, sum) in sums.iter_mut().enumerate() {
                                *sum = V::load((*from.add(r)).add(i)).mul_add(b, *sum);
                            }
                            values = values.add(V::LANES);
                        }
                        if whole < k {
                            let b = V::load(values);
                            for (r, sum) in sums.iter_mut().enumerate() {
                                *sum = V::load_first((*from.add(r)).add(whole), k - whole).mul_add(b, *sum);
                            }
                            values = values.add(V::LANES);
                        }
                    }
                    for (row, sum) in (first..rows).zip(V::totals(sums)) {
                        *panel.acc.add(row * nr + column) = sum;
                    }
                }
            }
        }
    }
}
