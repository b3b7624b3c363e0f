//! From a manifest and its network to a session, or to a plan file.

use super::guidance::Evaluator;
use super::ports::Moment;
use super::shapes::{bind, bindings, input_shapes, paired_shapes};
use super::{Session, SessionError};
use crate::cache::Cache;
use crate::graph::Graph;
use crate::kernels::{Isa, cpu};
use crate::manifest::{Manifest, Request};
use crate::onnx::{Model, Shapes};
use crate::plan::{CompiledPlan, Constants, Depth, Kept, Package, Ranges, Recipe, lower};
use crate::provider::{Cpu, Network, NetworkError, OnnxFile, Opening, Precision, Provider, Settings};
use crate::sampler::{Guidance, Interval};
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
            let shapes = input_shapes(&session.manifest, &model.inputs)?;
            let settings = Settings { threads: 1, precision: Precision::F32, ..settings };
            session.set_guide(Network::new(model, &shapes, settings)?)?;
        }
        session.calibrate()?;
        Ok(session)
    }

    /// A session on a provider, which reads the network itself, and so does that of the one that guides, if the manifest
    /// names one. What the provider compiles is kept in a cache, if there is one.
    ///
    /// With [`Precision::Auto`], it has to draw the samples that the engine draws in f32, to 40 dB.
    ///
    /// # Errors
    /// As [`Session::open`]; or if the provider is not here, does not take the network, or draws other samples.
    pub fn on(
        provider: &Provider,
        manifest: Manifest,
        file: OnnxFile<'_>,
        settings: Settings,
        cache: Option<&Cache>,
    ) -> Result<Session, SessionError> {
        if matches!(provider, Provider::Cpu) {
            return Session::new(manifest, file.read().map_err(NetworkError::from)?, settings);
        }
        let bindings = &bindings(&manifest);
        let open = |file: OnnxFile<'_>| -> Result<Network, SessionError> {
            let header = file.header().map_err(NetworkError::from)?;
            let shapes = &input_shapes(&manifest, &header.inputs)?;
            Ok(Network::on(provider, file, &Opening { shapes, settings, bindings, cache })?)
        };
        let network = open(file)?;
        let guide = manifest.guide_path();
        let guide = guide.map(|path| open(OnnxFile { path: &path, bytes: None })).transpose()?;
        let mut session = Session::of(manifest, network)?;
        guide.map_or(Ok(()), |guide| session.set_guide(guide))?;
        if settings.precision == Precision::Auto {
            let settings = Settings { precision: Precision::F32, ..settings };
            let model = file.read().map_err(NetworkError::from)?;
            session.check_against(Session::new(session.manifest.clone(), model, settings)?)?;
        }
        Ok(session)
    }
}

/// The plans of a manifest's network for an instruction set that this computer need not have, one for each precision.
///
/// With a request to `bake`, what the network computes of the times of that schedule is in the plans, and the weights which
/// that takes are not: they sample this schedule and no other.
///
/// Half precision is calibrated on this computer. Whether samples stay what they are can only be tried where the
/// instruction set is: for another one, [`Precision::F16`] takes the last of the `ways`, and [`Precision::Auto`] stays in f32.
///
/// # Errors
/// As [`Session::open`]; or if the network has operators that a plan file can not hold.
pub fn package(
    manifest: &Manifest,
    model: &Model,
    precisions: &[Precision],
    settings: Settings,
    ways: &[Depth],
    bake: Option<&Request<'_>>,
) -> Result<Package, SessionError> {
    if manifest.guide_path().is_some() {
        return Err(SessionError::GuideInPlan);
    }
    let isa = settings.isa.unwrap_or(cpu::best().isa);
    let here = Settings { isa: Some(isa).filter(|isa| isa.supported()), ..settings };
    let graph = graph(manifest, model.clone(), here)?;
    let baked = bake.map(|request| Baked::of(manifest, &graph, request, settings.frugal)).transpose()?;
    let times = baked.as_ref().map(|baked| &baked.slots[..]);
    let mut package = Package::default();
    package.manifest = Some(manifest.archived());
    package.in_pieces = settings.frugal;
    for &precision in precisions {
        let half = calibrated(manifest, &graph, isa, Settings { precision, ..here }, ways)?;
        let (half, tried) = half.map_or((None, None), |own| (Some((own.ranges, own.depth)), own.network));
        let half = half.as_ref().map(|(ranges, depth)| (ranges, *depth));
        let recipe = Recipe { isa, half, times, frugal: settings.frugal };
        // What was tried is that plan, if it shares nothing with another one.
        let made = tried.filter(|_| package.is_empty() && times.is_none()).and_then(Network::into_compiled);
        let plan = made.map_or_else(|| lower(&graph, recipe, package.constants()), Ok);
        let plan = plan.map_err(NetworkError::from)?;
        if baked.as_ref().is_some_and(|baked| !baked.fits(&plan)) {
            return Err(SessionError::Bake { isa });
        }
        package.add(plan).map_err(|operator| SessionError::HostInPlan { operator })?;
    }
    Ok(package)
}

/// How a network goes into half precision.
struct Calibrated {
    ranges: Ranges,
    depth: Depth,
    /// As it is then, if this computer runs it.
    network: Option<Network>,
}

/// How a network goes into half precision for an instruction set; `None` if it stays in f32.
fn calibrated(
    manifest: &Manifest,
    graph: &Graph,
    isa: Isa,
    settings: Settings,
    ways: &[Depth],
) -> Result<Option<Calibrated>, SessionError> {
    let tried = isa.supported() || settings.precision == Precision::F16;
    if settings.precision == Precision::F32 || !tried {
        return Ok(None);
    }
    let mut session = Session::of(manifest.clone(), Network::compile(graph.clone(), settings)?)?;
    let Some((depth, network)) = session.depth(isa, ways)? else { return Ok(None) };
    let ranges = session.evaluator.network.into_ranges();
    Ok(ranges.map(|ranges| Calibrated { ranges, depth, network }))
}

/// What a network computes of the times of a schedule.
struct Baked {
    slots: Vec<u8>,
    /// The plan whose slots they are.
    network: Network,
}

impl Baked {
    fn of(
        manifest: &Manifest,
        graph: &Graph,
        request: &Request<'_>,
        frugal: bool,
    ) -> Result<Baked, SessionError> {
        let settings = Settings { threads: 1, frugal, ..Settings::default() };
        let mut session = Session::of(manifest.clone(), Network::compile(graph.clone(), settings)?)?;
        session.prepare(request)?;
        let slots = session.times()?;
        Ok(Baked { slots, network: session.evaluator.network })
    }

    /// Whether a plan, for another computer perhaps, finds everything where it is in the slots.
    fn fits(&self, plan: &CompiledPlan) -> bool {
        let kept = Kept::Time;
        let Some(own) = self.network.cpu().map(Cpu::plan) else { return false };
        let plan = plan.plan();
        let views = plan.kept_views(kept);
        own.slot_bytes(kept) == plan.slot_bytes(kept) && views.is_subset(&own.kept_views(kept))
    }
}

impl Session {
    /// The slots of all times of the schedule, one after the other.
    fn times(&mut self) -> Result<Vec<u8>, SessionError> {
        let steps = self.table.rows.len();
        let Evaluator { network, ports, .. } = &mut self.evaluator;
        for (step, row) in self.table.rows.iter().enumerate() {
            ports.write_times(&mut network.io()?, Moment { row, step, steps, weights: &[] })?;
            network.cpu_mut().map_or(Ok(()), |cpu| cpu.engine()?.run_times(&mut |_, _| ()))?;
        }
        let Some(cpu) = network.cpu_mut() else { return Ok(Vec::new()) };
        Ok(cpu.engine()?.times().unwrap_or_default().to_vec())
    }
}

/// Whether every evaluation is one of two, of the same network: then what they are compiled to hangs on the memory there is.
pub(super) fn is_always_guided(manifest: &Manifest) -> bool {
    guidance(manifest).is_some_and(|guidance| guidance.interval == Interval::Steps([0.0, 1.0]))
}

/// The guidance of a network by itself.
fn guidance(manifest: &Manifest) -> Option<&Guidance> {
    manifest.guidance.as_ref().filter(|_| manifest.guide.is_none())
}

/// The network for one sample, or for two.
///
/// Two at once read the weights once, which is what a small state waits for; a large one keeps the arithmetic busy either
/// way, and would only need a second arena. So they are paired if one sample's arena is smaller than the weights, every
/// evaluation is guided, and the pair fits the memory.
fn graph(manifest: &Manifest, model: Model, settings: Settings) -> Result<Graph, SessionError> {
    let always = is_always_guided(manifest);
    // Times are the same for both: most networks take them once.
    let pair = |times| paired_shapes(manifest, &model, times);
    let pairs: Vec<_> = if always { [1, 2].into_iter().filter_map(pair).collect() } else { Vec::new() };
    let build = |model: Model, shapes: &Shapes| -> Result<Graph, SessionError> {
        Ok(bind(model.into_graph(shapes).map_err(NetworkError::from)?, manifest))
    };
    let shapes = input_shapes(manifest, &model.inputs)?;
    let again = (!pairs.is_empty()).then(|| model.clone());
    let single = build(model, &shapes)?;
    let single = if guidance(manifest).is_some() { single.branching() } else { single };
    let single = single.optimized();
    let Some(model) = again else { return Ok(single) };
    let isa = settings.isa.unwrap_or(cpu::best().isa);
    let recipe = Recipe { frugal: settings.frugal, ..Recipe::new(isa) };
    let plan = lower(&single, recipe, Constants::default()).map_err(NetworkError::from)?;
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
