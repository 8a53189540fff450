//! What a run may use up: one table of all limits, by the names that an operator types.
//!
//! A limit that a guest can notice is in the header of the run, since a replay must stop where the
//! run did. Ledgers of before a limit existed do not name it, and replay with what held then:
//! [`Rule::before`]. Limits of the operator's own time and machine are not recorded: what ends
//! by them is an end from outside, which a replay takes from the record.

use vac_core::canon::Node;
use vac_core::fault::{Result, Usage};
use vac_core::limits::HANDLES_MAX;
use vac_core::memory::policy::PolicyKind;
use vac_host::limits as host;

/// Something that is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "`RULES` says what each one is")]
pub enum Limit {
    Ticks,
    Memory,
    Time,
    Tables,
    Handles,
    Resources,
    Files,
    Depth,
    Calls,
    Input,
    Output,
    Transfer,
    Result,
    Module,
    CompileTime,
    CompileMemory,
    Pages,
    DirtyPages,
    Frames,
    MemoryIo,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Nanoseconds of the operator's time.
    Time,
}

/// Everything about one limit.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Which one.
    pub limit: Limit,
    /// What an operator types.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// If the operator says nothing; `None` is no limit.
    pub default: Option<u64>,
    /// In a run whose header does not name it.
    pub before: Option<u64>,
    /// The least and the most that can be asked for. Without the most, `none` can be, too.
    pub range: (u64, Option<u64>),
    /// Whether it is in the header of a run.
    pub is_recorded: bool,
    /// What it limits.
    pub words: &'static str,
}

/// Pages in memory of commands that ask for nothing else, in bytes.
pub(crate) const FRAMES_BYTES: u64 = 64 << 20;
const GIB: u64 = 1 << 30;
const S: u64 = 1_000_000_000;

const fn rule(limit: Limit, name: &'static str, unit: Unit, default: u64, words: &'static str) -> Rule {
    let default = Some(default);
    Rule { limit, name, unit, default, before: None, range: (0, None), is_recorded: true, words }
}

impl Rule {
    const fn before(mut self, before: u64) -> Self {
        self.before = Some(before);
        self
    }
    const fn range(mut self, least: u64, most: u64) -> Self {
        self.range = (least, Some(most));
        self
    }
    const fn operators(mut self) -> Self {
        self.is_recorded = false;
        self
    }
    const fn off(mut self) -> Self {
        self.default = None;
        self
    }
}

/// Every limit, in the order of [`Limit`].
pub const RULES: &[Rule] = &[
    rule(Limit::Ticks, "ticks", Unit::Count, 0, "ticks of all kernels of the run").off(),
    rule(
        Limit::Memory,
        "memory",
        Unit::Bytes,
        host::MEMORY_DEFAULT_BYTES,
        "linear memory of all kernels at a time",
    )
    .before(host::MEMORY_DEFAULT_BYTES),
    rule(Limit::Time, "time", Unit::Time, 0, "wall time of the run").off().operators(),
    rule(
        Limit::Tables,
        "tables",
        Unit::Count,
        host::TABLE_ELEMENTS_MAX,
        "table elements of all kernels at a time",
    )
    .before(host::TABLE_ELEMENTS_MAX),
    rule(Limit::Handles, "handles", Unit::Count, HANDLES_MAX as u64, "handles of the host at a time")
        .before(HANDLES_MAX as u64)
        .range(1, HANDLES_MAX as u64),
    rule(
        Limit::Resources,
        "resources",
        Unit::Count,
        host::RESOURCES_MAX as u64,
        "handles at a time, a kernel's own with them",
    )
    .before(host::RESOURCES_MAX as u64)
    .range(1, 1 << 28),
    rule(Limit::Files, "files", Unit::Count, 512, "open files and directories at a time"),
    rule(Limit::Depth, "depth", Unit::Bytes, host::WASM_STACK_BYTES as u64, "stack for calls in a kernel")
        .before(host::WASM_STACK_BYTES as u64)
        .range(host::WASM_STACK_MIN_BYTES as u64, host::WASM_STACK_MAX_BYTES as u64),
    rule(Limit::Calls, "calls", Unit::Count, 1_000_000_000, "calls through the wall"),
    rule(Limit::Input, "input", Unit::Bytes, 64 * GIB, "bytes that kernels read"),
    rule(Limit::Output, "output", Unit::Bytes, 16 * GIB, "bytes that kernels write"),
    rule(
        Limit::Transfer,
        "transfer",
        Unit::Bytes,
        host::HOSTCALL_MAX_BYTES as u64,
        "text and lists in one call",
    )
    .before(host::HOSTCALL_MAX_BYTES as u64)
    .range(1 << 10, 4 * GIB),
    rule(Limit::Result, "result", Unit::Bytes, 64 << 20, "what one call of a kernel gives back"),
    rule(Limit::Module, "module", Unit::Bytes, host::MODULE_DEFAULT_BYTES, "size of a program")
        .before(host::MODULE_DEFAULT_BYTES)
        .range(0, host::MODULE_MAX_BYTES),
    rule(Limit::CompileTime, "compile-time", Unit::Time, 600 * S, "wall time of compiling one program")
        .operators(),
    rule(Limit::CompileMemory, "compile-memory", Unit::Bytes, 4 * GIB, "memory of compiling one program")
        .range(64 << 20, 1 << 40)
        .operators(),
    rule(Limit::Pages, "pages", Unit::Count, host::PAGES_DEFAULT, "pages mapped in each granted memory")
        .before(host::PAGES_DEFAULT),
    rule(
        Limit::DirtyPages,
        "dirty-pages",
        Unit::Count,
        0,
        "pages of each granted memory that were written and not committed",
    )
    .off(),
    rule(
        Limit::Frames,
        "frames",
        Unit::Bytes,
        FRAMES_BYTES,
        "pages of each granted memory that are in memory",
    )
    .range(1 << 20, 1 << 40)
    .operators(),
    rule(
        Limit::MemoryIo,
        "memory-io",
        Unit::Bytes,
        0,
        "bytes between the pages of each granted memory and the store",
    )
    .off()
    .operators(),
];

impl Limit {
    /// All about it.
    pub fn rule(self) -> &'static Rule {
        // The order of the table is that of the enum; a test checks it.
        RULES.get(self as usize).unwrap_or(&RULES[0])
    }

    /// The limit that an operator calls `name`.
    pub fn named(name: &str) -> Option<Self> {
        RULES.iter().find(|rule| rule.name == name).map(|rule| rule.limit)
    }
}

/// The limits of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// In the order of [`RULES`].
    values: Vec<Option<u64>>,
    /// Which page of a granted memory leaves, when there are more than `frames` allows.
    pub policy: PolicyKind,
}

impl Default for Limits {
    fn default() -> Self {
        Self { values: RULES.iter().map(|rule| rule.default).collect(), policy: PolicyKind::default() }
    }
}

impl Limits {
    /// What is allowed of `limit`; `None` is no limit.
    pub fn get(&self, limit: Limit) -> Option<u64> {
        self.values.get(limit as usize).copied().flatten()
    }

    /// What is allowed of `limit`, as a number.
    pub fn max(&self, limit: Limit) -> u64 {
        self.get(limit).unwrap_or(u64::MAX)
    }

    /// What is allowed of `limit`, as a size in memory.
    pub fn max_usize(&self, limit: Limit) -> usize {
        usize::try_from(self.max(limit)).unwrap_or(usize::MAX)
    }

    /// Allows `value` of `limit`, if it can be.
    pub fn set(&mut self, limit: Limit, value: Option<u64>) -> Result<()> {
        let Rule { name, range: (least, most), .. } = limit.rule();
        let is_possible = match (value, most) {
            (None, most) => most.is_none(),
            (Some(value), most) => value >= *least && most.is_none_or(|most| value <= most),
        };
        if !is_possible {
            let asked = value.map_or_else(|| "none".to_owned(), |value| value.to_string());
            let most = most.map_or_else(String::new, |most| format!(" and at most {most}"));
            let message = format!("the limit `{name}` cannot be {asked}: expected at least {least}{most}");
            return Err(Usage::new(message).into());
        }
        self.put(limit, value);
        Ok(())
    }

    fn put(&mut self, limit: Limit, value: Option<u64>) {
        if let Some(slot) = self.values.get_mut(limit as usize) {
            *slot = value;
        }
    }

    /// The limits that are in the header under their own names: all that a replay must know, but
    /// for ticks and memory, which have fields from before there was this list. Those that came later are left out where
    /// they are what a header without them means, so that such a run has the header it always had.
    pub fn to_node(&self) -> Node {
        let is_said = |rule: &&Rule| {
            !matches!(rule.limit, Limit::Pages | Limit::DirtyPages) || self.get(rule.limit) != rule.before
        };
        let mut fields: Vec<_> = listed()
            .filter(is_said)
            .map(|rule| (rule.name.to_owned(), number(self.get(rule.limit))))
            .collect();
        fields.sort_by(|a, b| (a.0.len(), &a.0).cmp(&(b.0.len(), &b.0)));
        Node::Map(fields)
    }

    /// The limits of a recorded run. `None` if what the header has are none.
    pub fn from_nodes(ticks: &Node, memory: &Node, listed_there: Option<&Node>) -> Option<Self> {
        let mut limits = Self::default();
        limits.put(Limit::Ticks, recorded(ticks)?);
        limits.put(Limit::Memory, recorded(memory)?);
        let fields: &[(String, Node)] = match listed_there {
            None => &[],
            Some(Node::Map(fields)) => fields,
            Some(_) => return None,
        };
        for rule in listed() {
            let value = match fields.iter().find(|(name, _)| name == rule.name) {
                Some((_, node)) => recorded(node)?,
                None => rule.before,
            };
            limits.set(rule.limit, value).ok()?;
        }
        Some(limits)
    }
}

fn listed() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().filter(|rule| rule.is_recorded && !matches!(rule.limit, Limit::Ticks | Limit::Memory))
}

fn number(value: Option<u64>) -> Node {
    value.map_or(Node::Null, |value| Node::Int(i128::from(value)))
}

#[expect(clippy::option_option, reason = "outside: whether it is a limit; inside: whether there is one")]
fn recorded(node: &Node) -> Option<Option<u64>> {
    match node {
        Node::Null => Some(None),
        Node::Int(value) => u64::try_from(*value).ok().map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum_and_its_defaults_are_possible() {
        for (i, rule) in RULES.iter().enumerate() {
            assert_eq!(rule.limit as usize, i, "{}", rule.name);
            assert_eq!(Limit::named(rule.name), Some(rule.limit));
            let mut limits = Limits::default();
            limits.set(rule.limit, rule.default).unwrap();
            if rule.is_recorded {
                limits.set(rule.limit, rule.before).unwrap();
            }
        }
        assert_eq!(Limits::default().values.len(), RULES.len());
    }

    #[test]
    fn a_header_gives_back_its_limits_and_an_old_one_those_of_its_time() {
        let mut limits = Limits::default();
        limits.set(Limit::Calls, Some(7)).unwrap();
        limits.set(Limit::Ticks, Some(9)).unwrap();
        let (ticks, memory) = (Node::Int(9), number(limits.get(Limit::Memory)));
        assert_eq!(Limits::from_nodes(&ticks, &memory, Some(&limits.to_node())), Some(limits));
        let old = Limits::from_nodes(&Node::Null, &memory, None).unwrap();
        assert_eq!((old.get(Limit::Calls), old.get(Limit::Handles)), (None, Some(4096)));
        assert_eq!(Limits::from_nodes(&Node::Null, &memory, Some(&Node::Int(1))), None);
        let bad = Node::Map(vec![("handles".into(), Node::Int(5000))]);
        assert_eq!(Limits::from_nodes(&Node::Null, &memory, Some(&bad)), None);
    }
}
