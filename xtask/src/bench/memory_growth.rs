//! What a read costs in memories of 10^4, 10^6 and 10^7 mapped pages, so that the slope shows.
//!
//! All pages are the same object, so what grows is the map: its nodes are in a store, and a part of them in memory.

use std::sync::Arc;

use vac_core::memory::{La128, Pager, Settings};
use vac_core::storage::RealStorage;
use vac_core::store::Store;

use super::figure::Figure;
use super::memory::mixed;
use super::timing::{Side, medians, time};
use super::{Result, scratch, text};

const PAGE: u64 = 4 << 10;
const READS: u64 = 50_000;
const ROUNDS: usize = 5;

pub(super) fn run() -> Result<Vec<Figure>> {
    let figures: Result<Vec<_>> = [10_000, 1_000_000, 10_000_000].map(of).into_iter().collect();
    Ok(figures?.concat())
}

/// Page `n` of those that are mapped lies anywhere in the shard.
fn place(n: u64, pages: u64) -> La128 {
    let stride = u64::MAX / PAGE / pages;
    La128 { shard: 0, offset: n * stride * PAGE }
}

fn of(pages: u64) -> Result<Vec<Figure>> {
    let folder = scratch()?;
    let store = Store::open(Arc::new(RealStorage::new(folder.path().to_owned())), "store").map_err(text)?;
    let settings = Settings { page_len: PAGE as usize, budget_bytes: 4 << 20, ..Settings::default() };
    let nodes = settings.nodes_bytes;
    let mut pager = Pager::new(Arc::new(store), settings).map_err(text)?;
    let mut space = pager.space();
    let filled = time(|| {
        (0..pages).try_for_each(|n| pager.fill(&mut space, place(n, pages), PAGE, 7).map_err(text))?;
        pager.commit(&mut space).map_err(text)
    })?;
    let mut turn = 0;
    let mut sides: [Side<'_>; 1] = [Box::new(|| {
        turn += READS;
        let mut bytes = [0; 8];
        time(|| {
            for n in turn..turn + READS {
                let at = place(mixed(n) % pages, pages);
                pager.read(&mut space, at, &mut bytes).map_err(text)?;
                if bytes != [7; 8] {
                    return Err(format!("{at:?} holds {bytes:?}"));
                }
            }
            Ok(())
        })
    })];
    let ns = medians(ROUNDS, &mut sides)?[0];
    let none = ("none", f64::NAN);
    let name = |what: &str| format!("memory of {pages} pages, {what}");
    Ok(vec![
        Figure::new(name("8 bytes anywhere"), "ns", ns / READS as f64, none),
        Figure::new(name("mapping one"), "ns", filled / pages as f64, none).note(format!(
            "all pages are one object: what grows is the map, of which {} MiB are in memory",
            nodes >> 20
        )),
    ])
}
