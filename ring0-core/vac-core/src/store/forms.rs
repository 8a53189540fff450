//! A large object that is here in both forms, one of which is bad: then that one goes.
//!
//! Invariant: of two who each find the other form bad, because a disk fails to read now and then, only one removes
//! anything: who does holds `store/collector`, and hashes both before.

use std::io;

use crate::cid::Cid;
use crate::fault::Result;
use crate::storage::{LockMode, OpenMode};

use super::Store;
use super::chunks::List;

/// How a large object is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Piece,
    Chunks,
}

impl Form {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Piece => Self::Chunks,
            Self::Chunks => Self::Piece,
        }
    }
}

impl Store {
    /// Removes a form of an object that is bad while the other is whole, durably. `false` if that is not so, or if
    /// somebody collects.
    pub(super) fn drop_form(&self, cid: &Cid, bad: Form) -> Result<bool> {
        if self.state().is_read_only || !self.has_form(cid, bad.other())? {
            return Ok(false);
        }
        let _open = self.gate();
        self.state().check_writable(&self.home)?;
        let Some(_alone) = self.home.try_collector(LockMode::Exclusive)? else { return Ok(false) };
        self.state().claim(&self.home, cid)?;
        // What this scrub mended may be chunks of the form that stays.
        self.commit_batch()?;
        if self.is_form_good(cid, bad) || !self.is_form_whole(cid, bad.other()) {
            return Ok(false);
        }
        // Who gave the other one its name may have failed to make that durable.
        self.sync_large(&self.form(cid, bad.other()).0)?;
        let (dir, path) = self.form(cid, bad);
        self.home.remove(&path)?;
        self.sync_large(&dir)?;
        let mut state = self.state();
        state.bad_large.remove(cid);
        state.bad_lists.remove(cid);
        Ok(true)
    }

    /// Whether there is such a form and its bytes are the object's.
    pub(super) fn is_form_whole(&self, cid: &Cid, form: Form) -> bool {
        let mut nowhere = io::sink();
        let len = match form {
            Form::Piece => self
                .home
                .try_open(&self.home.large(cid), OpenMode::Read)
                .and_then(|file| file.map(|file| self.hash_large(cid, &*file, &mut nowhere)).transpose()),
            Form::Chunks => List::open(&self.home, cid)
                .and_then(|list| list.map_or(Ok(None), |list| self.copy_list(&list, &mut nowhere))),
        };
        matches!(len, Ok(Some(_)))
    }

    /// Whether nothing is wrong with a form, also where its bytes do not depend on it.
    fn is_form_good(&self, cid: &Cid, form: Form) -> bool {
        match form {
            Form::Piece => self.is_form_whole(cid, form),
            Form::Chunks => matches!(self.check_list(cid), Ok(Some(_))),
        }
    }

    fn has_form(&self, cid: &Cid, form: Form) -> Result<bool> {
        Ok(self.home.try_open(&self.form(cid, form).1, OpenMode::Read)?.is_some())
    }

    /// The folder of a form and its path.
    fn form(&self, cid: &Cid, form: Form) -> (String, String) {
        match form {
            Form::Piece => (self.home.large_part(cid), self.home.large(cid)),
            Form::Chunks => (self.home.chunked_dir(), self.home.chunked(cid)),
        }
    }
}
