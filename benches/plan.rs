//! What plan files are for: opening at once, sharing weights, and running only what has changed.
//!
//! `cargo bench --bench plan [-- FOLDER ..]` takes folders with a fewstep.toml; without any, it takes digits, terrain and the
//! zoo's networks whose weights are what they wait for, as far as they have been fetched and exported. Prints each figure
//! beside its bound, and fails if one is not met; times are medians.

use fewstep::manifest::Manifest;
use fewstep::memory::Memory;
use fewstep::onnx::Model;
use fewstep::plan::{Depth, Plan, Stage};
use fewstep::provider::{Precision, Settings};
use fewstep::session::{Session, package};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;
use std::{env, fs};

const MODELS: [&str; 5] =
    ["models/digits", "models/terrain", "target/zoo/policy", "target/zoo/ctm_policy", "target/zoo/dit_b4"];

/// Those that wait for their weights, where what leaves the loop has to be felt.
const BOUND_BY_MEMORY: [&str; 3] = ["policy", "ctm_policy", "dit_b4"];

const MB: f64 = 1e6;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [command, plan] = &arguments[..]
        && command == "child"
    {
        return if child(Path::new(plan)).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let folders: Vec<PathBuf> = match arguments.is_empty() {
        true => MODELS.iter().map(PathBuf::from).filter(|folder| is_there(folder)).collect(),
        false => arguments.iter().map(PathBuf::from).collect(),
    };
    let mut met = true;
    for folder in folders {
        match measure(&folder) {
            Ok(own) => met &= own,
            Err(error) => {
                eprintln!("{}: {error}", folder.display());
                met = false;
            }
        }
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_there(folder: &Path) -> bool {
    Manifest::read(folder).is_ok_and(|manifest| manifest.network_path().exists())
}

/// Prints a figure; whether it is at most its bound.
fn figure(what: &str, found: f64, bound: Option<f64>, unit: &str) -> bool {
    let met = bound.is_none_or(|bound| found <= bound);
    let bound = bound.map_or(String::new(), |bound| format!("at most {bound:.2} {unit}"));
    println!("  {what:44} {found:10.2} {unit:3} {bound}{}", if met { "" } else { "  NOT MET" });
    met
}

fn measure(folder: &Path) -> Result<bool, Failure> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let manifest = Manifest::read(folder)?;
    let model = Model::read(&manifest.network_path())?;
    let file = tempfile::Builder::new().suffix(".fsp").tempfile()?;
    let package = package(&manifest, &model, &[Precision::F32], Settings::default(), &Depth::ALL, None)?;
    fs::write(file.path(), {
        let mut bytes = Vec::new();
        package.write(&mut bytes)?;
        bytes
    })?;
    drop((model, package));
    println!("{name}, one thread");
    let mut met = open(file.path(), &manifest)?;
    let loop_share = stages(file.path(), &manifest)?;
    let bound = BOUND_BY_MEMORY.contains(&&name[..]).then_some(-0.7 * loop_share.0 * 100.0);
    met &= figure("4 steps in stages, change of a sample's time", -loop_share.1 * 100.0, bound, "%");
    println!("  {:44} {:10.2} %", "parameters that leave the loop", loop_share.0 * 100.0);
    met &= condition(file.path(), &manifest)?;
    met &= memory(file.path())?;
    Ok(met)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn timed<R>(work: impl FnOnce() -> Result<R, Failure>) -> Result<(f64, R), Failure> {
    let begin = Instant::now();
    let result = work()?;
    Ok((begin.elapsed().as_secs_f64() * 1e3, result))
}

fn session(
    path: &Path,
    manifest: &Manifest,
    steps: Option<usize>,
    unstaged: bool,
) -> Result<Session, Failure> {
    let settings = Settings { threads: 1, unstaged, ..Settings::default() };
    let mut builder = Session::builder().settings(settings);
    if let Some(steps) = steps.filter(|&steps| steps <= manifest.sampling.max_steps) {
        builder = builder.steps(steps);
    }
    let mut session = builder.plan(&Plan::open(path)?).build()?;
    for (name, condition) in manifest.conditions().filter(|(_, condition)| condition.default.is_none()) {
        session.set_condition(name, &[condition.range.map_or(0.0, |[low, _]| low)])?;
    }
    Ok(session)
}

fn open(path: &Path, manifest: &Manifest) -> Result<bool, Failure> {
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..15 {
        let (opening, mut session) = timed(|| session(path, manifest, None, false))?;
        let mut out = vec![0.0; session.elements()];
        let mut draw = || timed(|| Ok(session.sample(&mut out)?)).map(|(time, ())| time);
        let first = draw()?;
        let steady = median((0..3).map(|_| draw()).collect::<Result<_, _>>()?);
        [opening, opening + first, steady].into_iter().zip(&mut times).for_each(|(t, all)| all.push(t));
    }
    let [opening, first, steady] = times.map(median);
    figure("a sample", steady, None, "ms");
    let met = figure("open, validate and prepare", opening, Some(3.0), "ms");
    Ok(met & figure("first sample, opening included", first, Some(1.1 * steady + 10.0), "ms"))
}

/// The share of parameters that leaves the loop, and by how much samples of four steps get faster.
fn stages(path: &Path, manifest: &Manifest) -> Result<(f64, f64), Failure> {
    let steps = Some(4);
    let (mut staged, mut whole) =
        (session(path, manifest, steps, false)?, session(path, manifest, steps, true)?);
    let parameters =
        |stage: Stage| staged.network().cpu().expect("the engine").plan().cost(stage).parameters as f64;
    let [time, condition, both, ..] = Stage::ALL.map(parameters);
    let share = (time + condition + both) / Stage::ALL.map(parameters).iter().sum::<f64>();
    let mut out = vec![0.0; staged.elements()];
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while with.len() < 7 || (begin.elapsed().as_secs() < 12 && with.len() < 200) {
        with.push(timed(|| Ok(staged.sample(&mut out)?))?.0);
        without.push(timed(|| Ok(whole.sample(&mut out)?))?.0);
    }
    // The first ones fill the slots and the caches.
    let [with, without] = [with, without].map(|times| median(times[2..].to_vec()));
    Ok((share, 1.0 - with / without))
}

/// What changing a condition costs before its stage runs.
fn condition(path: &Path, manifest: &Manifest) -> Result<bool, Failure> {
    let mut session = session(path, manifest, None, false)?;
    let mut met = true;
    for (name, condition) in manifest.conditions() {
        let [low, high] = condition.range.unwrap_or([0.0, 1.0]);
        let values = [low, high].map(|value| vec![value; condition.elements()]);
        let mut times = Vec::new();
        for i in 0..2001 {
            times.push(timed(|| Ok(session.set_condition(name, &values[i % 2])?))?.0 * 1e3);
        }
        let what = format!("set_condition({name}), {} values", condition.elements());
        met &= figure(&what, median(times), Some(2.0), "us");
    }
    Ok(met)
}

/// Private memory of one process after many samples, and of eight at once.
fn memory(path: &Path) -> Result<bool, Failure> {
    let file = Plan::open(path)?;
    let arena = file.plans().next().map_or(0, |plan| plan.arena_bytes()) as f64 / MB;
    let mut children: Vec<Child> = Vec::new();
    let mut private = Vec::new();
    for _ in 0..8 {
        let command = Command::new(env::current_exe()?)
            .args(["child".as_ref(), path.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        children.push(command);
        let out = children.last_mut().and_then(|child| child.stdout.as_mut()).ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        private.push(line);
    }
    // All run now, and each says again what it has.
    let mut each = Vec::new();
    for child in &mut children {
        child.stdin.as_mut().ok_or("no input")?.write_all(b"now\n")?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().ok_or("no output")?).read_line(&mut line)?;
        each.push(numbers(&line)?);
    }
    for mut child in children {
        drop(child.stdin.take());
        child.wait()?;
    }
    let dirty = each.iter().map(|own| own[0]).fold(0.0, f64::max) / MB;
    let all = each.iter().map(|own| own[0] + own[1]).fold(0.0, f64::max) / MB;
    let met = figure("private dirty memory after 100 samples", dirty, Some(arena + 4.0), "MB");
    Ok(met & figure("private memory of each of 8 processes", all, Some(arena + 5.0), "MB"))
}

fn numbers(line: &str) -> Result<[f64; 2], Failure> {
    let mut numbers = line.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().ok_or("no number")?.map_err(Failure::from);
    Ok([next()?, next()?])
}

fn child(path: &Path) -> Result<(), Failure> {
    let manifest = Session::manifest_of(&Plan::open(path)?)?.ok_or("no manifest")?;
    let mut session = session(path, &manifest, None, false)?;
    let mut out = vec![0.0; session.elements()];
    let begin = Instant::now();
    let mut drawn = 0;
    while drawn < 100 && (drawn < 10 || begin.elapsed().as_secs() < 4) {
        session.sample(&mut out)?;
        drawn += 1;
    }
    println!("{}", private()?);
    let mut input = std::io::stdin();
    input.read_exact(&mut [0; 4])?;
    println!("{}", private()?);
    // The others are still to be counted: what is theirs too is not private.
    input.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Bytes of private dirty and of private clean memory.
fn private() -> Result<String, Failure> {
    let memory = Memory::now().ok_or("the system does not tell what memory a process has")?;
    Ok(format!("{} {}", memory.private_dirty, memory.private_clean))
}
