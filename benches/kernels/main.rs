//! Every family of kernels at the sizes of the model zoo, for each instruction set of this CPU, on one thread and on all:
//! time, and what part it is of the machine's peaks, which are measured in turns with the kernels. And `region`: what a parallel
//! region takes of itself.
//!
//! `cargo bench --bench kernels -- [--family NAME] [--isa NAME] [--threads N] [--rounds N] [--json FILE]`

mod families;
mod measure;

use families::FAMILIES;
use fewstep::engine::{Pool, Serial, Threads};
use fewstep::kernels::{Isa, cpu};
use measure::{Bench, Measured, Part};
use serde_json::{Value, json};
use std::hint::spin_loop;
use std::process::exit;
use std::thread::available_parallelism;
use std::time::Instant;

/// Not a family of kernels: the pool.
const REGION: &str = "region";

/// Microseconds of each of a region's tasks.
const WORK: f64 = 20.0;

/// What is measured; `None` is all.
struct Options {
    family: Option<String>,
    isa: Option<Isa>,
    threads: Option<usize>,
    rounds: usize,
    json: Option<String>,
}

impl Options {
    /// # Errors
    /// One line that says what is wrong.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { family: None, isa: None, threads: None, rounds: 11, json: None };
        while let Some(word) = words.next() {
            // Cargo says so to every benchmark.
            if word == "--bench" {
                continue;
            }
            let value = words.next().ok_or(format!("{word}: no value, or no option"))?;
            let number = || match value.parse() {
                Ok(0) | Err(_) => Err(format!("{word} {value}: not a number above 0")),
                Ok(number) => Ok(number),
            };
            match word.as_str() {
                "--family" => options.family = Some(known(value)?),
                "--isa" => options.isa = Some(value.parse().map_err(|e| format!("{value}: {e}"))?),
                "--threads" => options.threads = Some(number()?),
                "--rounds" => options.rounds = number()?,
                "--json" => options.json = Some(value),
                _ => return Err(format!("{word}: no option; see benches/kernels/main.rs")),
            }
        }
        Ok(options)
    }

    fn threads(&self) -> Vec<usize> {
        let all = available_parallelism().map_or(1, usize::from);
        let mut counts = self.threads.map_or(vec![1, all], |threads| vec![threads]);
        counts.dedup();
        counts
    }
}

fn known(family: String) -> Result<String, String> {
    let names: Vec<_> = FAMILIES.iter().map(|family| family.name).chain([REGION]).collect();
    if names.contains(&&family[..]) {
        return Ok(family);
    }
    Err(format!("{family}: no family; there are {}", names.join(", ")))
}

fn main() {
    let options = Options::parse(std::env::args().skip(1)).unwrap_or_else(|problem| {
        eprintln!("{problem}");
        exit(2);
    });
    let results = results(&options);
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&results).expect("plain values");
        std::fs::write(path, text + "\n").unwrap_or_else(|problem| {
            eprintln!("{path}: {problem}");
            exit(1);
        });
    }
}

/// Measures, and prints a line for each result.
fn results(options: &Options) -> Vec<Value> {
    let mut bench = Bench::new(options.rounds);
    let mut results = Vec::new();
    println!(
        "{}",
        line(&["family", "shape", "isa", "threads", "us", "GFLOP/s", "of FMA", "GB/s", "of read"])
    );
    for count in options.threads() {
        let pool = Pool::new(count).expect("threads");
        let threads: &dyn Threads = if count == 1 { &Serial } else { &pool };
        let wanted = |own: &str| options.family.as_ref().is_none_or(|name| name == own);
        for each in [1, 8].into_iter().filter(|_| count > 1 && wanted(REGION)) {
            let shape = format!("{} tasks of {WORK} us", each * count);
            let micros = region(&pool, each * count, each);
            let cells = [REGION, &shape, "", &count.to_string(), &format!("{micros:.2}"), "", "", "", ""];
            println!("{}", line(&cells));
            results.push(json!({ "family": REGION, "shape": shape, "threads": count, "us": micros }));
        }
        for family in FAMILIES.iter().filter(|family| wanted(family.name)) {
            let rows = cpu::ROWS.iter().filter(|row| row.isa.supported());
            for row in rows.filter(|row| options.isa.is_none_or(|isa| isa == row.isa)) {
                for mut case in (family.cases)(row) {
                    let measured = bench.measure(&mut case, row.isa, threads, count);
                    println!("{}", text(family.name, &case.shape, row.isa, count, &measured));
                    results.push(object(family.name, &case.shape, row.isa, count, &measured));
                }
            }
        }
    }
    results
}

/// Microseconds that a region takes beyond those of its tasks, of which a thread has `each`, one region after the other on
/// the pool as in an evaluation; the median.
fn region(pool: &Pool, tasks: usize, each: usize) -> f64 {
    let micros = |begin: Instant| begin.elapsed().as_secs_f64() * 1e6;
    let one = || {
        let begin = Instant::now();
        pool.run(tasks, &|_| {
            let begin = Instant::now();
            while micros(begin) < WORK {
                spin_loop();
            }
        });
        micros(begin) - WORK * each as f64
    };
    let mut times: Vec<f64> = pool.install(|| (0..2_000).map(|_| one()).collect());
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn line(cells: &[&str; 9]) -> String {
    let [family, shape, isa, threads, micros, flops, fma, bytes, read] = cells;
    format!("{family:<14}{shape:<28}{isa:<16}{threads:>7}{micros:>11}{flops:>10}{fma:>8}{bytes:>8}{read:>8}")
}

fn text(family: &str, shape: &str, isa: Isa, threads: usize, measured: &Measured) -> String {
    let rate = |part: &Option<Part>| part.map_or(String::new(), |part| format!("{:.1}", part.rate));
    let share =
        |part: &Option<Part>| part.map_or(String::new(), |part| format!("{:.0}%", part.share() * 100.0));
    let Measured { micros, flops, bytes } = measured;
    let (micros, threads) = (format!("{micros:.1}"), threads.to_string());
    let cells = [&rate(flops), &share(flops), &rate(bytes), &share(bytes)];
    line(&[family, shape, isa.name(), &threads, &micros, cells[0], cells[1], cells[2], cells[3]])
}

fn object(family: &str, shape: &str, isa: Isa, threads: usize, measured: &Measured) -> Value {
    let part = |part: &Option<Part>| {
        part.map(|part| json!({ "rate": part.rate, "peak": part.peak, "share": part.share() }))
    };
    json!({
        "family": family, "shape": shape, "isa": isa.name(), "threads": threads, "us": measured.micros,
        "gflops": part(&measured.flops), "gb_per_s": part(&measured.bytes),
    })
}
