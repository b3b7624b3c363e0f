//! Manifests in plan files: archived by rkyv, and held to the rules of those that are written.

#[cfg(feature = "compile")]
use std::vec::Vec;
use std::{
    format,
    path::PathBuf,
    string::{String, ToString},
};

use rkyv::{
    Place, SerializeUnsized,
    rancor::{Failure, Fallible, Source},
    string::{ArchivedString, StringResolver},
    with::{ArchiveWith, DeserializeWith, SerializeWith},
};

use super::{Manifest, ManifestError, rules};
use crate::sampler::{self, Sampler};

/// Many times what becomes of the longest text, and few enough that no rule takes long.
const MAX_BYTES: usize = 1 << 20;

impl Manifest {
    /// What [`Manifest::from_archive`] reads.
    #[cfg(feature = "compile")]
    #[must_use]
    pub fn archived(&self) -> Vec<u8> {
        // Paths are text already, and memory is all that it takes: there is nothing to fail.
        rkyv::to_bytes::<Failure>(self).map(|bytes| bytes.to_vec()).unwrap_or_default()
    }

    /// The manifest in a plan file that stands at `origin`. The bytes begin at a multiple of 8 bytes.
    ///
    /// # Errors
    /// If they are not those of a manifest, or of one that can not be sampled.
    pub fn from_archive(bytes: &[u8], origin: impl Into<PathBuf>) -> Result<Manifest, ManifestError> {
        let origin = origin.into();
        match sound(bytes) {
            Ok(manifest) => Ok(Manifest { origin, ..manifest }),
            Err(problem) => Err(ManifestError::Archive { path: origin, problem }),
        }
    }
}

fn sound(bytes: &[u8]) -> Result<Manifest, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let manifest = rkyv::api::low::from_bytes::<Manifest, Failure>(bytes);
    let manifest = manifest.map_err(|_| "its bytes are damaged".to_string())?;
    rules::check(&manifest)?;
    Ok(manifest)
}

/// A sampler, archived by its name.
pub(super) struct ByName;

impl ArchiveWith<&'static Sampler> for ByName {
    type Archived = ArchivedString;
    type Resolver = StringResolver;

    fn resolve_with(sampler: &&'static Sampler, resolver: StringResolver, out: Place<ArchivedString>) {
        ArchivedString::resolve_from_str(sampler.name, resolver, out);
    }
}

impl<S: Fallible<Error: Source> + ?Sized> SerializeWith<&'static Sampler, S> for ByName
where
    str: SerializeUnsized<S>,
{
    fn serialize_with(sampler: &&'static Sampler, serializer: &mut S) -> Result<StringResolver, S::Error> {
        ArchivedString::serialize_from_str(sampler.name, serializer)
    }
}

impl<D: Fallible<Error: Source> + ?Sized> DeserializeWith<ArchivedString, &'static Sampler, D> for ByName {
    fn deserialize_with(name: &ArchivedString, _: &mut D) -> Result<&'static Sampler, D::Error> {
        sampler::find(name).map_err(D::Error::new)
    }
}
