//! Half precision, and fixed point of 16 bits: networks and samples stay close to what they are in f32, on every instruction
//! set.

mod common;

use common::{Fixture, fixtures, graph, read, rows, write};
use fewstep::graph::Tensor;
use fewstep::plan::Depth;
use fewstep::provider::{Cpu, Precision, Settings};
use fewstep::sampler::TorchCpu;
use fewstep::session::Session;

/// Largest L2 distance from ONNX Runtime's f32 outputs, relative to their norm: as computed with the least rounding, and
/// with the most.
const CLOSE: f64 = 5e-3;
const FAR: f64 = 5e-2;

fn distance(found: &Tensor, wanted: &Tensor) -> f64 {
    let (found, wanted) = (found.to_f32(), wanted.to_f32());
    assert_eq!(found.len(), wanted.len());
    let square = |x: f64| x * x;
    let error: f64 = found.iter().zip(&wanted).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    (error / wanted.iter().map(|&b| square(f64::from(b))).sum::<f64>()).sqrt()
}

#[test]
fn networks_stay_close() {
    for Fixture { name, model, inputs, outputs } in fixtures().filter(|f| !f.name.ends_with("fp16")) {
        let graph = graph(model, &inputs).unwrap_or_else(|e| panic!("{name}: {e}")).optimized();
        for row in rows() {
            let settings =
                Settings { threads: 1, isa: Some(row.isa), precision: Precision::F16, ..Settings::default() };
            let mut network = Cpu::compile(graph.clone(), settings).expect("a network");
            write(&mut network.engine().expect("an engine"), &inputs).expect("the inputs");
            assert_eq!((network.precision(), network.calibrating()), ("f32", Some(Precision::F16)));
            network.run().expect("an evaluation");
            for (i, depth) in Depth::ALL.into_iter().enumerate() {
                let mut halved =
                    network.halved(depth).expect("memory").expect("a network that has seen values");
                assert_eq!(halved.precision(), "f16", "{name}");
                halved.run().expect("an evaluation");
                let found = read(&mut halved.engine().expect("an engine")).expect("the outputs");
                let bound = if i + 1 == Depth::ALL.len() { CLOSE } else { FAR };
                for (found, (output, wanted)) in found.iter().zip(&outputs) {
                    let off = distance(found, wanted);
                    println!("{name} {output} {} {depth:?}: {off:.1e}", row.isa);
                    assert!(off <= bound, "{name} {output} {} {depth:?}: {off:.1e}", row.isa);
                }
            }
        }
    }
}

fn digits(settings: Settings) -> (Session, Vec<f32>) {
    let mut session = Session::open(&common::path("models/digits"), settings).expect("a session");
    session.set_condition("label", &[7.0]).expect("a class");
    let mut out = vec![0.0; session.elements()];
    session.sample_from(&mut TorchCpu::new(42), &mut out).expect("a sample");
    (session, out)
}

#[test]
fn samples_stay_what_they_are() {
    for row in rows() {
        let settings =
            |precision| Settings { threads: 1, isa: Some(row.isa), precision, ..Settings::default() };
        let (_, single) = digits(settings(Precision::F32));
        let (session, half) = digits(settings(Precision::F16));
        assert_eq!(session.network().precision(), "f16", "{}", row.isa);
        let most = single.iter().zip(&half).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        // Of values in -1..1.
        assert!(most > 0.0 && most < 0.02, "{}: {most}", row.isa);
    }
}

/// Left to us, it is 16 bits where the CPU computes in them, and f32 where they would only be read.
#[test]
fn auto_is_half_precision_where_that_is_arithmetic() {
    for row in rows() {
        let settings =
            Settings { threads: 1, isa: Some(row.isa), precision: Precision::Auto, ..Settings::default() };
        let (session, _) = digits(settings);
        assert_eq!(session.network().precision() == "f16", row.half.native(), "{}", row.isa);
    }
}

/// Weights take half of the room, less what panels of up to 64 columns leave empty behind 24 to 112 outputs.
#[test]
fn weights_are_half_as_large() {
    let size = |precision| {
        let (session, _) = digits(Settings { threads: 1, precision, ..Settings::default() });
        session.network().cpu().expect("the engine").plan().weights().len()
    };
    let (single, half) = (size(Precision::F32), size(Precision::F16));
    assert!((half as f64) < 0.8 * single as f64, "{half} of {single} bytes");
}
