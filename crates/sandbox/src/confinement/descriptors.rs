//! The descriptors that a worker process starts with.
#![expect(unsafe_code, reason = "no crate wraps close_range")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::OwnedFd,
};

use rustix::{
    io::fcntl_dupfd_cloexec,
    stdio::{dup2_stdin, dup2_stdout, stdin, stdout},
};

const FIRST_AFTER_STANDARD_STREAMS: i32 = 3;

/// Returns the socket and the shared memory, which this process has as its standard input and
/// output. Both streams become empty, and all other descriptors but standard error are closed.
pub(crate) fn take_descriptors() -> io::Result<(OwnedFd, File)> {
    close_from(FIRST_AFTER_STANDARD_STREAMS)?;
    let socket = fcntl_dupfd_cloexec(stdin(), FIRST_AFTER_STANDARD_STREAMS)?;
    let memory = fcntl_dupfd_cloexec(stdout(), FIRST_AFTER_STANDARD_STREAMS)?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok((socket, memory.into()))
}

/// Closes all descriptors from `first` on that the process has inherited.
fn close_from(first: i32) -> io::Result<()> {
    // SAFETY: the function is called at the start of the program, before it opens any descriptor.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    match result {
        0 => Ok(()),
        // Linux before 5.9 does not have the call. The server opens all its files such that they
        // are not inherited, so the call is a second precaution.
        _ if io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
