//! Stages: a result is that of the whole network, bit for bit, whatever changes and whatever is kept; and nothing runs again
//! whose inputs have not changed.

mod common;

use common::{Arena, Fixture, distance, fixtures, graph, path, read, write};
use fewstep::engine::Engine;
use fewstep::graph::{Binding, Builder, Data, Fact, Graph, Tensor};
use fewstep::kernels::{Activation, DType, Isa, MapCode, cpu};
use fewstep::manifest::{Manifest, Request};
use fewstep::onnx::Model;
use fewstep::ops::{Concat, MatMul, Op};
use fewstep::plan::{CompiledPlan, Constants, Depth, Plan, Recipe, Slots, Stage, lower};
use fewstep::provider::{Precision, Settings};
use fewstep::sampler::TorchCpu;
use fewstep::session::{Session, package};
use std::path::PathBuf;

type Inputs = Vec<(String, Tensor)>;

/// Every way to bind some inputs, the first one but one of which is always the state's.
fn bindings(inputs: usize) -> Vec<Vec<Binding>> {
    let kinds = [Binding::STATE, Binding::TIME, Binding::CONDITION];
    let nth = |n: usize| (0..inputs).map(|i| kinds[n / 3usize.pow(i as u32) % 3]).collect::<Vec<_>>();
    (0..3usize.pow(inputs as u32)).map(nth).collect()
}

fn plan(graph: &Graph) -> CompiledPlan {
    lower(graph, Recipe::new(cpu::best().isa), Constants::default()).expect("a plan")
}

/// Other values of the same kind.
fn changed(tensor: &Tensor) -> Tensor {
    let data = match tensor.data() {
        Data::F32(values) => Data::F32(values.iter().map(|x| x * 0.75 + 0.125).collect()),
        Data::I64(values) => Data::I64(values.iter().map(|x| x / 2).collect()),
        Data::Bool(values) => Data::Bool(values.clone()),
    };
    Tensor::new(tensor.shape(), data).expect("as many")
}

/// Evaluates the network on some inputs, and the stages that ran.
fn evaluate(engine: &mut Engine<'_>, inputs: &Inputs) -> (Vec<Tensor>, Vec<Stage>) {
    let plan = engine.plan();
    let mut ran = Vec::new();
    let after = |_: &mut Engine<'_>, i: usize| {
        let stage = Stage::ALL.into_iter().find(|&stage| plan.stage(stage).contains(&i)).expect("a stage");
        if ran.last() != Some(&stage) {
            ran.push(stage);
        }
    };
    write(engine, inputs).expect("inputs");
    engine.run_observed(after).expect("a run");
    (read(engine).expect("outputs"), ran)
}

#[test]
fn every_network_is_the_same_in_stages() {
    const TOLERANCE: f64 = 1e-4;
    for Fixture { name, model, inputs, outputs } in fixtures().filter(|f| !f.name.ends_with("fp16")) {
        let plain = graph(model, &inputs).expect("a graph");
        let names: Vec<String> = plain.inputs.iter().map(|&id| plain.value(id).name.clone()).collect();
        for binding in bindings(names.len()) {
            let of = |name: &str| binding[names.iter().position(|own| own == name).expect("an input")];
            let plan = plan(&plain.clone().bound(of).optimized());
            for slots in [1, 2] {
                let bytes = plan.plan().memory_bytes(Slots { times: slots, conditions: 1 }).expect("a size");
                let mut memory = Arena::new(bytes);
                memory.bytes().fill(0xA5);
                let mut engine = Engine::new(plan.plan(), memory.bytes()).expect("an engine");
                let mut other: Inputs = inputs.clone();
                for kind in [Binding::STATE, Binding::TIME, Binding::CONDITION, Binding::TIME] {
                    for (name, tensor) in other.iter_mut().filter(|(name, _)| of(name) == kind) {
                        let own = &inputs.iter().find(|(own, _)| own == name).expect("an input").1;
                        *tensor = if tensor == own { changed(own) } else { own.clone() };
                    }
                    let (kept, _) = evaluate(&mut engine, &other);
                    let mut fresh = Arena::new(bytes);
                    let mut whole = Engine::new(plan.plan(), fresh.bytes()).expect("an engine");
                    assert_eq!(kept, evaluate(&mut whole, &other).0, "{name} {binding:?} {slots}");
                }
                let (found, _) = evaluate(&mut engine, &inputs);
                for (found, (output, wanted)) in found.iter().zip(&outputs) {
                    let off = distance(found, wanted, 1e-3).expect("the same shape");
                    assert!(off <= TOLERANCE, "{name} {output} {binding:?}: {off}");
                }
            }
        }
    }
}

/// x, t and c go through a product each, and meet one after the other.
fn meeting() -> Graph {
    let mut b = Builder::new();
    let input = |b: &mut Builder, name: &str| b.input(name, Fact::new(DType::F32, &[1, 4]));
    let [x, t, c] = ["x", "t", "c"].map(|name| input(&mut b, name));
    let weights = |b: &mut Builder, rows: usize, seed: usize| {
        let values = (0..rows * 6).map(|i| ((i * 7 + seed) % 11) as f32 / 11.0 - 0.5).collect();
        b.constant(Tensor::f32(&[rows, 6], values).expect("a tensor"))
    };
    let [of_x, of_t, of_c] = [(x, 1), (t, 2), (c, 3)].map(|(value, seed)| {
        let weights = weights(&mut b, 4, seed);
        b.push(MatMul::PLAIN, &[value, weights]).expect("a product")
    });
    let both = b.map2(MapCode::Add, of_t, of_c).expect("a sum");
    let all = b.map2(MapCode::Mul, of_x, both).expect("a product");
    let graph = b.finish(vec![all], vec!["y".into()]);
    graph.bound(|name| match name {
        "x" => Binding::STATE,
        "t" => Binding::TIME,
        _ => Binding::CONDITION,
    })
}

fn inputs([x, t, c]: [f32; 3]) -> Inputs {
    let of = |name: &str, value: f32| {
        (name.to_string(), Tensor::f32(&[1, 4], vec![value, -value, 0.5, value * value]).expect("a tensor"))
    };
    vec![of("x", x), of("t", t), of("c", c)]
}

#[test]
fn nothing_runs_again_whose_inputs_are_the_same() {
    use Stage::{Condition, State, Time, TimeCondition};
    let plan = plan(&meeting().optimized());
    let slots = |times| plan.plan().memory_bytes(Slots { times, conditions: 1 }).expect("a size");
    let mut memory = Arena::new(slots(2));
    let mut engine = Engine::new(plan.plan(), memory.bytes()).expect("an engine");
    // Writing a condition is changing it; the same bits of a time are the same time.
    let mut ran = |times: &[f32], c: Option<f32>| -> Vec<Stage> {
        let mut all = inputs([1.0, times[0], c.unwrap_or(0.0)]);
        if c.is_none() {
            all.pop();
        }
        let names: Vec<usize> = (0..all.len()).collect();
        for i in names {
            let Data::F32(values) = all[i].1.data() else { unreachable!("floats") };
            engine.input_f32(i).expect("an input").copy_from_slice(values);
        }
        let mut ran = Vec::new();
        let view = engine.plan();
        engine
            .run_observed(|_, i| {
                let stage = Stage::ALL.into_iter().find(|&s| view.stage(s).contains(&i)).expect("a stage");
                if ran.last() != Some(&stage) {
                    ran.push(stage);
                }
            })
            .expect("a run");
        ran
    };
    assert_eq!(ran(&[0.5], Some(1.0)), [Time, Condition, TimeCondition, State]);
    assert_eq!(ran(&[0.5], None), [State]);
    assert_eq!(ran(&[0.25], None), [Time, TimeCondition, State]);
    assert_eq!(ran(&[0.5], None), [State], "there are slots for both times");
    assert_eq!(ran(&[0.5], Some(2.0)), [Condition, TimeCondition, State]);
    assert_eq!(
        ran(&[0.25], None),
        [TimeCondition, State],
        "the time is still known, the condition is another"
    );
    // A third time takes the last slot.
    assert_eq!(ran(&[0.125], None), [Time, TimeCondition, State]);
    assert_eq!(ran(&[0.5], None), [State]);
    assert_eq!(ran(&[0.25], None), [Time, TimeCondition, State]);
}

#[test]
fn memory_is_for_as_many_times_as_it_has_room_for() {
    let plan = plan(&meeting().optimized());
    let bytes = |times| plan.plan().memory_bytes(Slots { times, conditions: 1 }).expect("a size");
    assert!(bytes(2) > bytes(1));
    let mut memory = Arena::new(bytes(1) - 64);
    assert!(Engine::new(plan.plan(), &mut memory.bytes()[..bytes(1) - 64]).is_err());
}

#[test]
fn a_product_with_parts_of_different_times_is_a_sum() {
    let mut b = Builder::new();
    let [t, c, u] =
        [("t", 40), ("c", 24), ("u", 8)].map(|(name, n)| b.input(name, Fact::new(DType::F32, &[1, n])));
    // The order in the concatenation is not that of the stages.
    let joined = b.push(Concat { axis: 1 }, &[t, c, u]).expect("a concatenation");
    let mut products = Vec::new();
    for seed in [1usize, 5] {
        let softplus = b.map1(MapCode::Softplus, joined).expect("a map");
        let tanh = b.map1(MapCode::Tanh, softplus).expect("a map");
        let mish = b.map2(MapCode::Mul, joined, tanh).expect("a map");
        let values = (0..72 * 16).map(|i| ((i * 13 + seed) % 29) as f32 / 29.0 - 0.5).collect();
        let weights = b.constant(Tensor::f32(&[72, 16], values).expect("a tensor"));
        let bias =
            b.constant(Tensor::f32(&[16], (0..16).map(|i| i as f32 / 8.0).collect()).expect("a tensor"));
        let product = b.push(MatMul::PLAIN, &[mish, weights]).expect("a product");
        products.push(b.map2(MapCode::Add, product, bias).expect("a sum"));
    }
    let names = products.iter().enumerate().map(|(i, _)| i.to_string()).collect();
    let plain = b.finish(products, names);
    let bound = plain.clone().bound(|name| if name == "c" { Binding::CONDITION } else { Binding::TIME });
    let graph = bound.optimized();
    let costs = graph.costs();
    assert_eq!(costs[Stage::Time as usize].parameters, 2 * 48 * 16);
    let rest = costs[Stage::Condition as usize].parameters + costs[Stage::TimeCondition as usize].parameters;
    assert_eq!(rest, 2 * 25 * 16, "the condition's rows and the biases");
    assert_eq!(costs[Stage::State as usize].parameters, 0);
    let activations = graph.nodes.iter().filter(|node| matches!(&node.op, Op::Map(_))).count();
    assert_eq!(activations, 4, "each part is activated once, and each sum is one pass");
    let inputs = [40, 24, 8]
        .map(|n| Tensor::f32(&[1, n], (0..n).map(|i| (i as f32 * 0.37).sin()).collect()).expect("a tensor"));
    let (wanted, found) =
        (plain.evaluate(&inputs).expect("a result"), graph.evaluate(&inputs).expect("a result"));
    for (wanted, found) in wanted.iter().zip(&found) {
        assert!(distance(found, wanted, 1e-3).expect("the same shape") < 1e-6);
    }
    // Nothing is split whose parts all change together, or where what is kept would be more than the weights.
    let alone = plain.bound(|_| Binding::STATE).optimized();
    assert_eq!(alone.nodes.iter().filter(|node| matches!(node.op, Op::MatMul(_))).count(), 2);
}

#[test]
fn an_activation_that_a_later_stage_reads_too_stays_where_it_is() {
    // gelu(t @ w) is the time's; added to x it must not make the product the state's.
    let mut b = Builder::new();
    let [x, t] = ["x", "t"].map(|name| b.input(name, Fact::new(DType::F32, &[1, 4])));
    let weights =
        b.constant(Tensor::f32(&[4, 4], (0..16).map(|i| i as f32 / 16.0).collect()).expect("a tensor"));
    let product =
        b.push(MatMul { activation: Activation::None, ..MatMul::PLAIN }, &[t, weights]).expect("a product");
    let sum = b.map2(MapCode::Add, product, x).expect("a sum");
    let graph = b.finish(vec![sum], vec!["y".into()]);
    let graph = graph.bound(|name| if name == "t" { Binding::TIME } else { Binding::STATE }).optimized();
    assert_eq!(graph.costs()[Stage::Time as usize].parameters, 16);
}

fn digits(guidance: &str, settings: Settings) -> Session {
    let folder = path("models/digits");
    let text = std::fs::read_to_string(folder.join("fewstep.toml")).expect("a manifest");
    let manifest = Manifest::parse(&(text + guidance), folder.join("fewstep.toml")).expect("a manifest");
    let model = Model::read(&folder.join("digits.onnx")).expect("a model");
    Session::new(manifest, model, settings).expect("a session")
}

const GUIDED: &str = "[guidance]\nscale = 2.0\n";

/// Samples as conditions, schedules and seeds change.
fn drawn(session: &mut Session, negative: bool) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    for (label, steps, seed) in [(3.0, 2, 1), (3.0, 2, 2), (5.0, 2, 2), (5.0, 3, 2), (3.0, 2, 1)] {
        session.prepare(&Request { steps: Some(steps), ..Request::default() }).expect("a table");
        session.set_condition("label", &[label]).expect("a label");
        if negative {
            session.set_negative("label", &[9.0 - label]).expect("a label");
        }
        let mut out = vec![0.0; session.elements()];
        session.sample_from(&mut TorchCpu::new(seed), &mut out).expect("a sample");
        all.push(out);
    }
    all
}

#[test]
fn samples_are_the_same_in_stages() {
    let plain = Settings { threads: 1, ..Settings::default() };
    // Without memory for two samples at once, guidance takes two evaluations.
    let cases = [("", plain), (GUIDED, plain), (GUIDED, Settings { max_memory: Some(0), ..plain })];
    for (guidance, settings) in cases {
        let [staged, whole] = [false, true].map(|unstaged| {
            let mut session = digits(guidance, Settings { unstaged, ..settings });
            drawn(&mut session, !guidance.is_empty())
        });
        assert_eq!(staged, whole, "{guidance} {settings:?}");
        assert_eq!(staged[0], staged[4]);
        assert_ne!(staged[1], staged[2]);
    }
}

#[test]
fn guidance_shares_what_does_not_depend_on_the_condition() {
    let settings = Settings { threads: 1, max_memory: Some(0), ..Settings::default() };
    let session = digits(GUIDED, settings);
    assert!(!session.is_paired());
    let plan = session.network().cpu().expect("the engine").plan();
    assert!(!plan.stage(Stage::State).is_empty() && !plan.stage(Stage::StateCondition).is_empty());
    // Guided in pairs or in turns, a sample is the same but for roundings.
    let (mut turns, mut pairs) =
        (digits(GUIDED, settings), digits(GUIDED, Settings { threads: 1, ..Settings::default() }));
    assert!(pairs.is_paired() && pairs.network().is_paired());
    for (a, b) in drawn(&mut turns, true).iter().flatten().zip(drawn(&mut pairs, true).iter().flatten()) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn outputs_that_the_sampler_does_not_read_are_not_computed() {
    let mut b = Builder::new();
    let x = b.input("x", Fact::new(DType::F32, &[1, 4]));
    let y = b.map1(MapCode::Exp, x).expect("a map");
    let z = b.map1(MapCode::Sin, x).expect("a map");
    let graph = b.finish(vec![y, z], vec!["y".into(), "z".into()]).with_output(1);
    assert_eq!((graph.nodes.len(), &graph.output_names[..]), (1, &["z".to_string()][..]));
}

#[test]
fn plans_for_other_computers_have_the_same_stages() {
    let graph = meeting().optimized();
    for isa in Isa::ALL {
        let plan = lower(&graph, Recipe::new(isa), Constants::default()).expect("a plan");
        let lengths = |plan: &CompiledPlan| Stage::ALL.map(|stage| plan.plan().stage(stage).len());
        assert_eq!(lengths(&plan), lengths(&self::plan(&graph)), "{isa}");
    }
}

/// A plan file of digits, for two steps if it is baked.
fn digits_file(isa: Isa, bake: bool, folder: &std::path::Path) -> PathBuf {
    let own = path("models/digits");
    let manifest = Manifest::read(&own).expect("a manifest");
    let model = Model::read(&manifest.network_path()).expect("a model");
    let settings = Settings { isa: Some(isa), ..Settings::default() };
    let request = Request { steps: Some(2), ..Request::default() };
    let precisions = [Precision::F32, Precision::F16];
    let package = package(&manifest, &model, &precisions, settings, &Depth::ALL, bake.then_some(&request));
    let file = folder.join(format!("{isa}-{bake}.fsp"));
    let mut out = std::fs::File::create(&file).expect("a file");
    package.expect("plans").write(&mut out).expect("written");
    file
}

#[test]
fn a_baked_schedule_needs_no_weights_for_its_times() {
    let folder = tempfile::tempdir().expect("a folder");
    let [plain, baked] = [false, true].map(|bake| digits_file(cpu::best().isa, bake, folder.path()));
    let length = |file: &PathBuf| std::fs::metadata(file).expect("a file").len();
    assert!(length(&baked) + 100_000 < length(&plain));
    for precision in [Precision::F32, Precision::F16] {
        let [plain, baked] = [&plain, &baked].map(|file| {
            let plan = Plan::open(file).expect("a plan");
            let builder = Session::builder().plan(&plan).precision(precision).threads(1);
            let mut session = builder.steps(2).seed(4).build().expect("a session");
            let mut out = vec![0.0; session.elements()];
            for label in [7.0, 8.0, 7.0] {
                session.set_condition("label", &[label]).expect("a label");
                session.sample(&mut out).expect("a sample");
            }
            out
        });
        // In half precision, how far the file goes into it may differ with what it was tried on: both are then within half
        // a percent of the range of samples in f32.
        let ends = plain
            .iter()
            .fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], &x| [low.min(x), high.max(x)]);
        let apart = if precision == Precision::F32 { 0.0 } else { 0.01 * (ends[1] - ends[0]) };
        let worst = plain.iter().zip(&baked).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= apart, "{precision:?}: {worst}");
    }
    let plan = Plan::open(&baked).expect("a plan");
    let mut session = Session::builder().plan(&plan).steps(3).build().expect("a session");
    let mut out = vec![0.0; session.elements()];
    let error = session.sample(&mut out).expect_err("other times").to_string();
    assert!(error.contains("without --bake"), "{error}");
}

#[test]
fn times_are_baked_for_other_computers() {
    let folder = tempfile::tempdir().expect("a folder");
    for isa in Isa::ALL {
        let file = digits_file(isa, true, folder.path());
        let plan = Plan::open(file).expect("a plan");
        assert!(plan.plans().all(|plan| plan.isa() == isa && plan.stage(Stage::Time).is_empty()));
        assert_eq!(plan.plans().len(), 2);
    }
}
