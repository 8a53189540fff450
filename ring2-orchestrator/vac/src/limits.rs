//! Limits as an operator types them: `--limit NAME=VALUE`, and the shortcuts.

use std::time::Duration;

use vac_core::memory::policy::PolicyKind;
use vac_engine::grants_file::GrantsFile;
use vac_engine::limits::{RULES, Rule, Unit};
use vac_engine::{Limit, Limits};

use crate::cli::{Patience, Within};

/// One `--limit`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    limit: Limit,
    value: Option<u64>,
}

/// Reads `NAME=VALUE`.
pub(crate) fn parse(text: &str) -> Result<Asked, String> {
    let names = || RULES.iter().map(|rule| rule.name).collect::<Vec<_>>().join(", ");
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, NAME one of {}", names()))?;
    let limit = Limit::named(name).ok_or_else(|| format!("expected one of {} before `=`", names()))?;
    let value = match value {
        "none" => None,
        value => Some(amount(limit.rule(), value)?),
    };
    // The range is looked at now, while the option that is wrong can still be named.
    Limits::default().set(limit, value).map_err(|e| e.to_string())?;
    Ok(Asked { limit, value })
}

fn amount(rule: &Rule, text: &str) -> Result<u64, String> {
    match rule.unit {
        Unit::Count => text.replace('_', "").parse().map_err(|_| "expected a number like 1000".to_owned()),
        Unit::Bytes => size(text),
        Unit::Time => duration(text).map(in_ns),
    }
}

pub(crate) fn size(text: &str) -> Result<u64, String> {
    let expected = "expected a size like 512MiB or 4GiB";
    text.parse::<bytesize::ByteSize>().map(|size| size.as_u64()).map_err(|_| expected.to_owned())
}

/// Bytes of a page of a memory.
pub(crate) fn page(text: &str) -> Result<usize, String> {
    use vac_core::limits::{MEMORY_PAGE_MAX_BYTES as MAX, MEMORY_PAGE_MIN_BYTES as MIN};
    let fits = |len: &usize| len.is_power_of_two() && (MIN..=MAX).contains(len);
    let len = size(text).ok().and_then(|len| usize::try_from(len).ok()).filter(fits);
    let (least, most) = (MIN >> 10, MAX >> 10);
    len.ok_or_else(|| format!("expected a power of two from {least} KiB to {most} KiB, like 4096 or 64KiB"))
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; expected a duration like 500ms, 30s or 2m"))
}

pub(crate) fn policy(text: &str) -> Result<PolicyKind, String> {
    let names = || PolicyKind::ALL.map(PolicyKind::name).join(", ");
    PolicyKind::by_name(text).ok_or_else(|| format!("expected one of {}", names()))
}

fn in_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The limits that were asked for: of those that name the same, the last, a shortcut before all, and what is typed
/// before what a file says.
pub(crate) fn of(within: &Within, file: &GrantsFile) -> vac_core::fault::Result<Limits> {
    let mut limits = Limits::default();
    let of_file =
        [(Limit::Ticks, file.ticks), (Limit::Memory, file.memory_bytes), (Limit::Time, file.time.map(in_ns))];
    for (limit, value) in of_file.into_iter().filter(|(_, value)| value.is_some()) {
        limits.set(limit, value)?;
    }
    for asked in &within.limits {
        limits.set(asked.limit, asked.value)?;
    }
    limits.policy = within.memory_policy.unwrap_or_default();
    if within.ticks.is_some() {
        limits.set(Limit::Ticks, within.ticks)?;
    }
    if within.memory.is_some() {
        limits.set(Limit::Memory, within.memory)?;
    }
    if let Some(time) = within.time {
        limits.set(Limit::Time, Some(in_ns(time)))?;
    }
    Ok(limits)
}

/// The operator's own limits. The others are those of the record, or of nothing that runs.
pub(crate) fn of_patience(patience: &Patience) -> vac_core::fault::Result<Limits> {
    let mut limits = Limits::default();
    for asked in &patience.limits {
        let rule = asked.limit.rule();
        if rule.is_recorded && rule.limit != Limit::Module {
            let message =
                format!("the limit `{}` is a run's, and this command starts none of its own", rule.name);
            return Err(vac_core::fault::Usage::new(message).into());
        }
        limits.set(asked.limit, asked.value)?;
    }
    Ok(limits)
}

/// The limits with their defaults, for the end of a help text.
pub(crate) fn table() -> String {
    let line = |rule: &Rule| format!("  {:<15} {:<9} {}\n", rule.name, default(rule), rule.words);
    let lines: String = RULES.iter().map(line).collect();
    format!("Limits, as `--limit NAME=VALUE`, each with its default:\n{lines}")
}

fn default(rule: &Rule) -> String {
    match (rule.default, rule.unit) {
        (None, _) => "none".into(),
        (Some(value), Unit::Count) => value.to_string(),
        (Some(value), Unit::Bytes) => {
            bytesize::ByteSize(value).display().iec().to_string().replace(".0", "").replace(' ', "")
        }
        (Some(value), Unit::Time) => humantime::format_duration(Duration::from_nanos(value)).to_string(),
    }
}
