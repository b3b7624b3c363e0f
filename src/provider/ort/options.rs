//! Options of execution providers: what they are called, and what their values have to be.

use super::registry::Ep;
use crate::provider::ProviderError;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// A provider's option.
#[derive(Clone, Copy, Debug)]
pub struct EpOption {
    pub name: &'static str,
    pub kind: Kind,
    /// What it is if nothing is given; empty where the provider decides.
    pub default: &'static str,
}

/// What an option's value is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `0` or `1`.
    Flag,
    /// `true` or `false`.
    Truth,
    Integer,
    Text,
    Choice(&'static [&'static str]),
}

pub(super) const fn option(name: &'static str, kind: Kind, default: &'static str) -> EpOption {
    EpOption { name, kind, default }
}

/// How the providers that have threads of their own call the option for their number.
const THREADS: [&str; 2] = ["num_of_threads", "intra_op_num_threads"];

impl Ep {
    /// The option that says how many threads the provider has, if it has its own.
    pub(super) fn threads(&self) -> Option<&'static str> {
        self.options.iter().map(|option| option.name).find(|name| THREADS.contains(name))
    }

    /// The kind of device that is asked for, where the provider has several and an option says which.
    pub(super) fn device_kind<'a>(&self, options: &'a [(String, String)]) -> Option<&'a str> {
        let option = self.options.iter().find(|option| option.name == "device_type")?;
        let given = options.iter().find(|(name, _)| name == option.name);
        Some(given.map_or(option.default, |(_, value)| value))
    }

    /// That options are known, and their values what they have to be.
    ///
    /// # Errors
    /// With the first that is not.
    pub fn check(&self, options: &[(String, String)]) -> Result<(), ProviderError> {
        let provider = || format!("ort:{}", self.name);
        for (name, value) in options {
            let known = || {
                let names =
                    self.options.iter().map(|option| format!("{} ({})", option.name, option.kind.text()));
                if self.options.is_empty() { "none".into() } else { names.collect::<Vec<_>>().join(", ") }
            };
            let Some(option) = self.options.iter().find(|option| option.name == name) else {
                return Err(ProviderError::UnknownOption {
                    provider: provider(),
                    option: name.clone(),
                    known: known(),
                });
            };
            if !option.kind.takes(value) {
                return Err(ProviderError::OptionValue {
                    provider: provider(),
                    option: name.clone(),
                    value: value.clone(),
                    wanted: option.kind.text(),
                });
            }
        }
        Ok(())
    }
}

impl Kind {
    pub(super) fn takes(self, value: &str) -> bool {
        match self {
            Kind::Flag => matches!(value, "0" | "1"),
            Kind::Truth => matches!(value, "true" | "false"),
            Kind::Integer => value.parse::<i64>().is_ok(),
            Kind::Text => !value.is_empty(),
            Kind::Choice(known) => known.contains(&value),
        }
    }

    /// For people.
    pub fn text(self) -> String {
        match self {
            Kind::Flag => "0 or 1".to_string(),
            Kind::Truth => "true or false".to_string(),
            Kind::Integer => "a whole number".to_string(),
            Kind::Text => "a text".to_string(),
            Kind::Choice(known) => known.join(" | "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let qnn = Ep::named("qnn").expect("a row");
        let given = |key: &str, value: &str| std::vec![(key.to_string(), value.to_string())];
        for (key, value) in [("soc_model", "43"), ("backend_type", "htp"), ("enable_htp_fp16_precision", "1")]
        {
            qnn.check(&given(key, value)).unwrap_or_else(|error| panic!("{error}"));
        }
        let problem = |key, value| qnn.check(&given(key, value)).expect_err("an error").to_string();
        assert!(
            problem("soc", "43")
                .starts_with("ort:qnn has no option `soc`; its options are backend_path (a text), ")
        );
        assert_eq!(problem("soc_model", "x"), "ort:qnn: option soc_model is a whole number, and not `x`");
        assert_eq!(
            problem("backend_type", "npu"),
            "ort:qnn: option backend_type is cpu | gpu | htp | saver | ir, and not `npu`"
        );
        assert!(Ep::named("npu").expect_err("an error").to_string().contains("there are ort:cpu, ort:cuda"));
    }
}
