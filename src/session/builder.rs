//! From a plan file to a session.

use super::{Session, SessionError};
use crate::manifest::{Manifest, ManifestError, Request};
use crate::plan::PlanFile;
use crate::provider::{Network, Precision, Settings};

/// What a session is made of. `Session::builder()` makes one.
///
/// ```no_run
/// use fewstep::{plan::Plan, session::Session};
///
/// let plan = Plan::open("digits.fsp")?;
/// let mut session = Session::builder().plan(&plan).sampler("meanflow").steps(2).threads(1).build()?;
/// session.set_condition("label", &[7.0])?;
/// let mut image = vec![0.0; session.elements()]; // [1, 28, 28], -1 to 1
/// session.sample(&mut image)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder<'a> {
    plan: Option<PlanFile>,
    settings: Settings,
    request: Request<'a>,
    seed: u64,
}

impl<'a> Builder<'a> {
    /// The plan file. Sessions on clones of one share its weights.
    #[must_use]
    pub fn plan(self, plan: &PlanFile) -> Builder<'a> {
        Builder { plan: Some(plan.clone()), ..self }
    }

    /// Threads to use; 0, as without this, for as many as the CPU runs at once, 1 for none but the caller's.
    #[must_use]
    pub fn threads(self, threads: usize) -> Builder<'a> {
        Builder { settings: Settings { threads, ..self.settings }, ..self }
    }

    /// Which of the file's plans is taken, see [`Network::open`].
    #[must_use]
    pub fn precision(self, precision: Precision) -> Builder<'a> {
        Builder { settings: Settings { precision, ..self.settings }, ..self }
    }

    /// All settings at once.
    #[must_use]
    pub fn settings(self, settings: Settings) -> Builder<'a> {
        Builder { settings, ..self }
    }

    /// A sampler in the place of the manifest's: a name that `fewstep list samplers` has.
    #[must_use]
    pub fn sampler(self, name: &'a str) -> Builder<'a> {
        Builder { request: Request { sampler: Some(name), ..self.request }, ..self }
    }

    /// Network evaluations a sample, in the place of the manifest's.
    #[must_use]
    pub fn steps(self, steps: usize) -> Builder<'a> {
        Builder { request: Request { steps: Some(steps), ..self.request }, ..self }
    }

    /// Everything that may be asked for at once.
    #[must_use]
    pub fn request(self, request: Request<'a>) -> Builder<'a> {
        Builder { request, ..self }
    }

    /// The seed of the first sample's noise, as PyTorch draws it on a CPU; 0 without this.
    #[must_use]
    pub fn seed(self, seed: u64) -> Builder<'a> {
        Builder { seed, ..self }
    }

    /// Allocates everything that samples need.
    ///
    /// # Errors
    /// If there is no plan, it has no manifest, it does not run here, or its model does not allow what is asked for.
    pub fn build(self) -> Result<Session, SessionError> {
        let Some(plan) = self.plan else { return Err(SessionError::NoPlan) };
        let manifest = Session::manifest_of(&plan)?;
        let manifest = manifest.ok_or_else(|| SessionError::NoManifest(plan.path().into()))?;
        let mut session = Session::with_plan(manifest, &plan, self.settings)?;
        session.prepare(&self.request)?;
        session.seed = self.seed;
        Ok(session)
    }
}

impl Session {
    /// The manifest in a plan file.
    ///
    /// # Errors
    /// If it is damaged, or can not be sampled.
    pub fn manifest_of(plan: &PlanFile) -> Result<Option<Manifest>, ManifestError> {
        plan.manifest().map(|bytes| Manifest::from_archive(bytes, plan.path())).transpose()
    }

    /// A session of a manifest, which may differ from the plan file's in how it samples, and the network of the file.
    ///
    /// # Errors
    /// If they do not fit each other, or the network does not run here.
    pub fn with_plan(
        manifest: Manifest,
        plan: &PlanFile,
        settings: Settings,
    ) -> Result<Session, SessionError> {
        if manifest.guide.is_some() {
            return Err(SessionError::GuideInPlan);
        }
        Session::of(manifest, Network::open(plan, settings)?)
    }
}
