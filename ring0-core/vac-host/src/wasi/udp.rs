//! `wasi:sockets`: UDP. Grants, errors and options are as for TCP, see [`super::sockets`].

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::net::SocketType;
use vac_core::caps::Rights;
use vac_core::fault::Result;
use vac_core::ledger::Class::{Effect, Local, Read};
use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use super::VERSION;
use super::addresses::{At, Family};
use super::io::{Pollable, Ready, wrong_kind};
use super::sockets::{BUFFER_DEFAULT_BYTES, N, Net, NetError, deny, fits, is_peer, option, tri, under};
use crate::host::{Host, Object, handle_of, refused};
use crate::limits::{DATAGRAM_MAX_BYTES, DATAGRAMS_MAX};
use crate::net::NetKind;
use crate::socket::{Interest, NetResult, Socket};
use crate::wall::{Interface, Wall};
use crate::wire::record;

/// `wasi:sockets/udp.udp-socket`.
pub(crate) struct UdpSocket;
/// `wasi:sockets/udp.incoming-datagram-stream`.
pub(crate) struct IncomingDatagramStream;
/// `wasi:sockets/udp.outgoing-datagram-stream`.
pub(crate) struct OutgoingDatagramStream;

/// `wasi:sockets/udp.incoming-datagram`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Incoming {
    data: Vec<u8>,
    #[component(name = "remote-address")]
    remote: At,
}
record!(Incoming { data, remote });

/// `wasi:sockets/udp.outgoing-datagram`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Outgoing {
    data: Vec<u8>,
    #[component(name = "remote-address")]
    remote: Option<At>,
}
record!(Outgoing { data, remote });

/// A UDP socket of the guest.
pub(crate) struct Udp {
    pub(crate) is_v6: bool,
    pub(crate) is_binding: bool,
    /// Made when it is first needed.
    pub(crate) socket: Option<Arc<Socket>>,
    pub(crate) remote: Option<SocketAddr>,
    /// The grant under which it hears whoever sends something.
    pub(crate) listens: Option<u32>,
    pub(crate) hops: u8,
    pub(crate) receive_bytes: u64,
    pub(crate) send_bytes: u64,
}

/// One direction of a UDP socket.
#[derive(Clone)]
pub(crate) struct Datagrams {
    pub(crate) socket: Arc<Socket>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) listens: Option<u32>,
}

/// Whether two addresses are of one peer: what else an address of IPv6 has, the flow and the scope, is not the peer's.
pub(crate) fn is_same_peer(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip(), a.port()) == (b.ip(), b.port())
}

impl Udp {
    pub(crate) fn new(is_v6: bool) -> Self {
        let (receive_bytes, send_bytes) = (BUFFER_DEFAULT_BYTES, BUFFER_DEFAULT_BYTES);
        Self {
            is_v6,
            is_binding: false,
            socket: None,
            remote: None,
            listens: None,
            hops: 64,
            receive_bytes,
            send_bytes,
        }
    }

    pub(crate) fn local(&self) -> std::result::Result<At, NetError> {
        let socket = self.socket.as_ref().ok_or(NetError::InvalidState)?;
        socket.local().map(At::from).map_err(NetError::from)
    }

    /// Does what the options say to what is there already.
    pub(crate) fn apply(&self) {
        // It cannot be refused: the number is one, and the socket is of its family.
        let _ = self.socket.as_ref().map(|socket| socket.set_hop_limit(self.is_v6, self.hops));
    }

    /// A socket that every sender may have, with its options set; bound by its first use.
    pub(crate) fn sender(&mut self) -> NetResult<Arc<Socket>> {
        let is_new = self.socket.is_none();
        let socket = self.socket()?;
        if is_new {
            socket.set_hop_limit(self.is_v6, self.hops)?;
        }
        Ok(socket)
    }

    pub(crate) fn socket(&mut self) -> NetResult<Arc<Socket>> {
        if let Some(socket) = &self.socket {
            return Ok(Arc::clone(socket));
        }
        let socket = Arc::new(Socket::new(self.is_v6, SocketType::DGRAM)?);
        self.socket = Some(Arc::clone(&socket));
        Ok(socket)
    }
}

type U = Resource<UdpSocket>;

macro_rules! udp_options {
    ($i:ident, $error:ty, $get:literal) => {
        option!($i, $error, U, udp, concat!("[method]udp-socket.", $get, "unicast-hop-limit"),
            "[method]udp-socket.set-unicast-hop-limit", hops: u8);
        option!($i, $error, U, udp, concat!("[method]udp-socket.", $get, "receive-buffer-size"),
            "[method]udp-socket.set-receive-buffer-size", receive_bytes: u64);
        option!($i, $error, U, udp, concat!("[method]udp-socket.", $get, "send-buffer-size"),
            "[method]udp-socket.set-send-buffer-size", send_bytes: u64);
    };
}
pub(crate) use udp_options;

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:sockets/udp-create-socket", VERSION, |i| {
        i.func("create-udp-socket", Local, |h, (family,): (Family,)| -> Net<Resource<UdpSocket>> {
            let udp = Udp::new(family == Family::Ipv6);
            Ok(Ok(h.open(Object::Udp(udp), Rights::ALL, None)?))
        })
    })?;
    wall.interface("wasi:sockets/udp", VERSION, |i| {
        i.resource::<UdpSocket>("udp-socket")?;
        i.resource::<IncomingDatagramStream>("incoming-datagram-stream")?;
        i.resource::<OutgoingDatagramStream>("outgoing-datagram-stream")?;
        define_udp(i)?;
        define_datagrams(i)
    })
}

pub(crate) fn udp<'h>(host: &'h mut Host, socket: &Resource<UdpSocket>) -> Result<&'h mut Udp> {
    match host.table.get_mut(handle_of(socket), Rights::READ).map_err(refused)? {
        Object::Udp(udp) => Ok(udp),
        _ => Err(wrong_kind()),
    }
}

fn define_udp(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[method]udp-socket.start-bind", Effect, |h, (s, _n, at): (U, N, At)| bind_udp(h, &s, at.into()))?;
    i.func("[method]udp-socket.finish-bind", Local, |h, (s,): (U,)| {
        let udp = udp(h, &s)?;
        Ok(if std::mem::take(&mut udp.is_binding) { Ok(()) } else { Err(NetError::NotInProgress) })
    })?;
    i.func("[method]udp-socket.stream", Effect, |h, (s, to): (U, Option<At>)| {
        datagram_streams(h, &s, to.map(SocketAddr::from))
    })?;
    i.func("[method]udp-socket.local-address", Read, |h, (s,): (U,)| Ok(udp(h, &s)?.local()))?;
    i.func("[method]udp-socket.remote-address", Local, |h, (s,): (U,)| {
        Ok(udp(h, &s)?.remote.map(At::from).ok_or(NetError::InvalidState))
    })?;
    i.func("[method]udp-socket.address-family", Local, |h, (s,): (U,)| {
        Ok(if udp(h, &s)?.is_v6 { Family::Ipv6 } else { Family::Ipv4 })
    })?;
    udp_options!(i, NetError, "");
    i.func("[method]udp-socket.subscribe", Local, |h, (s,): (U,)| {
        h.derive::<Pollable>(handle_of(&s), Object::Pollable(Ready::At(0)), Rights::READ)
    })
}

/// Binding to no port in particular is what every sender does, so that any grant of UDP allows it.
pub(crate) fn bind_udp(host: &mut Host, socket: &U, at: SocketAddr) -> Net<()> {
    let own = udp(host, socket)?;
    if !fits(own.is_v6, at) {
        return Ok(Err(NetError::InvalidArgument));
    }
    if own.socket.is_some() {
        return Ok(Err(NetError::InvalidState));
    }
    let is_sender = at.port() == 0 && at.ip().is_unspecified();
    let sender = host.net.grants.iter().find(|g| is_sender && g.kind == NetKind::Udp).map(|g| g.grant);
    let listens = host.net.may_listen(NetKind::UdpListen, at);
    let heard_under = listens.as_ref().ok().copied();
    let grant = match sender.map_or(listens, Ok) {
        Ok(grant) => grant,
        Err(denied) => return deny(host, &denied),
    };
    under(host, socket, grant)?;
    let own = udp(host, socket)?;
    let hops = own.hops;
    let bound = tri!(own.socket());
    let set = bound.set_hop_limit(own.is_v6, hops).and_then(|()| bound.bind(at, false));
    if let Err(errno) = set {
        own.socket = None;
        return Ok(Err(errno.into()));
    }
    own.is_binding = true;
    own.listens = heard_under;
    Ok(Ok(()))
}

type Flows = (Resource<IncomingDatagramStream>, Resource<OutgoingDatagramStream>);

fn datagram_streams(host: &mut Host, socket: &U, remote: Option<SocketAddr>) -> Net<Flows> {
    let own = udp(host, socket)?;
    if own.is_binding || own.socket.is_none() {
        return Ok(Err(NetError::InvalidState));
    }
    if let Some(to) = remote {
        if !is_peer(own.is_v6, to) {
            return Ok(Err(NetError::InvalidArgument));
        }
        match host.net.may_reach(NetKind::Udp, to) {
            Ok(grant) => under(host, socket, grant)?,
            Err(denied) => return deny(host, &denied),
        }
    }
    let own = udp(host, socket)?;
    own.remote = remote;
    let flow = Datagrams { socket: tri!(own.socket()), remote, listens: own.listens };
    let parent = handle_of(socket);
    Ok(Ok((
        host.derive(parent, Object::Datagrams(flow.clone()), Rights::READ)?,
        host.derive(parent, Object::Datagrams(flow), Rights::WRITE)?,
    )))
}

fn flow<R: 'static>(host: &Host, stream: &Resource<R>, needed: Rights) -> Result<Datagrams> {
    match host.table.get(handle_of(stream), needed).map_err(refused)? {
        Object::Datagrams(flow) => Ok(flow.clone()),
        _ => Err(wrong_kind()),
    }
}

fn define_datagrams(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    type In = Resource<IncomingDatagramStream>;
    type Out = Resource<OutgoingDatagramStream>;
    i.func("[method]incoming-datagram-stream.receive", Read, |h, (s, max): (In, u64)| receive(h, &s, max))?;
    i.func("[method]incoming-datagram-stream.subscribe", Local, |h, (s,): (In,)| {
        let ready = Ready::Socket(flow(h, &s, Rights::READ)?.socket, Interest::Read);
        h.derive::<Pollable>(handle_of(&s), Object::Pollable(ready), Rights::READ)
    })?;
    i.func("[method]outgoing-datagram-stream.check-send", Local, |h, (s,): (Out,)| {
        flow(h, &s, Rights::WRITE)?;
        Ok(Ok::<_, NetError>(DATAGRAMS_MAX as u64))
    })?;
    i.func("[method]outgoing-datagram-stream.send", Effect, |h, (s, all): (Out, Vec<Outgoing>)| {
        send(h, &s, &all)
    })?;
    i.func("[method]outgoing-datagram-stream.subscribe", Local, |h, (s,): (Out,)| {
        flow(h, &s, Rights::WRITE)?;
        h.open::<Pollable>(Object::Pollable(Ready::At(0)), Rights::READ, None)
    })
}

/// Datagrams that have come from peers that are granted; what others sent is dropped.
fn receive(host: &mut Host, stream: &Resource<IncomingDatagramStream>, max: u64) -> Net<Vec<Incoming>> {
    let flow = flow(host, stream, Rights::READ)?;
    let max = usize::try_from(max).unwrap_or(usize::MAX).min(DATAGRAMS_MAX);
    let mut got: Vec<Incoming> = Vec::new();
    // As many attempts as datagrams: whoever floods the socket with what is dropped holds up nobody.
    for _ in 0..max {
        match receive_one(host, &flow)? {
            Ok(Some((data, from))) => got.push(Incoming { data, remote: from.into() }),
            Ok(None) => {}
            Err(NetError::WouldBlock) => break,
            Err(error) if got.is_empty() => return Ok(Err(error)),
            Err(_) => break,
        }
    }
    Ok(Ok(got))
}

/// A datagram that has come, or nothing if its sender is not granted.
pub(crate) fn receive_one(host: &mut Host, flow: &Datagrams) -> Net<Option<(Vec<u8>, SocketAddr)>> {
    let (data, from) = tri!(flow.socket.recv_from());
    let listens = host.net.grants.iter().any(|g| Some(g.grant) == flow.listens);
    let is_wanted = match flow.remote {
        Some(peer) => is_same_peer(peer, from),
        None => listens || host.net.may_reach(NetKind::Udp, from).is_ok(),
    };
    if !is_wanted {
        return Ok(Ok(None));
    }
    host.take_in(data.len())?;
    Ok(Ok(Some((data, from))))
}

fn send(host: &mut Host, stream: &Resource<OutgoingDatagramStream>, all: &[Outgoing]) -> Net<u64> {
    let flow = flow(host, stream, Rights::WRITE)?;
    let mut sent = 0;
    for datagram in all.iter().take(DATAGRAMS_MAX) {
        match send_one(host, &flow, datagram)? {
            Ok(()) => sent += 1,
            Err(error) if sent == 0 => return Ok(Err(error)),
            Err(_) => break,
        }
    }
    Ok(Ok(sent))
}

fn send_one(host: &mut Host, flow: &Datagrams, datagram: &Outgoing) -> Net<()> {
    let to = match (flow.remote, datagram.remote.map(SocketAddr::from)) {
        (Some(peer), Some(to)) if !is_same_peer(peer, to) => return Ok(Err(NetError::InvalidArgument)),
        (Some(peer), _) => peer,
        (None, Some(to)) => to,
        (None, None) => return Ok(Err(NetError::InvalidArgument)),
    };
    if datagram.data.len() > DATAGRAM_MAX_BYTES {
        return Ok(Err(NetError::DatagramTooLarge));
    }
    match host.net.may_reach(NetKind::Udp, to) {
        Ok(grant) => host.allowed_by(Some(grant)),
        Err(denied) => return deny(host, &denied),
    }
    host.give_out(datagram.data.len())?;
    tri!(flow.socket.send_to(&datagram.data, to));
    Ok(Ok(()))
}
