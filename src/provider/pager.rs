//! Networks whose weights do not all fit into the memory that they may take.

use crate::memory::Memory;
use crate::plan::{Plan, PlanFile};

/// What a process has beside the network, where the system does not tell.
const PROGRAM: usize = 12 << 20;

/// What a budget keeps free: pages come in groups, and stacks grow.
const MARGIN: usize = 2 << 20;

/// Lets weights leave the memory when so many have been read that more would not fit.
#[derive(Debug)]
pub(super) struct Pager {
    file: PlanFile,
    /// Bytes of weights that may be in memory.
    room: usize,
    /// Bytes that this process may have in memory, if it is held to any.
    given: Option<usize>,
    /// Bytes of weights that have been read since they were all out of memory.
    read: usize,
}

impl Pager {
    /// `None` if all weights fit into `room`.
    pub(super) fn new(file: &PlanFile, room: usize, given: Option<usize>) -> Option<Pager> {
        let (map, weights) = file.weights();
        if room >= weights.len() {
            return None;
        }
        map.streamed();
        Some(Pager { file: file.clone(), room, given, read: 0 })
    }

    /// Takes in that an instruction has run.
    pub(super) fn after(&mut self, plan: &Plan<'_>, i: usize) {
        self.read += bytes(plan, i);
        let next = bytes(plan, i + 1);
        if next == 0 {
            return;
        }
        // Large pages bring more of a file than was read, and the program grows too.
        let is_full = |given: usize| {
            let resident = Memory::resident().unwrap_or(0) as usize;
            resident.saturating_add(next).saturating_add(MARGIN) > given
        };
        if self.read + next > self.room || self.given.is_some_and(is_full) {
            let (map, weights) = self.file.weights();
            map.drop_pages(weights);
            self.read = 0;
        }
    }
}

/// Bytes of weights that may be in memory in a process that may take `given`. `working` is the size of the network's memory,
/// of which nothing needs to be touched yet.
///
/// # Errors
/// With the smallest number of bytes that the network runs in, if it does not run in `given`.
pub(super) fn room(plan: &Plan<'_>, working: usize, given: usize) -> Result<usize, usize> {
    // All of one instruction's weights are in memory together.
    let largest = (0..plan.len()).map(|i| bytes(plan, i)).max().unwrap_or(0);
    let others = program() + working + MARGIN;
    let room = given.saturating_sub(others);
    if room < largest { Err(others + largest) } else { Ok(room) }
}

/// What this process has in memory beside mapped weights and untouched memory: its program, its heap and its stacks.
fn program() -> usize {
    let Some(Memory { rss, anonymous, .. }) = Memory::now() else { return PROGRAM };
    anonymous as usize + (rss.saturating_sub(anonymous) as usize).min(PROGRAM)
}

/// Bytes of weights that an instruction reads.
fn bytes(plan: &Plan<'_>, i: usize) -> usize {
    let mut bytes = 0;
    plan.weights_of(i, &mut |range| bytes += range.len());
    bytes
}
