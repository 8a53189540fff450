//! A kernel that runs: one store, one instance, one side of the host.

use std::sync::Arc;

use vac_core::caps::{Quotas, Resource as Quota, raise};
use vac_core::fault::{AbortKind, Error, Fault, HostAbort, Result, Usage};
use wasmtime::component::{self, ComponentExportIndex, Func, ResourceAny, ResourceType, Type, Val};
use wasmtime::{
    GcHeapOutOfMemory, OutOfMemory, PoolConcurrencyLimitError, ResourceLimiter, Store, ThrownException, Trap,
};

use crate::core_module::CoreMemory;
use crate::engine::{Compiled, Engine, Profile, chain, machine, no_room};
use crate::host::{Host, Setup};
use crate::limits::{DEPTH_UNIT_BYTES, TASKS_MAX, TICKS_BETWEEN_CHECKS};
use crate::load::Shape;
use crate::meter::{Counters, Ended, Meter, PAGE_BYTES, at_epoch};
use crate::state::Parts;
use crate::wall::{Exit, Recorder, State, tick};
use crate::wasi3::http_serve::{self, Events};
use crate::watchdog::{Leash, Running};
use crate::{floats, look, schedule, stack};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It returned.
    Returned,
    /// It exited with a status.
    Exited(u32),
}

/// Asked now and then whether a kernel should stop for a reason that is not its own.
pub trait Watch: Send + Sync {
    /// Why to stop, if so.
    fn stop(&self) -> Option<HostAbort>;

    /// Whether it is the operator who wants that, and not what is watched itself.
    fn is_operators(&self) -> bool {
        self.stop().is_some()
    }

    /// Nanoseconds since some instant, to know how long a peer took. Where nobody knows, time is counted by looks.
    fn now_ns(&self) -> u64 {
        0
    }
}

/// Never stops anything.
#[derive(Debug, Default)]
pub struct NoWatch;

impl Watch for NoWatch {
    fn stop(&self) -> Option<HostAbort> {
        None
    }
}

/// What a kernel may use besides its [`Setup`].
#[derive(Clone)]
pub struct Budget {
    /// Ticks.
    pub ticks_max: u64,
    /// Asked now and then.
    pub watch: Arc<dyn Watch>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { ticks_max: u64::MAX, watch: Arc::new(NoWatch) }
    }
}

/// A kernel that was started.
pub struct Instance {
    /// Handles of its memories, globals and tables, once somebody asked for its state. They go before the store does: what a
    /// pool clears of its memories must not count as unwritten since it was looked at.
    pub(crate) parts: Option<Parts>,
    pub(crate) store: Store<State>,
    instance: component::Instance,
    compiled: Arc<Compiled>,
    pub(crate) budget: Budget,
    bounds: Bounds,
    /// Whether a command of it that is called and exits with 0 has returned.
    exit_returns: bool,
    /// What it needs of a thread's stack to run there; `None` if it must have one of its own.
    native_bytes: Option<usize>,
}

/// Bounds of the engine, for messages.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    ticks_max: u64,
    stack_bytes: usize,
    transfer_max_bytes: usize,
    resources_max: usize,
}

/// What a kernel has used up.
#[derive(Debug, Clone)]
pub struct Spent {
    /// Ticks.
    pub ticks: u64,
    /// Everything else that is counted.
    pub quotas: Quotas,
}

impl Instance {
    /// Starts a kernel. Whatever it does while starting is metered and recorded too.
    pub fn start(
        engine: &Engine,
        compiled: Arc<Compiled>,
        setup: Setup,
        budget: Budget,
        recorder: Box<dyn Recorder>,
    ) -> (Result<Self>, Spent) {
        let bounds = Bounds {
            ticks_max: budget.ticks_max,
            stack_bytes: engine.stack_bytes(),
            transfer_max_bytes: setup.transfer_max_bytes,
            resources_max: setup.resources_max,
        };
        let meter = match meter(engine, &budget) {
            Ok(meter) => meter,
            Err(abort) => return (Err(abort.into()), Spent { ticks: 0, quotas: setup.quotas }),
        };
        // A program that has no way back would go on behind its exit.
        let exit_returns = setup.exit_returns && compiled.exit_can_return() && engine.profile().rewrites();
        let host = Host::new(setup, Arc::clone(&budget.watch));
        let mut store = Store::new(engine.inner(&compiled.component), State::new(host, recorder, meter));
        // Read once, when the limits are set.
        store.data_mut().instances_max = compiled.instances_max;
        if let Err(e) = limit(&mut store, bounds) {
            return (Err(machine("set the limits", &e).into()), spent(&store));
        }
        if compiled.shape != Shape::Plain {
            let engine = engine.inner(&compiled.component).clone();
            if let Some(counters) = store.data_mut().counters() {
                counters.wakes(engine);
                store.set_epoch_deadline(1);
                store.epoch_deadline_callback(|store| at_epoch(store.data()));
            }
        }
        let running = begin(&mut store);
        // Only what never gives way can do without a stack of its own.
        let native_bytes = engine.native_bytes().filter(|_| !compiled.is_concurrent());
        let started = match native_bytes.is_some_and(stack::has) {
            true => compiled.linked.instantiate(&mut store),
            false => schedule::run(compiled.linked.instantiate_async(&mut store), &*budget.watch),
        };
        drop(running);
        let started = started.map_err(|e| stopped(&mut store, e, bounds));
        let started = started.and_then(|instance| end(&mut store, bounds).map(|()| instance));
        // The last memory that was made may be a guest's that looked like counters.
        let started = started.and_then(|instance| Ok(store.data_mut().has_started().map(|()| instance)?));
        let spent = spent(&store);
        store.data_mut().moves.settle(compiled.shape);
        let made = |instance| Self {
            store,
            instance,
            compiled,
            budget,
            bounds,
            exit_returns,
            native_bytes,
            parts: None,
        };
        (started.map(made), spent)
    }

    /// Ticks used so far.
    pub fn ticks(&self) -> u64 {
        tick(&self.store)
    }

    /// Leaves the kernel at most `left` more ticks: others have used up the rest.
    pub fn leave_ticks(&mut self, left: u64) {
        if let Some(counters) = self.store.data_mut().counters() {
            return counters.leave(left);
        }
        let over = self.store.get_fuel().unwrap_or_default().saturating_sub(left);
        if over > 0
            && self.store.set_fuel(left).is_ok()
            && let Meter::Fuel { given } = &mut self.store.data_mut().meter
        {
            *given = given.saturating_sub(over);
        }
    }

    /// Lets the kernel have used this many ticks.
    pub(crate) fn set_ticks(&mut self, ticks: u64) {
        if let Some(counters) = self.store.data_mut().counters() {
            return counters.set(ticks);
        }
        let left = self.store.get_fuel().unwrap_or_default();
        self.store.data_mut().meter = Meter::Fuel { given: ticks.saturating_add(left) };
    }

    /// Takes over what the whole run has used up, and how many handles others have open: they went on
    /// since this kernel was called last.
    pub fn go_on_with(&mut self, quotas: Quotas, handles_elsewhere: usize) {
        let host = &mut self.store.data_mut().host;
        host.quotas = quotas;
        host.table.set_elsewhere(handles_elsewhere);
    }

    /// Handles of the host that it has open.
    pub fn handles(&self) -> usize {
        self.store.data().host.table.len()
    }

    /// Whether its handles have the numbers, and those that it will get have, as when this was asked last, or as when it had
    /// started. Asked between two calls.
    pub fn keeps_handles(&mut self) -> bool {
        let shape = self.compiled.shape;
        self.store.data_mut().moves.settle(shape)
    }

    /// Shows its recorder what it looks like between two calls.
    pub fn look(&mut self) {
        look::between(&mut self.store);
    }

    /// What it has used up so far.
    pub fn spent(&self) -> Spent {
        spent(&self.store)
    }

    /// Runs the kernel as a command: `wasi:cli/run`.
    pub fn run_command(&mut self, engine: &Engine) -> Result<Ending> {
        let index = self.find_command(engine)?;
        match self.call_index(&index, &[]) {
            Ok(results) => match results.first() {
                Some(Val::Result(Err(_))) => Ok(Ending::Exited(1)),
                _ => Ok(Ending::Returned),
            },
            Err(Stopped::Exit(status)) => Ok(Ending::Exited(status)),
            Err(Stopped::Error(error)) => Err(error),
        }
    }

    /// Has the kernel answer requests until no more come: `wasi:http/handler`.
    pub fn serve(&mut self, engine: &Engine) -> Result<Ending> {
        let callee = self.find_handler(engine)?;
        let events = Events::new();
        let (store, watch) = (&mut self.store, &*self.budget.watch);
        loop {
            let mut goes_on = false;
            let _running = begin(store);
            let served = schedule::all(store, watch, async |accessor| {
                goes_on = http_serve::one(accessor, callee.func, &events).await?;
                Ok(())
            });
            match served {
                Ok(()) if goes_on => end(store, self.bounds)?,
                Ok(()) => return Ok(Ending::Returned),
                Err(error) => match error.downcast_ref::<Exit>() {
                    Some(Exit(status)) => return Ok(Ending::Exited(*status)),
                    None => return Err(stopped(store, error, self.bounds)),
                },
            }
        }
    }

    fn find_handler(&mut self, engine: &Engine) -> Result<Callee> {
        let interface = crate::inspect::handler_interface(engine, &self.compiled);
        let found = interface.and_then(|name| {
            let instance = self.compiled.component.get_export_index(None, &name)?;
            self.compiled.component.get_export_index(Some(&instance), "handle")
        });
        let missing = || Usage::new("this program is no service: it does not export `wasi:http/handler`");
        self.callee(&found.ok_or_else(missing)?)
    }

    fn find_command(&mut self, engine: &Engine) -> Result<ComponentExportIndex> {
        let interface = crate::inspect::command_interface(engine, &self.compiled);
        let found = interface.and_then(|name| {
            let instance = self.compiled.component.get_export_index(None, &name)?;
            self.compiled.component.get_export_index(Some(&instance), "run")
        });
        found.ok_or_else(|| {
            Usage::new("this program is not a command: it does not export `wasi:cli/run`")
                .hint(
                    "`vac inspect` shows what it exports; `vac call TARGET 'export(args)'` calls one of them",
                )
                .into()
        })
    }

    /// Calls an export by name with typed values.
    pub fn call(&mut self, engine: &Engine, export: &str, args: &[Val]) -> Result<Vec<Val>> {
        let export = crate::inspect::find_function(engine, &self.compiled, export)?;
        // Only the beginning of a command has a way back.
        let is_command = crate::inspect::is_command_export(&export.name);
        self.store.data_mut().host.exit_returns = self.exit_returns && is_command;
        let called = self.call_index(&export.index, args);
        self.store.data_mut().host.exit_returns = false;
        called.map_err(Error::from)
    }

    /// Calls an export that was looked up before.
    pub fn call_index(&mut self, index: &ComponentExportIndex, args: &[Val]) -> Result<Vec<Val>, Stopped> {
        let callee = self.callee(index).map_err(Stopped::Error)?;
        self.call_callee(&callee, args)
    }

    /// The function behind an export, for calling it many times.
    pub fn callee(&mut self, index: &ComponentExportIndex) -> Result<Callee> {
        let func = self.instance.get_func(&mut self.store, index);
        let func = func.ok_or_else(|| Usage::new("this export is not a function"))?;
        Ok(Callee { func, results: func.ty(&self.store).results().len() })
    }

    /// The names and types of a function's parameters, resources being those of this instance.
    pub fn params(&self, callee: &Callee) -> Vec<(String, Type)> {
        let ty = callee.func.ty(&self.store);
        ty.params().map(|(name, ty)| (name.to_owned(), ty)).collect()
    }

    /// The types of resources that the program exports, in full, as this instance has them.
    pub(crate) fn resource_types(&mut self, engine: &Engine) -> Vec<(ResourceType, String)> {
        let exports = crate::inspect::resources(engine, &self.compiled.component);
        let of_instance = |export: crate::inspect::ExportedResource| {
            let ty = self.instance.get_resource(&mut self.store, export.index)?;
            Some((ty, export.name))
        };
        exports.into_iter().filter_map(of_instance).collect()
    }

    /// Gives up a handle, which may run code of the guest.
    pub fn drop_resource(&mut self, any: ResourceAny) -> Result<()> {
        let _running = begin(&mut self.store);
        let dropped = match self.runs_here() {
            true => any.resource_drop(&mut self.store),
            false => schedule::run(any.resource_drop_async(&mut self.store), &*self.budget.watch),
        };
        dropped.map_err(|error| stopped(&mut self.store, error, self.bounds))?;
        end(&mut self.store, self.bounds)
    }

    /// The program.
    pub(crate) fn program(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    /// The exported memory, if this is a core module that has one.
    pub(crate) fn core_memory(&self) -> Option<CoreMemory> {
        self.compiled.core.as_ref().filter(|core| !core.has_world)?.memory
    }

    /// Whether this thread's stack will do.
    fn runs_here(&self) -> bool {
        self.native_bytes.is_some_and(stack::has)
    }

    /// A function that was added to a core module.
    pub(crate) fn helper(&mut self, name: &str) -> Result<Callee> {
        let index = self.compiled.component.get_export_index(None, name);
        self.callee(&index.ok_or_else(|| Usage::new(format!("this program has no `{name}`")))?)
    }

    /// Calls a function of this instance.
    pub fn call_callee(&mut self, callee: &Callee, args: &[Val]) -> Result<Vec<Val>, Stopped> {
        let mut results = vec![Val::Bool(false); callee.results];
        let runs_here = self.runs_here();
        let (store, watch) = (&mut self.store, &*self.budget.watch);
        let _running = begin(store);
        let called = match self.compiled.is_concurrent() {
            false if runs_here => callee.func.call(&mut *store, args, &mut results),
            false => schedule::run(callee.func.call_async(&mut *store, args, &mut results), watch),
            true => schedule::call(store, callee.func, args, &mut results, watch),
        };
        match called {
            Ok(()) => end(store, self.bounds).map(|()| results).map_err(Stopped::Error),
            Err(error) => match error.downcast_ref::<Exit>() {
                Some(Exit(status)) => Err(Stopped::Exit(*status)),
                None => Err(Stopped::Error(stopped(&mut self.store, error, self.bounds))),
            },
        }
    }
}

/// A function of an instance.
#[derive(Debug, Clone, Copy)]
pub struct Callee {
    func: Func,
    results: usize,
}

/// Why a call did not return.
#[derive(Debug)]
pub enum Stopped {
    /// The guest exited with a status.
    Exit(u32),
    /// Anything else.
    Error(Error),
}

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Exit(status) => Fault {
                kind: "exit",
                message: format!("the kernel exited with status {status} instead of returning"),
            }
            .into(),
            Stopped::Error(error) => error,
        }
    }
}

/// What counts the ticks of a kernel with this budget.
fn meter(engine: &Engine, budget: &Budget) -> Result<Meter, HostAbort> {
    if engine.profile() == Profile::Det1 {
        return Ok(Meter::Fuel { given: budget.ticks_max });
    }
    let depth_max = (engine.stack_bytes() / DEPTH_UNIT_BYTES) as u64;
    Ok(Meter::Counters(Counters::new(budget.ticks_max, depth_max, Leash::new(Arc::clone(&budget.watch))?)))
}

/// The host is about to call into the program, which runs until the result is dropped.
fn begin(store: &mut Store<State>) -> (floats::Standard, Option<Running>) {
    (floats::Standard::enter(), store.data_mut().counters().map(Counters::begin))
}

/// The program has returned. What is too short for a look at the limit ends here, if it went over it.
fn end(store: &mut Store<State>, bounds: Bounds) -> Result<()> {
    let ticks = tick(store);
    match store.data_mut().counters().map(|counters| counters.cross(ticks)) {
        Some(Err(_)) => {
            look::between(store);
            Err(out_of_ticks(bounds.ticks_max).into())
        }
        _ => Ok(()),
    }
}

fn limit(store: &mut Store<State>, bounds: Bounds) -> wasmtime::Result<()> {
    if matches!(store.data().meter, Meter::Fuel { .. }) {
        store.set_fuel(bounds.ticks_max)?;
        store.fuel_async_yield_interval(Some(TICKS_BETWEEN_CHECKS))?;
    }
    store.set_hostcall_fuel(bounds.transfer_max_bytes);
    store.set_max_component_handles(bounds.resources_max);
    store.limiter(|state| state);
    if let Some(table) = store.concurrent_resource_table() {
        table.set_max_capacity(TASKS_MAX);
    }
    Ok(())
}

fn spent(store: &Store<State>) -> Spent {
    Spent { ticks: tick(store), quotas: store.data().host.quotas.clone() }
}

impl State {
    /// From now on no memory is counters: components attach theirs while they start.
    fn has_started(&mut self) -> Result<(), HostAbort> {
        self.charge_pending()?;
        if let Some(counters) = self.counters() {
            counters.has_started = true;
        }
        Ok(())
    }

    /// Charges a memory that could have been counters and was not.
    fn charge_pending(&mut self) -> Result<(), HostAbort> {
        let was_pending =
            self.counters().is_some_and(|counters| std::mem::take(&mut counters.may_be_counters));
        match was_pending {
            true => self.host.quotas.charge(Quota::MemoryBytes, PAGE_BYTES as u64),
            false => Ok(()),
        }
    }
}

/// Memory and tables of all instances of the store are charged to one quota. A growth that the
/// module itself rules out fails as WebAssembly says; one that only this host or its operator
/// cannot give ends the run, because a -1 that the guest sees would differ between machines.
impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.charge_pending().map_err(|e| wasmtime::Error::new(Error::from(e)))?;
        // Counters are the host's. Whether these are, is known when they are attached, which follows at once.
        if let (0, PAGE_BYTES, Some(PAGE_BYTES), Some(counters)) =
            (current, desired, maximum, self.counters())
            && !counters.has_started
        {
            counters.may_be_counters = true;
            return Ok(true);
        }
        grow(&mut self.host.quotas, Quota::MemoryBytes, current, desired, maximum)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        grow_failed(&error, "memory")
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        grow(&mut self.host.quotas, Quota::TableElements, current, desired, maximum)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        grow_failed(&error, "table")
    }

    fn instances(&self) -> usize {
        self.instances_max
    }
    fn memories(&self) -> usize {
        1 << 11
    }
    fn tables(&self) -> usize {
        1 << 12
    }
}

fn grow(
    quotas: &mut Quotas,
    kind: Quota,
    current: usize,
    desired: usize,
    maximum: Option<usize>,
) -> wasmtime::Result<bool> {
    if maximum.is_some_and(|maximum| desired > maximum) {
        return Ok(false);
    }
    quotas
        .charge(kind, desired.saturating_sub(current) as u64)
        .map_err(|e| wasmtime::Error::new(Error::from(e)))?;
    Ok(true)
}

/// What the engine calls a growth that the type itself rules out, whatever the host has.
const BEYOND_TYPE: [&str; 2] =
    ["memory growth exceeds memory type's limits", "overflow calculating new table size"];

/// Called when a growth that was allowed did not happen, and when the type rules one out.
fn grow_failed(error: &wasmtime::Error, what: &str) -> wasmtime::Result<()> {
    let message = error.to_string();
    if BEYOND_TYPE.contains(&message.as_str()) {
        return Ok(());
    }
    let abort = HostAbort::new(AbortKind::Machine, format!("the host has no more {what} to give: {message}"));
    Err(wasmtime::Error::new(Error::from(abort)))
}

/// Who is to blame for what stopped a kernel, which its recorder may want to look at.
fn stopped(store: &mut Store<State>, error: wasmtime::Error, bounds: Bounds) -> Error {
    look::after(store, &error);
    classify(error, store, bounds)
}

/// Who is to blame for what the engine reports.
fn classify(error: wasmtime::Error, store: &Store<State>, bounds: Bounds) -> Error {
    if let Meter::Counters(counters) = &store.data().meter
        && let Some(ended) = counters.ended()
    {
        return match ended {
            Ended::NoTicks => out_of_ticks(bounds.ticks_max).into(),
            Ended::TooDeep => too_deep(bounds.stack_bytes),
            Ended::Stopped(abort) => abort.into(),
        };
    }
    let error = match error.downcast::<Error>() {
        Ok(own) => return own,
        Err(other) => other,
    };
    if let Some(fault) = exception(&error) {
        return fault;
    }
    // Of a table, for one, whose growth is not asked about again when it fails.
    if error.is::<OutOfMemory>() {
        let message = format!("the host has no more memory to give: {}", error.root_cause());
        return HostAbort::new(AbortKind::Machine, message).into();
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return no_room(&error.root_cause().to_string()).into();
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => out_of_ticks(bounds.ticks_max).into(),
        Some(Trap::StackOverflow) => too_deep(bounds.stack_bytes),
        Some(trap) => {
            let words = trap.to_string();
            Fault { kind: "trap", message: words.strip_prefix("wasm trap: ").unwrap_or(&words).to_owned() }
                .into()
        }
        None => match error.downcast_ref::<Exit>() {
            Some(Exit(status)) => Stopped::Exit(*status).into(),
            None => of_message(&error, &store.data().meter, bounds),
        },
    }
}

/// The engine has no types for the errors of these two limits, only words.
const TOO_MUCH_DATA: &str = "fuel allocated for hostcalls has been exhausted";
const TOO_MANY_RESOURCES: &str = "store handle limit exceeded";

fn of_message(error: &wasmtime::Error, meter: &Meter, bounds: Bounds) -> Error {
    // Only the innermost words are the engine's own: others may quote names of the guest.
    let message = error.root_cause().to_string();
    let quota =
        |message: String, name: &str| HostAbort::new(AbortKind::Quota, message).hint(raise(name)).into();
    if message.contains(TOO_MUCH_DATA) {
        let max = bounds.transfer_max_bytes;
        return quota(format!("one call of the guest passes more bytes than the limit of {max}"), "transfer");
    }
    if message.contains(TOO_MANY_RESOURCES) {
        let max = bounds.resources_max;
        return quota(
            format!("the guest wants {} handles of its own; the limit is {max}", max + 1),
            "resources",
        );
    }
    // Around them the engine says where in the code it was, which under `det-2` is a place that the rewriting made.
    let message = if matches!(meter, Meter::Fuel { .. }) { chain(error) } else { message };
    Fault { kind: "trap", message }.into()
}

/// What went wrong with an exception, if that is what did.
fn exception(error: &wasmtime::Error) -> Option<Error> {
    if error.is::<ThrownException>() {
        return Some(Fault { kind: "trap", message: "an exception that nothing caught".to_owned() }.into());
    }
    // The limiter refused, or the type of the heap did; the engine does not say which.
    error.downcast_ref::<GcHeapOutOfMemory<()>>().map(|_| {
        let message = "the guest keeps more exceptions or collected objects than its memory has room for";
        HostAbort::new(AbortKind::Quota, message).hint("raise the limit with `--memory SIZE`").into()
    })
}

pub(crate) fn out_of_ticks(ticks_max: u64) -> HostAbort {
    HostAbort::new(AbortKind::Quota, format!("the guest used up its {ticks_max} ticks"))
        .hint("raise the limit with `--ticks N`, or leave it out")
}

fn too_deep(stack_bytes: usize) -> Error {
    let message = format!("the guest's calls are too deep: its stack is {stack_bytes} bytes");
    HostAbort::new(AbortKind::Quota, message).hint(raise("depth")).into()
}
