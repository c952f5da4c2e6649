//! The plot: on the left how long a start takes, on the right how many there are each second.

use std::path::Path;

use plotters::prelude::*;

use crate::Result;

const SIZE: (u32, u32) = (1_120, 560);
/// Where the right half begins.
const HALF: i32 = 620;
/// Height of the lines of text at the top and at the bottom.
const CAPTION: i32 = 34;
/// Where the bars begin: to their left are their names.
const BARS: i32 = 250;
/// Pixels of a tenfold time.
const DECADE: f64 = 110.0;
const FONT: &str = "sans-serif";
/// Colours of the right half, one for each line.
const COLOURS: [RGBColor; 8] = [
    RGBColor(120, 120, 120),
    RGBColor(31, 119, 180),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(188, 189, 34),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
];

/// What is shown.
#[derive(Default)]
pub(crate) struct Data {
    /// Names with p50, p95 and p99, in milliseconds.
    pub(crate) latencies: Vec<(String, [f64; 3])>,
    /// Names with what was reached by so many callers.
    pub(crate) rates: Vec<(String, Vec<(u32, f64)>)>,
}

pub(crate) fn draw(data: &Data, machine: &str, file: &Path) -> Result<()> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(HALF);
    bars(&left, &data.latencies)?;
    lines(&right, &data.rates)?;
    let bottom = i32::try_from(SIZE.1)? - 12;
    root.draw(&Text::new(machine.to_owned(), (12, bottom), (FONT, 12)))?;
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// A bar to the median, and a line from there to p99, on a logarithmic scale from 1 ms.
fn bars(area: &Area<'_>, latencies: &[(String, [f64; 3])]) -> Result<()> {
    area.draw(&Text::new("one caller: ms, bar p50, line to p99", (12, 10), (FONT, 16)))?;
    #[allow(clippy::cast_possible_truncation, reason = "a few hundred pixels")]
    let x = |millis: f64| BARS + (millis.max(1.0).log10() * DECADE) as i32;
    let height = (i32::try_from(SIZE.1)? - 2 * CAPTION - 30) / i32::try_from(latencies.len())?;
    for (at, (name, [p50, _, p99])) in latencies.iter().enumerate() {
        let top = CAPTION + i32::try_from(at)? * height;
        let (middle, bottom) = (top + height / 2, top + height - 8);
        let colour =
            if name.starts_with("execbox") { RGBColor(214, 39, 40) } else { RGBColor(120, 150, 180) };
        area.draw(&Rectangle::new([(BARS, top), (x(*p50), bottom)], colour.filled()))?;
        area.draw(&PathElement::new([(x(*p50), middle - 4), (x(*p99), middle - 4)], BLACK))?;
        area.draw(&Text::new(name.clone(), (12, middle - 10), (FONT, 12)))?;
        area.draw(&Text::new(format!("{p50:.1}"), (x(*p99) + 6, middle - 10), (FONT, 12)))?;
    }
    Ok(())
}

/// Both scales logarithmic; callers double from mark to mark.
fn lines(area: &Area<'_>, rates: &[(String, Vec<(u32, f64)>)]) -> Result<()> {
    let most = rates.iter().flat_map(|(_, points)| points).map(|(_, rate)| *rate).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_bottom(CAPTION)
        .caption("many callers: starts each second", (FONT, 16))
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(0_f64..5.2, (1_f64..most * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(6)
        .x_label_formatter(&|doublings| format!("{:.0}", doublings.exp2()))
        .x_desc("callers at once")
        .label_style((FONT, 12))
        .draw()?;
    for ((name, points), colour) in rates.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<_> =
            points.iter().map(|(callers, rate)| (f64::from(*callers).log2(), *rate)).collect();
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
            .label(name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    let style = WHITE.mix(0.8);
    chart
        .configure_series_labels()
        .label_font((FONT, 12))
        .background_style(style)
        .position(SeriesLabelPosition::LowerRight)
        .draw()?;
    Ok(())
}
