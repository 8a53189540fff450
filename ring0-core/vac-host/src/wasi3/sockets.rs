//! `wasi:sockets`: linked, and refused. No socket can be made, so what works on one is never called.

use vac_core::canon::{Reader, Writer};
use vac_core::fault::Corrupt;
use vac_core::ledger::Class::Local;
use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use super::VERSION;
use crate::wall::Wall;
use crate::wire::{Wire, cases};

/// `wasi:sockets/types.tcp-socket`; never made.
struct TcpSocket;
/// `wasi:sockets/types.udp-socket`; never made.
struct UdpSocket;

/// `wasi:sockets/types.ip-address-family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum Family {
    #[component(name = "ipv4")]
    V4,
    #[component(name = "ipv6")]
    V6,
}
cases!(Family { V4, V6 });

/// `wasi:sockets/types.error-code`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
enum ErrorCode {
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

/// The only code there is, as its number.
macro_rules! denied {
    ($($ty:ident),*) => {$(
        impl Wire for $ty {
            fn put(&self, to: &mut Writer) {
                to.uint(0);
            }
            fn read(from: &mut Reader<'_>) -> std::result::Result<Self, Corrupt> {
                match from.uint()? {
                    0 => Ok(Self::AccessDenied),
                    other => Err(from.wrong("0, for `access-denied`", other)),
                }
            }
        }
    )*};
}
denied!(ErrorCode, LookupError);

/// `wasi:sockets/types.ip-address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
enum IpAddress {
    #[component(name = "ipv4")]
    V4((u8, u8, u8, u8)),
    #[component(name = "ipv6")]
    V6((u16, u16, u16, u16, u16, u16, u16, u16)),
}

/// The bytes of the address, as on the wire.
impl Wire for IpAddress {
    fn put(&self, to: &mut Writer) {
        match *self {
            Self::V4((a, b, c, d)) => vec![a, b, c, d].put(to),
            Self::V6((a, b, c, d, e, f, g, h)) => {
                [a, b, c, d, e, f, g, h].map(u16::to_be_bytes).concat().put(to);
            }
        }
    }
    fn read(from: &mut Reader<'_>) -> std::result::Result<Self, Corrupt> {
        let bytes = Vec::<u8>::read(from)?;
        if let &[a, b, c, d] = bytes.as_slice() {
            return Ok(Self::V4((a, b, c, d)));
        }
        let words: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
        match *words.as_slice() {
            [a, b, c, d, e, f, g, h] if bytes.len() == 16 => Ok(Self::V6((a, b, c, d, e, f, g, h))),
            _ => Err(from.wrong("an address of 4 or 16 bytes", bytes.len())),
        }
    }
}

/// Methods of both kinds of socket, and whether they are `async`.
const TCP: [(&str, bool); 24] = [
    ("bind", false),
    ("connect", true),
    ("listen", false),
    ("send", false),
    ("receive", false),
    ("get-local-address", false),
    ("get-remote-address", false),
    ("get-is-listening", false),
    ("get-address-family", false),
    ("set-listen-backlog-size", false),
    ("get-keep-alive-enabled", false),
    ("set-keep-alive-enabled", false),
    ("get-keep-alive-idle-time", false),
    ("set-keep-alive-idle-time", false),
    ("get-keep-alive-interval", false),
    ("set-keep-alive-interval", false),
    ("get-keep-alive-count", false),
    ("set-keep-alive-count", false),
    ("get-hop-limit", false),
    ("set-hop-limit", false),
    ("get-receive-buffer-size", false),
    ("set-receive-buffer-size", false),
    ("get-send-buffer-size", false),
    ("set-send-buffer-size", false),
];
const UDP: [(&str, bool); 14] = [
    ("bind", false),
    ("connect", false),
    ("disconnect", false),
    ("send", true),
    ("receive", true),
    ("get-local-address", false),
    ("get-remote-address", false),
    ("get-address-family", false),
    ("get-unicast-hop-limit", false),
    ("set-unicast-hop-limit", false),
    ("get-receive-buffer-size", false),
    ("set-receive-buffer-size", false),
    ("get-send-buffer-size", false),
    ("set-send-buffer-size", false),
];

pub(super) fn define(wall: &mut Wall<'_>) -> wasmtime::Result<()> {
    wall.interface("wasi:sockets/types", VERSION, |i| {
        i.resource::<TcpSocket>("tcp-socket")?;
        i.resource::<UdpSocket>("udp-socket")?;
        i.func("[static]tcp-socket.create", Local, |_, (_,): (Family,)| {
            Ok(Err::<Resource<TcpSocket>, _>(ErrorCode::AccessDenied))
        })?;
        i.func("[static]udp-socket.create", Local, |_, (_,): (Family,)| {
            Ok(Err::<Resource<UdpSocket>, _>(ErrorCode::AccessDenied))
        })?;
        for (name, is_async) in TCP {
            i.never(&format!("[method]tcp-socket.{name}"), is_async)?;
        }
        for (name, is_async) in UDP {
            i.never(&format!("[method]udp-socket.{name}"), is_async)?;
        }
        Ok(())
    })?;
    wall.interface("wasi:sockets/ip-name-lookup", VERSION, |i| {
        i.func_async("resolve-addresses", Local, |_, (_,): (String,)| {
            Ok(Err::<Vec<IpAddress>, _>(LookupError::AccessDenied))
        })
    })
}
