//! WASI 0.1 calls, written down in a line each, and the modules that make them.
//!
//! ```text
//! f: path_open 3 "a/b" creat excl fd_read fd_write  => ok|exist
//! s: fd_filestat_get $f                             => ok size=4 type=regular_file
//! path_filestat_set_times 3 "a" 0 $s.mtim-100 mtim  => ok
//! ```
//!
//! A line is: a name for the result if it is used later, a function, its operands in order, words
//! for its flags in any order, and what must come of it: error numbers of which one must be met,
//! then fields of the result. The module makes all calls, whatever came of the earlier ones, and
//! writes what came of them as bytes to its standard output at its end; nothing in it decides.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Each function with its parameters in the order of WASI 0.1.
///
/// `fd`, `u32`, `u64`, `path`, `bytes` (written), `into` (read), `buf` (a place to fill) and `subs`
/// (subscriptions) are operands; `f:TABLE` are flags of a table below, `f64:TABLE` wide ones; a
/// parameter with `=` is a place for a result.
const FUNCTIONS: &[(&str, &str)] = &[
    ("args_sizes_get", "=n =size"),
    ("args_get", "=pointers raw"),
    ("environ_sizes_get", "=n =size"),
    ("environ_get", "=pointers raw"),
    ("clock_res_get", "u32 =time"),
    ("clock_time_get", "u32 u64 =time"),
    ("fd_advise", "fd u64 u64 u32"),
    ("fd_allocate", "fd u64 u64"),
    ("fd_close", "fd"),
    ("fd_datasync", "fd"),
    ("fd_fdstat_get", "fd =fdstat"),
    ("fd_fdstat_set_flags", "fd f:fdflags"),
    ("fd_fdstat_set_rights", "fd f64:rights f64:inherit"),
    ("fd_filestat_get", "fd =filestat"),
    ("fd_filestat_set_size", "fd u64"),
    ("fd_filestat_set_times", "fd u64 u64 f:fstflags"),
    ("fd_pread", "fd into u64 =n"),
    ("fd_prestat_get", "fd =prestat"),
    ("fd_prestat_dir_name", "fd buf"),
    ("fd_pwrite", "fd bytes u64 =n"),
    ("fd_read", "fd into =n"),
    ("fd_readdir", "fd buf u64 =n"),
    ("fd_renumber", "fd fd"),
    ("fd_seek", "fd u64 f:whence =offset"),
    ("fd_sync", "fd"),
    ("fd_tell", "fd =offset"),
    ("fd_write", "fd bytes =n"),
    ("path_create_directory", "fd path"),
    ("path_filestat_get", "fd f:lookup path =filestat"),
    ("path_filestat_set_times", "fd f:lookup path u64 u64 f:fstflags"),
    ("path_link", "fd f:lookup path fd path"),
    ("path_open", "fd f:lookup path f:oflags f64:rights f64:inherit f:fdflags =fd"),
    ("path_readlink", "fd path buf =n"),
    ("path_remove_directory", "fd path"),
    ("path_rename", "fd path fd path"),
    ("path_symlink", "path fd path"),
    ("path_unlink_file", "fd path"),
    ("poll_oneoff", "subs =n"),
    ("proc_raise", "u32"),
    ("random_get", "buf"),
    ("sched_yield", ""),
    ("sock_accept", "fd f:fdflags =fd"),
    ("sock_recv", "fd into u32 =n =flags"),
    ("sock_send", "fd bytes u32 =n"),
    ("sock_shutdown", "fd u32"),
    // Not of WASI: counts the entries of a directory through a buffer of so many bytes.
    ("count_entries", "fd u32 =n"),
];

/// Flags, the first lowest.
const FLAGS: &[(&str, &[&str])] = &[
    ("lookup", &["follow"]),
    ("oflags", &["creat", "directory", "excl", "trunc"]),
    ("fdflags", &["append", "dsync", "nonblock", "rsync", "sync"]),
    ("fstflags", &["atim", "atim_now", "mtim", "mtim_now"]),
    ("rights", RIGHTS),
    ("inherit", RIGHTS),
];

const RIGHTS: &[&str] = &[
    "fd_datasync",
    "fd_read",
    "fd_seek",
    "fd_fdstat_set_flags",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "fd_advise",
    "fd_allocate",
    "path_create_directory",
    "path_create_file",
    "path_link_source",
    "path_link_target",
    "path_open",
    "fd_readdir",
    "path_readlink",
    "path_rename_source",
    "path_rename_target",
    "path_filestat_get",
    "path_filestat_set_size",
    "path_filestat_set_times",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "path_symlink",
    "path_remove_directory",
    "path_unlink_file",
    "poll_fd_readwrite",
    "sock_shutdown",
    "sock_accept",
];

const TYPES: &[&str] = &[
    "unknown",
    "block_device",
    "character_device",
    "directory",
    "regular_file",
    "socket_dgram",
    "socket_stream",
    "symbolic_link",
];

const ERRNOS: &str = "ok 2big acces addrinuse addrnotavail afnosupport again already badf badmsg busy canceled \
    child connaborted connrefused connreset deadlk destaddrreq dom dquot exist fault fbig hostunreach idrm ilseq \
    inprogress intr inval io isconn isdir loop mfile mlink msgsize multihop nametoolong netdown netreset \
    netunreach nfile nobufs nodev noent noexec nolck nolink nomem nomsg noprotoopt nospc nosys notconn notdir \
    notempty notrecoverable notsock notsup notty nxio overflow ownerdead perm pipe proto protonosupport \
    prototype range rofs spipe srch stale timedout txtbsy xdev notcapable";

/// The name of an error number.
fn errno(number: u32) -> String {
    ERRNOS.split_whitespace().nth(number as usize).map_or_else(|| number.to_string(), str::to_owned)
}

/// Where results of the kinds with `=` have their fields: name, offset, bytes.
fn fields(kind: &str) -> (&'static [(&'static str, usize, usize)], usize) {
    match kind {
        "n" => (&[("n", 0, 4)], 8),
        "size" => (&[("size", 0, 4)], 8),
        "fd" => (&[("fd", 0, 4)], 8),
        "flags" => (&[("flags", 0, 2)], 8),
        "time" => (&[("time", 0, 8)], 8),
        "offset" => (&[("offset", 0, 8)], 8),
        "prestat" => (&[("tag", 0, 1), ("len", 4, 4)], 8),
        "fdstat" => (&[("type", 0, 1), ("flags", 2, 2), ("base", 8, 8), ("inherit", 16, 8)], 24),
        "filestat" => (
            &[
                ("dev", 0, 8),
                ("ino", 8, 8),
                ("type", 16, 1),
                ("nlink", 24, 8),
                ("size", 32, 8),
                ("atim", 40, 8),
                ("mtim", 48, 8),
                ("ctim", 56, 8),
            ],
            64,
        ),
        "pointers" => (&[], 64),
        other => panic!("no such kind of result: {other}"),
    }
}

/// Where texts stand in the module's memory, and where results do.
const TEXTS_AT: usize = 1024;
const RESULTS_AT: usize = 1 << 17;

/// One line of a case.
#[derive(Debug)]
struct Call {
    line: String,
    function: &'static str,
    /// Where the error number is, and after it the results.
    at: usize,
    /// Of the results: field, address, bytes.
    fields: Vec<(&'static str, usize, usize)>,
    /// A place that the call fills.
    buffer: Option<(usize, usize)>,
    errnos: Vec<String>,
    checks: Vec<String>,
}

/// A list of calls, and the module that makes them.
#[derive(Default)]
pub(crate) struct Calls {
    calls: Vec<Call>,
    names: BTreeMap<String, usize>,
    texts: Vec<u8>,
    results: usize,
    code: String,
    report: String,
    exit: Option<u32>,
}

impl Calls {
    /// Adds a line.
    pub(crate) fn add(&mut self, line: &str) {
        let (left, right) = line.split_once("=>").unwrap_or((line, "ok"));
        let mut words = words(left);
        match words.first().map(String::as_str) {
            Some("report") => return self.report = self.number(&words[1], false),
            Some("exit") => return self.exit = Some(words[1].parse().unwrap()),
            _ => {}
        }
        let name = words[0].strip_suffix(':').map(str::to_owned);
        if name.is_some() {
            words.remove(0);
        }
        let function = FUNCTIONS.iter().find(|(name, _)| *name == words[0]);
        let (function, parameters) = function.unwrap_or_else(|| panic!("no such function: {line}"));
        let mut call = Call {
            line: line.to_owned(),
            function,
            at: self.place(8),
            fields: Vec::new(),
            buffer: None,
            errnos: Vec::new(),
            checks: self::words(right),
        };
        call.errnos = call.checks.remove(0).split('|').map(str::to_owned).collect();
        let operands = self.operands(&mut call, parameters, words.split_off(1));
        let _ = writeln!(self.code, "(i32.store (i32.const {}) (call ${function} {operands}))", call.at);
        if let Some(name) = name {
            self.names.insert(name, self.calls.len());
        }
        self.calls.push(call);
    }

    /// A place for results.
    fn place(&mut self, len: usize) -> usize {
        let at = RESULTS_AT + self.results;
        self.results += len.next_multiple_of(8);
        at
    }

    /// The address of some bytes.
    fn text(&mut self, bytes: &[u8]) -> usize {
        self.texts.resize(self.texts.len().next_multiple_of(4), 0);
        let at = TEXTS_AT + self.texts.len();
        self.texts.extend_from_slice(bytes);
        assert!(TEXTS_AT + self.texts.len() < RESULTS_AT);
        at
    }

    fn operands(&mut self, call: &mut Call, parameters: &str, mut words: Vec<String>) -> String {
        let mut code = String::new();
        let flags = take_flags(parameters, &mut words);
        let mut flags = flags.iter();
        words.reverse();
        for parameter in parameters.split_whitespace() {
            let mut word = || words.pop().unwrap_or_else(|| panic!("an operand is missing: {}", call.line));
            let operand = match parameter {
                "fd" | "u32" => self.number(&word(), false),
                "u64" => self.number(&word(), true),
                "path" => pair(self.string(&word())),
                "bytes" => {
                    let text = self.string(&word());
                    pair((self.slices(&[text]), 1))
                }
                "into" => {
                    let slot = self.buffer(&mut call.buffer, &word());
                    pair((self.slices(&[slot]), 1))
                }
                "raw" => const_i32(self.buffer(&mut call.buffer, &word()).0),
                "buf" => pair(self.buffer(&mut call.buffer, &word())),
                "subs" => self.subscriptions(&mut call.buffer, words.drain(..).rev()),
                _ if parameter.starts_with("f:") => format!("(i32.const {})", flags.next().unwrap()),
                _ if parameter.starts_with("f64:") => format!("(i64.const {})", flags.next().unwrap()),
                result => const_i32(self.result(&mut call.fields, &result[1..])),
            };
            code.push_str(&operand);
        }
        assert!(words.is_empty(), "too many operands: {}", call.line);
        code
    }

    /// A number, or `$name`, `$name.field`, `$name.field-N`.
    fn number(&self, word: &str, is_wide: bool) -> String {
        let ty = if is_wide { "i64" } else { "i32" };
        let Some(name) = word.strip_prefix('$') else {
            let number: i64 = word.parse().unwrap_or_else(|_| panic!("not a number: {word}"));
            return format!("({ty}.const {number})");
        };
        let (name, minus) = name.split_once('-').unwrap_or((name, "0"));
        let (name, field) = name.split_once('.').unwrap_or((name, "fd"));
        let call = &self.calls[*self.names.get(name).unwrap_or_else(|| panic!("no such name: {word}"))];
        let (_, at, _) = call.fields.iter().find(|(name, ..)| *name == field).unwrap();
        format!("({ty}.sub ({ty}.load (i32.const {at})) ({ty}.const {minus}))")
    }

    /// A quoted text, as its address and length.
    fn string(&mut self, word: &str) -> (usize, usize) {
        let bytes = unquote(word);
        (self.text(&bytes), bytes.len())
    }

    /// A place of the call's own to fill.
    fn buffer(&mut self, buffer: &mut Option<(usize, usize)>, len: &str) -> (usize, usize) {
        let len = len.parse().unwrap();
        *buffer.insert((self.place(len), len))
    }

    /// A list of addresses and lengths.
    fn slices(&mut self, slices: &[(usize, usize)]) -> usize {
        let bytes: Vec<u8> =
            slices.iter().flat_map(|&(at, len)| [at as u32, len as u32]).flat_map(u32::to_le_bytes).collect();
        self.text(&bytes)
    }

    fn result(&mut self, to: &mut Vec<(&'static str, usize, usize)>, kind: &str) -> usize {
        let (fields, len) = fields(kind);
        let start = self.place(len);
        to.extend(fields.iter().map(|&(name, at, len)| (name, start + at, len)));
        start
    }

    /// `clock:NS`, `read:FD`, `write:FD`: the subscriptions, the place for events, and their number.
    fn subscriptions(
        &mut self,
        buffer: &mut Option<(usize, usize)>,
        words: impl Iterator<Item = String>,
    ) -> String {
        let mut bytes = Vec::new();
        let mut count = 0;
        for (number, word) in (1_u64..).zip(words) {
            let (kind, of) = word.split_once(':').unwrap();
            let of: u64 = of.parse().unwrap();
            let tag = ["clock", "read", "write"].iter().position(|k| *k == kind).unwrap() as u64;
            // The clock is the monotonic one, its flags say that the time is relative.
            let body = if tag == 0 { [1, of, 0, 0] } else { [of, 0, 0, 0] };
            bytes.extend([number, tag].into_iter().chain(body).flat_map(u64::to_le_bytes));
            count += 1;
        }
        self.texts.resize(self.texts.len().next_multiple_of(8), 0);
        let (from, to) = (self.text(&bytes), self.buffer(buffer, &(32 * count).to_string()).0);
        [from, to, count].map(const_i32).concat()
    }

    /// The module.
    pub(crate) fn wasm(&self) -> Vec<u8> {
        let used = |name: &str| {
            matches!(name, "fd_write" | "fd_readdir") || self.code.contains(&format!("${name} "))
        };
        let imports: String = FUNCTIONS
            .iter()
            .filter(|(name, _)| *name != "count_entries" && used(name))
            .map(|(name, parameters)| {
                let types: String = parameters.split_whitespace().map(wasm_types).collect();
                format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {types}) (result i32)))\n")
            })
            .collect();
        let data: String = self.texts.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let report = if self.report.is_empty() { "(i32.const 1)" } else { &self.report };
        let exit =
            self.exit.map_or_else(String::new, |status| format!("(call $proc_exit (i32.const {status}))"));
        let text = format!(
            "(module {imports}
             (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $proc_exit (param i32)))
             (memory (export \"memory\") {pages})
             (data (i32.const {TEXTS_AT}) \"{data}\")
             {HELPERS}
             (func (export \"_start\") {code} (call $report {report} (i32.const {RESULTS_AT}) (i32.const {len})) {exit}))",
            pages = (RESULTS_AT + self.results) / 65536 + 2,
            code = self.code,
            len = self.results,
        );
        wat::parse_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    /// What the module wrote before it reported, and every way in which the report is not as it
    /// should be.
    pub(crate) fn check<'o>(&self, out: &'o [u8]) -> (&'o [u8], Vec<String>) {
        let Some(own) = out.len().checked_sub(self.results) else {
            return (out, vec![format!("the guest did not report: {}", String::from_utf8_lossy(out))]);
        };
        let (own, report) = out.split_at(own);
        let report = Report { calls: self, bytes: report };
        (own, self.calls.iter().flat_map(|call| report.wrong(call)).collect())
    }
}

/// Takes the words of flags out of the operands, and gives the value of each flags parameter.
fn take_flags(parameters: &str, words: &mut Vec<String>) -> Vec<u64> {
    let tables = parameters.split_whitespace().filter_map(|p| p.split_once(':'));
    tables
        .map(|(_, table)| {
            if table == "whence" {
                let whence = ["set", "cur", "end"].iter().position(|w| words.last().unwrap() == w);
                words.pop();
                return whence.expect("the last word says from where") as u64;
            }
            let (_, names) = FLAGS.iter().find(|(name, _)| *name == table).unwrap();
            let prefix = if table == "inherit" { "inherit:" } else { "" };
            let mut value = 0;
            words.retain(|word| {
                let bit =
                    word.strip_prefix(prefix).and_then(|word| names.iter().position(|name| *name == word));
                value |= bit.map_or(0, |bit| 1 << bit);
                bit.is_none()
            });
            value
        })
        .collect()
}

fn const_i32(number: usize) -> String {
    format!("(i32.const {number})")
}

fn pair((at, len): (usize, usize)) -> String {
    const_i32(at) + &const_i32(len)
}

fn wasm_types(parameter: &str) -> &'static str {
    match parameter {
        "u64" => "i64 ",
        "path" | "bytes" | "into" | "buf" => "i32 i32 ",
        "subs" => "i32 i32 i32 ",
        wide if wide.starts_with("f64:") => "i64 ",
        _ => "i32 ",
    }
}

/// Words; a text in quotation marks is one, with them.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut is_quoted, mut is_escaped) = (false, false);
    for c in line.chars() {
        if c.is_whitespace() && !is_quoted {
            words.push(String::new());
            continue;
        }
        is_quoted ^= c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        words.last_mut().unwrap().push(c);
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A text without its marks: `\n`, `\0`, `\"`, `\\`, and `{x*N}` for a character so many times.
pub(crate) fn unquote(word: &str) -> Vec<u8> {
    let text = word.strip_prefix('"').and_then(|w| w.strip_suffix('"'));
    let text = text.unwrap_or_else(|| panic!("not a text: {word}"));
    if let Some((c, count)) =
        text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).and_then(|t| t.split_once('*'))
    {
        return c.repeat(count.parse().unwrap()).into_bytes();
    }
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => '\n',
            ('\\', Some('0')) => '\0',
            ('\\', Some(c)) => c,
            (c, _) => c,
        };
        bytes.extend(c.to_string().into_bytes());
    }
    bytes
}

/// What a module reported.
struct Report<'a> {
    calls: &'a Calls,
    bytes: &'a [u8],
}

impl Report<'_> {
    fn bytes(&self, at: usize, len: usize) -> &[u8] {
        &self.bytes[at - RESULTS_AT..][..len]
    }

    fn number(&self, at: usize, len: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(self.bytes(at, len));
        u64::from_le_bytes(bytes)
    }

    fn field(&self, call: &Call, name: &str) -> u64 {
        let field = call.fields.iter().find(|(field, ..)| *field == name);
        let (_, at, len) = field.unwrap_or_else(|| panic!("no field `{name}`: {}", call.line));
        self.number(*at, *len)
    }

    /// What of a call is not as it should be.
    fn wrong(&self, call: &Call) -> Vec<String> {
        let got = errno(self.number(call.at, 4) as u32);
        if !call.errnos.contains(&got) {
            return vec![format!("{}\n    got {got}", call.line)];
        }
        let checks: Vec<String> = if got == "ok" {
            call.checks.iter().filter_map(|check| self.unmet(call, check)).collect()
        } else {
            Vec::new()
        };
        checks.into_iter().map(|why| format!("{}\n    got {why}", call.line)).collect()
    }

    /// What was found in place of what `check` wants.
    fn unmet(&self, call: &Call, check: &str) -> Option<String> {
        let (name, wanted) = check.split_once('=').unwrap_or_else(|| panic!("no check: {check}"));
        let (name, is_not) = name.strip_suffix('!').map_or((name, false), |name| (name, true));
        let (found, is_met) = match name {
            "data" | "names" | "events" | "texts" => {
                let found = self.shown(call, name);
                let wanted = String::from_utf8(unquote(wanted)).unwrap();
                (format!("{found:?}"), found == wanted)
            }
            "has" | "inherits" => {
                let rights = self.field(call, if name == "has" { "base" } else { "inherit" });
                (format!("{rights:#x}"), wanted.split('|').all(|w| rights & flag("rights", w) != 0))
            }
            "lacks" => {
                let rights = self.field(call, "base");
                (format!("{rights:#x}"), wanted.split('|').all(|w| rights & flag("rights", w) == 0))
            }
            _ if name.starts_with("ino:") => {
                let found = self.inode(call, &name[4..]);
                (found.to_string(), found == self.value(wanted, "ino"))
            }
            _ => {
                let found = self.field(call, name);
                (found.to_string(), found == self.value(wanted, name))
            }
        };
        (is_met == is_not).then(|| format!("{name}={found}"))
    }

    /// A number, a word of the field, or a field of an earlier call, plus or minus something.
    fn value(&self, word: &str, field: &str) -> u64 {
        if let Some(name) = word.strip_prefix('$') {
            let (name, minus) = name.split_once('-').unwrap_or((name, "0"));
            let (name, field) = name.split_once('.').unwrap_or((name, field));
            let value = self.field(&self.calls.calls[self.calls.names[name]], field);
            return value.wrapping_sub(minus.parse().unwrap());
        }
        match field {
            "type" => TYPES.iter().position(|name| *name == word).unwrap() as u64,
            "flags" if word.parse::<u64>().is_err() => {
                word.split('|').map(|word| flag("fdflags", word)).sum()
            }
            _ => word.parse().unwrap_or_else(|_| panic!("not a number: {word}")),
        }
    }

    /// What a call filled its place with.
    fn filled(&self, call: &Call) -> &[u8] {
        let (at, len) = call.buffer.unwrap();
        let has_n = call.fields.iter().any(|(name, ..)| *name == "n") && call.function != "poll_oneoff";
        self.bytes(at, if has_n { self.field(call, "n") as usize } else { len })
    }

    fn shown(&self, call: &Call, what: &str) -> String {
        let filled = self.filled(call);
        match what {
            "names" => entries(filled).map(|(_, name)| name).collect::<Vec<_>>().join(" "),
            "events" => {
                let events = filled.chunks(32).take(self.field(call, "n") as usize);
                events.map(event).collect::<Vec<_>>().join(" ")
            }
            // Texts end with a NUL each.
            "texts" => {
                let end = filled.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                String::from_utf8_lossy(&filled[..end]).replace('\0', "|")
            }
            _ => String::from_utf8_lossy(filled).into_owned(),
        }
    }

    fn inode(&self, call: &Call, name: &str) -> u64 {
        let mut found = entries(self.filled(call));
        found.find(|(_, entry)| entry == name).unwrap_or_else(|| panic!("no entry `{name}`")).0
    }
}

fn flag(table: &str, word: &str) -> u64 {
    let (_, names) = FLAGS.iter().find(|(name, _)| *name == table).unwrap();
    1 << names.iter().position(|name| *name == word).unwrap_or_else(|| panic!("no such flag: {word}"))
}

/// The entries of a directory, whole ones only, as inode and name.
fn entries(mut bytes: &[u8]) -> impl Iterator<Item = (u64, String)> {
    std::iter::from_fn(move || {
        let head = bytes.get(..24)?;
        let ino = u64::from_le_bytes(head[8..16].try_into().unwrap());
        let len = u32::from_le_bytes(head[16..20].try_into().unwrap()) as usize;
        let name = String::from_utf8_lossy(bytes.get(24..24 + len)?).into_owned();
        bytes = &bytes[24 + len..];
        Some((ino, name))
    })
}

/// `NUMBER:KIND`, with the error if there is one.
fn event(bytes: &[u8]) -> String {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let error = u16::from_le_bytes(bytes[8..10].try_into().unwrap());
    let kind = ["clock", "read", "write"].get(usize::from(bytes[10])).unwrap_or(&"?");
    if error == 0 { format!("{number}:{kind}") } else { format!("{number}:{kind}:{}", errno(error.into())) }
}

/// Writing all of the report, and counting entries.
const HELPERS: &str = r#"
(func $report (param $fd i32) (param $at i32) (param $len i32)
  (loop $more
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
    (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
    (local.set $len (i32.sub (local.get $len) (i32.load (i32.const 8))))
    (br_if $more (local.get $len))))
(func $count_entries (param $fd i32) (param $len i32) (param $to i32) (result i32)
  (local $errno i32) (local $at i32) (local $end i32) (local $next i32) (local $cookie i64)
  (loop $more
    (local.set $errno (call $fd_readdir
      (local.get $fd) (i32.const 65536) (local.get $len) (local.get $cookie) (i32.const 8)))
    (if (local.get $errno) (then (return (local.get $errno))))
    (local.set $at (i32.const 65536))
    (local.set $end (i32.add (local.get $at) (i32.load (i32.const 8))))
    (block $all (loop $entry
      (br_if $all (i32.gt_u (i32.add (local.get $at) (i32.const 24)) (local.get $end)))
      (local.set $next
        (i32.add (i32.add (local.get $at) (i32.const 24)) (i32.load offset=16 (local.get $at))))
      (br_if $all (i32.gt_u (local.get $next) (local.get $end)))
      (local.set $cookie (i64.load (local.get $at)))
      (local.set $at (local.get $next))
      (i32.store (local.get $to) (i32.add (i32.load (local.get $to)) (i32.const 1)))
      (br $entry)))
    (br_if $more (i32.eq (i32.load (i32.const 8)) (local.get $len))))
  (i32.const 0))
"#;
