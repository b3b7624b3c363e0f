//! Passes: each a function from a graph to an equal, cheaper graph.

mod absorb;
mod group_norm;
mod maps;
mod program;
#[cfg(test)]
mod tests;

use super::Graph;

impl Graph {
    /// The graph after all passes.
    pub fn optimized(self) -> Graph {
        let graph = group_norm::whole(self);
        let graph = maps::fused(graph);
        let graph = absorb::epilogues(graph);
        graph.remove_dead()
    }
}
