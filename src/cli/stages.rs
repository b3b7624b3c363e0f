//! When the parts of a plan run: its stages, as a table and as a picture.
#![forbid(unsafe_code)]

use super::{columns, row, scaled};
use fewstep::plan::{Plan, Stage};
use serde::Serialize;
use std::collections::BTreeMap;

/// A stage of a plan.
#[derive(Serialize)]
pub struct StageReport {
    /// `time`, `condition`, `time+condition`, `state` or `state+condition`: what has to change for it to run again.
    name: &'static str,
    instructions: usize,
    /// Of the network; one that several stages read is the last one's.
    parameters: u64,
    flop: u64,
    /// Constants as the kernels read them; those that several stages read are counted for each.
    weights_bytes: usize,
    /// What is kept of it, for each time, condition, or both.
    kept_bytes: usize,
}

impl StageReport {
    /// Whether it is the one that runs in every evaluation.
    pub fn is_last(&self) -> bool {
        self.name == Stage::State.name()
    }

    /// For people.
    pub fn line(&self) -> String {
        let [parameters, flop] = [self.parameters, self.flop].map(|count| scaled(count as f64));
        format!("{}: {} instructions, {parameters} parameters, {flop} FLOP", self.name, self.instructions)
    }
}

/// The stages of a plan that have something to do, in the order in which they run.
pub fn of(plan: &Plan<'_>) -> Vec<StageReport> {
    let report = |stage: Stage| {
        let (range, cost) = (plan.stage(stage), plan.cost(stage));
        let mut constants = BTreeMap::new();
        for i in range.clone() {
            plan.weights_of(i, &mut |range| {
                let end = constants.entry(range.start).or_insert(range.end);
                *end = range.end.max(*end);
            });
        }
        StageReport {
            name: stage.name(),
            instructions: range.len(),
            parameters: cost.parameters,
            flop: cost.flop,
            weights_bytes: constants.into_iter().map(|(start, end)| end - start).sum(),
            kept_bytes: stage.kept().map_or(0, |kept| plan.slot_bytes(kept)),
        }
    };
    Stage::ALL.into_iter().map(report).filter(|stage| stage.instructions > 0).collect()
}

/// A table, and a bar of parameters and of work.
pub fn text(stages: &[StageReport]) -> String {
    let title = ["stage", "instructions", "parameters", "share", "FLOP", "share", "weights", "kept"];
    let mut rows = vec![row(&title)];
    let total = |of: fn(&StageReport) -> f64| stages.iter().map(of).sum::<f64>().max(1.0);
    let (parameters, flop) = (|s: &StageReport| s.parameters as f64, |s: &StageReport| s.flop as f64);
    for stage in stages {
        rows.push(vec![
            stage.name.into(),
            stage.instructions.to_string(),
            scaled(stage.parameters as f64),
            format!("{:.1} %", parameters(stage) / total(parameters) * 100.0),
            scaled(stage.flop as f64),
            format!("{:.1} %", flop(stage) / total(flop) * 100.0),
            format!("{}B", scaled(stage.weights_bytes as f64)),
            format!("{}B", scaled(stage.kept_bytes as f64)),
        ]);
    }
    let bar = |of: fn(&StageReport) -> f64| bar(&stages.iter().map(|s| (s.name, of(s))).collect::<Vec<_>>());
    format!("{}\nparameters |{}|\nFLOP       |{}|\n", columns(&rows), bar(parameters), bar(flop))
}

/// 64 characters shared out among the stages: t, c, b for both, s, and S for the state and the condition.
fn bar(parts: &[(&str, f64)]) -> String {
    const WIDTH: f64 = 64.0;
    let total: f64 = parts.iter().map(|part| part.1).sum::<f64>().max(1.0);
    let (mut text, mut sum) = (String::new(), 0.0);
    for &(name, share) in parts {
        let letter = match name {
            "time+condition" => 'b',
            "state+condition" => 'S',
            name => name.chars().next().unwrap_or(' '),
        };
        sum += share;
        let end = (sum / total * WIDTH).round() as usize;
        text.extend(std::iter::repeat_n(letter, end.saturating_sub(text.chars().count())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_full_and_fair() {
        let text = bar(&[("time", 1.0), ("time+condition", 1.0), ("state", 2.0)]);
        assert_eq!(text, format!("{}{}{}", "t".repeat(16), "b".repeat(16), "s".repeat(32)));
        assert_eq!(bar(&[("state", 0.0)]), "");
    }
}
