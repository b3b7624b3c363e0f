//! The seven toy networks: the energy distance of their samples to fresh data, and that of networks without training.

mod common;

use common::path;
use fewstep::manifest::{Manifest, Request, Role};
use fewstep::onnx::Model;
use fewstep::provider::Settings;
use fewstep::sampler::{Noise, Philox, TorchCpu};
use fewstep::session::Session;
use std::f64::consts::TAU;
use std::path::Path;

const MODELS: [&str; 7] = ["cm", "ctm", "scm", "meanflow", "shortcut", "imm", "rectified-flow"];
const STEPS: [usize; 3] = [1, 2, 4];
const SAMPLES: usize = 4096;
const SEED: u64 = 7;
/// Of every network at every number of steps. Two samples of the data are about 0.0003 apart, normal noise
/// with the mean and the covariance of the data is off by 0.021.
const BOUND: f64 = 0.002;
/// An untrained network is off by more than so many times the bound.
const UNTRAINED: f64 = 10.0;

type Point = [f64; 2];

#[test]
fn samples_are_distributed_like_the_data_and_those_of_untrained_networks_are_not() {
    let data = data();
    // With as many points of each Gaussian, all pairs count: a point stands for its own Gaussian among the others.
    let own = mean_distance(&data, &data, data.len());
    let energy = |samples: &[Point]| {
        2.0 * mean_distance(samples, &data, data.len())
            - mean_distance(samples, samples, samples.len() - 1)
            - own
    };
    let measure = |name: &str| {
        let (mut trained, mut untrained) = sessions(name);
        let energies = |session: &mut Session| STEPS.map(|steps| energy(&draw(session, steps)));
        (energies(&mut trained), energies(&mut untrained))
    };
    let rows = std::thread::scope(|scope| {
        MODELS.map(|name| scope.spawn(move || measure(name))).map(|row| row.join().expect("a row"))
    });
    println!("energy distance      1 step   2 steps   4 steps   untrained");
    for (name, (trained, untrained)) in MODELS.iter().zip(&rows) {
        let cells = |row: &[f64]| row.iter().map(|value| format!("{value:10.4}")).collect::<String>();
        println!("{name:<17}{}{}", cells(trained), cells(untrained));
    }
    for (name, (trained, untrained)) in MODELS.iter().zip(&rows) {
        for (i, steps) in STEPS.iter().enumerate() {
            assert!(trained[i] < BOUND, "{name} at {steps}: {}", trained[i]);
            assert!(untrained[i] > UNTRAINED * BOUND, "untrained {name} at {steps}: {}", untrained[i]);
        }
    }
}

/// A model as it is, and with an untrained network of the same shape in place of its own.
fn sessions(name: &str) -> (Session, Session) {
    let folder = path("models/toy2d").join(name);
    let session = |manifest: Manifest, network: &Path| {
        let network = Model::read(network).expect("a network");
        Session::new(manifest, network, Settings::default()).expect("a session")
    };
    let mut manifest = Manifest::read(&folder).expect("a manifest");
    let trained = session(manifest.clone(), &manifest.network_path());
    let mut file = "untrained-t.onnx";
    for input in &mut manifest.inputs {
        if matches!(input.role, Role::Target | Role::Duration) {
            input.name = "s".into();
            file = "untrained-ts.onnx";
        }
    }
    (trained, session(manifest, &path("models/toy2d").join(file)))
}

fn draw(session: &mut Session, steps: usize) -> Vec<Point> {
    session.prepare(&Request { steps: Some(steps), ..Request::default() }).expect("steps");
    let mut sample = [0.0; 2];
    let draw = |i| {
        session.sample_from(&mut Philox::new(SEED, i), &mut sample).expect("a sample");
        sample.map(f64::from)
    };
    (0..SAMPLES as u64).map(draw).collect()
}

/// As many points of each of the 36 Gaussians in models/toy2d/README.md.
fn data() -> Vec<Point> {
    let mut noise = vec![0.0; 2 * SAMPLES];
    TorchCpu::new(SEED).fill_normal(&mut noise);
    let point = |(i, z): (usize, &[f32])| {
        let (blade, bead) = (i % 3, i / 3 % 12);
        let radius = 0.41 + 0.56 * bead as f64 / 11.0;
        let angle = TAU * blade as f64 / 3.0 + 2.5 * radius;
        let deviation = 0.03 + 0.03 * radius;
        [
            radius * angle.cos() + deviation * f64::from(z[0]),
            radius * angle.sin() + deviation * f64::from(z[1]),
        ]
    };
    noise.chunks(2).enumerate().map(point).collect()
}

/// Mean distance of the points of `a` to those of `b`, of which each has `others`: all, or all but itself.
fn mean_distance(a: &[Point], b: &[Point], others: usize) -> f64 {
    let to_all =
        |p: &Point| b.iter().map(|q| ((p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2)).sqrt()).sum::<f64>();
    a.iter().map(to_all).sum::<f64>() / (a.len() * others) as f64
}
