//! The file of weekly measurements.
//!
//! ```text
//!   # any number of comment lines, only before the header
//!   date,co2_ppm
//!   1958-03-29,316.1        one to six decimals, 1 to 9999 ppm
//!   1958-05-10,             no measurement in this week
//! ```
//!
//! UTF-8, lines end in LF, dates are real (Gregorian) and increasing, at least one line has a value.
//! Nothing else is accepted: a file that is nearly right is a file that was damaged.

use sdk::{calendar, quote::quote, scaled};

/// Longest file, in bytes: some 500 000 weeks.
const FILE_MAX: usize = 8 << 20;
/// The only header.
const HEADER: &str = "date,co2_ppm";
/// Smallest and largest concentration, in micro-ppm. Outside is a marker such as `-99.9`, or another unit.
const RANGE_UPPM: std::ops::RangeInclusive<i64> = 1_000_000..=9_999_000_000;

/// A day, ordered as in the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date {
    pub(crate) year: i32,
    pub(crate) month: u8,
    pub(crate) day: u8,
}

/// One line that has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Week {
    pub(crate) date: Date,
    pub(crate) co2_uppm: i64,
}

/// All weeks that have a value, in order.
///
/// # Errors
///
/// What was expected in which line, and what was there.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Week>, String> {
    if bytes.len() > FILE_MAX {
        return Err(format!("expected at most {FILE_MAX} bytes, got {}", bytes.len()));
    }
    let mut lines = lines(bytes).skip_while(|(_, line)| line.starts_with(b"#"));
    match lines.next() {
        Some((_, line)) if line == HEADER.as_bytes() => {}
        Some((number, line)) => {
            return Err(expected(number, &format!("the header `{HEADER}`"), &lossy(line)));
        }
        None => return Err(format!("expected the header `{HEADER}`, got the end of the file")),
    }
    rows(lines)
}

/// Lines with their numbers, from 1. The LF that ends the last line does not begin another one.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = (!bytes.is_empty()).then(|| body.split(|&b| b == b'\n'));
    (1..).zip(lines.into_iter().flatten())
}

fn rows<'a>(lines: impl Iterator<Item = (usize, &'a [u8])>) -> Result<Vec<Week>, String> {
    let mut weeks = Vec::new();
    let mut last: Option<Date> = None;
    for (number, line) in lines {
        let (date, value) = row(number, line)?;
        if let Some(last) = last.filter(|last| *last >= date) {
            return Err(expected(number, &format!("a date after {}", iso(last)), &iso(date)));
        }
        last = Some(date);
        weeks.extend(value.map(|co2_uppm| Week { date, co2_uppm }));
    }
    if weeks.is_empty() { Err("expected at least one measurement, got none".to_owned()) } else { Ok(weeks) }
}

fn row(number: usize, line: &[u8]) -> Result<(Date, Option<i64>), String> {
    let text = str::from_utf8(line).map_err(|_| expected(number, "UTF-8", &lossy(line)))?;
    let fields = text.split_once(',').filter(|(_, value)| !value.contains(','));
    let (date, value) =
        fields.ok_or_else(|| expected(number, "two fields as in `1958-03-29,316.1`", text))?;
    let date = parse_date(date).ok_or_else(|| expected(number, "a date like 1958-03-29", date))?;
    Ok((date, parse_value(number, value)?))
}

/// `YYYY-MM-DD`, ten ASCII characters, a day that exists.
fn parse_date(text: &str) -> Option<Date> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() else { return None };
    let digits = |digits: &[u8]| {
        digits.iter().try_fold(0, |n: i32, b| b.is_ascii_digit().then(|| n * 10 + i32::from(b - b'0')))
    };
    let year = digits(&[y1, y2, y3, y4])?;
    let month = u8::try_from(digits(&[m1, m2])?).ok()?;
    let day = u8::try_from(digits(&[d1, d2])?).ok()?;
    let real = calendar::YEARS.contains(&year) && (1..=calendar::days_in_month(year, month)).contains(&day);
    real.then_some(Date { year, month, day })
}

/// Micro-ppm, or `None` for an empty field.
fn parse_value(number: usize, text: &str) -> Result<Option<i64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let value = scaled::parse(text, 6).filter(|value| RANGE_UPPM.contains(value));
    value.map(Some).ok_or_else(|| expected(number, "1 to 9999 ppm, like 316.1, or nothing", text))
}

fn iso(date: Date) -> String {
    format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
}

fn lossy(line: &[u8]) -> String {
    // A quotation needs the first characters only; the line may be megabytes long.
    String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned()
}

fn expected(number: usize, what: &str, got: &str) -> String {
    format!("line {number}: expected {what}, got `{}`", quote(got))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of the example, whole.
    const WEEKLY: &[u8] = include_bytes!("../../../examples/keeling/data/weekly.csv");

    fn error(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn the_record_is_read_whole() {
        let weeks = parse(WEEKLY).unwrap();
        let (first, last) = (weeks[0], weeks[weeks.len() - 1]);
        // 2284 lines, 59 of them without a value: counted by the package that the data come from.
        assert_eq!(weeks.len(), 2225);
        assert_eq!(first, Week { date: Date { year: 1958, month: 3, day: 29 }, co2_uppm: 316_100_000 });
        assert_eq!(last, Week { date: Date { year: 2001, month: 12, day: 29 }, co2_uppm: 371_500_000 });
    }

    #[test]
    fn the_last_line_may_end_in_a_line_feed_or_not() {
        for end in ["", "\n"] {
            assert_eq!(parse(format!("# c\n{HEADER}\n2000-02-29,370{end}").as_bytes()).unwrap().len(), 1);
        }
    }

    #[test]
    fn a_bad_line_is_named_with_what_was_expected() {
        let cases = [
            ("x,1", "a date like 1958-03-29, got `x`"),
            ("1999-02-29,1", "a date like 1958-03-29, got `1999-02-29`"),
            ("0000-01-01,1", "a date like 1958-03-29, got `0000-01-01`"),
            ("1999-1-01,1", "a date like 1958-03-29, got `1999-1-01`"),
            ("1999-01-01", "two fields as in `1958-03-29,316.1`, got `1999-01-01`"),
            ("1999-01-01,1,2", "two fields as in `1958-03-29,316.1`, got `1999-01-01,1,2`"),
            ("1999-01-01,-99.9", "1 to 9999 ppm, like 316.1, or nothing, got `-99.9`"),
            ("1999-01-01,NaN", "1 to 9999 ppm, like 316.1, or nothing, got `NaN`"),
            ("1999-01-01,316.1\r", "1 to 9999 ppm, like 316.1, or nothing, got `316.1\\r`"),
            ("# late comment", "two fields as in `1958-03-29,316.1`, got `# late comment`"),
            ("", "two fields as in `1958-03-29,316.1`, got ``"),
        ];
        for (line, want) in cases {
            let text = format!("# c\n{HEADER}\n1998-01-03,364.2\n{line}\n");
            assert_eq!(error(&text), format!("line 4: expected {want}"));
        }
    }

    #[test]
    fn dates_must_increase() {
        let text = format!("{HEADER}\n1999-01-09,\n1999-01-02,368.1\n");
        assert_eq!(error(&text), "line 3: expected a date after 1999-01-09, got `1999-01-02`");
        let text = format!("{HEADER}\n1999-01-09,368.0\n1999-01-09,368.1\n");
        assert_eq!(error(&text), "line 3: expected a date after 1999-01-09, got `1999-01-09`");
    }

    #[test]
    fn files_without_data_are_refused() {
        assert_eq!(error(""), "expected the header `date,co2_ppm`, got the end of the file");
        assert_eq!(
            error("# only\n# comments\n"),
            "expected the header `date,co2_ppm`, got the end of the file"
        );
        assert_eq!(error("date,ch4_ppb\n"), "line 1: expected the header `date,co2_ppm`, got `date,ch4_ppb`");
        assert_eq!(error("date,co2_ppm\n1999-01-02,\n"), "expected at least one measurement, got none");
        assert_eq!(parse(b"date,co2_ppm\n\xff\n").unwrap_err(), "line 2: expected UTF-8, got `\u{fffd}`");
        assert!(parse(&vec![b'x'; FILE_MAX + 1]).unwrap_err().starts_with("expected at most 8388608 bytes"));
    }

    #[test]
    fn every_damaged_byte_is_an_error_or_another_reading_and_never_a_panic() {
        let text = format!("# c\n{HEADER}\n1998-01-03,364.2\n1998-01-10,364.5\n");
        for at in 0..text.len() {
            for byte in [0, b'\n', b',', b'9', 0xff] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = byte;
                let _ = parse(&bytes);
            }
        }
    }
}
