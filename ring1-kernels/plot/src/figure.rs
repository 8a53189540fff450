//! The figure: panels from back to front, then the words.

use sdk::scaled::{div_half_even, format_rounded};

use crate::axis::Axis;
use crate::bindings::exports::vac::study::figures::Spec;
use crate::checked::Study;
use crate::layout::{Layout, Panel};
use crate::svg::{Anchor, At, PX, Svg};

// Colours that stay apart for colour-blind readers (Okabe and Ito, 2008).
const FIT: &str = "#0072b2";
const AHEAD: &str = "#d55e00";

const DATA_DOT: &str = "stroke=\"#222\" stroke-opacity=\"0.5\" stroke-width=\"3\"";
const RESIDUAL_DOT: &str = "stroke=\"#222\" stroke-opacity=\"0.55\" stroke-width=\"2.6\"";
const BAND: &str = "fill=\"#d55e00\" fill-opacity=\"0.2\"";
const SIGMA_BAND: &str = "fill=\"#eef1f4\"";
const BAR: &str = "fill=\"#0072b2\" fill-opacity=\"0.75\"";
const GRID: &str = "stroke=\"#e3e6ea\" stroke-width=\"1\"";
const ZERO: &str = "stroke=\"#666\" stroke-width=\"1\"";
const FRAME: &str = "fill=\"none\" stroke=\"#333\" stroke-width=\"1\"";
const TICK: &str = "stroke=\"#333\" stroke-width=\"1\"";

const TITLE: &str = "font-size=\"20\" font-weight=\"bold\" fill=\"#111\"";
const HEADING: &str = "font-size=\"13\" font-weight=\"bold\" fill=\"#222\"";
const AXIS_TITLE: &str = "font-size=\"13\" fill=\"#222\"";
const LABEL: &str = "font-size=\"12\" fill=\"#333\"";
const SMALL: &str = "font-size=\"11\" fill=\"#666\"";

/// Half the width of the band of residuals in hundredths of sigma.
const BAND_HUNDREDTHS: i128 = 196;
/// Pixels that one character takes at most, on average, at 20 and at 11 pixels of type.
const TITLE_CHAR: i128 = 13;
const SMALL_CHAR: i128 = 7;

/// The whole document.
pub(crate) fn draw(spec: &Spec, layout: &Layout, study: &Study<'_>) -> String {
    let mut svg = Svg::new(layout.width, layout.height, &spec.title);
    let years = Axis::years(study.span(), layout.record.w / 60);
    record(&mut svg, &Frame::new(layout.record, &years, study.levels(), 7), study);
    residuals(&mut svg, layout.residuals, &years, study);
    season(&mut svg, layout.season, &study.model.seasonal_nppm);
    words(&mut svg, spec, layout);
    legend(&mut svg, layout);
    numbers(&mut svg, layout.numbers, study);
    svg.finish()
}

/// A panel with two axes: time to the right, nano-ppm upwards.
struct Frame<'a> {
    panel: Panel,
    years: &'a Axis,
    ppm: Axis,
}

impl<'a> Frame<'a> {
    fn new(panel: Panel, years: &'a Axis, values: impl Iterator<Item = i128>, ticks: i128) -> Self {
        Self { panel, years, ppm: Axis::around(values, ticks) }
    }

    fn x(&self, time: i128) -> i128 {
        self.years.position(time, self.panel.x * PX, self.panel.w * PX)
    }

    fn y(&self, nppm: i128) -> i128 {
        y(&self.ppm, self.panel, nppm)
    }

    fn points(&self, series: &[(i128, i128)]) -> Vec<At> {
        series.iter().map(|&(time, nppm)| (self.x(time), self.y(nppm))).collect()
    }

    fn grid(&self, svg: &mut Svg) {
        for tick in self.years.ticks() {
            svg.line((self.x(tick), self.panel.y * PX), (self.x(tick), self.panel.bottom() * PX), GRID);
        }
        rows(svg, &self.ppm, self.panel);
    }

    /// Frame and ticks, over the data; `years` says whether the years are written below.
    fn edges(&self, svg: &mut Svg, years: bool) {
        let bottom = self.panel.bottom() * PX;
        outline(svg, self.panel);
        for tick in self.years.ticks() {
            svg.line((self.x(tick), bottom), (self.x(tick), bottom + 5 * PX), TICK);
            if years {
                svg.text((self.x(tick), bottom + 19 * PX), Anchor::Middle, LABEL, &(tick / 24).to_string());
            }
        }
        ppm_ticks(svg, &self.ppm, self.panel);
    }
}

fn y(axis: &Axis, panel: Panel, nppm: i128) -> i128 {
    axis.position(nppm, panel.bottom() * PX, -panel.h * PX)
}

fn rows(svg: &mut Svg, axis: &Axis, panel: Panel) {
    for tick in axis.ticks() {
        let y = y(axis, panel, tick);
        svg.line((panel.x * PX, y), (panel.right() * PX, y), GRID);
    }
}

fn outline(svg: &mut Svg, panel: Panel) {
    svg.rect((panel.x * PX, panel.y * PX), (panel.w * PX, panel.h * PX), FRAME);
}

fn ppm_ticks(svg: &mut Svg, axis: &Axis, panel: Panel) {
    for tick in axis.ticks() {
        let (x, y) = (panel.x * PX, y(axis, panel, tick));
        svg.line((x - 5 * PX, y), (x, y), TICK);
        svg.text((x - 9 * PX, y + 4 * PX), Anchor::End, LABEL, &axis.ppm_label(tick));
    }
}

/// Measurements, model and forecast.
fn record(svg: &mut Svg, frame: &Frame<'_>, study: &Study<'_>) {
    frame.grid(svg);
    let upper = study.forecast.iter().map(|ahead| (ahead.time, ahead.high));
    let lower = study.forecast.iter().rev().map(|ahead| (ahead.time, ahead.low));
    svg.polygon(&frame.points(&upper.chain(lower).collect::<Vec<_>>()), BAND);
    svg.dots(&frame.points(&study.means), DATA_DOT);
    svg.polyline(&frame.points(&study.fitted), &stroke(FIT));
    svg.polyline(&frame.points(&ahead(study)), &stroke(AHEAD));
    frame.edges(svg, false);
    let middle = (2 * frame.panel.y + frame.panel.h) * PX / 2;
    svg.text_up(((frame.panel.x - 50) * PX, middle), AXIS_TITLE, "CO₂ (ppm)");
}

/// The forecast, joined to the last fitted value.
fn ahead(study: &Study<'_>) -> Vec<(i128, i128)> {
    let last = study.fitted.last().copied().filter(|_| !study.forecast.is_empty());
    last.into_iter().chain(study.forecast.iter().map(|ahead| (ahead.time, ahead.value))).collect()
}

fn stroke(colour: &str) -> String {
    format!("stroke=\"{colour}\" stroke-width=\"1.4\" stroke-linejoin=\"round\"")
}

/// Mean minus model, over a band of 1.96 sigma.
fn residuals(svg: &mut Svg, panel: Panel, years: &Axis, study: &Study<'_>) {
    let sigma = div_half_even(i128::from(study.model.sigma_nppm) * BAND_HUNDREDTHS, 100);
    let values = study.residuals.iter().map(|(_, nppm)| *nppm).chain([-sigma, sigma]);
    let frame = Frame::new(panel, years, values, 4);
    let (top, bottom) = (frame.y(sigma), frame.y(-sigma));
    svg.rect((panel.x * PX, top), (panel.w * PX, bottom - top), SIGMA_BAND);
    frame.grid(svg);
    svg.line((panel.x * PX, frame.y(0)), (panel.right() * PX, frame.y(0)), ZERO);
    svg.dots(&frame.points(&study.residuals), RESIDUAL_DOT);
    frame.edges(svg, true);
    let heading = "Residuals: mean − fit (shaded: ±1.96 σ)";
    svg.text((panel.x * PX, (panel.y - 9) * PX), Anchor::Start, HEADING, heading);
    svg.text_up(((panel.x - 50) * PX, (2 * panel.y + panel.h) * PX / 2), AXIS_TITLE, "ppm");
    let middle = (2 * panel.x + panel.w) * PX / 2;
    svg.text((middle, (panel.bottom() + 40) * PX), Anchor::Middle, AXIS_TITLE, "year");
}

/// Twelve bars from zero.
fn season(svg: &mut Svg, panel: Panel, effects: &[i64]) {
    let axis = Axis::around(effects.iter().map(|&nppm| nppm.into()).chain([0]), 6);
    rows(svg, &axis, panel);
    let (zero, slot) = (y(&axis, panel, 0), panel.w * PX / 12);
    for ((i, &effect), name) in (0..).zip(effects).zip("JFMAMJJASOND".chars()) {
        let (x, end) = (panel.x * PX + i * slot, y(&axis, panel, effect.into()));
        svg.rect((x + slot / 8, zero.min(end)), (slot * 3 / 4, (zero - end).abs()), BAR);
        svg.text((x + slot / 2, (panel.bottom() + 17) * PX), Anchor::Middle, LABEL, &name.to_string());
    }
    svg.line((panel.x * PX, zero), (panel.right() * PX, zero), ZERO);
    outline(svg, panel);
    ppm_ticks(svg, &axis, panel);
    svg.text((panel.x * PX, (panel.y - 9) * PX), Anchor::Start, HEADING, "Seasonal cycle (ppm)");
}

/// Title and source.
fn words(svg: &mut Svg, spec: &Spec, layout: &Layout) {
    let room = layout.width - layout.record.x - 28;
    let title = wrap(&spec.title, room / TITLE_CHAR, 1);
    svg.text((layout.record.x * PX, 40 * PX), Anchor::Start, TITLE, &title.concat());
    for (i, line) in (0..).zip(wrap(&spec.source, room / SMALL_CHAR, 2)) {
        let at = (layout.record.x * PX, (layout.height - 32 + 15 * i) * PX);
        svg.text(at, Anchor::Start, SMALL, &line);
    }
}

/// `text` in at most `lines` lines of at most `width` characters, broken at spaces. What is left over is
/// cut with an ellipsis.
fn wrap(text: &str, width: i128, lines: usize) -> Vec<String> {
    let width = usize::try_from(width).unwrap_or(0).max(2);
    let mut out = vec![String::new()];
    for word in text.split_whitespace() {
        let last = out.len() == lines;
        let line = out.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if last || line.chars().count() + 1 + word.chars().count() <= width {
            line.extend([" ", word]);
        } else {
            out.push(word.to_owned());
        }
    }
    out.iter().map(|line| cut(line, width)).collect()
}

fn cut(line: &str, width: usize) -> String {
    match line.char_indices().nth(width) {
        None => line.to_owned(),
        Some(_) => line.chars().take(width - 1).chain(['…']).collect(),
    }
}

/// One row above the record.
fn legend(svg: &mut Svg, layout: &Layout) {
    let (y, x) = (74 * PX, layout.record.x * PX);
    let baseline = y + 4 * PX;
    svg.dots(&[(x + 6 * PX, y)], "stroke=\"#222\" stroke-opacity=\"0.6\" stroke-width=\"5\"");
    svg.text((x + 16 * PX, baseline), Anchor::Start, LABEL, "monthly mean");
    let x = x + 118 * PX;
    svg.line((x, y), (x + 24 * PX, y), &format!("stroke=\"{FIT}\" stroke-width=\"2.5\""));
    svg.text((x + 31 * PX, baseline), Anchor::Start, LABEL, "trend with season");
    let x = x + 156 * PX;
    svg.rect((x, y - 6 * PX), (24 * PX, 12 * PX), BAND);
    svg.line((x, y), (x + 24 * PX, y), &format!("stroke=\"{AHEAD}\" stroke-width=\"2.5\""));
    svg.text((x + 31 * PX, baseline), Anchor::Start, LABEL, "forecast, 95 % band");
}

/// The column of numbers: a label at the left, a value at the right.
fn numbers(svg: &mut Svg, (x, top): At, study: &Study<'_>) {
    svg.text((x * PX, top * PX), Anchor::Start, HEADING, "Model");
    for (i, (label, value)) in (1..).zip(lines(study)) {
        let y = (top + 5 + 19 * i) * PX;
        svg.text((x * PX, y), Anchor::Start, LABEL, label);
        svg.text(((x + 214) * PX, y), Anchor::End, LABEL, &value);
    }
}

fn lines(study: &Study<'_>) -> Vec<(&'static str, String)> {
    let model = study.model;
    let nppm = |value: i128, decimals, unit: &str| format!("{} {unit}", ppm(value, decimals));
    let weeks: u64 = study.months.iter().map(|m| u64::from(m.weeks)).sum();
    let month =
        |m: Option<(i32, u8)>| m.map_or(String::new(), |(year, month)| format!("{year:04}-{month:02}"));
    let mut lines = vec![
        ("first month", month(study.months.first().map(|m| (m.year, m.month)))),
        ("last month", month(study.months.last().map(|m| (m.year, m.month)))),
        ("months (weeks)", format!("{} ({weeks})", study.months.len())),
        ("level at start", nppm(model.level_nppm.into(), 2, "ppm")),
        ("growth at end", nppm(model.growth_nppm_per_year.into(), 3, "ppm/yr")),
        ("acceleration", nppm(2 * i128::from(model.curve_nppm_per_year2), 4, "ppm/yr²")),
        ("residual σ", nppm(model.sigma_nppm.into(), 3, "ppm")),
        ("R²", format_rounded(model.r_squared_millionths.into(), 6, 4)),
    ];
    if let Some((point, ahead)) = model.forecast.last().zip(study.forecast.last()) {
        let half = ppm((ahead.high - ahead.low) / 2, 2);
        lines.push(("forecast for", month(Some((point.year, point.month)))));
        lines.push(("", format!("{} ± {half} ppm", ppm(ahead.value, 2))));
    }
    lines
}

/// Nano-ppm as ppm with a real minus sign.
fn ppm(nppm: i128, decimals: u32) -> String {
    format_rounded(nppm, 9, decimals).replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::exports::vac::study::types::{ForecastPoint, Model, Month};

    fn months() -> Vec<Month> {
        let month = |i: u8| Month { year: 1999, month: i + 1, mean_uppm: 368_000_000, weeks: 4 };
        (0..12).map(month).collect()
    }

    fn model(level: i64) -> Model {
        let point = |month| ForecastPoint {
            year: 2000,
            month,
            value_nppm: level,
            low_nppm: level.saturating_sub(1_000_000_000),
            high_nppm: level.saturating_add(1_000_000_000),
        };
        Model {
            level_nppm: level,
            slope_nppm_per_year: level,
            curve_nppm_per_year2: level,
            seasonal_nppm: vec![level; 12],
            growth_nppm_per_year: level,
            rss_millionths: u64::MAX,
            r_squared_millionths: level,
            sigma_nppm: level.unsigned_abs(),
            fitted_nppm: vec![level; 12],
            forecast: vec![point(1), point(2)],
        }
    }

    fn figure(title: &str, level: i64) -> String {
        let (months, model) = (months(), model(level));
        let spec = Spec { title: title.to_owned(), source: title.to_owned(), width: 800, height: 560 };
        let layout = Layout::try_new(spec.width, spec.height).unwrap();
        draw(&spec, &layout, &Study::try_new(&months, &model).unwrap())
    }

    #[test]
    fn words_cannot_become_markup() {
        let svg = figure("</title><script>alert(\"1\")</script>&", 368_000_000_000);
        assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;alert(&quot;1&quot;)"));
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
    }

    #[test]
    fn any_numbers_are_drawn_on_the_paper() {
        for level in [0, 368_000_000_000, i64::MIN, i64::MAX] {
            let svg = figure("a", level);
            let positions = svg.split(" y=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
            for y in positions.map(|y| y.parse::<f64>().unwrap()) {
                assert!((0.0..=560.0).contains(&y), "level {level}: {y}");
            }
        }
    }

    #[test]
    fn the_same_study_gives_the_same_bytes() {
        assert_eq!(figure("a", 368_000_000_000), figure("a", 368_000_000_000));
    }

    #[test]
    fn words_wrap_and_are_cut() {
        assert_eq!(wrap("a bb  ccc dddd", 6, 3), ["a bb", "ccc", "dddd"]);
        assert_eq!(wrap("a bb ccc dddd", 6, 2), ["a bb", "ccc d…"]);
        assert_eq!(wrap("", 6, 2), [""]);
        assert_eq!(wrap("ééééééé", 6, 1), ["ééééé…"]);
    }
}
