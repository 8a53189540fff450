//! Guests, written down as a list of things to do. Each becomes a core module for WASI 0.1 that
//! does them in order and says on its standard output, in a line each, what came of it.
//!
//! ```text
//! open data/a=0        an error number of WASI 0.1; 0 is success
//! ```

/// Error numbers of WASI 0.1 that tests expect.
pub(crate) mod errno {
    pub(crate) const BADF: u32 = 8;
    pub(crate) const EXIST: u32 = 20;
    pub(crate) const INVAL: u32 = 28;
    pub(crate) const LOOP: u32 = 32;
    pub(crate) const NAMETOOLONG: u32 = 37;
    pub(crate) const NOENT: u32 = 44;
    pub(crate) const PERM: u32 = 63;
}

/// A descriptor: a number, or what was opened last.
#[derive(Clone, Copy)]
pub(crate) enum Fd {
    /// Preopened directories begin at 3.
    Is(u32),
    Last,
}

/// The first preopened directory.
pub(crate) const ROOT: Fd = Fd::Is(3);
/// The second.
pub(crate) const ROOT_2: Fd = Fd::Is(4);

impl Fd {
    fn wat(self) -> String {
        match self {
            Self::Is(number) => format!("(i32.const {number})"),
            Self::Last => "(global.get $fd)".into(),
        }
    }
}

/// Where texts stand in the guest's memory.
const TEXTS_AT: usize = 4096;
/// Bytes before this are for results; texts must end before the buffer.
const BUFFER_AT: usize = 1 << 16;

#[derive(Default)]
pub(crate) struct Guest {
    texts: Vec<u8>,
    code: String,
}

impl Guest {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The address and length of some bytes, as two operands.
    fn bytes(&mut self, bytes: &[u8]) -> String {
        let at = TEXTS_AT + self.texts.len();
        self.texts.extend_from_slice(bytes);
        assert!(TEXTS_AT + self.texts.len() < BUFFER_AT);
        format!("(i32.const {at}) (i32.const {})", bytes.len())
    }

    /// Adds instructions.
    pub(crate) fn raw(mut self, wat: &str) -> Self {
        self.code.push_str(wat);
        self.code.push('\n');
        self
    }

    /// Prints text.
    pub(crate) fn say(mut self, text: &str) -> Self {
        let text = self.bytes(text.as_bytes());
        self.raw(&format!("(call $say {text})"))
    }

    /// Does something that gives an error number, and says which.
    fn ask(mut self, label: &str, call: &str) -> Self {
        let label = self.bytes(format!("{label}=").as_bytes());
        self.raw(&format!("(call $answer {label} {call})"))
    }

    /// Opens `path`. In `how`: `r`ead, `w`rite, `c`reate, `t`runcate, e`x`clusive, `d`irectory,
    /// `n`ot following a link.
    pub(crate) fn open(self, at: Fd, path: &str, how: &str) -> Self {
        self.open_bytes(at, path.as_bytes(), how)
    }

    pub(crate) fn open_bytes(mut self, at: Fd, path: &[u8], how: &str) -> Self {
        let has = |c: char| u32::from(how.contains(c));
        let flags = has('c') + 2 * has('d') + 4 * has('x') + 8 * has('t');
        // fd_read and fd_readdir, fd_write
        let rights = u64::from(has('r')) * 0x4002 + u64::from(has('w')) * 0x40;
        let label = format!("open {}", String::from_utf8_lossy(path).chars().take(40).collect::<String>());
        let path = self.bytes(path);
        let call = format!(
            "(call $path_open {} (i32.const {}) {path} (i32.const {flags}) (i64.const {rights}) (i64.const {rights}) \
             (i32.const 0) (i32.const 32))",
            at.wat(),
            1 - has('n'),
        );
        self.ask(&label, &call).raw("(global.set $fd (i32.load (i32.const 32)))")
    }

    /// Reads from what was opened last, and prints it.
    pub(crate) fn read(self) -> Self {
        self.read_from(Fd::Last)
    }

    pub(crate) fn read_from(self, fd: Fd) -> Self {
        self.raw(&format!("(call $read {})", fd.wat()))
    }

    /// Writes to what was opened last.
    pub(crate) fn write(mut self, text: &str) -> Self {
        let text = self.bytes(text.as_bytes());
        self.ask("write", &format!("(call $put {} {text})", Fd::Last.wat()))
    }

    pub(crate) fn close(self) -> Self {
        self.ask("close", &format!("(call $fd_close {})", Fd::Last.wat()))
    }

    /// Lists a directory: `name type inode` a line.
    pub(crate) fn list(self, fd: Fd) -> Self {
        self.raw(&format!("(call $list {})", fd.wat()))
    }

    /// Size, times and inode of `path`.
    pub(crate) fn stat(mut self, at: Fd, path: &str) -> Self {
        let label = format!("stat {path}");
        let path = self.bytes(path.as_bytes());
        let call = format!("(call $path_filestat_get {} (i32.const 1) {path} (i32.const 128))", at.wat());
        self.ask(&label, &call).raw("(call $show_stat)")
    }

    /// A function of a directory and a path: `path_create_directory`, `path_unlink_file`, …
    pub(crate) fn at(mut self, function: &str, at: Fd, path: &str) -> Self {
        let label = format!("{function} {path}");
        let path = self.bytes(path.as_bytes());
        self.ask(&label, &format!("(call ${function} {} {path})", at.wat()))
    }

    pub(crate) fn symlink(mut self, target: &str, at: Fd, link: &str) -> Self {
        let label = format!("symlink {link}");
        let (target, link) = (self.bytes(target.as_bytes()), self.bytes(link.as_bytes()));
        self.ask(&label, &format!("(call $path_symlink {target} {} {link})", at.wat()))
    }

    pub(crate) fn rename(mut self, from: (Fd, &str), to: (Fd, &str)) -> Self {
        let label = format!("rename {}", from.1);
        let (old, new) = (self.bytes(from.1.as_bytes()), self.bytes(to.1.as_bytes()));
        self.ask(&label, &format!("(call $path_rename {} {old} {} {new})", from.0.wat(), to.0.wat()))
    }

    pub(crate) fn link(mut self, from: (Fd, &str), to: (Fd, &str)) -> Self {
        let label = format!("link {}", from.1);
        let (old, new) = (self.bytes(from.1.as_bytes()), self.bytes(to.1.as_bytes()));
        self.ask(
            &label,
            &format!("(call $path_link {} (i32.const 0) {old} {} {new})", from.0.wat(), to.0.wat()),
        )
    }

    /// The name of a preopened directory.
    pub(crate) fn preopen(self, fd: Fd) -> Self {
        let call = format!(
            "(call $fd_prestat_dir_name {} (i32.const {BUFFER_AT}) (i32.load (i32.const 36)))",
            fd.wat()
        );
        self.ask("prestat", &format!("(call $fd_prestat_get {} (i32.const 32))", fd.wat()))
            .raw(&format!("(if (i32.eqz {call}) (then (call $say (i32.const {BUFFER_AT}) (i32.load (i32.const 36))) (call $line)))"))
    }

    /// Arguments and variables, one a line.
    pub(crate) fn args_and_env(self) -> Self {
        let strings = |sizes: &str, get: &str| {
            format!(
                "(drop (call ${sizes} (i32.const 32) (i32.const 36)))
                 (drop (call ${get} (i32.const 1024) (i32.const {BUFFER_AT})))
                 (call $strings (i32.const {BUFFER_AT}) (i32.load (i32.const 36)))"
            )
        };
        let code =
            [strings("args_sizes_get", "args_get"), strings("environ_sizes_get", "environ_get")].concat();
        self.raw(&code)
    }

    /// Both clocks.
    pub(crate) fn clocks(self) -> Self {
        let one = |clock: u32| {
            format!(
                "(drop (call $clock_time_get (i32.const {clock}) (i64.const 1) (i32.const 32)))
                 (call $number (i64.load (i32.const 32))) (call $line)"
            )
        };
        self.raw(&[one(0), one(1)].concat())
    }

    /// Sixteen random bytes.
    pub(crate) fn random(self) -> Self {
        self.raw(
            "(drop (call $random_get (i32.const 32) (i32.const 16)))
             (call $number (i64.load (i32.const 32))) (call $line)
             (call $number (i64.load (i32.const 40))) (call $line)",
        )
    }

    /// Does `inner` so many times.
    pub(crate) fn times(mut self, count: u32, inner: Self) -> Self {
        assert!(inner.texts.is_empty() || self.texts.is_empty(), "only one of the two may have texts");
        self.texts.extend(inner.texts);
        let code = inner.code;
        self.raw(&format!(
            "(global.set $n (i32.const {count}))
             (loop $again {code}
               (global.set $n (i32.sub (global.get $n) (i32.const 1)))
               (br_if $again (i32.gt_s (global.get $n) (i32.const 0))))"
        ))
    }

    pub(crate) fn exit(self, status: u32) -> Self {
        self.raw(&format!("(call $proc_exit (i32.const {status}))"))
    }

    /// The module.
    pub(crate) fn wasm(self) -> Vec<u8> {
        let data: String = self.texts.iter().map(|b| format!("\\{b:02x}")).collect();
        let code = self.code;
        let text = format!(
            "(module {PRELUDE} (data (i32.const {TEXTS_AT}) \"{data}\")\n (func (export \"_start\") {code}))"
        );
        wat::parse_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }
}

/// What every guest imports, and the functions that its list of things is made of.
const PRELUDE: &str = r#"
(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_open"
  (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_filestat_get" (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_create_directory" (func $path_create_directory (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_remove_directory" (func $path_remove_directory (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_rename" (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_link" (func $path_link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
(memory (export "memory") 4)
(global $fd (mut i32) (i32.const -1))
(global $n (mut i32) (i32.const 0))
(data (i32.const 512) "\n= read: ")
(func $put (param $fd i32) (param $at i32) (param $len i32) (result i32)
  (i32.store (i32.const 0) (local.get $at))
  (i32.store (i32.const 4) (local.get $len))
  (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
(func $say (param $at i32) (param $len i32)
  (drop (call $put (i32.const 1) (local.get $at) (local.get $len))))
(func $line (call $say (i32.const 512) (i32.const 1)))
(func $space (call $say (i32.const 514) (i32.const 1)))
(func $number (param $n i64) (local $at i32)
  (local.set $at (i32.const 100))
  (loop $digit
    (local.set $at (i32.sub (local.get $at) (i32.const 1)))
    (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $n) (i64.const 10)))))
    (local.set $n (i64.div_u (local.get $n) (i64.const 10)))
    (br_if $digit (i64.ne (local.get $n) (i64.const 0))))
  (call $say (local.get $at) (i32.sub (i32.const 100) (local.get $at))))
(func $answer (param $at i32) (param $len i32) (param $errno i32)
  (call $say (local.get $at) (local.get $len))
  (call $number (i64.extend_i32_u (local.get $errno)))
  (call $line))
(func $read (param $fd i32) (local $errno i32) (local $len i32)
  (i32.store (i32.const 0) (i32.const 65536))
  (i32.store (i32.const 4) (i32.const 65536))
  (local.set $errno (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
  (local.set $len (i32.load (i32.const 8)))
  (call $say (i32.const 515) (i32.const 6))
  (if (local.get $errno)
    (then (call $say (i32.const 513) (i32.const 1)) (call $number (i64.extend_i32_u (local.get $errno))))
    (else (call $say (i32.const 65536) (local.get $len))))
  (call $line))
(func $list (param $fd i32) (local $errno i32) (local $at i32) (local $end i32) (local $len i32)
  (local.set $errno (call $fd_readdir (local.get $fd) (i32.const 65536) (i32.const 65536) (i64.const 0) (i32.const 8)))
  (if (local.get $errno) (then (call $answer (i32.const 515) (i32.const 6) (local.get $errno)) (return)))
  (local.set $at (i32.const 65536))
  (local.set $end (i32.add (local.get $at) (i32.load (i32.const 8))))
  (block $done (loop $entry
    (br_if $done (i32.gt_u (i32.add (local.get $at) (i32.const 24)) (local.get $end)))
    (local.set $len (i32.load offset=16 (local.get $at)))
    (call $say (i32.add (local.get $at) (i32.const 24)) (local.get $len))
    (call $space) (call $number (i64.load8_u offset=20 (local.get $at)))
    (call $space) (call $number (i64.load offset=8 (local.get $at))) (call $line)
    (local.set $at (i32.add (local.get $at) (i32.add (i32.const 24) (local.get $len))))
    (br $entry))))
(func $show_stat
  (call $number (i64.load (i32.const 136))) (call $space)
  (call $number (i64.load8_u (i32.const 144))) (call $space)
  (call $number (i64.load (i32.const 152))) (call $space)
  (call $number (i64.load (i32.const 160))) (call $space)
  (call $number (i64.load (i32.const 168))) (call $space)
  (call $number (i64.load (i32.const 176))) (call $space)
  (call $number (i64.load (i32.const 184))) (call $line))
(func $strings (param $at i32) (param $len i32) (local $i i32)
  (block $done (loop $byte
    (br_if $done (i32.ge_u (local.get $i) (local.get $len)))
    (if (i32.eqz (i32.load8_u (i32.add (local.get $at) (local.get $i))))
      (then (i32.store8 (i32.add (local.get $at) (local.get $i)) (i32.const 10))))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br $byte)))
  (call $say (local.get $at) (local.get $len)))
"#;
