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
//! | `read(dir, name)`, `read_bytes(dir, name)` | the text of a file; its bytes, as kernels take for `list<u8>` |
//! | `write(dir, name, data)` | writes text or bytes; the CID of what was written |
//! | `put(data)` | the CID of an object in the store |
//! | `args` | the arguments after `--` |

use std::cell::RefCell;
use std::sync::{Arc, PoisonError};

use cap_std::fs::Dir;
use starlark::PrintHandler;
use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension, Module};
use starlark::eval::Evaluator;
use starlark::syntax::{AstLoad, AstModule, Dialect};
use vac_core::canon::{Node, encode};
use vac_core::caps::Rights;
use vac_core::cid::Cid;
use vac_core::fault::{AbortKind, Error, Fault, HostAbort, Result, Usage, cut, quote};
use vac_core::ledger::{Class, Header, Outcome};
use vac_core::limits::EVENT_TEXT_MAX_BYTES;
use vac_host::calls::Files;
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

mod files;
mod functions;
mod handles;
mod pass;
mod values;

use files::{failed_io, open_folder, read_below};
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
    let programs = Programs::new(&request.limits, &outside).under(request.profile);
    let session = start(home, programs, target, header, &request, outside)?;
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
    if stopped.is_none() {
        session.journal().forget_calls();
    }
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
            if text.starts_with("builtin:") || text.parse::<Cid>().is_ok() {
                return Ok((Target::find(home, text)?.bytes, None));
            }
            let around = self.around(text)?;
            Ok((read_below(&around.dir, &around.rest, text)?, Some(around.grant)))
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
            self.live.push((kernel, Live::new(&name, &compiled, with, Files::default())));
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
        Ok(inspect::exports(self.session.programs.engine()?, &self.kernel_of(kernel)?.compiled).to_vec())
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
