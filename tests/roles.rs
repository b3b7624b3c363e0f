//! Sessions of networks whose inputs say more than the time: the step, an observation, the scale of guidance; or less.

use fewstep::manifest::{Encoding, Manifest, Request};
use fewstep::onnx::Model;
use fewstep::provider::Settings;
use fewstep::sampler::Philox;
use fewstep::session::{Flow, Progress, Run, Session};
use std::path::Path;

const NOISE: [f32; 4] = [0.5, -1.0, 0.25, 2.0];

fn session(network: &str, inputs: &str, sampling: &str) -> Session {
    let text = format!(
        "[model]\nname = 'm'\nnetwork = 'm.onnx'\n{inputs}\n[sampling]\n{sampling}\n[output]\nkind = 'tensor'\n"
    );
    let manifest = Manifest::parse(&text, "fewstep.toml").unwrap_or_else(|e| panic!("{e}:\n{text}"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/roles").join(network);
    Session::new(manifest, Model::read(&path).expect("a network"), Settings::default()).expect("a session")
}

fn sample(session: &mut Session) -> [f32; 4] {
    let (mut out, run) = ([0.0; 4], Run { initial: Some(&NOISE), ..Run::default() });
    session.sample_with(run, &mut Philox::new(0, 0), &mut out).expect("a sample");
    out
}

fn assert_near(found: [f32; 4], expected: [f64; 4]) {
    for (f, e) in found.iter().zip(expected) {
        assert!((f64::from(*f) - e).abs() < 1e-5 * (1.0 + e.abs()), "{found:?} {expected:?}");
    }
}

const STATE: &str = "[inputs.x]\nrole = 'state'\nshape = [4]";
const FLOW: &str = "family = 'rectified-flow'\ntime = 'unit'";

#[test]
fn the_number_of_the_step_is_told() {
    let inputs = format!("{STATE}\n[inputs.step]\nrole = 'step'\n[inputs.steps]\nrole = 'steps'");
    let mut session =
        session("next_state.onnx", &inputs, &format!("{FLOW}\nprediction = 'next-state'\nsteps = 3"));
    assert_eq!(session.manifest().sampling.sampler.name, "next-state");
    assert_near(sample(&mut session), NOISE.map(|z| 6.0 * f64::from(z)));
    session.prepare(&Request { steps: Some(4), ..Request::default() }).expect("steps");
    assert_near(sample(&mut session), NOISE.map(|z| 24.0 * f64::from(z)));
}

const OBSERVED: [f64; 4] = [0.3, -0.2, 1.5, -0.7];

fn observed(sampling: &str) -> Session {
    let inputs = format!(
        "{STATE}\n[inputs.t]\nrole = 'time'\n[inputs.y]\nrole = 'condition'\nshape = [4]\nprior = true"
    );
    let mut session = session("around.onnx", &inputs, sampling);
    session.set_condition("y", &OBSERVED).expect("an observation");
    session
}

/// `x = y + 0.5 * z` at first, and `x' = x - dt * t * (y - x)`.
#[test]
fn noise_leads_to_the_observation() {
    let mut session = observed(&format!("{FLOW}\nprediction = 'velocity'\ninitial_scale = 0.5\nsteps = 2"));
    let expected = [0, 1, 2, 3].map(|i| {
        let (mut x, y) = (OBSERVED[i] + 0.5 * f64::from(NOISE[i]), OBSERVED[i]);
        for t in [1.0, 0.5] {
            x -= 0.5 * t * (y - x);
        }
        x
    });
    assert_near(sample(&mut session), expected);
    // The preview of the last step is the sample.
    let mut last = Vec::new();
    let mut after = |at: Progress<'_>| {
        last = at.clean.to_vec();
        Flow::Continue
    };
    let run = Run { initial: Some(&NOISE), after: Some(&mut after), ..Run::default() };
    session.sample_with(run, &mut Philox::new(0, 0), &mut [0.0; 4]).expect("a sample");
    assert_near(last.try_into().expect("a sample"), expected);
}

/// SGMSE in one step, whose noise is not added: `x - dt * (theta * (y - x) - g^2 * score)`.
#[test]
fn speech_is_enhanced_around_the_observation() {
    let sampling = "family = 'diffusion'\nsampler = 'sgmse'\nprediction = 'score'\ntime = 'mean-reverting'\ntheta = 1.5\n\
                    sigma_min = 0.05\nsigma_max = 0.5";
    let expected = [0, 1, 2, 3].map(|i| {
        let growth = 10f64.ln();
        let variance = 0.0025 * ((2.0 * growth).exp() - (-3f64).exp()) * growth / (1.5 + growth);
        let (y, x) = (OBSERVED[i], OBSERVED[i] + variance.sqrt() * f64::from(NOISE[i]));
        x - (1.5 * (y - x) - 0.25 * 2.0 * growth * (y - x))
    });
    assert_near(sample(&mut observed(sampling)), expected);
}

/// One step from 1 next to 0: `x - v`, with the weights of diffusers' policy on three velocities.
#[test]
fn stacked_velocities_are_combined() {
    let inputs = "[inputs.x]\nrole = 'state'\nshape = [2, 2]\n[inputs.t]\nrole = 'time'";
    let sampling = format!("{FLOW}\nprediction = 'velocity-grid'\npoints = 3\nsteps = 1");
    let mut session = session("grid.onnx", inputs, &sampling);
    assert_near(sample(&mut session), NOISE.map(|z| f64::from(z) * (1.0 - MEAN_VELOCITY)));
}

/// diffusers 0.42.1, `PiflowScheduler(n_grid=3, shift=1).set_timesteps(1)`: one step with velocities 1, 2 and 4.
const MEAN_VELOCITY: f64 = 1.0156332443977087;

#[test]
fn the_scale_of_distilled_guidance_is_encoded() {
    let inputs =
        format!("{STATE}\n[inputs.w]\nrole = 'guidance'\nencoding = 'embedding'\nshape = [4]\ndefault = 2");
    let mut session =
        session("distilled.onnx", &inputs, &format!("{FLOW}\nprediction = 'x0'\nmax_steps = 1"));
    let expected = |w: f64| [0, 1, 2, 3].map(|i| f64::from(NOISE[i]) * Encoding::Embedding.value(w, i, 4));
    assert_near(sample(&mut session), expected(2.0));
    session.prepare(&Request { guidance: Some(7.5), ..Request::default() }).expect("guidance");
    assert_near(sample(&mut session), expected(7.5));
    session.set_condition("w", &[3.0]).expect("a scale");
    assert_near(sample(&mut session), expected(3.0));
    assert!(session.set_condition("w", &[1.0; 4]).is_err());
}
