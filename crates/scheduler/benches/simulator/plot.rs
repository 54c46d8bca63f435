//! The plot of response times and goodput by load.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::{BLIP_SERVE, LOADS, POLICIES, results::ResultRow, traffic::Traffic};

const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 90, 180),
    RGBColor(200, 120, 0),
    RGBColor(140, 60, 150),
    RGBColor(0, 140, 90),
    RGBColor(120, 120, 120),
];

type Value = fn(&ResultRow) -> f64;

/// Draws interactive p99 and goodput of the first device, with a column for each kind of traffic.
pub(crate) fn draw(rows: &[ResultRow], path: &Path) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (1400, 760)).into_drawing_area();
    root.fill(&WHITE)?;
    let first = rows.first().map(|row| row.device.clone()).unwrap_or_default();
    let titled = root.titled(&format!("{first}: by load, percent of capacity"), ("sans-serif", 22))?;
    let panels = titled.split_evenly((2, Traffic::ALL.len()));
    let values: [(&str, Value, bool); 2] = [
        (
            "interactive p99, ms",
            |row| row.results.interactive_p99.map_or(0.0, |time| time.as_secs_f64() * 1e3),
            true,
        ),
        ("goodput, % of capacity", |row| 100.0 * row.results.goodput / row.capacity, false),
    ];
    let kinds = values.iter().flat_map(|value| Traffic::ALL.map(|traffic| (value, traffic)));
    for (panel, ((name, value, is_logarithmic), traffic)) in panels.iter().zip(kinds) {
        let title = format!("{}: {name}", traffic.name());
        let lines: Vec<Vec<(f64, f64)>> = POLICIES
            .iter()
            .map(|(policy, _)| {
                LOADS
                    .iter()
                    .filter_map(|load| {
                        let row = rows.iter().find(|row| {
                            row.device == first
                                && row.traffic == traffic
                                && row.load == *load
                                && row.policy == *policy
                        })?;
                        let value = value(row);
                        // A logarithmic axis has no zero, which means that no answer was in time.
                        let value =
                            if *is_logarithmic { (value > 0.0).then(|| value.log10())? } else { value };
                        Some((load * 100.0, value))
                    })
                    .collect()
            })
            .collect();
        draw_panel(panel, &title, &lines, *is_logarithmic)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel<DB: DrawingBackend>(
    panel: &DrawingArea<DB, plotters::coord::Shift>,
    title: &str,
    lines: &[Vec<(f64, f64)>],
    is_logarithmic: bool,
) -> Result<(), Box<dyn Error>>
where
    DB::ErrorType: 'static,
{
    let top = lines.iter().flatten().map(|(_, value)| *value).fold(0.0, f64::max);
    let bottom = if is_logarithmic { 0.0 } else { 0.0_f64.min(top) };
    let mut chart = ChartBuilder::on(panel)
        .caption(title, ("sans-serif", 13))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(40)
        .build_cartesian_2d(45.0..125.0, bottom..(top * 1.08 + 0.1))?;
    chart
        .configure_mesh()
        .x_label_formatter(&|load| format!("{load:.0}"))
        .y_label_formatter(&|value| {
            if is_logarithmic { format!("{:.0}", 10f64.powf(*value)) } else { format!("{value:.0}") }
        })
        .x_labels(5)
        .y_labels(6)
        .draw()?;
    for ((line, (name, _)), colour) in lines.iter().zip(POLICIES).zip(COLOURS) {
        let width = if name == BLIP_SERVE { 3 } else { 1 };
        chart
            .draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(width)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(width)));
    }
    if title.starts_with(Traffic::Poisson.name()) {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 10))
            .draw()?;
    }
    Ok(())
}
