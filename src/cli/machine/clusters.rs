//! The kinds of cores of a CPU: one on most, two to four on big.LITTLE and hybrid ones.
#![forbid(unsafe_code)]

use super::cores;
use super::tree::Tree;
use serde::Serialize;

/// Cores that are equal. What the system does not tell is `null`.
#[derive(Debug, Serialize)]
pub struct Cluster {
    /// As Linux writes lists: `0-3`.
    pub cpus: String,
    pub cores: usize,
    /// `Cortex-A76`, by what an ARM core says of itself.
    pub core: Option<String>,
    /// Relative to the strongest core's 1024.
    pub capacity: Option<u32>,
    pub governor: Option<String>,
    /// The fastest core's clock now.
    pub mhz: Option<f64>,
    /// What the governor is allowed, and what the hardware can do.
    pub limit_mhz: Option<f64>,
    pub max_mhz: Option<f64>,
    /// Of the first core.
    pub caches: Vec<Cache>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Cache {
    pub level: u32,
    /// `data`, `instruction` or `unified`.
    pub kind: String,
    pub bytes: u64,
    /// The CPUs that share it.
    pub cpus: String,
}

const CPUS: &str = "sys/devices/system/cpu";

impl Cluster {
    pub fn all(tree: &Tree) -> Vec<Cluster> {
        let mut clusters: Vec<(Kind, Vec<usize>)> = Vec::new();
        for (cpu, path) in tree.numbered(CPUS, "cpu") {
            let kind = Kind::of(tree, cpu, &path);
            match clusters.iter_mut().find(|(own, _)| *own == kind) {
                Some((_, cpus)) => cpus.push(cpu),
                None => clusters.push((kind, vec![cpu])),
            }
        }
        clusters.into_iter().map(|(kind, cpus)| Cluster::of(tree, kind, &cpus)).collect()
    }

    fn of(tree: &Tree, kind: Kind, cpus: &[usize]) -> Cluster {
        let first = format!("{CPUS}/cpu{}", cpus[0]);
        let clock = |name: &str| Some(tree.number::<f64>(&format!("{first}/cpufreq/{name}"))? / 1e3);
        Cluster {
            cpus: list(cpus),
            cores: cpus.len(),
            core: kind.core,
            capacity: kind.capacity,
            governor: tree.text(&format!("{first}/cpufreq/scaling_governor")),
            mhz: fastest_mhz(tree, cpus),
            limit_mhz: clock("scaling_max_freq"),
            max_mhz: clock("cpuinfo_max_freq"),
            caches: caches(tree, &first),
        }
    }
}

/// The clock of the fastest of all cores now.
pub fn clock_mhz(tree: &Tree) -> Option<f64> {
    let cpus: Vec<usize> = tree.numbered(CPUS, "cpu").into_iter().map(|(cpu, _)| cpu).collect();
    fastest_mhz(tree, &cpus)
}

fn fastest_mhz(tree: &Tree, cpus: &[usize]) -> Option<f64> {
    let clock = |cpu| tree.number::<f64>(&format!("{CPUS}/cpu{cpu}/cpufreq/scaling_cur_freq"));
    cpus.iter().filter_map(clock).reduce(f64::max).map(|kilohertz| kilohertz / 1e3)
}

/// What makes cores equal.
#[derive(PartialEq)]
struct Kind {
    core: Option<String>,
    capacity: Option<u32>,
    /// Only without a capacity: equal cores of a desktop's CPU may have clocks of their own.
    khz: Option<u64>,
}

impl Kind {
    fn of(tree: &Tree, cpu: usize, path: &str) -> Kind {
        let capacity = tree.number(&format!("{path}/cpu_capacity"));
        let clock = || tree.number(&format!("{path}/cpufreq/cpuinfo_max_freq"));
        let khz = if capacity.is_none() { clock() } else { None };
        Kind { core: cores::name(tree, cpu, path), capacity, khz }
    }
}

fn caches(tree: &Tree, cpu: &str) -> Vec<Cache> {
    let indices = tree.numbered(&format!("{cpu}/cache"), "index");
    let cache = |(_, path): (usize, String)| {
        let text = |name: &str| tree.text(&format!("{path}/{name}"));
        Some(Cache {
            level: text("level")?.parse().ok()?,
            kind: text("type")?.to_lowercase(),
            bytes: text("size")?.strip_suffix('K')?.parse::<u64>().ok()?.checked_mul(1024)?,
            cpus: text("shared_cpu_list")?,
        })
    };
    indices.into_iter().filter_map(cache).collect()
}

/// `0-3,6`, of numbers in order.
fn list(cpus: &[usize]) -> String {
    let mut ranges: Vec<[usize; 2]> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some(range) if range[1] + 1 == cpu => range[1] = cpu,
            _ => ranges.push([cpu, cpu]),
        }
    }
    let text = |[first, last]: &[usize; 2]| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::boards;
    use super::*;

    #[test]
    fn a_raspberry_pi_has_one_kind_of_core() {
        let board = boards::raspberry_pi_5();
        let [cluster] = &Cluster::all(&board.tree())[..] else { panic!("one cluster") };
        assert_eq!((cluster.cpus.as_str(), cluster.cores), ("0-3", 4));
        assert_eq!(cluster.core.as_deref(), Some("Cortex-A76"));
        assert_eq!(cluster.governor.as_deref(), Some("ondemand"));
        assert_eq!(
            [cluster.mhz, cluster.limit_mhz, cluster.max_mhz],
            [Some(1500.0), Some(2400.0), Some(2400.0)]
        );
        let data = Cache { level: 1, kind: "data".into(), bytes: 64 << 10, cpus: "0".into() };
        let shared = Cache { level: 3, kind: "unified".into(), bytes: 2 << 20, cpus: "0-3".into() };
        assert_eq!(cluster.caches, [data, shared]);
        assert_eq!(clock_mhz(&board.tree()), Some(1500.0));
    }

    #[test]
    fn a_phone_has_three() {
        let clusters = Cluster::all(&boards::phone().tree());
        let found: Vec<_> = clusters
            .iter()
            .map(|cluster| {
                (cluster.cpus.as_str(), cluster.core.as_deref().unwrap(), cluster.capacity.unwrap())
            })
            .collect();
        let expected = [("0-3", "Cortex-A520", 250), ("4-6", "Cortex-A720", 800), ("7", "Cortex-X4", 1024)];
        assert_eq!(found, expected);
    }

    #[test]
    fn cores_are_told_by_cpuinfo_where_their_registers_are_not_shown() {
        let [cluster] = &Cluster::all(&boards::jetson_orin().tree())[..] else { panic!("one cluster") };
        assert_eq!((cluster.cpus.as_str(), cluster.core.as_deref()), ("0-5", Some("Cortex-A78AE")));
    }

    #[test]
    fn clocks_tell_kinds_apart_where_there_are_no_capacities() {
        let clusters = Cluster::all(&boards::server().tree());
        let cpus: Vec<_> =
            clusters.iter().map(|cluster| (cluster.cpus.as_str(), cluster.core.as_deref())).collect();
        assert_eq!(cpus, [("0-1", None), ("2-11", None)]);
    }

    #[test]
    fn lists_are_as_linux_writes_them() {
        assert_eq!([list(&[0, 1, 2, 6]), list(&[4]), list(&[0, 2])], ["0-2,6", "4", "0,2"]);
    }
}
