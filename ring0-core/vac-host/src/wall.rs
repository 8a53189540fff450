//! The wall: every function that a guest can reach goes through [`cross`], and so through the
//! [`Recorder`]. There is no other way to define one.
//!
//! On the way in, the call is counted and its arguments get their canonical form. The recorder
//! then either has the answer (a replay) or lets the host act. On the way out the recorder gets
//! the answer's canonical form. The order is: charge, ask, act, answer.

use std::pin::Pin;
use std::sync::Arc;

use vac_core::canon::{Reader, Writer};
use vac_core::caps::{Handle, Resource as Quota};
use vac_core::fault::{Corrupt, Error, Result};
use vac_core::ledger::Class;
use wasmtime::component::{
    Accessor, ComponentNamedList, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};
use wasmtime::{AsContext, AsContextMut, StoreContextMut};

use crate::host::{Host, REVOKED};
use crate::limits::INSTANCES_MAX;
use crate::look::{Frame, Lens, Look};
use crate::meter::{Counters, Meter};
use crate::moves::Moves;
use crate::past::{self, Answer};
use crate::piece::Form;
use crate::readiness::Readiness;
use crate::socket::Interest;
use crate::timers::Timers;
use crate::wasi3::http::Bodies;
use crate::wire::Wire;

/// A function of the wall.
#[derive(Debug)]
pub struct Function {
    /// Number among all functions of the wall, for tables.
    pub index: usize,
    /// `package:name/interface#function`, without a version.
    pub name: String,
    /// What kind of event a call of it is.
    pub class: Class,
}

/// A call that is crossing the wall.
#[derive(Debug, Clone, Copy)]
pub struct Crossing<'a> {
    /// The function.
    pub function: &'a Function,
    /// The kernel's tick.
    pub tick: u64,
    /// The canonical form of the arguments.
    pub request: &'a [u8],
}

/// What the host did.
#[derive(Debug)]
pub struct Answered<'a> {
    /// The canonical form of the result.
    pub response: Response<'a>,
    /// Number of the operator's grant that allowed it.
    pub grant: Option<u32>,
    /// If something was refused: the grant that would have allowed it.
    pub denied: Option<&'a str>,
}

/// Where the canonical form of a result is.
#[derive(Debug)]
pub enum Response<'a> {
    /// In a buffer that a recorder may take, leaving another one.
    Written(&'a mut Vec<u8>),
    /// In one that others read.
    Shared(Form),
}

impl Response<'_> {
    /// The form.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Written(bytes) => bytes,
            Self::Shared(form) => form,
        }
    }
}

/// Keeps what crosses the wall, or answers from what was kept.
pub trait Recorder: Send {
    /// A call is about to happen. Returns the answer if the record has it; otherwise the host
    /// acts and [`Recorder::answered`] follows.
    fn ask(&mut self, crossing: &Crossing<'_>) -> Result<Option<Vec<u8>>>;

    /// In a replay, the canonical form of what the next event of the record was asked, if `function` may be
    /// what it was asked of. Needed where that is
    /// more than the arguments: the host that knew the rest is not there any more.
    fn recorded_request(&mut self, function: &Function) -> Result<Option<Vec<u8>>> {
        let _ = function;
        Ok(None)
    }

    /// Whether the answers that [`Recorder::ask`] has are those of a past after which the host goes on itself: then
    /// what stands behind the handles that they give is made again.
    fn is_past(&self) -> bool {
        false
    }

    /// The host acted.
    fn answered(&mut self, crossing: &Crossing<'_>, answered: Answered<'_>) -> Result<()>;

    /// Numbers of grants that were taken back and that this kernel does not know of yet. Asked before
    /// every call.
    fn revoked(&mut self, _tick: u64) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }

    /// The host did not act, or not wholly, and the kernel ends here.
    fn stopped(&mut self, crossing: &Crossing<'_>, why: &Error) -> Result<()>;

    /// What is wanted of a kernel that is stopped, if anything is.
    fn lens(&self) -> Option<Lens> {
        None
    }

    /// The calls of a kernel that was stopped, the innermost first. No record has them.
    fn ended_in(&mut self, _calls: Vec<Frame>) {}

    /// The kernel was stopped, by this recorder or otherwise, and this is what it looks like.
    fn looked(&mut self, _look: Look) {}
}

/// What a store holds.
pub struct State {
    pub(crate) host: Host,
    pub(crate) recorder: Box<dyn Recorder>,
    /// What counts its ticks.
    pub(crate) meter: Meter,
    /// Instances of core modules that it may have.
    pub(crate) instances_max: usize,
    /// What became of its table of handles.
    pub(crate) moves: Moves,
    pub(crate) request: Writer,
    pub(crate) response: Writer,
    /// Waits of functions that are `async`.
    pub(crate) timers: Timers,
    /// Tasks that wait for sockets.
    pub(crate) readiness: Readiness,
    /// Bodies of HTTP messages.
    pub(crate) bodies: Bodies,
}

impl State {
    pub(crate) fn new(host: Host, recorder: Box<dyn Recorder>, meter: Meter) -> Self {
        let (request, response) = (Writer::default(), Writer::default());
        Self {
            host,
            recorder,
            meter,
            instances_max: INSTANCES_MAX,
            moves: Moves::default(),
            request,
            response,
            timers: Timers::default(),
            readiness: Readiness::default(),
            bodies: Bodies::default(),
        }
    }

    /// The counters of a program that has its own.
    pub(crate) fn counters(&mut self) -> Option<&mut Counters> {
        match &mut self.meter {
            Meter::Counters(counters) => Some(counters),
            Meter::Fuel { .. } => None,
        }
    }
}

/// Defines the functions of the wall in a linker.
pub struct Wall<'a> {
    linker: &'a mut Linker<State>,
    count: usize,
}

impl<'a> Wall<'a> {
    pub(crate) fn new(linker: &'a mut Linker<State>) -> Self {
        Self { linker, count: SERVING.len() }
    }

    /// Defines an interface: `name` without version, `version` empty or beginning with `@`.
    pub fn interface(
        &mut self,
        name: &'static str,
        version: &str,
        define: impl FnOnce(&mut Interface<'_>) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        let linker = self.linker.instance(&format!("{name}{version}"))?;
        define(&mut Interface { linker, name, count: &mut self.count })
    }
}

/// What a function does that is made of several events.
pub(crate) type Work<P, E, R> = for<'a> fn(
    &'a Accessor<State>,
    Arc<E>,
    P,
) -> Pin<Box<dyn Future<Output = wasmtime::Result<R>> + Send + 'a>>;

/// What a function waits for: a socket, and the function whose event a look at it is.
pub(crate) struct On<P> {
    pub(crate) handle: fn(&P) -> u32,
    pub(crate) interest: Interest,
    pub(crate) look: Arc<Function>,
}

/// What crosses while a guest answers requests, without being called by a name of an interface.
const SERVING: [(&str, Class); 5] = [
    ("[request]handle", Class::Read),
    ("[read]handle", Class::Read),
    ("[response]handle", Class::Local),
    ("[write]handle", Class::Effect),
    ("[reply]handle", Class::Effect),
];

/// The events of [`SERVING`], in that order; they are the first functions of every wall.
pub(crate) fn serving() -> [Arc<Function>; SERVING.len()] {
    let mut index = 0;
    SERVING.map(|(name, class)| {
        let function = Function { index, name: format!("wasi:http/handler#{name}"), class };
        index += 1;
        Arc::new(function)
    })
}

/// One interface of the wall.
pub struct Interface<'a> {
    linker: LinkerInstance<'a, State>,
    name: &'static str,
    count: &'a mut usize,
}

impl Interface<'_> {
    fn function(&mut self, name: &str, class: Class) -> Arc<Function> {
        let index = *self.count;
        *self.count += 1;
        Arc::new(Function { index, name: format!("{}#{name}", self.name), class })
    }

    /// Defines a function that does `act`.
    pub fn func<P, R>(
        &mut self,
        name: &str,
        class: Class,
        act: impl Fn(&mut Host, P) -> Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Wire + 'static,
        R: Wire + Lower + Send + Sync + 'static,
        (R,): ComponentNamedList + Lower,
    {
        let function = self.function(name, class);
        self.linker.func_wrap(name, move |mut store: StoreContextMut<'_, State>, params: P| {
            let result = cross(&mut store, &function, params, None, &act);
            result.map(|value| (value,)).map_err(wasmtime::Error::new)
        })
    }

    /// Defines a function whose arguments name by handles what it does: its request in the record is
    /// `[arguments, detail]`, the detail being what stands behind the handles.
    pub(crate) fn detailed<P, R>(
        &mut self,
        name: &str,
        class: Class,
        detail: impl Fn(&mut Host, &P) -> Result<Vec<u8>> + Send + Sync + 'static,
        act: impl Fn(&mut Host, P) -> Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Wire + 'static,
        R: Wire + Lower + Send + Sync + 'static,
        (R,): ComponentNamedList + Lower,
    {
        let function = self.function(name, class);
        self.linker.func_wrap(name, move |mut store: StoreContextMut<'_, State>, params: P| {
            let result = cross(&mut store, &function, params, Some(&detail), &act);
            result.map(|value| (value,)).map_err(wasmtime::Error::new)
        })
    }

    /// Defines a function without a result.
    pub fn proc<P>(
        &mut self,
        name: &str,
        class: Class,
        act: impl Fn(&mut Host, P) -> Result<()> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Wire + 'static,
    {
        let function = self.function(name, class);
        self.linker.func_wrap(name, move |mut store: StoreContextMut<'_, State>, params: P| {
            cross(&mut store, &function, params, None, &act).map_err(wasmtime::Error::new)
        })
    }

    /// A function for what crosses without being called by name: a part of a stream, the end of a wait.
    pub(crate) fn event(&mut self, name: &str, class: Class) -> Arc<Function> {
        self.function(name, class)
    }

    /// Defines a function that is `async` in its interface, and is done when `act` is.
    pub(crate) fn func_async<P, R>(
        &mut self,
        name: &str,
        class: Class,
        act: impl Fn(&mut Host, P) -> Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Wire + Send + 'static,
        R: Wire + Lower + Send + Sync + 'static,
        (R,): ComponentNamedList + Lower,
    {
        let function = self.function(name, class);
        let act = Arc::new(act);
        self.linker.func_wrap_concurrent(name, move |accessor: &Accessor<State>, params: P| {
            let (function, act) = (Arc::clone(&function), Arc::clone(&act));
            Box::pin(async move {
                let result =
                    accessor.with(|mut a| cross(&mut a.as_context_mut(), &function, params, None, &*act));
                result.map(|value| (value,)).map_err(wasmtime::Error::new)
            })
        })
    }

    /// Defines a function that is `async` in its interface and returns only at some instant: `due`
    /// says in how many nanoseconds. That is recorded; that the time has come is recorded as another event.
    pub(crate) fn wait<P>(&mut self, name: &str, due: fn(&Host, &P) -> u64) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Wire + Send + 'static,
    {
        let begin = self.function(name, Class::Local);
        let end = self.function(&format!("[end]{name}"), Class::Local);
        self.linker.func_wrap_concurrent(name, move |accessor: &Accessor<State>, params: P| {
            let (begin, end) = (Arc::clone(&begin), Arc::clone(&end));
            Box::pin(async move {
                let wait = accessor.with(|mut a| {
                    let mut store = a.as_context_mut();
                    let due = |host: &mut Host, params: P| Ok(due(host, &params));
                    let ns = cross(&mut store, &begin, params, None, &due)?;
                    let now = tick(&store);
                    store.data_mut().timers.start(now, ns)
                });
                if let Some(timer) = wait.map_err(wasmtime::Error::new)? {
                    let number = timer.await;
                    let none = |_: &mut Host, (_,): (u64,)| Ok(());
                    let ended =
                        accessor.with(|mut a| cross(&mut a.as_context_mut(), &end, (number,), None, &none));
                    ended.map_err(wasmtime::Error::new)?;
                }
                Ok(())
            })
        })
    }

    /// Defines a function that is `async` in its interface and may have to wait for the socket behind the handle
    /// that is its first argument. While it answers nothing, `again` is done when the socket is ready;
    /// each time is an event.
    pub(crate) fn retried<P, R>(
        &mut self,
        name: &str,
        class: Class,
        on: On<P>,
        begin: fn(&mut Host, P) -> Result<Option<R>>,
        again: fn(&mut Host, u32) -> Result<Option<R>>,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Wire + Send + 'static,
        R: Wire + Lower + Send + Sync + 'static,
        (R,): ComponentNamedList + Lower,
    {
        let first = self.function(name, class);
        let next = self.function(&format!("[again]{name}"), class);
        let On { handle, interest, look } = on;
        self.linker.func_wrap_concurrent(name, move |accessor: &Accessor<State>, params: P| {
            let (first, next, look) = (Arc::clone(&first), Arc::clone(&next), Arc::clone(&look));
            Box::pin(async move {
                let handle = handle(&params);
                let begun =
                    accessor.with(|mut a| cross(&mut a.as_context_mut(), &first, params, None, &begin));
                let mut result = begun.map_err(wasmtime::Error::new)?;
                loop {
                    if let Some(result) = result {
                        return Ok((result,));
                    }
                    let wait = accessor.with(|mut a| a.data_mut().readiness.start(&look, handle, interest));
                    wait.map_err(wasmtime::Error::new)?.await;
                    let again = |host: &mut Host, (handle,): (u32,)| again(host, handle);
                    let tried =
                        accessor.with(|mut a| cross(&mut a.as_context_mut(), &next, (handle,), None, &again));
                    result = tried.map_err(wasmtime::Error::new)?;
                }
            })
        })
    }

    /// Defines a function that takes or gives streams. `split` takes its arguments apart, into those
    /// that are recorded and those that only `make` sees, which builds the result from what `act` answered.
    pub(crate) fn streams<P, W, S, A, R>(
        &mut self,
        name: &str,
        class: Class,
        split: impl Fn(P) -> (W, S) + Send + Sync + 'static,
        act: impl Fn(&mut Host, W) -> Result<A> + Send + Sync + 'static,
        make: impl Fn(&mut StoreContextMut<'_, State>, A, S) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + 'static,
        W: Wire,
        A: Wire,
        R: Send + Sync + 'static,
        (R,): ComponentNamedList + Lower,
    {
        let function = self.function(name, class);
        self.linker.func_wrap(name, move |mut store: StoreContextMut<'_, State>, params: P| {
            let (recorded, streams) = split(params);
            let answer = cross(&mut store, &function, recorded, None, &act).map_err(wasmtime::Error::new)?;
            make(&mut store, answer, streams).map(|value| (value,))
        })
    }

    /// Defines a function that is `async` in its interface and made of several events, which `work` lets cross.
    pub(crate) fn composed<P, E, R>(
        &mut self,
        name: &str,
        events: E,
        work: Work<P, E, R>,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Send + 'static,
        E: Send + Sync + 'static,
        R: Send + Sync + 'static,
        (R,): ComponentNamedList + Lower,
    {
        let events = Arc::new(events);
        self.linker.func_wrap_concurrent(name, move |accessor: &Accessor<State>, params: P| {
            let working = work(accessor, Arc::clone(&events), params);
            Box::pin(async move { working.await.map(|value| (value,)) })
        })
    }

    /// Defines a function that ends the kernel with a status.
    pub(crate) fn exit<P>(
        &mut self,
        name: &str,
        class: Class,
        may_return: bool,
        status: fn(&P) -> u32,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Wire + 'static,
    {
        let function = self.function(name, class);
        self.linker.func_wrap(name, move |mut store: StoreContextMut<'_, State>, params: P| {
            let status = status(&params);
            let end = |_: &mut Host, _: P| Ok(());
            let crossed: Result<()> = cross(&mut store, &function, params, None, &end);
            crossed.map_err(wasmtime::Error::new)?;
            if may_return && status == 0 && store.data().host.exit_returns {
                return Ok(());
            }
            Err::<(), _>(wasmtime::Error::new(Exit(status)))
        })
    }

    /// Defines a type of handle. Giving one up is recorded like a call.
    pub(crate) fn resource<T: 'static>(&mut self, name: &str) -> wasmtime::Result<()> {
        self.resource_and::<T>(name, |_, _| Ok(()))
    }

    /// Defines a type of handle that has something on the side of the engine, which `end` takes away.
    pub(crate) fn resource_and<T: 'static>(
        &mut self,
        name: &str,
        end: fn(&mut StoreContextMut<'_, State>, u32) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        let function = self.function(&format!("[drop]{name}"), Class::Local);
        self.linker.resource(name, ResourceType::host::<T>(), move |mut store, rep| {
            let drop =
                |host: &mut Host, (handle,): (Resource<T>,)| host.release(Handle::from_rep(handle.rep()));
            let params = (Resource::<T>::new_own(rep),);
            cross(&mut store, &function, params, None, &drop).map_err(wasmtime::Error::new)?;
            end(&mut store, rep)
        })
    }
}

/// The kernel's tick.
pub(crate) fn tick(store: &impl AsContext<Data = State>) -> u64 {
    let store = store.as_context();
    match &store.data().meter {
        Meter::Counters(counters) => counters.ticks(),
        Meter::Fuel { given } => given.saturating_sub(store.get_fuel().unwrap_or_default()),
    }
}

/// What stands behind the handles of a call's arguments, in canonical form.
type Detail<'a, P> = &'a dyn Fn(&mut Host, &P) -> Result<Vec<u8>>;

/// What the host does when it is called.
type Act<'a, P, R> = &'a dyn Fn(&mut Host, P) -> Result<R>;

/// `null` in canonical form. In the place of a detail that is none it makes a request that differs: one that was cut off
/// before its detail would equal one with nothing there.
const NULL: &[u8] = &[0xf6];

/// The detail of a recorded request; none if it is of another form, which then is found to differ.
fn recorded_detail(recorded: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(recorded, "the recorded request");
    reader.array_of(2).ok()?;
    reader.skip().ok()?;
    let at = reader.at();
    // It is one value, to the end: nobody else looks at it in a replay.
    reader.skip().ok()?;
    recorded.get(at..).filter(|_| reader.at() == recorded.len()).map(<[u8]>::to_vec)
}

/// One call through the wall.
///
/// There are hundreds of functions, and a copy of this for each pair of types: what does not need them is in functions
/// of its own.
pub(crate) fn cross<P: Wire, R: Wire>(
    store: &mut StoreContextMut<'_, State>,
    function: &Function,
    params: P,
    detail: Option<Detail<'_, P>>,
    act: Act<'_, P, R>,
) -> Result<R> {
    let tick = tick(store);
    let state = store.data_mut();
    state.begin(tick)?;
    match detail {
        None => params.put(&mut state.request),
        Some(detail) => {
            let behind = match state.recorder.recorded_request(function)? {
                Some(recorded) => recorded_detail(&recorded).unwrap_or_else(|| NULL.to_vec()),
                None => detail(&mut state.host, &params)?,
            };
            state.request.array(2);
            params.put(&mut state.request);
            state.request.form(&behind);
        }
    }
    let moves = &mut state.moves;
    params.handles(&mut |handle, is_owned| moves.gave(handle, is_owned));
    let crossing = Crossing { function, tick, request: state.request.bytes_so_far() };
    match state.recorder.ask(&crossing) {
        Ok(None) => {}
        Ok(Some(recorded)) => {
            let result: R = replayed(&recorded, function)?;
            let gave_handle = state.moves.got_all(&result);
            if state.recorder.is_past() {
                let answer = Answer { recorded: &recorded, gave_handle };
                relive(&mut state.host, &crossing, answer, params, detail, act)?;
            }
            return Ok(result);
        }
        Err(why) => return told(why),
    }
    let result = match act(&mut state.host, params).or_else(told) {
        Ok(result) => result,
        Err(why) => {
            state.recorder.stopped(&crossing, &why)?;
            return Err(why);
        }
    };
    state.moves.got_all(&result);
    let response = match result.form() {
        Some(form) => Response::Shared(form),
        None => {
            state.response.clear();
            result.put(&mut state.response);
            Response::Written(state.response.buffer())
        }
    };
    answered(&mut state.host, &mut *state.recorder, &crossing, response)?;
    Ok(result)
}

impl State {
    /// Before the arguments of a call are looked at: what it costs, and which grants are left.
    fn begin(&mut self, tick: u64) -> Result<()> {
        if let Some(counters) = self.counters() {
            counters.cross(tick)?;
        }
        self.host.begin_call(tick);
        self.host.quotas.charge(Quota::HostCalls, 1)?;
        for grant in self.recorder.revoked(tick)? {
            self.host.revoke(grant);
        }
        self.request.clear();
        Ok(())
    }
}

fn answered(
    host: &mut Host,
    recorder: &mut dyn Recorder,
    crossing: &Crossing<'_>,
    response: Response<'_>,
) -> Result<()> {
    let (grant, denied) = host.end_call();
    recorder.answered(crossing, Answered { response, grant, denied: denied.as_deref() })
}

/// The past of a fork: the host does again what it can, and must come to the same.
#[cold]
fn relive<P: Wire, R: Wire>(
    host: &mut Host,
    crossing: &Crossing<'_>,
    answer: Answer<'_>,
    params: P,
    detail: Option<Detail<'_, P>>,
    act: Act<'_, P, R>,
) -> Result<()> {
    if let Some(detail) = detail {
        let then = recorded_detail(crossing.request).unwrap_or_default();
        past::check_detail(crossing, &then, detail(host, &params))?;
    }
    let act = |host: &mut Host| {
        let result = act(host, params).or_else(told)?;
        let mut form = Writer::default();
        result.put(&mut form);
        Ok(form.into_bytes())
    };
    past::again(host, crossing, answer, Box::new(act))
}

/// The kind of fault by which a recorder says that it has no answer: for the guest it is as if a handle had
/// been revoked.
pub const UNANSWERED: &str = "unanswered";

/// A revoked handle is an error that the guest sees, where its function has one.
fn told<R: Wire>(why: Error) -> Result<R> {
    match &why {
        Error::Fault(fault) if matches!(fault.kind, REVOKED | UNANSWERED) => R::revoked().ok_or(why),
        _ => Err(why),
    }
}

fn replayed<R: Wire>(recorded: &[u8], function: &Function) -> Result<R, Corrupt> {
    fn read<R: Wire>(recorded: &[u8], place: &str) -> Result<R, Corrupt> {
        let mut reader = Reader::new(recorded, place);
        let result = R::read(&mut reader)?;
        reader.finish()?;
        Ok(result)
    }
    // The place is for errors, and takes longer to say than the rest.
    read(recorded, "").or_else(|_| read(recorded, &format!("the recorded answer of `{}`", function.name)))
}

/// A recorder that keeps nothing: to measure what recording costs, and for tests.
#[derive(Debug, Default)]
pub struct NoRecorder;

impl Recorder for NoRecorder {
    fn ask(&mut self, _: &Crossing<'_>) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
    fn answered(&mut self, _: &Crossing<'_>, _: Answered<'_>) -> Result<()> {
        Ok(())
    }
    fn stopped(&mut self, _: &Crossing<'_>, _: &Error) -> Result<()> {
        Ok(())
    }
}

/// The guest asked to end with a status. Not an error; it travels as one through its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("exit with status {0}")]
pub(crate) struct Exit(pub(crate) u32);
