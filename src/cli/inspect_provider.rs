//! `fewstep inspect --provider`: which nodes of a network a provider takes.
#![forbid(unsafe_code)]

use super::inspect::{Port, ports, role};
use super::stages::{self, StageReport};
use super::{columns, models, row, scaled};
use fewstep::manifest::Manifest;
use fewstep::plan::Fact;
use fewstep::provider::{Assigned, Network};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What `--json` prints: keys stay, new ones may come.
#[derive(Serialize)]
pub struct ProviderReport {
    name: String,
    path: String,
    provider: String,
    version: String,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    open_ms: f64,
    /// What the engine evaluates before the provider gets the rest, where these change; nothing if the provider has it all.
    stages: Vec<StageReport>,
    /// Elements that the engine hands on in each evaluation.
    handed_on: usize,
    /// Of the network, after the runtime's own optimizations; nothing where the runtime does not tell.
    nodes: usize,
    /// By execution provider, and by operator.
    assignment: BTreeMap<String, BTreeMap<String, usize>>,
    /// Nodes that do not run where they were to run.
    fallback: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    node: String,
    operator: String,
    /// What runs it.
    to: String,
}

impl ProviderReport {
    pub fn of(source: &models::Source, network: &Network, open: Duration) -> ProviderReport {
        let manifest = source.manifest.as_ref();
        let nodes = network.assignment();
        let mut assignment: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for node in nodes {
            *assignment.entry(node.to.clone()).or_default().entry(node.operator.clone()).or_default() += 1;
        }
        let (stages, handed_on) = match network.prelude() {
            Some((plan, values)) => {
                (stages::of(&plan).into_iter().filter(|s| !s.is_last()).collect(), values)
            }
            None => (Vec::new(), 0),
        };
        let fallen = |node: &Assigned| Node {
            node: node.node.clone(),
            operator: node.operator.clone(),
            to: node.to.clone(),
        };
        ProviderReport {
            name: source.name.clone(),
            path: source.path().display().to_string(),
            provider: network.provider().into(),
            version: network.version().into(),
            inputs: network.inputs().map(|port| described(port, manifest)).collect(),
            outputs: network.outputs().map(|port| described(port, None)).collect(),
            open_ms: (open.as_secs_f64() * 1e6).round() / 1e3,
            stages,
            handed_on,
            nodes: nodes.len(),
            assignment,
            fallback: nodes.iter().filter(|node| !node.is_taken).map(fallen).collect(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut rows = vec![
            row(&["model", &self.name]),
            row(&["file", &self.path]),
            row(&["provider", &format!("{} {}", self.provider, self.version)]),
            row(&["opening", &format!("{:.1} ms", self.open_ms)]),
        ];
        rows.extend(ports("inputs", &self.inputs));
        rows.extend(ports("outputs", &self.outputs));
        for stage in &self.stages {
            rows.push(row(&["on the engine", &stage.line()]));
        }
        if !self.stages.is_empty() {
            rows.push(row(&[
                "handed on",
                &format!("{} values an evaluation", scaled(self.handed_on as f64)),
            ]));
        }
        for (to, operators) in &self.assignment {
            let all: usize = operators.values().sum();
            let counts: Vec<_> = operators.iter().map(|(name, count)| format!("{count} {name}")).collect();
            rows.push(row(&["nodes", &format!("{all} of {} on {to}: {}", self.nodes, counts.join(", "))]));
        }
        let fallback = match &self.fallback[..] {
            _ if self.nodes == 0 => {
                vec![row(&["fallback", "the runtime does not say what it does with which node"])]
            }
            [] => vec![row(&["fallback", "every node runs on the provider"])],
            nodes => nodes
                .iter()
                .map(|n| row(&["fallback", &format!("{} ({}) on {}", n.operator, n.node, n.to)]))
                .collect(),
        };
        rows.extend(fallback);
        columns(&rows)
    }
}

fn described((name, fact): (&str, Fact), manifest: Option<&Manifest>) -> Port {
    Port {
        name: name.into(),
        r#type: fact.dtype.to_string(),
        role: manifest.and_then(|manifest| role(manifest, name)),
        shape: fact.shape,
    }
}
