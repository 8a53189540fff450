//! The host as somebody meets it who runs programs of others: warm starts, files, recording, instances.

mod files;
mod guests;
mod instances;
mod warm_start;

use super::Result;
use super::figure::Figure;

/// All of them; one that cannot be measured here is reported as such, and the others go on.
pub(super) fn run() -> Result<Vec<Figure>> {
    let groups: [(&str, fn() -> Result<Vec<Figure>>); 4] = [
        ("warm start of CPython", warm_start::run),
        ("file read", files::read_whole),
        ("recording", files::recording),
        ("instances", instances::run),
    ];
    let measured = groups.map(|(name, run)| run().unwrap_or_else(|why| vec![Figure::unavailable(name, why)]));
    Ok(measured.into_iter().flatten().collect())
}
