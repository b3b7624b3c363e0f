//! Samples within a budget of memory, and says what the process had at the most.
//!
//! ```sh
//! fewstep compile models/terrain --low-memory -o terrain.fsp
//! cargo run --release --no-default-features --features std --example little_memory -- terrain.fsp 25000000
//! ```

use fewstep::memory::Memory;
use fewstep::plan::Plan;
use fewstep::provider::Settings;
use fewstep::session::Session;
use std::{env, error::Error, time::Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [plan, bytes] = &arguments[..] else { return Err("give a plan file and a number of bytes".into()) };
    let settings = Settings { threads: 1, max_memory: Some(bytes.parse()?), ..Settings::default() };
    let mut session = Session::builder().settings(settings).plan(&Plan::open(plan)?).build()?;
    let mut sample = vec![0.0; session.elements()];
    for _ in 0..3 {
        let begin = Instant::now();
        session.sample(&mut sample)?;
        println!("a sample in {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    }
    let peak = Memory::peak().ok_or("the system does not say what memory a process has")?;
    println!("{:.2} MB resident at the most", peak as f64 / 1e6);
    Ok(())
}
