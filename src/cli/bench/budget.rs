//! `--budget`: what a device allows a model, and whether the model keeps to it.
#![forbid(unsafe_code)]

use super::report::Report;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// Where a figure is in a report: `None` if it is not known there.
type Find = fn(&Report) -> Option<f64>;

/// What can have an upper bound.
const FIGURES: [(&str, Find); 9] = [
    ("open_ms", |report| Some(report.open_ms)),
    ("first_sample_ms", |report| Some(report.first_sample_ms)),
    ("sample_ms", |report| Some(report.sample_ms?.p50)),
    ("sample_p99_ms", |report| Some(report.sample_ms?.p99)),
    ("jitter", |report| Some(report.jitter)),
    ("arena_bytes", |report| Some(report.arena_bytes? as f64)),
    ("rss_bytes", |report| Some(report.rss_bytes? as f64)),
    ("private_dirty_bytes", |report| Some(report.private_dirty_bytes? as f64)),
    ("allocations_per_step", |report| Some(report.allocations_per_step)),
];

/// The file's table that is read here; the others are about building and running.
#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    budget: BTreeMap<String, BTreeMap<Spanned<String>, Spanned<f64>>>,
}

/// What a file allows a model.
#[derive(Debug)]
pub struct Budget {
    path: PathBuf,
    model: String,
    /// A row of [`FIGURES`] and its bound, each.
    limits: Vec<(usize, f64)>,
}

#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {problem}", path.display())]
    Invalid { path: PathBuf, line: usize, problem: String },
    #[error("{}: there is no [budget.{model}]; {there}", path.display())]
    NoModel { path: PathBuf, model: String, there: String },
    #[error("{}: {} of {all} figures of {model} {} over the budget", path.display(), over, if *over == 1 { "is" } else { "are" })]
    Exceeded { path: PathBuf, model: String, over: usize, all: usize },
}

/// How a measurement stands to a budget.
#[derive(Serialize)]
pub struct Verdict {
    file: PathBuf,
    pub pass: bool,
    pub figures: Vec<Figure>,
}

#[derive(Serialize)]
pub struct Figure {
    figure: &'static str,
    /// `null` if it is not known here, which is no pass.
    found: Option<f64>,
    limit: f64,
    pub pass: bool,
}

impl Budget {
    /// # Errors
    /// If the file cannot be read, its budgets are malformed, or there is none of this model.
    pub fn read(path: &Path, model: &str) -> Result<Budget, BudgetError> {
        let text =
            fs::read_to_string(path).map_err(|source| BudgetError::Read { path: path.into(), source })?;
        let invalid = |at: usize, problem: String| {
            let line =
                1 + text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count();
            BudgetError::Invalid { path: path.into(), line, problem }
        };
        let target: Target = toml::from_str(&text)
            .map_err(|error| invalid(error.span().unwrap_or_default().start, error.message().into()))?;
        let check = |(name, limit): (Spanned<String>, Spanned<f64>)| {
            let row = FIGURES.iter().position(|(known, _)| known == name.get_ref());
            let row = row.ok_or_else(|| invalid(name.span().start, unknown(name.get_ref())))?;
            let valid = (0.0..f64::INFINITY).contains(limit.get_ref());
            let problem = || format!("{}: write a number that is not negative", name.get_ref());
            if valid { Ok((row, limit.into_inner())) } else { Err(invalid(limit.span().start, problem())) }
        };
        // Of all models, so that a mistake is seen whichever is measured.
        let mut budgets = BTreeMap::new();
        for (model, limits) in target.budget {
            budgets.insert(model, limits.into_iter().map(check).collect::<Result<Vec<_>, _>>()?);
        }
        match budgets.remove(model) {
            Some(limits) => Ok(Budget { path: path.into(), model: model.into(), limits }),
            None => {
                let there = names(budgets.keys());
                Err(BudgetError::NoModel { path: path.into(), model: model.into(), there })
            }
        }
    }

    pub fn verdict(&self, report: &Report) -> Verdict {
        let figure = |&(row, limit): &(usize, f64)| {
            let (figure, find) = FIGURES[row];
            let found = find(report);
            Figure { figure, found, limit, pass: found.is_some_and(|found| found <= limit) }
        };
        let figures: Vec<Figure> = self.limits.iter().map(figure).collect();
        Verdict { file: self.path.clone(), pass: figures.iter().all(|figure| figure.pass), figures }
    }

    /// # Errors
    /// If a figure is over the budget.
    pub fn check(&self, verdict: &Verdict) -> Result<(), BudgetError> {
        let over = verdict.figures.iter().filter(|figure| !figure.pass).count();
        if over == 0 {
            return Ok(());
        }
        let (path, model, all) = (self.path.clone(), self.model.clone(), verdict.figures.len());
        Err(BudgetError::Exceeded { path, model, over, all })
    }
}

fn unknown(name: &str) -> String {
    let known: Vec<_> = FIGURES.iter().map(|(known, _)| *known).collect();
    format!("`{name}` is no figure that has a budget; write one of {}", known.join(", "))
}

fn names<'a>(models: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = models.map(|model| format!("[budget.{model}]")).collect();
    if names.is_empty() { "it has no budgets".into() } else { format!("it has {}", names.join(", ")) }
}

impl Figure {
    /// One line for people.
    pub fn text(&self) -> String {
        let Figure { figure, limit, .. } = self;
        match self.found {
            None => format!("{figure} is not known here; the budget is {limit}"),
            Some(found) => {
                let found = (found * 1e3).round() / 1e3;
                let share =
                    if *limit > 0.0 { format!(" ({:.0} %)", found / limit * 100.0) } else { String::new() };
                format!(
                    "{figure} is {found} of {limit}{share}{}",
                    if self.pass { "" } else { ": over the budget" }
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, model: &str) -> Result<Budget, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("board.toml");
        fs::write(&path, text).unwrap();
        let shown = format!("{}", folder.path().display());
        Budget::read(&path, model).map_err(|error| error.to_string().replace(&format!("{shown}/"), ""))
    }

    const TEXT: &str = "triple = \"aarch64\"\n[run]\nhost = 1\n[budget.digits]\nsample_ms = 3\njitter = 1.5\n[budget.policy]\n";

    #[test]
    fn budgets_are_read_among_other_tables() {
        assert_eq!(read(TEXT, "digits").unwrap().limits, [(4, 1.5), (2, 3.0)]);
        assert!(read(TEXT, "policy").unwrap().limits.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let error = read(TEXT, "terrain").unwrap_err();
        assert_eq!(
            error,
            "board.toml: there is no [budget.terrain]; it has [budget.digits], [budget.policy]"
        );
        assert_eq!(read("", "a").unwrap_err(), "board.toml: there is no [budget.a]; it has no budgets");
        let unknown = read("[budget.b]\nopen_ms = 1\nsample = 2\n[budget.a]\n", "a").unwrap_err();
        assert!(
            unknown
                .starts_with("board.toml:3: `sample` is no figure that has a budget; write one of open_ms, "),
            "{unknown}"
        );
        for (text, line) in [
            ("[budget.a]\njitter = -1", 2),
            ("\n[budget.a]\nrss_bytes = nan", 3),
            ("[budget.a]\nopen_ms = \"1\"", 2),
            ("a = [", 1),
        ] {
            let error = read(text, "a").unwrap_err();
            assert!(error.starts_with(&format!("board.toml:{line}: ")), "{error}");
        }
    }

    #[test]
    fn figures_are_lines() {
        let figure = |found: Option<f64>, limit| Figure {
            figure: "jitter",
            found,
            limit,
            pass: found.is_some_and(|found| found <= limit),
        };
        assert_eq!(figure(Some(1.25), 1.5).text(), "jitter is 1.25 of 1.5 (83 %)");
        assert_eq!(figure(Some(2.0), 1.5).text(), "jitter is 2 of 1.5 (133 %): over the budget");
        assert_eq!(figure(Some(0.5), 0.0).text(), "jitter is 0.5 of 0: over the budget");
        assert_eq!(figure(None, 1.5).text(), "jitter is not known here; the budget is 1.5");
    }
}
