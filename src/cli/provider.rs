//! `--provider` and what belongs to it, for the commands that evaluate networks.
#![forbid(unsafe_code)]

use super::{assignment, note};
use fewstep::provider::ort::{Choice, EPS, Ep, EpOption, names};
use fewstep::provider::{Cpu, Fallback, Network, Provider, ProviderError};
use serde::Serialize;
use std::path::PathBuf;

/// What evaluates the network.
#[derive(clap::Args, Debug, Clone)]
#[command(next_help_heading = "Provider")]
pub struct ProviderArgs {
    #[arg(long, value_name = "cpu|tract|ort[:EP]", default_value = "cpu", help = help())]
    provider: String,
    /// An option of the execution provider (see `fewstep list providers --json`)
    #[arg(long = "provider-option", value_name = "KEY=VALUE", value_parser = option)]
    options: Vec<(String, String)>,
    #[command(flatten)]
    libraries: ProviderLibraries,
    /// It is an error if a node does not run on the execution provider
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ArgumentError {
    #[error("{option} is for --provider ort, and not for {provider}; leave it out")]
    OnlyOrt { option: &'static str, provider: String },
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl ProviderArgs {
    /// What evaluates all of a pipeline's components, and what those that are named: `cpu,unet=ort:cuda`.
    pub fn of_components(&self) -> Result<(Provider, Vec<(String, Provider)>), ArgumentError> {
        let (mut all, mut named) = ("cpu", Vec::new());
        for part in self.provider.split(',') {
            match part.split_once('=') {
                Some((name, provider)) => named.push((name.to_string(), self.named(provider)?)),
                None => all = part,
            }
        }
        Ok((self.named(all)?, named))
    }

    /// One of them, with the options if it has any.
    fn named(&self, name: &str) -> Result<Provider, ArgumentError> {
        let ort = self.provider.split([',', '=']).any(|part| part.starts_with("ort"));
        match Provider::named(name)? {
            provider if ort && !matches!(provider, Provider::Ort(_)) => Ok(provider),
            _ => ProviderArgs { provider: name.into(), ..self.clone() }.provider(),
        }
    }

    pub fn provider(&self) -> Result<Provider, ArgumentError> {
        let provider = Provider::named(&self.provider)?;
        let Provider::Ort(choice) = provider else {
            let given = [
                ("--provider-option", !self.options.is_empty()),
                ("--ort-lib", self.libraries.ort_lib.is_some()),
                ("--ep-lib", self.libraries.ep_lib.is_some()),
                ("--strict", self.strict),
            ];
            return match given.into_iter().find(|(_, given)| *given) {
                Some((option, _)) => Err(ArgumentError::OnlyOrt { option, provider: provider.name() }),
                None => Ok(provider),
            };
        };
        choice.ep.check(&self.options)?;
        Ok(Provider::Ort(self.choice(choice.ep)))
    }

    /// ONNX Runtime's CPU provider, out of the library that is given.
    pub fn ort(&self) -> Provider {
        Provider::Ort(Choice { library: self.libraries.ort_lib.clone(), ..Choice::default() })
    }

    fn choice(&self, ep: &'static Ep) -> Choice {
        Choice {
            ep,
            library: self.libraries.ort_lib.clone(),
            plugin: self.libraries.ep_lib.clone(),
            options: self.options.clone(),
            strict: self.strict,
            resident: None,
        }
    }
}

fn help() -> String {
    format!(
        "cpu, this program's own engine; tract; or ONNX Runtime, with one of its execution providers: {}. Of a pipeline, \
         each component may have its own: cpu,unet=ort:cuda",
        names()
    )
}

/// `KEY=VALUE`.
fn option(text: &str) -> Result<(String, String), String> {
    assignment(text).map(|(key, value)| (key, value.into()))
}

/// What computes, for people: the instruction set, or the runtime and its version.
pub fn kernels(network: &Network) -> String {
    match network.cpu().map(Cpu::plan) {
        Some(plan) => plan.isa().to_string(),
        None => format!("{} {}", network.provider(), network.version()),
    }
}

/// In which precision, or on which provider.
pub fn computed(network: &Network) -> &str {
    match network.cpu() {
        Some(cpu) => cpu.precision(),
        None => network.provider(),
    }
}

/// Says on standard error which nodes do not run where they were to run.
pub fn note_fallback(network: &Network) {
    if let Some(fallback) = Fallback::of(network.provider(), network.assignment()) {
        note(fallback);
    }
}

/// An execution provider as `fewstep list providers` has it.
#[derive(Serialize)]
pub struct Row {
    name: String,
    full_name: &'static str,
    /// Whether it may be in a library of its own.
    plugin: bool,
    devices: &'static [&'static str],
    needs: &'static str,
    options: Vec<OptionRow>,
    /// The version of ONNX Runtime that has it here; `null` if something is missing.
    version: Option<String>,
    /// What is missing, `null` if nothing is.
    missing: Option<String>,
    /// The same, for a line in a table.
    #[serde(skip)]
    here: String,
}

#[derive(Serialize)]
struct OptionRow {
    name: &'static str,
    r#type: String,
    /// Empty where the provider decides.
    default: &'static str,
}

impl Row {
    /// All rows, as the arguments' libraries have them.
    pub fn all(args: &ProviderLibraries) -> Vec<Row> {
        EPS.iter().map(|ep| Row::of(ep, args)).collect()
    }

    fn of(ep: &'static Ep, args: &ProviderLibraries) -> Row {
        // A library does not say whose it is before it is loaded as that one's.
        let is_own =
            |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().contains(ep.name));
        let plugin = args.ep_lib.clone().filter(is_own);
        let probe = |plugin| {
            let library = args.ort_lib.clone();
            Choice { ep, library, plugin, options: Vec::new(), strict: false, resident: None }.probe()
        };
        let probed = probe(plugin);
        let option = |option: &EpOption| OptionRow {
            name: option.name,
            r#type: option.kind.text(),
            default: option.default,
        };
        let here = match &probed {
            Ok(version) => format!("usable here, ONNX Runtime {version}"),
            Err(ProviderError::NoLibrary { .. } | ProviderError::Library { .. }) => {
                format!("needs ONNX Runtime, and {}", ep.needs)
            }
            Err(ProviderError::NotBuiltIn { .. }) => format!("not in this library; needs {}", ep.needs),
            Err(error) => error.to_string(),
        };
        let (version, missing) = match probed {
            Ok(version) => (Some(version), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Row {
            name: format!("ort:{}", ep.name),
            full_name: ep.full_name,
            plugin: ep.plugin,
            devices: ep.devices,
            needs: ep.needs,
            options: ep.options.iter().map(option).collect(),
            version,
            missing,
            here,
        }
    }

    pub fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            if self.plugin { "built in or plugin" } else { "built in" }.into(),
            self.devices.join(", "),
            self.here.clone(),
        ]
    }
}

/// Where providers are.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct ProviderLibraries {
    /// ONNX Runtime's library, or its folder [default: FEWSTEP_ORT_LIB, ORT_DYLIB_PATH, the usual places]
    #[arg(long, value_name = "PATH")]
    ort_lib: Option<PathBuf>,
    /// A library of the execution provider's own; `list` tells whose by the file's name
    #[arg(long, value_name = "PATH")]
    ep_lib: Option<PathBuf>,
}
