//! Guidance and control of whole sessions, on a network that is a formula: `tanh(x @ W + y @ V) * t`.

use fewstep::manifest::{Manifest, Request};
use fewstep::onnx::Model;
use fewstep::provider::{Network, Precision, Settings};
use fewstep::sampler::{Guidance, Philox, TorchCpu};
use fewstep::session::{
    Control, Flow, Gradient, Progress, Run, Session, SessionError, Steer, Step, Weight, input_shapes,
};
use prost::Message;
use std::path::Path;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};

const SHAPE: [i64; 3] = [3, 8, 8];
const ELEMENTS: usize = 192;
const FLOAT: i32 = 1;

fn weight(name: &str, dims: &[usize], scale: f32) -> TensorProto {
    let count = dims.iter().product::<usize>();
    let values = (0..count).map(|i| scale * ((i * 7919 % 1009) as f32 / 504.5 - 1.0));
    TensorProto {
        name: name.into(),
        dims: dims.iter().map(|&d| d as i64).collect(),
        data_type: FLOAT,
        raw_data: values.flat_map(f32::to_le_bytes).collect(),
        ..TensorProto::default()
    }
}

fn constant(name: &str, values: &[i64]) -> TensorProto {
    let (dims, int64_data) = (vec![values.len() as i64], values.to_vec());
    TensorProto { name: name.into(), dims, data_type: 7, int64_data, ..TensorProto::default() }
}

/// An input or output of `[batch, sizes]`.
fn port(name: &str, batch: Option<i64>, sizes: &[i64]) -> ValueInfoProto {
    let batch = batch.map_or(Value::DimParam("batch".into()), Value::DimValue);
    let dims = [batch].into_iter().chain(sizes.iter().map(|&size| Value::DimValue(size)));
    let dim = dims.map(|value| Dimension { value: Some(value), ..Dimension::default() });
    let shape = TensorShapeProto { dim: dim.collect() };
    let tensor = type_proto::Tensor { elem_type: FLOAT, shape: Some(shape) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn model(
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
    inputs: Vec<ValueInfoProto>,
    batch: Option<i64>,
) -> Model {
    let graph = GraphProto {
        node: nodes,
        initializer: weights,
        input: inputs,
        output: vec![port("f", batch, &SHAPE)],
        ..GraphProto::default()
    };
    let proto = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    Model::parse(&proto.encode_to_vec(), Path::new("network.onnx"), None).expect("a model")
}

/// `strength` scales the weights; a fixed batch can not take two samples at once.
fn network(strength: f32, batch: Option<i64>) -> Model {
    model(
        vec![
            node("Flatten", &["x"], "flat"),
            node("MatMul", &["flat", "W"], "a"),
            node("MatMul", &["y", "V"], "b"),
            node("Add", &["a", "b"], "c"),
            node("Tanh", &["c"], "d"),
            node("Unsqueeze", &["t", "axis"], "u"),
            node("Mul", &["d", "u"], "e"),
            node("Reshape", &["e", "shape"], "f"),
        ],
        vec![
            weight("W", &[ELEMENTS, ELEMENTS], 0.1 * strength),
            weight("V", &[3, ELEMENTS], strength),
            constant("axis", &[1]),
            constant("shape", &[-1, 3, 8, 8]),
        ],
        vec![port("x", batch, &SHAPE), port("t", batch, &[]), port("y", batch, &[3])],
        batch,
    )
}

fn manifest(negative: &str, rest: &str) -> Manifest {
    manifest_of(&manifest_text(negative, rest))
}

fn manifest_text(negative: &str, rest: &str) -> String {
    format!(
        "[model]\nname = \"formula\"\nnetwork = \"formula.onnx\"\n[inputs.x]\nrole = \"state\"\nshape = [3, 8, 8]\n\
         [inputs.t]\nrole = \"time\"\n[inputs.y]\nrole = \"condition\"\nshape = [3]\ndefault = [1.0, -0.5, 0.25]\n{negative}\n\
         [sampling]\nfamily = \"rectified-flow\"\nprediction = \"velocity\"\ntime = \"unit\"\nsteps = 4\n{rest}\n\
         [output]\nkind = \"image\"\n"
    )
}

fn manifest_of(text: &str) -> Manifest {
    Manifest::parse(text, "fewstep.toml").unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

const ALONE: Settings = Settings {
    threads: 1,
    isa: None,
    precision: Precision::F32,
    max_memory: None,
    resident: None,
    frugal: false,
    prefault: false,
    unstaged: false,
};

fn draw(session: &mut Session) -> Vec<f32> {
    let mut out = vec![0.0; session.elements()];
    session.sample_from(&mut TorchCpu::new(3), &mut out).expect("a sample");
    out
}

fn drawn(session: &mut Session, run: Run<'_>) -> Result<Vec<f32>, SessionError> {
    let mut out = vec![0.0; session.elements()];
    session.sample_with(run, &mut TorchCpu::new(3), &mut out)?;
    Ok(out)
}

fn off(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

const NEGATIVE: &str = "negative = [-1.0, 0.5, 0.0]";
const GUIDED: &str = "[guidance]\nscale = 3";

/// The two ways to evaluate both outputs, and what the formula says of each step.
#[test]
fn two_samples_at_once_are_one_after_the_other() {
    for guidance in [
        "scale = 3",
        "scale = 3\nrescale = 0.5",
        "scale = 3\nmethod = \"zero-star\"\nzero_steps = 1",
        "scale = 3\nmethod = \"apg\"\nmomentum = -0.5\nnorm = 2\neta = 0.5",
    ] {
        let manifest = manifest(NEGATIVE, &format!("[guidance]\n{guidance}"));
        let mut paired = Session::new(manifest.clone(), network(1.0, None), ALONE).expect("a session");
        let mut single = Session::new(manifest, network(1.0, Some(1)), ALONE).expect("a session");
        assert_eq!([paired.is_paired(), single.is_paired()], [true, false]);
        let (together, apart) = (draw(&mut paired), draw(&mut single));
        assert!(off(&together, &apart) < 1e-5, "{guidance}");
        // The values of conditions can be chosen in both.
        for session in [&mut paired, &mut single] {
            session.set_condition("y", &[0.25]).expect("a value");
            session.set_negative("y", &[0.1, 0.2, -0.3]).expect("a value");
        }
        let (again, apart) = (draw(&mut paired), draw(&mut single));
        assert!(off(&again, &apart) < 1e-5 && off(&again, &together) > 1e-3, "{guidance}");
    }
}

#[test]
fn pairs_keep_to_the_memory_and_to_runs_that_are_all_guided() {
    let paired = |manifest: &Manifest, max_memory| {
        let settings = Settings { max_memory, ..ALONE };
        Session::new(manifest.clone(), network(1.0, None), settings).expect("a session").is_paired()
    };
    let guided = manifest(NEGATIVE, GUIDED);
    assert!(paired(&guided, None) && paired(&guided, Some(1 << 20)) && !paired(&guided, Some(1000)));
    assert!(!paired(&manifest(NEGATIVE, "[guidance]\nscale = 3\ninterval = [0, 0.5]"), None));
    assert!(!paired(&manifest(NEGATIVE, ""), None));
}

/// One step of Euler on a rectified flow is `z - F`, so that guidance can be seen.
#[test]
fn guidance_is_between_what_the_values_give_alone() {
    let mut session = Session::new(manifest("", ""), network(1.0, None), ALONE).expect("a session");
    let request = |guidance| Request { steps: Some(1), guidance, ..Request::default() };
    session.prepare(&request(None)).expect("a request");
    let conditional = draw(&mut session);
    session.set_condition("y", &[-1.0, 0.5, 0.0]).expect("a value");
    let unconditional = draw(&mut session);
    session.set_condition("y", &[1.0, -0.5, 0.25]).expect("a value");
    session.prepare(&request(Some(2.5))).expect("a request");
    let mut out = vec![0.0; ELEMENTS];
    let error = session.sample_from(&mut TorchCpu::new(3), &mut out).expect_err("nothing to move away from");
    assert!(matches!(error, SessionError::NoNegative), "{error}");
    session.set_negative("y", &[-1.0, 0.5, 0.0]).expect("a value");
    let mixed = |w: f32| -> Vec<f32> {
        unconditional.iter().zip(&conditional).map(|(u, c)| u + w * (c - u)).collect()
    };
    assert!(off(&draw(&mut session), &mixed(2.5)) < 1e-5);
    assert!(off(&mixed(2.5), &conditional) > 0.1);
    session.prepare(&request(Some(1.0))).expect("a request");
    assert_eq!(draw(&mut session), conditional);
    // A weaker network takes the place of the negative value.
    let weak = network(0.5, None);
    let shapes = input_shapes(session.manifest(), &weak.inputs).expect("shapes");
    session.set_guide(Network::new(weak, &shapes, ALONE).expect("a network")).expect("a guide");
    session.prepare(&request(Some(2.5))).expect("a request");
    let guided = draw(&mut session);
    let mut alone = Session::new(manifest("", ""), network(0.5, None), ALONE).expect("a session");
    alone.prepare(&request(None)).expect("a request");
    let weak = draw(&mut alone);
    let expected: Vec<f32> = weak.iter().zip(&conditional).map(|(u, c)| u + 2.5 * (c - u)).collect();
    assert!(off(&guided, &expected) < 1e-5);
}

#[test]
fn requests_for_guidance_are_checked() {
    let session = Session::new(manifest(NEGATIVE, ""), network(1.0, None), ALONE);
    let mut session = session.expect("a session");
    let mut refused = |request: Request<'_>| session.prepare(&request).expect_err("a refusal").to_string();
    let with = |guidance_method| Request { guidance: Some(2.0), guidance_method, ..Request::default() };
    let alone = Request { guidance_rescale: Some(0.5), ..Request::default() };
    assert!(refused(alone).contains("ask for a scale as well"));
    assert!(refused(with(Some("magic"))).contains("there are `cfg`, `zero-star`, `apg`"));
    let interval = Request { guidance_interval: Some([0.9, 0.1]), ..with(None) };
    assert!(refused(interval).contains("guidance interval"));
    let guidance = |request: &Request<'_>| manifest(NEGATIVE, GUIDED).guidance(request).expect("a request");
    assert_eq!(guidance(&Request::default()).map(|g: Guidance| g.scale), Some(3.0));
    assert_eq!(guidance(&with(None)).map(|g: Guidance| g.scale), Some(2.0));
}

fn reference() -> Vec<f32> {
    (0..ELEMENTS).map(|i| (i as f32 * 0.37).sin()).collect()
}

#[test]
fn image_to_image_begins_with_the_noised_reference() {
    let mut session = Session::new(manifest("", ""), network(1.0, None), ALONE).expect("a session");
    let (initial, reference) = (draw(&mut session), reference());
    let strong = Request { strength: Some(0.5), ..Request::default() };
    session.prepare(&strong).expect("a request");
    assert_eq!(session.steps(), 2);
    let run = || Run { initial: Some(&initial), ..Run::default() };
    let error = drawn(&mut session, run()).expect_err("no reference");
    assert!(matches!(error, SessionError::NoReference { strength: 0.5 }), "{error}");
    session.set_reference(&reference, Control::Start).expect("a reference");
    let found = drawn(&mut session, run()).expect("a sample");
    // The same by hand: the last two of four steps from half noise, half reference.
    let half: Vec<f32> = reference.iter().zip(&initial).map(|(r, z)| 0.5 * r + 0.5 * z).collect();
    session.clear_reference();
    let times = Request { times: Some(&[0.5, 0.25, 0.0]), ..Request::default() };
    session.prepare(&times).expect("a request");
    let expected = drawn(&mut session, Run { initial: Some(&half), ..Run::default() }).expect("a sample");
    assert!(off(&found, &expected) < 1e-6);
}

#[test]
fn a_mask_keeps_its_part_and_draws_the_rest_anew() {
    let mut session = Session::new(manifest("", ""), network(1.0, None), ALONE).expect("a session");
    let (free, reference) = (draw(&mut session), reference());
    let mask: Vec<f32> = (0..64).map(|i| if i % 8 < 4 { 0.0 } else { 1.0 }).collect();
    let kept = |i: usize| i % 8 < 4;
    for control in [Control::Keep { mask: &mask }, Control::Inpaint { mask: &mask }] {
        session.set_reference(&reference, control).expect("a reference");
        let found = draw(&mut session);
        for i in 0..ELEMENTS {
            assert!(!kept(i) || (found[i] - reference[i]).abs() < 1e-5, "{control:?} {i}");
        }
        // What is drawn knows what is kept.
        let moved = (0..ELEMENTS).filter(|&i| !kept(i)).map(|i| (found[i] - free[i]).abs());
        assert!(moved.fold(0.0, f32::max) > 1e-3, "{control:?}");
    }
    let ones = vec![1.0; ELEMENTS];
    session.set_reference(&reference, Control::Keep { mask: &ones }).expect("a reference");
    assert_eq!(draw(&mut session), free);
}

#[test]
fn edits_keep_what_they_measure() {
    let mut session = Session::new(manifest("", ""), network(1.0, None), ALONE).expect("a session");
    let reference = reference();
    session.set_reference(&reference, Control::Colorize).expect("a reference");
    let found = draw(&mut session);
    let grey = |x: &[f32], i: usize| 0.2989 * x[i] + 0.587 * x[64 + i] + 0.114 * x[128 + i];
    assert!((0..64).all(|i| (grey(&found, i) - grey(&reference, i)).abs() < 1e-5));
    session.set_reference(&reference, Control::SuperResolution).expect("a reference");
    let found = draw(&mut session);
    for channel in 0..3 {
        let mean = |x: &[f32]| x[64 * channel..][..64].iter().sum::<f32>() / 64.0;
        assert!((mean(&found) - mean(&reference)).abs() < 1e-5);
    }
}

#[test]
fn references_that_do_not_fit_are_refused() {
    let mut session = Session::new(manifest("", ""), network(1.0, None), ALONE).expect("a session");
    let good = reference();
    let mut refused = |values: &[f32], control: Control<'_>, says: &str| {
        let error = session.set_reference(values, control).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    };
    refused(&good[1..], Control::Start, "the reference has 191 values, a sample of this model needs 192");
    refused(&[f32::NAN; ELEMENTS], Control::Start, "the reference has NaN at element 0");
    refused(&good, Control::Keep { mask: &[0.0; 63] }, "the mask has 63 values");
    refused(&good, Control::Keep { mask: &[2.0; 64] }, "the mask has a value 2");
    refused(&good, Control::Inpaint { mask: &[-0.5; ELEMENTS] }, "the mask has a value -0.5");
    let mut out = vec![0.0; ELEMENTS];
    let run = Run { initial: Some(&[0.0; 5]), ..Run::default() };
    let error = session.sample_with(run, &mut Philox::new(0, 0), &mut out).expect_err("short noise");
    assert!(error.to_string().contains("the noise has 5 values"), "{error}");
}

/// Adds to the clean sample, and remembers what it saw.
struct Shift(f32, Vec<(usize, usize)>);

impl Steer for Shift {
    fn steer(&mut self, at: &Step<'_>, clean: &mut [f32]) -> Result<(), SessionError> {
        self.1.push((at.step, at.steps));
        // x0 = x - t * v
        let t = at.row.level.sigma as f32;
        assert!((at.state[0] - t * at.output[0] - clean[0]).abs() < 1e-5);
        clean.iter_mut().for_each(|clean| *clean += self.0);
        Ok(())
    }
}

#[test]
fn what_steers_moves_the_clean_sample_and_progress_shows_it() {
    let mut session = Session::new(manifest("", ""), network(1.0, None), ALONE).expect("a session");
    session.prepare(&Request { steps: Some(1), ..Request::default() }).expect("a request");
    let free = draw(&mut session);
    let mut steer = Shift(0.5, Vec::new());
    let mut seen = Vec::new();
    let mut after = |progress: Progress<'_>| {
        seen.push((progress.step, progress.steps, progress.state.to_vec(), progress.clean.to_vec()));
        Flow::Continue
    };
    let run = Run { steer: Some(&mut steer), after: Some(&mut after), ..Run::default() };
    let steered = drawn(&mut session, run).expect("a sample");
    assert!(steered.iter().zip(&free).all(|(steered, free)| (steered - free - 0.5).abs() < 1e-5));
    assert_eq!(steer.1, [(1, 1)]);
    let [(1, 1, state, clean)] = &seen[..] else { panic!("{} steps", seen.len()) };
    assert!(*state == steered && off(clean, &steered) < 1e-5);
}

#[test]
fn a_run_can_be_cancelled() {
    let mut session = Session::new(manifest("", ""), network(1.0, None), ALONE).expect("a session");
    let mut after = |progress: Progress<'_>| if progress.step == 2 { Flow::Cancel } else { Flow::Continue };
    let error = drawn(&mut session, Run { after: Some(&mut after), ..Run::default() }).expect_err("an end");
    assert!(matches!(error, SessionError::Cancelled { step: 2 }), "{error}");
}

/// A network that outputs its input's negative: the gradient of `-|clean|^2 / 2`.
#[test]
fn a_network_that_gives_a_gradient_steers() {
    let gradient = || {
        let model =
            model(vec![node("Neg", &["clean"], "f")], Vec::new(), vec![port("clean", None, &SHAPE)], None);
        let shapes = [("clean".to_string(), vec![1, 3, 8, 8])].into_iter().collect();
        Network::new(model, &shapes, ALONE).expect("a network")
    };
    let mut session = Session::new(manifest("", ""), network(1.0, None), ALONE).expect("a session");
    session.prepare(&Request { times: Some(&[0.5, 0.0]), ..Request::default() }).expect("a request");
    let free = draw(&mut session);
    // At t = 0.5, sigma^2 / alpha is 0.5.
    for (weight, left) in [(Weight::Constant, 0.8), (Weight::Variance, 0.9)] {
        let mut steer = Gradient::new(gradient(), 0.2, weight).expect("a gradient");
        let run = Run { steer: Some(&mut steer), ..Run::default() };
        let steered = drawn(&mut session, run).expect("a sample");
        assert!(steered.iter().zip(&free).all(|(s, f)| (s - left * f).abs() < 1e-5), "{weight:?}");
    }
    let blind = model(vec![node("Neg", &["z"], "f")], Vec::new(), vec![port("z", None, &SHAPE)], None);
    let shapes = [("z".to_string(), vec![1, 3, 8, 8])].into_iter().collect();
    let blind = Network::new(blind, &shapes, ALONE).expect("a network");
    assert!(Gradient::new(blind, 1.0, Weight::Constant).is_err());
}

/// The scale goes to the input that the network has for it, as the manifest says.
#[test]
fn guidance_that_was_distilled_into_a_network_is_an_input() {
    let inside = |text: &str| {
        let roles = text.replace("role = \"condition\"", "role = \"guidance\"\nscale = 0.1");
        roles.replace("default = [1.0, -0.5, 0.25]", "default = 4.0")
    };
    let manifest = manifest_of(&inside(&manifest_text("", "")));
    let mut session = Session::new(manifest, network(1.0, None), ALONE).expect("a session");
    let mut plain = Session::new(self::manifest("", ""), network(1.0, None), ALONE).expect("a session");
    for guidance in [None, Some(7.5)] {
        session.prepare(&Request { guidance, ..Request::default() }).expect("a request");
        plain.set_condition("y", &[0.1 * guidance.unwrap_or(4.0)]).expect("a value");
        assert!(off(&draw(&mut session), &draw(&mut plain)) < 1e-6);
    }
    let request = Request { guidance: Some(2.0), guidance_method: Some("apg"), ..Request::default() };
    let error = session.prepare(&request).expect_err("a method").to_string();
    assert!(error.contains("has its guidance inside"), "{error}");
}

/// The network reads the state and the prior together, and samples have it as well: with `F = x + y`, one step from
/// noise `z` takes `z - (z + 2y) + y`.
#[test]
fn samples_are_relative_to_a_prior() {
    let model = model(
        vec![node("Add", &["x", "y"], "f")],
        Vec::new(),
        vec![port("x", None, &SHAPE), port("t", None, &[]), port("y", None, &SHAPE)],
        None,
    );
    let text = manifest_text("prior = true", "").replace("shape = [3]", "shape = [3, 8, 8]");
    let text = text.replace("default = [1.0, -0.5, 0.25]", "").replace("steps = 4", "steps = 1");
    let mut session = Session::new(manifest_of(&text), model, ALONE).expect("a session");
    let prior: Vec<f64> = reference().into_iter().map(f64::from).collect();
    session.set_condition("y", &prior).expect("an observation");
    assert!(draw(&mut session).iter().zip(&prior).all(|(x, y)| (f64::from(*x) + y).abs() < 1e-5));
    let error = session.set_reference(&reference(), Control::Start).expect_err("a prior").to_string();
    assert!(error.contains("begin with its prior"), "{error}");
}

#[test]
fn sessions_may_move_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Session>();
    is_send::<fewstep::plan::PlanFile>();
}
