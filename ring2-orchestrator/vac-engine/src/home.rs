//! Where everything is kept: the store, the ledgers of all runs, and compiled code.
//!
//! ```text
//! HOME/store/   objects by CID
//! HOME/runs/    one ledger a run
//! HOME/code/    compiled programs; may be deleted at any time
//! HOME/tiers.toml   which tiers stand below the store, if any do
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use vac_core::fault::{AbortKind, HostAbort, Result, Usage, quote};
use vac_core::ledger::{self, RunId};
use vac_core::memory::Tier;
use vac_core::storage::{RealStorage, Storage};
use vac_core::store::{Hold, Store};
use vac_host::Watch;

use crate::tiers::{self, Below};

/// The folder of the store in a home.
pub const STORE_DIR: &str = "store";

/// Five minutes, together.
const HOLD_TRIES: u32 = 30_000;
const HOLD_RETRY: Duration = Duration::from_millis(10);

/// One folder that holds all of VAC's state.
pub struct Home {
    path: PathBuf,
    storage: Arc<dyn Storage>,
    store: Arc<Store>,
    open: Option<Arc<dyn tiers::Open>>,
    /// Of no tiers, if none is named. Read when it is first needed.
    below: OnceLock<Option<Below>>,
}

impl Home {
    /// Opens the home at `path`, creating it if it is not there.
    pub fn open(path: &Path) -> Result<Self> {
        let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(path.to_owned()));
        storage.create_dir("").map_err(|e| HostAbort::io("create the home", path.display(), &e))?;
        Self::over(path, storage)
    }

    /// Opens the home at `path` for reading; nothing there is changed or created.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(path.to_owned()));
        let store = Arc::new(Store::open_read_only(Arc::clone(&storage), STORE_DIR)?);
        Ok(Self::new(path, storage, store))
    }

    fn over(path: &Path, storage: Arc<dyn Storage>) -> Result<Self> {
        let store = Arc::new(Store::open(Arc::clone(&storage), STORE_DIR)?);
        Ok(Self::new(path, storage, store))
    }

    fn new(path: &Path, storage: Arc<dyn Storage>, store: Arc<Store>) -> Self {
        Self { path: path.to_owned(), storage, store, open: None, below: OnceLock::new() }
    }

    /// The home, with what opens the tiers below its store.
    #[must_use]
    pub fn with_tiers(mut self, open: Arc<dyn tiers::Open>) -> Self {
        self.open = Some(open);
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its files.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Its objects.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Its objects, with those that only a tier below has or has whole. What is asked for is kept here from then on.
    pub fn objects(&self) -> Result<Arc<dyn Tier>> {
        let store = || Arc::clone(&self.store) as Arc<dyn Tier>;
        Ok(self.below()?.map_or_else(store, |below| below.chain()))
    }

    /// Keeps collections from beginning until what is returned is dropped; waits for one that is running, as long as
    /// `watch` lets it. From before a root is looked up until something keeps it, nothing below it may go.
    pub fn hold(&self, watch: &dyn Watch) -> Result<Hold> {
        for _ in 0..HOLD_TRIES {
            if let Some(hold) = self.store.try_hold()? {
                return Ok(hold);
            }
            if let Some(abort) = watch.stop() {
                return Err(abort.into());
            }
            std::thread::sleep(HOLD_RETRY);
        }
        let message = format!("a collection of `{}` is still running", self.path.display());
        Err(HostAbort::new(AbortKind::Busy, message).hint("try again when `vac store gc` is done").into())
    }

    /// What stands below its store, if something does.
    pub(crate) fn below(&self) -> Result<Option<&Below>> {
        if let Some(below) = self.below.get() {
            return Ok(below.as_ref());
        }
        let Some(open) = &self.open else { return Ok(None) };
        let tiers = tiers::list(self)?;
        let new = || (!tiers.is_empty()).then(|| Below::new(&self.store, tiers, open));
        Ok(self.below.get_or_init(new).as_ref())
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<RunId>> {
        ledger::runs(&*self.storage)
    }

    /// The run that `text` means: its identity, a beginning or end of it that no other run has,
    /// or `last`.
    pub fn find_run(&self, text: &str) -> Result<RunId> {
        let runs = self.runs()?;
        if text == "last" {
            let hint = "`vac run TARGET` makes one";
            return runs.last().copied().ok_or_else(|| Usage::new("there are no runs yet").hint(hint).into());
        }
        let is_meant = |run: &&RunId| run.as_str().starts_with(text) || run.as_str().ends_with(text);
        let meant: Vec<_> = runs.iter().filter(is_meant).collect();
        match meant.as_slice() {
            [run] if !text.is_empty() => Ok(**run),
            [] => {
                let hint = "`vac runs` lists the runs of this home; `last` is the newest";
                Err(Usage::new(format!("there is no run `{}`", quote(text))).hint(hint).into())
            }
            many => Err(Usage::new(format!("`{}` means {} runs", quote(text), many.len()))
                .hint("type more of its characters; `vac runs` lists them")
                .into()),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(Some(below)) = self.below.get() {
            below.settle(&self.store);
        }
    }
}
