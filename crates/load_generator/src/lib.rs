//! Sends questions about images to a server as a defined load, and measures the results.
//!
//! The crate knows no protocol. A client of a server implements [`Target`].
//!
//! A load test passes through these modules: a [`Workload`] generates the requests, an
//! [`ArrivalProcess`] says when they are due, [`run_closed_loop`] or [`run_open_loop`] sends them
//! to the [`Target`], and a [`Report`] summarises the [`Recording`].
//!
//! Latency is measured from the time at which a request was *due*, not from the time at which it
//! was sent. Otherwise a client that a slow server blocks would leave out exactly the longest
//! waits, which is known as coordinated omission.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

mod compare;
mod plot;
mod report;
mod run;
mod arrivals;
mod image_folder;
mod synthetic_images;
mod target;
mod workload;

pub use arrivals::{ArrivalProcess, arrival_stream, poisson_arrivals};
pub use compare::compare_reports;
pub use image_folder::{ImageFolderError, read_image_folder};
pub use plot::{PlotError, plot_reports};
pub use report::{Latency, Report};
pub use run::{LoadPlan, NOT_SENT, Recording, Sample, run_closed_loop, run_open_loop};
pub use synthetic_images::{ImageEncodingError, draw_images};
pub use target::{LoadResult, Target};
pub use workload::{LoadRequest, Workload, WorkloadConfig, WorkloadError};
