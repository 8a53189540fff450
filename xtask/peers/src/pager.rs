//! A trace through the pager, with pages read around the system's cache.

use std::collections::BTreeSet;
use std::sync::Arc;

use vac_core::cid::Cid;
use vac_core::memory::{Direct, La128, Pager, Settings};
use vac_core::storage::RealStorage;
use vac_core::store::Store;

use super::{PAGE, Result, check, number, say_peak, text, timed, trace};

pub(super) fn run(folder: &str, budget: &str, path: &str, root: &str) -> Result<()> {
    say_peak("start")?;
    let (trace, root) = (trace(path)?, root.parse::<Cid>().map_err(text)?);
    let store = Store::open(Arc::new(RealStorage::new(folder.into())), "store").map_err(text)?;
    let budget_bytes = number(budget)? * PAGE;
    let settings = Settings { budget_bytes, direct: Direct::Always, ..Settings::default() };
    let mut pager = Pager::new(Arc::new(store), settings).map_err(text)?;
    let mut space = pager.open(&root).map_err(text)?;
    let mut to = vec![0; PAGE];
    timed("ns", || {
        trace.iter().try_for_each(|page| {
            let at = La128 { shard: 0, offset: page * PAGE as u64 };
            pager.read(&mut space, at, &mut to).map_err(text)?;
            check(*page, &to)
        })
    })?;
    say_peak("peak")?;
    let it = pager.stats();
    // What was read more often than there are pages had left before.
    let distinct = trace.iter().collect::<BTreeSet<_>>().len() as u64;
    let counts = [
        ("misses", it.misses),
        ("evictions", it.evictions),
        ("returned", (it.misses + it.ahead_used).saturating_sub(distinct)),
        ("ahead", it.ahead),
        ("ahead-used", it.ahead_used),
        ("ahead-wasted", it.ahead_wasted),
    ];
    counts.iter().for_each(|(name, count)| println!("{name} {count}"));
    Ok(())
}
