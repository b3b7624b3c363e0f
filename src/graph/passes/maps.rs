//! Chains of element-wise nodes as one program each, and programs in their shortest form.

use super::super::{Binding, DType, Graph, ValueId};
use super::program::{Arg, Program, Step};
use crate::kernels::MapCode;
use crate::ops::{Map, Op};
use std::collections::HashMap;
use std::vec::Vec;

pub fn fused(mut graph: Graph) -> Graph {
    let mut uses = graph.uses();
    let (producers, bindings) = (graph.producers(), graph.value_bindings());
    let mut gone = std::vec![false; graph.nodes.len()];
    for i in 0..graph.nodes.len() {
        let Op::Map(map) = &graph.nodes[i].op else { continue };
        let dtype = map.dtype;
        let mut program = Program::of(&map.steps, &graph.nodes[i].inputs);
        inline_scalars(&graph, &mut program, graph.nodes[i].outputs[0]);
        if program.allocate().is_none() {
            continue;
        }
        recount(&mut uses, &graph.nodes[i].inputs, &program.inputs());
        while let Some((longer, used)) = extended(&graph, &program, i, &uses, (&producers, &bindings)) {
            gone[used] = true;
            recount(&mut uses, &graph.nodes[used].inputs, &[]);
            recount(&mut uses, &program.inputs(), &longer.inputs());
            program = longer;
        }
        let before = program.inputs();
        simplify(&mut program);
        recount(&mut uses, &before, &program.inputs());
        if let Some((steps, inputs)) = program.allocate() {
            graph.nodes[i].op = Map { inputs: inputs.len(), steps, dtype }.into();
            graph.nodes[i].inputs = inputs;
        }
    }
    let mut gone = gone.into_iter();
    graph.nodes.retain(|_| !gone.next().unwrap_or(false));
    graph.remove_dead()
}

/// Keeps the use counts right when a node's operands change.
fn recount(uses: &mut [usize], before: &[ValueId], after: &[ValueId]) {
    for (id, sign) in before.iter().map(|id| (id, false)).chain(after.iter().map(|id| (id, true))) {
        let count = &mut uses[id.index()];
        *count = if sign { *count + 1 } else { count.saturating_sub(1) };
    }
}

/// The program with one of its operands computed inside, and the node that computed it.
fn extended(
    graph: &Graph,
    program: &Program,
    at: usize,
    uses: &[usize],
    (producers, bindings): (&HashMap<ValueId, usize>, &[Binding]),
) -> Option<(Program, usize)> {
    let output = graph.nodes[at].outputs[0];
    let shape = &graph.fact(output).shape;
    let stage = |id| graph.stage_of(bindings, id);
    program.inputs().into_iter().find_map(|id| {
        let &producer = producers.get(&id)?;
        let Op::Map(map) = &graph.nodes[producer].op else { return None };
        // Only this program reads it, it has the program's own shape, and storing it would not change it.
        if uses[id.index()] != 1 || graph.fact(id).shape != *shape || map.dtype == DType::I64 {
            return None;
        }
        // What an earlier stage has computed is not to be computed again.
        if stage(id) != stage(output) {
            return None;
        }
        let longer = program.after(id, &Program::of(&map.steps, &graph.nodes[producer].inputs));
        longer.allocate()?;
        Some((longer, producer))
    })
}

/// Constants of one element become immediates, where a step has room for one.
fn inline_scalars(graph: &Graph, program: &mut Program, output: ValueId) {
    let rank = graph.fact(output).rank();
    for id in program.inputs() {
        let Some(scalar) = graph.constant(id).filter(|t| t.len() == 1) else { continue };
        // The result's rank must not hang on the constant.
        let others = program.inputs().into_iter().filter(|&other| other != id);
        if others.map(|other| graph.fact(other).rank()).max() != Some(rank) {
            continue;
        }
        let mut inlined = program.clone();
        inlined.replace(Arg::Input(id), Arg::Immediate(scalar.to_f32()[0]));
        if inlined.allocate().is_some() {
            *program = inlined;
        }
    }
}

/// Recognises activations that are written out.
fn simplify(program: &mut Program) {
    for i in 0..program.steps.len() {
        if let Some((code, x)) = activation(program, i) {
            program.steps[i] = Step { code, args: [x; 3] };
        }
    }
    program.prune();
}

/// The activation, and of what, that a product at step `i` completes.
fn activation(program: &Program, i: usize) -> Option<(MapCode, Arg)> {
    let [x, y] = operands(program, Arg::Step(i), MapCode::Mul)?;
    gated(program, x, y)
        .or_else(|| gated(program, y, x))
        .or_else(|| gelu(program, x, y))
        .or_else(|| gelu(program, y, x))
}

/// `x * sigmoid(x)`, `x * tanh(softplus(x))`.
fn gated(program: &Program, x: Arg, gate: Arg) -> Option<(MapCode, Arg)> {
    if operand(program, gate, MapCode::Sigmoid) == Some(x) {
        return Some((MapCode::Silu, x));
    }
    let inner = operand(program, gate, MapCode::Tanh)?;
    (operand(program, inner, MapCode::Softplus) == Some(x)).then_some((MapCode::Mish, x))
}

/// `(x * (1 + curve)) * 0.5`, with the factors in any order, where the curve is `erf(x / sqrt 2)` or what approximates it.
fn gelu(program: &Program, half: Arg, rest: Arg) -> Option<(MapCode, Arg)> {
    // Either 0.5 * (x * one_plus) or (0.5 * x) * one_plus or x * (0.5 * one_plus).
    let mut candidates = Vec::new();
    if half == Arg::Immediate(0.5) {
        candidates.extend(pairs(operands(program, rest, MapCode::Mul)?));
    } else if let Some(inner) = operands(program, half, MapCode::Mul) {
        for (a, b) in pairs(inner) {
            if a == Arg::Immediate(0.5) {
                candidates.extend(pairs([b, rest]));
            }
        }
    }
    candidates.into_iter().find_map(|(x, one_plus)| {
        let terms = pairs(operands(program, one_plus, MapCode::Add)?);
        let (_, curve) = terms.into_iter().find(|(one, _)| *one == Arg::Immediate(1.0))?;
        if erf(program, curve) == Some(x) {
            Some((MapCode::Gelu, x))
        } else {
            (tanh(program, curve) == Some(x)).then_some((MapCode::GeluTanh, x))
        }
    })
}

/// x of `erf(x / sqrt 2)`.
fn erf(program: &Program, curve: Arg) -> Option<Arg> {
    let scaled = operand(program, curve, MapCode::Erf)?;
    match operands(program, scaled, MapCode::Div) {
        Some([x, by]) => near(by, core::f32::consts::SQRT_2).then_some(x),
        None => times(program, scaled, core::f32::consts::FRAC_1_SQRT_2),
    }
}

/// x of `tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))`.
fn tanh(program: &Program, curve: Arg) -> Option<Arg> {
    let sum = times(program, operand(program, curve, MapCode::Tanh)?, 0.797_884_6)?;
    let cubic = |(x, term)| {
        times(program, term, 0.044_715).is_some_and(|cube| is_cube(program, cube, x)).then_some(x)
    };
    pairs(operands(program, sum, MapCode::Add)?).into_iter().find_map(cubic)
}

/// Whether it is `x * (x * x)`, or a power.
fn is_cube(program: &Program, cube: Arg, x: Arg) -> bool {
    if operands(program, cube, MapCode::Pow) == Some([x, Arg::Immediate(3.0)]) {
        return true;
    }
    let product = operands(program, cube, MapCode::Mul);
    product.is_some_and(|product| {
        pairs(product).into_iter().any(|(a, b)| a == x && operands(program, b, MapCode::Mul) == Some([x, x]))
    })
}

/// What is multiplied by about the factor.
fn times(program: &Program, product: Arg, factor: f32) -> Option<Arg> {
    let factors = pairs(operands(program, product, MapCode::Mul)?);
    factors.into_iter().find_map(|(x, by)| near(by, factor).then_some(x))
}

fn near(value: Arg, wanted: f32) -> bool {
    matches!(value, Arg::Immediate(value) if (value - wanted).abs() < 1e-6)
}

fn pairs([a, b]: [Arg; 2]) -> [(Arg, Arg); 2] {
    [(a, b), (b, a)]
}

fn operands(program: &Program, arg: Arg, code: MapCode) -> Option<[Arg; 2]> {
    match arg {
        Arg::Step(i) if program.steps[i].code == code => {
            Some([program.steps[i].args[0], program.steps[i].args[1]])
        }
        _ => None,
    }
}

fn operand(program: &Program, arg: Arg, code: MapCode) -> Option<Arg> {
    operands(program, arg, code).map(|[a, _]| a)
}
