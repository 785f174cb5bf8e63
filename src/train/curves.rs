//! [`Curves`]: a picture of how numbers changed over a run, as SVG.

use std::fmt::Write;
use std::path::Path;

use crate::error::Result;
use crate::io::write_atomically;

/// Colours that differ also for eyes that see few (Okabe and Ito's).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
/// The room around the axes.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 36.0;

/// Numbers by name over steps; names that begin alike up to a `/` share a panel.
///
/// ```
/// use wgrad::train::Curves;
/// let mut curves = Curves::default();
/// for step in 0..10 {
///     curves.add("loss/train", step as f64, 1.0 / (1.0 + step as f64));
/// }
/// assert!(curves.svg().contains("polyline"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Curves {
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Curves {
    /// Adds a point to the line `name`; one that is not finite is left out.
    pub fn add(&mut self, name: &str, x: f64, y: f64) {
        if !(x.is_finite() && y.is_finite()) {
            return;
        }
        match self.lines.iter_mut().find(|(known, _)| known == name) {
            Some((_, points)) => points.push((x, y)),
            None => self.lines.push((name.into(), vec![(x, y)])),
        }
    }

    /// Writes the picture to `path`.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_atomically(path, |out| out.put(self.svg().as_bytes()))
    }

    /// The picture.
    pub fn svg(&self) -> String {
        let mut panels: Vec<(&str, Vec<&(String, Vec<(f64, f64)>)>)> = Vec::new();
        for line in &self.lines {
            let title = line.0.split('/').next().unwrap_or_default();
            match panels.iter_mut().find(|(known, _)| *known == title) {
                Some((_, lines)) => lines.push(line),
                None => panels.push((title, vec![line])),
            }
        }
        let height = HEIGHT * panels.len().max(1) as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        for (k, (title, lines)) in panels.iter().enumerate() {
            panel(&mut svg, k as f64 * HEIGHT, title, lines);
        }
        svg + "</svg>\n"
    }
}

/// One pair of axes with its lines.
fn panel(svg: &mut String, top: f64, title: &str, lines: &[&(String, Vec<(f64, f64)>)]) {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let span = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = points().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        let around = low.abs().max(1.0) / 2.0;
        if low / 8.0 < high / 8.0 { (low, high) } else { ((low - around).max(f64::MIN), (low + around).min(f64::MAX)) }
    };
    let (x_span, y_span) = (span(|p| p.0), span(|p| p.1));
    let y_ticks = ticks(y_span);
    let y_span = (y_span.0.min(y_ticks[0]), y_span.1.max(y_ticks[y_ticks.len() - 1]));
    let (right, base) = (WIDTH - RIGHT, top + HEIGHT - BOTTOM);
    // By halves, so that no span is infinite.
    let part = |x: f64, (low, high): (f64, f64)| (x / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
    let x_at = |x: f64| LEFT + part(x, x_span) * (right - LEFT);
    let y_at = |y: f64| base - part(y, y_span) * (base - top - TOP);
    let mut put = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    put(format!("<text x=\"{LEFT}\" y=\"{:.0}\" font-weight=\"600\">{}</text>", top + 20.0, escaped(title)));
    for y in y_ticks {
        let at = y_at(y);
        put(format!("<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>"));
        put(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            shown(y)
        ));
    }
    for x in ticks(x_span).into_iter().filter(|x| (x_span.0..=x_span.1).contains(x)) {
        let at = x_at(x);
        put(format!(
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{}</text>",
            base + 18.0,
            shown(x)
        ));
    }
    let mut legend = right;
    for (k, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[k % COLOURS.len()];
        let mut path = String::new();
        for (x, y) in points {
            // Writing into a string does not fail.
            let _ = write!(path, "{:.1},{:.1} ", x_at(*x), y_at(*y));
        }
        put(format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" points=\"{}\"/>",
            path.trim_end()
        ));
        if let [only] = &points[..] {
            put(format!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x_at(only.0), y_at(only.1)));
        }
        if let Some((_, rest)) = name.split_once('/') {
            put(format!(
                "<text x=\"{legend:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"{colour}\">{}</text>",
                top + 20.0,
                escaped(rest)
            ));
            legend -= 8.0 * rest.chars().count() as f64 + 16.0;
        }
    }
}

/// About five round numbers over a span; at least one.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let raw = high / 4.0 - low / 4.0;
    let unit = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * unit).find(|step| *step >= raw).unwrap_or(raw);
    let first = (low / step).floor();
    let all = (0..7).map(|k| (first + f64::from(k)) * step);
    let found: Vec<f64> = all.take_while(|x| x.is_finite() && *x < high + step).collect();
    if found.is_empty() { vec![low, high] } else { found }
}

fn shown(x: f64) -> String {
    let text = format!("{x:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" || text.is_empty() { "0".into() } else { text.into() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
