//! What a worker process gives up before it reads the first input.

mod landlock;
mod seccomp;
mod resources;
mod descriptors;

pub(crate) use descriptors::take_descriptors;

/// The degree to which a worker process is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// The kernel denies all system calls but a short list (seccomp).
    pub system_calls: bool,
    /// The kernel denies the file system and the network a second time (Landlock).
    pub file_system: bool,
}

impl Confinement {
    /// Limits this process to `max_memory_bytes` more than now, and confines it.
    pub(crate) fn enter(max_memory_bytes: u64) -> std::io::Result<Self> {
        resources::limit(max_memory_bytes)?;
        // The filter of system calls also denies those of Landlock, so it comes last.
        let file_system = landlock::deny_all();
        Ok(Self { file_system, system_calls: seccomp::allow_few() })
    }

    /// Returns whether the kernel confines the process by all means.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.system_calls && self.file_system
    }

    pub(crate) const fn to_number(self) -> u64 {
        self.system_calls as u64 | (self.file_system as u64) << 1
    }

    pub(crate) const fn from_number(number: u64) -> Self {
        Self { system_calls: number & 1 != 0, file_system: number & 2 != 0 }
    }
}
