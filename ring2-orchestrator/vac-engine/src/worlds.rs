//! What of the host's own answers the world gave it.
//!
//! A function of class `local` answers from what the host holds behind a handle, or from the clock. Most of that the guest
//! made, or the run was started with it. Some of it came from outside with an event before, whose record has but a handle:
//! the status of a response, what kind of thing a path led to, the code of an error, how long a peer took. If such an
//! answer differs between two runs that were asked alike until then, the world differs, and the sandbox leaks nothing.
//!
//! ```text
//! handle#… [effect] -> 7    get(7) [read] -> 9    status(9) [local] -> 200 | 404     9 is the world's
//! fields() [local] -> 4                           get(4, …) [local] -> …             4 is the guest's
//! ```
//!
//! So it is followed which handles the world gave, and which ones were given by what was asked of those. Kernels number
//! their handles each for itself; of several in one run these count as one.

use std::collections::BTreeSet;

use vac_core::canon::{self, Node};
use vac_core::ledger::{Body, Class};
use vac_core::store::Store;

/// Functions whose answers have handles, and the way to them: `o` into `ok`, `e` into `err`, `s` into `some`. There they are
/// alone or in a list.
const GIVE: [(&str, &str); 17] = [
    ("wasi:http/types#[method]future-incoming-response.get", "soo"),
    ("wasi:http/types#[method]incoming-response.headers", ""),
    ("wasi:http/types#[method]incoming-response.consume", "o"),
    ("wasi:http/types#[method]incoming-body.stream", "o"),
    ("wasi:http/types#[static]incoming-body.finish", ""),
    ("wasi:http/types#[method]future-trailers.get", "soos"),
    ("wasi:http/types#[method]fields.clone", ""),
    ("wasi:http/types#[static]request.new", ""),
    ("wasi:http/types#[static]response.new", ""),
    ("wasi:http/types#[method]request.get-headers", ""),
    ("wasi:http/types#[method]response.get-headers", ""),
    ("wasi:http/client#[end]send", "o"),
    ("wasi:http/handler#[end]handle", "o"),
    ("wasi:http/handler#[request]handle", "s"),
    ("wasi:filesystem/types#[method]descriptor.open-at", "o"),
    ("wasi:sockets/tcp#[method]tcp-socket.finish-connect", "o"),
    ("wasi:sockets/tcp#[method]tcp-socket.accept", "o"),
];
/// The handle of an error is in the answers of all that streams do.
const STREAMS: &str = "wasi:io/streams#";
const OF_ERROR: &str = "es";
/// Functions that take the handle that they are asked of, and which is another's after that.
const TAKE: [&str; 8] = [
    "[drop]",
    "[constructor]outgoing-request",
    "[constructor]outgoing-response",
    "[static]incoming-body.finish",
    "[static]request.consume-body",
    "[static]response.consume-body",
    "[static]request.new",
    "[static]response.new",
];
const SOCKETS: &str = "wasi:sockets/";
const HTTP: &str = "wasi:http/";
const POLL: &str = "wasi:io/poll#";
const CLOCKS: &str = "wasi:clocks/";

/// What of a run came from the world so far.
#[derive(Debug, Default)]
pub(crate) struct Worlds {
    handles: BTreeSet<i128>,
    /// Whether a peer's time is in the clock's.
    has_time: bool,
}

impl Worlds {
    /// Takes note of an event that happened.
    pub(crate) fn see(&mut self, function: &str, class: Class, request: &Body, answer: &Body, store: &Store) {
        let is_worlds = match class {
            Class::Read | Class::Effect => true,
            _ => self.is_asked(function, request, store),
        };
        let took = TAKE.iter().any(|name| name_of(function).starts_with(name));
        if took && let Some(node) = node_of(request, store) {
            let taken = asked(&node);
            self.handles.retain(|handle| !taken.contains(handle));
        }
        if is_worlds {
            // A peer may have been waited for.
            self.has_time |= [SOCKETS, HTTP].iter().any(|it| function.starts_with(it));
            self.handles.extend(given(function, answer, store));
        }
    }

    /// Whether the world is in what a function answers, whatever its class.
    pub(crate) fn is_asked(&self, function: &str, request: &Body, store: &Store) -> bool {
        if function.starts_with(SOCKETS) {
            return true;
        }
        // What is waited for may be a socket, and when a wait ends is up to the clock.
        if function.starts_with(CLOCKS) || function.starts_with(POLL) {
            return self.has_time;
        }
        !self.handles.is_empty()
            && node_of(request, store)
                .is_some_and(|node| asked(&node).iter().any(|handle| self.handles.contains(handle)))
    }
}

fn name_of(function: &str) -> &str {
    function.split_once('#').map_or(function, |(_, name)| name)
}

fn node_of(body: &Body, store: &Store) -> Option<Node> {
    let decode = |bytes: &[u8]| canon::decode::<Node>(bytes, "body").ok();
    match body {
        Body::Inline(bytes) => decode(bytes),
        // What is long has no handles to ask of, and few to give.
        Body::Stored { cid, .. } | Body::Digest { cid, .. } => decode(&store.get(cid).ok()??),
    }
}

/// The handles that a function is asked of: its first argument, or all in the list that this is.
fn asked(request: &Node) -> Vec<i128> {
    let Node::List(args) = request else { return Vec::new() };
    match args.first() {
        // Of a function that shows in its request what stands behind its arguments, those are a list.
        Some(Node::List(items)) => items.iter().filter_map(int).collect(),
        Some(arg) => int(arg).into_iter().collect(),
        None => Vec::new(),
    }
}

fn given(function: &str, answer: &Body, store: &Store) -> Vec<i128> {
    let known = GIVE.iter().find(|(name, _)| *name == function).map(|(_, way)| *way);
    // An error is short, and what a stream read may be very long.
    let may_fail = || function.starts_with(STREAMS) && matches!(answer, Body::Inline(_));
    let Some(way) = known.or_else(|| may_fail().then_some(OF_ERROR)) else { return Vec::new() };
    node_of(answer, store).and_then(|node| along(&node, way).map(leaves)).unwrap_or_default()
}

fn along<'n>(node: &'n Node, way: &str) -> Option<&'n Node> {
    way.chars().try_fold(node, |node, step| match (step, node) {
        ('s', Node::List(items)) => items.first(),
        ('o', Node::List(items)) if items.first() == Some(&Node::Int(0)) => items.get(1),
        ('e', Node::List(items)) if items.first() == Some(&Node::Int(1)) => items.get(1),
        _ => None,
    })
}

fn leaves(node: &Node) -> Vec<i128> {
    match node {
        Node::List(items) => {
            items.iter().filter_map(|item| int(item).or_else(|| int(along(item, "s")?))).collect()
        }
        node => int(node).into_iter().collect(),
    }
}

fn int(node: &Node) -> Option<i128> {
    if let Node::Int(int) = node { Some(*int) } else { None }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vac_core::canon::encode;
    use vac_core::storage::SimStorage;

    use super::*;

    fn body(node: Node) -> Body {
        let mut to = Body::default();
        if let Body::Inline(bytes) = &mut to {
            encode(&node).into_iter().for_each(|byte| bytes.push(byte));
        }
        to
    }

    fn list(items: &[Node]) -> Node {
        Node::List(items.to_vec())
    }

    /// `[method]fields.get` of fields that the guest made is the sandbox's, of those of a response the world's; and a number
    /// that was given up and taken again is what it is now.
    #[test]
    fn an_answer_is_the_worlds_if_what_it_was_asked_of_is() {
        let store = Store::open(Arc::new(SimStorage::new(1)), "store").unwrap();
        let mut worlds = Worlds::default();
        let handle = |n: i128| body(list(&[Node::Int(n)]));
        let types = |name: &str| format!("wasi:http/types#{name}");
        let (get, status) = (types("[method]fields.get"), types("[method]incoming-response.status"));
        worlds.see(
            &types("[constructor]fields"),
            Class::Local,
            &body(list(&[])),
            &body(Node::Int(4)),
            &store,
        );
        let ok = |node| list(&[Node::Int(0), node]);
        let response = body(list(&[ok(ok(Node::Int(9)))]));
        let future = types("[method]future-incoming-response.get");
        assert!(!worlds.is_asked(&status, &handle(9), &store));
        worlds.see(&future, Class::Read, &handle(7), &response, &store);
        assert!(worlds.is_asked(&status, &handle(9), &store));
        assert!(!worlds.is_asked(&get, &handle(4), &store));
        let headers = types("[method]incoming-response.headers");
        worlds.see(&headers, Class::Read, &handle(9), &body(Node::Int(5)), &store);
        worlds.see(&types("[method]fields.clone"), Class::Local, &handle(5), &body(Node::Int(6)), &store);
        worlds.see(&types("[method]fields.clone"), Class::Local, &handle(4), &body(Node::Int(8)), &store);
        let is_of = |worlds: &Worlds, n| worlds.is_asked(&get, &handle(n), &store);
        assert_eq!([5, 6, 4, 8].map(|n| is_of(&worlds, n)), [true, true, false, false]);
        worlds.see(&types("[drop]fields"), Class::Local, &handle(6), &body(Node::Null), &store);
        assert!(!is_of(&worlds, 6) && is_of(&worlds, 5));
    }

    #[test]
    fn the_clock_is_the_worlds_once_a_peer_was_waited_for() {
        let store = Store::open(Arc::new(SimStorage::new(1)), "store").unwrap();
        let mut worlds = Worlds::default();
        let (now, nothing) = ("wasi:clocks/monotonic-clock#now", body(list(&[])));
        assert!(!worlds.is_asked(now, &nothing, &store));
        worlds.see("wasi:random/random#get-random-u64", Class::Local, &nothing, &body(Node::Int(1)), &store);
        assert!(!worlds.is_asked(now, &nothing, &store));
        worlds.see("wasi:http/outgoing-handler#handle", Class::Effect, &nothing, &body(Node::Int(1)), &store);
        assert!(worlds.is_asked(now, &nothing, &store));
    }
}
