//! `--sustain`: runs without a pause, to see whether the machine keeps its speed when it is warm.
#![forbid(unsafe_code)]

use super::super::machine::{Meter, Tree, clock_mhz, hottest_celsius};
use super::BenchError;
use super::distribution::{Distribution, round};
use super::measure::{Subject, Times};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Into so many windows the time is cut; runs that are longer than one make fewer.
const WINDOWS: u32 = 25;
/// A fifth of all windows is the beginning, and another the end. Without a change, all five of one are slower than all
/// five of the other once in 252 times.
const PART: usize = 5;
/// Runs that take so much longer at the end are slower by more than the clock's moods.
const SLOWER: f64 = 1.05;

#[derive(Serialize)]
pub struct Sustained {
    pub seconds: f64,
    pub runs: usize,
    pub first_ms: f64,
    pub last_ms: f64,
    /// The last windows' median over the first ones'.
    pub slowdown: f64,
    /// Whether that is throttling; `null` if there are too few windows to say.
    pub throttled: Option<bool>,
    /// Of the whole time, if a sensor tells.
    pub watts: Option<f64>,
    pub windows: Vec<Window>,
}

/// What was seen in a part of the time. Clock and temperature are those at its end.
#[derive(Clone, Copy, Serialize)]
pub struct Window {
    /// When it ended, since the start.
    pub seconds: f64,
    pub runs: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub mhz: Option<f64>,
    pub celsius: Option<f64>,
}

impl Sustained {
    pub fn measured(
        subject: &mut Subject,
        total: Duration,
        meter: Option<Meter>,
    ) -> Result<Sustained, BenchError> {
        let (tree, begin) = (Tree::system(), Instant::now());
        let mut meter = meter;
        let mut windows = Vec::new();
        while begin.elapsed() < total {
            let end = total / WINDOWS * (windows.len() as u32 + 1);
            let mut times = Times::default();
            while times.runs.is_empty() || begin.elapsed() < end {
                subject.run(&mut times)?;
                meter.iter_mut().for_each(Meter::tick);
            }
            windows.push(Window::of(&times.runs, begin.elapsed(), &tree));
        }
        let watts = meter.map(Meter::stop).map(|energy| energy.joules / energy.seconds);
        Ok(Sustained::of(windows, watts))
    }

    /// Of one window at least.
    fn of(windows: Vec<Window>, watts: Option<f64>) -> Sustained {
        let part = windows.len().div_ceil(PART);
        let (first, last) = (&windows[..part], &windows[windows.len() - part..]);
        let [first_ms, last_ms] = [first, last].map(median);
        let slowdown = last_ms / first_ms;
        let all_slower = || {
            let slowest = first.iter().map(|window| window.p50_ms).fold(0.0, f64::max);
            slowdown >= SLOWER && last.iter().all(|window| window.p50_ms > slowest)
        };
        Sustained {
            seconds: windows[windows.len() - 1].seconds,
            runs: windows.iter().map(|window| window.runs).sum(),
            first_ms,
            last_ms,
            slowdown,
            throttled: (part >= PART).then(all_slower),
            watts,
            windows,
        }
    }

    /// For people, in two sentences at most.
    pub fn text(&self) -> String {
        let Sustained { first_ms, last_ms, slowdown, .. } = self;
        let change = format!("{first_ms:.3} ms at first, {last_ms:.3} ms at last ({slowdown:.2} of it)");
        let verdict = match self.throttled {
            None => "too few windows to say whether it throttles",
            Some(false) => "no throttling",
            Some(true) => "THROTTLED",
        };
        let ends = |value: fn(&Window) -> Option<f64>| {
            Some([value(self.windows.first()?)?, value(self.windows.last()?)?])
        };
        let clock = ends(|window| window.mhz).map(|[a, b]| format!("; {a:.0} MHz, then {b:.0}"));
        let heat = ends(|window| window.celsius).map(|[a, b]| format!("; {a:.1} °C, then {b:.1}"));
        [format!("{change}: {verdict}"), clock.unwrap_or_default(), heat.unwrap_or_default()].concat()
    }
}

impl Window {
    fn of(runs: &[f64], end: Duration, tree: &Tree) -> Window {
        let times = Distribution::of(runs);
        Window {
            seconds: round(end.as_secs_f64()),
            runs: runs.len(),
            p50_ms: times.p50,
            p99_ms: times.p99,
            mhz: clock_mhz(tree),
            celsius: hottest_celsius(tree),
        }
    }
}

/// Of the windows' medians.
fn median(windows: &[Window]) -> f64 {
    let medians: Vec<f64> = windows.iter().map(|window| window.p50_ms).collect();
    Distribution::of(&medians).p50
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of such medians, each of them two seconds.
    fn sustained(medians: &[f64]) -> Sustained {
        let window = |(index, &p50_ms): (usize, &f64)| Window {
            seconds: 2.0 * (index + 1) as f64,
            runs: 10,
            p50_ms,
            p99_ms: 2.0 * p50_ms,
            mhz: Some(2400.0 / p50_ms),
            celsius: Some(50.0 + index as f64),
        };
        Sustained::of(medians.iter().enumerate().map(window).collect(), None)
    }

    #[test]
    fn a_clock_that_falls_is_throttling() {
        let falling: Vec<f64> = (0..25).map(|index| if index < 12 { 1.0 } else { 1.5 }).collect();
        let found = sustained(&falling);
        assert_eq!((found.first_ms, found.last_ms, found.throttled), (1.0, 1.5, Some(true)));
        assert_eq!((found.runs, found.seconds), (250, 50.0));
        let expected = "1.000 ms at first, 1.500 ms at last (1.50 of it): THROTTLED; 2400 MHz, then 1600; 50.0 °C, then 74.0";
        assert_eq!(found.text(), expected);
    }

    #[test]
    fn moods_are_no_throttling() {
        // As slow at the end as once at the beginning.
        let moody: Vec<f64> = (0..25).map(|index| if index == 2 || index > 18 { 1.5 } else { 1.0 }).collect();
        assert_eq!(sustained(&moody).throttled, Some(false));
        // Always a little slower.
        let drifting: Vec<f64> = (0..25).map(|index| 1.0 + 0.001 * f64::from(index)).collect();
        assert_eq!(sustained(&drifting).throttled, Some(false));
        // Faster.
        assert_eq!(sustained(&[vec![2.0; 10], vec![1.0; 15]].concat()).throttled, Some(false));
        assert_eq!(sustained(&[1.0; 20]).throttled, None);
    }
}
