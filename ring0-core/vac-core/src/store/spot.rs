//! Where an object lies, for whoever reads many at once.

use std::sync::Arc;

use crate::cid::Cid;
use crate::memory::Spot;
use crate::storage::OpenMode;

use super::Store;
use super::state::Source;

impl Store {
    /// The place in a file of the object `cid`; `None` if it is not here, not in a file yet, or compressed. Nothing is
    /// verified, and a collector may move it: who reads there hashes, and asks [`Store::get`] if in doubt.
    pub fn spot(&self, cid: &Cid) -> Option<Spot> {
        self.write_first_index().ok()?;
        {
            let mut state = self.state();
            state.load(&self.home).ok()?;
            match state.locate(&self.home, cid).ok()? {
                Some(Source::File(_, at)) if at.body.is_compressed() => return None,
                Some(Source::File(file, at)) => {
                    return Some(Spot { file, offset: at.body_start(), len: at.body.len().into() });
                }
                Some(Source::Buffer(..)) => return None,
                None => {}
            }
        }
        let Some(file) = self.home.try_open(&self.home.large(cid), OpenMode::Read).ok()? else {
            let (file, len) = self.chunked_file(cid).ok()??;
            return Some(Spot { file, offset: 0, len });
        };
        let len = file.len().ok()?;
        Some(Spot { file: Arc::from(file), offset: 0, len })
    }
}
