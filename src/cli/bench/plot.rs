//! Charts as SVG for a page: plain shapes, of which the page's style says the colours.
#![forbid(unsafe_code)]

use std::fmt::Write;

/// Points over two axes.
#[derive(Default)]
pub struct Chart<'a> {
    pub title: &'a str,
    /// What the axes are, with units.
    pub x: &'a str,
    pub y: &'a str,
    pub series: Vec<Series<'a>>,
    /// Names of x = 0, 1, 2 ...; numbers if there are none.
    pub labels: Vec<String>,
    /// Whether y begins at zero, so that heights are proportions.
    pub from_zero: bool,
}

pub struct Series<'a> {
    pub name: &'a str,
    pub mark: Mark,
    pub points: Vec<[f64; 2]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Line,
    /// Constant from one point to the next.
    Steps,
    Dots,
    Bars,
}

/// The drawing and its margins: left, right, top, bottom.
const SIZE: [f64; 2] = [720.0, 250.0];
const MARGINS: [f64; 4] = [58.0, 14.0, 12.0, 42.0];
/// How many marks an axis has, about.
const TICKS: f64 = 7.0;

impl Chart<'_> {
    /// A figure with its caption; empty without a point.
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points).copied();
        if points().next().is_none() {
            return String::new();
        }
        let aside = if self.labels.is_empty() { 0.0 } else { 0.6 };
        let x = Axis::of(points().map(|[x, _]| x), [MARGINS[0], SIZE[0] - MARGINS[1]]).widened(aside);
        let mut y = Axis::of(points().map(|[_, y]| y), [SIZE[1] - MARGINS[3], MARGINS[2]]);
        if self.from_zero {
            y.range[0] = 0.0;
        }
        let y = y.widened_above();
        let mut text = format!("<figure><figcaption>{}</figcaption>{}", escaped(self.title), self.legend());
        let [width, height] = SIZE;
        write!(
            text,
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
            escaped(self.title)
        )
        .ok();
        text += &self.axes(&x, &y);
        for (index, series) in self.series.iter().enumerate() {
            write!(text, "<g class=\"s{index}\">{}</g>", series.shapes(&x, &y)).ok();
        }
        text + "</svg></figure>\n"
    }

    /// Only where there is more than one series.
    fn legend(&self) -> String {
        if self.series.len() < 2 {
            return String::new();
        }
        let names = self.series.iter().enumerate();
        let names: String = names
            .map(|(index, series)| format!("<span class=\"s{index}\"><i></i>{}</span>", escaped(series.name)))
            .collect();
        format!("<p class=\"legend\">{names}</p>")
    }

    fn axes(&self, x: &Axis, y: &Axis) -> String {
        let (mut text, [left, right], [bottom, top]) =
            (String::from("<g class=\"axes\">"), x.pixels, y.pixels);
        for (value, name) in y.ticks() {
            let at = y.pixel(value);
            write!(
                text,
                "<path d=\"M{left} {at:.1}H{right}\"/><text x=\"{}\" y=\"{:.1}\" class=\"y\">{name}</text>",
                left - 8.0,
                at + 4.0
            )
            .ok();
        }
        let named =
            self.labels.iter().enumerate().map(|(index, name)| (index as f64, escaped(name))).collect();
        for (value, name) in if self.labels.is_empty() { x.ticks() } else { named } {
            write!(
                text,
                "<text x=\"{:.1}\" y=\"{}\" class=\"x\">{name}</text>",
                x.pixel(value),
                bottom + 17.0
            )
            .ok();
        }
        let (middle, below) = ((left + right) / 2.0, SIZE[1] - 6.0);
        write!(text, "<text x=\"{middle}\" y=\"{below}\" class=\"x name\">{}</text>", escaped(self.x)).ok();
        let middle = (top + bottom) / 2.0;
        write!(
            text,
            "<text transform=\"translate(13 {middle}) rotate(-90)\" class=\"x name\">{}</text></g>",
            escaped(self.y)
        )
        .ok();
        text
    }
}

impl Series<'_> {
    fn shapes(&self, x: &Axis, y: &Axis) -> String {
        let mut text = String::new();
        let pixels = self.points.iter().map(|&[a, b]| [x.pixel(a), y.pixel(b)]);
        match self.mark {
            Mark::Dots => pixels.for_each(|[a, b]| {
                write!(text, "<circle cx=\"{a:.1}\" cy=\"{b:.1}\" r=\"2\"/>").ok();
            }),
            Mark::Bars => {
                let width = (x.pixel(1.0) - x.pixel(0.0)).abs().min(90.0) * 0.7;
                pixels.for_each(|[a, b]| {
                    let (left, height) = (a - width / 2.0, (y.pixels[0] - b).max(0.0));
                    write!(text, "<rect x=\"{left:.1}\" y=\"{b:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\"/>").ok();
                });
            }
            Mark::Line | Mark::Steps => {
                text += "<path d=\"";
                for (index, [a, b]) in pixels.enumerate() {
                    match (index, self.mark) {
                        (0, _) => write!(text, "M{a:.1} {b:.1}").ok(),
                        (_, Mark::Steps) => write!(text, "H{a:.1}V{b:.1}").ok(),
                        _ => write!(text, "L{a:.1} {b:.1}").ok(),
                    };
                }
                text += "\"/>";
            }
        }
        text
    }
}

/// Values, and where on the drawing their ends are.
struct Axis {
    range: [f64; 2],
    pixels: [f64; 2],
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, pixels: [f64; 2]) -> Axis {
        let range = values.fold([f64::MAX, f64::MIN], |[low, high], value| [value.min(low), value.max(high)]);
        Axis { range, pixels }
    }

    fn widened(self, by: f64) -> Axis {
        let [low, high] = self.range;
        let by = if high > low { by } else { by.max(0.5) };
        Axis { range: [low - by, high + by], ..self }
    }

    /// So that the highest point has some air above, and a constant is not at the edge.
    fn widened_above(self) -> Axis {
        let [low, high] = self.range;
        let air = if high > low { 0.06 * (high - low) } else { high.abs().max(1e-9) * 0.1 };
        Axis { range: [if low == 0.0 { 0.0 } else { low - air }, high + air], ..self }
    }

    fn pixel(&self, value: f64) -> f64 {
        let ([low, high], [from, to]) = (self.range, self.pixels);
        from + (value - low) / (high - low) * (to - from)
    }

    /// Round values, and what is written there.
    fn ticks(&self) -> Vec<(f64, String)> {
        let [low, high] = self.range;
        let rough = (high - low) / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|round| round * power).into_iter().find(|&step| step >= rough);
        let step = step.unwrap_or(10.0 * power);
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (low / step).ceil() as i64;
        let values = (first..).map(|index| index as f64 * step).take_while(|&value| value <= high);
        values.take(20).map(|value| (value, format!("{value:.decimals$}"))).collect()
    }
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(range: [f64; 2]) -> Vec<String> {
        Axis { range, pixels: [0.0, 100.0] }.ticks().into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks([0.0, 10.0]), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(ticks([0.98, 1.02]), ["0.98", "0.99", "1.00", "1.01", "1.02"]);
        assert_eq!(ticks([1480.0, 2410.0]), ["1600", "1800", "2000", "2200", "2400"]);
        assert!(!ticks([0.0, 1e-9]).is_empty() && !ticks([0.0, 1e12]).is_empty());
    }

    #[test]
    fn points_are_where_the_axes_say() {
        let axis = Axis { range: [10.0, 20.0], pixels: [100.0, 0.0] };
        assert_eq!([10.0, 15.0, 20.0].map(|value| axis.pixel(value)), [100.0, 50.0, 0.0]);
    }

    #[test]
    fn a_chart_has_its_series_and_no_foreign_text() {
        let series = |name, mark| Series { name, mark, points: vec![[0.0, 1.0], [1.0, 2.0]] };
        let chart = Chart {
            title: "a<b",
            series: vec![series("x&y", Mark::Bars), series("line", Mark::Line), series("dots", Mark::Dots)],
            labels: vec!["one".into(), "two".into()],
            from_zero: true,
            ..Chart::default()
        };
        let text = chart.svg();
        for (part, times) in
            [("<rect", 2), ("<circle", 2), ("a&lt;b", 2), ("x&amp;y", 1), (">one<", 1), (">two<", 1)]
        {
            assert_eq!(text.matches(part).count(), times, "{part}: {text}");
        }
        assert!(!text.contains("NaN") && !text.contains("inf"));
        assert_eq!(Chart::default().svg(), "");
    }

    #[test]
    fn one_point_alone_is_drawn() {
        for (mark, from_zero) in [(Mark::Line, false), (Mark::Bars, true)] {
            let series = vec![Series { name: "", mark, points: vec![[0.0, 3.0]] }];
            let text = Chart { series, from_zero, labels: vec!["1".into()], ..Chart::default() }.svg();
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }
}
