//! fjall as a side of the store's benchmark, in a process of its own, which says how long it took without its start.

use std::path::{Path, PathBuf};

use super::peers::ask;
use super::{Result, text};

/// The objects that it is given.
pub(super) struct Fjall {
    objects: PathBuf,
    object_bytes: String,
    group: String,
}

impl Fjall {
    /// Writes down what it shall put.
    pub(super) fn new(folder: &Path, objects: &[Vec<u8>], group: usize) -> Result<Self> {
        let path = folder.join("objects");
        std::fs::write(&path, objects.concat()).map_err(text)?;
        let object_bytes = objects.first().map_or(0, Vec::len).to_string();
        Ok(Self { objects: path, object_bytes, group: group.to_string() })
    }

    /// How many nanoseconds it takes to put all of them in `folder`.
    pub(super) fn put(&self, folder: &Path) -> Result<f64> {
        let (folder, objects) = (folder.display().to_string(), self.objects.display().to_string());
        ask(&["put", &folder, &objects, &self.object_bytes, &self.group])?.get("put")
    }

    /// And to get them.
    pub(super) fn get(&self, folder: &Path) -> Result<f64> {
        let (folder, objects) = (folder.display().to_string(), self.objects.display().to_string());
        ask(&["get", &folder, &objects, &self.object_bytes])?.get("get")
    }
}
