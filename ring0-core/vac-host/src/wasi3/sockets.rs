//! `wasi:sockets`: TCP and names; see [`super::udp`] for the rest.
//!
//! The sockets are those of WASI 0.2, with the same grants: without one every socket can be made, and nothing can
//! be done with it. What has to wait for the network waits as a task of the kernel, see [`crate::readiness`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rustix::io::Errno;
use vac_core::canon::{Reader, Writer};
use vac_core::caps::Rights;
use vac_core::fault::{Corrupt, Result};
use vac_core::ledger::Class::{Effect, Local, Read};
use wasmtime::component::{ComponentType, Lift, Lower, Resource, StreamReader};

use super::VERSION;
use super::flows::{Flow, Giving, Taking, take_bytes, take_connection};
use super::streams::{End, Opened};
use crate::host::{Host, Object, handle_of};
use crate::socket::{Interest, Socket};
use crate::wall::{Function, Interface, On, Wall};
use crate::wasi::addresses::{At, Family, Ip};
use crate::wasi::sockets::{self, NetError, State, Tcp, TcpSocket, option, tcp, tcp_options};
use crate::wire::Wire;

pub(super) type T = Resource<TcpSocket>;
/// Outside, what ends the kernel; inside, what the guest sees.
pub(super) type Net<T> = Result<std::result::Result<T, ErrorCode>>;

/// `wasi:sockets/types.error-code`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum ErrorCode {
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "not-supported")]
    NotSupported,
    #[component(name = "invalid-argument")]
    InvalidArgument,
    #[component(name = "out-of-memory")]
    OutOfMemory,
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "invalid-state")]
    InvalidState,
    #[component(name = "address-not-bindable")]
    AddressNotBindable,
    #[component(name = "address-in-use")]
    AddressInUse,
    #[component(name = "remote-unreachable")]
    RemoteUnreachable,
    #[component(name = "connection-refused")]
    ConnectionRefused,
    #[component(name = "connection-broken")]
    ConnectionBroken,
    #[component(name = "connection-reset")]
    ConnectionReset,
    #[component(name = "connection-aborted")]
    ConnectionAborted,
    #[component(name = "datagram-too-large")]
    DatagramTooLarge,
    #[component(name = "other")]
    Other(Option<String>),
}

const CODES: [ErrorCode; 15] = [
    ErrorCode::AccessDenied,
    ErrorCode::NotSupported,
    ErrorCode::InvalidArgument,
    ErrorCode::OutOfMemory,
    ErrorCode::Timeout,
    ErrorCode::InvalidState,
    ErrorCode::AddressNotBindable,
    ErrorCode::AddressInUse,
    ErrorCode::RemoteUnreachable,
    ErrorCode::ConnectionRefused,
    ErrorCode::ConnectionBroken,
    ErrorCode::ConnectionReset,
    ErrorCode::ConnectionAborted,
    ErrorCode::DatagramTooLarge,
    ErrorCode::Other(None),
];

/// `wasi:sockets/ip-name-lookup.error-code`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
enum LookupError {
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "invalid-argument")]
    InvalidArgument,
    #[component(name = "name-unresolvable")]
    NameUnresolvable,
    #[component(name = "temporary-resolver-failure")]
    TemporaryResolverFailure,
    #[component(name = "permanent-resolver-failure")]
    PermanentResolverFailure,
    #[component(name = "other")]
    Other(Option<String>),
}

const LOOKUP_CODES: [LookupError; 6] = [
    LookupError::AccessDenied,
    LookupError::InvalidArgument,
    LookupError::NameUnresolvable,
    LookupError::TemporaryResolverFailure,
    LookupError::PermanentResolverFailure,
    LookupError::Other(None),
];

/// A code is its number. Nothing here gives `other` words.
macro_rules! numbered {
    ($ty:ty, $codes:ident) => {
        impl Wire for $ty {
            fn put(&self, to: &mut Writer) {
                let last = $codes.len() - 1;
                to.uint($codes.iter().position(|code| code == self).unwrap_or(last) as u64);
            }
            fn read(from: &mut Reader<'_>) -> std::result::Result<Self, Corrupt> {
                let number = from.uint()?;
                let code = usize::try_from(number).ok().and_then(|n| $codes.get(n));
                code.cloned().ok_or_else(|| from.wrong("the number of an error code", number))
            }
            fn revoked() -> Option<Self> {
                Some(Self::AccessDenied)
            }
        }
    };
}
numbered!(ErrorCode, CODES);
numbered!(LookupError, LOOKUP_CODES);

impl From<NetError> for ErrorCode {
    fn from(error: NetError) -> Self {
        match error {
            NetError::AccessDenied => Self::AccessDenied,
            NetError::NotSupported => Self::NotSupported,
            NetError::InvalidArgument => Self::InvalidArgument,
            NetError::OutOfMemory => Self::OutOfMemory,
            NetError::Timeout => Self::Timeout,
            NetError::ConcurrencyConflict | NetError::NotInProgress | NetError::InvalidState => {
                Self::InvalidState
            }
            NetError::AddressNotBindable => Self::AddressNotBindable,
            NetError::AddressInUse => Self::AddressInUse,
            NetError::RemoteUnreachable => Self::RemoteUnreachable,
            NetError::ConnectionRefused => Self::ConnectionRefused,
            NetError::ConnectionReset => Self::ConnectionReset,
            NetError::ConnectionAborted => Self::ConnectionAborted,
            NetError::DatagramTooLarge => Self::DatagramTooLarge,
            _ => Self::Other(None),
        }
    }
}

impl From<Errno> for ErrorCode {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE => Self::ConnectionBroken,
            errno => NetError::from(errno).into(),
        }
    }
}

impl From<NetError> for LookupError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::AccessDenied => Self::AccessDenied,
            NetError::InvalidArgument => Self::InvalidArgument,
            NetError::NameUnresolvable => Self::NameUnresolvable,
            _ => Self::Other(None),
        }
    }
}

/// Ends a function early with an error that the guest sees.
macro_rules! tri {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Ok(Err(ErrorCode::from(error))),
        }
    };
}
pub(super) use tri;

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:sockets/types", VERSION, |i| {
        let look = i.event("[wait]", Read);
        i.resource::<TcpSocket>("tcp-socket")?;
        define_tcp(i, &look)?;
        define_tcp_streams(i, &look)?;
        define_tcp_options(i)?;
        super::udp::define(i, &look)
    })?;
    wall.interface("wasi:sockets/ip-name-lookup", VERSION, |i| {
        i.func_async("resolve-addresses", Effect, |h, (name,): (String,)| {
            let found = sockets::addresses_of(h, &name)?;
            let addresses = found.map(|(all, _)| all.into_iter().map(Ip::from).collect::<Vec<_>>());
            Ok(addresses.map_err(LookupError::from))
        })
    })
}

/// The error of WASI 0.2 in that of this version.
pub(super) fn told<T>(result: std::result::Result<T, NetError>) -> std::result::Result<T, ErrorCode> {
    result.map_err(ErrorCode::from)
}

fn define_tcp(i: &mut Interface<'_>, look: &Arc<Function>) -> wasmtime::Result<()> {
    i.func("[static]tcp-socket.create", Local, |h, (family,): (Family,)| -> Net<T> {
        Ok(Ok(h.open(Object::Tcp(Tcp::new(family == Family::Ipv6)), Rights::ALL, None)?))
    })?;
    i.func("[method]tcp-socket.bind", Effect, |h, (s, at): (T, At)| bind(h, &s, at))?;
    let on = On { handle: |(s, _): &(T, At)| s.rep(), interest: Interest::Write, look: Arc::clone(look) };
    i.retried("[method]tcp-socket.connect", Effect, on, |h, (s, to)| connect(h, &s, to), connected)?;
    i.func("[method]tcp-socket.get-local-address", Read, |h, (s,): (T,)| Ok(told(tcp(h, &s)?.local())))?;
    i.func("[method]tcp-socket.get-remote-address", Read, |h, (s,): (T,)| Ok(told(tcp(h, &s)?.peer())))?;
    i.func("[method]tcp-socket.get-is-listening", Local, |h, (s,): (T,)| {
        Ok(tcp(h, &s)?.state == State::Listening)
    })
}

fn bind(host: &mut Host, socket: &T, at: At) -> Net<()> {
    tri!(sockets::bind_tcp(host, socket, at.into())?);
    tcp(host, socket)?.state = State::Bound;
    Ok(Ok(()))
}

type Connected = Result<Option<std::result::Result<(), ErrorCode>>>;

fn connect(host: &mut Host, socket: &T, to: At) -> Connected {
    match sockets::connect(host, socket, to.into())? {
        Ok(()) => connected(host, socket.rep()),
        Err(error) => Ok(Some(Err(error.into()))),
    }
}

fn connected(host: &mut Host, handle: u32) -> Connected {
    Ok(match tcp(host, &Resource::new_borrow(handle))?.try_connected() {
        Err(NetError::WouldBlock) => None,
        other => Some(other.map(drop).map_err(ErrorCode::from)),
    })
}

fn define_tcp_streams(i: &mut Interface<'_>, look: &Arc<Function>) -> wasmtime::Result<()> {
    let accept = Taking::new(i, "[method]tcp-socket.listen", look, take_connection);
    i.streams(
        "[method]tcp-socket.listen",
        Effect,
        |params: (T,)| (params, ()),
        |h, (s,)| listen(h, &s),
        move |store, opened, ()| match opened {
            Ok(rep) => accept.open(store, Ok(rep), &End::default()).map(Ok),
            Err(code) => Ok(Err(code)),
        },
    )?;
    let give = Giving::new(i, "[method]tcp-socket.send", look);
    i.streams(
        "[method]tcp-socket.send",
        Local,
        |(s, data): (T, StreamReader<u8>)| ((s,), data),
        |h, (s,)| begin(h, &s, Rights::WRITE),
        move |store, opened, data| give.open(store, opened, data),
    )?;
    let take = Taking::new(i, "[method]tcp-socket.receive", look, take_bytes);
    i.streams(
        "[method]tcp-socket.receive",
        Local,
        |params: (T,)| (params, ()),
        |h, (s,)| begin(h, &s, Rights::READ),
        move |store, opened, ()| {
            let end = End::default();
            let stream = take.open(store, opened, &end)?;
            Ok((stream, wasmtime::component::FutureReader::new(store, end)?))
        },
    )
}

/// Listens, on any port if it was not bound before.
fn listen(host: &mut Host, socket: &T) -> Result<Opened<ErrorCode>> {
    if tcp(host, socket)?.state == State::New {
        let any: IpAddr = match tcp(host, socket)?.is_v6 {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        tri!(bind(host, socket, SocketAddr::new(any, 0).into())?);
    }
    let own = tcp(host, socket)?;
    if own.state != State::Bound {
        return Ok(Err(ErrorCode::InvalidState));
    }
    tri!(own.listen());
    own.state = State::Listening;
    let listening = tri!(own.socket());
    let flow = Flow::accept(own, listening);
    Ok(Ok(host.derive::<()>(handle_of(socket), Object::Flow(flow), Rights::ALL)?.rep()))
}

/// Opens one of the two directions of a connection, each once.
fn begin(host: &mut Host, socket: &T, right: Rights) -> Result<Opened<ErrorCode>> {
    let own = tcp(host, socket)?;
    let (State::Connected, Some(connection)) = (own.state, own.socket.clone()) else {
        return Ok(Err(ErrorCode::InvalidState));
    };
    let has_begun = if right == Rights::READ { &mut own.is_receiving } else { &mut own.is_sending };
    if std::mem::replace(has_begun, true) {
        return Ok(Err(ErrorCode::InvalidState));
    }
    let new: fn(Arc<Socket>) -> Flow = if right == Rights::READ { Flow::receive } else { Flow::send };
    Ok(Ok(host.derive::<()>(handle_of(socket), Object::Flow(new(connection)), right)?.rep()))
}

fn define_tcp_options(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[method]tcp-socket.get-address-family", Local, |h, (s,): (T,)| {
        Ok(if tcp(h, &s)?.is_v6 { Family::Ipv6 } else { Family::Ipv4 })
    })?;
    i.func("[method]tcp-socket.set-listen-backlog-size", Local, |h, (s, value): (T, u64)| {
        Ok(told(tcp(h, &s)?.set_backlog(value)))
    })?;
    i.func("[method]tcp-socket.get-keep-alive-enabled", Local, |h, (s,): (T,)| {
        Ok(Ok::<_, ErrorCode>(tcp(h, &s)?.options.keep_alive))
    })?;
    i.func("[method]tcp-socket.set-keep-alive-enabled", Local, |h, (s, on): (T, bool)| {
        Ok(told(tcp(h, &s)?.set_keep_alive(on)))
    })?;
    tcp_options!(i, ErrorCode, "get-");
    Ok(())
}
