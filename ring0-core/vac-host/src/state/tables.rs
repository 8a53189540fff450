//! The tables of an instance, as bytes: what stands in each, by number.
//!
//! Programs that change tables are rewritten so that each of their modules shows its own, and every function that
//! may stand in one: see `rewrite/tables.rs`. A function's number is its place among all that are shown, in the
//! order of the instances. Four bytes stand for an element, little-endian: 0 for null, else that number plus 1.

use std::collections::BTreeMap;

use vac_core::fault::Result;
use wasmtime::{AsContextMut, Extern, Func, Instance, Ref, RootScope, Store, Table};

use super::{Fill, Found, Touched, differs, unfit};
use crate::dirty::{CHUNK_BYTES, Tracker};
use crate::rewrite::tables::SHOWN;
use crate::wall::State;

/// Tables and functions that are looked at, together, of all instances.
const SHOWN_MAX: usize = 300_000;
const ELEMENT_BYTES: usize = size_of::<u32>();

/// The tables that a program shows.
#[derive(Default)]
pub(super) struct Tables {
    tables: Vec<Shown>,
    functions: Vec<Func>,
    /// By where a function is, its number.
    numbers: BTreeMap<usize, u32>,
    /// Whether there are more than are looked at.
    are_too_many: bool,
}

struct Shown {
    table: Table,
    /// As it was read last.
    image: Vec<u8>,
    tracker: Tracker,
}

impl Tables {
    /// Those of `instances`, which are all of a program.
    pub(super) fn find(store: &mut Store<State>, instances: &[Instance]) -> Self {
        let mut found = Self::default();
        for instance in instances {
            if found.functions.len() + found.tables.len() > SHOWN_MAX {
                found.are_too_many = true;
                break;
            }
            let exports = instance.exports(&mut *store).filter(|export| export.name().starts_with(SHOWN));
            for shown in exports.map(wasmtime::Export::into_extern).collect::<Vec<_>>() {
                match shown {
                    Extern::Table(table) => found.tables.push(Shown::new(table)),
                    Extern::Func(function) => found.functions.push(function),
                    _ => {}
                }
            }
        }
        for (function, number) in found.functions.iter().zip(1..) {
            found.numbers.insert(function.to_raw(&mut *store).addr(), number);
        }
        found
    }

    /// Reads all of them. Their lengths; none if something stands in one that has no number, or if there are too many.
    pub(super) fn read(&mut self, store: &mut Store<State>) -> Option<Vec<u64>> {
        if self.are_too_many {
            return None;
        }
        let numbers = &self.numbers;
        let read = |shown: &mut Shown| {
            shown.image = image(store, shown.table, numbers)?;
            Some(shown.table.size(&*store))
        };
        self.tables.iter_mut().map(read).collect()
    }

    /// Tells `found` what changed since this was asked last, of all as they were read last. They count on from `first`.
    pub(super) fn each_written(&mut self, first: usize, found: &mut Found<'_>) -> Result<()> {
        for (shown, number) in self.tables.iter_mut().zip(first..) {
            let image = &shown.image;
            let parts = shown.tracker.written(image).into_iter().map(|chunks| {
                let part = chunks.start * CHUNK_BYTES..chunks.end * CHUNK_BYTES;
                (part.start as u64, image.get(part).unwrap_or_default())
            });
            found(number, &parts.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// From here on, all counts as written.
    pub(super) fn forget(&mut self) {
        self.tables.iter_mut().for_each(|shown| shown.tracker = Tracker::comparing());
    }

    /// Makes them what `fill` gives; each is as long as it is to be.
    pub(super) fn write(
        &mut self,
        store: &mut Store<State>,
        first: usize,
        fill: &mut Fill<'_>,
    ) -> Result<()> {
        let Self { tables, functions, numbers, .. } = self;
        for (shown, number) in tables.iter_mut().zip(first..) {
            let now = image(store, shown.table, numbers);
            shown.image = vec![0; image_len(shown.table.size(&*store))];
            fill(number, &mut shown.image, &Touched::nothing())?;
            set(store, shown, now.as_deref(), functions)?;
            shown.tracker.written(&shown.image);
        }
        Ok(())
    }

    /// The tables, to make them longer.
    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = Table> {
        self.tables.iter().map(|shown| shown.table)
    }
}

impl Shown {
    fn new(table: Table) -> Self {
        Self { table, image: Vec::new(), tracker: Tracker::comparing() }
    }
}

/// The bytes of so many elements, in whole chunks.
fn image_len(elements: u64) -> usize {
    let elements = usize::try_from(elements).unwrap_or(usize::MAX / CHUNK_BYTES);
    elements.saturating_mul(ELEMENT_BYTES).next_multiple_of(CHUNK_BYTES)
}

/// What stands in a table; none if it is no function that is shown.
fn image(store: &mut Store<State>, table: Table, numbers: &BTreeMap<usize, u32>) -> Option<Vec<u8>> {
    let len = table.size(&*store);
    let mut bytes = Vec::with_capacity(image_len(len));
    // References to objects are held for so long only.
    let mut scope = RootScope::new(store);
    for at in 0..len {
        let number = match table.get(scope.as_context_mut(), at)? {
            Ref::Func(Some(function)) => *numbers.get(&function.to_raw(scope.as_context_mut()).addr())?,
            reference if reference.is_null() => 0,
            _ => return None,
        };
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.resize(image_len(len), 0);
    Some(bytes)
}

/// Makes a table what its image says, where that is not what stands there `now`.
fn set(store: &mut Store<State>, shown: &Shown, now: Option<&[u8]>, functions: &[Func]) -> Result<()> {
    let table = shown.table;
    let null = Ref::null(table.ty(&*store).element().heap_type());
    let elements = shown.image.chunks_exact(ELEMENT_BYTES);
    for (bytes, at) in elements.zip(0..table.size(&*store)) {
        let start = at as usize * ELEMENT_BYTES;
        if now.and_then(|now| now.get(start..start + ELEMENT_BYTES)) == Some(bytes) {
            continue;
        }
        let number = bytes.try_into().map_or(u32::MAX, u32::from_le_bytes);
        let element = match number.checked_sub(1) {
            None => null.clone(),
            Some(place) => {
                let function = functions.get(place as usize);
                Ref::Func(Some(*function.ok_or_else(|| differs("functions", functions.len(), number))?))
            }
        };
        table.set(&mut *store, at, element).map_err(|e| unfit("an element of a table", e))?;
    }
    Ok(())
}
