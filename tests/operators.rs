//! Every operator against ONNX Runtime: tests/ops/cases.npz holds small models, inputs and the outputs that ONNX Runtime
//! computes (see tests/ops/README.md), and each runs by the scalar references and by every instruction set of this CPU.

mod common;

use common::{compile, distance, graph, npz, rows, run};
use fewstep::graph::{Data, Tensor};
use fewstep::onnx::Model;
use std::collections::BTreeMap;
use std::path::Path;

/// Relative to the largest magnitude of a result. Sums run in another order than ONNX Runtime's.
const TOLERANCE: f64 = 2e-5;

#[derive(Default)]
struct Case {
    model: Vec<u8>,
    inputs: Vec<(String, Tensor)>,
    outputs: BTreeMap<String, Tensor>,
}

fn cases() -> BTreeMap<String, Case> {
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (name, tensor) in npz(&common::path("tests/ops/cases.npz")) {
        let mut parts = name.splitn(3, '/');
        let (case, kind) = (parts.next().expect("a case"), parts.next().expect("a kind"));
        let case = cases.entry(case.to_string()).or_default();
        match (kind, parts.next()) {
            ("model", None) => {
                let Data::I64(bytes) = tensor.data() else { panic!("a model is bytes") };
                case.model = bytes.iter().map(|&b| b as u8).collect();
            }
            ("in", Some(input)) => case.inputs.push((input.to_string(), tensor)),
            (_, Some(output)) => {
                case.outputs.insert(output.to_string(), tensor);
            }
            (kind, None) => panic!("{name}: {kind}"),
        }
    }
    cases
}

fn check(case: &Case, results: &[Tensor], names: &[String], case_name: &str) -> Result<(), String> {
    let rounded = ROUNDED.iter().find(|(prefix, _)| case_name.starts_with(prefix));
    let tolerance = rounded.map_or(TOLERANCE, |(_, tolerance)| *tolerance);
    for (found, name) in results.iter().zip(names) {
        let wanted = case.outputs.get(name).ok_or(format!("there is no golden output {name}"))?;
        let off = distance(found, wanted, 1e-3).map_err(|e| format!("output {name}: {e}"))?;
        if off > tolerance {
            return Err(format!("output {name} is off by {off:.1e} of its range"));
        }
    }
    Ok(())
}

/// Cases that are refused, as they should be, and what the refusal says.
const REFUSED: &[(&str, &str)] = &[
    // Nobody has a kernel: not the engine, not the host library.
    ("reverse_sequence", "not known"),
    ("matmul_int", "no code for these types"),
    ("reduce_max_bool", "ReduceMax"),
    ("scatter_nd_2", "ScatterND"),
    // The host library computes these wrongly, so they are not given to it.
    ("grid_sample_cubic_border", "wrongly"),
];

/// Cases whose results are more exact than the goldens: fp16 is computed in f32, and only ONNX Runtime rounds.
const ROUNDED: &[(&str, f64)] = &[("fp16_", 1e-3)];

/// fp16's overflow to infinity is not imitated.
const LEFT_OUT: &[&str] = &["cast_float_float16_rounding"];

/// Inputs that become constants, because the shapes hang on their values: all but the first, or all.
fn constants(case: &Case, name: &str) -> Result<(Model, Vec<(String, Tensor)>), String> {
    let parse = || Model::parse(&case.model, Path::new(name), None).map_err(|e| e.to_string());
    let mut problem = String::new();
    for kept in [usize::MAX, 1, 0] {
        let mut model = parse()?;
        let names: Vec<String> = model.inputs.iter().skip(kept).map(|i| i.name.clone()).collect();
        let (fixed, free): (Vec<_>, Vec<_>) =
            case.inputs.iter().cloned().partition(|(n, _)| names.contains(n));
        for (name, value) in fixed {
            model.fix_input(&name, value).map_err(|e| e.to_string())?;
        }
        match graph(model, &free) {
            Err(e) if e.contains("must be a constant") || e.contains("depends on data") => problem = e,
            Err(e) => return Err(e),
            Ok(_) => {
                let mut model = parse()?;
                for (name, value) in case.inputs.iter().filter(|(n, _)| names.contains(n)) {
                    model.fix_input(name, value.clone()).map_err(|e| e.to_string())?;
                }
                return Ok((model, free));
            }
        }
    }
    Err(problem)
}

fn run_case(case: &Case, host: &mut Vec<String>, name: &str) -> Result<(), String> {
    let (model, free) = constants(case, name)?;
    let order: Vec<String> = model.inputs.iter().map(|i| i.name.clone()).collect();
    let plain = graph(model, &free)?;
    let find = |name: &String| free.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone());
    let inputs: Vec<Tensor> = order.iter().filter_map(find).collect();
    if plain.nodes.iter().any(|n| n.op.name() == "Host") {
        host.push(name.to_string());
    }
    let reference = plain.evaluate(&inputs).map_err(|e| format!("reference: {e}"))?;
    check(case, &reference, &plain.output_names, name).map_err(|e| format!("reference: {e}"))?;
    let optimized = plain.clone().optimized();
    let reference = optimized.evaluate(&inputs).map_err(|e| format!("optimized reference: {e}"))?;
    check(case, &reference, &plain.output_names, name).map_err(|e| format!("optimized reference: {e}"))?;
    for row in rows() {
        for (how, graph) in [("plain", &plain), ("optimized", &optimized)] {
            let at = |e: String| format!("{} {how}: {e}", row.isa);
            let plan = compile(graph, row).map_err(at)?;
            let results = run(&plan, &free).map_err(at)?;
            check(case, &results, &graph.output_names, name).map_err(at)?;
        }
    }
    Ok(())
}

#[test]
fn every_operator_equals_onnx_runtime() {
    let only = std::env::var("CASE").unwrap_or_default();
    let (mut failures, mut host, mut count) = (Vec::new(), Vec::new(), 0);
    for (name, case) in cases().iter().filter(|(name, _)| name.contains(&only)) {
        count += 1;
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        let refused = REFUSED.iter().find(|(prefix, _)| name.starts_with(prefix));
        let result = run_case(case, &mut host, name);
        let refusal = refused.is_some_and(|(_, says)| result.as_ref().is_err_and(|e| e.contains(says)));
        if let Err(problem) = result.and(refused.map_or(Ok(()), |_| Err("it was not refused".to_string())))
            && !refusal
        {
            failures.push(format!("{name}: {problem}"));
        }
    }
    println!("{count} cases, {} through the host library: {}", host.len(), host.join(" "));
    assert!(failures.is_empty(), "{} of {count} cases fail:\n{}", failures.len(), failures.join("\n"));
}
