//! `fewstep list`: what this program has.
#![forbid(unsafe_code)]

use super::provider::{self, ProviderLibraries};
use super::{PrintError, columns, count, models, print, print_json};
use clap::ValueEnum;
use fewstep::kernels::{Isa, cpu};
use fewstep::manifest::ManifestError;
use fewstep::sampler::SAMPLERS;
use serde::Serialize;

/// List what this program has
#[derive(clap::Args, Debug)]
pub struct List {
    what: What,
    /// Print an array of objects with `name`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    libraries: ProviderLibraries,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Embedded models
    Models,
    /// Rules that turn noise into samples
    Samplers,
    /// What evaluates networks
    Providers,
    /// Instruction sets
    Targets,
}

#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Print(#[from] PrintError),
}

impl List {
    pub fn run(&self) -> Result<(), ListError> {
        match self.what {
            What::Models => self.show(&embedded()?),
            What::Samplers => self.show(&samplers()),
            What::Providers => self.show(&providers(&self.libraries)),
            What::Targets => self.show(&targets()),
        }
    }

    fn show<T: Serialize + Row>(&self, rows: &[T]) -> Result<(), ListError> {
        if self.json {
            return Ok(print_json(&rows)?);
        }
        let rows: Vec<_> = rows.iter().map(Row::cells).collect();
        Ok(print(&columns(&rows))?)
    }
}

/// What people see of an object.
trait Row {
    fn cells(&self) -> Vec<String>;
}

#[derive(Serialize)]
struct Model {
    name: &'static str,
    summary: Option<String>,
    license: Option<String>,
    family: &'static str,
    sampler: &'static str,
    steps: usize,
    max_steps: usize,
}

fn embedded() -> Result<Vec<Model>, ManifestError> {
    let row = |model: &models::Embedded| {
        let manifest = model.manifest()?;
        Ok(Model {
            name: model.name,
            summary: manifest.model.summary,
            license: manifest.model.license,
            family: manifest.sampling.family.name(),
            sampler: manifest.sampling.sampler.name,
            steps: manifest.sampling.steps,
            max_steps: manifest.sampling.max_steps,
        })
    };
    models::EMBEDDED.iter().map(row).collect()
}

impl Row for Model {
    fn cells(&self) -> Vec<String> {
        vec![self.name.into(), self.family.into(), self.summary.clone().unwrap_or_default()]
    }
}

#[derive(Serialize)]
struct Sampler {
    name: &'static str,
    aliases: &'static [&'static str],
    families: Vec<&'static str>,
    order: u8,
    evaluations_per_step: u8,
    stochastic: bool,
    paper: &'static str,
    reference: &'static str,
}

fn samplers() -> Vec<Sampler> {
    let row = |sampler: &fewstep::sampler::Sampler| Sampler {
        name: sampler.name,
        aliases: sampler.aliases,
        families: sampler.families.iter().map(|family| family.name()).collect(),
        order: sampler.order,
        evaluations_per_step: sampler.evaluations_per_step,
        stochastic: sampler.stochastic,
        paper: sampler.paper,
        reference: sampler.reference,
    };
    SAMPLERS.iter().map(row).collect()
}

impl Row for Sampler {
    fn cells(&self) -> Vec<String> {
        let noise = if self.stochastic { "stochastic" } else { "deterministic" };
        vec![
            self.name.into(),
            self.families.join(", "),
            format!("order {}", self.order),
            count(self.evaluations_per_step.into(), "evaluation"),
            noise.into(),
            self.paper.into(),
            self.reference.into(),
        ]
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Provider {
    /// Part of this program.
    Own {
        name: &'static str,
        summary: &'static str,
        /// Those that this CPU has, best first.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        instruction_sets: Vec<&'static str>,
    },
    Ort(Box<provider::Row>),
}

fn providers(libraries: &ProviderLibraries) -> Vec<Provider> {
    let instruction_sets = cpu::ROWS.iter().map(|row| row.isa).filter(|isa| isa.supported()).map(Isa::name);
    let instruction_sets = instruction_sets.collect();
    let own = [
        Provider::Own { name: "cpu", summary: "this program's own engine", instruction_sets },
        Provider::Own { name: "tract", summary: "a reference in Rust alone", instruction_sets: Vec::new() },
    ];
    let rows = provider::Row::all(libraries).into_iter().map(|row| Provider::Ort(Box::new(row)));
    own.into_iter().chain(rows).collect()
}

impl Row for Provider {
    fn cells(&self) -> Vec<String> {
        match self {
            Provider::Own { name, summary, instruction_sets } => {
                let here = match &instruction_sets[..] {
                    [] => summary.to_string(),
                    sets => format!("{summary}: {}", sets.join(", ")),
                };
                vec![(*name).into(), "built in".into(), "CPU".into(), here]
            }
            Provider::Ort(row) => row.cells(),
        }
    }
}

#[derive(Serialize)]
struct Target {
    name: &'static str,
    features: &'static [&'static str],
    /// Whether this CPU has it.
    supported: bool,
    /// Whether it is what this CPU runs best.
    native: bool,
}

fn targets() -> Vec<Target> {
    let best = cpu::best().isa;
    let row = |isa: Isa| Target {
        name: isa.name(),
        features: isa.features(),
        supported: cpu::find(isa).is_some(),
        native: isa == best,
    };
    Isa::ALL.into_iter().map(row).collect()
}

impl Row for Target {
    fn cells(&self) -> Vec<String> {
        let here = match (self.native, self.supported) {
            (true, _) => "best here",
            (_, true) => "runs here",
            _ => "not on this CPU",
        };
        vec![self.name.into(), here.into(), self.features.join(", ")]
    }
}
