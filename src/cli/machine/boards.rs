//! Machines as Linux shows them, cut down to what is read, for tests.

use super::tree::Tree;
use std::fs;
use tempfile::TempDir;

pub struct Board(TempDir);

impl Board {
    /// Of paths and contents.
    pub fn new(files: &[(&str, &str)]) -> Board {
        let board = Board(tempfile::tempdir().expect("a folder"));
        files.iter().for_each(|(path, text)| board.write(path, text));
        board
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    pub fn tree(&self) -> Tree {
        Tree::below(self.0.path())
    }

    /// The files of a CPU, below its folder.
    fn cpu(&self, cpu: usize, files: &[(&str, &str)]) {
        files
            .iter()
            .for_each(|(path, text)| self.write(&format!("sys/devices/system/cpu/cpu{cpu}/{path}"), text));
    }
}

pub fn raspberry_pi_5() -> Board {
    let board = Board::new(&[
        ("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0"),
        ("proc/sys/kernel/osrelease", "6.6.31+rpt-rpi-2712\n"),
        ("proc/meminfo", "MemTotal:        8257280 kB\nMemFree:         7000000 kB\n"),
        (
            "proc/cpuinfo",
            "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n\
             CPU implementer\t: 0x41\n",
        ),
        ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
        ("sys/class/thermal/thermal_zone0/temp", "51250\n"),
        // The fan's monitor has no power.
        ("sys/class/hwmon/hwmon2/name", "pwmfan\n"),
        ("sys/class/hwmon/hwmon2/pwm1", "75\n"),
    ]);
    for cpu in 0..4 {
        board.cpu(
            cpu,
            &[
                ("cpu_capacity", "1024\n"),
                ("regs/identification/midr_el1", "0x00000000414fd0b1\n"),
                ("cpufreq/scaling_governor", "ondemand\n"),
                ("cpufreq/scaling_cur_freq", "1500000\n"),
                ("cpufreq/scaling_max_freq", "2400000\n"),
                ("cpufreq/cpuinfo_max_freq", "2400000\n"),
            ],
        );
        let own = cpu.to_string();
        board.cpu(
            cpu,
            &[("cache/index0/level", "1"), ("cache/index0/type", "Data"), ("cache/index0/size", "64K")],
        );
        board.cpu(cpu, &[("cache/index0/shared_cpu_list", &own), ("cache/index3/shared_cpu_list", "0-3")]);
        board.cpu(
            cpu,
            &[("cache/index3/level", "3"), ("cache/index3/type", "Unified"), ("cache/index3/size", "2048K")],
        );
    }
    board
}

/// Three kinds of cores, and sensors of which one is off.
pub fn phone() -> Board {
    let board = Board::new(&[
        ("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd fphp asimdhp asimddp sve2 i8mm bf16\n"),
        ("sys/class/thermal/thermal_zone0/type", "battery"),
        ("sys/class/thermal/thermal_zone0/temp", "55000"),
        ("sys/class/thermal/thermal_zone1/type", "modem"),
        ("sys/class/thermal/thermal_zone1/temp", "-273000"),
        ("sys/class/thermal/thermal_zone2/type", "cpu-0-0"),
        ("sys/class/thermal/thermal_zone2/temp", "41200"),
        ("sys/class/thermal/thermal_zone10/type", "cpu-1-0"),
        ("sys/class/thermal/thermal_zone10/temp", "48700"),
    ]);
    let kinds = [
        (0..4, "0x00000000411fd801", "250"),
        (4..7, "0x00000000411fd811", "800"),
        (7..8, "0x00000000411fd821", "1024"),
    ];
    for (cpus, midr, capacity) in kinds {
        cpus.for_each(|cpu| {
            board.cpu(cpu, &[("regs/identification/midr_el1", midr), ("cpu_capacity", capacity)])
        });
    }
    board
}

/// Its power monitor has the board's supply and two rails behind it. Registers are not shown.
pub fn jetson_orin() -> Board {
    let cpuinfo: Vec<String> = (0..6)
        .map(|cpu| format!("processor\t: {cpu}\nFeatures\t: fp asimd fphp asimdhp asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n"))
        .collect();
    let board = Board::new(&[
        ("proc/device-tree/model", "NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0"),
        ("proc/cpuinfo", &cpuinfo.join("\n")),
        ("sys/class/hwmon/hwmon1/name", "ina3221"),
    ]);
    for (index, label, millivolts, milliamperes) in
        [(1, "VDD_IN", "5000", "2000"), (2, "VDD_CPU_GPU_CV", "5000", "800"), (3, "VDD_SOC", "5000", "400")]
    {
        let file = |kind: &str| format!("sys/class/hwmon/hwmon1/{kind}");
        board.write(&file(&format!("in{index}_label")), label);
        board.write(&file(&format!("in{index}_input")), millivolts);
        board.write(&file(&format!("curr{index}_input")), milliamperes);
    }
    (0..6).for_each(|cpu| board.cpu(cpu, &[("cpufreq/cpuinfo_max_freq", "1984000")]));
    board
}

/// Two packages, monitors in place of zones, two cores that are clocked higher.
pub fn server() -> Board {
    let board = Board::new(&[
        ("sys/class/dmi/id/sys_vendor", "Dell Inc.\n"),
        ("sys/class/dmi/id/product_name", "PowerEdge R650\n"),
        (
            "proc/cpuinfo",
            "processor\t: 0\nflags\t\t: fpu sse2 fma avx f16c avx2 avx512f avx512_fp16\n\nprocessor\t: 1\nflags\t\t: fpu\n",
        ),
        ("sys/class/hwmon/hwmon0/name", "nvme"),
        ("sys/class/hwmon/hwmon0/temp1_input", "70000"),
        ("sys/class/hwmon/hwmon1/name", "coretemp"),
        ("sys/class/hwmon/hwmon1/temp1_label", "Package id 0"),
        ("sys/class/hwmon/hwmon1/temp1_input", "61000"),
        ("sys/class/powercap/intel-rapl:0/name", "package-0"),
        ("sys/class/powercap/intel-rapl:0/energy_uj", "1000000"),
        ("sys/class/powercap/intel-rapl:0:0/name", "dram"),
        ("sys/class/powercap/intel-rapl:0:0/energy_uj", "1"),
        ("sys/class/powercap/intel-rapl:1/name", "package-1"),
        ("sys/class/powercap/intel-rapl:1/energy_uj", "9000000"),
        ("sys/class/powercap/intel-rapl:1/max_energy_range_uj", "10000000"),
    ]);
    for cpu in 0..12 {
        let khz = if cpu < 2 { "3800000" } else { "3600000" };
        board.cpu(cpu, &[("cpufreq/cpuinfo_max_freq", khz)]);
    }
    board
}
