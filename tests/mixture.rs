//! Golden cases on our engine: the analytic network, as tests/golden/export.py writes it, sampled by sessions.

mod support;

use fewstep::onnx::Model;
use fewstep::provider::Settings;
use fewstep::sampler::Noise;
use fewstep::session::{Run, Session};
use support::{Case, START, cases, distance, golden, noise};

/// Of results, relative: an f32 network and its f32 sampler.
const TOLERANCE: f64 = 2e-5;

/// Each network with the cases that are sampled with it.
const SAMPLED: [(&str, &[&str]); 5] = [
    (
        "epsilon.onnx",
        &[
            "lcm-epsilon-4",
            "tcd-0.3-8",
            "dmd2-4",
            "ddim-0.7-scaled-trailing-8",
            "euler-scaled-trailing-20",
            "euler-ancestral-scaled-leading-5",
            "heun-scaled-leading-5",
        ],
    ),
    ("x0.onnx", &["lcm-x0-1", "lcm-x0-8"]),
    (
        "v.onnx",
        &[
            "ddpm-cosine-trailing-8",
            "dpmpp-2m-cosine-trailing-8",
            "dpmpp-2m-sde-cosine-trailing-8",
            "unipc-cosine-trailing-8",
        ],
    ),
    ("velocity.onnx", &["flow-euler-4", "flow-heun-5", "flow-dpmpp-2m-8", "pcm-4"]),
    ("mean_velocity.onnx", &["meanflow-target-1", "meanflow-target-4"]),
];

#[test]
fn sessions_give_the_golden_samples() {
    let cases = cases();
    let mut failures = Vec::new();
    for (file, labels) in SAMPLED {
        for label in labels {
            let case = cases.iter().find(|case| case.label == *label).expect(label);
            let (off, draws) = sampled(case, Model::read(&golden(file)).expect("the network"));
            println!("{label} {off:.1e}");
            if off > TOLERANCE || draws != case.draws {
                failures.push(format!("{label}: off by {off:.1e}, {draws} draws of {}", case.draws));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The noise of tests/golden/common.py.
struct Golden {
    draws: usize,
}

impl Noise for Golden {
    fn fill_normal(&mut self, out: &mut [f32]) {
        out.iter_mut().enumerate().for_each(|(j, z)| *z = noise(self.draws, j) as f32);
        self.draws += 1;
    }
}

/// How far a session's sample is off, and how often it drew noise.
fn sampled(case: &Case, model: Model) -> (f64, usize) {
    let mut session = Session::new(case.manifest.clone(), model, Settings::default()).expect("a session");
    let initial: Vec<f32> = START.as_flattened().iter().map(|&x| x as f32).collect();
    let (mut noise, mut out) = (Golden { draws: 0 }, vec![0.0; initial.len()]);
    session
        .sample_with(Run { initial: Some(&initial), ..Run::default() }, &mut noise, &mut out)
        .unwrap_or_else(|e| panic!("{}: {e}", case.label));
    let found: Vec<_> = out.as_chunks::<2>().0.iter().map(|p| p.map(f64::from)).collect();
    (distance(&found, &case.result), noise.draws)
}
