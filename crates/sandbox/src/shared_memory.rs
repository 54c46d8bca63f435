//! Memory that the server and a worker process both map.
#![expect(unsafe_code, reason = "another process writes to the memory, so it is copied by pointer")]

use std::{fs::File, io, os::fd::OwnedFd, slice};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, memfd_create};

/// Pages up to here stay allocated between calls.
const RETAINED_BYTES: usize = 2 << 20;

/// The output begins at a multiple of this number of bytes, a cache line.
const ALIGNMENT: usize = 64;

/// Shared memory: the input from the start on, and the output behind it.
///
/// The memory is as large as its limit from the start. Only pages that were written to occupy
/// memory.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    file: File,
    map: MmapRaw,
}

impl SharedMemory {
    /// Creates shared memory of `bytes` bytes. No process can make it smaller.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let file = memfd_create("blip-serve-images", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let file = File::from(file);
        file.set_len(bytes as u64)?;
        // Access beyond the end of a file is a fatal signal. The seal prevents it.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(file)
    }

    /// Maps the memory behind the descriptor `file`, in the worker process.
    pub(crate) fn map(file: File) -> io::Result<Self> {
        let map = MmapOptions::new().map_raw(&file)?;
        Ok(Self { file, map })
    }

    /// Returns another descriptor of the memory, for the worker process.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Returns the size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Copies `input` to the start of the memory. Returns false if it does not fit.
    pub(crate) fn write_input(&self, input: &[u8]) -> bool {
        if input.len() > self.len() {
            return false;
        }
        // SAFETY: the map has at least `input.len()` bytes and does not overlap with `input`. A
        // raw pointer may point to memory that another process reads.
        unsafe { self.map.as_mut_ptr().copy_from_nonoverlapping(input.as_ptr(), input.len()) };
        true
    }

    /// Returns a copy of the output behind an input of `input` bytes. Returns `None` if it would
    /// end behind the memory.
    pub(crate) fn read_output(&self, input: usize, bytes: usize) -> Option<Vec<u8>> {
        let begin = output_begin(input);
        if begin.checked_add(bytes)? > self.len() {
            return None;
        }
        let mut output: Vec<u8> = Vec::with_capacity(bytes);
        // SAFETY: the range is inside the map by the check above. The vector has the capacity, and
        // all its bytes are initialized before its length is set. The bytes are copied by pointer,
        // so a worker that writes meanwhile changes values only.
        unsafe {
            output.as_mut_ptr().copy_from_nonoverlapping(self.map.as_ptr().add(begin), bytes);
            output.set_len(bytes);
        }
        Some(output)
    }

    /// Returns an input of `input` bytes, and the memory of its output, in the worker process.
    /// Returns `None` if the input would end behind the memory.
    pub(crate) fn split(&mut self, input: usize) -> Option<(&[u8], &mut [u8])> {
        let begin = output_begin(input);
        let capacity = self.len().checked_sub(begin)?;
        // SAFETY: both ranges are inside the map and do not overlap. `&mut self` excludes other
        // slices of this process. The server does not access the memory before it receives the
        // response.
        unsafe {
            let output = slice::from_raw_parts_mut(self.map.as_mut_ptr().add(begin), capacity);
            Some((slice::from_raw_parts(self.map.as_ptr(), input), output))
        }
    }

    /// Returns most pages of a call that touched `bytes` bytes to the system.
    pub(crate) fn trim(&self, bytes: usize) {
        if bytes > RETAINED_BYTES {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let (begin, len) = (RETAINED_BYTES as u64, (self.len() - RETAINED_BYTES) as u64);
            // If it fails, the pages stay allocated until a later call.
            let _ = fallocate(&self.file, flags, begin, len);
        }
    }
}

/// Returns where the output of an input of `input` bytes begins.
pub(crate) const fn output_begin(input: usize) -> usize {
    input.saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_behind_the_input_in_both_mappings() {
        let memory = SharedMemory::new(4096).unwrap();
        let mut worker = SharedMemory::map(memory.descriptor().unwrap().into()).unwrap();
        assert!(memory.write_input(b"input"));
        let (input, output) = worker.split(5).unwrap();
        assert_eq!((input, output.len()), (&b"input"[..], 4096 - 64));
        output[..6].copy_from_slice(b"output");
        assert_eq!(memory.read_output(5, 6).as_deref(), Some(&b"output"[..]));
    }

    #[test]
    fn lengths_beyond_the_memory_are_refused() {
        let mut memory = SharedMemory::new(4096).unwrap();
        assert!(!memory.write_input(&[0; 4097]));
        assert_eq!(memory.read_output(5, 4096), None);
        assert_eq!(memory.read_output(usize::MAX, 1), None);
        assert!(memory.split(4097).is_none() && memory.split(usize::MAX).is_none());
        assert!(memory.file.set_len(1).is_err());
    }

    #[test]
    fn trimmed_memory_keeps_its_size() {
        let memory = SharedMemory::new(2 * RETAINED_BYTES).unwrap();
        memory.write_input(&[7; 2 * RETAINED_BYTES]);
        memory.trim(2 * RETAINED_BYTES);
        assert_eq!(memory.read_output(0, 2 * RETAINED_BYTES).unwrap()[RETAINED_BYTES..], [0; RETAINED_BYTES]);
    }
}
