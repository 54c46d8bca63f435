//! The library of the fuzz targets: their functions, and the limit on what an input may cost.

pub mod entries;
pub mod limits;
