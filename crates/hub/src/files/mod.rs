//! The cache on disk and the choice of the files that a checkpoint needs.

pub(crate) mod partial_blob;
pub(crate) mod file_lock;
pub(crate) mod cached_repository;
pub(crate) mod checkpoint_files;
pub(crate) mod remote_file;
pub(crate) mod checksum;
pub(crate) mod disk;
