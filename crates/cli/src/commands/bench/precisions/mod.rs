//! `blip-serve bench --precisions`: what each number format of a model gains and changes here.
//!
//! Each format is measured by a separate process, so that memory is that of one model. The process
//! runs the same command with the hidden option `--precision`, and prints its measurement as JSON.

mod comparison;
mod measurement;
mod precision;

use std::{ffi::OsString, num::NonZeroUsize, process::Stdio};

use anyhow::Context as _;
use blip_server::{
    config::{Settings, SettingsError},
    serve::exit::Exit,
};
use clap::Args;
use load_generator::Workload;

use self::{comparison::Comparison, measurement::Measurement, precision::Precision};
use crate::{
    local::{EngineArgs, run_with_engine},
    messages::announce,
    output::print,
};

/// The model that is measured if no option names one.
const DEFAULT_MODEL: &str = "demo";

/// Default number of requests whose answers are compared.
const COMPARED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);

/// Settings of every measurement. An answer from the cache of answers would take no time.
const OVERRIDES: [(&str, &str); 1] = [("model.answer_cache_bytes", "0")];

/// Whether number formats are compared, and the model.
#[derive(Args, Debug)]
#[command(next_help_heading = "Number formats")]
pub(crate) struct PrecisionArgs {
    /// Compare the number formats of a model on this machine, without a server
    ///
    /// Loads the model in each format, and prints speed, memory, the number of answers that differ
    /// from those in f32, and the options of serve. The images and questions are those of the load
    /// test.
    #[arg(long, conflicts_with_all = [
        "protocol", "rate", "seconds", "warm_up_s", "reuse", "pool", "skew", "timeout_s", "max_in_flight",
        "connections", "name", "plot", "compare",
    ])]
    pub(crate) precisions: bool,

    /// Source of the model that --precisions loads [default: demo]
    ///
    /// As serve --model: demo, a folder, a .pth file, or a name on the Hugging Face hub.
    #[arg(short, long, value_name = "SOURCE", requires = "precisions")]
    model: Option<String>,

    /// Number of requests whose answers --precisions compares [default: 32]
    #[arg(long, value_name = "N", requires = "precisions")]
    compared_requests: Option<NonZeroUsize>,

    /// Prints the measurement of one format, see the module.
    #[arg(long, value_enum, hide = true, requires = "precisions")]
    precision: Option<Precision>,

    #[command(flatten)]
    engine: EngineArgs,
}

impl PrecisionArgs {
    /// Checks that the options fit together.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let conflict = |message: String| Err(SettingsError::Conflict(message));
        match self.engine.first_option() {
            Some(option) if !self.precisions => {
                conflict(format!("--{option} is an option of --precisions: add it, or omit --{option}"))
            }
            _ if !self.precisions => Ok(()),
            _ => match Precision::settings().find(|key| self.engine.has_flag(key)) {
                Some(key) => conflict(format!("--precisions chooses {key}: omit the option")),
                None => Ok(()),
            },
        }
    }

    /// Measures all formats, or prints the measurement of `--precision`.
    pub(crate) async fn run(
        &self,
        workload: Workload,
        in_flight: usize,
        variables: &[String],
    ) -> anyhow::Result<Option<Comparison>> {
        if let Some(precision) = self.precision {
            let settings = self.settings(precision, variables)?;
            let compared = self.compared_requests.unwrap_or(COMPARED);
            let mut measurement = None;
            run_with_engine(&settings, None, async |channel| {
                measurement = Some(Measurement::take(channel, workload, compared, in_flight).await?);
                Ok(Exit::Clean)
            })
            .await?;
            let measurement = measurement.context("the engine failed")?;
            print(&(serde_json::to_string(&measurement)? + "\n"))?;
            return Ok(None);
        }
        let settings = self.settings(Precision::F32, variables)?;
        let mut comparison = Comparison::default();
        let device = blip::open_device(settings.model.device)?.device;
        for &precision in Precision::of_device(device.is_cuda()) {
            announce(&format!("measuring {precision}"));
            comparison.add(precision, measure_in_process(precision).await);
        }
        Ok(Some(comparison))
    }

    /// Returns the settings of an engine in `precision`.
    fn settings(&self, precision: Precision, variables: &[String]) -> Result<Settings, SettingsError> {
        let overrides = [precision.values().as_slice(), &OVERRIDES].concat();
        self.engine.settings(self.model.as_deref(), DEFAULT_MODEL, &overrides, variables)
    }
}

/// Runs this command for one format. The error is the message of the process.
async fn measure_in_process(precision: Precision) -> anyhow::Result<Measurement> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let arguments = std::env::args_os().skip(1);
    let option = [OsString::from("--precision"), precision.name().into()];
    let process = tokio::process::Command::new(program)
        .args(arguments.chain(option))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let done = process.context("cannot start a process")?.wait_with_output().await?;
    if done.status.success() {
        return serde_json::from_slice(&done.stdout).context("invalid output of a process");
    }
    let messages = String::from_utf8_lossy(&done.stderr);
    let message = messages.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let message = message.strip_prefix("blip-serve: ").unwrap_or(message).to_owned();
    Err(anyhow::anyhow!(if message.is_empty() { done.status.to_string() } else { message }))
}
