//! A growing SVG document. Positions are hundredths of a pixel; text is escaped here and nowhere else.

use std::fmt::Write;

use sdk::quote::xml;

/// Hundredths of a pixel in a pixel.
pub(crate) const PX: i128 = 100;

/// A point in hundredths of a pixel.
pub(crate) type At = (i128, i128);

/// Which end of a text its position is.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A document that is being written.
pub(crate) struct Svg(String);

impl Svg {
    /// Opens a document of `width` by `height` pixels on white.
    pub(crate) fn new(width: i128, height: i128, title: &str) -> Self {
        let title = xml(title);
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" \
             font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n\
             <title>{title}</title>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
        ))
    }

    pub(crate) fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }

    /// One element. `attributes` are the program's own and are not escaped.
    fn element(&mut self, name: &str, attributes: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "<{name} {attributes}/>");
    }

    pub(crate) fn rect(&mut self, (x, y): At, (w, h): At, style: &str) {
        let [x, y, w, h] = [x, y, w, h].map(px);
        self.element("rect", &format!("x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" {style}"));
    }

    pub(crate) fn line(&mut self, (x1, y1): At, (x2, y2): At, style: &str) {
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(px);
        self.element("line", &format!("x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" {style}"));
    }

    /// Straight lines through all points; nothing without points.
    pub(crate) fn polyline(&mut self, points: &[At], style: &str) {
        if !points.is_empty() {
            self.element("path", &format!("d=\"M{}\" fill=\"none\" {style}", path(points)));
        }
    }

    /// A filled outline; nothing without points.
    pub(crate) fn polygon(&mut self, points: &[At], style: &str) {
        if !points.is_empty() {
            self.element("path", &format!("d=\"M{}Z\" {style}", path(points)));
        }
    }

    /// Dots as one path: lines of no length with round ends.
    pub(crate) fn dots(&mut self, points: &[At], style: &str) {
        let each: String = points.iter().map(|&(x, y)| format!("M{} {}h0", px(x), px(y))).collect();
        if !each.is_empty() {
            self.element("path", &format!("d=\"{each}\" fill=\"none\" stroke-linecap=\"round\" {style}"));
        }
    }

    pub(crate) fn text(&mut self, (x, y): At, anchor: Anchor, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y, text) = (px(x), px(y), xml(text));
        let _ = writeln!(self.0, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" {style}>{text}</text>");
    }

    /// Text that reads upwards, centred at its position.
    pub(crate) fn text_up(&mut self, (x, y): At, style: &str, text: &str) {
        let turned = format!("transform=\"rotate(-90 {} {})\" {style}", px(x), px(y));
        self.text((x, y), Anchor::Middle, &turned, text);
    }
}

fn path(points: &[At]) -> String {
    points.iter().map(|&(x, y)| format!("{} {}", px(x), px(y))).collect::<Vec<_>>().join("L")
}

/// Hundredths as pixels, without zeros at the end: `1250` is `12.5`.
fn px(hundredths: i128) -> String {
    let text = sdk::scaled::format(hundredths, 2);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_short_decimals() {
        assert_eq!([0, 5, 1250, -1200, 100_000].map(px), ["0", "0.05", "12.5", "-12", "1000"]);
    }

    #[test]
    fn text_is_escaped() {
        let mut svg = Svg::new(10, 10, "a<b");
        svg.text((0, 0), Anchor::Start, "", "</text><script>");
        let text = svg.finish();
        assert!(text.contains("<title>a&lt;b</title>") && text.contains("&lt;/text&gt;&lt;script&gt;"));
    }
}
