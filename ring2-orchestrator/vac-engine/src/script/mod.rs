//! Scripts: Starlark, in which a kernel's exports are functions and directories are handles.
//!
//! A script is the operator's own words, but not a licence: it reads below its own folder, writes
//! below `out` in the folder where it was started, and reaches anything else only through
//! a grant. A handle cannot be made from text, only from a function that checks. Everything
//! a script asks of the host is an event, so a script replays like a kernel.
//!
//! | function | gives |
//! |---|---|
//! | `kernel(target)` | a kernel: `builtin:NAME`, a file below the script's folder, or a CID |
//! | `K.export(args…, grants = […])` | what the export returns; an error of its own ends the script |
//! | `K.codec(…)`, `K.codec.make(…)`, `c.method(…)` | a resource, which lives until the end; its methods |
//! | `dir(path, write = False)` | a directory handle; a granted tree is a directory |
//! | `grant(text)`, `secret(name)` | a handle of something granted or less, to pass on in `grants` |
//! | `read(dir, name)`, `write(dir, name, data)` | the text of a file; the CID of what was written |
//! | `put(data)` | the CID of an object in the store |
//! | `args` | the arguments after `--` |

use std::cell::RefCell;
use std::io::Read as _;
use std::path::{Component, Path};
use std::sync::{Arc, PoisonError};

use cap_fs_ext::{DirExt, OpenOptionsSyncExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use starlark::PrintHandler;
use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension, Module};
use starlark::eval::Evaluator;
use starlark::syntax::{AstLoad, AstModule, Dialect};
use vac_core::canon::{Encode, Node, Writer, encode};
use vac_core::caps::Rights;
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Error, Fault, HostAbort, Result, Usage, cut, quote};
use vac_core::ledger::{Class, Header, Outcome};
use vac_core::limits::EVENT_TEXT_MAX_BYTES;
use vac_host::{Compiled, Out, Val, inspect};

use crate::calls::Live;
use crate::copies::Copies;
use crate::grants::{Grant, in_header, trees_to_keep};
use crate::home::Home;
use crate::journal::{PROGRAM_EVENT, outcome_of};
use crate::manifest::Manifest;
use crate::namespace::Namespaces;
use crate::run::{Finished, Request, What, header, start};
use crate::secrets;
use crate::session::{Ask, Gave, Outside, Session};
use crate::target::{Programs, Target};
use crate::working::Memories;

mod functions;
mod handles;
mod pass;
mod values;

use functions::functions;
use pass::Pass;

/// Name of the event in which a script runs.
pub const SCRIPT_EVENT: &str = "vac:run/script";
/// The last grants of a script's run are its own.
const OWN_GRANTS: usize = 2;
/// The folder that a script may write to.
pub const OUT_DIR: &str = "out";
/// A traceback of one call has three lines and says nothing that the place does not.
const MANY_CALL_LINES: usize = 3;
/// The longest script. Its reader calls itself for every level of nesting, so the length bounds
/// the stack that it needs.
const SCRIPT_MAX_BYTES: usize = 64 << 10;
/// Signs in a row: the one way to nest a level with every byte.
const SIGNS_MAX: usize = 100;
/// The stack of a script's thread: only what is used of it takes memory.
const SCRIPT_STACK_BYTES: usize = 1 << 30;
/// Instances that a script keeps because they gave it handles.
const LIVE_MAX: usize = 256;
/// The largest file that a script reads whole.
const SCRIPT_FILE_MAX_BYTES: u64 = 64 << 20;

/// A directory that the script holds.
struct Held {
    /// What guests call it.
    guest: String,
    rights: Rights,
    /// Number of the grant behind it.
    grant: u32,
    /// `None` in a replay, which touches nothing.
    dir: Option<Dir>,
}

/// A kernel that the script loaded.
struct Kernel {
    name: String,
    compiled: Arc<Compiled>,
    /// What it asks for.
    manifest: Option<Manifest>,
}

/// What a script has besides its program.
#[derive(Default)]
struct Given {
    /// The script's folder and the one it was started in; `None` in a replay.
    folder: Option<Dir>,
    out_parent: Option<Dir>,
    grants: Vec<Grant>,
    secrets: Vec<secrets::Given>,
    ignores_manifests: bool,
    /// Copies of the granted trees; a replay has none.
    copies: Option<Copies>,
    /// Trees whose end is kept: number of the grant, and the name.
    trees: Vec<(u32, String)>,
    args: Vec<String>,
}

/// What the functions of a script work on.
struct Context<'h> {
    session: Session<'h>,
    /// The script's folder and the one it was started in; `None` in a replay.
    folder: Option<Dir>,
    out_parent: Option<Dir>,
    grants: Vec<Grant>,
    secrets: Vec<secrets::Given>,
    ignores_manifests: bool,
    copies: Option<Copies>,
    kernels: Vec<Kernel>,
    dirs: Vec<Held>,
    /// What was granted that is no directory, with the number of the grant.
    passable: Vec<(u32, Grant)>,
    namespaces: RefCell<Namespaces>,
    memories: RefCell<Memories>,
    /// Instances in which resources live, each with the number of its kernel, in the order in which
    /// they were started.
    live: Vec<(usize, Live)>,
    /// What really ended the script, behind the words that Starlark shows.
    stopped: Option<Error>,
}

/// Shared with Starlark's functions through the evaluator.
#[derive(starlark::any::ProvidesStaticType)]
pub(crate) struct Shared<'h>(RefCell<Context<'h>>);

/// Runs the script `target`.
pub fn run(home: &Home, target: &Target, request: &Request, outside: Outside) -> Result<Finished> {
    on_deep_stack(|| run_here(home, target, request, outside))
}

/// Runs `work` on a thread whose stack no script of the permitted length can exhaust.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = |e| Error::from(failed_io("start a thread for", "the script", &e));
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("script".into()).stack_size(SCRIPT_STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work).map_err(failed)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn run_here(home: &Home, target: &Target, request: &Request, outside: Outside) -> Result<Finished> {
    let mut request = request.clone();
    request.grants.extend(own_grants(target, &request));
    let ast = parse(target)?;
    let args = strings(&request.args);
    let header = header(
        What::Script,
        &target.cid,
        &request,
        vec![("args".into(), args), ("name".into(), Node::Text(target.name.clone()))],
    );
    let given = Given {
        folder: target.folder.as_deref().map(open_folder).transpose()?,
        out_parent: Some(open_folder(&request.folder)?),
        grants: request.grants.clone(),
        secrets: request.secrets.clone(),
        ignores_manifests: request.ignores_manifest,
        copies: Some(Copies::make(home, &request.grants)?),
        trees: trees_to_keep(&in_header(&header)),
        args: request.args.clone(),
    };
    let session = start(home, Programs::new(&request.limits, &outside), target, header, &request, outside)?;
    evaluate(session, target, ast, given)
}

/// What every script may do without being asked: the last two grants of its run.
fn own_grants(target: &Target, request: &Request) -> Vec<Grant> {
    let host = target.folder.clone().unwrap_or_default();
    vec![
        Grant::Dir { host, guest: ".".into(), rights: Rights::READ },
        Grant::Dir { host: request.folder.join(OUT_DIR), guest: OUT_DIR.into(), rights: Rights::ALL },
    ]
}

/// Runs a recorded script again in `session`.
pub(crate) fn replay(session: Session<'_>, target: &Target, header: &Header) -> Result<Finished> {
    let args = crate::replay::texts(header, "args")?;
    // Errors name the script as it was called then.
    let target = &Target { name: crate::replay::text(header, "name")?, ..target.clone() };
    let (grants, trees) = (recorded_grants(header), trees_to_keep(&in_header(header)));
    let given = Given { grants, trees, args, ..Given::default() };
    on_deep_stack(|| evaluate(session, target, parse(target)?, given))
}

/// Names and rights of the grants, as the header has them; where they led does not matter now.
fn recorded_grants(header: &Header) -> Vec<Grant> {
    let Some(Node::List(items)) = header.get("grants") else { return Vec::new() };
    let rights_of = |rights: &str| if rights == Rights::ALL.to_string() { Rights::ALL } else { Rights::READ };
    let grant = |item: &Node| match item {
        Node::List(parts) => match parts.as_slice() {
            [Node::Text(kind), Node::Text(guest), Node::Text(rights)] if kind == "dir" => {
                Grant::Dir { host: Default::default(), guest: guest.clone(), rights: rights_of(rights) }
            }
            [Node::Text(kind), Node::Text(guest), Node::Text(rights), Node::Link(cid)] if kind == "tree" => {
                Grant::Tree { cid: *cid, guest: guest.clone(), rights: rights_of(rights) }
            }
            _ => Grant::Stdin,
        },
        _ => Grant::Stdin,
    };
    items.iter().map(grant).collect()
}

fn strings(items: &[String]) -> Node {
    Node::List(items.iter().map(|text| Node::Text(text.clone())).collect())
}

fn open_folder(path: &Path) -> Result<Dir> {
    Dir::open_ambient_dir(path, ambient_authority()).map_err(|e| failed_io("open", path.display(), &e).into())
}

/// Whether `target` can be read as a script; nothing of it runs.
pub fn check(target: &Target) -> Result<()> {
    parse(target).map(drop)
}

fn parse(target: &Target) -> Result<AstModule> {
    if target.bytes.len() > SCRIPT_MAX_BYTES {
        let message = format!(
            "`{}` has {} bytes; the limit for a script is {SCRIPT_MAX_BYTES}",
            target.place,
            target.bytes.len()
        );
        return Err(HostAbort::new(AbortKind::Quota, message).into());
    }
    let is_sign = |b: &u8| matches!(b, b'-' | b'+' | b'~');
    if target.bytes.chunk_by(|a, b| is_sign(a) && is_sign(b)).any(|signs| signs.len() > SIGNS_MAX) {
        return Err(Usage::new(format!("`{}` has more than {SIGNS_MAX} signs in a row", target.place)).into());
    }
    let text = std::str::from_utf8(&target.bytes).map_err(|e| {
        Usage::new(format!("`{}` is neither WebAssembly nor a script: {e}", target.place))
            .hint("a target is a `.star` script, a `.wasm` file, a CID or `builtin:NAME`")
    })?;
    let ast = AstModule::parse(&target.name, text.to_owned(), &dialect()).map_err(|e| script_error(&e))?;
    if let Some(load) = ast.loads().first() {
        return Err(no_load(load));
    }
    Ok(ast)
}

/// A script is one file, so that its CID says all that it does.
fn no_load(load: &AstLoad<'_>) -> Error {
    let message = format!(
        "`load` is not supported: a script is one file; copy what it needs of `{}` into it\n --> {}",
        quote(load.module_id),
        load.span
    );
    Fault { kind: "script", message }.into()
}

fn dialect() -> Dialect {
    Dialect { enable_f_strings: true, enable_top_level_stmt: true, ..Dialect::Standard }
}

fn globals() -> Globals {
    use LibraryExtension::{EnumType, Filter, Json, Map, Partial, Print, RecordType, StructType, Typing};
    GlobalsBuilder::extended_by(&[
        StructType, RecordType, EnumType, Map, Filter, Partial, Print, Json, Typing,
    ])
    .with(functions)
    .build()
}

/// The script's mistake: what it is, then the place in its source, then who called that.
fn script_error(error: &starlark::Error) -> Error {
    let mut message = error.without_diagnostic().to_string();
    let shown = error.to_string();
    if let Some(place) = shown.find("-->") {
        message.push_str("\n ");
        message.push_str(shown.get(place..).unwrap_or_default().trim_end());
    }
    let calls = error.call_stack().to_string();
    if calls.lines().count() > MANY_CALL_LINES {
        message.push('\n');
        message.push_str(calls.trim_end());
    }
    Fault { kind: "script", message }.into()
}

/// What ended a script: `stopped` if that was not the script's own mistake. A kernel's fault keeps
/// its kind, and gets the place in the script.
fn why(shown: &starlark::Error, stopped: Option<Error>) -> Error {
    match stopped {
        Some(Error::Fault(fault)) => match script_error(shown) {
            Error::Fault(Fault { message, .. }) => {
                let prefix = format!("{}: ", fault.kind);
                let message = message.strip_prefix(&prefix).unwrap_or(&message).to_owned();
                Fault { kind: fault.kind, message }.into()
            }
            other => other,
        },
        Some(error @ (Error::Abort(_) | Error::Divergence(_) | Error::Corrupt(_))) => error,
        Some(Error::Usage(_)) | None => script_error(shown),
    }
}

fn evaluate(session: Session<'_>, target: &Target, ast: AstModule, given: Given) -> Result<Finished> {
    let Given { folder, out_parent, grants, secrets, ignores_manifests, copies, trees, args } = given;
    let request = encode(&(&target.cid, args.clone()));
    let open = session.journal().begin(SCRIPT_EVENT, 0, &request)?;
    let context = Context {
        memories: RefCell::new(session.memories(&grants)),
        session,
        folder,
        out_parent,
        grants,
        secrets,
        ignores_manifests,
        copies,
        kernels: Vec::new(),
        dirs: Vec::new(),
        passable: Vec::new(),
        namespaces: RefCell::default(),
        live: Vec::new(),
        stopped: None,
    };
    let shared = Shared(RefCell::new(context));
    let evaluated = execute(&shared, ast, &args);
    let Context { mut session, stopped, live, copies, .. } = shared.0.into_inner();
    let ended = match evaluated {
        // The newest instance ends first.
        Ok(()) => live.into_iter().rev().try_for_each(|(_, live)| live.end(&mut session)),
        Err(shown) => Err(why(&shown, stopped.or_else(|| session.watch().stop().map(Error::from)))),
    };
    let error = match session.keep_trees(&trees, copies.as_ref(), ended) {
        Err(error @ (Error::Divergence(_) | Error::Corrupt(_))) if !session.is_live() => return Err(error),
        Err(error) if session.is_stopped() => return Err(error),
        // Somebody stops the replay in the script itself, where nobody stopped the run.
        Err(Error::Abort(abort)) if session.is_stopped_by(&abort, open) => return Err(abort.into()),
        ended => ended.err(),
    };
    let (answer, outcome): (std::result::Result<&[u8], Outcome>, Outcome) = match &error {
        None => (Ok(&[]), Outcome::Exit(0)),
        Some(error) => (Err(outcome_of(error)), outcome_of(error)),
    };
    session.journal().end(open, answer)?;
    let summary = session.finish(outcome)?;
    Ok(Finished { summary, result: None, error, calls: Vec::new() })
}

fn execute(shared: &Shared<'_>, ast: AstModule, args: &[String]) -> starlark::Result<()> {
    let globals = globals();
    let watch = Arc::clone(shared.0.borrow().session.watch());
    let printer = Printer(shared);
    Module::with_temp_heap(|module| {
        module.set("args", module.heap().alloc(args.to_vec()));
        let mut evaluator = Evaluator::new(&module);
        evaluator.extra = Some(shared);
        evaluator.set_print_handler(&printer);
        evaluator.set_check_cancelled(Box::new(move || watch.stop().is_some()));
        evaluator.eval_module(ast, &globals).map(drop)
    })
}

/// `print` is an effect on the standard output.
struct Printer<'a, 'h>(&'a Shared<'h>);

impl PrintHandler for Printer<'_, '_> {
    fn println(&self, text: &str) -> starlark::Result<()> {
        self.0.with(|context| {
            let console = Arc::clone(context.session.console());
            let line = format!("{text}\n");
            context.event("vac:script/print", Class::Effect, &encode(text), || {
                let mut console = console.lock().unwrap_or_else(PoisonError::into_inner);
                console
                    .write(Out::Stdout, line.as_bytes())
                    .map_err(|e| failed_io("write to", "the standard output", &e))?;
                Ok((Vec::new(), None))
            })?;
            Ok(())
        })
    }
}

impl<'h> Shared<'h> {
    /// Does `work`, and remembers an error that Starlark would only show as text.
    fn with<T>(&self, work: impl FnOnce(&mut Context<'h>) -> Result<T>) -> starlark::Result<T> {
        let mut context = self.0.try_borrow_mut().map_err(|_| {
            starlark::Error::new_other(std::io::Error::other("a script function was entered twice"))
        })?;
        work(&mut context).map_err(|error| {
            let shown = match &error {
                Error::Usage(Usage { message, hint: Some(hint) }) => format!("{message}; {hint}"),
                other => other.to_string(),
            };
            context.stopped = Some(error);
            starlark::Error::new_other(std::io::Error::other(shown))
        })
    }
}

/// The grant of a directory at or around a path.
struct Granted {
    number: u32,
    rights: Rights,
    /// What of the path is below it.
    rest: String,
}

/// The directory in which a file is looked up.
struct Around {
    dir: Dir,
    /// Its path from there.
    rest: String,
    /// The grant that it is read by.
    grant: u32,
}

impl Context<'_> {
    fn event(
        &self,
        name: &str,
        class: Class,
        request: &[u8],
        act: impl FnOnce() -> Result<(Vec<u8>, Option<u32>)>,
    ) -> Result<Vec<u8>> {
        let act = || act().map_err(as_recorded);
        let answer = self.session.journal().event(name, class, self.session.ticks(), request, act);
        answer.map_err(|error| match error {
            // The record keeps the words of a mistake, and nothing else of it.
            Error::Fault(fault) if fault.kind == "usage" => Usage::new(fault.message).into(),
            other => other,
        })
    }

    /// `kernel(target)`: the program's bytes become part of the record.
    fn kernel(&mut self, text: &str) -> Result<usize> {
        let home = self.session.home;
        let bytes = self.event(PROGRAM_EVENT, Class::Read, &encode(text), || {
            let target = match (text.starts_with("builtin:") || text.parse::<Cid>().is_ok(), &self.folder) {
                (true, _) => Target::find(home, text)?,
                (false, None) => return Err(no_folder()),
                (false, _) => {
                    let around = self.around(text)?;
                    return Ok((read_below(&around.dir, &around.rest, text)?, Some(around.grant)));
                }
            };
            Ok((target.bytes, None))
        })?;
        let cid = self.session.keep_program(&bytes)?;
        // A record that ends here did so while compiling, which a replay need not try.
        if let Some(over) = self.session.journal().record_is_over() {
            return Err(over.into());
        }
        let target = Target { bytes, cid, name: text.to_owned(), place: text.to_owned(), folder: None };
        let manifest = self.manifest(text, &target)?;
        let program = self.session.replaced.get(text).cloned().unwrap_or(target);
        let compiled = self.session.programs.compile_as(home, &program, &[], cid)?;
        self.kernels.push(Kernel { name: text.to_owned(), compiled, manifest });
        Ok(self.kernels.len() - 1)
    }

    /// The number of one of the script's own grants: 0 is writing, 1 reading.
    fn own_grant(&self, from_last: usize) -> u32 {
        (self.grants.len().saturating_sub(1 + from_last)) as u32
    }

    /// The grant of the directory `path`, or of the nearest one around a path that leads out of the script's folder, with what
    /// of the path is below it.
    fn granted(&self, path: &str) -> Option<Granted> {
        let dirs = self.operators().filter_map(|(number, grant)| match grant {
            Grant::Dir { guest, rights, .. } | Grant::Tree { guest, rights, .. } => {
                if guest == path {
                    return Some(Granted { number, rights: *rights, rest: String::new() });
                }
                let rest = Path::new(path).strip_prefix(guest).ok()?.to_str()?.to_owned();
                let is_below = !rest.is_empty() && leads_out(path) && !leads_out(&rest);
                is_below.then_some(Granted { number, rights: *rights, rest })
            }
            _ => None,
        });
        dirs.min_by_key(|granted| granted.rest.len())
    }

    /// The directory in which a file is looked up.
    fn around(&self, path: &str) -> Result<Around> {
        if let Some(Granted { number, rest, .. }) =
            self.granted(path).filter(|granted| !granted.rest.is_empty())
        {
            return Ok(Around { dir: self.open_granted(number)?, rest, grant: number });
        }
        let folder = self.folder.as_ref().ok_or_else(no_folder)?;
        let dir = folder.try_clone().map_err(|e| failed_io("open", path, &e))?;
        Ok(Around { dir, rest: path.to_owned(), grant: self.own_grant(1) })
    }

    /// `dir(path, write)`.
    fn dir(&mut self, path: &str, write: bool) -> Result<usize> {
        let granted = self.granted(path);
        let own = path == OUT_DIR || path.starts_with("out/");
        let (grant, rights) = match &granted {
            Some(granted) => (granted.number, granted.rights),
            None if own => (self.own_grant(0), Rights::ALL),
            None => (self.own_grant(1), Rights::READ),
        };
        if write && !rights.has(Rights::ALL) {
            let message = format!("a script may write only below `{OUT_DIR}`, not to `{}`", quote(path));
            let hint = format!("grant it: `--grant dir:rw={path}`");
            return Err(HostAbort::new(AbortKind::Denied, message).hint(hint).into());
        }
        let rights = if write { Rights::ALL } else { Rights::READ };
        let mut opened = None;
        self.event("vac:script/dir", Class::Read, &encode(&(path, write)), || {
            opened = Some(match &granted {
                Some(granted) => self.open_below(granted, path)?,
                None if own => self.open_out(path)?,
                None => self.open_own(path)?,
            });
            Ok((Vec::new(), Some(grant)))
        })?;
        self.dirs.push(Held { guest: path.to_owned(), rights, grant, dir: opened });
        Ok(self.dirs.len() - 1)
    }

    fn open_below(&self, granted: &Granted, path: &str) -> Result<Dir> {
        let dir = self.open_granted(granted.number)?;
        match granted.rest.as_str() {
            "" => Ok(dir),
            rest => dir.open_dir(rest).map_err(|e| below_grant(path, &e)),
        }
    }

    /// A directory or the copy of a tree that the operator granted.
    fn open_granted(&self, number: u32) -> Result<Dir> {
        let grant = self.operators().find(|(n, _)| *n == number).map(|(_, grant)| grant);
        match (grant, self.copies.as_ref().and_then(|copies| copies.dir(number))) {
            (Some(Grant::Dir { host, guest, .. }), _) => {
                let dir = Dir::open_ambient_dir(host, ambient_authority());
                dir.map_err(|e| failed_io("open", guest, &e).into())
            }
            (Some(Grant::Tree { guest, .. }), Some(copy)) => {
                copy.try_clone().map_err(|e| failed_io("open the copy of", guest, &e).into())
            }
            _ => Err(no_folder()),
        }
    }

    fn open_out(&self, path: &str) -> Result<Dir> {
        let parent = self.out_parent.as_ref().ok_or_else(no_folder)?;
        if leads_out(path) {
            let message = format!("a script writes only below `{OUT_DIR}`, not to `{}`", quote(path));
            return Err(HostAbort::new(AbortKind::Denied, message).into());
        }
        let failed = |e| Error::from(failed_io("create the folder", path, &e));
        match parent.create_dir(OUT_DIR) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(e)),
            _ => {}
        }
        // From here on nothing is resolved outside of `out`: a link in it, planted by a guest that may
        // write there, would otherwise lead to its neighbours.
        let out = parent.open_dir_nofollow(OUT_DIR).map_err(failed)?;
        match path.strip_prefix(OUT_DIR).unwrap_or_default().trim_matches('/') {
            "" => Ok(out),
            rest => {
                out.create_dir_all(rest).map_err(failed)?;
                out.open_dir(rest).map_err(failed)
            }
        }
    }

    fn open_own(&self, path: &str) -> Result<Dir> {
        let folder = self.folder.as_ref().ok_or_else(no_folder)?;
        folder.open_dir(path).map_err(|e| outside_folder(path, path, &e))
    }

    /// `read(dir, name)`.
    fn read(&self, dir: usize, name: &str) -> Result<String> {
        let held = self.held(dir)?;
        let bytes = self.event("vac:script/read", Class::Read, &encode(&(&held.guest, name)), || {
            let dir = held.dir.as_ref().ok_or_else(no_folder)?;
            Ok((read_below(dir, name, name)?, Some(held.grant)))
        })?;
        String::from_utf8(bytes).map_err(|_| Usage::new(format!("`{}` is not text", quote(name))).into())
    }

    /// `write(dir, name, data)`: the CID of what was written.
    fn write(&self, dir: usize, name: &str, data: &[u8]) -> Result<Cid> {
        let held = self.held(dir)?;
        if !held.rights.has(Rights::ALL) {
            let message = format!("the directory `{}` was opened for reading", quote(&held.guest));
            return Err(Usage::new(message).hint("open it with `dir(path, write = True)`").into());
        }
        let cid = self.session.keep(data)?;
        let mut request = Writer::default();
        request.array(3);
        held.guest.encode(&mut request);
        name.encode(&mut request);
        cid.encode(&mut request);
        self.event("vac:script/write", Class::Effect, &request.into_bytes(), || {
            let dir = held.dir.as_ref().ok_or_else(no_folder)?;
            dir.write(name, data).map_err(|e| not_written(&held.guest, name, &e))?;
            // The answer names the object, so that the record keeps it.
            Ok((encode(&cid), Some(held.grant)))
        })?;
        Ok(cid)
    }

    /// `put(data)`.
    fn put(&self, data: &[u8]) -> Result<Cid> {
        let cid = self.session.keep(data)?;
        self.event("vac:script/put", Class::Effect, &encode(&cid), || Ok((Vec::new(), None)))?;
        Ok(cid)
    }

    fn held(&self, dir: usize) -> Result<&Held> {
        self.dirs.get(dir).ok_or_else(|| Usage::new("this directory handle is of another script").into())
    }

    fn kernel_of(&self, kernel: usize) -> Result<&Kernel> {
        self.kernels.get(kernel).ok_or_else(|| Usage::new("this kernel is of another script").into())
    }

    /// Calls an export of a kernel, which gets only what is in `passes`. If handles go in or come
    /// out, that is in the kernel's one instance that lives on; the answer says which it is. Any other
    /// call has an instance of its own.
    fn call(
        &mut self,
        kernel: usize,
        export: &inspect::Export,
        args: Vec<Val>,
        passes: &[Pass],
    ) -> Result<(Vec<Val>, usize)> {
        let Kernel { name, compiled, .. } = self.kernel_of(kernel)?;
        let (name, compiled) = (name.clone(), Arc::clone(compiled));
        let live = self.live.iter().position(|(of, _)| *of == kernel);
        if let Some(live) = live.filter(|_| export.has_handles()) {
            return self.call_live(live, export, args, passes);
        }
        let with = self.with(kernel, export, passes)?;
        if export.has_handles() {
            if self.live.len() >= LIVE_MAX {
                let message = format!("more than {LIVE_MAX} instances of kernels live on in this script");
                return Err(HostAbort::new(AbortKind::Quota, message).into());
            }
            self.live.push((kernel, Live::new(&name, &compiled, with)));
            return self.call_live(self.live.len() - 1, export, args, &[]);
        }
        match self.session.kernel(&name, &compiled, &Ask::Call { export: &export.name, args: &args }, with)? {
            Gave::Results(results) => Ok((results, usize::MAX)),
            Gave::Ended(_) => Ok((Vec::new(), usize::MAX)),
        }
    }

    /// Calls an export in an instance that lives. What it was granted, it was granted at its start.
    fn call_live(
        &mut self,
        live: usize,
        export: &inspect::Export,
        args: Vec<Val>,
        passes: &[Pass],
    ) -> Result<(Vec<Val>, usize)> {
        if !passes.is_empty() {
            let usage = Usage::new(format!("`{}` cannot be granted more later", export.name));
            return Err(usage
                .hint("give `grants` to the call that makes the kernel's first resource")
                .into());
        }
        let (_, found) = self.live.get_mut(live).ok_or_else(gone)?;
        Ok((found.call_with(&mut self.session, &export.name, args)?, live))
    }

    /// Whether a handle of the instance `live`, if there is one, may go to `kernel`.
    fn check_kernel(&self, kernel: usize, live: Option<usize>) -> Result<()> {
        match live.and_then(|live| self.live.get(live)) {
            Some((of, _)) if *of != kernel => {
                let usage = Usage::new("this resource is of another kernel, or of another instance of it");
                Err(usage.hint("each `kernel(…)` has an instance of its own").into())
            }
            _ => Ok(()),
        }
    }

    /// The handle with this number of an instance.
    fn handle(&self, live: usize, number: u64) -> Result<Val> {
        self.live.get(live).and_then(|(_, live)| live.kept.handle(number)).ok_or_else(gone)
    }

    /// The number of a handle, and what is shown of it.
    fn describe(&self, live: usize, value: &Val) -> Option<(u64, String)> {
        let kept = &self.live.get(live)?.1.kept;
        Some((kept.number_of(value)?, kept.show(value).ok()?))
    }

    /// The method `method` of a handle.
    fn method(&self, live: usize, number: u64, shown: &str, method: &str) -> Result<inspect::Export> {
        let value = self.handle(live, number)?;
        let (_, found) = self.live.get(live).ok_or_else(gone)?;
        let engine = self.session.programs.engine()?;
        let export = found.kept.method_of(engine, found.compiled(), shown, &value, method)?;
        inspect::find_function(engine, found.compiled(), &export)
    }

    fn exports(&self, kernel: usize) -> Result<Vec<inspect::Export>> {
        Ok(inspect::exports(self.session.programs.engine()?, &self.kernel_of(kernel)?.compiled))
    }
}

/// A mistake as a record gives it back, so that its script ends with the same words in a replay.
fn as_recorded(error: Error) -> Error {
    match error {
        Error::Usage(Usage { message, hint }) => {
            let words = hint.map_or(message.clone(), |hint| format!("{message}; {hint}"));
            Usage::new(cut(&words, EVENT_TEXT_MAX_BYTES)).into()
        }
        other => other,
    }
}

fn gone() -> Error {
    Usage::new("this resource is of another script").into()
}

/// A failure on a file that is not of the home.
fn failed_io(what: &str, path: impl std::fmt::Display, error: &std::io::Error) -> HostAbort {
    HostAbort { hint: None, ..HostAbort::io(what, path, error) }
}

/// A script has a folder unless it was run by CID. A replay has none either, and asks for none.
fn no_folder() -> Error {
    Usage::new("a script that is run by CID has no folder of its own")
        .hint("grant a directory, `--grant dir:ro=data`, and open it by its name, `dir(\"data\")`")
        .into()
}

fn not_written(folder: &str, name: &str, error: &std::io::Error) -> Error {
    if leads_out(name) || error.kind() == std::io::ErrorKind::PermissionDenied {
        let message = format!("a script writes only below `{}`, not to `{}`", quote(folder), quote(name));
        return HostAbort::new(AbortKind::Denied, message).into();
    }
    failed_io("write", format!("{folder}/{name}"), error).into()
}

fn leads_out(path: &str) -> bool {
    Path::new(path).is_absolute() || Path::new(path).components().any(|part| part == Component::ParentDir)
}

/// Why `path` cannot be opened; a grant of the directory `grant` would allow it.
fn outside_folder(path: &str, grant: &str, error: &std::io::Error) -> Error {
    if leads_out(path) || error.kind() == std::io::ErrorKind::PermissionDenied {
        let message = format!("a script reads only below its own folder, not `{}`", quote(path));
        return HostAbort::new(AbortKind::Denied, message)
            .hint(format!("grant the directory under that name: `--grant dir:ro=DIR::{}`", quote(grant)))
            .into();
    }
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Usage::new(format!("there is no `{}` below the script's folder", quote(path))).into()
        }
        _ => failed_io("open", path, error).into(),
    }
}

/// Why `path`, which is below a grant, cannot be opened.
fn below_grant(path: &str, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Usage::new(format!("there is no `{}`", quote(path))).into(),
        std::io::ErrorKind::PermissionDenied => outside_folder(path, path, error),
        _ => failed_io("open", path, error).into(),
    }
}

/// The directory that a file is in, as it would be granted.
fn parent_of(path: &str) -> String {
    match Path::new(path).parent().map(|parent| parent.display().to_string()) {
        Some(parent) if !parent.is_empty() => parent,
        _ => ".".to_owned(),
    }
}

/// The file `inside` below `dir`, whole; the script calls it `path`.
fn read_below(dir: &Dir, inside: &str, path: &str) -> Result<Vec<u8>> {
    // Opening a pipe would wait for its other end.
    let file = dir.open_with(inside, OpenOptions::new().read(true).nonblock(true));
    let file = file.map_err(|e| match inside == path {
        true => outside_folder(path, &parent_of(path), &e),
        false => below_grant(path, &e),
    })?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(Usage::new(format!("`{}` is not a file", quote(path))).into());
    }
    let mut bytes = Vec::new();
    let mut limited = file.take(SCRIPT_FILE_MAX_BYTES + 1);
    limited.read_to_end(&mut bytes).map_err(|e| failed_io("read", path, &e))?;
    if bytes.len() as u64 > SCRIPT_FILE_MAX_BYTES {
        let message =
            format!("`{}` is longer than the {SCRIPT_FILE_MAX_BYTES} bytes that a script reads", quote(path));
        return Err(HostAbort::new(AbortKind::Quota, message).into());
    }
    Ok(bytes)
}
