//! GPU memory, read every few seconds.

use std::time::Duration;

use cuda::{DeviceMemory, read_device_memory};
use metrics::{counter, gauge};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::{
    Vitals,
    table::{DEVICE_MEMORY, DEVICE_MEMORY_PEAK, DEVICE_MEMORY_RETRIES},
};

const PERIOD: Duration = Duration::from_secs(5);

/// Records it from the model's loading on, for as long as the server runs; ends where no GPU is in use.
///
/// On a thread of its own that may wait, and never on two: LibTorch holds its allocator's lock while it asks the driver, and the
/// driver of a hung device does not answer. A scrape must answer all the same.
pub(super) async fn watch(mut vitals: watch::Receiver<Vitals>) {
    if vitals.wait_for(|vitals| vitals.started).await.is_err() {
        return;
    }
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match spawn_blocking(read_device_memory).await {
            Ok(devices) if !devices.is_empty() => devices.iter().for_each(record),
            _ => return,
        }
    }
}

fn record(memory: &DeviceMemory) {
    let device = memory.device.to_string();
    for (held, now, peak) in [
        ("allocated", memory.allocated_bytes, memory.allocated_peak_bytes),
        ("reserved", memory.reserved_bytes, memory.reserved_peak_bytes),
    ] {
        gauge!(DEVICE_MEMORY, "device" => device.clone(), "held" => held).set(now as f64);
        gauge!(DEVICE_MEMORY_PEAK, "device" => device.clone(), "held" => held).set(peak as f64);
    }
    counter!(DEVICE_MEMORY_RETRIES, "device" => device).absolute(memory.retries);
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn each_device_has_what_is_held_now_and_at_most_and_its_retries() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let memory = DeviceMemory {
            device: 1,
            allocated_bytes: 100,
            allocated_peak_bytes: 300,
            reserved_bytes: 2000,
            reserved_peak_bytes: 4000,
            retries: 7,
        };
        metrics::with_local_recorder(&recorder, || record(&memory));
        let text = recorder.handle().render();
        for line in [
            "blip_device_memory_bytes{device=\"1\",held=\"allocated\"} 100",
            "blip_device_memory_bytes{device=\"1\",held=\"reserved\"} 2000",
            "blip_device_memory_peak_bytes{device=\"1\",held=\"allocated\"} 300",
            "blip_device_memory_peak_bytes{device=\"1\",held=\"reserved\"} 4000",
            "blip_device_memory_retries_total{device=\"1\"} 7",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_gpu_is_in_use_the_first_look_is_the_last() {
        let (vitals, watched) = watch::channel(Vitals::default());
        let watching = tokio::spawn(watch(watched));
        vitals.send_replace(Vitals { started: true, serving: true });
        watching.await.unwrap();
    }
}
