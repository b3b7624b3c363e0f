//! Lays the buffers of a plan out in one arena before the first step.

use super::ALIGNMENT;
use std::vec::Vec;

/// A buffer in its place in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Bytes from the start of the arena.
    pub offset: usize,
    pub buffer: Buffer,
}

/// A piece of working memory and when it is in use: from the instruction that first touches it to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub bytes: usize,
    pub first: usize,
    pub last: usize,
}

/// Byte offsets of the buffers, and the arena's size. Buffers whose lives overlap do not overlap in memory.
///
/// Largest first, each into the smallest gap that fits (as TensorFlow Lite's and XNNPACK's planners do).
pub fn assign(buffers: &[Buffer]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].bytes), buffers[i].first));
    let mut offsets = std::vec![0; buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for i in order {
        let lives = |other: &usize| {
            buffers[*other].first <= buffers[i].last && buffers[i].first <= buffers[*other].last
        };
        // `placed` is sorted by offset, so the gaps come in order.
        let neighbours = placed.iter().copied().filter(|other| lives(other));
        offsets[i] = best_gap(buffers, &offsets, neighbours, rounded(buffers[i].bytes));
        total = total.max(offsets[i] + rounded(buffers[i].bytes));
        let at = placed.partition_point(|&other| offsets[other] <= offsets[i]);
        placed.insert(at, i);
    }
    (offsets, total)
}

/// The most bytes that are in use at once: no arena can be smaller.
pub fn least(placed: &[Placed]) -> usize {
    let live = |at: usize| {
        let live = placed.iter().filter(|p| p.buffer.first <= at && at <= p.buffer.last);
        live.map(|p| rounded(p.buffer.bytes)).sum::<usize>()
    };
    // It can only grow where a life begins.
    placed.iter().map(|p| live(p.buffer.first)).max().unwrap_or(0)
}

/// The offset of the smallest gap between the neighbours that holds `bytes`, or the end behind all of them.
fn best_gap(
    buffers: &[Buffer],
    offsets: &[usize],
    neighbours: impl Iterator<Item = usize>,
    bytes: usize,
) -> usize {
    let (mut end, mut best) = (0, None);
    for other in neighbours {
        let gap = offsets[other].saturating_sub(end);
        if gap >= bytes && best.is_none_or(|(size, _)| gap < size) {
            best = Some((gap, end));
        }
        end = end.max(offsets[other] + rounded(buffers[other].bytes));
    }
    best.map_or(end, |(_, at)| at)
}

fn rounded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random lives and sizes: no two buffers that live at the same time may share a byte.
    #[test]
    fn buffers_that_live_together_do_not_overlap() {
        let mut state = 7u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        for _ in 0..200 {
            let buffers: Vec<Buffer> = (0..40)
                .map(|_| {
                    let first = random(50) as usize;
                    Buffer { bytes: random(1000) as usize, first, last: first + random(10) as usize }
                })
                .collect();
            let (offsets, total) = assign(&buffers);
            for i in 0..buffers.len() {
                assert!(offsets[i].is_multiple_of(ALIGNMENT) && offsets[i] + buffers[i].bytes <= total);
                for j in 0..i {
                    let together = buffers[i].first <= buffers[j].last && buffers[j].first <= buffers[i].last;
                    let apart = offsets[i] + buffers[i].bytes <= offsets[j]
                        || offsets[j] + buffers[j].bytes <= offsets[i];
                    assert!(!together || apart, "{:?} and {:?}", buffers[i], buffers[j]);
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_the_two_largest_neighbours() {
        let chain: Vec<Buffer> = (0..10).map(|i| Buffer { bytes: 640, first: i, last: i + 1 }).collect();
        assert_eq!(assign(&chain).1, 2 * 640);
    }
}
