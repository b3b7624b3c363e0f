//! `--compare`: two reports side by side, figure by figure, and whether they differ by more than the noise.
#![forbid(unsafe_code)]

use super::super::row;
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How one can tell that two values of a figure differ.
#[derive(Clone, Copy)]
enum Noise {
    /// Each report has the interval that the figure is in, below this pointer.
    Interval(&'static str),
    /// Counted and not measured: every difference is one.
    None,
    /// Measured once.
    Unknown,
}

/// Figures of a report (docs/bench.md), by their names there and as JSON pointers.
const FIGURES: [(&str, &str, Noise); 17] = [
    ("open_ms", "/open_ms", Noise::Unknown),
    ("first_sample_ms", "/first_sample_ms", Noise::Unknown),
    ("cold_start.process_ms", "/cold_start/0/process_ms", Noise::Unknown),
    ("step_ms.p50", "/step_ms/p50", Noise::Interval("/step_ms/intervals/p50")),
    ("step_ms.p90", "/step_ms/p90", Noise::Interval("/step_ms/intervals/p90")),
    ("step_ms.p99", "/step_ms/p99", Noise::Interval("/step_ms/intervals/p99")),
    ("sample_ms.p50", "/sample_ms/p50", Noise::Interval("/sample_ms/intervals/p50")),
    ("sample_ms.p90", "/sample_ms/p90", Noise::Interval("/sample_ms/intervals/p90")),
    ("sample_ms.p99", "/sample_ms/p99", Noise::Interval("/sample_ms/intervals/p99")),
    ("jitter", "/jitter", Noise::Unknown),
    ("energy.joules_per_run", "/energy/joules_per_run", Noise::Unknown),
    ("sustained.slowdown", "/sustained/slowdown", Noise::Unknown),
    ("allocations_per_step", "/allocations_per_step", Noise::None),
    ("arena_bytes", "/arena_bytes", Noise::None),
    ("weights_bytes", "/weights_bytes", Noise::None),
    ("rss_bytes", "/rss_bytes", Noise::Unknown),
    ("private_dirty_bytes", "/private_dirty_bytes", Noise::Unknown),
];

/// What has to be equal if the figures are to say something about one change.
const CONDITIONS: [(&str, &str); 17] = [
    ("version", "/version"),
    ("model", "/model"),
    ("provider", "/provider"),
    ("instruction_set", "/instruction_set"),
    ("precision", "/precision"),
    ("threads", "/threads"),
    ("steps", "/steps"),
    ("machine.cpu", "/machine/cpu"),
    ("machine.board", "/machine/board"),
    ("machine.os", "/machine/os"),
    ("machine.arch", "/machine/arch"),
    ("machine.cores", "/machine/cores"),
    ("machine.kernel", "/machine/kernel"),
    ("machine.memory_bytes", "/machine/memory_bytes"),
    ("machine.cpu_features", "/machine/cpu_features"),
    ("machine.clusters[0].governor", "/machine/clusters/0/governor"),
    ("machine.clusters[0].limit_mhz", "/machine/clusters/0/limit_mhz"),
];

#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: this is no report of `fewstep bench --json`: {problem}", path.display())]
    NoReport { path: PathBuf, problem: String },
}

/// Two reports.
#[derive(Serialize)]
pub struct Comparison {
    a: PathBuf,
    b: PathBuf,
    /// What else than the figures differs.
    differences: Vec<Difference>,
    figures: Vec<Figure>,
}

#[derive(Serialize)]
struct Difference {
    key: &'static str,
    a: Value,
    b: Value,
}

#[derive(Serialize)]
struct Figure {
    figure: &'static str,
    /// `null` if the report does not have it.
    a: Option<f64>,
    b: Option<f64>,
    /// b over a.
    ratio: Option<f64>,
    /// Where the figures are with a probability of 95 % each, if that is known.
    intervals: Option<[[f64; 2]; 2]>,
    /// `null` if it is not known what the noise is.
    beyond_noise: Option<bool>,
}

impl Comparison {
    /// # Errors
    /// If a file cannot be read, or is no report.
    pub fn read(paths: [&Path; 2]) -> Result<Comparison, CompareError> {
        let [a, b] = [report(paths[0])?, report(paths[1])?];
        Ok(Comparison::of(paths, &a, &b))
    }

    fn of([path_a, path_b]: [&Path; 2], a: &Value, b: &Value) -> Comparison {
        let at = |report: &Value, pointer: &str| report.pointer(pointer).cloned().unwrap_or(Value::Null);
        let difference = |&(key, pointer): &(&'static str, &str)| {
            let (a, b) = (at(a, pointer), at(b, pointer));
            (a != b).then_some(Difference { key, a, b })
        };
        let figures = FIGURES.iter().map(|figure| Figure::of(figure, a, b));
        Comparison {
            a: path_a.into(),
            b: path_b.into(),
            differences: CONDITIONS.iter().filter_map(difference).collect(),
            figures: figures.filter(|figure| figure.a.is_some() || figure.b.is_some()).collect(),
        }
    }

    /// For people: what else differs, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let warning = |Difference { key, a, b }: &Difference| format!("{key} differs: {a}, then {b}");
        self.differences.iter().map(warning).collect()
    }

    /// For people: a figure a row.
    pub fn table(&self) -> Vec<Vec<String>> {
        let (a, b) = (self.a.display().to_string(), self.b.display().to_string());
        let mut rows = vec![row(&["figure", &a, &b, "ratio", "the difference is"])];
        rows.extend(self.figures.iter().map(Figure::row));
        rows
    }
}

/// A file as JSON that has what every report has.
fn report(path: &Path) -> Result<Value, CompareError> {
    let no_report = |problem: String| CompareError::NoReport { path: path.into(), problem };
    let text = fs::read_to_string(path).map_err(|source| CompareError::Read { path: path.into(), source })?;
    let report: Value = serde_json::from_str(&text).map_err(|error| no_report(error.to_string()))?;
    match ["/machine/cpu", "/model", "/step_ms/p50"].into_iter().find(|&key| report.pointer(key).is_none()) {
        Some(key) => Err(no_report(format!("it has no {}", key[1..].replace('/', ".")))),
        None => Ok(report),
    }
}

impl Figure {
    fn of(&(figure, pointer, noise): &(&'static str, &'static str, Noise), a: &Value, b: &Value) -> Figure {
        let [value_a, value_b] = [a, b].map(|report| report.pointer(pointer).and_then(Value::as_f64));
        let both = value_a.zip(value_b);
        let intervals = match noise {
            Noise::Interval(pointer) => interval(a, pointer).zip(interval(b, pointer)).map(|(a, b)| [a, b]),
            Noise::None | Noise::Unknown => None,
        };
        let beyond_noise = match noise {
            Noise::None => both.map(|(a, b)| a != b),
            _ => intervals.map(|[a, b]| a[1] < b[0] || b[1] < a[0]),
        };
        let ratio = both.filter(|(a, _)| *a > 0.0).map(|(a, b)| b / a);
        Figure { figure, a: value_a, b: value_b, ratio, intervals, beyond_noise }
    }

    fn row(&self) -> Vec<String> {
        let number = |number: Option<f64>| match number {
            None => "-".into(),
            Some(number) if number.fract() == 0.0 => number.to_string(),
            Some(number) => format!("{number:.3}"),
        };
        let verdict = match (self.a.zip(self.b), self.beyond_noise) {
            (None, _) => "",
            (Some((a, b)), _) if a == b => "none",
            (_, None) => "of unknown noise",
            (_, Some(false)) => "within the noise",
            (_, Some(true)) => "beyond the noise",
        };
        let ratio = self.ratio.map_or("-".into(), |ratio| format!("{ratio:.3}"));
        vec![self.figure.into(), number(self.a), number(self.b), ratio, verdict.into()]
    }
}

fn interval(report: &Value, pointer: &str) -> Option<[f64; 2]> {
    let ends = report.pointer(pointer)?.as_array()?;
    Some([ends.first()?.as_f64()?, ends.get(1)?.as_f64()?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A report with a median that is in an interval.
    fn report_of(cpu: &str, p50: f64, interval: [f64; 2], arena: usize) -> Value {
        let intervals = json!({ "p50": interval, "p90": null });
        json!({
            "model": "digits", "open_ms": 10.0, "machine": { "cpu": cpu, "cores": 4 }, "arena_bytes": arena,
            "step_ms": { "p50": p50, "p90": 2.0 * p50, "intervals": intervals },
        })
    }

    fn compared(a: &Value, b: &Value) -> Comparison {
        Comparison::of([Path::new("a.json"), Path::new("b.json")], a, b)
    }

    fn figure<'a>(comparison: &'a Comparison, name: &str) -> &'a Figure {
        comparison.figures.iter().find(|figure| figure.figure == name).expect("the figure")
    }

    #[test]
    fn intervals_that_overlap_are_noise() {
        let a = report_of("x", 1.0, [0.9, 1.2], 100);
        for (b, beyond) in [([1.1, 1.5], false), ([1.3, 1.5], true), ([0.5, 0.8], true)] {
            let comparison = compared(&a, &report_of("x", 1.25, b, 100));
            let step = figure(&comparison, "step_ms.p50");
            assert_eq!((step.ratio, step.beyond_noise), (Some(1.25), Some(beyond)));
            // Too few runs for this one's interval, and one run for the other.
            assert_eq!(figure(&comparison, "step_ms.p90").beyond_noise, None);
            assert_eq!(figure(&comparison, "open_ms").beyond_noise, None);
            assert!(comparison.differences.is_empty());
        }
    }

    #[test]
    fn counts_have_no_noise_and_conditions_are_warned_of() {
        let comparison =
            compared(&report_of("x", 1.0, [0.9, 1.1], 100), &report_of("y", 1.0, [0.9, 1.1], 101));
        assert_eq!(figure(&comparison, "arena_bytes").beyond_noise, Some(true));
        assert_eq!(comparison.warnings(), ["machine.cpu differs: \"x\", then \"y\""]);
        let rows = comparison.table();
        assert_eq!(rows[0], ["figure", "a.json", "b.json", "ratio", "the difference is"]);
        assert_eq!(rows[2], ["step_ms.p50", "1", "1", "1.000", "none"]);
        assert!(rows.contains(&row(&["arena_bytes", "100", "101", "1.010", "beyond the noise"])));
        assert!(!rows.iter().any(|row| row[0] == "jitter"));
    }

    #[test]
    fn files_that_are_no_reports_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let error = |text: &str| {
            fs::write(&path, text).unwrap();
            Comparison::read([&path, &path]).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(error("{").contains("a.json: this is no report of `fewstep bench --json`: EOF"));
        assert!(error("{\"machine\": {\"cpu\": \"x\"}}").ends_with("it has no model"));
        assert_eq!(error(&report_of("x", 1.0, [1.0, 1.0], 1).to_string()), "");
    }
}
