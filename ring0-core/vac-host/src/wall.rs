//! The wall: every function that a guest can reach goes through [`cross`], and so through the
//! [`Recorder`]. There is no other way to define one.
//!
//! On the way in, the call is counted and its arguments get their canonical form. The recorder
//! then either has the answer (a replay) or lets the host act. On the way out the recorder gets
//! the answer's canonical form. The order is: charge, ask, act, answer.

use std::sync::Arc;

use vac_core::canon::{Reader, Writer};
use vac_core::caps::{Handle, Resource as Quota};
use vac_core::fault::{Corrupt, Error, Result};
use vac_core::ledger::Class;
use wasmtime::component::{ComponentNamedList, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType};
use wasmtime::{AsContext, StoreContextMut};

use crate::host::Host;
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
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The canonical form of the result.
    pub response: &'a [u8],
    /// Number of the operator's grant that allowed it.
    pub grant: Option<u32>,
    /// If something was refused: the grant that would have allowed it.
    pub denied: Option<&'a str>,
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

    /// The host acted.
    fn answered(&mut self, crossing: &Crossing<'_>, answered: &Answered<'_>) -> Result<()>;

    /// The host did not act, or not wholly, and the kernel ends here.
    fn stopped(&mut self, crossing: &Crossing<'_>, why: &Error) -> Result<()>;
}

/// What a store holds.
pub struct State {
    pub(crate) host: Host,
    pub(crate) recorder: Box<dyn Recorder>,
    /// Ticks that the store was given, to know how many were used.
    pub(crate) ticks_given: u64,
    pub(crate) request: Writer,
    pub(crate) response: Writer,
}

/// Defines the functions of the wall in a linker.
pub struct Wall<'a> {
    linker: &'a mut Linker<State>,
    count: usize,
}

impl<'a> Wall<'a> {
    pub(crate) fn new(linker: &'a mut Linker<State>) -> Self {
        Self { linker, count: 0 }
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

    /// Defines a function that ends the kernel with a status.
    pub(crate) fn exit<P>(&mut self, name: &str, class: Class, status: fn(&P) -> u32) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Wire + 'static,
    {
        let function = self.function(name, class);
        self.linker.func_wrap(name, move |mut store: StoreContextMut<'_, State>, params: P| {
            let status = status(&params);
            let end = |_: &mut Host, _: P| Ok(());
            let crossed: Result<()> = cross(&mut store, &function, params, None, &end);
            crossed.map_err(wasmtime::Error::new)?;
            Err::<(), _>(wasmtime::Error::new(Exit(status)))
        })
    }

    /// Defines a type of handle. Giving one up is recorded like a call.
    pub(crate) fn resource<T: 'static>(&mut self, name: &str) -> wasmtime::Result<()> {
        let function = self.function(&format!("[drop]{name}"), Class::Local);
        self.linker.resource(name, ResourceType::host::<T>(), move |mut store, rep| {
            let drop =
                |host: &mut Host, (handle,): (Resource<T>,)| host.release(Handle::from_rep(handle.rep()));
            let params = (Resource::<T>::new_own(rep),);
            cross(&mut store, &function, params, None, &drop).map_err(wasmtime::Error::new)
        })
    }
}

/// What stands behind the handles of a call's arguments, in canonical form.
type Detail<'a, P> = &'a dyn Fn(&mut Host, &P) -> Result<Vec<u8>>;

/// The detail of a recorded request; none if it is of another form, which then is found to differ.
fn recorded_detail(recorded: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(recorded, "the recorded request");
    reader.array_of(2).ok()?;
    reader.skip().ok()?;
    recorded.get(reader.at()..).map(<[u8]>::to_vec)
}

/// One call through the wall.
fn cross<P: Wire, R: Wire>(
    store: &mut StoreContextMut<'_, State>,
    function: &Function,
    params: P,
    detail: Option<Detail<'_, P>>,
    act: &impl Fn(&mut Host, P) -> Result<R>,
) -> Result<R> {
    let fuel = store.as_context().get_fuel().unwrap_or_default();
    let State { host, recorder, ticks_given, request, response } = store.data_mut();
    let tick = ticks_given.saturating_sub(fuel);
    host.begin_call(tick);
    host.quotas.charge(Quota::HostCalls, 1)?;
    request.clear();
    match detail {
        None => params.put(request),
        Some(detail) => {
            let detail = match recorder.recorded_request(function)? {
                Some(recorded) => recorded_detail(&recorded).unwrap_or_default(),
                None => detail(host, &params)?,
            };
            request.array(2);
            params.put(request);
            request.form(&detail);
        }
    }
    let crossing = Crossing { function, tick, request: request.bytes_so_far() };
    if let Some(recorded) = recorder.ask(&crossing)? {
        return Ok(replayed(&recorded, function)?);
    }
    let result = match act(host, params) {
        Ok(result) => result,
        Err(why) => {
            recorder.stopped(&crossing, &why)?;
            return Err(why);
        }
    };
    response.clear();
    result.put(response);
    let (grant, denied) = host.end_call();
    let answered = Answered { response: response.bytes_so_far(), grant, denied: denied.as_deref() };
    recorder.answered(&crossing, &answered)?;
    Ok(result)
}

fn replayed<R: Wire>(recorded: &[u8], function: &Function) -> Result<R, Corrupt> {
    let place = format!("the recorded answer of `{}`", function.name);
    let mut reader = Reader::new(recorded, &place);
    let result = R::read(&mut reader)?;
    reader.finish()?;
    Ok(result)
}

/// A recorder that keeps nothing: to measure what recording costs, and for tests.
#[derive(Debug, Default)]
pub struct NoRecorder;

impl Recorder for NoRecorder {
    fn ask(&mut self, _: &Crossing<'_>) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
    fn answered(&mut self, _: &Crossing<'_>, _: &Answered<'_>) -> Result<()> {
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
