//! The machine and the disk that the figures come from.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::output::bytes;

/// File systems that keep nothing on a disk: a sync costs nothing there.
const MEMORY_FILE_SYSTEMS: [&str; 2] = ["tmpfs", "ramfs"];

/// Where a run was made. What the system does not tell is `unknown` or 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Machine {
    /// The processor's name.
    pub(super) cpu: String,
    /// Processors that the program may use.
    pub(super) cores: usize,
    /// Memory, bytes.
    pub(super) memory_bytes: u64,
    /// The kernel's name and release.
    pub(super) kernel: String,
    /// What the data lies on.
    pub(super) disk: Disk,
    /// The program's version.
    pub(super) version: &'static str,
    /// How the program was built.
    pub(super) build: Build,
}

/// What the data lies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Disk {
    /// The device.
    pub(super) device: String,
    /// The file system.
    pub(super) file_system: String,
    /// Whether the device says that it has moving parts.
    pub(super) rotational: Option<bool>,
    /// Bytes free at the start.
    pub(super) free_bytes: u64,
}

/// How the program was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Build {
    /// Optimised.
    Release,
    /// Not: its figures say little.
    Debug,
}

impl Machine {
    /// This machine, with the disk that `data_dir` lies on.
    pub(super) fn look(data_dir: &Path) -> anyhow::Result<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Ok(Self {
            cpu: cpu(&read("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
            memory_bytes: memory_bytes(&read("/proc/meminfo")),
            kernel: known(format!(
                "{} {}",
                std::env::consts::OS,
                read("/proc/sys/kernel/osrelease").trim()
            )),
            disk: Disk::look(data_dir)?,
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) {
                Build::Debug
            } else {
                Build::Release
            },
        })
    }

    /// What makes the figures worth less, if anything does.
    pub(super) fn reservations(&self) -> impl Iterator<Item = String> {
        let debug = (self.build == Build::Debug)
            .then(|| "this is a debug build: its figures say little".to_owned());
        let memory = MEMORY_FILE_SYSTEMS
            .contains(&self.disk.file_system.as_str())
            .then(|| {
                format!(
                    "the data lies on {}: syncs cost nothing there; see --data-dir",
                    self.disk.file_system
                )
            });
        debug.into_iter().chain(memory)
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            cpu: "Example 9000".to_owned(),
            cores: 8,
            memory_bytes: 32 << 30,
            kernel: "linux 6.12.1".to_owned(),
            disk: Disk {
                device: "/dev/nvme0n1p2".to_owned(),
                file_system: "ext4".to_owned(),
                rotational: Some(false),
                free_bytes: 100 << 30,
            },
            version: "0.1.0",
            build: Build::Release,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores, {}; {}; {} on {}; millstream {}",
            self.cpu,
            self.cores,
            bytes(self.memory_bytes),
            self.kernel,
            self.disk.file_system,
            self.disk.device,
            self.version
        )
    }
}

impl Disk {
    fn look(data_dir: &Path) -> anyhow::Result<Self> {
        let directory = data_dir
            .canonicalize()
            .with_context(|| format!("cannot find {}", data_dir.display()))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = Mount::of(&mounts, &directory);
        Ok(Self {
            device: known(
                mount
                    .as_ref()
                    .map(|mount| mount.device.to_owned())
                    .unwrap_or_default(),
            ),
            file_system: known(
                mount
                    .as_ref()
                    .map(|mount| mount.file_system.to_owned())
                    .unwrap_or_default(),
            ),
            rotational: mount.as_ref().and_then(|mount| rotational(mount.numbers)),
            free_bytes: free_bytes(&directory)?,
        })
    }
}

/// Bytes that this user may still write to the file system of `directory`.
pub(super) fn free_bytes(directory: &Path) -> anyhow::Result<u64> {
    let facts = rustix::fs::statvfs(directory)
        .with_context(|| format!("cannot ask for the free space of {}", directory.display()))?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

fn known(text: String) -> String {
    let text = text.trim();
    if text.is_empty() {
        "unknown".to_owned()
    } else {
        text.to_owned()
    }
}

/// `model name` on x86, `Model` on some others.
fn cpu(cpuinfo: &str) -> String {
    let named = |wanted: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find_map(|(name, value)| {
            name.trim()
                .eq_ignore_ascii_case(wanted)
                .then(|| value.trim().to_owned())
        })
    };
    known(
        named("model name")
            .or_else(|| named("model"))
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
    )
}

fn memory_bytes(meminfo: &str) -> u64 {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|total| total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// One line of `/proc/self/mountinfo`, as proc_pid_mountinfo(5) describes it.
struct Mount<'a> {
    numbers: &'a str,
    point: &'a str,
    file_system: &'a str,
    device: &'a str,
}

impl<'a> Mount<'a> {
    /// The mount that `directory` lies on: the deepest of those above it, the last where several
    /// were mounted over each other.
    fn of(mountinfo: &'a str, directory: &Path) -> Option<Self> {
        let above = |mount: &Self| directory.starts_with(mount.point);
        mountinfo
            .lines()
            .filter_map(Self::parse)
            .filter(above)
            .max_by_key(|mount| mount.point.len())
    }

    fn parse(line: &'a str) -> Option<Self> {
        let (place, source) = line.split_once(" - ")?;
        let mut place = place.split(' ');
        let (numbers, point) = (place.nth(2)?, place.nth(1)?);
        let mut source = source.split(' ');
        Some(Self {
            numbers,
            point,
            file_system: source.next()?,
            device: source.next()?,
        })
    }
}

/// What the block device, or the one that it is a partition of, says of itself.
fn rotational(numbers: &str) -> Option<bool> {
    let device = Path::new("/sys/dev/block").join(numbers);
    let said = ["queue/rotational", "../queue/rotational"]
        .iter()
        .find_map(|path| fs::read_to_string(device.join(path)).ok())?;
    Some(said.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_by_their_name() {
        assert_eq!(
            cpu("processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n"),
            "AMD EPYC"
        );
        assert_eq!(
            cpu("processor\t: 0\nModel\t\t: Raspberry Pi 5\n"),
            "Raspberry Pi 5"
        );
        assert_eq!(cpu(""), std::env::consts::ARCH);
    }

    #[test]
    fn memory_is_in_kibibytes() {
        assert_eq!(
            memory_bytes("MemTotal:       24626748 kB\nMemFree: 1 kB\n"),
            24_626_748 * 1024
        );
        assert_eq!(memory_bytes("nothing of the kind"), 0);
    }

    #[test]
    fn the_deepest_mount_is_taken() {
        let mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      30 22 0:26 / /dev/shm rw - tmpfs tmpfs rw\n\
                      31 22 259:2 / /data rw,noatime - xfs /dev/nvme0n1p2 rw\n";
        let of = |directory: &str| {
            Mount::of(mounts, Path::new(directory)).map(|mount| (mount.file_system, mount.numbers))
        };
        assert_eq!(of("/data/millstream"), Some(("xfs", "259:2")));
        assert_eq!(of("/database"), Some(("ext4", "254:0")));
        assert_eq!(of("/dev/shm"), Some(("tmpfs", "0:26")));
    }

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::look(Path::new(".")).unwrap();
        assert!(
            machine.cores >= 1 && machine.disk.free_bytes > 0,
            "{machine:?}"
        );
        let debug = machine
            .reservations()
            .any(|text| text.contains("debug build"));
        assert_eq!(debug, cfg!(debug_assertions));
    }
}
