//! Which machine this is, as far as figures depend on it.

use std::process::Command;

use serde::Serialize;

/// What a reader needs to place the figures.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The processor, as the kernel calls it.
    pub cpu: String,
    /// How many threads may run at once.
    pub cores: usize,
    /// The memory of the machine in GiB.
    pub memory_gib: u64,
    /// Its operating system.
    pub kernel: String,
    /// The compiler in use.
    pub rustc: String,
    /// How many processes wanted to run in the minute before: one's own contenders need a quiet machine.
    pub load: String,
    /// The day, in UTC.
    pub date: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Machine {
        let field = |file: &str, key: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
        };
        let kib = field("/proc/meminfo", "MemTotal")
            .and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Machine {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib.unwrap_or(0).div_ceil(1 << 20),
            kernel: said("uname", &["-sr"]),
            rustc: said("rustc", &["--version"]),
            load: load.split(' ').next().unwrap_or("unknown").to_owned(),
            date: said("date", &["-u", "+%Y-%m-%d"]),
        }
    }
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "unknown".to_owned())
}
