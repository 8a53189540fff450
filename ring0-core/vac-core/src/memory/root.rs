//! The root of a memory: what a commit returns the CID of.
//!
//! ```text
//! root    = ["vac memory", 1, page length, [[shard, backing, map], ...]]      canonical form, dag-cbor
//! backing = [0]                  zeros
//!         | [1, name, seed]      what the generator `name` makes of the 32 bytes `seed`
//!         | [2, link, page, len] the `len` bytes of the object `link`, from that page on; only in format 2
//! map     = null | [key, link]   see `node`
//! ```
//!
//! The format is 2 if a shard has an object behind it, else 1, as before there were such.
//! Shards are in order; one without pages whose backing is zeros is left out. So equal contents have equal
//! roots.

use std::collections::BTreeMap;

use crate::canon::{self, Decode, Encode, Reader, Writer};
use crate::cid::Cid;
use crate::fault::Corrupt;
use crate::limits::{
    MEMORY_BACKING_MAX_BYTES, MEMORY_GENERATOR_NAME_MAX_BYTES, MEMORY_PAGE_MAX_BYTES, MEMORY_PAGE_MIN_BYTES,
    MEMORY_ROOT_MAX_BYTES, MEMORY_SHARDS_MAX,
};

use super::map::Map;
use super::node::{self, Entry};

const WHAT: &str = "vac memory";
const FORMAT: u64 = 1;
/// Of a memory with an object behind a shard.
const FORMAT_OBJECTS: u64 = 2;

/// What a page that is not mapped holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Backing {
    /// Zeros.
    #[default]
    Zeros,
    /// What a generator makes: a pure function of this seed and the page's number.
    Generator {
        /// The generator's name; it stands for its version too.
        name: String,
        /// The shard's seed.
        seed: [u8; 32],
    },
    /// The bytes of an object from a page on, in order; zeros before, after, and to the end of its last page.
    Object {
        /// The object.
        cid: Cid,
        /// The page that holds its first bytes.
        first: u64,
        /// Its length in bytes.
        len: u64,
    },
}

impl Encode for Backing {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Zeros => {
                to.array(1);
                to.uint(0);
            }
            Self::Generator { name, seed } => {
                to.array(3);
                to.uint(1);
                to.text(name);
                to.byte_string(seed);
            }
            Self::Object { cid, first, len } => {
                to.array(4);
                to.uint(2);
                to.link(cid);
                to.uint(*first);
                to.uint(*len);
            }
        }
    }
}

impl Decode for Backing {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let len = from.array()?;
        match (from.uint()?, len) {
            (0, 1) => Ok(Self::Zeros),
            (1, 3) => {
                let name = from.text()?.to_owned();
                if name.len() > MEMORY_GENERATOR_NAME_MAX_BYTES {
                    let max = MEMORY_GENERATOR_NAME_MAX_BYTES;
                    return Err(from.wrong(format!("a name of at most {max} bytes"), name.len()));
                }
                let seed = from.byte_string()?;
                let seed = seed.try_into().map_err(|_| from.wrong("32 bytes", seed.len()))?;
                Ok(Self::Generator { name, seed })
            }
            (2, 4) => {
                let cid = from.link()?;
                let (first, len) = (from.uint()?, from.uint()?);
                if len == 0 || len > MEMORY_BACKING_MAX_BYTES as u64 {
                    return Err(from.wrong(format!("1 to {MEMORY_BACKING_MAX_BYTES} bytes"), len));
                }
                Ok(Self::Object { cid, first, len })
            }
            (kind, len) => Err(from.wrong("a backing", format!("kind {kind} of {len} items"))),
        }
    }
}

/// One shard.
#[derive(Debug, Clone, Default)]
pub(super) struct Shard {
    pub(super) map: Map,
    pub(super) backing: Backing,
}

impl Shard {
    fn is_default(&self) -> bool {
        self.map.link().is_none() && self.backing == Backing::Zeros
    }
}

/// All of a memory.
pub(super) struct Root {
    pub(super) page_len: usize,
    pub(super) shards: BTreeMap<u64, Shard>,
}

/// The canonical form of a memory all of whose maps were written; `None` if one was not.
pub(super) fn encode(page_len: usize, shards: &BTreeMap<u64, Shard>) -> Option<Vec<u8>> {
    let mut to = Writer::default();
    to.array(4);
    to.text(WHAT);
    let has_objects = shards.values().any(|shard| matches!(shard.backing, Backing::Object { .. }));
    to.uint(if has_objects { FORMAT_OBJECTS } else { FORMAT });
    to.uint(page_len as u64);
    let shards: Vec<_> = shards.iter().filter(|(_, shard)| !shard.is_default()).collect();
    to.array(shards.len());
    for (number, shard) in shards {
        to.array(3);
        to.uint(*number);
        shard.backing.encode(&mut to);
        match shard.map.link() {
            None => to.null(),
            Some((key, link)) => {
                to.array(2);
                to.uint(key);
                to.link(&link?);
            }
        }
    }
    Some(to.into_bytes())
}

/// Reads a root.
pub(super) fn decode(bytes: &[u8], cid: &Cid) -> Result<Root, Corrupt> {
    canon::decode(bytes, &format!("the memory {cid}"))
}

impl Decode for Root {
    fn decode(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        from.array_of(4)?;
        let what = from.text()?;
        if what != WHAT {
            return Err(from.wrong(format!("`{WHAT}`"), format!("`{}`", crate::fault::quote(what))));
        }
        let format = from.uint()?;
        if !(FORMAT..=FORMAT_OBJECTS).contains(&format) {
            return Err(from.wrong(format!("format {FORMAT} or {FORMAT_OBJECTS}"), format));
        }
        let page_len = page_len(from)?;
        let len = from.array()?;
        if len > MEMORY_SHARDS_MAX {
            return Err(from.wrong(format!("at most {MEMORY_SHARDS_MAX} shards"), len));
        }
        let mut shards: BTreeMap<u64, Shard> = BTreeMap::new();
        for _ in 0..len {
            let (number, shard) = decode_shard(from)?;
            let is_next = shards.last_key_value().is_none_or(|(last, _)| *last < number);
            if !is_next || shard.is_default() {
                return Err(from.wrong("the next shard that holds something", number));
            }
            shards.insert(number, shard);
        }
        let has_objects = shards.values().any(|shard| matches!(shard.backing, Backing::Object { .. }));
        if has_objects != (format == FORMAT_OBJECTS) {
            return Err(from.wrong("the format of what is behind its shards", format));
        }
        Ok(Self { page_len, shards })
    }
}

fn page_len(from: &mut Reader<'_>) -> Result<usize, Corrupt> {
    let len = from.uint()?;
    let fits =
        |len: &usize| len.is_power_of_two() && (MEMORY_PAGE_MIN_BYTES..=MEMORY_PAGE_MAX_BYTES).contains(len);
    usize::try_from(len).ok().filter(fits).ok_or_else(|| {
        let expected =
            format!("a power of two from {MEMORY_PAGE_MIN_BYTES} to {MEMORY_PAGE_MAX_BYTES} bytes");
        from.wrong(expected, len)
    })
}

fn decode_shard(from: &mut Reader<'_>) -> Result<(u64, Shard), Corrupt> {
    from.array_of(3)?;
    let number = from.uint()?;
    let backing = Backing::decode(from)?;
    let root: Option<Entry> = match from.null()? {
        true => None,
        false => Some(node::decode_entry(from)?),
    };
    Ok((number, Shard { map: Map::of(root), backing }))
}

/// The page length of the memory `root`, which is read from `tier`.
pub fn page_len_of(tier: &dyn super::Tier, root: &Cid) -> crate::fault::Result<usize> {
    let found = tier.get(root, MEMORY_ROOT_MAX_BYTES)?;
    let bytes = found.ok_or_else(|| super::nodes::missing("memory", root))?;
    Ok(decode(&bytes, root)?.page_len)
}

/// What page `page` of a shard with this backing holds unmapped; `None` for a generator that is not always
/// there, and for a part of an object.
pub fn made_page(backing: &Backing, page: u64, page_len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; page_len];
    match backing {
        Backing::Zeros => {}
        Backing::Generator { name, seed } if name == super::BLAKE3_STREAM => {
            super::Generator::fill(&super::Blake3Stream, seed, page, &mut bytes);
        }
        // Not known without the object, but for what is outside of it.
        Backing::Object { .. } if super::backing::part_of(backing, page, page_len).is_none() => {}
        Backing::Generator { .. } | Backing::Object { .. } => return None,
    }
    Some(bytes)
}
