//! A plot of reports: latency by percentile, and questions answered per second.

use std::path::Path;

use plotters::prelude::*;

use crate::report::Report;

const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 90, 180),
    RGBColor(200, 120, 0),
    RGBColor(140, 60, 150),
    RGBColor(0, 140, 90),
    RGBColor(180, 40, 40),
    RGBColor(120, 120, 120),
];

/// A plot that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw {path}: {cause}")]
pub struct PlotError {
    path: String,
    cause: String,
}

/// Plots `reports` into an SVG file, one line per report.
///
/// # Errors
/// [`PlotError`] if the file cannot be written.
pub fn plot_reports(reports: &[Report], path: &Path) -> Result<(), PlotError> {
    let latencies = reports.iter().map(|report| enumerate_points(&report.percentiles_ms)).collect();
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
    draw_panels(path, &names, latencies, rates)
        .map_err(|cause| PlotError { path: path.display().to_string(), cause: cause.to_string() })
}

type Lines = Vec<Vec<(f64, f64)>>;

fn enumerate_points(values: &[f64]) -> Vec<(f64, f64)> {
    values.iter().zip(0..).map(|(value, index)| (f64::from(index), *value)).collect()
}

fn draw_panels(
    path: &Path,
    names: &[&str],
    latencies: Lines,
    rates: Lines,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (1200, 460)).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(600);
    draw_panel(&left, "latency by percentile, ms", names, &latencies)?;
    draw_panel(&right, "questions answered per second", names, &rates)?;
    root.present()?;
    Ok(())
}

fn draw_panel<DB: DrawingBackend>(
    area: &DrawingArea<DB, plotters::coord::Shift>,
    title: &str,
    names: &[&str],
    lines: &Lines,
) -> Result<(), Box<dyn std::error::Error>>
where
    DB::ErrorType: 'static,
{
    let max = |read: fn(&(f64, f64)) -> f64| lines.iter().flatten().map(read).fold(1.0, f64::max);
    let (right, top) = (max(|point| point.0), max(|point| point.1));
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
    fn plot_names_every_report_and_error_names_the_file() {
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
        plot_reports(&[run("first"), run("second")], &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains("<svg") && svg.contains("first") && svg.contains("second"));
        let missing = folder.path().join("missing/runs.svg");
        let error = plot_reports(&[run("first")], &missing).unwrap_err().to_string();
        assert!(error.starts_with("cannot draw ") && error.contains("missing/runs.svg"), "{error}");
    }
}
