//! What `fewstep bench` has found: as JSON, as a table, and as a page.
#![forbid(unsafe_code)]

use super::machine::Machine;
use super::{count, row, scaled};
use serde::Serialize;

/// What `--json` writes: keys stay, new ones may come. docs/bench.md says what each means.
#[derive(Serialize)]
pub struct Report {
    pub version: &'static str,
    pub machine: Machine,
    pub model: String,
    pub provider: String,
    /// The instruction set, or the runtime and its version.
    #[serde(skip)]
    pub kernels: String,
    /// `null` but for the engine, as the sizes of arena and weights.
    pub instruction_set: Option<&'static str>,
    pub precision: &'static str,
    pub threads: usize,
    pub steps: usize,
    pub runs: usize,
    pub open_ms: f64,
    pub first_sample_ms: f64,
    pub step_ms: Distribution,
    /// `null` without a manifest.
    pub sample_ms: Option<Distribution>,
    pub allocations_per_step: f64,
    pub arena_bytes: Option<usize>,
    pub weights_bytes: Option<usize>,
    /// `null` where the system does not tell.
    pub rss_bytes: Option<u64>,
    /// `null` where the system does not tell.
    pub private_dirty_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
}

#[derive(Serialize)]
pub struct Peer {
    pub name: &'static str,
    pub version: String,
    pub threads: usize,
    pub note: Option<&'static str>,
    pub runs: usize,
    pub step_ms: Distribution,
    /// Our own evaluations, in turns with the peer's.
    pub own_step_ms: Distribution,
    /// The peer's median over ours: above one, ours is the faster.
    pub ratio: f64,
    /// `null` if there is no f32 output, or it is not finite.
    pub max_relative_l2: Option<f64>,
}

/// Milliseconds; percentiles by nearest rank.
#[derive(Clone, Copy, Serialize)]
pub struct Distribution {
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Distribution {
    /// Of one sample at least.
    pub fn of(samples: &[f64]) -> Distribution {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent: usize| round(sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]);
        Distribution { min: rank(0), p50: rank(50), p90: rank(90), p99: rank(99), max: rank(100) }
    }

    fn text(self) -> String {
        let Distribution { min, p50, p90, p99, max } = self;
        format!("{p50:.3} ms  (min {min:.3}, p90 {p90:.3}, p99 {p99:.3}, max {max:.3})")
    }
}

/// Milliseconds to the nanosecond.
pub fn round(milliseconds: f64) -> f64 {
    (milliseconds * 1e6).round() / 1e6
}

impl Report {
    /// For people: names and values.
    pub fn table(&self) -> Vec<Vec<String>> {
        let Machine { cpu, cores, peak_gflops, read_gb_per_s, .. } = &self.machine;
        let bytes = |bytes: u64| format!("{}B", scaled(bytes as f64));
        let unknown = || "the system does not tell".to_string();
        let mut rows = vec![
            row(&["model", &self.model]),
            row(&["machine", &format!("{cpu}, {}", count(*cores, "core"))]),
            row(&["a core's peak", &format!("{peak_gflops:.1} GFLOP/s, reads {read_gb_per_s:.1} GB/s")]),
            row(&["kernels", &format!("{}, {}", self.kernels, self.precision)]),
            row(&["threads", &self.threads.to_string()]),
            row(&["opening", &format!("{:.1} ms", self.open_ms)]),
        ];
        match self.sample_ms {
            Some(sample) => rows.extend([
                row(&["first sample", &format!("{:.3} ms", self.first_sample_ms)]),
                row(&["sample", &format!("{}, {}", sample.text(), count(self.steps, "step"))]),
            ]),
            None => rows.push(row(&["first evaluation", &format!("{:.3} ms", self.first_sample_ms)])),
        }
        rows.extend([
            row(&["step", &self.step_ms.text()]),
            row(&["timed", &count(self.runs, "run")]),
            row(&["allocations", &format!("{} a step", self.allocations_per_step)]),
        ]);
        let own = [("arena", self.arena_bytes), ("weights", self.weights_bytes)];
        rows.extend(own.into_iter().filter_map(|(name, own)| Some(row(&[name, &bytes(own? as u64)]))));
        rows.extend([
            row(&["resident", &self.rss_bytes.map_or_else(unknown, bytes)]),
            row(&["private dirty", &self.private_dirty_bytes.map_or_else(unknown, bytes)]),
        ]);
        rows.extend(self.peer.iter().flat_map(Peer::rows));
        rows
    }

    /// A page that needs nothing else: the table, and how the times of a step are spread.
    pub fn page(&self, times: &[(&str, &[f64])]) -> String {
        let rows = self.table().into_iter().map(|cells| {
            let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        });
        let (title, rows) = (escaped(&self.model), rows.collect::<String>());
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>fewstep bench: {title}</title>\n\
             <style>body {{ font: 16px sans-serif; margin: 2em }} td {{ padding: 0 1em 0.3em 0 }}</style>\n\
             <h1>{title}</h1>\n<table>\n{rows}</table>\n<h2>Milliseconds of a step</h2>\n{}</html>\n",
            histograms(times)
        )
    }
}

impl Peer {
    /// Above this relative error, two runtimes do not compute the same.
    const TOLERANCE: f64 = 1e-3;

    fn rows(&self) -> Vec<Vec<String>> {
        let Peer { name, version, threads, ratio, .. } = self;
        let error = match self.max_relative_l2 {
            None => "none of its outputs is f32: nothing compared".into(),
            Some(error) if error <= Peer::TOLERANCE => format!("{error:.1e}"),
            Some(error) => format!("{error:.1e}  WARNING: the two do not compute the same"),
        };
        let mut rows = vec![
            row(&["against", &format!("{name} {version}, {}", count(*threads, "thread"))]),
            row(&["its step", &self.step_ms.text()]),
            row(&["ours, in turns", &self.own_step_ms.text()]),
            row(&["ratio", &format!("{ratio:.2} (its median over ours, {})", count(self.runs, "run"))]),
            row(&["relative error", &error]),
        ];
        rows.extend(self.note.map(|note| row(&["note", note])));
        rows
    }
}

/// Columns of a histogram, and the size of its drawing.
const BINS: usize = 60;
const SIZE: [usize; 2] = [720, 120];

/// One histogram below the other, over the same times. The slowest hundredth is left out: it would squeeze the rest.
fn histograms(times: &[(&str, &[f64])]) -> String {
    let ranges = times.iter().map(|(_, times)| Distribution::of(times));
    let [low, high] = ranges.fold([f64::MAX, 0.0], |[low, high], d| [d.min.min(low), d.p99.max(high)]);
    let width = (high - low).max(1e-6) / BINS as f64;
    let bins = |times: &[f64]| {
        let mut bins = [0usize; BINS];
        let shown = times.iter().filter(|&&time| (low..=high).contains(&time));
        shown.for_each(|time| bins[(((time - low) / width) as usize).min(BINS - 1)] += 1);
        bins
    };
    let [across, up] = SIZE;
    let mut text = String::new();
    for (name, times) in times {
        let bins = bins(times);
        let highest = bins.iter().copied().max().unwrap_or(0).max(1);
        let bar = |(bin, &number): (usize, &usize)| {
            let (x, height) = (bin * across / BINS, number * up / highest);
            let width = across / BINS - 1;
            format!("<rect x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{height}\"/>", up - height)
        };
        let bars: String = bins.iter().enumerate().filter(|(_, number)| **number > 0).map(bar).collect();
        text.push_str(&format!(
            "<p>{}: {low:.3} to {high:.3} ms</p>\n<svg width=\"{across}\" height=\"{up}\" fill=\"#357\">\
             <title>{0}</title>{bars}<path d=\"M0 {up}H{across}\" stroke=\"#999\"/></svg>\n",
            escaped(name)
        ));
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let Distribution { min, p50, p90, p99, max } = Distribution::of(&times);
        assert_eq!([min, p50, p90, p99, max], [1.0, 100.0, 180.0, 198.0, 200.0]);
        let Distribution { min, p50, p99, .. } = Distribution::of(&[2.5]);
        assert_eq!([min, p50, p99], [2.5; 3]);
    }

    #[test]
    fn a_histogram_shows_all_but_the_slowest() {
        let times: Vec<f64> = (0..100).map(|i| if i == 99 { 1e6 } else { f64::from(i) }).collect();
        let text = histograms(&[("a<b", &times)]);
        assert!(text.starts_with("<p>a&lt;b: 0.000 to 98.000 ms</p>"), "{text}");
        assert_eq!(text.matches("<rect").count(), BINS);
    }
}
