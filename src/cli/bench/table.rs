//! A report for people: names and values.
#![forbid(unsafe_code)]

use super::super::machine::{Cluster, Machine};
use super::super::{count, row, scaled};
use super::cold::Start;
use super::report::{Energy, Peer, Report};
use super::sweep::Point;

/// One row of a table.
type Row = Vec<String>;

impl Report {
    pub fn table(&self) -> Vec<Row> {
        [self.machine_rows(), self.own_rows()].concat()
    }

    /// The machine that it is about.
    pub fn machine_rows(&self) -> Vec<Row> {
        let Machine { cpu, cores, peak_gflops, read_gb_per_s, facts, .. } = &self.machine;
        let mut rows = vec![row(&["machine", &format!("{cpu}, {}", count(*cores, "core"))])];
        let told = facts.board.iter().chain(&facts.kernel).cloned();
        let memory = facts.memory_bytes.map(|memory| format!("{} of memory", bytes(memory)));
        let system: Vec<String> = told.chain(memory).collect();
        if !system.is_empty() {
            rows.push(row(&["system", &system.join(", ")]));
        }
        rows.extend(facts.clusters.iter().map(cluster));
        if !facts.cpu_features.is_empty() {
            rows.push(row(&["CPU features", &facts.cpu_features.join(" ")]));
        }
        let temperatures =
            facts.temperatures.iter().map(|own| format!("{} {:.1} °C", own.sensor, own.celsius));
        let temperatures: Vec<String> = temperatures.collect();
        if !temperatures.is_empty() {
            rows.push(row(&["temperatures", &temperatures.join(", ")]));
        }
        rows.push(row(&[
            "a core's peak",
            &format!("{peak_gflops:.1} GFLOP/s, reads {read_gb_per_s:.1} GB/s"),
        ]));
        rows
    }

    /// The model on it.
    pub fn own_rows(&self) -> Vec<Row> {
        let mut rows = vec![
            row(&["model", &self.model]),
            row(&["kernels", &format!("{}, {}", self.kernels, self.precision)]),
            row(&["threads", &self.threads.to_string()]),
            row(&["opening", &format!("{:.1} ms", self.open_ms)]),
        ];
        match self.sample_ms {
            Some(sample) => rows.extend([
                row(&["first sample", &format!("{:.3} ms", self.first_sample_ms)]),
                row(&["sample", &format!("{}, {}", sample.text(), count(self.steps, "step"))]),
            ]),
            None => rows.push(row(&["first evaluation", &format!("{:.3} ms", self.first_sample_ms)])),
        }
        rows.extend([
            row(&["step", &self.step_ms.text()]),
            row(&["jitter", &format!("{:.2} (a step's p99 over its median)", self.jitter)]),
            row(&["timed", &count(self.runs, "run")]),
        ]);
        rows.push(row(&["cold start", &cold_start(&self.cold_start)]));
        rows.push(row(&["allocations", &format!("{} a step", self.allocations())]));
        rows.extend(self.memory_rows());
        rows.push(row(&["energy", &self.energy.as_ref().map_or_else(String::clone, Energy::text)]));
        rows.extend(self.sustained.iter().map(|sustained| row(&["sustained", &sustained.text()])));
        rows.extend(self.sweep.iter().flatten().map(Point::row));
        rows.extend(self.peer.iter().flat_map(Peer::rows));
        rows.extend(
            self.budget
                .iter()
                .flat_map(|budget| &budget.figures)
                .map(|figure| row(&["budget", &figure.text()])),
        );
        rows
    }

    /// A step, to a thousandth.
    pub fn allocations(&self) -> String {
        ((self.allocations_per_step * 1e3).round() / 1e3).to_string()
    }

    fn memory_rows(&self) -> Vec<Row> {
        let unknown = || "the system does not tell".to_string();
        let own = [("arena", self.arena_bytes), ("weights", self.weights_bytes)];
        let mut rows: Vec<Row> =
            own.into_iter().filter_map(|(name, own)| Some(row(&[name, &bytes(own? as u64)]))).collect();
        rows.extend([
            row(&["resident", &self.rss_bytes.map_or_else(unknown, bytes)]),
            row(&["private dirty", &self.private_dirty_bytes.map_or_else(unknown, bytes)]),
        ]);
        rows
    }
}

fn bytes(bytes: u64) -> String {
    format!("{}B", scaled(bytes as f64))
}

fn cluster(cluster: &Cluster) -> Row {
    let Cluster { cpus, cores, core, .. } = cluster;
    let mut facts = vec![format!("{cores} x {}", core.as_deref().unwrap_or("core"))];
    facts.extend(cluster.capacity.map(|capacity| format!("capacity {capacity}")));
    let clock = |name: &str, clock: Option<f64>| clock.map(|mhz| format!("{name}{mhz:.0} MHz"));
    facts.extend(clock("", cluster.mhz));
    facts.extend(clock("allowed ", cluster.limit_mhz));
    facts.extend(clock("most ", cluster.max_mhz));
    facts.extend(cluster.governor.as_ref().map(|governor| format!("governor {governor}")));
    let data = cluster.caches.iter().filter(|cache| cache.kind != "instruction");
    let caches: Vec<String> =
        data.map(|cache| format!("L{} {} KiB", cache.level, cache.bytes >> 10)).collect();
    facts.extend(Some(caches.join(" + ")).filter(|caches| !caches.is_empty()));
    row(&[&format!("CPU {cpus}"), &facts.join(", ")])
}

/// The first process, which found the page cache as it was, and what it was like.
fn cold_start(starts: &Result<Vec<Start>, String>) -> String {
    let Start { process_ms, inside } = match starts.as_ref().map(|starts| starts.first()) {
        Ok(Some(start)) => start,
        Ok(None) => return "not measured".into(),
        Err(error) => return format!("not measured: {error}"),
    };
    let cache = match inside.read_bytes {
        None => "the system does not tell what was read from a disk".into(),
        Some(0) => "all files were in the page cache".into(),
        Some(read) => format!("{} read from a disk", bytes(read)),
    };
    let parts = format!("opening {:.1}, first sample {:.3}", inside.open_ms, inside.first_sample_ms);
    format!("{process_ms:.1} ms in a new process ({parts}); {cache}")
}

impl Energy {
    fn text(&self) -> String {
        let Energy { sensor, watts, joules_per_run, .. } = self;
        format!("{joules_per_run:.4} J a run, {watts:.2} W ({sensor}, with all else that runs)")
    }
}

impl Point {
    fn row(&self) -> Row {
        let Point { threads, step_ms, speedup, efficiency, .. } = self;
        let text = format!(
            "step {:.3} ms, speed-up {speedup:.2}, efficiency {:.0} %",
            step_ms.p50,
            efficiency * 100.0
        );
        row(&[&count(*threads, "thread"), &text])
    }
}

impl Peer {
    /// Above this relative error, two runtimes do not compute the same.
    const TOLERANCE: f64 = 1e-3;

    fn rows(&self) -> Vec<Vec<String>> {
        let Peer { name, version, threads, ratio, .. } = self;
        let error = match self.max_relative_l2 {
            None => "none of its outputs is f32: nothing compared".into(),
            Some(error) if error <= Peer::TOLERANCE => format!("{error:.1e}"),
            Some(error) => format!("{error:.1e}  WARNING: the two do not compute the same"),
        };
        let mut rows = vec![
            row(&["against", &format!("{name} {version}, {}", count(*threads, "thread"))]),
            row(&["its step", &self.step_ms.text()]),
            row(&["ours, in turns", &self.own_step_ms.text()]),
            row(&["ratio", &format!("{ratio:.2} (its median over ours, {})", count(self.runs, "run"))]),
            row(&["relative error", &error]),
        ];
        rows.extend(self.note.map(|note| row(&["note", note])));
        rows
    }
}
