//! Tasks that wait for sockets, and how they go on.
//!
//! A function that would have to wait for the network answers that it must, and its task waits here. Nobody looks
//! at the sockets while the kernel works. When nothing of it can go on, all that is waited for is looked
//! at together, until one is ready or the first wait for an instant is over; which ones were ready, and how
//! long that took, is one event. So a replay wakes the same tasks at the same places, without a socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use vac_core::caps::{Handle, Rights};
use vac_core::fault::{AbortKind, HostAbort, Result};
use wasmtime::StoreContextMut;

use crate::host::{Host, Object};
use crate::limits::TIMERS_MAX;
use crate::socket::{self, Interest, Socket};
use crate::timers::{Signal, Timer};
use crate::wall::{Function, State, cross};

/// The tasks of one kernel that wait for sockets.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    /// By number, which is the order in which they began to wait.
    waiting: BTreeMap<u64, Waiting>,
    started: u64,
}

#[derive(Debug)]
struct Waiting {
    /// The function whose event a look is.
    look: Arc<Function>,
    handle: u32,
    interest: Interest,
    signal: Weak<Signal>,
}

/// Which of those that are looked at are ready, and the nanoseconds that passed until then.
type Looked = (Vec<bool>, u64);

/// The event of a look, the numbers of the waits, and for each its handle and whether it is to be written.
type Wanted = (Arc<Function>, Vec<u64>, Vec<(u32, bool)>);

impl Readiness {
    /// Begins to wait until the socket behind a handle is ready.
    pub(crate) fn start(&mut self, look: &Arc<Function>, handle: u32, interest: Interest) -> Result<Timer> {
        self.waiting.retain(|_, waiting| waiting.signal.strong_count() > 0);
        if self.waiting.len() >= TIMERS_MAX {
            let message = format!("the guest waits for more than {TIMERS_MAX} sockets at once");
            return Err(HostAbort::new(AbortKind::Quota, message).into());
        }
        let number = self.started;
        self.started += 1;
        let (timer, signal) = Timer::new(number);
        self.waiting.insert(number, Waiting { look: Arc::clone(look), handle, interest, signal });
        Ok(timer)
    }

    /// What is still waited for, in order.
    fn wanted(&mut self) -> Option<Wanted> {
        self.waiting.retain(|_, waiting| waiting.signal.strong_count() > 0);
        let look = Arc::clone(&self.waiting.values().next()?.look);
        let sockets = self.waiting.values().map(|w| (w.handle, w.interest == Interest::Write)).collect();
        Some((look, self.waiting.keys().copied().collect(), sockets))
    }

    fn ring(&mut self, number: u64) {
        if let Some(signal) = self.waiting.remove(&number).and_then(|waiting| waiting.signal.upgrade()) {
            signal.ring();
        }
    }
}

/// Looks at the sockets that are waited for, for at most `limit` nanoseconds, and wakes who waits for one that
/// is ready. The nanoseconds that passed until then; `None` if none is ready.
pub(crate) fn wake(store: &mut StoreContextMut<'_, State>, limit: Option<u64>) -> Result<Option<u64>> {
    let Some((function, numbers, sockets)) = store.data_mut().readiness.wanted() else { return Ok(None) };
    let (ready, waited): Looked = cross(store, &function, (sockets, limit), None, &look)?;
    let woken: Vec<u64> =
        numbers.into_iter().zip(ready).filter(|(_, is_ready)| *is_ready).map(|(n, _)| n).collect();
    for number in &woken {
        store.data_mut().readiness.ring(*number);
    }
    Ok((!woken.is_empty()).then(|| limit.map_or(waited, |limit| waited.min(limit))))
}

fn look(host: &mut Host, (wanted, limit): (Vec<(u32, bool)>, Option<u64>)) -> Result<Looked> {
    // What was given up since may be what a peer waits for.
    host.release_ended();
    let sockets: Vec<_> = wanted.iter().map(|(handle, _)| socket_behind(host, *handle)).collect();
    // Whoever waits for one that is gone learns so by trying again.
    let is_gone: Vec<bool> = sockets.iter().map(Option::is_none).collect();
    if is_gone.contains(&true) {
        return Ok((is_gone, 0));
    }
    let interests = wanted.iter().map(|(_, writes)| if *writes { Interest::Write } else { Interest::Read });
    let all: Vec<(&Socket, Interest)> = sockets.iter().flatten().map(|s| &**s).zip(interests).collect();
    // What came before, of names and requests, was not waited for here: it would end a wait that has just begun.
    host.clock.forget_outside();
    let (ready, waited) = socket::wait(&all, limit.map(Duration::from_nanos), &*host.watch)?;
    host.clock.note_outside(waited);
    Ok((ready, host.clock.take_outside()))
}

fn socket_behind(host: &Host, handle: u32) -> Option<Arc<Socket>> {
    match host.table.get(Handle::from_rep(handle), Rights::NONE).ok()? {
        Object::Tcp(tcp) => tcp.socket.clone(),
        Object::Udp(udp) => udp.socket.clone(),
        Object::Flow(flow) => Some(flow.socket()),
        _ => None,
    }
}
