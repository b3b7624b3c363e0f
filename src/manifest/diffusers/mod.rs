//! diffusers' `scheduler_config.json`, in the words of a manifest's `[sampling]`.
//!
//! The classes are those of diffusers 0.42.1, `src/diffusers/schedulers`, with the defaults of their constructors.

mod classes;
mod config;
mod flows;
mod multistep;
mod shared;

use core::ops::Range;
use std::string::{String, ToString};

use toml::{Spanned, de::DeTable};

use super::{
    Names, Sampling,
    file::RawSampling,
    parse::{Checked, Fault},
};
use classes::CLASSES;
use config::Config;
pub(super) use config::Keys;

/// Why a scheduler's file does not say how a network is sampled.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error("this is not the JSON object of a scheduler: {problem}")]
    Json { problem: String },
    #[error("no `_class_name`: it says which scheduler of diffusers this is")]
    NoClass,
    #[error("no sampler is like `{class}`: there are {}", Names::of(&CLASSES.map(|(name, _)| name)))]
    Class { class: String },
    #[error("{class} knows no key `{key}`: remove it if it has no effect")]
    Key { class: String, key: String },
    #[error("`{key}` of {class} is {value}: {why}")]
    Value { class: String, key: &'static str, value: String, why: &'static str },
    #[error("{problem}")]
    Sampling { problem: String },
}

impl Sampling {
    /// How a network is sampled whose folder has diffusers' `scheduler_config.json`. `beside` is further keys of a
    /// manifest's `[sampling]`, which count where both say something: `steps = 4`.
    ///
    /// Keys that have no effect in diffusers, and those of its other classes, are passed over; everything else that
    /// can not be said here is an error.
    pub fn from_scheduler_config(json: &str, beside: &str) -> Result<Sampling, ConfigError> {
        let problem = |Fault { problem, .. }: Fault| ConfigError::Sampling { problem };
        let keys = keys(json)?;
        let mut table = DeTable::parse(beside).map_err(|e| problem(Fault::from_toml(e, beside)))?;
        include(table.get_mut(), &keys, 0..0).map_err(problem)?;
        let raw: RawSampling = serde::Deserialize::deserialize(toml::Deserializer::from(table))
            .map_err(|e| problem(Fault::from_toml(e, beside)))?;
        Ok(raw.parse().map_err(problem)?.into_inner())
    }
}

/// Adds keys that a table does not have, at the place that names their file.
pub(super) fn include<'a>(table: &mut DeTable<'a>, keys: &'a Keys, at: Range<usize>) -> Checked<()> {
    if keys.lacks_shift && !table.contains_key("shift") {
        let problem = "`shift` is missing: this scheduler's `use_dynamic_shifting` leaves it to the size of the sample; \
                       for FLUX.1-dev at 1024x1024 it is exp(1.15) = 3.158"
            .to_string();
        return Err(Fault { at, problem });
    }
    let parsed = DeTable::parse(&keys.text).map_err(|error| Fault::from_toml(error, &keys.text))?;
    for (key, value) in parsed.into_inner() {
        if !table.contains_key(key.get_ref().as_ref()) {
            let key = Spanned::new(at.clone(), key.into_inner());
            table.insert(key, Spanned::new(at.clone(), value.into_inner()));
        }
    }
    Ok(())
}

/// The keys of `[sampling]` that a scheduler's file stands for.
pub(super) fn keys(json: &str) -> Result<Keys, ConfigError> {
    let mut config = Config::parse(json)?;
    let bare = config.class.strip_suffix("Scheduler").unwrap_or(&config.class);
    let Some((_, read)) = CLASSES.iter().find(|(name, _)| *name == bare) else {
        return Err(ConfigError::Class { class: config.class });
    };
    read(&mut config)?;
    config.finish()
}
