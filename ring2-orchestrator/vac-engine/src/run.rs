//! Running a command, a call or a script, live. What a run needs to be replayed is in its header.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use vac_core::canon::Node;
use vac_core::cid::{Cid, Codec};
use vac_core::fault::{Error, Result, Usage, quote};
use vac_core::ledger::{Field, Header, Outcome};
use vac_host::engine::{ENGINE, Profile};
use vac_host::http::Serve;
use vac_host::{Compiled, Ending, Val, Watch, inspect, value};

use crate::calls::Called;
use crate::copies::Copies;
use crate::grants::{self, Grant};
use crate::home::Home;
use crate::journal::outcome_of;
use crate::limits::{Limit, Limits};
use crate::manifest::{self, Manifest};
use crate::recording::Recording;
use crate::session::{Ask, Gave, Outside, Session, Summary, With, keep_as};
use crate::target::{Programs, Target};
use crate::working::Memories;
use crate::{script, secrets};

/// Version of the header's fields.
pub const HEADER_FORMAT: i128 = 1;

/// What the operator asks for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Arguments of the program, without its name.
    pub args: Vec<String>,
    /// Variables that the operator sets.
    pub env: Vec<(String, String)>,
    /// What is allowed.
    pub grants: Vec<Grant>,
    /// Values of `wasi:config` that the operator sets.
    pub config: Vec<(String, String)>,
    /// Values that the guest may use and not see.
    pub secrets: Vec<secrets::Given>,
    /// The seed of all entropy.
    pub seed: u64,
    /// What may be used up.
    pub limits: Limits,
    /// Where a script may write its results: the folder `out` in it.
    pub folder: PathBuf,
    /// Components whose exports stand in for imports that the host does not have.
    pub links: Vec<Target>,
    /// Whether the program gets all that is granted, whatever its manifest asks for.
    pub ignores_manifest: bool,
    /// How much of the run is kept.
    pub recording: Recording,
    /// How it is made to do the same everywhere.
    pub profile: Profile,
}

/// What a run was about: the first field of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A command.
    Run,
    /// A service.
    Serve,
    /// A typed call.
    Call,
    /// A script.
    Script,
}

impl What {
    /// The word in the header.
    pub fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Serve => "serve",
            Self::Call => "call",
            Self::Script => "script",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Run, Self::Serve, Self::Call, Self::Script].into_iter().find(|what| what.word() == word)
    }
}

/// A finished run and the text form of its result, if it has one.
#[derive(Debug)]
pub struct Finished {
    /// How it went.
    pub summary: Summary,
    /// The result of the last call as WAVE text.
    pub result: Option<String>,
    /// The error that ended it, if one did.
    pub error: Option<Error>,
    /// What each typed call gave.
    pub calls: Vec<Called>,
}

/// The 32 bytes that every stream of entropy comes from.
pub fn seed_bytes(seed: u64) -> [u8; 32] {
    blake3::derive_key("vac run seed 1", &seed.to_le_bytes())
}

/// Runs `target`: a script, or a program as a command.
pub fn run(home: &Home, target: &Target, request: &Request, outside: Outside) -> Result<Finished> {
    if target.is_script() {
        check_script(request)?;
        check_there(home, &request.grants)?;
        return script::run(home, target, request, outside);
    }
    let (programs, compiled) = compile(home, target, request, &outside)?;
    if !inspect::is_command(programs.engine()?, &compiled) {
        return Err(not_a_command(&programs, &compiled, target)?);
    }
    kernel(home, target, request, outside, (programs, compiled), None)
}

/// What a script would not see, and hand to no kernel, is refused and not ignored.
fn check_script(request: &Request) -> Result<()> {
    let no = |what: String, hint: &str| Err(Usage::new(what).hint(hint).into());
    if let Some(link) = request.links.first() {
        return no(format!("`{}` cannot be linked to a script", link.place), "`--link` is for programs");
    }
    let hint = "a script hands a kernel what it needs as arguments";
    if !request.env.is_empty() || !request.config.is_empty() {
        return no("a script has neither `--env` nor `--config`".to_owned(), hint);
    }
    match request.grants.iter().find(|grant| matches!(grant, Grant::Env { .. } | Grant::File { .. })) {
        Some(grant) => no(format!("`{}` cannot be granted to a script", quote(&grant.text())), hint),
        None => Ok(()),
    }
}

/// What is granted to a script is opened when the script uses it. What is not there is refused before.
fn check_there(home: &Home, grants: &[Grant]) -> Result<()> {
    grants::open(grants)?;
    let memories =
        grants.iter().filter_map(|grant| if let Grant::Mem(mem) = grant { Some(mem) } else { None });
    memories.into_iter().try_for_each(|mem| crate::memory::resolve(home, &mem.name).map(drop))
}

/// Has `target` answer requests until no more come. `listen` begins to take them, if the program can.
pub fn serve(
    home: &Home,
    target: &Target,
    request: &Request,
    outside: Outside,
    listen: impl FnOnce(&Arc<dyn Watch>) -> Result<Box<dyn Serve>> + 'static,
) -> Result<Finished> {
    if target.is_script() {
        return Err(Usage::new(format!("`{}` is a script, and no service", target.place)).into());
    }
    let (programs, compiled) = compile(home, target, request, &outside)?;
    if !inspect::is_service(programs.engine()?, &compiled) {
        let place = &target.place;
        let message = format!("`{place}` is no service: it does not export `wasi:http/handler@0.3`");
        return Err(Usage::new(message).hint(format!("`vac inspect {place}` shows what it exports")).into());
    }
    kernel(home, target, request, outside, (programs, compiled), Some(Box::new(listen)))
}

/// Begins to take requests.
type Listen = Box<dyn FnOnce(&Arc<dyn Watch>) -> Result<Box<dyn Serve>>>;

fn compile(
    home: &Home,
    target: &Target,
    request: &Request,
    outside: &Outside,
) -> Result<(Programs, Arc<Compiled>)> {
    let mut programs = Programs::new(&request.limits, outside).under(request.profile);
    let compiled = programs.compile_linked(home, target, &request.links)?;
    Ok((programs, compiled))
}

/// A run whose only kernel is a command, or a service if somebody takes requests for it.
fn kernel(
    home: &Home,
    target: &Target,
    request: &Request,
    outside: Outside,
    (programs, compiled): (Programs, Arc<Compiled>),
    listen: Option<Listen>,
) -> Result<Finished> {
    let keys = Keys::of(home, target, request)?;
    let request = &keys.request;
    let args: Vec<String> =
        std::iter::once(target.name.clone()).chain(request.args.iter().cloned()).collect();
    let env = environment(request);
    check_texts(&compiled, &args, &env)?;
    let copies = Copies::make(home, &request.grants)?;
    let is_service = listen.is_some();
    let with = with(home, request, &copies, &outside)?;
    // Only now is there all that the program needs.
    let serve = listen.map(|listen| listen(&outside.watch)).transpose()?;
    let with = With { serve, ..with };
    let what = if is_service { What::Serve } else { What::Run };
    let header = header(what, &target.cid, request, keys.add_to(command_fields(&args, &env)));
    let header_grants = grants::in_header(&header);
    let mut session = start(home, programs, target, header, request, outside)?;
    keys.note(&session);
    let ask = if is_service {
        Ask::Serve { args: &args, env: &env }
    } else {
        Ask::Command { args: &args, env: &env }
    };
    let gave = session.kernel(&target.name, &compiled, &ask, with);
    let gave = session.keep_trees(&grants::trees_to_keep(&header_grants), Some(&copies), gave);
    finish(session, gave)
}

/// What a program would end at as soon as it asks for its arguments or environment.
pub(crate) fn check_texts(program: &Compiled, args: &[String], env: &[(String, String)]) -> Result<()> {
    let Some(max) = program.text_max_bytes() else { return Ok(()) };
    let texts = args.iter().chain(env.iter().flat_map(|(name, value)| [name, value]));
    match texts.map(String::len).max().filter(|len| *len > max) {
        None => Ok(()),
        Some(len) => {
            let message =
                format!("an argument or variable has {len} bytes; a program of WASI 0.1 can have {max}");
            Err(Usage::new(message).hint("pass what is long in a file, or through the standard input").into())
        }
    }
}

/// What the grants open, directories and copies of trees in the order of their grants, and what the operator
/// sets.
pub(crate) fn with(home: &Home, request: &Request, copies: &Copies, outside: &Outside) -> Result<With> {
    let mut preopens = grants::open(&request.grants)?;
    preopens.extend(copies.preopens(&request.grants)?);
    preopens.sort_by_key(|preopen| preopen.grant);
    let variables = request.secrets.iter().map(secrets::Given::variable);
    let mut memories = Memories::new(&request.grants, &request.limits, (&outside.clock, &outside.watch));
    let config: BTreeMap<_, _> = variables.chain(request.config.iter().cloned()).collect();
    Ok(With {
        preopens,
        stdin: grants::stdin(&request.grants),
        net: grants::net(&request.grants),
        buckets: grants::buckets(home, &request.grants)?,
        memories: grants::memories(&mut memories, home, &request.grants)?,
        secrets: request.secrets.iter().map(|given| given.secret.clone()).collect(),
        hidden: Vec::new(),
        config: config.into_iter().collect(),
        env: environment(request),
        serve: None,
        exit_returns: false,
    })
}

/// The guest's environment: granted, then set, then placeholders of secrets. What is set wins.
fn environment(request: &Request) -> Vec<(String, String)> {
    let secrets = request.secrets.iter().map(secrets::Given::variable);
    let typed = || request.env.iter().cloned();
    let set: Vec<_> = typed().chain(secrets).chain(typed()).collect();
    grants::environment(&request.grants, &set)
}

/// The operator's key and the program's, turned together.
pub(crate) struct Keys {
    /// The request, with what was both asked and granted.
    pub(crate) request: Request,
    manifest: Option<Manifest>,
    /// What the operator granted.
    granted: Vec<Grant>,
}

impl Keys {
    pub(crate) fn of(home: &Home, target: &Target, request: &Request) -> Result<Self> {
        let manifest = if request.ignores_manifest { None } else { Manifest::of(target)? };
        Self::with(home, target, request, manifest)
    }

    /// The same, by a manifest that was found.
    pub(crate) fn with(
        home: &Home,
        target: &Target,
        request: &Request,
        manifest: Option<Manifest>,
    ) -> Result<Self> {
        let (mut request, granted) = (request.clone(), request.grants.clone());
        if let Some(manifest) = &manifest {
            let met = manifest::agree(&manifest.asks, &granted);
            manifest::check(manifest, &met, target)?;
            request.grants = manifest::effective(&met);
            // The header will name it.
            if request.recording != Recording::Off {
                home.store().put(Codec::Raw, &manifest.bytes)?;
            }
        }
        Ok(Self { request, manifest, granted })
    }

    /// The fields of a header, and the manifest if there is one.
    pub(crate) fn add_to(&self, mut fields: Vec<Field>) -> Vec<Field> {
        fields.extend(self.manifest.iter().map(|m| ("manifest".to_owned(), Node::Link(m.cid))));
        fields
    }

    /// What was granted and not asked for is in no chained entry: it changes nothing.
    pub(crate) fn note(&self, session: &Session<'_>) {
        if self.manifest.is_some() {
            let granted = self.granted.iter().map(|grant| Node::Text(grant.text())).collect();
            session.journal().note(vec![("granted".into(), Node::List(granted))]);
        }
    }
}

fn not_a_command(programs: &Programs, compiled: &Compiled, target: &Target) -> Result<Error> {
    let usage = Usage::new(format!("`{}` is not a command: it does not export `wasi:cli/run`", target.place));
    let first = inspect::exports(programs.engine()?, compiled).first();
    let hint = match first {
        Some(export) => format!("call one of its exports: `vac call {} '{}(…)'`", target.place, export.name),
        None => "it exports no functions that could be called".into(),
    };
    Ok(usage.hint(hint).into())
}

/// Starts a live session, with the program among the objects that its ledger names.
pub(crate) fn start<'h>(
    home: &'h Home,
    programs: Programs,
    target: &Target,
    mut header: Header,
    request: &Request,
    outside: Outside,
) -> Result<Session<'h>> {
    let engine = header.fields.iter_mut().find(|(name, _)| name == "engine");
    engine.into_iter().for_each(|(_, engine)| *engine = Node::Text(programs.backend().engine()));
    let started = outside.clock.unix_ms();
    // First: an object is durable before an entry that names it is written, and the header names this one.
    if request.recording != Recording::Off {
        keep_as(home, &target.cid, &target.bytes)?;
        request.links.iter().try_for_each(|link| keep_as(home, &link.cid, &link.bytes))?;
    }
    let (seed, limits) = (seed_bytes(request.seed), request.limits.clone());
    let session = Session::live(home, programs, header, seed, limits, request.recording, outside)?;
    session.journal().note(note(started, target, request));
    Ok(session)
}

/// What may differ between equal runs.
pub(crate) fn note(started_unix_ms: u64, target: &Target, request: &Request) -> Vec<Field> {
    let hosts = request.grants.iter().map(|g| match g.host_path() {
        Some(path) => {
            Node::Text(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string())
        }
        None => Node::Null,
    });
    vec![
        ("grant_paths".into(), Node::List(hosts.collect())),
        ("started_unix_ms".into(), Node::Int(i128::from(started_unix_ms))),
        ("target".into(), Node::Text(target.place.clone())),
        ("vac".into(), Node::Text(env!("CARGO_PKG_VERSION").into())),
    ]
}

/// A list of text.
pub(crate) fn text_list(texts: &[String]) -> Node {
    Node::List(texts.iter().map(|text| Node::Text(text.clone())).collect())
}

pub(crate) fn command_fields(args: &[String], env: &[(String, String)]) -> Vec<Field> {
    vec![("args".into(), text_list(args)), ("env".into(), pair_list(env))]
}

/// The fields of calls. Without an environment there is none, as there never was.
pub(crate) fn call_fields(texts: &[String], env: &[(String, String)]) -> Vec<Field> {
    let env = (!env.is_empty()).then(|| ("env".to_owned(), pair_list(env)));
    [("calls".to_owned(), text_list(texts))].into_iter().chain(env).collect()
}

fn pair_list(pairs: &[(String, String)]) -> Node {
    let pair = |(k, v): &(String, String)| Node::List(vec![Node::Text(k.clone()), Node::Text(v.clone())]);
    Node::List(pairs.iter().map(pair).collect())
}

/// The header of a run: what a replay must match.
pub(crate) fn header(what: What, target: &Cid, request: &Request, mut fields: Vec<Field>) -> Header {
    let grants = request.grants.iter().map(Grant::to_node).collect();
    let limit = |limit| request.limits.get(limit).map_or(Node::Null, |max| Node::Int(i128::from(max)));
    fields.extend([
        ("engine".to_owned(), Node::Text(ENGINE.into())),
        ("format".to_owned(), Node::Int(HEADER_FORMAT)),
        ("grants".to_owned(), Node::List(grants)),
        ("limits".to_owned(), request.limits.to_node()),
        ("memory_max_bytes".to_owned(), limit(Limit::Memory)),
        ("profile".to_owned(), Node::Text(request.profile.name().into())),
        ("seed".to_owned(), Node::Int(i128::from(request.seed))),
        ("target".to_owned(), Node::Link(*target)),
        ("ticks_max".to_owned(), limit(Limit::Ticks)),
        ("what".to_owned(), Node::Text(what.word().into())),
    ]);
    // Left out where there is nothing to say, so that such a run has the header it always had.
    if !request.config.is_empty() {
        fields.push(("config".to_owned(), pair_list(&request.config)));
    }
    if !request.secrets.is_empty() {
        let secrets = request.secrets.iter().map(secrets::Given::to_node).collect();
        fields.push(("secrets".to_owned(), Node::List(secrets)));
    }
    fields.extend(request.recording.field());
    if !request.links.is_empty() {
        let links = request.links.iter().map(|link| Node::Link(link.cid)).collect();
        fields.push(("links".to_owned(), Node::List(links)));
    }
    Header::new(fields)
}

/// Ends a session by what its only kernel gave.
pub(crate) fn finish(session: Session<'_>, gave: Result<Gave>) -> Result<Finished> {
    let (outcome, result, error) = match gave {
        Ok(Gave::Ended(Ending::Returned)) => (Outcome::Exit(0), None, None),
        Ok(Gave::Ended(Ending::Exited(status))) => (Outcome::Exit(status), None, None),
        Ok(Gave::Results(results)) => match value::show_results(&results) {
            Ok(text) => (Outcome::Done(session.result_body(text.as_bytes())?), Some(text), None),
            Err(error) => (outcome_of(&error), None, Some(error)),
        },
        Err(error @ (Error::Divergence(_) | Error::Corrupt(_))) if !session.is_live() => return Err(error),
        Err(error) if session.is_stopped() => return Err(error),
        Err(error) if session.journal().is_past() => {
            session.abandon();
            return Err(error);
        }
        Err(error) => (outcome_of(&error), None, Some(error)),
    };
    let summary = session.finish(outcome)?;
    Ok(Finished { summary, result, error, calls: Vec::new() })
}

/// The typed arguments of a recorded call.
pub(crate) fn recorded_args(
    programs: &Programs,
    compiled: &Compiled,
    export: &str,
    args: &str,
) -> Result<Vec<Val>> {
    let export = inspect::find_function(programs.engine()?, compiled, export)?;
    value::parse_args(args, &export.params)
}
