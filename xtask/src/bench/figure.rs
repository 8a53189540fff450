//! Figures, goals, and how they are printed.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// One measured value beside its baseline.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    pub(super) baseline_name: String,
    pub(super) baseline: f64,
    pub(super) goal: Option<Goal>,
    /// What one must know to read it.
    pub(super) note: String,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// Value divided by baseline.
    RatioAtMost(f64),
    /// Value divided by baseline.
    RatioAtLeast(f64),
    /// Value minus baseline, in the figure's unit.
    MoreByAtMost(f64),
    /// The value alone.
    AtLeast(f64),
    /// The value alone.
    AtMost(f64),
}

impl Figure {
    /// A figure without goal or note.
    pub(super) fn new(
        name: impl Into<String>,
        unit: &'static str,
        value: f64,
        baseline: (&str, f64),
    ) -> Self {
        let (baseline_name, baseline) = (baseline.0.to_owned(), baseline.1);
        Self { name: name.into(), value, unit, baseline_name, baseline, goal: None, note: String::new() }
    }

    pub(super) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// A figure that could not be measured here.
    pub(super) fn unavailable(name: &str, why: String) -> Self {
        Self::new(name, "", f64::NAN, ("", f64::NAN)).note(format!("not available: {why}"))
    }

    fn ratio(&self) -> f64 {
        self.value / self.baseline
    }

    /// Whether the goal is met, if there is one and it could be measured.
    fn is_met(&self) -> Option<bool> {
        let (got, met) = match self.goal? {
            Goal::RatioAtMost(goal) => (self.ratio(), self.ratio() <= goal),
            Goal::RatioAtLeast(goal) => (self.ratio(), self.ratio() >= goal),
            Goal::MoreByAtMost(goal) => (self.baseline, self.value - self.baseline <= goal),
            Goal::AtLeast(goal) => (self.value, self.value >= goal),
            Goal::AtMost(goal) => (self.value, self.value <= goal),
        };
        (!got.is_nan()).then_some(met)
    }

    fn goal_text(&self) -> String {
        match self.goal {
            Some(Goal::RatioAtMost(goal)) => format!("<= {goal}x"),
            Some(Goal::RatioAtLeast(goal)) => format!(">= {goal}x"),
            Some(Goal::MoreByAtMost(goal)) => format!("<= +{goal} {}", self.unit),
            Some(Goal::AtLeast(goal)) => format!(">= {goal} {}", self.unit),
            Some(Goal::AtMost(goal)) => format!("<= {goal} {}", self.unit),
            None => String::new(),
        }
    }

    fn cells(&self) -> [String; 7] {
        let with_unit = |value: f64| match value.is_nan() {
            true => "-".to_owned(),
            false => format!("{} {}", significant(value), self.unit),
        };
        let ratio = if self.ratio().is_nan() { "-".to_owned() } else { format!("{:.2}x", self.ratio()) };
        let met = match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let baseline = with_unit(self.baseline);
        [
            self.name.clone(),
            with_unit(self.value),
            self.baseline_name.clone(),
            baseline,
            ratio,
            self.goal_text(),
            met.into(),
        ]
    }

    fn json(&self) -> Value {
        // A value that is not a number becomes null.
        json!({
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "baseline_name": self.baseline_name,
            "baseline": self.baseline,
            "ratio": self.ratio(),
            "goal": self.goal_text(),
            "met": self.is_met(),
            "note": self.note,
        })
    }
}

/// Three digits that mean something, and thousands apart.
fn significant(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

const HEADS: [&str; 7] = ["figure", "value", "baseline", "", "ratio", "goal", ""];

/// The figures as aligned text, notes below.
pub(super) fn table(figures: &[Figure]) -> String {
    let rows: Vec<_> =
        std::iter::once(HEADS.map(str::to_owned)).chain(figures.iter().map(Figure::cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..HEADS.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            let is_number = [1, 3, 4].contains(&column);
            let _ = if is_number { write!(out, "  {cell:>width$}") } else { write!(out, "  {cell:<width$}") };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    let mut said = Vec::new();
    for figure in figures.iter().filter(|figure| !figure.note.is_empty()) {
        if said.contains(&&figure.note) {
            continue;
        }
        said.push(&figure.note);
        let _ = writeln!(out, "  {}: {}", figure.name, figure.note);
    }
    out
}

/// All figures as one object.
pub(super) fn json(figures: &[Figure]) -> Value {
    json!({ "machine": machine(), "figures": figures.iter().map(Figure::json).collect::<Vec<_>>() })
}

/// What was measured on, and what else it was doing.
pub(super) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "{}, {cores} cores, {} {}, load {}",
        model.trim_start_matches([' ', '\t', ':']),
        std::env::consts::OS,
        kernel.trim(),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_by_what_they_are_about() {
        let figure = Figure::new("f", "ns", 150.0, ("b", 100.0));
        let met = |goal| figure.clone().goal(goal).is_met();
        assert_eq!(figure.is_met(), None);
        assert_eq!(met(Goal::RatioAtMost(1.5)), Some(true));
        assert_eq!(met(Goal::RatioAtLeast(1.6)), Some(false));
        assert_eq!(met(Goal::MoreByAtMost(49.0)), Some(false));
        assert_eq!(met(Goal::AtLeast(150.0)), Some(true));
        assert_eq!(met(Goal::AtMost(149.0)), Some(false));
        assert_eq!(Figure::unavailable("f", "x".into()).goal(Goal::RatioAtMost(1.0)).is_met(), None);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(significant(1.234), "1.23");
        assert_eq!(significant(12.34), "12.3");
        assert_eq!(significant(1_234_567.8), "1,234,568");
        assert_eq!(significant(-123.0), "-123");
    }
}
