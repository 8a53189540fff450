//! Where the parts of a figure lie.
//!
//! ```text
//!   title
//!   legend
//!   +-----------------------+   +--------+
//!   | record, fit, forecast |   | season |
//!   |                       |   +--------+
//!   +-----------------------+   numbers
//!   +-----------------------+
//!   | residuals             |
//!   +-----------------------+
//!             year
//!   source
//! ```
//!
//! Only the record and the residuals grow with the figure; type keeps its size.

use std::ops::RangeInclusive;

const WIDTHS: RangeInclusive<u32> = 800..=4000;
const HEIGHTS: RangeInclusive<u32> = 560..=4000;

/// Room for tick labels and an axis title.
const LEFT: i128 = 74;
const RIGHT: i128 = 28;
/// Title and legend.
const TOP: i128 = 104;
/// Axis title and two lines of source.
const BOTTOM: i128 = 106;
/// The column with the season and the numbers, and the room before it for its own tick labels.
const COLUMN: i128 = 214;
const COLUMN_GAP: i128 = 64;
/// Between the record and the residuals.
const GAP: i128 = 40;
const RESIDUALS: i128 = 120;
const SEASON: i128 = 150;

/// A rectangle in pixels.
#[derive(Clone, Copy)]
pub(crate) struct Panel {
    pub(crate) x: i128,
    pub(crate) y: i128,
    pub(crate) w: i128,
    pub(crate) h: i128,
}

impl Panel {
    pub(crate) fn right(&self) -> i128 {
        self.x + self.w
    }

    pub(crate) fn bottom(&self) -> i128 {
        self.y + self.h
    }
}

/// All parts, in pixels.
pub(crate) struct Layout {
    pub(crate) width: i128,
    pub(crate) height: i128,
    pub(crate) record: Panel,
    pub(crate) residuals: Panel,
    pub(crate) season: Panel,
    /// Left end and top of the numbers.
    pub(crate) numbers: (i128, i128),
}

impl Layout {
    pub(crate) fn try_new(width: u32, height: u32) -> Result<Self, String> {
        check("width", width, WIDTHS)?;
        check("height", height, HEIGHTS)?;
        let (width, height) = (i128::from(width), i128::from(height));
        let w = width - LEFT - COLUMN_GAP - COLUMN - RIGHT;
        let residuals = Panel { x: LEFT, y: height - BOTTOM - RESIDUALS, w, h: RESIDUALS };
        let record = Panel { x: LEFT, y: TOP, w, h: residuals.y - GAP - TOP };
        let season = Panel { x: width - RIGHT - COLUMN, y: TOP, w: COLUMN, h: SEASON };
        Ok(Self { width, height, record, residuals, season, numbers: (season.x, season.bottom() + 58) })
    }
}

fn check(what: &str, pixels: u32, allowed: RangeInclusive<u32>) -> Result<(), String> {
    if allowed.contains(&pixels) {
        return Ok(());
    }
    Err(format!("expected a {what} of {} to {} pixels, got {pixels}", allowed.start(), allowed.end()))
}
