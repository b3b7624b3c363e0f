//! A progress bar.
#![forbid(unsafe_code)]

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Work that is done sooner needs no progress bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on the terminal, once the work has shown that it takes its time.
pub struct Progress {
    begin: Instant,
    evaluations: usize,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new(evaluations: usize) -> Progress {
        Progress { begin: Instant::now(), evaluations, bar: None }
    }

    pub fn reach(&mut self, done: usize) {
        if self.bar.is_none() && self.begin.elapsed() > PATIENCE && io::stderr().is_terminal() {
            let bar =
                ProgressBar::with_draw_target(Some(self.evaluations as u64), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} evaluations, {eta} left");
            self.bar = Some(
                bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                    .with_elapsed(self.begin.elapsed()),
            );
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
