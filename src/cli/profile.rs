//! `fewstep inspect --profile`: where one evaluation's time goes.
#![forbid(unsafe_code)]

use super::{columns, machine, row};
use fewstep::engine::EngineError;
use fewstep::plan::{Geometry, Instruction, Matrix, Plan, ViewId};
use fewstep::provider::Cpu;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the evaluations are to take together, and how many they are at least.
const PATIENCE: Duration = Duration::from_secs(2);
const RUNS: usize = 5;

/// The instructions' times on one thread, each the least of several evaluations.
#[derive(Serialize)]
pub struct Profile {
    runs: usize,
    /// One core's with the plan's instruction set, as `fewstep bench` measures the best one's.
    peak_gflops: f64,
    /// The same in half precision or fixed point of 16 bits, if the instruction set computes in either.
    half_peak_gflops: Option<f64>,
    /// The sum over all instructions.
    ms: f64,
    /// The slowest first.
    groups: Vec<Group>,
}

/// Instructions of one kind and shape.
#[derive(Serialize)]
struct Group {
    kind: &'static str,
    shape: String,
    instructions: usize,
    ms: f64,
    /// `null` but for products, convolutions and attention. A convolution by Winograd's method counts as a direct one.
    gflops: Option<f64>,
    /// Of the core's peak, in the precision that the instruction computes in.
    share: Option<f64>,
}

impl Profile {
    /// Of a network that is prepared and has one thread.
    ///
    /// # Errors
    /// If the network does not run.
    pub fn measured(network: &mut Cpu) -> Result<Profile, EngineError> {
        let (runs, times) = times(network)?;
        let plan = network.plan();
        let (peak_gflops, half_peak_gflops) =
            (machine::peak_gflops(plan.isa()), machine::half_peak_gflops(plan.isa()));
        let mut groups: BTreeMap<(&'static str, String), (usize, f64, Option<f64>)> = BTreeMap::new();
        for (i, time) in times.iter().enumerate() {
            let Some(instruction) = plan.instruction(i) else { continue };
            let Described { kind, shape, flop } = describe(&plan, &instruction);
            let (instructions, seconds, all) =
                groups.entry((kind, shape)).or_insert((0, 0.0, flop.map(|_| 0.0)));
            *instructions += 1;
            *seconds += time;
            *all = all.zip(flop).map(|(all, flop)| all + flop);
        }
        let group =
            |((kind, shape), (instructions, seconds, flop)): ((&'static str, _), (_, f64, Option<f64>))| {
                let gflops = flop.map(|flop| flop / seconds / 1e9);
                let peak = half_peak_gflops.filter(|_| kind.ends_with(HALF)).unwrap_or(peak_gflops);
                let share = gflops.map(|gflops| gflops / peak);
                Group { kind, shape, instructions, ms: seconds * 1e3, gflops, share }
            };
        let mut groups: Vec<_> = groups.into_iter().map(group).collect();
        groups.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        let ms = times.iter().sum::<f64>() * 1e3;
        Ok(Profile { runs, peak_gflops, half_peak_gflops, ms, groups })
    }

    /// For people.
    pub fn text(&self) -> String {
        let Profile { runs, peak_gflops, half_peak_gflops, ms, groups } = self;
        let mut rows = vec![row(&["ms", "share", "GFLOP/s", "of peak", "instructions"])];
        for Group { kind, shape, instructions, ms: own, gflops, share } in groups {
            let gflops = gflops.map_or(String::new(), |gflops| format!("{gflops:>7.1}"));
            let peak = share.map_or(String::new(), |share| format!("{:>6.0}%", share * 100.0));
            let time = [format!("{own:>8.3}"), format!("{:>4.1}%", own / ms * 100.0)];
            rows.push(row(&[
                &time[0],
                &time[1],
                &gflops,
                &peak,
                &format!("{instructions} x {kind} {shape}"),
            ]));
        }
        let half = half_peak_gflops.map_or(String::new(), |peak| format!(", {peak:.1} in 16 bits"));
        let title = format!(
            "{ms:.3} ms an evaluation on one thread, each instruction's least of {runs}; peak {peak_gflops:.1} GFLOP/s{half}\n"
        );
        title + &columns(&rows)
    }
}

/// How often the network was evaluated, and the least time of each instruction, in seconds.
fn times(network: &mut Cpu) -> Result<(usize, Vec<f64>), EngineError> {
    let mut engine = network.engine()?;
    engine.run()?;
    let mut least = vec![f64::INFINITY; engine.plan().len()];
    let begin = Instant::now();
    let mut runs = 0;
    while runs < RUNS || begin.elapsed() < PATIENCE {
        // All stages, not only those whose inputs have changed.
        engine.forget();
        let mut last = Instant::now();
        engine.run_observed(|_, i| {
            let now = Instant::now();
            least[i] = least[i].min((now - last).as_secs_f64());
            last = now;
        })?;
        runs += 1;
    }
    Ok((runs, least))
}

/// How the kinds of instructions end whose weights have 16 bits.
const HALF: &str = "f16";

struct Described {
    kind: &'static str,
    shape: String,
    /// A multiply-add counted as two.
    flop: Option<f64>,
}

fn describe(plan: &Plan, instruction: &Instruction) -> Described {
    let dims = |id: ViewId| {
        let layout = plan.view_at(id).map(|view| view.layout);
        layout
            .map_or(Vec::new(), |layout| (0..layout.rank()).map(|axis| layout.dim(axis)).collect::<Vec<_>>())
    };
    let to = |from, to| format!("{:?} -> {:?}", dims(from), dims(to));
    let len = |id| dims(id).iter().product::<usize>() as f64;
    let last = |id| dims(id).last().copied().unwrap_or(1) as f64;
    let plain = |kind, shape| Described { kind, shape, flop: None };
    let window = |Geometry { kernel: [h, w], stride: [down, across], .. }: Geometry| {
        let stride = if [down, across] == [1, 1] { String::new() } else { format!(" by {down}x{across}") };
        (format!("{h}x{w}{stride}"), f64::from(h * w))
    };
    match *instruction {
        Instruction::Conv { x, weights, c, geometry, scratch, .. } => {
            let (window, taps) = window(geometry);
            let kind = match (scratch, weights.scales) {
                (None, None) => "Conv",
                (None, Some(_)) => "Conv f16",
                (Some(_), None) => "Conv (Winograd)",
                (Some(_), Some(_)) => "Conv (Winograd) f16",
            };
            let flop = Some(2.0 * len(c) * taps * last(x));
            Described { kind, shape: format!("{window} {}", to(x, c)), flop }
        }
        Instruction::Depthwise { x, c, geometry, .. } => {
            let (window, taps) = window(geometry);
            let flop = Some(2.0 * len(c) * taps);
            Described { kind: "Depthwise", shape: format!("{window} {}", to(x, c)), flop }
        }
        Instruction::Gemm { a, b, c, .. } => {
            let half = matches!(b, Matrix::Packed(panels) if panels.scales.is_some());
            let kind = if half { "Gemm f16" } else { "Gemm" };
            Described { kind, shape: to(a, c), flop: Some(2.0 * len(c) * last(a)) }
        }
        Instruction::Attention { q, k, y, .. } => {
            let flop = Some(2.0 * last(k) * (len(q) + len(y)));
            Described {
                kind: "Attention",
                shape: format!("{:?} x {:?} -> {:?}", dims(q), dims(k), dims(y)),
                flop,
            }
        }
        Instruction::Map { steps, output, .. } => {
            let codes: Vec<_> = plan.steps(steps).map(|step| format!("{:?}", step.code)).collect();
            plain("Map", format!("{:?} {}", dims(output), codes.join(" ")))
        }
        Instruction::Norm { x, groups, .. } => plain("Norm", format!("{:?} in {groups}", dims(x))),
        Instruction::Int { code, output, .. } => plain("Int", format!("{:?} {code:?}", dims(output))),
        Instruction::Reduce { kind, input, output } => {
            plain("Reduce", format!("{kind:?} {}", to(input, output)))
        }
        Instruction::Pool { kind, x, y, .. } => plain("Pool", format!("{kind:?} {}", to(x, y))),
        Instruction::Copy { output, .. } => plain("Copy", format!("{:?}", dims(output))),
        Instruction::Gather { data, output, .. } => plain("Gather", to(data, output)),
        Instruction::CumSum { output, .. } => plain("CumSum", format!("{:?}", dims(output))),
        Instruction::Softmax { y, .. } => plain("Softmax", format!("{:?}", dims(y))),
        Instruction::Resample { x, y, .. } => plain("Resample", to(x, y)),
        Instruction::Host { outputs, .. } => {
            let outputs: Vec<_> = plan.operands(outputs).map(|id| format!("{:?}", dims(id))).collect();
            plain("Host", outputs.join(" "))
        }
    }
}
