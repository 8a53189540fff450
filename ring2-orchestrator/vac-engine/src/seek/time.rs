//! Virtual time, read from a record: what the guest's monotonic clock showed.
//!
//! One tick is one nanosecond, and a wait moves the clock to its end at once. Ticks are in every event; a wait follows
//! from what was asked for and answered: the instants behind pollables (WASI 0.2), the numbers of waits (0.3), the
//! nanoseconds that a look at sockets took. A wait of 0.2 for a socket is in no event; the next time that the guest
//! asks its clock tells.
//!
//! The time of a run goes on from kernel to kernel; the clock of each kernel begins at 0. An instance of a script's
//! kernel that lives on between calls is taken for a new one: its waits for instants, rather than for durations, that
//! it remembers from an earlier call are not seen.

use std::collections::BTreeMap;

use vac_core::canon::{self, Node};
use vac_core::ledger::{Body, Call, Return};
use vac_core::store::Store;

use crate::session::KERNEL_EVENT;

/// The waits of a run, event by event.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Whether every call of a kernel may be of another one.
    is_script: bool,
    /// Nanoseconds that passed in waits.
    waited_ns: u64,
    /// Tick and waits at which the kernel's own clock began.
    base: (u64, u64),
    /// Instants behind pollables, by handle.
    instants: BTreeMap<i128, u64>,
    /// Instants of waits of 0.3, by number.
    waits: BTreeMap<i128, u64>,
    started: i128,
}

impl Waits {
    pub(super) fn new(is_script: bool) -> Self {
        Self { is_script, ..Self::default() }
    }

    /// The run's time at a tick.
    pub(super) fn at(&self, tick: u64) -> u64 {
        tick.saturating_add(self.waited_ns)
    }

    /// The tick at which it is `time_ns`, if nothing is waited for any more until then.
    pub(super) fn tick_at(&self, time_ns: u64) -> u64 {
        time_ns.saturating_sub(self.waited_ns)
    }

    /// What the kernel's own clock shows.
    fn kernel_now(&self, tick: u64) -> u64 {
        let (ticks, waited) = self.base;
        tick.saturating_sub(ticks).saturating_add(self.waited_ns.saturating_sub(waited))
    }

    /// A kernel is called.
    pub(super) fn begin(&mut self, name: &str, call: &Call) {
        if name == KERNEL_EVENT && self.is_script {
            self.base = (call.tick, self.waited_ns);
            self.instants.clear();
            self.waits.clear();
            self.started = 0;
        }
    }

    /// An event happened.
    pub(super) fn event(&mut self, name: &str, call: &Call, ret: &Return, store: &Store) {
        let Some((interface, function)) = name.split_once('#') else { return };
        let is_time = matches!(interface, "wasi:clocks/monotonic-clock" | "wasi:io/poll")
            || function == "[wait]" && interface.starts_with("wasi:sockets/");
        let Some(answer) = ret.answer.as_ref().ok().filter(|_| is_time) else { return };
        let (request, answer) = (node_of(&call.request, store), node_of(answer, store));
        let first = list(request.as_ref()).and_then(|items| items.first().cloned());
        let number = first.as_ref().and_then(int);
        let answered = answer.as_ref().and_then(int);
        match (function, number, answered) {
            ("now", _, Some(now)) if !self.is_script => self.wait_until(call.tick, clamp(now)),
            ("subscribe-instant", Some(when), Some(handle)) => _ = self.instants.insert(handle, clamp(when)),
            ("subscribe-duration", Some(ns), Some(handle)) => {
                let when = self.kernel_now(call.tick).saturating_add(clamp(ns));
                self.instants.insert(handle, when);
            }
            ("[drop]pollable", Some(handle), _) => _ = self.instants.remove(&handle),
            ("[method]pollable.block", Some(handle), _) => {
                let when = self.instants.get(&handle).copied().unwrap_or_default();
                self.wait_until(call.tick, when);
            }
            ("poll", ..) => self.poll(call.tick, list(first.as_ref()), list(answer.as_ref())),
            ("wait-until" | "wait-for", _, Some(ns)) => self.start(call.tick, clamp(ns)),
            ("[end]wait-until" | "[end]wait-for", Some(number), _) => {
                let when = self.waits.remove(&number).unwrap_or_default();
                self.wait_until(call.tick, when);
            }
            ("[wait]", ..) => self.look(list(request.as_ref()), list(answer.as_ref())),
            _ => {}
        }
    }

    fn wait_until(&mut self, tick: u64, when: u64) {
        let missing = when.saturating_sub(self.kernel_now(tick));
        self.waited_ns = self.waited_ns.saturating_add(missing);
    }

    /// The clock moved to the first instant, unless something else was ready.
    fn poll(&mut self, tick: u64, pollables: Option<&[Node]>, ready: Option<&[Node]>) {
        let (Some(pollables), Some(ready)) = (pollables, ready) else { return };
        let when = |node: &Node| self.instants.get(&int(node)?).copied();
        let pollable = |index: &Node| pollables.get(usize::try_from(int(index)?).ok()?);
        let all_instants = ready.iter().all(|index| pollable(index).and_then(when).is_some());
        if let Some(first) = pollables.iter().filter_map(when).min().filter(|_| all_instants) {
            self.wait_until(tick, first);
        }
    }

    /// A wait of 0.3 begins; one for nothing has no number.
    fn start(&mut self, tick: u64, ns: u64) {
        if ns > 0 {
            self.waits.insert(self.started, self.kernel_now(tick).saturating_add(ns));
            self.started += 1;
        }
    }

    /// Time passed at a look at sockets if one was ready.
    fn look(&mut self, request: Option<&[Node]>, answer: Option<&[Node]>) {
        let Some([Node::List(ready), waited]) = answer else { return };
        let limit = request.and_then(|items| items.get(1)).and_then(int).map_or(u64::MAX, clamp);
        if ready.contains(&Node::Bool(true)) {
            let waited = int(waited).map_or(0, clamp).min(limit);
            self.waited_ns = self.waited_ns.saturating_add(waited);
        }
    }
}

fn node_of(body: &Body, store: &Store) -> Option<Node> {
    let decode = |bytes: &[u8]| canon::decode::<Node>(bytes, "an event").ok();
    match body {
        Body::Inline(bytes) => decode(bytes),
        Body::Stored { cid, .. } => decode(&store.get(cid).ok()??),
        Body::Digest { .. } => None,
    }
}

fn list(node: Option<&Node>) -> Option<&[Node]> {
    if let Some(Node::List(items)) = node { Some(items) } else { None }
}

fn int(node: &Node) -> Option<i128> {
    if let Node::Int(int) = node { Some(*int) } else { None }
}

fn clamp(int: i128) -> u64 {
    u64::try_from(int.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use vac_core::canon::encode;
    use vac_core::ledger::Class;
    use vac_core::storage::SimStorage;

    use super::*;

    const CLOCK: &str = "wasi:clocks/monotonic-clock";

    fn ints(ints: &[i128]) -> Node {
        Node::List(ints.iter().map(|int| Node::Int(*int)).collect())
    }

    /// Waits of a run with these events: name, tick, request, answer.
    fn after(events: &[(&str, u64, Node, Node)]) -> Waits {
        let store = Store::open(std::sync::Arc::new(SimStorage::new(1)), "store").unwrap();
        let mut waits = Waits::new(false);
        for (name, tick, request, answer) in events {
            let body = |node: &Node| Body::inline(&encode(node)).unwrap();
            let call = Call {
                seq: 0,
                parent: None,
                name: 0,
                class: Class::Local,
                tick: *tick,
                request: body(request),
            };
            let ret = Return { answer: Ok(body(answer)), grant: None, denied: None };
            waits.event(name, &call, &ret, &store);
        }
        waits
    }

    #[test]
    fn polls_wait_for_their_first_instant_unless_something_else_is_ready() {
        let subscribe = format!("{CLOCK}#subscribe-duration");
        let poll = "wasi:io/poll#poll";
        let pollables = |handles: &[i128]| Node::List(vec![ints(handles)]);
        let two = [
            (subscribe.as_str(), 10, ints(&[100]), Node::Int(1)),
            (subscribe.as_str(), 20, ints(&[1000]), Node::Int(2)),
        ];
        let polled = |handles: &[i128], ready: &[i128]| {
            after(&[&two[..], &[(poll, 30, pollables(handles), ints(ready))]].concat()).at(30)
        };
        assert_eq!(polled(&[1, 2], &[0]), 110);
        assert_eq!(polled(&[2], &[0]), 1020);
        assert_eq!(polled(&[1, 7], &[1]), 30, "a socket was ready");
        assert_eq!(polled(&[1, 7], &[0]), 110, "the instant came first");
        assert_eq!(polled(&[1, 7], &[9]), 30, "no such pollable");
    }

    #[test]
    fn waits_of_0_3_end_by_their_numbers_and_looks_take_what_they_took() {
        let (begin, end) = (format!("{CLOCK}#wait-for"), format!("{CLOCK}#[end]wait-for"));
        let ended = after(&[
            (begin.as_str(), 10, ints(&[500]), Node::Int(500)),
            (begin.as_str(), 11, ints(&[0]), Node::Int(0)),
            (begin.as_str(), 12, ints(&[50]), Node::Int(50)),
            (end.as_str(), 13, ints(&[1]), Node::List(Vec::new())),
        ]);
        assert_eq!(ended.at(13), 62);
        let look = "wasi:sockets/types#[wait]";
        let looked = |ready: bool, limit: Node| {
            let request = Node::List(vec![Node::List(Vec::new()), limit]);
            let answer = Node::List(vec![Node::List(vec![Node::Bool(ready)]), Node::Int(70)]);
            after(&[(look, 5, request, answer)]).at(5)
        };
        assert_eq!(
            [looked(true, Node::Null), looked(true, Node::Int(20)), looked(false, Node::Null)],
            [75, 25, 5]
        );
    }

    #[test]
    fn the_guests_own_clock_tells_what_no_event_does() {
        let now = format!("{CLOCK}#now");
        assert_eq!(after(&[(now.as_str(), 10, Node::List(Vec::new()), Node::Int(4_000))]).at(11), 4_001);
        for bad in [Node::Int(-1), Node::Int(i128::from(u64::MAX)), Node::Null, Node::List(Vec::new())] {
            after(&[
                (now.as_str(), 10, bad.clone(), bad.clone()),
                ("wasi:io/poll#poll", 11, bad.clone(), bad),
            ]);
        }
    }
}
