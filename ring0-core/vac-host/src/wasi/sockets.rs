//! `wasi:sockets`: names and TCP; see [`super::udp`] for the rest.
//!
//! Without a grant every socket can be made and nothing can be done with it: looking a name up, connecting,
//! binding and sending are answered with `access-denied`. What the network did is in the ledger: every answer
//! here is replayed from it, so a replay makes no socket.
//!
//! Options of a socket are kept and given back as they were set; of those, only keep-alive and the hop limit
//! are passed on to the host, and buffer sizes are not, because what a host makes of them differs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::{Shutdown, SocketType};
use vac_core::caps::Rights;
use vac_core::fault::Result;
use vac_core::ledger::Class::{Effect, Local, Read};
use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use super::VERSION;
use super::addresses::{At, Family, Ip};
use super::io::{Input, InputStream, IoError, Output, OutputStream, Pollable, Ready, wrong_kind};
use crate::host::{Host, Object, handle_of, refused};
use crate::limits::HOST_NAME_MAX_BYTES;
use crate::net::{Denied, NetKind, plain};
use crate::socket::{Interest, NetResult, Socket, resolve};
use crate::wall::{Interface, Wall};
use crate::wire::cases;

/// `wasi:sockets/network.network`.
pub(crate) struct Network;
/// `wasi:sockets/ip-name-lookup.resolve-address-stream`.
pub(crate) struct ResolveAddressStream;
/// `wasi:sockets/tcp.tcp-socket`.
pub(crate) struct TcpSocket;
/// `wasi:sockets/network.error-code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum NetError {
    #[component(name = "unknown")]
    Unknown,
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
    #[component(name = "concurrency-conflict")]
    ConcurrencyConflict,
    #[component(name = "not-in-progress")]
    NotInProgress,
    #[component(name = "would-block")]
    WouldBlock,
    #[component(name = "invalid-state")]
    InvalidState,
    #[component(name = "new-socket-limit")]
    NewSocketLimit,
    #[component(name = "address-not-bindable")]
    AddressNotBindable,
    #[component(name = "address-in-use")]
    AddressInUse,
    #[component(name = "remote-unreachable")]
    RemoteUnreachable,
    #[component(name = "connection-refused")]
    ConnectionRefused,
    #[component(name = "connection-reset")]
    ConnectionReset,
    #[component(name = "connection-aborted")]
    ConnectionAborted,
    #[component(name = "datagram-too-large")]
    DatagramTooLarge,
    #[component(name = "name-unresolvable")]
    NameUnresolvable,
    #[component(name = "temporary-resolver-failure")]
    TemporaryResolverFailure,
    #[component(name = "permanent-resolver-failure")]
    PermanentResolverFailure,
}
cases!(NetError {
    Unknown,
    AccessDenied,
    NotSupported,
    InvalidArgument,
    OutOfMemory,
    Timeout,
    ConcurrencyConflict,
    NotInProgress,
    WouldBlock,
    InvalidState,
    NewSocketLimit,
    AddressNotBindable,
    AddressInUse,
    RemoteUnreachable,
    ConnectionRefused,
    ConnectionReset,
    ConnectionAborted,
    DatagramTooLarge,
    NameUnresolvable,
    TemporaryResolverFailure,
    PermanentResolverFailure,
});

impl From<Errno> for NetError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::WOULDBLOCK | Errno::INPROGRESS | Errno::ALREADY | Errno::INTR => Self::WouldBlock,
            Errno::ACCESS | Errno::PERM => Self::AccessDenied,
            Errno::INVAL | Errno::AFNOSUPPORT | Errno::DESTADDRREQ => Self::InvalidArgument,
            Errno::NOMEM | Errno::NOBUFS => Self::OutOfMemory,
            Errno::TIMEDOUT => Self::Timeout,
            Errno::MFILE | Errno::NFILE => Self::NewSocketLimit,
            Errno::ADDRNOTAVAIL => Self::AddressNotBindable,
            Errno::ADDRINUSE => Self::AddressInUse,
            Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::NETUNREACH | Errno::NETDOWN => {
                Self::RemoteUnreachable
            }
            Errno::CONNREFUSED => Self::ConnectionRefused,
            Errno::CONNRESET | Errno::PIPE => Self::ConnectionReset,
            Errno::CONNABORTED => Self::ConnectionAborted,
            Errno::MSGSIZE => Self::DatagramTooLarge,
            Errno::NOTCONN | Errno::ISCONN => Self::InvalidState,
            Errno::OPNOTSUPP => Self::NotSupported,
            _ => Self::Unknown,
        }
    }
}

/// `wasi:sockets/tcp.shutdown-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Side {
    #[component(name = "receive")]
    Receive,
    #[component(name = "send")]
    Send,
    #[component(name = "both")]
    Both,
}
cases!(Side { Receive, Send, Both });

/// How far a TCP socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    New,
    Binding,
    Bound,
    Connecting,
    /// What finishing will say.
    Failed(NetError),
    Connected,
    Starting,
    Listening,
}

/// A TCP socket of the guest.
#[derive(Clone)]
pub(crate) struct Tcp {
    pub(crate) is_v6: bool,
    pub(crate) state: State,
    /// Made when it is first needed.
    pub(crate) socket: Option<Arc<Socket>>,
    pub(crate) options: TcpOptions,
    /// The same for a stream of connections, which may outlive this.
    accepting: Option<Arc<Mutex<TcpOptions>>>,
    /// What WASI 0.3 gives of a connection, each once: its two streams.
    pub(crate) is_receiving: bool,
    pub(crate) is_sending: bool,
}

/// What a connection that is accepted has from the socket that listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpOptions {
    pub(crate) backlog: u64,
    pub(crate) keep_alive: bool,
    pub(crate) idle_ns: u64,
    pub(crate) interval_ns: u64,
    pub(crate) count: u32,
    pub(crate) hops: u8,
    pub(crate) receive_bytes: u64,
    pub(crate) send_bytes: u64,
}

const NS_PER_S: u64 = 1_000_000_000;
pub(super) const BUFFER_DEFAULT_BYTES: u64 = 64 << 10;

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            backlog: 128,
            keep_alive: false,
            idle_ns: 7200 * NS_PER_S,
            interval_ns: 75 * NS_PER_S,
            count: 9,
            hops: 64,
            receive_bytes: BUFFER_DEFAULT_BYTES,
            send_bytes: BUFFER_DEFAULT_BYTES,
        }
    }
}

impl Tcp {
    pub(crate) fn new(is_v6: bool) -> Self {
        let (state, socket, options) = (State::New, None, TcpOptions::default());
        Self { is_v6, state, socket, options, accepting: None, is_receiving: false, is_sending: false }
    }

    /// A connection that was accepted by `socket`.
    pub(crate) fn accepted(is_v6: bool, options: TcpOptions, socket: Arc<Socket>) -> Self {
        Self { state: State::Connected, socket: Some(socket), options, ..Self::new(is_v6) }
    }

    /// How connecting goes: the connection, or `WouldBlock` if that is not known yet.
    pub(crate) fn try_connected(&mut self) -> std::result::Result<Arc<Socket>, NetError> {
        let connected = match (&self.state, &self.socket) {
            (State::Connecting, Some(socket)) => socket.is_connected().map_err(NetError::from),
            (State::Failed(error), _) => Err(*error),
            _ => return Err(NetError::NotInProgress),
        };
        match connected {
            Err(NetError::WouldBlock) => return Err(NetError::WouldBlock),
            // WASI leaves a socket that failed to connect closed for good.
            Err(_) => self.socket = None,
            Ok(()) => {}
        }
        self.state = State::Connected;
        connected.and_then(|()| Ok(self.socket()?))
    }

    pub(crate) fn local(&self) -> std::result::Result<At, NetError> {
        match (&self.state, &self.socket) {
            (State::New | State::Binding, _) | (_, None) => Err(NetError::InvalidState),
            (_, Some(socket)) => socket.local().map(At::from).map_err(NetError::from),
        }
    }

    pub(crate) fn peer(&self) -> std::result::Result<At, NetError> {
        match (&self.state, &self.socket) {
            (State::Connected, Some(socket)) => socket.peer().map(At::from).map_err(NetError::from),
            _ => Err(NetError::InvalidState),
        }
    }

    pub(crate) fn set_backlog(&mut self, value: u64) -> std::result::Result<(), NetError> {
        match self.state {
            State::Connecting | State::Connected => Err(NetError::InvalidState),
            _ if value == 0 => Err(NetError::InvalidArgument),
            _ => {
                self.options.backlog = value;
                Ok(())
            }
        }
    }

    /// The options as connections that come from now on have them, however they are set from now on.
    pub(crate) fn options_of_accepted(&mut self) -> Arc<Mutex<TcpOptions>> {
        Arc::clone(self.accepting.get_or_insert_with(|| Arc::new(Mutex::new(self.options))))
    }

    /// Does what the options say to what is there already.
    pub(crate) fn apply(&self) {
        // It cannot be refused: the number is one, and the socket is of its family.
        let _ = self.socket.as_ref().map(|socket| socket.set_hop_limit(self.is_v6, self.options.hops));
        if let Some(accepting) = &self.accepting {
            *accepting.lock().unwrap_or_else(PoisonError::into_inner) = self.options;
        }
    }

    pub(crate) fn set_keep_alive(&mut self, on: bool) -> std::result::Result<(), NetError> {
        self.options.keep_alive = on;
        self.apply();
        self.socket.as_ref().map_or(Ok(()), |socket| Ok(socket.set_keep_alive(on)?))
    }

    pub(crate) fn listen(&mut self) -> std::result::Result<(), NetError> {
        let backlog = i32::try_from(self.options.backlog).unwrap_or(i32::MAX);
        Ok(self.socket()?.listen(backlog)?)
    }

    pub(crate) fn socket(&mut self) -> NetResult<Arc<Socket>> {
        if let Some(socket) = &self.socket {
            return Ok(Arc::clone(socket));
        }
        let socket = Arc::new(Socket::new(self.is_v6, SocketType::STREAM)?);
        self.socket = Some(Arc::clone(&socket));
        Ok(socket)
    }
}

/// Outside, what ends the kernel; inside, what the guest sees.
pub(crate) type Net<T> = Result<std::result::Result<T, NetError>>;

/// Ends a function of this file early with an error that the guest sees.
macro_rules! tri {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Ok(Err(NetError::from(error))),
        }
    };
}
pub(super) use tri;

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:sockets/network", VERSION, |i| {
        i.resource::<Network>("network")?;
        i.func("network-error-code", Local, |_, (_e,): (Resource<IoError>,)| Ok(None::<NetError>))
    })?;
    wall.interface("wasi:sockets/instance-network", VERSION, |i| {
        i.func("instance-network", Local, |h, (): ()| h.open::<Network>(Object::Network, Rights::NONE, None))
    })?;
    wall.interface("wasi:sockets/ip-name-lookup", VERSION, |i| {
        i.resource::<ResolveAddressStream>("resolve-address-stream")?;
        i.func("resolve-addresses", Effect, |h, (_n, name): (Resource<Network>, String)| lookup(h, &name))?;
        i.func(
            "[method]resolve-address-stream.resolve-next-address",
            Read,
            |h, (s,): (Resource<ResolveAddressStream>,)| match h.table.get_mut(handle_of(&s), Rights::READ) {
                Ok(Object::Lookup(left)) => Ok(Ok::<_, NetError>(left.pop_front().map(Ip::from))),
                Ok(_) => Err(wrong_kind()),
                Err(refusal) => Err(refused(refusal)),
            },
        )?;
        i.func(
            "[method]resolve-address-stream.subscribe",
            Local,
            |h, (s,): (Resource<ResolveAddressStream>,)| {
                h.derive::<Pollable>(handle_of(&s), Object::Pollable(Ready::At(0)), Rights::READ)
            },
        )
    })?;
    wall.interface("wasi:sockets/tcp-create-socket", VERSION, |i| {
        i.func("create-tcp-socket", Local, |h, (family,): (Family,)| -> Net<Resource<TcpSocket>> {
            let tcp = Tcp::new(family == Family::Ipv6);
            Ok(Ok(h.open(Object::Tcp(tcp), Rights::ALL, None)?))
        })
    })?;
    wall.interface("wasi:sockets/tcp", VERSION, |i| {
        i.resource::<TcpSocket>("tcp-socket")?;
        define_tcp(i)?;
        define_tcp_options(i)
    })?;
    super::udp::define(wall)
}

/// Looks `name` up, if a grant names it. Also a look-up is an effect: it tells a resolver the name.
fn lookup(host: &mut Host, name: &str) -> Net<Resource<ResolveAddressStream>> {
    let found = addresses_of(host, name)?;
    host.clock.catch_up();
    let (left, grant) = match found {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    Ok(Ok(host.open(Object::Lookup(left.into()), Rights::READ, Some(grant))?))
}

/// Whether it is an address, or a name as RFC 1123 has it, in any script: nothing else is for a resolver, which may have
/// syntax of its own.
fn is_name(name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let is_label = |label: &str| {
        let is_letter = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(is_letter)
    };
    let labels = name.strip_suffix('.').unwrap_or(name);
    name.len() <= HOST_NAME_MAX_BYTES && (bare.parse::<IpAddr>().is_ok() || labels.split('.').all(is_label))
}

/// The addresses of `name` that may be reached, each once, and the grant that names it.
pub(crate) fn addresses_of(host: &mut Host, name: &str) -> Net<(Vec<IpAddr>, u32)> {
    if !is_name(name) {
        return Ok(Err(NetError::InvalidArgument));
    }
    let grant = match host.net.may_resolve(name) {
        Ok(grant) => grant,
        Err(denied) => return deny(host, &denied),
    };
    host.allowed_by(Some(grant));
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let found = match bare.parse::<IpAddr>() {
        Ok(ip) => vec![ip],
        Err(_) => match resolve(name, host)? {
            Ok(found) => found,
            Err(_) => return Ok(Err(NetError::NameUnresolvable)),
        },
    };
    let mut once: Vec<IpAddr> = Vec::new();
    for ip in found.into_iter().map(plain) {
        if !once.contains(&ip) {
            once.push(ip);
        }
    }
    match host.net.resolved(name, once) {
        Ok(open) => Ok(Ok((open, grant))),
        Err(denied) => deny(host, &denied),
    }
}

/// Notes that `grant` allows what `socket` does now; the socket ends with it from here on.
pub(crate) fn under<R: 'static>(host: &mut Host, socket: &Resource<R>, grant: u32) -> Result<()> {
    host.allowed_by(Some(grant));
    host.table.come_under(handle_of(socket), grant).map_err(refused)
}

pub(crate) fn deny<T>(host: &mut Host, denied: &Denied) -> Net<T> {
    host.deny(denied.would_allow());
    Ok(Err(NetError::AccessDenied))
}

pub(crate) fn tcp<'h>(host: &'h mut Host, socket: &Resource<TcpSocket>) -> Result<&'h mut Tcp> {
    match host.table.get_mut(handle_of(socket), Rights::READ).map_err(refused)? {
        Object::Tcp(tcp) => Ok(tcp),
        _ => Err(wrong_kind()),
    }
}

type T = Resource<TcpSocket>;
pub(super) type N = Resource<Network>;

fn define_tcp(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[method]tcp-socket.start-bind", Effect, |h, (s, _n, at): (T, N, At)| bind_tcp(h, &s, at.into()))?;
    i.func("[method]tcp-socket.finish-bind", Local, |h, (s,): (T,)| {
        let tcp = tcp(h, &s)?;
        Ok(match tcp.state {
            State::Binding => {
                tcp.state = State::Bound;
                Ok(())
            }
            _ => Err(NetError::NotInProgress),
        })
    })?;
    i.func("[method]tcp-socket.start-connect", Effect, |h, (s, _n, to): (T, N, At)| {
        connect(h, &s, to.into())
    })?;
    i.func("[method]tcp-socket.finish-connect", Read, |h, (s,): (T,)| finish_connect(h, &s))?;
    i.func("[method]tcp-socket.start-listen", Effect, |h, (s,): (T,)| -> Net<()> {
        let tcp = tcp(h, &s)?;
        if tcp.state != State::Bound {
            return Ok(Err(NetError::InvalidState));
        }
        tri!(tcp.listen());
        tcp.state = State::Starting;
        Ok(Ok(()))
    })?;
    i.func("[method]tcp-socket.finish-listen", Local, |h, (s,): (T,)| {
        let tcp = tcp(h, &s)?;
        Ok(match tcp.state {
            State::Starting => {
                tcp.state = State::Listening;
                Ok(())
            }
            _ => Err(NetError::NotInProgress),
        })
    })?;
    i.func("[method]tcp-socket.accept", Read, |h, (s,): (T,)| accept(h, &s))?;
    i.func("[method]tcp-socket.local-address", Read, |h, (s,): (T,)| Ok(tcp(h, &s)?.local()))?;
    i.func("[method]tcp-socket.remote-address", Read, |h, (s,): (T,)| Ok(tcp(h, &s)?.peer()))?;
    i.func("[method]tcp-socket.is-listening", Local, |h, (s,): (T,)| {
        Ok(matches!(tcp(h, &s)?.state, State::Listening))
    })?;
    i.func("[method]tcp-socket.shutdown", Effect, |h, (s, side): (T, Side)| -> Net<()> {
        let tcp = tcp(h, &s)?;
        let (State::Connected, Some(socket)) = (&tcp.state, &tcp.socket) else {
            return Ok(Err(NetError::InvalidState));
        };
        let how = match side {
            Side::Receive => Shutdown::Read,
            Side::Send => Shutdown::Write,
            Side::Both => Shutdown::Both,
        };
        match socket.shutdown(how) {
            // The other side was faster.
            Ok(()) | Err(Errno::NOTCONN) => Ok(Ok(())),
            Err(errno) => Ok(Err(errno.into())),
        }
    })?;
    i.func("[method]tcp-socket.subscribe", Local, |h, (s,): (T,)| {
        let tcp = tcp(h, &s)?;
        let ready = match (&tcp.state, &tcp.socket) {
            (State::Connecting, Some(socket)) => Ready::Socket(Arc::clone(socket), Interest::Write),
            (State::Listening, Some(socket)) => Ready::Socket(Arc::clone(socket), Interest::Read),
            _ => Ready::At(0),
        };
        h.derive::<Pollable>(handle_of(&s), Object::Pollable(ready), Rights::READ)
    })
}

/// Whether one host has this address and no group of them.
fn is_unicast(ip: IpAddr) -> bool {
    !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether `to` is an address that something can be sent to.
pub(crate) fn is_peer(is_v6: bool, to: SocketAddr) -> bool {
    fits(is_v6, to) && to.port() != 0 && !to.ip().is_unspecified()
}

/// Whether `at` is of the socket's family, and no IPv4 address in the form of an IPv6 one.
pub(crate) fn fits(is_v6: bool, at: SocketAddr) -> bool {
    at.is_ipv6() == is_v6 && plain(at.ip()) == at.ip()
}

pub(crate) fn bind_tcp(host: &mut Host, socket: &T, at: SocketAddr) -> Net<()> {
    let own = tcp(host, socket)?;
    if !fits(own.is_v6, at) || !is_unicast(at.ip()) {
        return Ok(Err(NetError::InvalidArgument));
    }
    if !matches!(own.state, State::New) {
        return Ok(Err(NetError::InvalidState));
    }
    let grant = match host.net.may_listen(NetKind::TcpListen, at) {
        Ok(grant) => grant,
        Err(denied) => return deny(host, &denied),
    };
    under(host, socket, grant)?;
    let own = tcp(host, socket)?;
    tri!(tri!(own.socket()).bind(at, true));
    own.state = State::Binding;
    Ok(Ok(()))
}

pub(crate) fn connect(host: &mut Host, socket: &T, to: SocketAddr) -> Net<()> {
    let own = tcp(host, socket)?;
    match own.state {
        State::New | State::Bound => {}
        State::Connecting | State::Failed(_) | State::Binding | State::Starting => {
            return Ok(Err(NetError::ConcurrencyConflict));
        }
        State::Connected | State::Listening => return Ok(Err(NetError::InvalidState)),
    }
    if !is_peer(own.is_v6, to) || !is_unicast(to.ip()) {
        return Ok(Err(NetError::InvalidArgument));
    }
    let grant = match host.net.may_reach(NetKind::Tcp, to) {
        Ok(grant) => grant,
        Err(denied) => return deny(host, &denied),
    };
    under(host, socket, grant)?;
    let own = tcp(host, socket)?;
    let connecting = own.socket().and_then(|socket| {
        socket.set_keep_alive(own.options.keep_alive)?;
        socket.set_hop_limit(own.is_v6, own.options.hops)?;
        socket.connect(to)
    });
    own.state = match connecting {
        Ok(()) => State::Connecting,
        Err(errno) => State::Failed(errno.into()),
    };
    Ok(Ok(()))
}

type Streams = (Resource<InputStream>, Resource<OutputStream>);

fn finish_connect(host: &mut Host, socket: &T) -> Net<Streams> {
    let connection = tri!(tcp(host, socket)?.try_connected());
    Ok(Ok(streams(host, socket, connection)?))
}

/// The two streams of a connection; they end with the socket's handle if it is revoked.
fn streams(host: &mut Host, socket: &T, connection: Arc<Socket>) -> Result<Streams> {
    let parent = handle_of(socket);
    let input = Object::Input(Input::Tcp(Arc::clone(&connection)));
    let output = Object::Output(Output::Tcp(connection));
    Ok((host.derive(parent, input, Rights::READ)?, host.derive(parent, output, Rights::WRITE)?))
}

fn accept(host: &mut Host, socket: &T) -> Net<(T, Resource<InputStream>, Resource<OutputStream>)> {
    let own = tcp(host, socket)?;
    let (State::Listening, Some(listening)) = (&own.state, &own.socket) else {
        return Ok(Err(NetError::InvalidState));
    };
    let connection = Arc::new(tri!(listening.accept()));
    let accepted = Tcp::accepted(own.is_v6, own.options, Arc::clone(&connection));
    let accepted: T = host.derive(handle_of(socket), Object::Tcp(accepted), Rights::ALL)?;
    let (input, output) = streams(host, &accepted, connection)?;
    Ok(Ok((accepted, input, output)))
}

/// A getter and a setter of an option that must not be 0, named as `$get` and `$set`.
macro_rules! option {
    ($i:ident, $error:ty, $resource:ty, $of:ident, $get:expr, $set:expr, $($field:ident).+: $ty:ty) => {
        $i.func(&$get, Local, |h, (s,): ($resource,)| Ok(Ok::<$ty, $error>($of(h, &s)?.$($field).+)))?;
        $i.func(&$set, Local, |h, (s, value): ($resource, $ty)| {
            if value == <$ty>::default() {
                return Ok(Err(<$error>::InvalidArgument));
            }
            let own = $of(h, &s)?;
            own.$($field).+ = value;
            own.apply();
            Ok(Ok(()))
        })?;
    };
}

/// The options of both kinds of socket that are numbers. Getters are called `$get` and then the option's name.
macro_rules! tcp_options {
    ($i:ident, $error:ty, $get:literal) => {
        option!($i, $error, T, tcp, concat!("[method]tcp-socket.", $get, "keep-alive-idle-time"),
            "[method]tcp-socket.set-keep-alive-idle-time", options.idle_ns: u64);
        option!($i, $error, T, tcp, concat!("[method]tcp-socket.", $get, "keep-alive-interval"),
            "[method]tcp-socket.set-keep-alive-interval", options.interval_ns: u64);
        option!($i, $error, T, tcp, concat!("[method]tcp-socket.", $get, "keep-alive-count"),
            "[method]tcp-socket.set-keep-alive-count", options.count: u32);
        option!($i, $error, T, tcp, concat!("[method]tcp-socket.", $get, "hop-limit"),
            "[method]tcp-socket.set-hop-limit", options.hops: u8);
        option!($i, $error, T, tcp, concat!("[method]tcp-socket.", $get, "receive-buffer-size"),
            "[method]tcp-socket.set-receive-buffer-size", options.receive_bytes: u64);
        option!($i, $error, T, tcp, concat!("[method]tcp-socket.", $get, "send-buffer-size"),
            "[method]tcp-socket.set-send-buffer-size", options.send_bytes: u64);
    };
}
pub(crate) use {option, tcp_options};

fn define_tcp_options(i: &mut Interface<'_>) -> wasmtime::Result<()> {
    i.func("[method]tcp-socket.address-family", Local, |h, (s,): (T,)| {
        Ok(if tcp(h, &s)?.is_v6 { Family::Ipv6 } else { Family::Ipv4 })
    })?;
    i.func("[method]tcp-socket.set-listen-backlog-size", Local, |h, (s, value): (T, u64)| {
        Ok(tcp(h, &s)?.set_backlog(value))
    })?;
    i.func("[method]tcp-socket.keep-alive-enabled", Local, |h, (s,): (T,)| {
        Ok(Ok::<_, NetError>(tcp(h, &s)?.options.keep_alive))
    })?;
    i.func("[method]tcp-socket.set-keep-alive-enabled", Local, |h, (s, on): (T, bool)| {
        Ok(tcp(h, &s)?.set_keep_alive(on))
    })?;
    tcp_options!(i, NetError, "");
    Ok(())
}
