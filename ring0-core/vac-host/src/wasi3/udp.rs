//! `wasi:sockets/types.udp-socket`.

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::io::Errno;
use vac_core::caps::Rights;
use vac_core::fault::Result;
use vac_core::ledger::Class::{Effect, Local, Read};
use wasmtime::component::Resource;

use super::sockets::{ErrorCode, Net, told, tri};
use crate::host::{Host, Object};
use crate::limits::{DATAGRAM_MAX_BYTES, DATAGRAMS_MAX};
use crate::net::NetKind;
use crate::socket::{self, Interest};
use crate::wall::{Function, Interface, On};
use crate::wasi::addresses::{At, Family};
use crate::wasi::sockets::{self, NetError, is_peer, option, under};
use crate::wasi::udp::{Datagrams, Udp, UdpSocket, bind_udp, is_same_peer, receive_one, udp, udp_options};

type U = Resource<UdpSocket>;

pub(super) fn define(i: &mut Interface<'_>, look: &Arc<Function>) -> wasmtime::Result<()> {
    i.resource::<UdpSocket>("udp-socket")?;
    i.func("[static]udp-socket.create", Local, |h, (family,): (Family,)| -> Net<U> {
        Ok(Ok(h.open(Object::Udp(Udp::new(family == Family::Ipv6)), Rights::ALL, None)?))
    })?;
    i.func("[method]udp-socket.bind", Effect, |h, (s, at): (U, At)| -> Net<()> {
        tri!(bind_udp(h, &s, at.into())?);
        udp(h, &s)?.is_binding = false;
        Ok(Ok(()))
    })?;
    i.func("[method]udp-socket.connect", Effect, |h, (s, to): (U, At)| connect(h, &s, to.into()))?;
    i.func("[method]udp-socket.disconnect", Effect, |h, (s,): (U,)| -> Net<()> {
        let udp = udp(h, &s)?;
        let (Some(_), Some(socket)) = (udp.remote, &udp.socket) else {
            return Ok(Err(ErrorCode::InvalidState));
        };
        tri!(socket.disconnect());
        udp.remote = None;
        Ok(Ok(()))
    })?;
    i.func_async("[method]udp-socket.send", Effect, |h, (s, data, to): (U, Vec<u8>, Option<At>)| {
        send(h, &s, &data, to.map(SocketAddr::from))
    })?;
    let on = On { handle: |(s,): &(U,)| s.rep(), interest: Interest::Read, look: Arc::clone(look) };
    i.retried("[method]udp-socket.receive", Read, on, |h, (s,)| receive(h, s.rep()), receive)?;
    i.func("[method]udp-socket.get-local-address", Read, |h, (s,): (U,)| Ok(told(udp(h, &s)?.local())))?;
    i.func("[method]udp-socket.get-remote-address", Local, |h, (s,): (U,)| {
        Ok(udp(h, &s)?.remote.map(At::from).ok_or(ErrorCode::InvalidState))
    })?;
    i.func("[method]udp-socket.get-address-family", Local, |h, (s,): (U,)| {
        Ok(if udp(h, &s)?.is_v6 { Family::Ipv6 } else { Family::Ipv4 })
    })?;
    udp_options!(i, ErrorCode, "get-");
    Ok(())
}

/// Looks for the grant of exchanging datagrams with `peer`, and puts the socket under it.
fn allow(host: &mut Host, socket: &U, peer: SocketAddr) -> Net<()> {
    match host.net.may_reach(NetKind::Udp, peer) {
        Ok(grant) => under(host, socket, grant).map(Ok),
        Err(denied) => Ok(told(sockets::deny(host, &denied)?)),
    }
}

fn connect(host: &mut Host, socket: &U, to: SocketAddr) -> Net<()> {
    if !is_peer(udp(host, socket)?.is_v6, to) {
        return Ok(Err(ErrorCode::InvalidArgument));
    }
    tri!(allow(host, socket, to)?);
    let own = udp(host, socket)?;
    let was_bound = own.socket.is_some();
    let connected = own.sender().and_then(|socket| match socket.connect(to) {
        // Linux: it was connected by another interface.
        Err(Errno::INVAL) => {
            own.remote = None;
            socket.disconnect().and_then(|()| socket.connect(to))
        }
        connected => connected,
    });
    if connected.is_err() && !was_bound {
        own.socket = None;
    }
    tri!(connected);
    own.remote = Some(to);
    Ok(Ok(()))
}

fn send(host: &mut Host, socket: &U, data: &[u8], to: Option<SocketAddr>) -> Net<()> {
    if data.len() > DATAGRAM_MAX_BYTES {
        return Ok(Err(ErrorCode::DatagramTooLarge));
    }
    let own = udp(host, socket)?;
    let peer = match (own.remote, to) {
        (Some(peer), None) => peer,
        (Some(peer), Some(to)) if is_same_peer(peer, to) => peer,
        (None, Some(to)) if is_peer(own.is_v6, to) => to,
        _ => return Ok(Err(ErrorCode::InvalidArgument)),
    };
    let is_connected = own.remote.is_some();
    tri!(allow(host, socket, peer)?);
    let own = udp(host, socket)?;
    let was_bound = own.socket.is_some();
    let sender = tri!(own.sender());
    host.give_out(data.len())?;
    let sent = loop {
        let sent = if is_connected { sender.send(data).map(drop) } else { sender.send_to(data, peer) };
        match sent {
            Err(Errno::INTR) => {}
            // The queue of the host's own is short, and empties by itself.
            Err(Errno::WOULDBLOCK) => {
                socket::wait_for(host, &sender, Interest::Write)?;
            }
            other => break other,
        }
    };
    if sent.is_err() && !was_bound {
        udp(host, socket)?.socket = None;
    }
    tri!(sent);
    Ok(Ok(()))
}

type Received = Result<Option<std::result::Result<(Vec<u8>, At), ErrorCode>>>;

/// A datagram from a peer that is granted; what others sent is dropped.
fn receive(host: &mut Host, handle: u32) -> Received {
    let own = udp(host, &Resource::new_borrow(handle))?;
    let Some(socket) = own.socket.clone() else { return Ok(Some(Err(ErrorCode::InvalidState))) };
    let flow = Datagrams { socket, remote: own.remote, listens: own.listens };
    for _ in 0..DATAGRAMS_MAX {
        match receive_one(host, &flow)? {
            Ok(Some((data, from))) => return Ok(Some(Ok((data, from.into())))),
            Ok(None) => {}
            Err(NetError::WouldBlock) => return Ok(None),
            Err(error) => return Ok(Some(Err(error.into()))),
        }
    }
    Ok(None)
}
