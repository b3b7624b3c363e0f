//! Lays the buffers of a plan out in one arena before the first step.

use super::ALIGNMENT;
use std::cmp::Reverse;
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

/// How often to try again while there may be a better arrangement.
const ATTEMPTS: usize = 64;

/// Byte offsets of the buffers, and the arena's size. Buffers whose lives overlap do not overlap in memory.
///
/// Largest first, each into the smallest gap that fits (as TensorFlow Lite's and XNNPACK's planners do). As long as that
/// leaves gaps that nothing fits, the buffer that lies highest goes before all others in another attempt; and again, from
/// those on that live longest.
pub fn assign(buffers: &[Buffer]) -> (Vec<usize>, usize) {
    let (least, life) = (least(buffers), |buffer: &Buffer| buffer.last.saturating_sub(buffer.first));
    let largest = attempts(buffers, least, |b| (Reverse(b.bytes), b.first));
    if largest.1 <= least {
        return largest;
    }
    let longest = attempts(buffers, least, |b| (Reverse(life(b)), b.bytes));
    if longest.1 < largest.1 { longest } else { largest }
}

/// The best of many arrangements, the first one in the order of a key; `least` can not be bettered.
fn attempts<K: Ord>(buffers: &[Buffer], least: usize, key: impl Fn(&Buffer) -> K) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| key(&buffers[i]));
    let mut best = assign_in(&order, buffers);
    let mut last = best.clone();
    for _ in 1..ATTEMPTS {
        let highest = order.iter().position(|&i| last.0[i] + rounded(buffers[i].bytes) == last.1);
        let Some(highest) = highest.filter(|_| best.1 > least) else { break };
        order[..=highest].rotate_right(1);
        last = assign_in(&order, buffers);
        if last.1 < best.1 {
            best.clone_from(&last);
        }
    }
    best
}

/// Each buffer, in a given order, into the smallest gap that fits.
fn assign_in(order: &[usize], buffers: &[Buffer]) -> (Vec<usize>, usize) {
    let mut offsets = std::vec![0; buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for &i in order {
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
pub fn least(buffers: &[Buffer]) -> usize {
    let live = |at: usize| {
        let live = buffers.iter().filter(|b| b.first <= at && at <= b.last);
        live.map(|b| rounded(b.bytes)).sum::<usize>()
    };
    // It can only grow where a life begins.
    buffers.iter().map(|b| live(b.first)).max().unwrap_or(0)
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

    /// By size alone, the first needs a third more. The second is only found from those on that live longest.
    #[test]
    fn gaps_are_filled_where_another_order_can() {
        let one = [(3, 1, 1), (2, 5, 8), (1, 4, 7), (2, 4, 5), (3, 7, 7), (3, 4, 4)];
        let two = [(3, 0, 0), (1, 3, 5), (3, 1, 4), (3, 6, 9), (2, 5, 8), (3, 4, 6)];
        for lives in [one, two] {
            let buffers = lives.map(|(units, first, last)| Buffer { bytes: ALIGNMENT * units, first, last });
            assert_eq!(assign(&buffers).1, least(&buffers));
        }
    }

    #[test]
    fn a_chain_needs_the_two_largest_neighbours() {
        let chain: Vec<Buffer> = (0..10).map(|i| Buffer { bytes: 640, first: i, last: i + 1 }).collect();
        assert_eq!(assign(&chain).1, 2 * 640);
    }
}
