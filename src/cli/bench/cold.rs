//! The cold start: new processes of this program that open the model, take one run, and end.
#![forbid(unsafe_code)]

use super::super::models;
use super::distribution::round;
use super::measure::{Subject, Times};
use super::{Bench, BenchError};
use serde::{Deserialize, Serialize};
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How many processes there are at most, and how long they may take together before no further one is started.
const PROCESSES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(3);
/// What tells a process that it is one of them.
pub const ARGUMENT: &str = "cold-start";

/// One process. Whether the system had its files in memory, the last two say.
#[derive(Clone, Copy, Serialize)]
pub struct Start {
    /// From asking the system for the process to its first sample.
    pub process_ms: f64,
    #[serde(flatten)]
    pub inside: Inside,
}

/// What the process finds itself, and prints.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Inside {
    pub open_ms: f64,
    pub first_sample_ms: f64,
    /// What the system fetched from a disk for it; 0 if all was in the page cache. `null` where the system does not tell.
    pub read_bytes: Option<u64>,
    /// Pages that the process had to wait for.
    pub major_faults: Option<u64>,
}

/// A few cold starts, the first one first: it finds the page cache as it was.
///
/// # Errors
/// If a process does not start, or ends without what it was started for.
pub fn starts() -> io::Result<Vec<Start>> {
    let begin = Instant::now();
    let mut starts = vec![start()?];
    while starts.len() < PROCESSES && begin.elapsed() < PATIENCE {
        starts.push(start()?);
    }
    Ok(starts)
}

fn start() -> io::Result<Start> {
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).arg(format!("--{ARGUMENT}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let begin = Instant::now();
    let mut process = command.spawn()?;
    let mut line = String::new();
    let read = process.stdout.take().map(|out| BufReader::new(out).read_line(&mut line)).transpose();
    let elapsed = begin.elapsed();
    process.wait()?;
    read?;
    if line.is_empty() {
        return Err(io::Error::other("the new process ended without a sample"));
    }
    let process_ms = round(elapsed.as_secs_f64() * 1e3);
    Ok(Start { process_ms, inside: serde_json::from_str(&line)? })
}

impl Inside {
    /// What this process finds when it opens the model and runs it once.
    pub fn measured(bench: &Bench, source: &models::Source) -> Result<Inside, BenchError> {
        let (mut subject, open) = Subject::open(bench, source, bench.threads())?;
        let mut times = Times::default();
        subject.run(&mut times)?;
        Ok(Inside {
            open_ms: round(open.as_secs_f64() * 1e3),
            first_sample_ms: round(times.last()),
            read_bytes: read_bytes(&fs::read_to_string("/proc/self/io").unwrap_or_default()),
            major_faults: major_faults(&fs::read_to_string("/proc/self/stat").unwrap_or_default()),
        })
    }
}

fn read_bytes(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

/// The twelfth field; the second is a name in brackets, which may hold anything.
fn major_faults(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_what_was_not_in_memory() {
        let io = "rchar: 6976\nwchar: 0\nsyscr: 10\nsyscw: 0\nread_bytes: 40960\nwrite_bytes: 0\n";
        assert_eq!(read_bytes(io), Some(40960));
        let stat = "7 (a ) b) R 1 7 7 0 -1 4194304 900 0 12 0 5 3 0 0 20 0 1 0 100 0 0";
        assert_eq!(major_faults(stat), Some(12));
        assert!(read_bytes("").is_none() && major_faults("").is_none());
    }
}
