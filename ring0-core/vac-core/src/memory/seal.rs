//! Writing a space to the tier: pages, then nodes from the leaves up, then the root.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cid::{Cid, Codec};
use crate::fault::{AbortKind, HostAbort, Result};

use super::backing::{Parts, part_of};
use super::frames::{Frames, Holds};
use super::map::{Seal, Sealed};
use super::node::{PageRef, Version};
use super::nodes::Nodes;
use super::root::{self, Backing};
use super::tier::Tier;
use super::{Generator, Pager, Space, no_generator, zero_page};

/// What one thread hashes at a time: less is not worth starting it.
const BYTES_PER_THREAD_MIN: usize = 512 << 10;
/// This part of what all spaces may change each may, however much the others did.
const OWN_PART: usize = 64;

impl Pager {
    /// Makes the space durable and returns its root, which names every byte of it. What was not written
    /// since the last commit is neither read nor hashed again.
    pub fn commit(&mut self, space: &mut Space) -> Result<Cid> {
        self.seal(space)?;
        let Some(bytes) = root::encode(self.page_len, &space.shards) else {
            let message = "a memory was to be committed before its maps";
            return Err(HostAbort::new(AbortKind::Machine, message).into());
        };
        let cid = Cid::of(Codec::DagCbor, &bytes);
        self.tier.put(&cid, &bytes)?;
        self.tier.commit()?;
        Ok(cid)
    }

    /// Writes all that is not in the tier, without making it durable.
    fn seal(&mut self, space: &mut Space) -> Result<()> {
        self.seal_nodes(space, Which::All)
    }

    /// Writes changed nodes to the tier, without making anything durable, if there are too many: the lowest ones first,
    /// because those above are changed again by the next write, wherever it is.
    pub(super) fn spill(&mut self, space: &mut Space) -> Result<()> {
        let of_others = space.changed.of_others();
        // What others have changed goes when they are written; a little is left to each.
        let own_max = self.changed_max().saturating_sub(of_others).max(self.changed_max() / OWN_PART);
        if space.changed.bytes() <= own_max {
            self.share_room(space.changed.bytes() + of_others);
            return Ok(());
        }
        self.seal_nodes(space, Which::Lowest)?;
        // There must be room for more than a few writes.
        if space.changed.bytes() > own_max / 8 * 7 { self.seal(space) } else { Ok(()) }
    }

    /// Writes changed nodes to the tier, without making anything durable, if a snapshot of the space, which keeps its
    /// own of them, would take more than there is room for.
    pub fn make_room_for_snapshot(&mut self, space: &mut Space) -> Result<()> {
        let then = space.changed.of_others() + 2 * space.changed.bytes();
        if then > self.changed_max() { self.seal(space) } else { Ok(()) }
    }

    /// Bytes of changed nodes: an eighth is left to those that are only read.
    fn changed_max(&self) -> usize {
        self.nodes_bytes / 8 * 7
    }

    /// Gives the nodes that are only read what the changed ones do not need.
    fn share_room(&mut self, changed_bytes: usize) {
        self.nodes.keep_at_most(self.nodes_bytes - changed_bytes.min(self.changed_max()));
    }

    fn seal_nodes(&mut self, space: &mut Space, which: Which) -> Result<()> {
        // Also after a failure: a part of the versions may be settled by then, and those are written no more.
        space.epoch = self.new_epoch();
        let named = self.hash_held(space);
        let zeros = zero_page(self.page_len);
        let mut left = 0;
        for shard in Arc::make_mut(&mut space.shards).values_mut() {
            let parts = match &shard.backing {
                // Only if a page was written: what it would hold unmapped is to be compared.
                Backing::Object { cid, len, .. }
                    if shard.map.root().is_some_and(|root| !root.child.is_stored()) =>
                {
                    Some(self.parts_of(cid, *len)?)
                }
                _ => None,
            };
            let maker = match &shard.backing {
                Backing::Zeros => Maker::Zeros,
                Backing::Generator { name, seed } => {
                    Maker::Generator(&**self.generators.get(name).ok_or_else(|| no_generator(name))?, *seed)
                }
                Backing::Object { .. } => Maker::Parts(shard.backing.clone(), parts),
            };
            let mut sealer = Sealer {
                tier: &*self.tier,
                frames: &mut self.frames,
                nodes: &mut self.nodes,
                named: &named,
                zeros,
                maker,
                page_len: self.page_len,
                unmapped: 0,
            };
            let sealed = match which {
                Which::All => shard.map.seal(&mut sealer).map(|()| 0),
                Which::Lowest => shard.map.seal_lowest(&mut sealer),
            };
            let unmapped = sealer.unmapped;
            // Also of a part: what is unmapped stays so.
            space.used.mapped = space.used.mapped.saturating_sub(unmapped);
            shard.map.count_less(unmapped);
            left += sealed?;
        }
        space.changed.set(left);
        self.share_room(left + space.changed.of_others());
        space.used.dirty = 0;
        Ok(())
    }

    /// The names of all dirty pages of a space, by frame. Hashed by several threads if there are many.
    fn hash_held(&self, space: &Space) -> BTreeMap<u32, Cid> {
        let mut frames = Vec::new();
        for shard in space.shards.values() {
            shard.map.each_held(&mut |_, held| {
                if let PageRef::Held(version) = held
                    && version.cid().is_none()
                {
                    frames.push(version.frame());
                }
            });
        }
        let names = self.hash_all(&frames, |frame| Some(Cid::of_raw(self.frames.bytes(*frame))));
        frames.iter().zip(names).filter_map(|(frame, cid)| Some((*frame, cid?))).collect()
    }

    /// What `name` makes of each of `pages`, by several threads if there are many. There is none where a thread fell or
    /// was not started: whoever needs it hashes again.
    pub(super) fn hash_all<T: Sync>(
        &self,
        pages: &[T],
        name: impl Fn(&T) -> Option<Cid> + Sync,
    ) -> Vec<Option<Cid>> {
        let part = pages.len().div_ceil(self.threads).max(BYTES_PER_THREAD_MIN.div_ceil(self.page_len));
        let hash = |part: &[T], names: &mut [Option<Cid>]| {
            names.iter_mut().zip(part).for_each(|(to, page)| *to = name(page));
        };
        let mut names = vec![None; pages.len()];
        std::thread::scope(|scope| {
            let mut parts = pages.chunks(part).zip(names.chunks_mut(part));
            let first = parts.next();
            let hash = &hash;
            let start =
                |(part, names)| std::thread::Builder::new().spawn_scoped(scope, move || hash(part, names));
            let others: Vec<_> = parts.map(start).collect();
            if let Some((part, names)) = first {
                hash(part, names);
            }
            // A scope whose thread fell falls too, unless somebody asked for that thread.
            others.into_iter().flatten().for_each(|other| drop(other.join()));
        });
        names
    }
}

/// Which changed nodes are written, beside all pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// Those that have none below them.
    Lowest,
}

enum Maker<'a> {
    Zeros,
    Generator(&'a dyn Generator, [u8; 32]),
    /// Of this backing; `None` if nothing is to be compared.
    Parts(Backing, Option<Arc<Parts>>),
}

struct Sealer<'a> {
    tier: &'a dyn Tier,
    frames: &'a mut Frames,
    nodes: &'a mut Nodes,
    named: &'a BTreeMap<u32, Cid>,
    zeros: Cid,
    /// What makes the pages that are not mapped.
    maker: Maker<'a>,
    page_len: usize,
    unmapped: u64,
}

impl Sealer<'_> {
    /// What `page` would hold if it were not mapped.
    fn unmapped(&self, page: u64) -> Cid {
        let (generator, seed) = match &self.maker {
            Maker::Zeros => return self.zeros,
            Maker::Parts(backing, parts) => {
                let nth = part_of(backing, page, self.page_len);
                return nth.and_then(|nth| parts.as_ref()?.name(nth)).unwrap_or(self.zeros);
            }
            Maker::Generator(generator, seed) => (generator, seed),
        };
        let mut bytes = vec![0; self.page_len];
        generator.fill(seed, page, &mut bytes);
        Cid::of_raw(&bytes)
    }

    fn write(&mut self, version: &Version) -> Result<Cid> {
        let frame = version.frame();
        let bytes = self.frames.bytes(frame);
        let cid = self.named.get(&frame).copied().unwrap_or_else(|| Cid::of_raw(bytes));
        self.tier.put(&cid, bytes)?;
        version.settle(cid);
        self.frames.clean(frame, cid);
        Ok(cid)
    }
}

impl Seal for Sealer<'_> {
    fn seal(&mut self, page: u64, held: &PageRef) -> Result<Sealed> {
        let cid = match held {
            PageRef::Stored(cid) => *cid,
            PageRef::Held(version) => match version.cid() {
                Some(cid) => cid,
                None => self.write(version)?,
            },
        };
        if cid == self.unmapped(page) {
            self.unmapped += 1;
            return Ok(Sealed::Unmapped);
        }
        Ok(Sealed::Stored(cid))
    }

    fn nodes(&mut self) -> &mut Nodes {
        self.nodes
    }
}

impl Pager {
    /// Puts what only `frame` has into the tier, unless nobody needs it any more.
    pub(super) fn write_back(&mut self, frame: u32) -> Result<()> {
        let Holds::Dirty(holder) = self.frames.holds(frame) else { return Ok(()) };
        let Some(version) = holder.upgrade() else { return Ok(()) };
        let bytes = self.frames.bytes(frame);
        let cid = Cid::of_raw(bytes);
        self.tier.put(&cid, bytes)?;
        version.settle(cid);
        self.stats.write_backs += 1;
        Ok(())
    }
}
