//! The command line: its arguments, its commands one file each, and what these share.

mod allocations;
mod bench;
mod bundle;
mod choice;
mod compile;
mod first_step;
mod inspect;
mod inspect_pipeline;
mod inspect_plan;
mod inspect_provider;
mod list;
mod machine;
mod models;
mod npy;
mod output;
mod picture;
mod pipeline;
mod profile;
mod progress;
mod provider;
mod reference;
mod run;
mod sample;
mod sample_file;
mod shapes;
mod speech;
mod stages;
mod verify;

use clap::{Parser, Subcommand, ValueEnum};
use fewstep::cache::{Cache, CacheError};
use fewstep::kernels::{Isa, cpu::UnknownIsa};
use fewstep::provider::{self as providers, Provider, Settings};
use provider::{ArgumentError, ProviderArgs};
use std::env;
use std::io::{self, Write};
use std::time::Duration;

/// Few-step generative models, from ONNX to samples.
#[derive(Parser, Debug)]
#[command(name = "fewstep", version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
MODEL is the name of an embedded model (see `fewstep list models`), a folder with a fewstep.toml, that file, an .onnx
file, or an .fsp plan; to `sample` and `inspect` also a folder with a model_index.json. A folder that is called like an embedded model is ./NAME.

Exit codes: 0 success, 1 an error, with one line on stderr, 2 wrong usage.
FEWSTEP_ISA=NAME chooses the instruction set (see `fewstep list targets`), which is the best that the CPU has otherwise.
FEWSTEP_ORT_LIB=PATH is ONNX Runtime's library, for --provider ort, if --ort-lib does not name it.
FEWSTEP_CACHE=FOLDER is where models are kept that were compiled, or `off`; FEWSTEP_CACHE_LIMIT=4G is how much of them.";

#[derive(Subcommand, Debug)]
enum Command {
    Sample(Box<sample::Sample>),
    Run(run::Run),
    Inspect(inspect::Inspect),
    Bench(bench::Bench),
    List(list::List),
    Compile(compile::Compile),
    Verify(verify::Verify),
}

impl Args {
    pub fn run(&self) -> Result<(), Error> {
        match &self.command {
            Command::Sample(sample) => Ok(sample.run()?),
            Command::Run(run) => Ok(run.run()?),
            Command::Inspect(inspect) => Ok(inspect.run()?),
            Command::Bench(bench) => Ok(bench.run()?),
            Command::List(list) => Ok(list.run()?),
            Command::Compile(compile) => Ok(compile.run()?),
            Command::Verify(verify) => Ok(verify.run()?),
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Sample(#[from] sample::SampleError),
    #[error(transparent)]
    Run(#[from] run::RunError),
    #[error(transparent)]
    Inspect(#[from] inspect::InspectError),
    #[error(transparent)]
    Bench(#[from] bench::BenchError),
    #[error(transparent)]
    List(#[from] list::ListError),
    #[error(transparent)]
    Compile(#[from] compile::CompileError),
    #[error(transparent)]
    Verify(#[from] verify::VerifyError),
}

/// Standard output does not take what is written.
#[derive(Debug, thiserror::Error)]
#[error("standard output: {0}")]
pub struct PrintError(#[from] io::Error);

/// Writes to standard output. Who reads it may stop when they have seen enough.
fn print(text: &str) -> Result<(), PrintError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// As [`print()`], indented JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), PrintError> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    print(&(text + "\n"))
}

/// Columns of equal width, one line a row. The last column is not padded.
fn columns(rows: &[Vec<String>]) -> String {
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column).unwrap_or(0) + 2;
            line.push_str(&format!("{cell:width$}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A row of [`columns`].
fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|&cell| cell.into()).collect()
}

/// `FEWSTEP_ISA` is not the name of an instruction set.
#[derive(Debug, thiserror::Error)]
#[error("FEWSTEP_ISA={value}: {source}")]
pub struct IsaError {
    value: String,
    source: UnknownIsa,
}

/// Tells what is not as one may think.
fn note(text: impl std::fmt::Display) {
    // If nobody listens, there is nobody to tell.
    writeln!(io::stderr(), "fewstep: note: {text}").ok();
}

/// The instruction set of `FEWSTEP_ISA`, if that is set.
fn isa() -> Result<Option<Isa>, IsaError> {
    let value = env::var_os("FEWSTEP_ISA").unwrap_or_default().to_string_lossy().into_owned();
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|source| IsaError { value, source })
}

/// `--precision`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Precision {
    /// As f16 if the CPU computes faster in 16 bits, and samples stay what they are to 54 dB
    Auto,
    F32,
    /// Half precision, or fixed point with AVX512-VNNI or AVX2, wherever magnitudes allow it
    F16,
}

impl From<Precision> for providers::Precision {
    fn from(precision: Precision) -> providers::Precision {
        match precision {
            Precision::Auto => providers::Precision::Auto,
            Precision::F32 => providers::Precision::F32,
            Precision::F16 => providers::Precision::F16,
        }
    }
}

/// How a network is to run.
#[derive(clap::Args, Debug)]
struct Running {
    /// Threads to use [default: one a core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// What products are computed in; of a plan file, f32 takes what there is if there is no f32
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    /// Bytes of memory to stay within, such as 400M: the weights of a plan file leave it again after they have been read
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_memory: Option<usize>,
    /// Bring the weights of a plan file into memory before the first step
    #[arg(long, conflicts_with = "max_memory")]
    prefault: bool,
    /// Compile the model here and now, and leave the cache of compiled models alone
    #[arg(long)]
    no_cache: bool,
    #[command(flatten)]
    provider: ProviderArgs,
}

impl Running {
    /// Where compiled models are kept.
    fn cache(&self) -> Result<Option<Cache>, CacheError> {
        if self.no_cache { Ok(None) } else { Cache::user() }
    }

    fn provider(&self) -> Result<Provider, ArgumentError> {
        self.provider.provider()
    }

    fn settings(&self) -> Result<Settings, IsaError> {
        let Running { max_memory, prefault, .. } = *self;
        Ok(Settings { max_memory, prefault, ..settings(self.threads, self.precision)? })
    }
}

/// All cores without a number of threads.
fn settings(threads: Option<u16>, precision: Precision) -> Result<Settings, IsaError> {
    let precision = precision.into();
    Ok(Settings { threads: threads.unwrap_or(0).into(), isa: isa()?, precision, ..Settings::default() })
}

/// `400M`: bytes, or thousands, millions or thousands of millions of them.
fn bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = match text.trim_end_matches(['B', 'b']) {
        text if text.ends_with(['k', 'K']) => (&text[..text.len() - 1], 1_000),
        text if text.ends_with('M') => (&text[..text.len() - 1], 1_000_000),
        text if text.ends_with('G') => (&text[..text.len() - 1], 1_000_000_000),
        text => (text, 1),
    };
    let bytes = number.trim().parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| "write a number of bytes, such as 400M".into())
}

/// `NAME=VALUE`, split at the first `=`.
fn assignment(text: &str) -> Result<(String, &str), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.into(), value)),
        _ => Err("write NAME=VALUE".into()),
    }
}

/// `name` as a part of a file's name: no way into another folder, nothing that a shell or a system minds.
fn file_stem(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let stem: String = name.chars().take(200).map(plain).collect();
    match stem.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if stem.is_empty() => "_".into(),
        None => stem,
    }
}

/// A duration as people read it.
fn time(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 0.01 => format!("{:.2} ms", seconds * 1e3),
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}

/// Three decimals and a prefix.
fn scaled(number: f64) -> String {
    let prefixes = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match prefixes.into_iter().find(|&(size, _)| number >= size) {
        Some((size, prefix)) => format!("{:.3} {prefix}", number / size),
        None => format!("{number} "),
    }
}

/// A number with its noun.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        let sizes = ["7", "12k", "400M", "1GB"].map(bytes);
        assert_eq!(sizes, [Ok(7), Ok(12_000), Ok(400_000_000), Ok(1_000_000_000)]);
        for wrong in ["", "M", "-1", "1.5G", "99999999999G"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_stay_in_their_folder() {
        let names = ["denoised", "/model/out.1", "../../etc/passwd", "..", "", "a b\n", "é"].map(file_stem);
        assert_eq!(names, ["denoised", "_model_out.1", "_._.._etc_passwd", "_.", "_", "a_b_", "_"]);
        assert_eq!(file_stem(&"x".repeat(999)).len(), 200);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "bb"], ["ccc", "d"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(columns(&rows), "a    bb\nccc  d\n");
    }
}
