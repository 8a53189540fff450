//! Where everything is kept: the store, the ledgers of all runs, and compiled code.
//!
//! ```text
//! HOME/store/   objects by CID
//! HOME/runs/    one ledger a run
//! HOME/code/    compiled programs; may be deleted at any time
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vac_core::fault::{HostAbort, Result, Usage, quote};
use vac_core::ledger::{self, RunId};
use vac_core::storage::{RealStorage, Storage};
use vac_core::store::Store;

/// The folder of the store in a home.
pub const STORE_DIR: &str = "store";

/// One folder that holds all of VAC's state.
pub struct Home {
    path: PathBuf,
    storage: Arc<dyn Storage>,
    store: Arc<Store>,
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
        Ok(Self { path: path.to_owned(), storage, store })
    }

    fn over(path: &Path, storage: Arc<dyn Storage>) -> Result<Self> {
        let store = Arc::new(Store::open(Arc::clone(&storage), STORE_DIR)?);
        Ok(Self { path: path.to_owned(), storage, store })
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
