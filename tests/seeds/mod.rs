//! Whole plan files, for tests to damage.
#![allow(dead_code)]

use super::common::{fixtures, graph, path};
use fewstep::graph::{Builder, DType, Data, Fact, Graph, Tensor};
use fewstep::kernels::{Activation, IntCode, Isa, MapCode, PoolKind, ReduceKind, cpu};
use fewstep::manifest::Manifest;
use fewstep::onnx::Model;
use fewstep::ops::*;
use fewstep::plan::{Depth, Package, Ranges, Recipe, lower};
use fewstep::provider::{Precision, Settings};
use fewstep::session;

/// The file of a package.
pub fn file(package: &Package) -> Vec<u8> {
    let mut bytes = Vec::new();
    package.write(&mut bytes).expect("memory");
    bytes
}

/// A model of a folder, with its manifest.
pub fn package(folder: &str, isa: Isa, precisions: &[Precision]) -> Package {
    let manifest = Manifest::read(path(folder)).expect("a manifest");
    let model = Model::read(&manifest.network_path()).expect("a model");
    let settings = Settings { isa: Some(isa), threads: 1, ..Settings::default() };
    session::package(&manifest, &model, precisions, settings, &Depth::ALL, None).expect("a package")
}

/// A network's plans in f32 and in half precision.
pub fn both(graph: &Graph, isa: Isa) -> Package {
    let mut package = Package::default();
    let ranges = Ranges::default();
    for half in [None, Some((&ranges, Depth::ALL[0]))] {
        let plan = lower(graph, Recipe { half, ..Recipe::new(isa) }, package.constants()).expect("a plan");
        package.add(plan).expect("no operators of a host");
    }
    package
}

/// The instruction sets to try: what every CPU has, and the best of this one.
pub fn isas() -> [Isa; 2] {
    [Isa::Portable, cpu::best().isa]
}

/// One of every instruction, on a small image.
pub fn instructions() -> Graph {
    every_instruction().expect("a network")
}

fn every_instruction() -> Result<Graph, OpError> {
    let mut b = Builder::new();
    let values = |n: usize| (0..n).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<_>>();
    let conv = |size: usize, groups, residual, activation| Conv {
        stride: vec![1, 1],
        dilation: vec![1, 1],
        pad_begin: vec![size / 2; 2],
        pad_end: vec![size / 2; 2],
        groups,
        bias: true,
        residual,
        activation,
    };
    let x = b.input("x", Fact::new(DType::F32, &[1, 4, 16, 16]));
    let bias = b.constant(Tensor::f32(&[8], values(8))?);
    let weights = b.constant(Tensor::f32(&[8, 4, 3, 3], values(288))?);
    let y = b.push(conv(3, 1, false, Activation::Silu), &[x, weights, bias])?;
    let weights = b.constant(Tensor::f32(&[8, 1, 3, 3], values(72))?);
    let z = b.push(conv(3, 8, false, Activation::None), &[y, weights, bias])?;
    let weights = b.constant(Tensor::f32(&[8, 8, 1, 1], values(64))?);
    let y = b.push(conv(1, 1, true, Activation::Relu), &[z, weights, bias, y])?;
    // Large enough for Winograd's method.
    let weights = b.constant(Tensor::f32(&[32, 8, 1, 1], values(256))?);
    let wide = b.constant(Tensor::f32(&[32], values(32))?);
    let y = b.push(conv(1, 1, false, Activation::None), &[y, weights, wide])?;
    let weights = b.constant(Tensor::f32(&[32, 32, 3, 3], values(9216))?);
    let y = b.push(conv(3, 1, true, Activation::None), &[y, weights, wide, y])?;
    let weights = b.constant(Tensor::f32(&[8, 32, 1, 1], values(256))?);
    let y = b.push(conv(1, 1, false, Activation::None), &[y, weights, bias])?;
    let (center, epsilon, activation) = (true, 1e-5, Activation::None);
    let norm = |over, gamma| Norm { over, center, epsilon, gamma, beta: false, activation };
    let y = b.push(norm(Over::Groups(2), true), &[y, bias])?;
    let pool = Pool {
        kind: PoolKind::Average,
        kernel: vec![2, 2],
        stride: vec![2, 2],
        dilation: vec![1, 1],
        pad_begin: vec![0, 0],
        pad_end: vec![0, 0],
        ceil: vec![0, 0],
    };
    let y = b.push(pool, &[y])?;
    let table = Resample { axis: 2, taps: 2, indices: vec![0, 1, 1, 2], weights: vec![0.5; 4] };
    let y = b.push(table, &[y])?;
    let flat = b.reshape(y, &[8, 16])?;
    let turned = b.transpose(flat, &[1, 0])?;
    let product = b.push(MatMul::PLAIN, &[flat, turned])?;
    let weights = b.constant(Tensor::f32(&[8, 8], values(64))?);
    let product = b.push(MatMul { bias: true, ..MatMul::PLAIN }, &[product, weights, bias])?;
    let heads = b.reshape(product, &[2, 4, 8])?;
    let keys = b.transpose(heads, &[0, 2, 1])?;
    let attended = b.push(Attention { scale: 0.5 }, &[heads, keys, heads])?;
    let sums = b.push(CumSum { axis: 1, exclusive: false, reverse: true }, &[attended])?;
    let shares = b.push(Softmax { axis: 2, scale: 1.0 }, &[sums])?;
    let exp = b.map1(MapCode::Exp, shares)?;
    let largest = b.push(Reduce { kind: ReduceKind::ArgMax, axes: vec![2], keep: false }, &[exp])?;
    let two = b.constant(Tensor::new(&[2, 4], Data::I64(vec![2; 8]))?);
    let index = b.push(Integer { code: IntCode::Div, dtype: DType::I64 }, &[largest, two])?;
    let picked = b.push(Gather { axis: 1 }, &[exp, index])?;
    let mean = b.push(Reduce { kind: ReduceKind::Mean, axes: vec![1], keep: false }, &[picked])?;
    Ok(b.finish(vec![mean, index], vec!["y".into(), "i".into()]))
}

/// Small files of all kinds: by name, in no more than some hundred kilobytes each.
pub fn all() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for isa in isas() {
        all.push((format!("instructions-{isa}"), file(&both(&instructions(), isa))));
        for fixture in fixtures() {
            let graph = graph(fixture.model, &fixture.inputs).expect("a graph").optimized();
            all.push((format!("{}-{isa}", fixture.name), file(&both(&graph, isa))));
        }
        for name in ["meanflow", "ctm", "rectified-flow"] {
            let precisions = [Precision::F32, Precision::F16];
            all.push((
                format!("{name}-{isa}"),
                file(&package(&format!("models/toy2d/{name}"), isa, &precisions)),
            ));
        }
    }
    all
}
