//! Many damaged plan files, for tests/corrupt.sh: needs the runtime alone, so that a sanitizer is soon built in.

mod corruption;

use corruption::{Outcome, Random, Tally, bytes, damaged, outcome};
use std::time::{Duration, Instant};

/// Under a sanitizer, without optimised kernels, on a busy machine.
const SLOWEST: Duration = Duration::from_secs(10);

#[test]
#[ignore = "tests/corrupt.sh runs it, on files of its own"]
fn damaged_plans_are_refused_or_stay_inside_of_their_memory() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let number = |name: &str| variable(name).parse::<u64>().expect("a number");
    let folder = std::fs::read_dir(variable("FEWSTEP_SEEDS")).expect("FEWSTEP_SEEDS: a folder");
    let mut paths: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).expect("a file")).collect();
    let mut weights = Vec::new();
    for (path, file) in paths.iter().zip(&files) {
        let start = Instant::now();
        assert_eq!(outcome(&bytes(file), 0), Outcome::Ran, "{}", path.display());
        // What runs for long is tried less often.
        weights.push(1.0 / (0.002 + start.elapsed().as_secs_f64()));
    }
    let first = number("FEWSTEP_FIRST");
    let mut tally = Tally::default();
    for seed in first..first + number("FEWSTEP_COPIES") {
        let mut random = Random(seed);
        let [at, other] = [(); 2].map(|()| random.weighted(&weights));
        let file = damaged(&files[at], &files[other], seed);
        tally.count(&file, 0);
        assert!(tally.slowest < SLOWEST, "seed {seed} of {}: {tally:?}", paths[at].display());
    }
    println!("{tally:#?}");
    assert!(tally.ran > 0 && tally.refused > 0, "{tally:?}: the test tests nothing");
}
