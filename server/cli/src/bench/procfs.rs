//! What the kernel knows of a process: proc_pid_stat(5), proc_pid_status(5).

use std::fs;

use anyhow::Context;

/// Ticks of `/proc/<pid>/stat` in a second: `USER_HZ`, which Linux keeps at 100 for its users.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds that all threads of a process have run, in user mode and in the kernel.
pub(super) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    cpu_seconds_of(&stat).with_context(|| format!("{path} is malformed"))
}

/// Bytes of a process that are in memory.
pub(super) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    resident_bytes_of(&status).with_context(|| format!("{path} is malformed"))
}

/// The process's name is the second field, in brackets, and may hold spaces and brackets itself.
fn cpu_seconds_of(stat: &str) -> Option<f64> {
    const USER: usize = 14;
    const FIRST_BEHIND_NAME: usize = 3;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(USER - FIRST_BEHIND_NAME);
    let (user, system) = (
        fields.next()?.parse::<u64>().ok()?,
        fields.next()?.parse::<u64>().ok()?,
    );
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn resident_bytes_of(status: &str) -> Option<u64> {
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_behind_an_awkward_name() {
        let stat =
            "42 (mill) stream) S 1 42 42 0 -1 4194560 999 0 0 0 150 25 7 7 20 0 9 0 1234 5678 90";
        assert_eq!(cpu_seconds_of(stat), Some(1.75));
        assert_eq!(cpu_seconds_of("42 (millstream) S 1"), None);
    }

    #[test]
    fn resident_memory_is_in_kibibytes() {
        assert_eq!(
            resident_bytes_of("Name:\tx\nVmPeak:\t 9 kB\nVmRSS:\t    2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(resident_bytes_of("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_both() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 0 && cpu_seconds(pid).unwrap() >= 0.0);
    }
}
