//! Whether instructions write where they also read: threads would race there, and what comes out would hang on chance.

use super::Plan;
use super::instruction::{Access, Instruction, View};

/// Whether nothing that the instruction writes is touched otherwise by it; element by element it may work in place.
pub(super) fn is_free(plan: &Plan, instruction: &Instruction) -> bool {
    let in_place = matches!(instruction, Instruction::Map { .. } | Instruction::Norm { .. });
    let mut free = true;
    each(plan, instruction, &mut |i, written, access| {
        if access != Access::Write {
            return;
        }
        each(plan, instruction, &mut |j, other, access| {
            let same = in_place && access == Access::Read && written == other;
            free &= i == j || same || disjoint(&written, &other);
        });
    });
    free
}

/// Calls `f` with every operand that there is, numbered.
fn each(plan: &Plan, instruction: &Instruction, f: &mut dyn FnMut(usize, View, Access)) {
    let mut number = 0;
    let mut next = |id, access| {
        number += 1;
        if let Some(view) = plan.view_at(id) {
            f(number, view, access);
        }
    };
    instruction.views(&mut next);
    for (span, access) in instruction.spans() {
        plan.operands(span).for_each(|id| next(id, access));
    }
}

/// Whether two operands share no byte, as far as can be told: they lie one behind the other, or side by side in rows that are
/// as far apart as some stride.
fn disjoint(a: &View, b: &View) -> bool {
    if a.space != b.space {
        return true;
    }
    let (Some(own), Some(other)) = (bytes(a), bytes(b)) else { return true };
    let behind = own.1 <= other.0 || other.1 <= own.0;
    let strides = [a, b].into_iter().flat_map(steps).map(|(step, _)| step.unsigned_abs());
    behind || strides.into_iter().any(|row| beside(a, b, row))
}

/// Whether all bytes of one operand lie in other columns of a matrix with rows of so many bytes than those of the other.
fn beside(a: &View, b: &View, row: u64) -> bool {
    // Where the columns begin, and how many there are.
    let columns = |view: &View| {
        let within = steps(view).filter(|&(step, _)| step.unsigned_abs() % row != 0);
        let (low, high) = span(within);
        let begin = (view.offset as i64 + low).rem_euclid(row as i64) as u64;
        (begin, (high - low) as u64 + view.dtype.size() as u64)
    };
    let ((a, a_width), (b, b_width)) = (columns(a), columns(b));
    let from_a_to_b = if b >= a { b - a } else { b + row - a };
    a_width <= from_a_to_b && b_width <= row - from_a_to_b
}

/// Bytes from one element to the next along each axis, and how many follow the first one.
fn steps(view: &View) -> impl Iterator<Item = (i64, i64)> + '_ {
    let (layout, size) = (&view.layout, view.dtype.size() as i64);
    let axes = (0..layout.rank()).filter(|&axis| layout.dims[axis] > 1 && layout.strides[axis] != 0);
    axes.map(move |axis| (i64::from(layout.strides[axis]) * size, i64::from(layout.dims[axis]) - 1))
}

/// How far steps lead from the first element, backwards and forwards.
fn span(steps: impl Iterator<Item = (i64, i64)>) -> (i64, i64) {
    steps.fold((0, 0), |(low, high), (step, count)| {
        (low + (step * count).min(0), high + (step * count).max(0))
    })
}

/// The first byte of an operand, and the one behind its last; `None` if it has no element.
fn bytes(view: &View) -> Option<(i64, i64)> {
    if view.layout.is_empty() {
        return None;
    }
    let (low, high) = span(steps(view));
    let offset = view.offset as i64;
    Some((offset + low, offset + high + view.dtype.size() as i64))
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::super::instruction::Space;
    use super::super::{
        PlanError, VERSION,
        instruction::{Cost, Packing, PlanData, Span},
    };
    use super::*;
    use crate::kernels::{DType, Layout};
    use crate::kernels::{Isa, MapCode, MapStep};
    use std::collections::HashSet;
    use std::vec::Vec;

    /// Every byte of an operand.
    fn all(view: &View) -> HashSet<i64> {
        let mut offsets = std::vec![view.offset as i64];
        for axis in 0..view.layout.rank() {
            let step = view.layout.stride(axis) as i64 * view.dtype.size() as i64;
            let dim = view.layout.dim(axis) as i64;
            offsets = offsets.iter().flat_map(|&at| (0..dim).map(move |i| at + i * step)).collect();
        }
        offsets.into_iter().flat_map(|at| at..at + view.dtype.size() as i64).collect()
    }

    fn view(offset: u64, dims: &[usize], strides: &[isize]) -> View {
        let layout = Layout::new(dims, strides).expect("a layout");
        View { space: Space::Arena, dtype: DType::F32, offset, layout }
    }

    #[test]
    fn parts_of_a_concatenation_and_of_products_are_apart() {
        // Channels of two images, rows of several images, heads of queries and keys.
        let cases = [
            (view(0, &[1, 4, 4, 3], &[128, 32, 8, 1]), view(12, &[1, 4, 4, 5], &[128, 32, 8, 1])),
            (view(0, &[2, 1, 6], &[18, 6, 1]), view(24, &[2, 2, 6], &[18, 6, 1])),
            (view(0, &[1, 2, 5, 4], &[120, 4, 24, 1]), view(32, &[1, 2, 4, 5], &[120, 4, 1, 24])),
            (view(0, &[7], &[1]), view(28, &[7], &[1])),
            (view(24, &[7], &[-1]), view(28, &[7], &[1])),
            (view(0, &[7, 0], &[1, 1]), view(0, &[7], &[1])),
        ];
        for (a, b) in cases {
            assert!(all(&a).is_disjoint(&all(&b)) && disjoint(&a, &b) && disjoint(&b, &a), "{a:?}, {b:?}");
        }
    }

    /// A plan of one instruction on two views of 64 values.
    fn plan(instruction: Instruction, views: [View; 2]) -> Result<(), PlanError> {
        let data = PlanData {
            version: VERSION,
            isa: Isa::Portable,
            packing: Packing::of_isa(Isa::Portable),
            arena_bytes: 1024,
            arena_least: 0,
            slot_bytes: [0; 3],
            stages: [0, 0, 0, 1, 1],
            baked: None,
            costs: [Cost::default(); 5],
            products: 0,
            halves: 0,
            paired: false,
            instructions: &[instruction],
            views: &views,
            steps: &[MapStep { code: MapCode::Exp, dst: 1, a: 0, b: 0, c: 0, immediate: 0.0 }],
            operands: &[0],
            inputs: &[],
            outputs: &[],
            names: "",
        };
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&data).expect("a plan");
        Plan::of(&bytes, &[]).map(|_| ())
    }

    #[test]
    fn plans_that_write_to_what_they_read_are_refused() {
        let rows = |offset| view(offset, &[64], &[1]);
        let refused = Err(PlanError::Instruction { instruction: 0, problem: "it writes to what it reads" });
        let copy = Instruction::Copy { input: 0, output: 1 };
        let one = Span { start: 0, len: 1 };
        let map = Instruction::Map { steps: one, inputs: one, output: 1 };
        assert_eq!(plan(copy, [rows(0), rows(256)]), Ok(()));
        assert_eq!(plan(map, [rows(0), rows(0)]), Ok(()), "in place");
        for offset in [0, 64, 252] {
            assert_eq!(plan(copy, [rows(0), rows(offset)]), refused, "{offset}");
            assert!(offset == 0 || plan(map, [rows(0), rows(offset)]) == refused, "{offset}");
        }
    }

    #[test]
    fn what_is_told_apart_shares_no_byte() {
        let mut state = 1u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        let mut told = 0;
        for _ in 0..20_000 {
            let [a, b] = [(); 2].map(|()| {
                let rank = 1 + random(3) as usize;
                let dims: Vec<usize> = (0..rank).map(|_| random(4) as usize).collect();
                let strides: Vec<isize> = (0..rank).map(|_| random(25) as isize - 8).collect();
                View {
                    dtype: [DType::F32, DType::I64][random(2) as usize],
                    ..view(400 + 4 * random(40), &dims, &strides)
                }
            });
            if disjoint(&a, &b) {
                assert!(all(&a).is_disjoint(&all(&b)), "{a:?}, {b:?}");
                told += 1;
            }
        }
        assert!(told > 1000, "{told}");
    }
}
