//! `fewstep inspect` of a plan file.
#![forbid(unsafe_code)]

use super::inspect::{Port, Sampling, arena, ports, role};
use super::profile::Profile;
use super::stages::{self, StageReport};
use super::{columns, count, models, row, scaled};
use fewstep::manifest::Manifest;
use fewstep::plan::{self, Plan, PlanFile};
use serde::Serialize;

/// What `--json` prints of a plan file: keys stay, new ones may come.
#[derive(Serialize)]
pub struct FileReport {
    name: String,
    path: String,
    /// What the plans were made of.
    origin: String,
    /// `null` without a manifest.
    sampling: Option<Sampling>,
    plans: Vec<PlanReport>,
    /// Of the plan that this CPU runs best, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
}

#[derive(Serialize)]
struct PlanReport {
    instruction_set: &'static str,
    /// Whether this CPU has it.
    runs_here: bool,
    precision: &'static str,
    products: usize,
    halves: usize,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    instructions: usize,
    arena_bytes: usize,
    arena_least_bytes: usize,
    /// Of all plans of the file.
    weights_bytes: usize,
    stages: Vec<StageReport>,
}

impl FileReport {
    pub fn of(source: &models::Source, file: &PlanFile, profile: Option<Profile>) -> FileReport {
        let manifest = source.manifest.as_ref();
        FileReport {
            name: source.name.clone(),
            path: source.path().display().to_string(),
            origin: file.origin().into(),
            sampling: manifest.map(Sampling::of),
            plans: file.plans().map(|plan| PlanReport::of(&plan, manifest)).collect(),
            profile,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut rows =
            vec![row(&["model", &self.name]), row(&["file", &self.path]), row(&["made of", &self.origin])];
        rows.extend(self.sampling.as_ref().map(Sampling::row));
        let plans: Vec<String> = self.plans.iter().map(PlanReport::text).collect();
        let profile =
            self.profile.as_ref().map(|profile| format!("\n{}", profile.text())).unwrap_or_default();
        format!("{}\n{}{profile}", columns(&rows), plans.join("\n"))
    }
}

impl PlanReport {
    fn of(plan: &Plan<'_>, manifest: Option<&Manifest>) -> PlanReport {
        let port = |port: plan::Port| {
            let name = plan.name(port);
            let role = manifest.and_then(|manifest| role(manifest, name));
            let (dtype, shape) = plan.view_at(port.view).map_or_else(Default::default, |view| {
                let dims = (0..view.layout.rank()).map(|axis| view.layout.dim(axis));
                (view.dtype.to_string(), dims.collect())
            });
            Port { name: name.into(), r#type: dtype, shape, role }
        };
        PlanReport {
            instruction_set: plan.isa().name(),
            runs_here: plan.isa().supported(),
            precision: if plan.halves() > 0 { "f16" } else { "f32" },
            products: plan.products(),
            halves: plan.halves(),
            inputs: plan.inputs().map(port).collect(),
            outputs: plan.outputs().map(port).collect(),
            instructions: plan.len(),
            arena_bytes: plan.arena_bytes(),
            arena_least_bytes: plan.arena_least(),
            weights_bytes: plan.weights().len(),
            stages: stages::of(plan),
        }
    }

    fn text(&self) -> String {
        let here = if self.runs_here { "" } else { ", which this CPU lacks" };
        let mut rows = vec![row(&["plan", &format!("{}, {}{here}", self.instruction_set, self.precision)])];
        rows.extend(ports("inputs", &self.inputs));
        rows.extend(ports("outputs", &self.outputs));
        rows.extend([
            row(&["in f16", &format!("{} of {}", self.halves, count(self.products, "product"))]),
            row(&["length", &count(self.instructions, "instruction")]),
            row(&["arena", &arena(self.arena_bytes, self.arena_least_bytes)]),
            row(&["weights", &format!("{}B in the file", scaled(self.weights_bytes as f64))]),
        ]);
        format!("{}\n{}", columns(&rows), stages::text(&self.stages))
    }
}
