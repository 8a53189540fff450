//! The host as somebody meets it who runs programs of others: warm starts, files, recording, instances.

pub(super) mod files;
mod guests;
pub(super) mod instances;
pub(super) mod warm_start;
