//! Tiers below a home, opened: the only place that knows both an object store and where its key is.

use std::collections::BTreeMap;
use std::sync::Arc;

use vac_core::cid::Cid;
use vac_core::fault::Result;
use vac_core::memory::{Event, EventKind, TierStats};
use vac_engine::tiers::{Bucket, Given, Look, Named, Open, Opened, Place};
use vac_tier::{ObjectTier, RealTime, S3, Settings};

use crate::{host, ui};

/// Opens tiers, and says on the standard error what they gave.
#[derive(Clone)]
pub(crate) struct Opener {
    pub(crate) is_quiet: bool,
}

impl Open for Opener {
    fn open(&self, named: &Named) -> Result<Opened> {
        let (store, prefix, hidden) = match &named.place {
            Place::Memory => (vac_tier::memory(), None, Vec::new()),
            Place::Folder(path) => (vac_tier::folder(path)?, None, Vec::new()),
            Place::Bucket(bucket) => {
                let at = bucket_with_key(bucket)?;
                let hidden = [Some(at.key_id.clone()), Some(at.secret.clone()), at.token.clone()];
                (vac_tier::s3(&at)?, Some(bucket.prefix.clone()), hidden.into_iter().flatten().collect())
            }
        };
        let otherwise = Settings::default();
        let attempt_timeout = named.timeout.unwrap_or(otherwise.attempt_timeout);
        let settings = Settings {
            name: named.name.clone(),
            place: named.shown(),
            prefix: prefix.unwrap_or(otherwise.prefix),
            attempts_max: named.attempts_max.unwrap_or(otherwise.attempts_max),
            attempt_timeout,
            // Who lets one attempt take longer has said so.
            total_timeout: otherwise.total_timeout.max(attempt_timeout),
            ..Settings::default()
        };
        let tier = Arc::new(ObjectTier::new(store, settings, Arc::new(RealTime::new()))?.hiding(hidden));
        Ok(Opened { tier: Arc::clone(&tier) as Arc<_>, look: Arc::new(Looking(tier)) })
    }

    fn hear(&self, given: &Given) {
        if self.is_quiet {
            return;
        }
        given.tiers.iter().skip(1).filter(|tier| tier.found > 0).for_each(|tier| ui::note(gave(tier)));
        let unsaid = unsaid(given);
        for event in unsaid.iter().filter(|event| event.kind == EventKind::Corrupt) {
            ui::note(format_args!("  {}", ui::quote_lines(&event.why)));
        }
        for tier in &given.tiers {
            let is_it = |event: &&&Event| event.kind == EventKind::Failed && event.tier == tier.name;
            if let Some(event) = unsaid.iter().find(is_it) {
                ui::note(failed(event));
            }
        }
        if let Err(why) = not_kept(given) {
            ui::note(format_args!("what came from below is not kept here: {}", ui::quote_lines(&why)));
        }
    }
}

/// What the command's own error does not say. It says the first thing that went wrong with an object that nobody
/// had whole; that a tier which might have had it was not reached comes after that, and was lost.
fn unsaid(given: &Given) -> Vec<&Event> {
    let nothing_came = given.tiers.iter().skip(1).all(|tier| tier.found == 0);
    let mut first: BTreeMap<Cid, String> = BTreeMap::new();
    let is_unsaid = |event: &&Event| {
        let is_first = *first.entry(event.cid).or_insert_with(|| event.tier.clone()) == event.tier;
        !(nothing_came && is_first)
    };
    given.events.iter().filter(is_unsaid).collect()
}

fn failed(event: &Event) -> String {
    format!("tier `{}`: could not be asked: {}", ui::quote_lines(&event.tier), ui::quote_lines(&event.why))
}

fn gave(tier: &TierStats) -> String {
    let objects = if tier.found == 1 { "object" } else { "objects" };
    let count = ui::count(tier.found);
    format!(
        "tier `{}`: gave {count} {objects} that the store lacked or had badly",
        ui::quote_lines(&tier.name)
    )
}

/// Why something that came from below is not in the store now, if it is not.
fn not_kept(given: &Given) -> Result<(), String> {
    given.kept.as_ref().map_err(ToString::to_string)?;
    let is_of_store = |name: &str| given.tiers.first().is_some_and(|store| store.name == name);
    let is_it = |kind: EventKind, tier: &str| kind == EventKind::NotKept && is_of_store(tier);
    let event = given.events.iter().find(|event| is_it(event.kind, &event.tier));
    event.map_or(Ok(()), |event| Err(event.why.clone()))
}

/// The key comes from where the operator has it, when it is needed, and is kept nowhere.
fn bucket_with_key(bucket: &Bucket) -> Result<S3> {
    host::leave_no_core()?;
    let token = bucket.token.as_ref().map(|token| token.read(&host::env)).transpose()?;
    Ok(S3 {
        endpoint: bucket.endpoint.clone(),
        region: bucket.region.clone(),
        bucket: bucket.bucket.clone(),
        key_id: bucket.key_id.read_some(&host::env)?,
        secret: bucket.secret.read_some(&host::env)?,
        token: token.flatten(),
    })
}

struct Looking(Arc<ObjectTier>);

impl Look for Looking {
    fn reach(&self) -> Result<()> {
        self.0.reach()
    }

    fn lens(&self, cids: &[Cid]) -> Vec<Result<Option<u64>>> {
        self.0.lens(cids)
    }
}
