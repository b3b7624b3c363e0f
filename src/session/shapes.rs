//! At which shapes a network is compiled, and what changes its inputs.

use super::SessionError;
use crate::graph::{Binding, Graph};
use crate::manifest::{Input, Manifest, Role};
use crate::onnx::{Declared, Dimension, Model, Shapes};
use std::vec::Vec;

/// Concrete input shapes for one sample at a time: what the manifest says, with a batch of one. `inputs` are the network's.
///
/// # Errors
/// If the manifest and the network do not fit each other.
pub fn input_shapes(manifest: &Manifest, inputs: &[Declared]) -> Result<Shapes, SessionError> {
    let known = || inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut shapes = Shapes::new();
    for input in &manifest.inputs {
        let name = || input.name.clone();
        let declared = inputs.iter().find(|i| i.name == input.name);
        let declared = declared.ok_or_else(|| SessionError::NoInput { input: name(), known: known() })?;
        let own = own_shape(&input.role);
        let lead = lead(declared, own).ok_or_else(|| SessionError::Shape {
            input: name(),
            manifest: own.to_vec(),
            network: declared.shape(),
        })?;
        shapes.insert(name(), [&std::vec![1; lead][..], own].concat());
    }
    match inputs.iter().find(|i| !shapes.contains_key(&i.name)) {
        Some(input) => Err(SessionError::NoRole { input: input.name.clone() }),
        None => Ok(shapes),
    }
}

/// The graph of a manifest's network as a session evaluates it: its inputs bound by their roles, and without the outputs
/// that the sampler does not read.
#[must_use]
pub fn bind(graph: Graph, manifest: &Manifest) -> Graph {
    let bindings = bindings(manifest);
    let binding = |name: &str| bindings.iter().find(|(own, _)| *own == name).map(|own| own.1);
    let graph = graph.bound(|name| binding(name).unwrap_or(Binding::STATE));
    let wanted = manifest.output.name.as_deref();
    match graph.output_names.iter().position(|name| wanted.is_none_or(|wanted| wanted == name)) {
        Some(at) => graph.with_output(at),
        None => graph,
    }
}

/// What changes the inputs, by their roles, other than the state.
pub fn bindings(manifest: &Manifest) -> Vec<(&str, Binding)> {
    let binding = |input: &'_ Input| match input.role {
        Role::State { .. } => None,
        Role::Condition(_) => Some(Binding::CONDITION),
        Role::Time | Role::Target | Role::Duration | Role::Step | Role::Steps => Some(Binding::TIME),
    };
    manifest.inputs.iter().filter_map(|input| Some((&input.name[..], binding(input)?))).collect()
}

/// The shapes for two samples at a time: the state and the conditions lead with a 2, and times that have a batch with
/// `times`. `None` if the network does not leave the batch open.
pub(super) fn paired_shapes(manifest: &Manifest, model: &Model, times: usize) -> Option<Shapes> {
    let mut shapes = input_shapes(manifest, &model.inputs).ok()?;
    for input in &manifest.inputs {
        let declared = model.inputs.iter().find(|i| i.name == input.name)?;
        let shape = shapes.get_mut(&input.name)?;
        let open = matches!(declared.dims.first(), Some(Dimension::Symbol(_)));
        let led = shape.len() > own_shape(&input.role).len();
        let sampled = matches!(input.role, Role::State { .. } | Role::Condition(_));
        if led && open {
            shape[0] = if sampled { 2 } else { times };
        } else if sampled {
            return None;
        }
    }
    Some(shapes)
}

fn own_shape(role: &Role) -> &[usize] {
    match role {
        Role::State { shape } => shape,
        Role::Condition(condition) => &condition.shape,
        _ => &[],
    }
}

/// How many dimensions come before those of one sample.
fn lead(declared: &Declared, own: &[usize]) -> Option<usize> {
    let lead = declared.dims.len().checked_sub(own.len()).filter(|&lead| lead <= 1 || own.is_empty())?;
    let fixed = |(d, &size): (&Dimension, &usize)| matches!(d, Dimension::Fixed(fixed) if *fixed != size);
    (!declared.dims[lead..].iter().zip(own).any(fixed)).then_some(lead)
}
