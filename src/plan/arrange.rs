//! Where the buffers of a plan lie: in the arena, or in the slots of what a stage keeps.

use super::arena::{self, Buffer, Placed};
use super::instruction::{Access, Instruction, Kept, Port, Space, Stage, ViewId};
use super::lower::Lower;
use super::place::Source;
use super::{ALIGNMENT, SLOT_HEAD};
use std::vec::Vec;

/// Where the memory of a plan goes.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) arena_bytes: usize,
    pub(super) arena_least: usize,
    pub(super) arena: Vec<Placed>,
    pub(super) slot_bytes: [usize; 3],
}

impl Lower<'_> {
    /// Gives every buffer its place in the arena or in what a stage keeps, and every view its final offset.
    pub(super) fn assign(&mut self, inputs: &[Port], outputs: &[Port]) -> Memory {
        let (kept, head) = (self.kept(inputs), self.heads(inputs));
        let (owners, buffers) = self.lives(inputs, outputs, &kept);
        let mut offsets = std::vec![0; buffers.len()];
        let mut placed = |space: Option<Kept>, head: usize| {
            let own: Vec<usize> = (0..buffers.len()).filter(|&i| kept[i] == space).collect();
            let lives: Vec<Buffer> = own.iter().map(|&i| buffers[i]).collect();
            let (places, total) = arena::assign(&lives);
            own.iter().zip(&places).for_each(|(&i, place)| offsets[i] = head + place);
            let used = places.into_iter().zip(lives).map(|(offset, buffer)| Placed { offset, buffer });
            (total, used.filter(|place| place.buffer.bytes > 0).collect::<Vec<_>>())
        };
        let (arena_bytes, arena) = placed(None, 0);
        let slot_bytes =
            Kept::ALL.map(|kept| head[kept as usize] + placed(Some(kept), head[kept as usize]).0);
        for (source, view) in &mut self.views {
            match *source {
                Source::Buffer(buffer) => {
                    let owner = owners[buffer as usize];
                    view.space = kept[owner].map_or(Space::Arena, Space::Slot);
                    view.offset += offsets[owner] as u64;
                }
                Source::Weights(offset) => view.offset += offset,
            }
        }
        let arena_least = arena::least(&arena.iter().map(|place| place.buffer).collect::<Vec<_>>());
        Memory { arena_bytes, arena_least, arena, slot_bytes }
    }

    /// What a slot begins with: whether it holds anything, and the times that it is for. Nothing if no instruction and no
    /// input has to do with the stage.
    fn heads(&self, inputs: &[Port]) -> [usize; 3] {
        let runs = |stage| self.stages.contains(&stage);
        let both = runs(Stage::TimeCondition);
        let times = inputs.iter().filter(|port| port.stage == Stage::Time);
        let times: usize = times.filter_map(|port| self.views[port.view as usize].1.key_bytes()).sum();
        let conditions = inputs.iter().any(|port| port.stage == Stage::Condition);
        let time =
            if runs(Stage::Time) || both { (SLOT_HEAD + times).next_multiple_of(ALIGNMENT) } else { 0 };
        [time, if conditions { SLOT_HEAD } else { 0 }, if both { SLOT_HEAD } else { 0 }]
    }

    /// The stage that keeps each buffer: the one that writes it, if a later one reads it; and the condition's inputs.
    fn kept(&self, inputs: &[Port]) -> Vec<Option<Kept>> {
        let mut written = std::vec![Stage::State; self.buffers.len()];
        let mut kept = std::vec![None; self.buffers.len()];
        for (instruction, &stage) in self.instructions.iter().zip(&self.stages) {
            for (buffer, _, access) in self.touched(instruction) {
                if access == Access::Write {
                    written[buffer] = stage;
                }
            }
        }
        for (instruction, &stage) in self.instructions.iter().zip(&self.stages) {
            for (buffer, _, _) in self.touched(instruction) {
                if written[buffer] < stage {
                    kept[buffer] = written[buffer].kept();
                }
            }
        }
        for port in inputs.iter().filter(|port| port.stage == Stage::Condition) {
            if let Some(buffer) = self.buffer_of(port.view) {
                kept[buffer] = Some(Kept::Condition);
            }
        }
        kept
    }

    /// For each buffer, the buffer whose memory it uses, and the lives of these. A result takes over the memory of an
    /// operand that dies with it, where the kernel allows it.
    fn lives(&self, inputs: &[Port], outputs: &[Port], kept: &[Option<Kept>]) -> (Vec<usize>, Vec<Buffer>) {
        let touched: Vec<Vec<(usize, ViewId, Access)>> =
            self.instructions.iter().map(|i| self.touched(i)).collect();
        let end = self.instructions.len();
        let again = self.stages.partition_point(|&stage| stage <= Stage::State);
        let unused = |&bytes: &usize| Buffer { bytes, first: usize::MAX, last: 0 };
        let mut buffers: Vec<Buffer> = self.buffers.iter().map(unused).collect();
        for (i, views) in touched.iter().enumerate() {
            for &(buffer, _, _) in views {
                buffers[buffer].first = buffers[buffer].first.min(i);
                buffers[buffer].last = buffers[buffer].last.max(i);
            }
        }
        for (buffer, kept) in buffers.iter_mut().zip(kept).filter(|(buffer, _)| buffer.first < end) {
            // What is kept is there in all evaluations, and what the state's stage leaves to the one that runs again for
            // another condition, until that is over.
            let stays = kept.is_some() || (buffer.first < again && buffer.last >= again);
            buffer.last = if stays { end } else { buffer.last };
        }
        // The caller writes inputs before the first instruction and reads outputs after the last. Inputs are kept
        // whole, so that only those that change need to be written again.
        for buffer in inputs.iter().filter_map(|port| self.buffer_of(port.view)) {
            (buffers[buffer].first, buffers[buffer].last) = (0, end);
        }
        for buffer in outputs.iter().filter_map(|port| self.buffer_of(port.view)) {
            buffers[buffer].last = end;
            buffers[buffer].first = buffers[buffer].first.min(end);
        }
        buffers.iter_mut().filter(|b| b.first == usize::MAX).for_each(|b| b.bytes = 0);
        let mut owners: Vec<usize> = (0..buffers.len()).collect();
        for (i, views) in touched.iter().enumerate() {
            if let Some((from, to)) = self.in_place(i, views, &buffers, &owners) {
                if kept[to].is_some() {
                    continue;
                }
                owners[to] = from;
                buffers[from].last = buffers[from].last.max(buffers[to].last);
                buffers[to] = Buffer { bytes: 0, ..buffers[to] };
            }
        }
        // All that a slot holds is there at once.
        for (buffer, _) in buffers.iter_mut().zip(kept).filter(|(_, kept)| kept.is_some()) {
            buffer.first = 0;
        }
        (owners, buffers)
    }

    /// The operand's and the result's buffer, if the instruction may compute the one in the other's place.
    fn in_place(
        &self,
        at: usize,
        touched: &[(usize, ViewId, Access)],
        buffers: &[Buffer],
        owners: &[usize],
    ) -> Option<(usize, usize)> {
        let (Instruction::Map { output, .. } | Instruction::Norm { y: output, .. }) = self.instructions[at]
        else {
            return None;
        };
        let to = self.buffer_of(output)?;
        if owners[to] != to || buffers[to].first != at {
            return None;
        }
        let written = self.views[output as usize].1;
        let mut operands = touched.iter().filter(|t| t.2 == Access::Read);
        operands.find_map(|&(read, _, _)| {
            let from = owners[read];
            let dies = buffers[from].last == at && buffers[from].bytes == buffers[to].bytes && from != to;
            // Every operand in that memory must be read exactly where the result is written.
            let mut same = touched.iter().filter(|t| t.2 == Access::Read && owners[t.0] == from);
            let aligned = same.all(|t| self.views[t.1 as usize].1 == written);
            (dies && aligned).then_some((from, to))
        })
    }

    fn touched(&self, instruction: &Instruction) -> Vec<(usize, ViewId, Access)> {
        let mut all = Vec::new();
        instruction.views(&mut |id, access| all.push((id, access)));
        for (span, access) in instruction.spans() {
            all.extend(self.operands[span.range()].iter().map(|&id| (id, access)));
        }
        all.into_iter().filter_map(|(id, access)| Some((self.buffer_of(id)?, id, access))).collect()
    }

    fn buffer_of(&self, id: ViewId) -> Option<usize> {
        match self.views[id as usize].0 {
            Source::Buffer(buffer) => Some(buffer as usize),
            Source::Weights(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::{Builder, DType, Fact, ValueId};
    use crate::kernels::{Activation, Isa, MapCode};
    use crate::ops::{Concat, Norm, Over};
    use crate::plan::{CompiledPlan, Constants, Instruction, Recipe, lower};
    use std::vec;
    use std::vec::Vec;

    /// Sixteen rows of sixteen values.
    const BYTES: usize = 16 * 16 * size_of::<f32>();

    fn plan(b: Builder, output: ValueId) -> CompiledPlan {
        let graph = b.finish(vec![output], vec!["y".into()]);
        lower(&graph, Recipe::new(Isa::Portable), Constants::default()).expect("a plan")
    }

    fn rows(b: &mut Builder) -> ValueId {
        b.input("x", Fact::new(DType::F32, &[16, 16]))
    }

    #[test]
    fn maps_and_norms_work_in_place() {
        let mut b = Builder::new();
        let x = rows(&mut b);
        let y = b.map1(MapCode::Exp, x).expect("a map");
        let norm = Norm {
            over: Over::Trailing(1),
            center: true,
            epsilon: 1e-5,
            gamma: false,
            beta: false,
            activation: Activation::None,
        };
        let y = b.push(norm, &[y]).expect("a norm");
        let y = b.map1(MapCode::Exp, y).expect("a map");
        // Inputs keep what they hold.
        assert_eq!(plan(b, y).plan().arena_bytes(), 2 * BYTES);
    }

    /// What computes the last part may need memory to work in.
    #[test]
    fn what_waits_for_a_concatenation_leaves_its_memory_when_that_is_begun() {
        let mut b = Builder::new();
        let x = rows(&mut b);
        let waiting = b.map1(MapCode::Exp, x).expect("a map");
        let later = (0..20).fold(waiting, |y, _| b.map1(MapCode::Neg, y).expect("a map"));
        let joined = b.push(Concat { axis: 1 }, &[waiting, later]).expect("a concatenation");
        let plan = plan(b, joined);
        let plan = plan.plan();
        let last: Vec<_> = (0..plan.len()).filter_map(|i| plan.instruction(i)).skip(20).collect();
        assert!(matches!(last[..], [Instruction::Copy { .. }, Instruction::Map { .. }]), "{last:?}");
    }
}
