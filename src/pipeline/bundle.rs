//! Bundles: a pipeline in one file, with plans of its networks in place of ONNX, for pictures of one size.

use std::{
    borrow::{Cow, ToOwned},
    collections::BTreeMap,
    format,
    path::{Path, PathBuf},
    string::String,
    sync::{Arc, Mutex, PoisonError},
    vec,
    vec::Vec,
};

use super::{
    Event, Pipeline, PipelineError, Planes, Request,
    component::{self, Components, Placement, Placements, session_failed},
    files::Files,
    folder::{FolderError, INDEX, SCHEDULER},
    generate::{self, Watch},
    tokenizer, vae,
};
use crate::cache::{Cache, CacheError, KeyBuilder};
use crate::files as whole;
use crate::kernels::Isa;
use crate::manifest::Manifest;
use crate::mapping;
use crate::onnx::interface;
use crate::plan::write_bundle;
use crate::provider::cached::{self, Compilation};
use crate::provider::{Provider, Settings};
use crate::sampler::Noise;
use crate::session::{Session, SessionError};

/// The name that a component's plan has in a bundle, by what it hangs on beside the network.
pub(super) fn member(component: &str, parts: &[u8]) -> String {
    format!("{component}/{}.fsp", KeyBuilder::new().add(parts).key())
}

/// What is encoded meanwhile, if nothing is asked for.
const PROMPT: &str = "a photograph of an astronaut riding a horse on the moon";

/// A bundle in the making.
#[derive(Debug)]
pub(super) struct Making {
    /// Where its plans are until it is written.
    folder: tempfile::TempDir,
    target: Isa,
    plans: Mutex<BTreeMap<String, PathBuf>>,
}

impl Making {
    /// Adds the plan of a component's network.
    pub(super) fn add<C: Compilation>(
        &self,
        compilation: C,
        component: &str,
        network: &Path,
        parts: &[u8],
        settings: Settings,
    ) -> Result<(), C::Error>
    where
        C::Error: From<CacheError>,
    {
        let settings = self.settings(settings);
        self.insert(component, parts, cached::plan(compilation, network, parts, settings, &self.cache())?);
        Ok(())
    }

    /// Adds the plan of a network that is sampled as a manifest says.
    fn add_session(
        &self,
        component: &str,
        network: &Path,
        manifest: Manifest,
        settings: Settings,
    ) -> Result<(), SessionError> {
        let parts = manifest.archived();
        let plan = Session::plan_file(manifest, network, self.settings(settings), &self.cache())?;
        self.insert(component, &parts, plan);
        Ok(())
    }

    fn insert(&self, component: &str, parts: &[u8], plan: PathBuf) {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.insert(member(component, parts), plan);
    }

    /// What evaluates a component meanwhile: the same plan, if this computer can run it.
    pub(super) fn placements(&self, settings: Settings) -> Placements {
        let settings = if self.target.supported() { self.settings(settings) } else { settings };
        let default = Placement { provider: Provider::Cpu, settings };
        Placements { default, cache: Some(self.cache()), ..Placements::default() }
    }

    fn settings(&self, settings: Settings) -> Settings {
        Settings { isa: Some(self.target), ..settings }
    }

    fn cache(&self) -> Cache {
        Cache { folder: self.folder.path().to_owned(), limit: u64::MAX }
    }
}

/// Writes a bundle of what a request takes, and returns its length.
pub(super) fn write(
    pipeline: &Pipeline,
    request: &Request<'_>,
    target: Isa,
    path: &Path,
    watch: Watch<'_>,
) -> Result<usize, PipelineError> {
    let files = pipeline.components.folder.files();
    if matches!(files, Files::Bundle(_)) {
        return Err(PipelineError::Bundled);
    }
    let failed = |source| PipelineError::Write { path: path.to_owned(), source };
    let beside = whole::folder(path);
    let folder = tempfile::Builder::new().prefix(whole::PREFIX).suffix(whole::SUFFIX).tempdir_in(beside);
    let folder = folder.map_err(failed)?;
    let making = Arc::new(Making { folder, target, plans: Mutex::default() });
    let components = Components { making: Some(making.clone()), ..pipeline.components.clone() };
    rehearse(&Pipeline { class: pipeline.class, components }, &making, request, watch)?;

    let mut members: BTreeMap<String, Cow<'_, [u8]>> = BTreeMap::new();
    for own in pipeline.described()? {
        let network = pipeline.components.folder.needed(&own.name)?;
        let map =
            mapping::map(&own.path).map_err(|source| FolderError::Read { path: own.path.clone(), source })?;
        let inside =
            interface(&map, &own.path).map_err(|error| component::failed(&own.name, error.into()))?;
        members.insert(network, inside.into());
    }
    for name in small_files(pipeline) {
        let contents = files.read(&name)?;
        members.insert(name, contents);
    }
    let plans = making.plans.lock().unwrap_or_else(PoisonError::into_inner);
    let maps = plans.iter().map(|(name, path)| Ok((name.clone(), mapping::map(path)?)));
    let maps: Vec<_> = maps.collect::<Result<_, _>>().map_err(failed)?;
    let plans = maps.iter().map(|(name, map)| (name.clone(), &map[..]));
    let all = members.iter().map(|(name, contents)| (name.clone(), &contents[..])).chain(plans).collect();
    let in_pieces = pipeline.components.placements.default.settings.frugal;
    let mut bytes = 0;
    let written = whole::write_whole(path, |out| {
        bytes = write_bundle(&all, in_pieces, out)?;
        Ok(())
    });
    written.map_err(failed)?;
    Ok(bytes)
}

/// Opens what a request opens, on noise: half precision is found by values like those of pictures. The denoiser draws nothing,
/// beyond what finds its half precision.
fn rehearse(
    pipeline: &Pipeline,
    making: &Making,
    request: &Request<'_>,
    watch: Watch<'_>,
) -> Result<(), PipelineError> {
    let Pipeline { class, components } = pipeline;
    let (denoiser, autoencoder) = generate::described(pipeline)?;
    let size = generate::size_of(&denoiser, request)?;
    let guided = denoiser.is_guided(request.sampling.guidance);
    let prompt = if request.prompt.is_empty() { PROMPT } else { request.prompt };
    let features =
        generate::features(pipeline, &Request { prompt, ..request.clone() }, &denoiser, guided, watch)?;
    let mut generator = (request.rng.new)(request.seed);
    let mut noise = |shape: [usize; 3]| {
        let mut values = vec![0.0; shape.iter().product()];
        generator.fill_normal(&mut values);
        Planes { values, shape }
    };
    if components.folder.network(vae::ENCODER)?.is_some() {
        watch(Event::Opening(vae::ENCODER));
        let mut picture = noise([3, size[0], size[1]]);
        picture.values.iter_mut().for_each(|value| *value = value.clamp(-1.0, 1.0));
        vae::encode(components, &picture, denoiser.channels, autoencoder.reduction)?;
    }
    watch(Event::Opening(class.denoiser));
    let manifest = denoiser.manifest(components, size, &features[0], guided)?;
    let network = components.folder.files().path(&components.folder.needed(class.denoiser)?);
    let settings = components.placements.of(class.denoiser).settings;
    let added = making.add_session(class.denoiser, &network, manifest, settings);
    added.map_err(|error| session_failed(class.denoiser, error))?;
    watch(Event::Opening(vae::DECODER));
    let latents = noise(denoiser.latents(size));
    let mut note = |text: String| _ = watch(Event::Note(&text));
    vae::decode(components, &autoencoder, &[latents], request.tiled, &mut note)?;
    Ok(())
}

/// The names of the small files that a pipeline reads.
fn small_files(pipeline: &Pipeline) -> Vec<String> {
    let Pipeline { class, components } = pipeline;
    let inside = |parts: Vec<&str>, names: &[&str]| -> Vec<String> {
        parts.iter().flat_map(|part| names.iter().map(move |name| format!("{part}/{name}"))).collect()
    };
    let tokenizers = class.text.encoders().iter().map(|encoder| encoder.tokenizer).collect();
    let mut names = vec![INDEX.to_owned(), SCHEDULER.to_owned()];
    names.extend(inside(tokenizers, &tokenizer::FILES));
    names.extend(inside(vec!["vae", vae::DECODER, vae::ENCODER, class.denoiser], &["config.json"]));
    names.retain(|name| components.folder.files().has(name));
    names
}
