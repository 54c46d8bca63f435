//! The CPU time of another process.
#![expect(unsafe_code, reason = "no crate wraps the clock of another process")]

use std::{io, time::Duration};

/// The clock of the CPU time that a process has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuClock {
    clock: libc::clockid_t,
}

impl CpuClock {
    /// Returns the clock of the process `pid`.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
        let mut clock = 0;
        // SAFETY: the pointer is to a local variable that outlives the call.
        match unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } {
            0 => Ok(Self { clock }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Returns the CPU time of all threads. Returns zero for a process that has ended.
    pub(crate) fn read(self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a local variable that outlives the call.
        let result = unsafe { libc::clock_gettime(self.clock, &raw mut time) };
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
        if result == 0 { Duration::new(seconds, nanoseconds) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_of_this_process_advances_with_work() {
        let clock = CpuClock::of(std::process::id()).unwrap();
        let begin = clock.read();
        while clock.read() == begin {}
        assert!(clock.read() > begin);
    }
}
