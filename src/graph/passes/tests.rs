//! Each pass finds its pattern, leaves what only looks like it alone, and never changes a result.

use crate::graph::{Builder, DType, Fact, Graph, Tensor, ValueId};
use crate::kernels::{Activation, MapCode, ReduceKind};
use crate::ops::*;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

/// Largest difference that another order of roundings may make.
const TOLERANCE: f32 = 1e-5;

fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / 16_777_216.0 * 4.0 - 2.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    Tensor::f32(shape, values(shape.iter().product(), seed)).expect("a whole tensor")
}

fn input(b: &mut Builder, name: &str, shape: &[usize]) -> ValueId {
    b.input(name, Fact::new(DType::F32, shape))
}

/// The optimised graph, after comparing its results with the plain one's.
fn optimized(b: Builder, outputs: Vec<ValueId>) -> Graph {
    let names = outputs.iter().enumerate().map(|(i, _)| i.to_string()).collect();
    let plain = b.finish(outputs, names);
    let inputs: Vec<Tensor> =
        plain.inputs.iter().enumerate().map(|(i, &id)| tensor(&plain.fact(id).shape, i as u64 + 9)).collect();
    let wanted = plain.evaluate(&inputs).expect("a result");
    let graph = plain.optimized();
    let found = graph.evaluate(&inputs).expect("a result");
    for (wanted, found) in wanted.iter().zip(&found) {
        assert_eq!(wanted.shape(), found.shape());
        for (w, f) in wanted.to_f32().iter().zip(found.to_f32()) {
            assert!((w - f).abs() <= TOLERANCE * w.abs().max(1.0), "{f} is not {w}");
        }
    }
    graph
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|n| n.op.name()).collect()
}

/// The steps of the graph's only element-wise program.
fn codes(graph: &Graph) -> Vec<MapCode> {
    let mut maps = graph.nodes.iter().filter_map(|n| match &n.op {
        Op::Map(map) => Some(map.steps.iter().map(|s| s.code).collect()),
        _ => None,
    });
    let codes = maps.next().unwrap_or_default();
    assert!(maps.next().is_none(), "more than one program");
    codes
}

fn instance_norm(b: &mut Builder, x: ValueId, groups: usize) -> ValueId {
    let (gamma, beta) = (b.filled(&[groups], 1.5).unwrap(), b.filled(&[groups], 0.25).unwrap());
    let norm = Norm {
        over: Over::Groups(groups),
        center: true,
        epsilon: 1e-5,
        gamma: true,
        beta: true,
        activation: Activation::None,
    };
    b.push(norm, &[x, gamma, beta]).unwrap()
}

/// Conv 1x1 from 2 to `outputs` channels.
fn conv(b: &mut Builder, x: ValueId, outputs: usize) -> ValueId {
    let weights = b.constant(tensor(&[outputs, 2, 1, 1], 3));
    let conv = Conv {
        stride: vec![1, 1],
        dilation: vec![1, 1],
        pad_begin: vec![0, 0],
        pad_end: vec![0, 0],
        groups: 1,
        bias: false,
        residual: false,
        activation: Activation::None,
    };
    b.push(conv, &[x, weights]).unwrap()
}

#[test]
fn a_reshaped_instance_norm_is_a_group_norm_with_its_scales_and_activation() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[2, 6, 4, 5]);
    let grouped = b.reshape(x, &[2, 3, 40]).unwrap();
    let normed = instance_norm(&mut b, grouped, 3);
    let back = b.reshape(normed, &[2, 6, 4, 5]).unwrap();
    let silu = b.map1(MapCode::Silu, back).unwrap();
    let graph = optimized(b, vec![silu]);
    assert_eq!(names(&graph), ["Norm"]);
    let Op::Norm(norm) = &graph.nodes[0].op else { panic!("not a norm") };
    assert_eq!((norm.over, norm.activation), (Over::Groups(3), Activation::Silu));
}

#[test]
fn a_grouped_tensor_that_is_used_elsewhere_keeps_its_reshapes() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[1, 4, 6]);
    let grouped = b.reshape(x, &[1, 2, 12]).unwrap();
    let normed = instance_norm(&mut b, grouped, 2);
    let back = b.reshape(normed, &[1, 4, 6]).unwrap();
    let sum = b.push(Reduce { kind: ReduceKind::Sum, axes: vec![2], keep: false }, &[normed]).unwrap();
    let graph = optimized(b, vec![back, sum]);
    assert_eq!(names(&graph).iter().filter(|n| **n == "Reshape").count(), 2);
}

/// How exporters write the root of a mean of squares, and what is divided by it.
#[derive(Clone, Copy, Debug)]
enum Root {
    Divided,
    Reciprocal,
    OneOver,
    Power,
}

/// `x / sqrt(mean(x^2) + epsilon)` over the last axis.
fn written_norm(b: &mut Builder, x: ValueId, root: Root, axes: Vec<usize>) -> ValueId {
    let [two, epsilon, one, power] = [2.0, 1e-3, 1.0, -0.5].map(|value| b.scalar(value));
    let square = match root {
        Root::Divided => b.map2(MapCode::Pow, x, two).unwrap(),
        _ => b.map2(MapCode::Mul, x, x).unwrap(),
    };
    let mean = b.push(Reduce { kind: ReduceKind::Mean, axes, keep: true }, &[square]).unwrap();
    let sum = match root {
        Root::Divided | Root::Power => b.map2(MapCode::Add, mean, epsilon).unwrap(),
        _ => b.map2(MapCode::Add, epsilon, mean).unwrap(),
    };
    if matches!(root, Root::Power) {
        let scale = b.map2(MapCode::Pow, sum, power).unwrap();
        return b.map2(MapCode::Mul, scale, x).unwrap();
    }
    let deviation = b.map1(MapCode::Sqrt, sum).unwrap();
    let scale = match root {
        Root::Divided => return b.map2(MapCode::Div, x, deviation).unwrap(),
        Root::Reciprocal => b.map1(MapCode::Reciprocal, deviation).unwrap(),
        _ => b.map2(MapCode::Div, one, deviation).unwrap(),
    };
    b.map2(MapCode::Mul, x, scale).unwrap()
}

#[test]
fn layer_and_rms_norms_that_are_written_out_are_one_node_with_scale_and_shift() {
    for root in [Root::Divided, Root::Reciprocal, Root::OneOver, Root::Power] {
        for center in [false, true] {
            let mut b = Builder::new();
            let x = input(&mut b, "x", &[2, 5, 12]);
            let mut from = x;
            if center {
                let reduce = Reduce { kind: ReduceKind::Mean, axes: vec![2], keep: true };
                let mean = b.push(reduce, &[x]).unwrap();
                from = b.map2(MapCode::Sub, x, mean).unwrap();
            }
            let normed = written_norm(&mut b, from, root, vec![2]);
            let (gamma, beta) = (b.constant(tensor(&[12], 3)), b.constant(tensor(&[12], 4)));
            let scaled = b.map2(MapCode::Mul, gamma, normed).unwrap();
            let shifted = b.map2(MapCode::Add, scaled, beta).unwrap();
            let graph = optimized(b, vec![shifted]);
            assert_eq!(names(&graph), ["Norm"], "{root:?} {center}");
            let Op::Norm(norm) = &graph.nodes[0].op else { panic!("not a norm") };
            assert_eq!((norm.over, norm.center, norm.epsilon), (Over::Trailing(2), center, 1e-3));
            assert!(norm.gamma && norm.beta);
        }
    }
}

#[test]
fn a_norm_over_other_axes_than_the_last_ones_stays_as_it_is_written() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[2, 5, 12]);
    let normed = written_norm(&mut b, x, Root::Divided, vec![1]);
    assert!(!names(&optimized(b, vec![normed])).contains(&"Norm"));
}

#[test]
fn factors_of_one_are_no_nodes_unless_they_shape_the_result() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[3, 50]);
    let (one, shaped) = (b.scalar(1.0), b.filled(&[1, 1, 1], 1.0).unwrap());
    let product = b.map2(MapCode::Mul, one, x).unwrap();
    let quotient = b.map2(MapCode::Div, product, one).unwrap();
    assert_eq!(quotient, x);
    let inverse = b.map2(MapCode::Div, one, x).unwrap();
    let longer = b.map2(MapCode::Mul, x, shaped).unwrap();
    assert_eq!(b.shape(longer), [1, 3, 50]);
    optimized(b, vec![inverse, longer]);
}

#[test]
fn chains_become_one_program_and_written_out_activations_are_recognised() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[3, 50]);
    let gate = b.map1(MapCode::Sigmoid, x).unwrap();
    let silu = b.map2(MapCode::Mul, x, gate).unwrap();
    let (root, one, half) = (b.scalar(core::f32::consts::SQRT_2), b.scalar(1.0), b.scalar(0.5));
    let scaled = b.map2(MapCode::Div, silu, root).unwrap();
    let erf = b.map1(MapCode::Erf, scaled).unwrap();
    let plus = b.map2(MapCode::Add, erf, one).unwrap();
    let product = b.map2(MapCode::Mul, silu, plus).unwrap();
    let gelu = b.map2(MapCode::Mul, product, half).unwrap();
    let soft = b.map1(MapCode::Softplus, x).unwrap();
    let tanh = b.map1(MapCode::Tanh, soft).unwrap();
    let mish = b.map2(MapCode::Mul, tanh, x).unwrap();
    let sum = b.map2(MapCode::Add, gelu, mish).unwrap();
    let mut found = codes(&optimized(b, vec![sum]));
    found.sort_by_key(|c| *c as u8);
    assert_eq!(found, [MapCode::Silu, MapCode::Gelu, MapCode::Mish, MapCode::Add]);
}

#[test]
fn gelus_by_tanh_are_recognised_as_exporters_write_them() {
    for power in [false, true] {
        let mut b = Builder::new();
        let x = input(&mut b, "x", &[3, 50]);
        let [one, half, three] = [1.0, 0.5, 3.0].map(|value| b.scalar(value));
        let [root, cubic] = [core::f32::consts::FRAC_2_PI.sqrt(), 0.044715].map(|value| b.scalar(value));
        let cube = if power {
            b.map2(MapCode::Pow, x, three).unwrap()
        } else {
            let square = b.map2(MapCode::Mul, x, x).unwrap();
            b.map2(MapCode::Mul, x, square).unwrap()
        };
        let term = b.map2(MapCode::Mul, cubic, cube).unwrap();
        let sum = b.map2(MapCode::Add, x, term).unwrap();
        let scaled = b.map2(MapCode::Mul, sum, root).unwrap();
        let tanh = b.map1(MapCode::Tanh, scaled).unwrap();
        let plus = b.map2(MapCode::Add, tanh, one).unwrap();
        let product = b.map2(MapCode::Mul, x, plus).unwrap();
        let gelu = b.map2(MapCode::Mul, half, product).unwrap();
        assert_eq!(codes(&optimized(b, vec![gelu])), [MapCode::GeluTanh], "by a power: {power}");
    }
}

#[test]
fn a_value_with_two_readers_is_computed_once() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[8]);
    let exp = b.map1(MapCode::Exp, x).unwrap();
    let sum = b.push(Reduce { kind: ReduceKind::Sum, axes: vec![0], keep: true }, &[exp]).unwrap();
    let share = b.map2(MapCode::Div, exp, sum).unwrap();
    let graph = optimized(b, vec![share]);
    assert_eq!(names(&graph), ["Map", "Reduce", "Map"]);
}

#[test]
fn a_smaller_operand_is_not_recomputed_for_every_element() {
    let mut b = Builder::new();
    let (x, scale) = (input(&mut b, "x", &[4, 64]), input(&mut b, "scale", &[4, 1]));
    let exp = b.map1(MapCode::Exp, scale).unwrap();
    let product = b.map2(MapCode::Mul, x, exp).unwrap();
    assert_eq!(names(&optimized(b, vec![product])), ["Map", "Map"]);
}

#[test]
fn integers_are_cut_even_between_fused_operations() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[9]);
    let cut = b.push(Map::single(MapCode::Copy, 1, DType::I64), &[x]).unwrap();
    let back = b.push(Map::single(MapCode::Copy, 1, DType::F32), &[cut]).unwrap();
    let half = b.scalar(0.5);
    let sum = b.map2(MapCode::Add, back, half).unwrap();
    assert_eq!(names(&optimized(b, vec![sum])), ["Map", "Map"]);
}

#[test]
fn a_convolution_takes_in_bias_residual_and_activation() {
    let mut b = Builder::new();
    let (x, skip) = (input(&mut b, "x", &[1, 2, 3, 3]), input(&mut b, "skip", &[1, 4, 3, 3]));
    let conv = conv(&mut b, x, 4);
    let bias = b.constant(tensor(&[1, 4, 1, 1], 5));
    let biased = b.map2(MapCode::Add, conv, bias).unwrap();
    let summed = b.map2(MapCode::Add, skip, biased).unwrap();
    let active = b.map1(MapCode::Relu, summed).unwrap();
    let graph = optimized(b, vec![active]);
    assert_eq!(names(&graph), ["Conv"]);
    let Op::Conv(conv) = &graph.nodes[0].op else { panic!("not a convolution") };
    assert!(conv.bias && conv.residual && conv.activation == Activation::Relu);
}

#[test]
fn a_residual_that_is_computed_later_stays_outside() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[1, 2, 3, 3]);
    let first = conv(&mut b, x, 2);
    let second = conv(&mut b, first, 2);
    // `first` has a second reader, so only `second` may take the sum in.
    let sum = b.map2(MapCode::Add, first, second).unwrap();
    let graph = optimized(b, vec![sum]);
    assert_eq!(names(&graph), ["Conv", "Conv"]);
    let residuals = graph.nodes.iter().map(|n| matches!(&n.op, Op::Conv(Conv { residual: true, .. })));
    assert_eq!(residuals.collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_product_takes_in_its_bias_and_softmax_its_scale() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[5, 3]);
    let (weights, bias) = (b.constant(tensor(&[3, 7], 1)), b.constant(tensor(&[7], 2)));
    let product = b.push(MatMul::PLAIN, &[x, weights]).unwrap();
    let biased = b.map2(MapCode::Add, product, bias).unwrap();
    let factor = b.scalar(0.125);
    let scaled = b.map2(MapCode::Mul, biased, factor).unwrap();
    let softmax = b.push(Softmax { axis: 1, scale: 1.0 }, &[scaled]).unwrap();
    let graph = optimized(b, vec![softmax]);
    let operators = names(&graph);
    assert!(operators == ["MatMul", "Softmax"] || operators == ["MatMul", "Map", "Softmax"], "{operators:?}");
}

#[test]
fn an_output_that_is_read_again_is_still_there() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[1, 2, 3, 3]);
    let conv = conv(&mut b, x, 2);
    let active = b.map1(MapCode::Relu, conv).unwrap();
    let graph = optimized(b, vec![conv, active]);
    assert_eq!(graph.outputs.len(), 2);
    assert_eq!(names(&graph), ["Conv", "Map"]);
}

/// A scale [1, channels, 1, 1] and a shift that are computed at run time, as in FiLM.
fn modulated(b: &mut Builder, x: ValueId, channels: usize) -> ValueId {
    let scale = input(b, "scale", &[1, channels, 1, 1]);
    let shift = input(b, "shift", &[channels, 1, 1]);
    let scaled = b.map2(MapCode::Mul, x, scale).unwrap();
    let shifted = b.map2(MapCode::Add, shift, scaled).unwrap();
    b.map1(MapCode::Silu, shifted).unwrap()
}

#[test]
fn a_modulation_becomes_part_of_its_normalisation() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[1, 4, 3, 5]);
    let normed = instance_norm(&mut b, x, 4);
    let y = modulated(&mut b, normed, 4);
    let graph = optimized(b, vec![y]);
    // Its own scale and shift are multiplied first, four values each.
    assert_eq!(names(&graph).last(), Some(&"Norm"));
    assert_eq!(graph.nodes.iter().filter(|n| graph.fact(n.outputs[0]).len() > 4).count(), 1);
}

#[test]
fn a_modulation_of_a_value_that_others_read_stays() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[1, 4, 3, 5]);
    let normed = instance_norm(&mut b, x, 4);
    let y = modulated(&mut b, normed, 4);
    let graph = optimized(b, vec![y, normed]);
    assert_eq!(graph.nodes.iter().filter(|n| n.op.name() == "Map").count(), 1);
}

#[test]
fn a_modulation_along_another_axis_stays() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[1, 4, 4, 5]);
    let normed = instance_norm(&mut b, x, 4);
    let scale = input(&mut b, "scale", &[1, 1, 4, 1]);
    let scaled = b.map2(MapCode::Mul, normed, scale).unwrap();
    let shifted = b.map2(MapCode::Add, scaled, scale).unwrap();
    let graph = optimized(b, vec![shifted]);
    assert_eq!(names(&graph), ["Norm", "Map"]);
}

/// softmax(q @ k) @ v for 3 heads.
fn attention(b: &mut Builder, axis: usize) -> (ValueId, ValueId) {
    let q = input(b, "q", &[1, 3, 5, 4]);
    let k = input(b, "k", &[1, 3, 4, 7]);
    let v = input(b, "v", &[1, 3, 7, 6]);
    let scores = b.push(MatMul::PLAIN, &[q, k]).unwrap();
    let half = b.scalar(0.5);
    let scaled = b.map2(MapCode::Mul, scores, half).unwrap();
    let weights = b.push(Softmax { axis, scale: 1.0 }, &[scaled]).unwrap();
    (b.push(MatMul::PLAIN, &[weights, v]).unwrap(), weights)
}

#[test]
fn products_around_a_softmax_become_attention() {
    let mut b = Builder::new();
    let (y, _) = attention(&mut b, 3);
    let graph = optimized(b, vec![y]);
    assert_eq!(names(&graph), ["Attention"]);
}

/// Queries and keys that are scaled apart, and brought into place after that.
#[test]
fn attention_takes_the_scales_of_its_operands() {
    let mut b = Builder::new();
    let q = input(&mut b, "q", &[1, 5, 3, 4]);
    let k = input(&mut b, "k", &[1, 3, 7, 4]);
    let v = input(&mut b, "v", &[1, 3, 7, 6]);
    let (third, half) = (b.scalar(1.0 / 3.0), b.scalar(0.5));
    let q = b.map2(MapCode::Mul, q, third).unwrap();
    let k = b.map2(MapCode::Mul, half, k).unwrap();
    let q = b.push(Transpose { order: vec![0, 2, 1, 3] }, &[q]).unwrap();
    let k = b.push(Transpose { order: vec![0, 1, 3, 2] }, &[k]).unwrap();
    let scores = b.push(MatMul::PLAIN, &[q, k]).unwrap();
    let weights = b.push(Softmax { axis: 3, scale: 1.0 }, &[scores]).unwrap();
    let y = b.push(MatMul::PLAIN, &[weights, v]).unwrap();
    let graph = optimized(b, vec![y]);
    assert_eq!(names(&graph), ["Transpose", "Transpose", "Attention"]);
    let Op::Attention(attention) = &graph.nodes[2].op else { panic!("not an attention") };
    assert!((attention.scale - 1.0 / 6.0).abs() < 1e-7, "{}", attention.scale);
}

/// Scores must not change their order, and what others read keeps its values.
#[test]
fn attention_leaves_negative_scales_and_those_that_others_read() {
    for (scale, shared) in [(-0.5, false), (0.5, true)] {
        let mut b = Builder::new();
        let q = input(&mut b, "q", &[1, 3, 5, 4]);
        let k = input(&mut b, "k", &[1, 3, 4, 7]);
        let v = input(&mut b, "v", &[1, 3, 7, 6]);
        let by = b.scalar(scale);
        let scaled = b.map2(MapCode::Mul, q, by).unwrap();
        let scores = b.push(MatMul::PLAIN, &[scaled, k]).unwrap();
        let weights = b.push(Softmax { axis: 3, scale: 1.0 }, &[scores]).unwrap();
        let y = b.push(MatMul::PLAIN, &[weights, v]).unwrap();
        let outputs = if shared { vec![y, scaled] } else { vec![y] };
        assert_eq!(names(&optimized(b, outputs)), ["Map", "Attention"]);
    }
}

/// x -> (norm -> conv, projection) -> sum, where the projection is written last, as exporters do.
fn projected(outputs: usize) -> Graph {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[1, 2, 4, 5]);
    let normed = instance_norm(&mut b, x, 2);
    let main = conv(&mut b, normed, outputs);
    let projection = conv(&mut b, x, outputs);
    let sum = b.map2(MapCode::Add, main, projection).unwrap();
    optimized(b, vec![sum])
}

#[test]
fn projections_that_shrink_run_before_what_else_reads_their_operand() {
    // Then the convolution takes the sum in, and nothing of x is in use any more.
    assert_eq!(names(&projected(1)), ["Conv", "Norm", "Conv"]);
    assert_eq!(names(&projected(2)), ["Norm", "Conv", "Conv"]);
}

#[test]
fn attention_along_another_axis_or_with_weights_that_others_read_stays() {
    let mut b = Builder::new();
    let (y, _) = attention(&mut b, 2);
    assert_eq!(names(&optimized(b, vec![y])), ["MatMul", "Softmax", "MatMul"]);
    let mut b = Builder::new();
    let (y, weights) = attention(&mut b, 3);
    assert_eq!(names(&optimized(b, vec![y, weights])), ["MatMul", "Softmax", "MatMul"]);
}
