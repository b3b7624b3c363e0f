//! The keys of one file, taken one by one; and the keys of `[sampling]` that they become.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    format,
    string::{String, ToString},
};

use serde_json::Value;

use super::ConfigError;

pub(super) type Read<T> = Result<T, ConfigError>;

pub(super) struct Config {
    pub(super) class: String,
    keys: BTreeMap<String, Value>,
    /// Lines of TOML.
    said: String,
    lacks_shift: bool,
}

/// The keys of `[sampling]` that a file stands for.
#[derive(Debug)]
pub(in super::super) struct Keys {
    /// Lines of TOML.
    pub(super) text: String,
    /// It leaves the shift to the size of the sample.
    pub(super) lacks_shift: bool,
}

/// Keys of some class of diffusers. Classes that do not know one of them pass over it: files keep what an earlier class had.
const OF_OTHER_CLASSES: &[&str] = &[
    "algorithm_type",
    "base_image_seq_len",
    "base_shift",
    "beta_end",
    "beta_schedule",
    "beta_start",
    "clip_sample",
    "clip_sample_range",
    "disable_corrector",
    "dynamic_thresholding_ratio",
    "euler_at_final",
    "final_sigmas_type",
    "flow_shift",
    "interpolation_type",
    "invert_sigmas",
    "lambda_min_clipped",
    "lower_order_final",
    "max_image_seq_len",
    "max_shift",
    "original_inference_steps",
    "prediction_type",
    "predict_x0",
    "rescale_betas_zero_snr",
    "rho",
    "sample_max_value",
    "set_alpha_to_one",
    "shift",
    "shift_terminal",
    "sigma_data",
    "sigma_max",
    "sigma_min",
    "skip_prk_steps",
    "solver_order",
    "solver_p",
    "solver_type",
    "steps_offset",
    "stochastic_sampling",
    "thresholding",
    "time_shift_type",
    "timestep_scaling",
    "timestep_spacing",
    "timestep_type",
    "trained_betas",
    "use_beta_sigmas",
    "use_dynamic_shifting",
    "use_exponential_sigmas",
    "use_flow_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
    "variance_type",
];

impl Config {
    pub(super) fn parse(json: &str) -> Read<Config> {
        let json = without_infinities(json);
        let mut keys: BTreeMap<String, Value> =
            serde_json::from_str(&json).map_err(|e| ConfigError::Json { problem: e.to_string() })?;
        let Some(Value::String(class)) = keys.remove("_class_name") else { return Err(ConfigError::NoClass) };
        keys.remove("_diffusers_version");
        Ok(Config { class, keys, said: String::new(), lacks_shift: false })
    }

    /// A key of `[sampling]`.
    pub(super) fn say(&mut self, key: &str, value: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.said, "{key} = {value}");
    }

    pub(super) fn word(&mut self, key: &str, value: &str) {
        self.say(key, format_args!("{value:?}"));
    }

    /// All that was said, if no key is left that nobody knows.
    pub(super) fn finish(mut self) -> Read<Keys> {
        self.keys.retain(|key, _| !OF_OTHER_CLASSES.contains(&key.as_str()));
        match self.keys.into_keys().next() {
            Some(key) => Err(ConfigError::Key { class: self.class, key }),
            None => Ok(Keys { text: self.said, lacks_shift: self.lacks_shift }),
        }
    }

    /// The shift is not in the file.
    pub(super) fn lacks_shift(&mut self) {
        self.lacks_shift = true;
    }

    /// Whether a key, which stays, is this text.
    pub(super) fn is(&self, key: &str, text: &str) -> bool {
        self.keys.get(key).is_some_and(|value| value == text)
    }

    /// Whether a switch, which stays, is on.
    pub(super) fn is_on(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|value| *value == true)
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.remove(key).filter(|value| !value.is_null())
    }

    pub(super) fn wrong<T>(&self, key: &'static str, value: impl Display, why: &'static str) -> Read<T> {
        Err(ConfigError::Value { class: self.class.clone(), key, value: value.to_string(), why })
    }

    pub(super) fn number(&mut self, key: &'static str, default: f64) -> Read<f64> {
        match self.take(key) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(number),
                None => self.wrong(key, value, "it has to be a number"),
            },
        }
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> Read<bool> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(value) => self.wrong(key, value, "it has to be true or false"),
        }
    }

    pub(super) fn text(&mut self, key: &'static str, default: &str) -> Read<String> {
        match self.take(key) {
            None => Ok(default.to_string()),
            Some(Value::String(text)) => Ok(text),
            Some(value) => self.wrong(key, value, "it has to be text"),
        }
    }

    /// One of some words, as what it stands for.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        key: &'static str,
        default: &str,
        words: &[(&str, T)],
    ) -> Read<T> {
        let text = self.text(key, default)?;
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(*meaning),
            None => self.wrong(key, format!("{text:?}"), "this has no counterpart here"),
        }
    }

    /// A switch that can only stand as it does by default.
    pub(super) fn only(&mut self, key: &'static str, flag: bool, why: &'static str) -> Read<()> {
        if self.flag(key, flag)? == flag { Ok(()) } else { self.wrong(key, !flag, why) }
    }

    /// A number that can only be what it is by default.
    pub(super) fn only_number(&mut self, key: &'static str, number: f64, why: &'static str) -> Read<()> {
        let found = self.number(key, number)?;
        if found == number { Ok(()) } else { self.wrong(key, found, why) }
    }

    /// A key that has to be null, or an empty list.
    pub(super) fn nothing(&mut self, key: &'static str, why: &'static str) -> Read<()> {
        match self.take(key) {
            Some(value) if value.as_array().is_none_or(|list| !list.is_empty()) => {
                self.wrong(key, value, why)
            }
            _ => Ok(()),
        }
    }
}

/// Python writes infinities, which are no JSON. All that diffusers has stand for no limit, as null does.
fn without_infinities(json: &str) -> String {
    let outside = |(i, part): (usize, &str)| match i % 2 {
        0 => part.replace("-Infinity", "null").replace("Infinity", "null"),
        _ => part.to_string(),
    };
    // No key and no value of a scheduler has an escaped quotation mark.
    json.split('"').enumerate().map(outside).collect::<std::vec::Vec<_>>().join("\"")
}
