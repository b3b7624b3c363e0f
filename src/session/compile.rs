//! From a manifest and its network to a session, or to a plan file.

use super::shapes::{bind, input_shapes, paired_shapes};
use super::{Session, SessionError};
use crate::graph::Graph;
use crate::kernels::{Isa, cpu};
use crate::manifest::Manifest;
use crate::onnx::{Model, Shapes};
use crate::plan::{Constants, Package, lower};
use crate::provider::{Network, NetworkError, Precision, Settings};
use crate::sampler::Interval;
use std::vec::Vec;

impl Session {
    /// A session of a manifest and its network, which may come from anywhere. The network that guides, if the manifest
    /// names one, is read.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn new(manifest: Manifest, model: Model, settings: Settings) -> Result<Session, SessionError> {
        let network = Network::compile(graph(&manifest, model, settings)?, settings)?;
        let mut session = Session::of(manifest, network)?;
        if let Some(path) = session.manifest.guide_path() {
            let model = Model::read(&path).map_err(NetworkError::from)?;
            let shapes = input_shapes(&session.manifest, &model)?;
            let settings = Settings { threads: 1, precision: Precision::F32, ..settings };
            session.set_guide(Network::new(model, &shapes, settings)?)?;
        }
        session.calibrate()?;
        Ok(session)
    }
}

/// The plans of a manifest's network for an instruction set that this computer need not have, one for each precision.
///
/// Half precision is calibrated on this computer. Whether samples stay what they are can only be tried where the
/// instruction set is: for another one, [`Precision::F16`] takes the most exact way, and [`Precision::Auto`] stays in f32.
///
/// # Errors
/// As [`Session::open`]; or if the network has operators that a plan file can not hold.
pub fn package(
    manifest: &Manifest,
    model: &Model,
    precisions: &[Precision],
    settings: Settings,
) -> Result<Package, SessionError> {
    if manifest.guide_path().is_some() {
        return Err(SessionError::GuideInPlan);
    }
    let isa = settings.isa.unwrap_or(cpu::best().isa);
    let mut package = Package::default();
    (package.manifest, package.scheduler) = (Some(manifest.text.clone()), manifest.scheduler.clone());
    for &precision in precisions {
        let settings = Settings { precision, isa: Some(isa), ..settings };
        add(&mut package, manifest, model, settings)?;
    }
    Ok(package)
}

fn add(
    package: &mut Package,
    manifest: &Manifest,
    model: &Model,
    settings: Settings,
) -> Result<(), SessionError> {
    let isa = settings.isa.unwrap_or(Isa::Portable);
    let here = Settings { isa: settings.isa.filter(|isa| isa.supported()), ..settings };
    let graph = graph(manifest, model.clone(), here)?;
    let constants = package.constants();
    let plan = match settings.precision {
        Precision::F32 => lower(&graph, isa, None, constants).map_err(NetworkError::from)?,
        Precision::Auto if !isa.supported() => {
            lower(&graph, isa, None, constants).map_err(NetworkError::from)?
        }
        Precision::F16 | Precision::Auto => {
            let mut session = Session::of(manifest.clone(), Network::compile(graph.clone(), here)?)?;
            let depth = session.depth(isa)?;
            match depth.map(|(depth, _)| (depth, session.network())) {
                // Only a network that does not calibrate has no plan in half precision.
                Some((depth, network)) => match network.halved_plan(isa, depth, constants)? {
                    Some(plan) => plan,
                    None => lower(&graph, isa, None, package.constants()).map_err(NetworkError::from)?,
                },
                None => lower(&graph, isa, None, constants).map_err(NetworkError::from)?,
            }
        }
    };
    package.add(plan).map_err(|operator| SessionError::HostInPlan { operator })
}

/// The network for one sample, or for two.
///
/// Two at once read the weights once, which is what a small state waits for; a large one keeps the arithmetic busy either
/// way, and would only need a second arena. So they are paired if one sample's arena is smaller than the weights, every
/// evaluation is guided, and the pair fits the memory.
fn graph(manifest: &Manifest, model: Model, settings: Settings) -> Result<Graph, SessionError> {
    let guided = manifest.guidance.as_ref().filter(|_| manifest.guide.is_none());
    let always = guided.is_some_and(|guidance| guidance.interval == Interval::Steps([0.0, 1.0]));
    // Times are the same for both: most networks take them once.
    let pair = |times| paired_shapes(manifest, &model, times);
    let pairs: Vec<_> = if always { [1, 2].into_iter().filter_map(pair).collect() } else { Vec::new() };
    let build = |model: Model, shapes: &Shapes| -> Result<Graph, SessionError> {
        Ok(bind(model.into_graph(shapes).map_err(NetworkError::from)?, manifest))
    };
    let shapes = input_shapes(manifest, &model)?;
    let again = (!pairs.is_empty()).then(|| model.clone());
    let single = build(model, &shapes)?;
    let single = if guided.is_some() { single.branching() } else { single };
    let single = single.optimized();
    let Some(model) = again else { return Ok(single) };
    let isa = settings.isa.unwrap_or(cpu::best().isa);
    let plan = lower(&single, isa, None, Constants::default()).map_err(NetworkError::from)?;
    let (weights, arena) = (plan.plan().weights().len(), plan.plan().arena_bytes());
    if arena >= weights || settings.max_memory.is_some_and(|most| weights + 2 * arena > most) {
        return Ok(single);
    }
    // A network may have its batch built in behind an input that leaves it open.
    let lengths = |graph: &Graph| graph.outputs.iter().map(|&id| graph.fact(id).len()).collect::<Vec<_>>();
    let wanted: Vec<usize> = lengths(&single).into_iter().map(|len| 2 * len).collect();
    let fits = |shapes: Shapes| build(model.clone(), &shapes).ok().filter(|graph| lengths(graph) == wanted);
    Ok(pairs.into_iter().find_map(fits).map_or(single, |graph| graph.paired().optimized()))
}
