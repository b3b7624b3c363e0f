//! The shapes of a network's inputs: what its manifest says, and `--shape` over that.
#![forbid(unsafe_code)]

use super::assignment;
use super::models::Source;
use fewstep::onnx::{Declared, Dimension, OnnxError, Shapes, concrete_shapes};
use fewstep::session::{SessionError, input_shapes};
use std::path::PathBuf;

/// Elements of an input.
const MAX_ELEMENTS: usize = 1 << 31;

/// What one `--shape` says.
pub type Given = (String, Vec<usize>);

#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    #[error("{}: {source}", path.display())]
    Manifest { path: PathBuf, source: Box<SessionError> },
    #[error("{}: input {input} has no fixed size for dimension {axis} ({symbol}); give --shape {input}={example}", path.display())]
    Open { path: PathBuf, input: String, axis: usize, symbol: String, example: String },
    #[error("{}: {source}", path.display())]
    Wrong { path: PathBuf, source: Box<OnnxError> },
}

/// `NAME=1x3x64x64`.
pub fn parse(text: &str) -> Result<Given, String> {
    let (name, sizes) = assignment(text)?;
    let sizes: Option<Vec<usize>> = sizes.split('x').map(|size| size.parse().ok()).collect();
    let sizes = sizes.ok_or("write sizes with an x between them, such as 1x3x64x64")?;
    match sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size)) {
        Some(1..=MAX_ELEMENTS) => Ok((name, sizes)),
        _ => Err(format!("a shape has 1 to {MAX_ELEMENTS} elements")),
    }
}

/// Shapes that fix every input of the network.
pub fn of(source: &Source, inputs: &[Declared], given: &[Given]) -> Result<Shapes, ShapeError> {
    let path = || source.path().to_path_buf();
    let own = source.manifest.as_ref().map(|manifest| input_shapes(manifest, inputs)).transpose();
    let own = own.map_err(|error| ShapeError::Manifest { path: path(), source: Box::new(error) })?;
    let mut shapes = own.unwrap_or_default();
    shapes.extend(given.iter().cloned());
    match concrete_shapes(inputs, &shapes) {
        Ok(_) => Ok(shapes),
        Err(OnnxError::MissingShape { input, axis, symbol }) => {
            let example = example(inputs, &input);
            Err(ShapeError::Open { path: path(), input, axis, symbol, example })
        }
        Err(error) => Err(ShapeError::Wrong { path: path(), source: Box::new(error) }),
    }
}

/// A shape that would do for an input.
fn example(inputs: &[Declared], input: &str) -> String {
    let dims = inputs.iter().filter(|declared| declared.name == input).flat_map(|input| &input.dims);
    let size = |dim: &Dimension| match dim {
        Dimension::Fixed(size) => size.to_string(),
        Dimension::Symbol(_) => "1".into(),
    };
    dims.map(size).collect::<Vec<_>>().join("x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_parsed() {
        assert_eq!(parse("x=1x3x64x64"), Ok(("x".into(), vec![1, 3, 64, 64])));
        assert_eq!(parse("a=b=2"), Err("write sizes with an x between them, such as 1x3x64x64".into()));
        for wrong in ["x", "x=", "=1", "x=1x", "x=-1", "x=0", "x=99999999999x99999999999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
