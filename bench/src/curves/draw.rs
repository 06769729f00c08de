//! A chart as SVG: one file, no font or script of its own, readable on a light page and on a dark one.

use anyhow::{Result, anyhow};
use plotters::{
    coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter},
    prelude::*,
};

/// Pixels.
const SIZE: (u32, u32) = (720, 420);
/// Room at the axes.
const LABELS: u32 = 58;
/// An axis from zero goes on above its largest value, for the legend.
const ROOM: f64 = 1.3;
/// Text and axes are drawn in this colour, grids and the page in these; what they are is said once, by a style that knows dark pages.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
const PAGE: RGBColor = RGBColor(3, 3, 3);
/// The colours of Okabe and Ito that are seen on both, and told apart without red and green.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0xd5, 0x5e, 0x00), RGBColor(0x1f, 0x8a, 0xd0), RGBColor(0x00, 0x9e, 0x73), RGBColor(0xb8, 0x63, 0x95)];
const STYLE: &str = "<style>svg{--ink:#24292f;--grid:#d8dee4;--page:#ffffff}\
@media (prefers-color-scheme:dark){svg{--ink:#d1d7e0;--grid:#3d444d;--page:#0d1117}}</style>";

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// What it counts, and in what.
    pub(super) name: &'static str,
    /// Whether equal steps are equal factors.
    pub(super) is_log: bool,
}

/// A curve.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curve {
    /// What the legend calls it.
    pub(super) name: String,
    /// From left to right.
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chart {
    /// What stands above it.
    pub(super) title: String,
    /// Left to right.
    pub(super) x: Axis,
    /// Bottom to top.
    pub(super) y: Axis,
    /// At most as many as there are colours are told apart.
    pub(super) curves: Vec<Curve>,
}

impl Chart {
    /// Whether there is anything to draw.
    pub(super) fn has_points(&self) -> bool {
        self.points().next().is_some()
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.curves.iter().flat_map(|curve| curve.points.iter().copied())
    }

    /// The chart, as the text of an SVG file.
    ///
    /// # Errors
    /// That it cannot be drawn.
    pub(super) fn svg(&self) -> Result<String> {
        let xs = || self.points().map(|(x, _)| x);
        let ys = || self.points().map(|(_, y)| y);
        let (x, y) = (range(&self.x, xs(), 1.0), range(&self.y, ys(), ROOM));
        let mut text = String::new();
        // Each kind of axis is a type of its own.
        let drawn = match (self.x.is_log, self.y.is_log) {
            (true, true) => self.draw(&mut text, x.log_scale(), y.log_scale()),
            (true, false) => self.draw(&mut text, x.log_scale(), y),
            (false, true) => self.draw(&mut text, x, y.log_scale()),
            (false, false) => self.draw(&mut text, x, y),
        };
        drawn.map_err(|problem| anyhow!("{}: {problem}", self.title))?;
        Ok(themed(&text))
    }

    fn draw<X, Y>(
        &self,
        text: &mut String,
        x: X,
        y: Y,
    ) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
        area.fill(&PAGE)?;
        let font = |size: i32| ("sans-serif", size).into_font().color(&INK);
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .caption(&self.title, font(18))
            .x_label_area_size(LABELS)
            .y_label_area_size(LABELS + 12)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(self.x.name)
            .y_desc(self.y.name)
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(font(13))
            .axis_desc_style(font(14))
            .x_label_formatter(&|value| plain(*value))
            .y_label_formatter(&|value| plain(*value))
            .draw()?;
        for (curve, colour) in self.curves.iter().zip(COLOURS.into_iter().cycle()) {
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(curve.points.iter().copied(), style))?
                .label(&curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            chart.draw_series(curve.points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(PAGE)
            .border_style(GRID)
            .label_font(font(13))
            .draw()?;
        area.present()
    }
}

/// From zero to so many times the largest, or from the power of ten below to the one above.
fn range(axis: &Axis, values: impl Iterator<Item = f64>, room: f64) -> std::ops::Range<f64> {
    let values: Vec<f64> = values.filter(|value| value.is_finite() && (!axis.is_log || *value > 0.0)).collect();
    let largest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    if !axis.is_log {
        return 0.0..largest * room;
    }
    let least = values.iter().copied().fold(largest, f64::min);
    10f64.powf(least.log10().floor())..10f64.powf(largest.log10().floor() + 1.0)
}

/// 30k in place of 30000: axes have little room.
fn plain(value: f64) -> String {
    let short = |value: f64| {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if value >= 1_000.0 { format!("{}k", short(value / 1_000.0)) } else { short(value) }
}

/// Puts names in place of the three colours that the style names, and the style behind the head.
fn themed(svg: &str) -> String {
    let head = svg.find("<svg").and_then(|from| Some(from + svg[from..].find('>')? + 1)).unwrap_or(0);
    let body = [("#010101", "var(--ink)"), ("#020202", "var(--grid)"), ("#030303", "var(--page)")]
        .iter()
        .fold(svg[head..].to_owned(), |text, (colour, name)| text.replace(colour, name));
    format!("{}\n{STYLE}{body}", &svg[..head])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(is_log: bool) -> Chart {
        let axis = |name| Axis { name, is_log };
        let curves = ["first", "a < b & c"]
            .map(|name| Curve { name: name.into(), points: vec![(99.0, 4.0), (30_000.0, 541.0)] });
        Chart { title: "Title".into(), x: axis("series"), y: axis("milliseconds"), curves: curves.into() }
    }

    #[test]
    fn a_chart_is_one_svg_with_units_a_legend_and_two_themes() {
        for is_log in [false, true] {
            let svg = chart(is_log).svg().unwrap();
            for text in
                ["<svg", "</svg>", "Title", "series", "milliseconds", "first", "a &lt; b", "prefers-color-scheme:dark"]
            {
                assert!(svg.contains(text), "{text} in {svg}");
            }
            for text in ["#010101", "#030303", "href", "url(", "NaN", "inf"] {
                assert!(!svg.contains(text), "{text} in {svg}");
            }
            assert_eq!(svg.matches("<circle").count(), 4);
        }
    }

    #[test]
    fn axes_begin_at_nothing_or_at_a_power_of_ten_and_hold_every_point() {
        let axis = |is_log| Axis { name: "", is_log };
        assert_eq!(range(&axis(true), [99.0, 30_000.0].into_iter(), ROOM), 10.0..100_000.0);
        assert_eq!(range(&axis(false), [10.0, 20.0].into_iter(), ROOM), 0.0..26.0);
        assert!(range(&axis(true), [0.0, 5.0].into_iter(), ROOM).start > 0.0);
        assert_eq!(
            ["0", "0.5", "999", "1k", "30k", "100k"],
            [0.0, 0.5, 999.0, 1e3, 3e4, 1e5].map(plain).each_ref().map(String::as_str)
        );
    }
}
