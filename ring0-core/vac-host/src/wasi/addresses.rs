//! Addresses of `wasi:sockets`, which are the same in all its versions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use vac_core::canon::{Reader, Writer};
use vac_core::fault::Corrupt;
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::wire::{Wire, cases};

/// `wasi:sockets/network.ip-address-family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Family {
    #[component(name = "ipv4")]
    Ipv4,
    #[component(name = "ipv6")]
    Ipv6,
}
cases!(Family { Ipv4, Ipv6 });

type Bytes4 = (u8, u8, u8, u8);
type Words8 = (u16, u16, u16, u16, u16, u16, u16, u16);

/// `wasi:sockets/network.ip-address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum Ip {
    #[component(name = "ipv4")]
    Ipv4(Bytes4),
    #[component(name = "ipv6")]
    Ipv6(Words8),
}

/// `wasi:sockets/network.ipv4-socket-address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct At4 {
    port: u16,
    address: Bytes4,
}

/// `wasi:sockets/network.ipv6-socket-address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct At6 {
    port: u16,
    #[component(name = "flow-info")]
    flow_info: u32,
    address: Words8,
    #[component(name = "scope-id")]
    scope_id: u32,
}

/// `wasi:sockets/network.ip-socket-address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum At {
    #[component(name = "ipv4")]
    Ipv4(At4),
    #[component(name = "ipv6")]
    Ipv6(At6),
}

/// An address is its text, as people write it: a log shows it.
impl Wire for Ip {
    fn put(&self, to: &mut Writer) {
        to.text(&IpAddr::from(*self).to_string());
    }
    fn read(from: &mut Reader<'_>) -> std::result::Result<Self, Corrupt> {
        let text = from.text()?;
        text.parse::<IpAddr>().map(Self::from).map_err(|e| from.wrong("an address", e))
    }
}

/// The text, and flow information, which a text of it would lose.
impl Wire for At {
    fn put(&self, to: &mut Writer) {
        let flow = if let Self::Ipv6(at) = self { at.flow_info } else { 0 };
        (SocketAddr::from(*self).to_string(), flow).put(to);
    }
    fn read(from: &mut Reader<'_>) -> std::result::Result<Self, Corrupt> {
        let (text, flow) = <(String, u32)>::read(from)?;
        match text.parse().map_err(|e| from.wrong("an address with a port", e))? {
            SocketAddr::V6(at) => {
                Ok(SocketAddr::V6(SocketAddrV6::new(*at.ip(), at.port(), flow, at.scope_id())).into())
            }
            v4 => Ok(v4.into()),
        }
    }
}

impl From<Ip> for IpAddr {
    fn from(ip: Ip) -> Self {
        match ip {
            Ip::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
            Ip::Ipv6((a, b, c, d, e, f, g, h)) => Ipv6Addr::new(a, b, c, d, e, f, g, h).into(),
        }
    }
}

impl From<IpAddr> for Ip {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::Ipv4(ip.octets().into()),
            IpAddr::V6(ip) => Self::Ipv6(ip.segments().into()),
        }
    }
}

impl From<At> for SocketAddr {
    fn from(at: At) -> Self {
        match at {
            At::Ipv4(at) => (IpAddr::from(Ip::Ipv4(at.address)), at.port).into(),
            At::Ipv6(At6 { port, flow_info, address: (a, b, c, d, e, f, g, h), scope_id }) => {
                SocketAddrV6::new(Ipv6Addr::new(a, b, c, d, e, f, g, h), port, flow_info, scope_id).into()
            }
        }
    }
}

impl From<SocketAddr> for At {
    fn from(at: SocketAddr) -> Self {
        match at {
            SocketAddr::V4(at) => {
                Self::Ipv4(At4 { port: at.port(), address: SocketAddrV4::ip(&at).octets().into() })
            }
            SocketAddr::V6(at) => Self::Ipv6(At6 {
                port: at.port(),
                flow_info: at.flowinfo(),
                address: at.ip().segments().into(),
                scope_id: at.scope_id(),
            }),
        }
    }
}
