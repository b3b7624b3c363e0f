//! Writes the plan of a model for the boards: `cargo run --release --example bare_plan -- MODEL FILE`, where MODEL is a
//! folder with a manifest, gives FILE.metadata and FILE.weights, in portable kernels.

use fewstep::kernels::Isa;
use fewstep::provider::Settings;
use fewstep::session::Session;
use std::error::Error;
use std::{env, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, file] = &arguments[..] else { return Err("give a model's folder and a file".into()) };
    let settings = Settings { isa: Some(Isa::Portable), threads: 1, ..Settings::default() };
    let session = Session::open(Path::new(model), settings)?;
    let plan = session.network().plan();
    fs::write(format!("{file}.metadata"), plan.metadata())?;
    fs::write(format!("{file}.weights"), plan.plan().weights())?;
    Ok(())
}
