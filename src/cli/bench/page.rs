//! A report as a page that needs nothing else: key figures, charts, and the table.
#![forbid(unsafe_code)]

use super::super::{count, scaled};
use super::against::Turns;
use super::distribution::Distribution;
use super::measure::Times;
use super::plot::{Chart, Mark, Series, escaped};
use super::report::Report;
use super::sustain::{Sustained, Window};
use super::sweep::Point;

const STYLE: &str = include_str!("page.css");

/// The page of a report, with the times that it sums up.
pub fn of(report: &Report, times: &Times, turns: Option<&Turns>) -> String {
    let title = escaped(&report.model);
    let under = format!(
        "{}, {}, {}, {}",
        report.machine.cpu,
        report.kernels,
        report.precision,
        count(report.threads, "thread")
    );
    [
        format!("<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>fewstep bench: {title}</title>\n<style>\n{STYLE}</style>\n"),
        format!("<h1>{title}</h1>\n<p class=\"under\">{}, fewstep {}</p>\n", escaped(&under), report.version),
        tiles(report),
        verdict(report),
        section("Times", &[spread(times, turns), order(report, times)]),
        report.sustained.as_ref().map(sustained).unwrap_or_default(),
        report.sweep.as_deref().map(sweep).unwrap_or_default(),
        section("Figures", &[table(&report.own_rows())]),
        section("Machine", &[table(&report.machine_rows())]),
        "</html>\n".into(),
    ]
    .concat()
}

fn section(title: &str, parts: &[String]) -> String {
    format!("<h2>{title}</h2>\n{}", parts.concat())
}

fn table(rows: &[Vec<String>]) -> String {
    let row = |cells: &Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    format!("<table>\n{}</table>\n", rows.iter().map(row).collect::<String>())
}

/// What one looks for first.
fn tiles(report: &Report) -> String {
    let milliseconds = |ms: f64| format!("{ms:.2} ms");
    let mut tiles = Vec::new();
    tiles.extend(report.sample_ms.map(|times| (milliseconds(times.p50), "a sample, median")));
    tiles.push((milliseconds(report.step_ms.p50), "a step, median"));
    tiles.push((milliseconds(report.step_ms.p99), "a step, p99"));
    tiles.push((format!("{:.2}", report.jitter), "jitter, p99 / p50"));
    let first = report.cold_start.as_ref().ok().and_then(|starts| starts.first());
    tiles.extend(first.map(|start| (milliseconds(start.process_ms), "new process to first sample")));
    tiles.extend(report.rss_bytes.map(|bytes| (format!("{}B", scaled(bytes as f64)), "resident memory")));
    tiles.push((report.allocations(), "allocations a step"));
    tiles.extend(
        report
            .energy
            .as_ref()
            .ok()
            .map(|energy| (format!("{:.3} J", energy.joules_per_run), "a run, by sensor")),
    );
    tiles.extend(report.peer.as_ref().map(|peer| (format!("{:.2}", peer.ratio), "peer's time / ours")));
    let tile = |(value, name): &(String, &str)| {
        format!("<div class=\"tile\"><b>{}</b><span>{name}</span></div>\n", escaped(value))
    };
    format!("<div class=\"tiles\">\n{}</div>\n", tiles.iter().map(tile).collect::<String>())
}

/// Of the budget.
fn verdict(report: &Report) -> String {
    let Some(verdict) = &report.budget else { return String::new() };
    let line = |(pass, text): (bool, String)| {
        let (class, text) = (if pass { "pass" } else { "fail" }, escaped(&text));
        format!("<p class=\"verdict {class}\">{text}</p>\n")
    };
    let over = verdict.figures.iter().filter(|figure| !figure.pass).map(|figure| (false, figure.text()));
    let within = verdict
        .pass
        .then(|| (true, format!("all {} within the budget", count(verdict.figures.len(), "figure"))));
    section("Budget", &[over.chain(within).map(line).collect()])
}

/// The share of steps that are no longer than a time; of both runtimes, if there are two.
fn spread(times: &Times, turns: Option<&Turns>) -> String {
    let all: Vec<(&str, &[f64])> = match turns {
        Some(turns) => vec![("fewstep", &turns.ours), (turns.name, &turns.theirs)],
        None => vec![("fewstep", &times.steps)],
    };
    let last = all.iter().map(|(_, times)| Distribution::of(times).p99).fold(0.0, f64::max);
    let series =
        all.into_iter().map(|(name, times)| Series { name, mark: Mark::Steps, points: shares(times, last) });
    Chart {
        title: "Share of steps that take no longer",
        x: "ms (beyond the largest p99 cut off)",
        y: "%",
        series: series.collect(),
        from_zero: true,
        ..Chart::default()
    }
    .svg()
}

/// Percentages of times up to a last one.
fn shares(times: &[f64], last: f64) -> Vec<[f64; 2]> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let share = |(index, &time): (usize, &f64)| [time, 100.0 * (index + 1) as f64 / times.len() as f64];
    let start = [sorted.first().copied().unwrap_or_default(), 0.0];
    let shares = sorted.iter().enumerate().map(share).filter(|[time, _]| *time <= last);
    [start].into_iter().chain(shares).collect()
}

fn order(report: &Report, times: &Times) -> String {
    let points = times.runs.iter().enumerate().map(|(index, &time)| [(index + 1) as f64, time]).collect();
    let title = if report.sample_ms.is_some() {
        "Samples, one after the other"
    } else {
        "Evaluations, one after the other"
    };
    let series = vec![Series { name: "", mark: Mark::Dots, points }];
    Chart { title, x: "run", y: "ms", series, from_zero: true, ..Chart::default() }.svg()
}

fn sustained(found: &Sustained) -> String {
    let line = |name, value: fn(&Window) -> Option<f64>| {
        let points =
            found.windows.iter().filter_map(|window| Some([window.seconds, value(window)?])).collect();
        Series { name, mark: Mark::Line, points }
    };
    let chart =
        |title, y, series, from_zero| Chart { title, x: "s", y, series, from_zero, ..Chart::default() }.svg();
    let times = vec![line("median", |window| Some(window.p50_ms)), line("p99", |window| Some(window.p99_ms))];
    section(
        "Sustained",
        &[
            format!("<p class=\"under\">{}</p>\n", escaped(&found.text())),
            chart("Runs without a pause", "ms", times, true),
            chart("Clock of the fastest core", "MHz", vec![line("clock", |window| window.mhz)], false),
            chart(
                "Hottest sensor of the CPU",
                "°C",
                vec![line("temperature", |window| window.celsius)],
                false,
            ),
        ],
    )
}

fn sweep(points: &[Point]) -> String {
    let bars = points.iter().enumerate().map(|(index, point)| [index as f64, point.speedup]).collect();
    let ideal =
        points.iter().enumerate().map(|(index, point)| [index as f64, point.threads as f64]).collect();
    let chart = Chart {
        title: "Speed-up of a step",
        x: "threads",
        y: "times one thread",
        series: vec![
            Series { name: "measured", mark: Mark::Bars, points: bars },
            Series { name: "ideal", mark: Mark::Line, points: ideal },
        ],
        labels: points.iter().map(|point| point.threads.to_string()).collect(),
        from_zero: true,
    };
    section("Threads", &[chart.svg()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_rise_to_the_last_time() {
        let times: Vec<f64> =
            (0..100).rev().map(|time| if time == 99 { 1e6 } else { f64::from(time) }).collect();
        let found = shares(&times, 98.0);
        assert_eq!((found[0], found[1], found[found.len() - 1]), ([0.0, 0.0], [0.0, 1.0], [98.0, 99.0]));
    }
}
