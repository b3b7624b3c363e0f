//! Draws the seven models of models/toy2d side by side, in one, two and four steps: docs/toy2d.png.
//!
//! A sample has the colour of the direction in which its initial noise lies, so the picture shows where a model takes
//! which noise. CM and sCM draw new noise at each step, which mixes the colours.

#[allow(dead_code, reason = "a module of the command line program, of which this draws sheets only")]
#[path = "../src/cli/picture.rs"]
mod picture;

use fewstep::manifest::{Manifest, Request};
use fewstep::onnx::Model;
use fewstep::provider::{NetworkError, Settings};
use fewstep::sampler::{Noise, Philox};
use fewstep::session::{Run, Session, SessionError};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{Rgb, RgbImage};
use picture::{SheetOptions, Tile, contact_sheet};
use std::error::Error;
use std::f32::consts::TAU;
use std::fs::File;
use std::path::Path;

/// Folders and labels.
const MODELS: [(&str, &str); 7] = [
    ("cm", "CM"),
    ("ctm", "CTM"),
    ("scm", "sCM"),
    ("meanflow", "MeanFlow"),
    ("shortcut", "Shortcut"),
    ("imm", "IMM"),
    ("rectified-flow", "Reflow"),
];
const SAMPLES: u64 = 4096;
const SEED: u64 = 7;
/// Pixels of a tile's side, and the coordinate at its edge.
const SIDE: u32 = 144;
const EDGE: f32 = 1.2;
const INK: [f32; 3] = [66.0, 64.0, 60.0];

/// Where a point lies and its colour.
type Point = ([f32; 2], [f32; 3]);

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let models = root.join("models/toy2d");
    let session = |name: &str, network: &str| {
        let manifest = Manifest::read(models.join(name))?;
        let network = Model::read(&models.join(network)).map_err(NetworkError::from)?;
        Session::new(manifest, network, Settings::default())
    };
    let noise = (0..SAMPLES).map(|i| coloured(noise(i).1, noise(i).1)).collect();
    let mut untrained = session("cm", "untrained-t.onnx")?;
    untrained.prepare(&steps_of(4))?;
    let first = [("noise", noise), ("untrained, 4 steps", draw(&mut untrained)?), ("data", data())];
    let mut tiles = Vec::new();
    for ((label, points), steps) in first.into_iter().zip([1, 2, 4]) {
        tiles.push(Tile { pixels: scatter(&points), label: label.into() });
        for (name, label) in MODELS {
            let mut session = session(name, &format!("{name}/{name}.onnx"))?;
            session.prepare(&steps_of(steps))?;
            let plural = if steps > 1 { "s" } else { "" };
            tiles.push(Tile {
                pixels: scatter(&draw(&mut session)?),
                label: format!("{label}, {steps} step{plural}"),
            });
        }
    }
    let sheet = contact_sheet(&tiles, SheetOptions { columns: Some(1 + MODELS.len() as u32) });
    let file = File::create(root.join("docs/toy2d.png"))?;
    let encoder = PngEncoder::new_with_quality(file, CompressionType::Best, FilterType::NoFilter);
    Ok(sheet.write_with_encoder(encoder)?)
}

fn steps_of(steps: usize) -> Request<'static> {
    Request { steps: Some(steps), ..Request::default() }
}

/// Sample number `i` has its own stream; this is its initial noise.
fn noise(i: u64) -> (Philox, [f32; 2]) {
    let (mut stream, mut initial) = (Philox::new(SEED, i), [0.0; 2]);
    stream.fill_normal(&mut initial);
    (stream, initial)
}

fn draw(session: &mut Session) -> Result<Vec<Point>, SessionError> {
    let mut sample = [0.0; 2];
    let draw = |i| {
        let (mut stream, initial) = noise(i);
        let run = Run { initial: Some(&initial), ..Run::default() };
        session.sample_with(run, &mut stream, &mut sample)?;
        Ok(coloured(sample, initial))
    };
    (0..SAMPLES).map(draw).collect()
}

/// As many points of each of the 36 Gaussians in models/toy2d/README.md.
fn data() -> Vec<Point> {
    (0..SAMPLES)
        .map(|i| {
            let mut z = [0.0; 2];
            Philox::new(!SEED, i).fill_normal(&mut z);
            let radius = 0.41 + 0.56 * (i / 3 % 12) as f32 / 11.0;
            let (sine, cosine) = (TAU * (i % 3) as f32 / 3.0 + 2.5 * radius).sin_cos();
            let deviation = 0.03 + 0.03 * radius;
            ([radius * cosine + deviation * z[0], radius * sine + deviation * z[1]], INK)
        })
        .collect()
}

/// A point in the colour of a direction, all of nearly one lightness.
fn coloured(point: [f32; 2], [x, y]: [f32; 2]) -> Point {
    let channel = |third: f32| 112.0 + 100.0 * (y.atan2(x) - third * TAU / 3.0).cos();
    (point, [0.0, 1.0, 2.0].map(channel))
}

/// Points on white, each shared out among the four pixels around it.
fn scatter(points: &[Point]) -> RgbImage {
    let mut ink = vec![[0.0f32; 4]; (SIDE * SIDE) as usize];
    let inside = 0.0..SIDE as f32;
    for &([x, y], colour) in points {
        let [x, y] = [x, -y].map(|value| (value / EDGE + 1.0) / 2.0 * SIDE as f32 - 0.5);
        for (i, j) in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)] {
            let (column, row) = (x.floor() + i, y.floor() + j);
            if inside.contains(&column) && inside.contains(&row) {
                let pixel = &mut ink[row as usize * SIDE as usize + column as usize];
                let weight = (1.0 - (x - column).abs()) * (1.0 - (y - row).abs());
                (0..3).for_each(|channel| pixel[channel] += weight * colour[channel]);
                pixel[3] += weight;
            }
        }
    }
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let [red, green, blue, weight] = ink[(y * SIDE + x) as usize];
        let cover = 1.0 - (-1.5 * weight).exp();
        // Sixteen levels: the file is half as large, and looks the same.
        Rgb([red, green, blue].map(|sum| 255 - (cover * (255.0 - sum / weight.max(1e-6)) / 16.0) as u8 * 16))
    })
}
