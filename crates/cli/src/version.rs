//! The version of the program.

/// Version and commit of this build.
pub(crate) const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("BLIP_SERVE_COMMIT"), ")");
