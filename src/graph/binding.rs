//! Binding times: what each value of a network depends on, and so when it has to be computed again.
//!
//! A sampler knows its times beforehand and its condition from the start; only the state changes from evaluation to
//! evaluation. Nodes in the order of their [`Stage`]s make a program whose beginning seldom runs.

use super::{Graph, Node, ValueId};
use crate::ops::Operator;
use crate::plan::{Cost, Stage};
use std::vec::Vec;

/// A set of kinds of inputs that a value depends on. Constants depend on none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binding(u8);

impl Binding {
    pub const CONSTANT: Binding = Binding(0);
    /// What the schedule says: times, durations, numbers of steps.
    pub const TIME: Binding = Binding(1);
    /// Prompts, classes, observations.
    pub const CONDITION: Binding = Binding(2);
    /// The sample in the making.
    pub const STATE: Binding = Binding(4);

    /// What depends on both.
    #[must_use]
    pub fn and(self, other: Binding) -> Binding {
        Binding(self.0 | other.0)
    }

    fn has(self, part: Binding) -> bool {
        self.0 & part.0 != 0
    }

    /// The stage that computes such a value.
    fn stage(self) -> Stage {
        match (self.has(Binding::STATE), self.has(Binding::CONDITION), self.has(Binding::TIME)) {
            (true, true, _) => Stage::StateCondition,
            (true, false, _) => Stage::State,
            (false, true, true) => Stage::TimeCondition,
            (false, true, false) => Stage::Condition,
            // Constants are folded; what is left of them may as well be computed once a schedule.
            (false, false, _) => Stage::Time,
        }
    }
}

impl Graph {
    /// The graph whose inputs are bound as `binding` says for their names. All are [`Binding::STATE`] otherwise.
    #[must_use]
    pub fn bound(mut self, binding: impl Fn(&str) -> Binding) -> Graph {
        self.bindings = self.inputs.iter().map(|&id| binding(&self.value(id).name)).collect();
        self
    }

    /// The graph of a network that is evaluated for several conditions in the same state, which share what does not
    /// depend on the condition.
    #[must_use]
    pub fn branching(self) -> Graph {
        Graph { branches: true, ..self }
    }

    /// The graph of a network at the shapes of two samples, which differ in their conditions.
    #[must_use]
    pub fn paired(self) -> Graph {
        Graph { paired: true, ..self }
    }

    pub fn is_paired(&self) -> bool {
        self.paired
    }

    /// What each value depends on.
    pub fn value_bindings(&self) -> Vec<Binding> {
        let mut all = std::vec![Binding::CONSTANT; self.values.len()];
        for (i, id) in self.inputs.iter().enumerate() {
            all[id.index()] = self.input_binding(i);
        }
        for node in &self.nodes {
            let own = joint(&all, &node.inputs);
            node.outputs.iter().for_each(|output| all[output.index()] = own);
        }
        all
    }

    /// What each stage is made of, in the order of [`Stage::ALL`]. A constant that several stages read is the last one's.
    pub fn costs(&self) -> [Cost; 5] {
        let mut costs = [Cost::default(); 5];
        let mut readers = std::vec![None; self.values.len()];
        for (node, stage) in self.nodes.iter().zip(self.stages()) {
            node.inputs
                .iter()
                .for_each(|input| readers[input.index()] = readers[input.index()].max(Some(stage)));
            let facts = |ids: &[ValueId]| ids.iter().map(|&id| self.fact(id).clone()).collect::<Vec<_>>();
            costs[stage as usize].nodes += 1;
            costs[stage as usize].flop += node.op.flops(&facts(&node.inputs), &facts(&node.outputs));
        }
        for (value, stage) in self.values.iter().zip(readers) {
            if let (Some(tensor), Some(stage)) = (&value.constant, stage) {
                costs[stage as usize].parameters += tensor.len() as u64;
            }
        }
        costs
    }

    /// What changes an input.
    pub fn input_binding(&self, index: usize) -> Binding {
        self.bindings.get(index).copied().unwrap_or(Binding::STATE)
    }

    /// The stage of each node.
    pub fn stages(&self) -> Vec<Stage> {
        let bindings = self.value_bindings();
        self.nodes.iter().map(|node| self.stage(joint(&bindings, &node.inputs))).collect()
    }

    /// The stage that computes the outputs.
    pub(crate) fn last_stage(&self) -> Stage {
        if self.branches { Stage::StateCondition } else { Stage::State }
    }

    /// The stage that computes a value.
    pub(crate) fn stage(&self, binding: Binding) -> Stage {
        match binding.stage() {
            Stage::StateCondition if !self.branches => Stage::State,
            stage => stage,
        }
    }

    /// The stage that computes one of the values of [`Graph::value_bindings`].
    pub(super) fn stage_of(&self, bindings: &[Binding], value: ValueId) -> Stage {
        self.stage(joint(bindings, &[value]))
    }

    /// The nodes in the order of their stages.
    pub(super) fn staged(mut self) -> Graph {
        let mut nodes: Vec<(Stage, Node)> = self.stages().into_iter().zip(self.nodes).collect();
        // A node's stage is never before those of its operands, and the sort is stable.
        nodes.sort_by_key(|&(stage, _)| stage);
        self.nodes = nodes.into_iter().map(|(_, node)| node).collect();
        self
    }
}

/// What depends on all of the values.
fn joint(bindings: &[Binding], values: &[ValueId]) -> Binding {
    // Values that a pass has added meanwhile are constants.
    let of = |id: &ValueId| bindings.get(id.index()).copied().unwrap_or(Binding::CONSTANT);
    values.iter().map(of).fold(Binding::CONSTANT, Binding::and)
}
