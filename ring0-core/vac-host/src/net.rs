//! What of the network the operator granted, and whether an address is inside of it.
//!
//! A grant names hosts by name (`api.example.com`), by the end of a name (`*.example.com`), by address
//! (`192.0.2.7`, `10.0.0.0/8`) or all of them (`*`), and ports. A name is granted as a name: the addresses that
//! it resolves to are checked again, one by one, and those that are not public are refused unless a grant
//! covers them by address. So a public name that points into the operator's own network opens nothing.
//!
//! Invariant: nothing here connects to anything; it only answers whether that may be done.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use vac_core::fault::{Usage, quote};

use crate::http::MayConnect;
use crate::limits::{HOST_NAME_MAX_BYTES, RESOLVED_MAX};

/// What may be done with the hosts of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetKind {
    /// Connect to them.
    Tcp,
    /// Accept connections on this address of the host.
    TcpListen,
    /// Exchange datagrams with them.
    Udp,
    /// Receive datagrams on this address of the host.
    UdpListen,
    /// Send HTTP requests to them.
    Http,
    /// Nothing by itself: addresses that granted names may resolve to.
    Range,
}

/// Hosts, as a grant names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// Every public host.
    Any,
    /// One name, in lower case.
    Name(String),
    /// Every name that ends in this, which begins with a dot.
    Below(String),
    /// Addresses.
    Net(IpNet),
}

impl HostPattern {
    /// Whether a host called `name` is meant. The text of an address is no name.
    pub fn has_name(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match self {
            Self::Any => true,
            Self::Name(own) => *own == name,
            Self::Below(end) => name.len() > end.len() && name.ends_with(end.as_str()),
            Self::Net(_) => false,
        }
    }

    /// Whether the grant names `ip` by address.
    pub fn has_address(&self, ip: IpAddr) -> bool {
        matches!(self, Self::Net(net) if net.contains(&plain(ip)))
    }
}

impl FromStr for HostPattern {
    type Err = Usage;

    fn from_str(text: &str) -> Result<Self, Usage> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self::Net(plain(ip).into()));
        }
        if let Ok(net) = bare.parse::<IpNet>() {
            return Ok(Self::Net(net.trunc()));
        }
        let (below, name) = match text.strip_prefix('*') {
            Some(rest) if rest.starts_with('.') => (true, rest),
            _ => (false, text),
        };
        let is_name = |name: &str| {
            let mut labels = name.split('.');
            name.len() <= HOST_NAME_MAX_BYTES
                && labels.all(|l| {
                    !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                })
        };
        if !is_name(name.strip_prefix('.').unwrap_or(name)) || (!below && name.starts_with('.')) {
            return Err(Usage::new(format!("`{}` names no host", quote(text)))
                .hint("expected a name, `*.NAME`, an address, `ADDRESS/BITS`, or `*`"));
        }
        let name = name.to_ascii_lowercase();
        Ok(if below { Self::Below(name) } else { Self::Name(name) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Name(name) => f.write_str(name),
            Self::Below(end) => write!(f, "*{end}"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => show_ip(net.addr(), f),
            Self::Net(net @ IpNet::V6(_)) => write!(f, "[{net}]"),
            Self::Net(net) => write!(f, "{net}"),
        }
    }
}

fn show_ip(ip: IpAddr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match ip {
        IpAddr::V4(ip) => write!(f, "{ip}"),
        IpAddr::V6(ip) => write!(f, "[{ip}]"),
    }
}

/// One grant of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetGrant {
    /// What may be done.
    pub kind: NetKind,
    /// With whom.
    pub hosts: HostPattern,
    /// On which ports; all if empty.
    pub ports: Vec<u16>,
    /// For HTTP, by which methods, in upper case; all if empty.
    pub methods: Vec<String>,
    /// Number of the grant.
    pub grant: u32,
}

impl NetGrant {
    fn has_port(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }

    /// Whether `method` is among those granted.
    pub fn has_method(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|m| m == method)
    }
}

/// Why an address is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// No grant names the host; this one would.
    Host(String),
    /// A grant names the host, but it is at an address of a private network; this grant allows it.
    Address(String),
}

impl Denied {
    /// The grant that would allow it.
    pub fn would_allow(&self) -> &str {
        let (Self::Host(grant) | Self::Address(grant)) = self;
        grant
    }
}

/// The grants of one kernel, and the names that it resolved.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) grants: Vec<NetGrant>,
    resolved: BTreeMap<IpAddr, Vec<String>>,
}

impl Net {
    pub(crate) fn new(grants: Vec<NetGrant>) -> Self {
        Self { grants, resolved: BTreeMap::new() }
    }

    /// Forgets a grant that was taken back.
    pub(crate) fn revoke(&mut self, grant: u32) {
        self.grants.retain(|g| g.grant != grant);
    }

    fn of(&self, kind: NetKind) -> impl Iterator<Item = &NetGrant> {
        self.grants.iter().filter(move |g| g.kind == kind)
    }

    /// Whether `ip` may be reached under a grant that names its host by name.
    pub(crate) fn may_be_reached(&self, ip: IpAddr) -> bool {
        is_public(ip) || self.of(NetKind::Range).any(|g| g.hosts.has_address(ip))
    }

    /// The grant under which `name` may be resolved.
    pub(crate) fn may_resolve(&self, name: &str) -> Result<u32, Denied> {
        let fits = |g: &&NetGrant| match name.parse::<IpAddr>() {
            Ok(ip) => g.hosts.has_address(ip) || g.hosts == HostPattern::Any,
            Err(_) => g.hosts.has_name(name),
        };
        let found = self.of(NetKind::Tcp).chain(self.of(NetKind::Udp)).find(fits);
        found.map(|g| g.grant).ok_or_else(|| Denied::Host(format!("tcp:{name}")))
    }

    /// Of what `name` resolved to, what may be reached; the rest is forgotten.
    pub(crate) fn resolved(&mut self, name: &str, found: Vec<IpAddr>) -> Result<Vec<IpAddr>, Denied> {
        let by_address = |ip: IpAddr| self.grants.iter().any(|g| g.hosts.has_address(ip));
        let (open, closed): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|ip| self.may_be_reached(*ip) || by_address(*ip));
        if let (true, Some(ip)) = (open.is_empty(), closed.first()) {
            return Err(Denied::Address(format!("net:{ip}")));
        }
        for ip in &open {
            if self.resolved.len() < RESOLVED_MAX || self.resolved.contains_key(ip) {
                let names = self.resolved.entry(*ip).or_default();
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
        }
        Ok(open)
    }

    /// The grant under which `kind` may be done with `to`.
    pub(crate) fn may_reach(&self, kind: NetKind, to: SocketAddr) -> Result<u32, Denied> {
        let ip = plain(to.ip());
        let by_name = |g: &NetGrant| {
            let names = self.resolved.get(&ip).into_iter().flatten();
            g.hosts == HostPattern::Any || names.into_iter().any(|name| g.hosts.has_name(name))
        };
        let mut named = false;
        for grant in self.of(kind).filter(|g| g.has_port(to.port())) {
            if grant.hosts.has_address(ip) || (by_name(grant) && self.may_be_reached(ip)) {
                return Ok(grant.grant);
            }
            named |= by_name(grant);
        }
        let word = if kind == NetKind::Udp { "udp" } else { "tcp" };
        Err(match named {
            true => Denied::Address(format!("net:{ip}")),
            false => Denied::Host(format!("{word}:{to}")),
        })
    }

    /// The grant under which this host's address `at` may be listened on.
    pub(crate) fn may_listen(&self, kind: NetKind, at: SocketAddr) -> Result<u32, Denied> {
        let fits = |g: &&NetGrant| {
            g.has_port(at.port()) && (g.hosts == HostPattern::Any || g.hosts.has_address(at.ip()))
        };
        let word = if kind == NetKind::UdpListen { "udp" } else { "tcp" };
        self.of(kind).find(fits).map(|g| g.grant).ok_or_else(|| Denied::Host(format!("{word}:listen={at}")))
    }

    /// What an HTTP client asks before it connects for a request to `host`, which [`Net::may_request`] allowed.
    /// An address leads to itself; a name to no private address but those of a range, whatever other grants
    /// name that address.
    pub(crate) fn may_connect(&self, host: &str) -> MayConnect {
        if let Ok(own) = host.parse::<IpAddr>() {
            return Arc::new(move |ip| plain(ip) == plain(own));
        }
        let ranges: Vec<_> = self.of(NetKind::Range).map(|g| g.hosts.clone()).collect();
        Arc::new(move |ip| is_public(ip) || ranges.iter().any(|hosts| hosts.has_address(ip)))
    }

    /// The grant under which a request by `method` may be sent to `host` and `port`.
    pub(crate) fn may_request(&self, method: &str, host: &str, port: u16) -> Result<&NetGrant, Denied> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let fits = |g: &&NetGrant| {
            let host_fits = match bare.parse::<IpAddr>() {
                Ok(ip) => g.hosts.has_address(ip) || (g.hosts == HostPattern::Any && self.may_be_reached(ip)),
                Err(_) => g.hosts.has_name(host),
            };
            host_fits && g.has_port(port) && g.has_method(method)
        };
        let would_allow = || Denied::Host(format!("http:{method}={host}:{port}"));
        self.of(NetKind::Http).find(fits).ok_or_else(would_allow)
    }
}

/// An IPv4 address that is written as an IPv6 one is the IPv4 one.
pub fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// Whether `ip` is a unicast address of the public internet: none of the special ranges of RFC 6890 and its
/// registries, nor one that only wraps such an address.
pub fn is_public(ip: IpAddr) -> bool {
    match plain(ip) {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 224;
    !special
}

/// Only 2000::/3 is given out, and within it some ranges are special or wrap an IPv4 address.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, _, _, g, h] = ip.segments();
    let wrapped = |hi: u16, lo: u16| {
        let ([a, b], [c, d]) = (hi.to_be_bytes(), lo.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // 64:ff9b::/96, the well-known prefix of NAT64.
        (0x64, 0xff9b) => (c, d) == (0, 0) && wrapped(g, h),
        (0x2001, 0..0x200) | (0x2001, 0xdb8) | (0x3fff, 0..0x1000) => false,
        // 6to4 wraps the next 32 bits.
        (0x2002, hi) => wrapped(hi, c),
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(kind: NetKind, hosts: &str, ports: &[u16]) -> NetGrant {
        NetGrant { kind, hosts: hosts.parse().unwrap(), ports: ports.into(), methods: vec![], grant: 7 }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn special_addresses_are_not_public_however_they_are_written() {
        for special in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "198.18.0.1",
            "192.0.0.170",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::",
            "2001:0:1::",
            "fec0::1",
            "::127.0.0.1",
            "64:ff9b:1::a00:1",
            "3fff::1",
        ] {
            assert!(!is_public(ip(special)), "{special}");
        }
        for public in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2002:101:101::", "64:ff9b::101:101"] {
            assert!(is_public(ip(public)), "{public}");
        }
    }

    #[test]
    fn a_pattern_means_what_it_says() {
        let has = |pattern: &str, name: &str| pattern.parse::<HostPattern>().unwrap().has_name(name);
        assert!(has("Example.com", "example.COM") && has("example.com", "example.com."));
        assert!(has("*.example.com", "a.b.example.com"));
        assert!(!has("*.example.com", "example.com") && !has("*.example.com", "badexample.com"));
        assert!(!has("example.com", "example.com.evil.org"));
        for bad in ["", ".", "a..b", "*example.com", "exa mple", "http://x", "a/b", "*.", "a:80", "\u{1b}[m"]
        {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_does_not_open_a_private_address() {
        let mut net = Net::new(vec![grant(NetKind::Tcp, "db.example.com", &[5432])]);
        assert_eq!(net.may_resolve("db.example.com"), Ok(7));
        assert_eq!(net.may_resolve("evil.org"), Err(Denied::Host("tcp:evil.org".into())));
        let rebound = net.resolved("db.example.com", vec![ip("127.0.0.1")]);
        assert_eq!(rebound, Err(Denied::Address("net:127.0.0.1".into())));
        let both = net.resolved("db.example.com", vec![ip("169.254.169.254"), ip("1.1.1.1")]);
        assert_eq!(both, Ok(vec![ip("1.1.1.1")]));
        assert_eq!(net.may_reach(NetKind::Tcp, "1.1.1.1:5432".parse().unwrap()), Ok(7));
        for closed in ["1.1.1.1:22", "8.8.8.8:5432", "169.254.169.254:5432", "127.0.0.1:5432"] {
            assert!(net.may_reach(NetKind::Tcp, closed.parse().unwrap()).is_err(), "{closed}");
        }
    }

    #[test]
    fn a_range_lets_a_name_be_private_and_an_address_needs_no_name() {
        let mut net =
            Net::new(vec![grant(NetKind::Tcp, "localhost", &[]), grant(NetKind::Range, "127.0.0.0/8", &[])]);
        assert_eq!(net.resolved("localhost", vec![ip("127.0.0.1")]), Ok(vec![ip("127.0.0.1")]));
        assert_eq!(net.may_reach(NetKind::Tcp, "127.0.0.1:80".parse().unwrap()), Ok(7));
        let net = Net::new(vec![grant(NetKind::Udp, "10.0.0.0/8", &[53])]);
        assert_eq!(net.may_reach(NetKind::Udp, "10.9.8.7:53".parse().unwrap()), Ok(7));
        assert_eq!(net.may_reach(NetKind::Udp, "[::ffff:10.9.8.7]:53".parse().unwrap()), Ok(7));
        assert!(net.may_reach(NetKind::Tcp, "10.9.8.7:53".parse().unwrap()).is_err());
    }

    #[test]
    fn everything_means_everything_public() {
        let net = Net::new(vec![grant(NetKind::Tcp, "*", &[443])]);
        assert_eq!(net.may_reach(NetKind::Tcp, "1.1.1.1:443".parse().unwrap()), Ok(7));
        let private = net.may_reach(NetKind::Tcp, "192.168.0.1:443".parse().unwrap());
        assert_eq!(private, Err(Denied::Address("net:192.168.0.1".into())));
        assert!(net.may_request("GET", "1.1.1.1", 443).is_err(), "TCP is not HTTP");
    }

    #[test]
    fn a_name_does_not_lead_to_an_address_that_another_grant_names() {
        let by_address = grant(NetKind::Http, "10.0.0.5", &[8443]);
        let net = Net::new(vec![by_address, grant(NetKind::Http, "example.com", &[80])]);
        assert!(net.may_connect("10.0.0.5")(ip("10.0.0.5")));
        assert!(!net.may_connect("10.0.0.5")(ip("10.0.0.6")));
        assert!(!net.may_connect("example.com")(ip("10.0.0.5")));
        assert!(net.may_connect("example.com")(ip("1.1.1.1")));
    }

    #[test]
    fn a_request_needs_its_method_host_and_port() {
        let get = NetGrant { methods: vec!["GET".into()], ..grant(NetKind::Http, "*.example.com", &[443]) };
        let net = Net::new(vec![get]);
        assert!(net.may_request("GET", "api.example.com", 443).is_ok());
        for (method, host, port) in
            [("POST", "api.example.com", 443), ("GET", "example.com", 443), ("GET", "api.example.com", 80)]
        {
            let would_allow = format!("http:{method}={host}:{port}");
            assert_eq!(net.may_request(method, host, port), Err(Denied::Host(would_allow)));
        }
    }
}
