//! Plan files of a file system: mapped, validated once, and shared by all that run them.

use super::file::{File, Kind, place};
use super::{Plan, PlanError};
use crate::mapping::{self, Bytes};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

/// Why a plan file is not used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}: cannot read the plan: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: the system does not keep the plan in memory: {source}; raise `ulimit -l`, or do without", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Plan { path: PathBuf, source: PlanError },
}

/// A mapped plan file, one map for all clones.
#[derive(Clone, Debug)]
pub struct PlanFile(Arc<Mapped>);

#[derive(Debug)]
struct Mapped {
    path: PathBuf,
    // Private and never changed after `open` has validated its contents: `plan` relies on it.
    bytes: Bytes,
    plans: Vec<Range<usize>>,
    weights: Range<usize>,
    manifest: Option<Range<usize>>,
    origin: String,
}

impl Plan<'static> {
    /// Maps and validates a plan file. The weights are not read; see [`PlanFile::verify`].
    ///
    /// # Errors
    /// If the file cannot be read, or is not one of sound plans of this version.
    pub fn open(path: impl AsRef<Path>) -> Result<PlanFile, OpenError> {
        let path = path.as_ref();
        let bytes = mapping::map(path).map_err(|source| OpenError::Read { path: path.into(), source })?;
        PlanFile::of(path.into(), bytes)
    }
}

impl Mapped {
    fn new(path: PathBuf, bytes: Bytes) -> Result<Mapped, PlanError> {
        let file = File::view(&bytes)?;
        for plan in file.plans() {
            plan?;
        }
        let range = |part: &[u8]| place(&bytes, part);
        let plans: Vec<_> = file.all(Kind::Plan).map(range).collect();
        if file.names()?.is_some() {
            return Err(PlanError::Bundle);
        }
        if plans.is_empty() {
            return Err(PlanError::Damaged { part: "table" });
        }
        let weights = file.all(Kind::Weights).next().map(range).unwrap_or(0..0);
        let manifest = file.manifest().map(range);
        let origin = file.origin()?.to_string();
        Ok(Mapped { path, plans, weights, manifest, origin, bytes })
    }
}

impl PlanFile {
    /// The plan file whose bytes these are.
    pub(super) fn of(path: PathBuf, bytes: Bytes) -> Result<PlanFile, OpenError> {
        let mapped = Mapped::new(path.clone(), bytes);
        Ok(PlanFile(Arc::new(mapped.map_err(|source| OpenError::Plan { path, source })?)))
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The manifest of the network, archived; `None` if it has none.
    pub fn manifest(&self) -> Option<&[u8]> {
        self.0.manifest.clone().map(|range| &self.0.bytes[range])
    }

    /// What the plans were made of, for people.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// The plans, in the order in which they were compiled; one at least.
    pub fn plans(&self) -> impl ExactSizeIterator<Item = Plan<'_>> {
        self.0.plans.iter().map(|range| self.view(range))
    }

    /// One of [`PlanFile::plans`]: the first one, if there are not so many.
    pub(crate) fn known_plan(&self, index: usize) -> Plan<'_> {
        self.view(self.0.plans.get(index).unwrap_or(&self.0.plans[0]))
    }

    fn view(&self, metadata: &Range<usize>) -> Plan<'_> {
        let Mapped { bytes, weights, .. } = &*self.0;
        // SAFETY: `open` has validated these very bytes. The map is read only; that nobody rewrites the file under it is
        // what every use of it relies on, see `mapping::map`.
        unsafe { Plan::view_unchecked(&bytes[metadata.clone()], &bytes[weights.clone()]) }
    }

    /// The mapped file, and where in it the weights are.
    pub(crate) fn weights(&self) -> (&Bytes, Range<usize>) {
        (&self.0.bytes, self.0.weights.clone())
    }

    /// Brings all weights into memory, so that no sample waits for the disk or takes a page fault for them.
    ///
    /// # Errors
    /// If they can not be read.
    pub fn prefault(&self) -> Result<(), OpenError> {
        self.0.bytes.prefault().map_err(|source| OpenError::Read { path: self.0.path.clone(), source })
    }

    /// Brings all weights into memory, and keeps them there for as long as the file is open.
    ///
    /// # Errors
    /// If the process may not lock so much: on Linux, `ulimit -l` says how much it may.
    pub fn lock(&self) -> Result<(), OpenError> {
        self.0.bytes.lock().map_err(|source| OpenError::Lock { path: self.0.path.clone(), source })
    }

    /// Compares the weights with their checksum, which reads them all.
    ///
    /// # Errors
    /// If they are damaged.
    pub fn verify(&self) -> Result<(), OpenError> {
        let checked = File::view(&self.0.bytes).and_then(|file| file.verify());
        checked.map_err(|source| OpenError::Plan { path: self.0.path.clone(), source })
    }
}
