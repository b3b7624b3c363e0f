//! What the tests of the samplers share: the golden cases, their noise, and a run of a table in f64.
#![allow(dead_code)]

pub mod network;

use network::{Network, Point};

use fewstep::manifest::{Manifest, Request};
use fewstep::sampler::{Inputs, Row, Table};
use std::path::{Path, PathBuf};

/// Of tests/golden/common.py.
pub const START: [Point; 4] = [[0.5, -1.0], [0.1, 2.0], [-0.7, 0.3], [-1.6, -0.4]];

/// What a speech enhancer is given, the same for all points.
pub const OBSERVATION: Point = [0.4, -0.7];

/// One `[[case]]` of a file in tests/golden.
pub struct Case {
    pub label: String,
    pub manifest: Manifest,
    pub network: Network,
    /// How often the reference drew noise after the initial state.
    pub draws: usize,
    /// What the state is relative to, and the result is not.
    pub origin: Point,
    pub result: Vec<Point>,
}

impl Case {
    /// The sample of a run whose last state is `x`.
    pub fn observed(&self, x: &[Point]) -> Vec<Point> {
        x.iter().map(|x| [x[0] + self.origin[0], x[1] + self.origin[1]]).collect()
    }

    pub fn table(&self) -> Table {
        self.manifest.table(&Request::default()).unwrap_or_else(|e| panic!("{}: {e}", self.label))
    }
}

pub fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

/// The cases of all groups.
pub fn cases() -> Vec<Case> {
    let files = std::fs::read_dir(golden("")).expect("tests/golden").map(|e| e.expect("an entry").path());
    let mut files: Vec<_> = files.filter(|f| f.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files.iter().flat_map(|file| group(file)).collect()
}

fn group(file: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(file).expect("a group of cases");
    let mut parsed: toml::Table = text.parse().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let Some(toml::Value::Array(cases)) = parsed.remove("case") else {
        panic!("{}: no cases", file.display())
    };
    cases.iter().map(|case| read(case.as_table().expect("a table"))).collect()
}

fn read(case: &toml::Table) -> Case {
    let text = |key: &str| case[key].as_str().expect("a string");
    let numbers: Vec<f64> =
        case["result"].as_array().expect("a list").iter().map(|v| v.as_float().expect("a number")).collect();
    let second = case.get("second").map(|second| second.as_str().expect("a role"));
    let observed = case.contains_key("observation");
    let manifest = around(text("sampling"), second, observed);
    let network = network(text("sampling"), second, &manifest);
    Case {
        label: text("label").into(),
        manifest,
        network,
        origin: if observed { OBSERVATION } else { [0.0; 2] },
        draws: case["draws"].as_integer().expect("a number") as usize,
        result: numbers.chunks(2).map(|p| [p[0], p[1]]).collect(),
    }
}

fn network(sampling: &str, second: Option<&str>, manifest: &Manifest) -> Network {
    let mut network = Network::new(sampling, second);
    if let Some(policy) = manifest.sampling.policy() {
        let table = manifest.table(&Request::default()).expect("a table");
        for (step, row) in table.rows.iter().enumerate() {
            network.with_weights(row.inputs.t, &policy.weights(&table, step).expect("a step"));
        }
    }
    network
}

/// A manifest around a `[sampling]` table, of a network that may have a second time.
pub fn manifest(sampling: &str, second: Option<&str>) -> Manifest {
    around(sampling, second, false)
}

fn around(sampling: &str, second: Option<&str>, observed: bool) -> Manifest {
    let mut second = second.map_or(String::new(), |role| format!("[inputs.second]\nrole = \"{role}\"\n"));
    if observed {
        second += "[inputs.y]\nrole = \"condition\"\nshape = [4, 2]\nprior = true\n";
    }
    if sampling.contains("next-state") {
        second += "[inputs.step]\nrole = \"step\"\n";
    }
    let text = format!(
        "[model]\nname = \"mixture\"\nnetwork = \"mixture.onnx\"\n[inputs.x]\nrole = \"state\"\nshape = [4, 2]\n\
         [inputs.t]\nrole = \"time\"\n{second}[sampling]\n{sampling}\n[output]\nkind = \"tensor\"\n"
    );
    Manifest::parse(&text, "golden.toml").unwrap_or_else(|e| panic!("{e}:\n{text}"))
}

/// Element `j` of the noise that is drawn as number `draw` after the initial state.
pub fn noise(draw: usize, j: usize) -> f64 {
    ((draw * 8 + j) * 37 % 19) as f64 / 9.5 - 1.0
}

/// The initial state, from unit normal noise; and how many draws that took.
pub fn start(table: &Table, x: &mut [Point]) -> usize {
    let more = table.initial_noise.unwrap_or(0.0);
    for (j, x) in x.as_flattened_mut().iter_mut().enumerate() {
        *x = table.initial_scale * *x + more * noise(0, j);
    }
    usize::from(table.initial_noise.is_some())
}

/// Takes `rows` in f64, from a state after so many draws; returns how many draws there are then.
pub fn run(
    rows: &[Row],
    x: &mut [Point],
    mut draws: usize,
    network: impl Fn(Point, &Inputs) -> Point,
) -> usize {
    let mut kept: Vec<Vec<Point>> = Vec::new();
    for row in rows {
        let mut keep = x.to_vec();
        for (p, x) in x.iter_mut().enumerate() {
            let f = network(x.map(|x| row.inputs.scale * x), &row.inputs);
            for d in 0..2 {
                let y = row.estimate.x * x[d] + row.estimate.y * f[d];
                let y = row.limit.map_or(y, |limit| y.clamp(-limit, limit));
                keep[p][d] = row.keep.x * x[d] + row.keep.y * y;
                let back: f64 =
                    row.earlier.iter().zip(kept.iter().rev()).map(|(c, kept)| c * kept[p][d]).sum();
                let fresh = row.noise.map_or(0.0, |c| c * noise(draws, 2 * p + d));
                x[d] = row.update.x * x[d] + row.update.y * y + row.direct * f[d] + back + fresh;
            }
        }
        draws += usize::from(row.noise.is_some());
        if [row.keep.x, row.keep.y] != [0.0; 2] {
            kept.push(keep);
        }
    }
    draws
}

/// Largest difference, relative to the largest element of what is expected.
pub fn distance(found: &[Point], expected: &[Point]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |most: f64, v| most.max(v.abs()));
    let (found, expected) = (found.as_flattened(), expected.as_flattened());
    let off = largest(&mut found.iter().zip(expected).map(|(f, e)| f - e));
    let off = off / largest(&mut expected.iter().copied());
    // `max` passes over what is not a number.
    if found.iter().all(|f| f.is_finite()) { off } else { f64::INFINITY }
}
