//! Times one evaluation of a network by rten, as `peers.py` wants it: prints JSON, and writes the outputs as 0.npy, 1.npy ...
//!
//! `rten-peer NETWORK INPUTS OUTPUTS THREADS SECONDS WARM_UP LEAST`: folders of .npy files, seconds to measure for, evaluations
//! before that, and evaluations at least.

use rten::{ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::{AsView, Tensor};
use std::error::Error;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    if let Err(problem) = measure() {
        eprintln!("{}", problem.to_string().lines().next().unwrap_or("failed"));
        std::process::exit(1);
    }
}

fn measure() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [network, inputs, outputs, threads, seconds, warm_up, least] = &words[..] else {
        return Err("usage: rten-peer NETWORK INPUTS OUTPUTS THREADS SECONDS WARM_UP LEAST".into());
    };
    let (warm_up, least): (usize, usize) = (warm_up.parse()?, least.parse()?);
    let begin = Instant::now();
    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(network)?;
    let open_ms = millis(begin);
    let inputs: Vec<(NodeId, Value)> = model
        .input_ids()
        .iter()
        .map(|&id| {
            let name = model.node_info(id).and_then(|info| info.name()).ok_or("an input has no name")?;
            Ok((id, read(&Path::new(inputs).join(format!("{name}.npy")))?))
        })
        .collect::<Result<_, Box<dyn Error>>>()?;
    let pool = Arc::new(ThreadPool::with_num_threads(threads.parse()?));
    let evaluate = || {
        let given: Vec<(NodeId, ValueOrView)> =
            inputs.iter().map(|(id, value)| (*id, value.into())).collect();
        let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
        model.run(given, model.output_ids(), Some(options))
    };
    let mut found = evaluate()?;
    for _ in 1..warm_up {
        found = evaluate()?;
    }
    write(found, Path::new(outputs))?;
    let (mut times, end) = (vec![], Instant::now() + Duration::from_secs_f64(seconds.parse()?));
    while times.len() < least || Instant::now() < end {
        let begin = Instant::now();
        evaluate()?;
        times.push(millis(begin));
    }
    times.sort_by(f64::total_cmp);
    let step_ms = (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2.0;
    println!(
        "{}",
        serde_json::json!({ "open_ms": open_ms, "step_ms": step_ms, "rss_bytes": most_memory()? })
    );
    Ok(())
}

fn millis(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

/// rten has no i64: it wants i32 where a network takes that.
fn read(path: &Path) -> Result<Value, Box<dyn Error>> {
    let file = BufReader::new(File::open(path).map_err(|e| format!("{}: {e}", path.display()))?);
    let array = npyz::NpyFile::new(file)?;
    let shape: Vec<usize> = array.shape().iter().map(|&size| size as usize).collect();
    if array.dtype().descr().contains('f') {
        return Ok(Value::from_shape(&shape, array.into_vec::<f32>()?)?);
    }
    let whole = array.into_vec::<i64>()?.into_iter().map(i32::try_from).collect::<Result<Vec<_>, _>>()?;
    Ok(Value::from_shape(&shape, whole)?)
}

fn write(outputs: Vec<Value>, folder: &Path) -> Result<(), Box<dyn Error>> {
    for (i, output) in outputs.into_iter().enumerate() {
        let tensor: Tensor<f32> = output.try_into()?;
        npyz::to_file_1d(folder.join(format!("{i}.npy")), tensor.to_vec())?;
    }
    Ok(())
}

/// In bytes, as Linux tells.
fn most_memory() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}
