//! The baseline of the host: the same component in the same engine, without VAC.

use vac_host::Val;
use wasmtime::component::{Component, Func, Instance, Linker};
use wasmtime::{Config, Engine, Store};

use super::{Result, text};

/// The engine's own settings, as a host without WASI 0.3 has them: this build can do more, which would make every
/// call of a baseline dearer.
pub(super) fn config() -> Config {
    let mut config = Config::new();
    config.concurrency_support(false);
    config
}

/// A component that was started by wasmtime alone.
pub(super) struct Plain {
    pub(super) store: Store<()>,
    pub(super) instance: Instance,
}

impl Plain {
    /// Starts `bytes`, which import nothing, with these settings.
    pub(super) fn start(config: &Config, bytes: &[u8]) -> Result<Self> {
        Self::start_with(config, bytes, |_| Ok(()))
    }

    /// Starts `bytes` with what `define` puts in the linker.
    pub(super) fn start_with(
        config: &Config,
        bytes: &[u8],
        define: impl FnOnce(&mut Linker<()>) -> wasmtime::Result<()>,
    ) -> Result<Self> {
        let engine = Engine::new(config).map_err(text)?;
        let component = Component::from_binary(&engine, bytes).map_err(text)?;
        let mut linker = Linker::new(&engine);
        define(&mut linker).map_err(text)?;
        let mut store = Store::new(&engine, ());
        // Fails if fuel is not among the settings, and then it is not needed.
        let _ = store.set_fuel(u64::MAX);
        let instance = linker.instantiate(&mut store, &component).map_err(text)?;
        Ok(Self { store, instance })
    }

    pub(super) fn func(&mut self, name: &str) -> Result<Func> {
        self.instance.get_func(&mut self.store, name).ok_or_else(|| format!("there is no export `{name}`"))
    }

    /// A call with dynamic values that gives one result.
    pub(super) fn call(&mut self, func: &Func, args: &[Val]) -> Result<Val> {
        let mut results = [Val::Bool(false)];
        func.call(&mut self.store, args, &mut results).map_err(text)?;
        let [result] = results;
        Ok(result)
    }
}
