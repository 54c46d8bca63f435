//! Limits the resources of this process, and ends it with the server.

use std::{fs, io};

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior, set_parent_process_death_signal,
    setrlimit,
};

/// How much earlier than others the kernel ends this process when memory is short, of 1000.
const OUT_OF_MEMORY_SCORE: &str = "500";

/// Sets all limits. The process may have `max_memory_bytes` of data more than now.
pub(super) fn limit(max_memory_bytes: u64) -> io::Result<()> {
    // If it fails, the kernel chooses as usual.
    let _ = fs::write("/proc/self/oom_score_adj", OUT_OF_MEMORY_SCORE);
    let max_data_bytes = data_bytes()?.saturating_add(max_memory_bytes);
    // If the server has ended before this call, the socket is closed, which ends this process, too.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The process cannot be traced, and writes no core file.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_limit(Resource::Core, 0)?;
    set_limit(Resource::Fsize, 0)?;
    set_limit(Resource::Data, max_data_bytes)
}

fn set_limit(resource: Resource, limit: u64) -> io::Result<()> {
    setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    Ok(())
}

/// Returns the memory of this process that counts towards the limit: what it can write to and
/// shares with no other process.
fn data_bytes() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmData:")?.trim().strip_suffix(" kB"));
    let kilobytes: u64 =
        kilobytes.and_then(|number| number.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_this_process_has_a_size() {
        assert!(data_bytes().unwrap() > 0);
    }
}
