//! 10^18 bytes that can be addressed: writes at random places of all of it, then reads of the same, each checked.

use std::sync::Arc;

use vac_core::memory::{La128, Pager, Settings};
use vac_core::storage::RealStorage;
use vac_core::store::Store;

use super::{Result, number, say_peak, text, timed};

const BYTES: u64 = 1_000_000_000_000_000_000;
const BUDGET_BYTES: usize = 4 << 20;
/// The smallest there is: a page is kept whole for a few bytes of it.
const PAGE: usize = 4 << 10;
const NODES_BYTES: usize = 3 << 20;

pub(super) fn run(folder: &str, places: &str) -> Result<()> {
    say_peak("start")?;
    println!("budget {}\nnodes {}", BUDGET_BYTES >> 10, NODES_BYTES >> 10);
    let places = number(places)? as u64;
    let store = Store::open(Arc::new(RealStorage::new(folder.into())), "store").map_err(text)?;
    let settings = Settings {
        page_len: PAGE,
        budget_bytes: BUDGET_BYTES,
        nodes_bytes: NODES_BYTES,
        ..Settings::default()
    };
    let mut pager = Pager::new(Arc::new(store), settings).map_err(text)?;
    let mut space = pager.space();
    timed("written", || {
        (0..places).try_for_each(|n| pager.write(&mut space, place(n), &value(n)).map_err(text))?;
        pager.commit(&mut space).map(drop).map_err(text)
    })?;
    timed("read", || {
        for n in 0..places {
            let mut bytes = [0; 8];
            pager.read(&mut space, place(n), &mut bytes).map_err(text)?;
            if bytes != value(n) {
                return Err(format!("place {n} holds {bytes:?}"));
            }
        }
        Ok(())
    })?;
    say_peak("peak")
}

fn place(n: u64) -> La128 {
    La128 { shard: 0, offset: mixed(n) % (BYTES - 8) }
}

fn value(n: u64) -> [u8; 8] {
    mixed(n ^ 1 << 50).to_le_bytes()
}

/// splitmix64's output function: an order without a pattern.
fn mixed(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
