//! Where data sets are: files, and objects of a store such as S3.
//!
//! A [`Location`] names a file or an object. [`StoredFile`] reads one, as a stream or by ranges.
//! [`PartialFile`] writes one, which has its name only when it is complete. The functions of
//! `folder` look into folders. The module `object` does the same for objects, on separate threads,
//! so that readers and writers stay synchronous.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

mod folder;
mod stored_file;
mod partial_file;
#[cfg(feature = "object_store")]
mod object;
mod stop;
mod location;

pub(crate) use folder::{OutputFolder, exists, file_names, is_same_file, lengths};
pub use location::Location;
pub(crate) use partial_file::PartialFile;
pub(crate) use stop::StopRequests;
pub(crate) use stored_file::{FileStream, StoredFile};
pub use stored_file::{open_stored, read_stored};
