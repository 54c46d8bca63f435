//! A picture of runs: latency by percentile, and what was answered in each second.

use std::path::Path;

use plotters::prelude::*;

use crate::Report;

const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 90, 180),
    RGBColor(200, 120, 0),
    RGBColor(140, 60, 150),
    RGBColor(0, 140, 90),
    RGBColor(180, 40, 40),
    RGBColor(120, 120, 120),
];

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw {path}: {cause}")]
pub struct PlotError {
    path: String,
    cause: String,
}

/// Draws `reports` as an SVG file.
///
/// # Errors
/// [`PlotError`] if the file cannot be written.
pub fn draw(reports: &[Report], path: &Path) -> Result<(), PlotError> {
    let latencies = reports.iter().map(|report| series(&report.percentiles_ms)).collect();
    let rates = reports
        .iter()
        .map(|report| {
            report
                .per_second
                .iter()
                .zip(0..)
                .map(|(count, second)| (f64::from(second), *count as f64))
                .collect()
        })
        .collect();
    let names: Vec<&str> = reports.iter().map(|report| report.name.as_str()).collect();
    panels(path, &names, latencies, rates)
        .map_err(|cause| PlotError { path: path.display().to_string(), cause: cause.to_string() })
}

type Lines = Vec<Vec<(f64, f64)>>;

fn series(values: &[f64]) -> Vec<(f64, f64)> {
    values.iter().zip(0..).map(|(value, index)| (f64::from(index), *value)).collect()
}

fn panels(
    path: &Path,
    names: &[&str],
    latencies: Lines,
    rates: Lines,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (1200, 460)).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(600);
    panel(&left, "latency from when it was due, ms, by percentile", names, &latencies)?;
    panel(&right, "questions answered, by the second in which they were due", names, &rates)?;
    root.present()?;
    Ok(())
}

fn panel<DB: DrawingBackend>(
    area: &DrawingArea<DB, plotters::coord::Shift>,
    title: &str,
    names: &[&str],
    lines: &Lines,
) -> Result<(), Box<dyn std::error::Error>>
where
    DB::ErrorType: 'static,
{
    let most = |read: fn(&(f64, f64)) -> f64| lines.iter().flatten().map(read).fold(1.0, f64::max);
    let (right, top) = (most(|point| point.0), most(|point| point.1));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..right, 0.0..top * 1.05)?;
    chart.configure_mesh().light_line_style(TRANSPARENT).draw()?;
    for ((line, name), colour) in lines.iter().zip(names).zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)))?
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::run::{Recording, Sample};

    #[test]
    fn a_picture_names_every_run_and_a_file_that_cannot_be_written_is_named() {
        let sample = Sample {
            due: Duration::ZERO,
            lag: Duration::ZERO,
            latency: Duration::from_millis(3),
            answered: 1,
            failed: 0,
        };
        let recording = Recording { samples: vec![sample; 3], ..Recording::default() };
        let run = |name: &str| {
            Report::new(name.to_owned(), BTreeMap::new(), String::new(), Duration::from_secs(4), &recording)
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.svg");
        draw(&[run("ours"), run("theirs")], &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains("<svg") && svg.contains("ours") && svg.contains("theirs"));
        let error = draw(&[run("ours")], &folder.path().join("missing/runs.svg")).unwrap_err().to_string();
        assert!(error.starts_with("cannot draw ") && error.contains("missing/runs.svg"), "{error}");
    }
}
