//! Import, plan and one evaluation of the terrain model, for every instruction set and one and two threads. Medians.
//!
//! `cargo bench --bench terrain`

use fewstep::kernels::cpu;
use fewstep::onnx::{Model, Shapes};
use fewstep::plan::{Constants, Recipe, lower};
use fewstep::provider::{Cpu, Settings};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Bounds in milliseconds, for one thread.
const IMPORT: f64 = 600.0;
const OPEN: f64 = 1500.0;
const STEP: f64 = 1200.0;

fn median(runs: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fetched = Command::new("sh").arg(root.join("models/terrain/fetch.sh")).status().expect("sh");
    assert!(fetched.success(), "the terrain model can not be fetched");
    let path = root.join("models/terrain/terrain_consistency_unet_difficulty100.onnx");
    let shapes: Shapes = [("noisy".to_string(), vec![1, 1, 128, 128])].into();
    let graph = || Model::read(&path).expect("a model").into_graph(&shapes).expect("a graph");

    let import = median(5, || drop(graph()));
    let open = median(5, || {
        drop(lower(&graph().optimized(), Recipe::new(cpu::best().isa), Constants::default()).expect("a plan"))
    });
    println!("{:<28}{import:>10.1} ms   (bound {IMPORT:.0})", "import");
    println!("{:<28}{open:>10.1} ms   (bound {OPEN:.0})", "import, passes and plan");
    let optimized = graph().optimized();
    println!("{:<28}{:>10.2} GFLOP", "one evaluation", optimized.flops() as f64 / 1e9);
    let mut slowest: f64 = 0.0;
    for row in cpu::ROWS.iter().filter(|row| row.isa.supported()) {
        for threads in [1, 2] {
            let settings = Settings { threads, isa: Some(row.isa), ..Settings::default() };
            let mut network = Cpu::compile(optimized.clone(), settings).expect("a network");
            let mut engine = network.engine().expect("an engine");
            engine.input_f32(0).expect("noisy").fill(1.0);
            engine.input_f32(1).expect("sigma").fill(80.0);
            engine.input_f32(2).expect("difficulty").fill(0.5);
            engine.run().expect("a warm-up");
            let step = median(7, || engine.run().expect("a step"));
            println!("{:<28}{step:>10.1} ms   {threads} thread(s)", format!("step, {}", row.isa));
            slowest = if threads == 1 { slowest.max(step) } else { slowest };
        }
    }
    println!("{:<28}{slowest:>10.1} ms   (bound {STEP:.0})", "slowest step, one thread");
    assert!(import < IMPORT && open < OPEN && slowest < STEP, "a bound is exceeded");
}
