//! What a run needed of a grant of the network: with whom it spoke, on which port and by which method.
//!
//! The events of a run have addresses, not the names that led to them. So a grant of names stays one of those names, and what
//! is known of it are the ports. No address is a part of `*`, either: that is whatever is public when it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use vac_core::canon::Node;
use vac_core::ledger::Seq;
use vac_host::net::{HostPattern, NetKind};

use crate::net_grants::Net;

/// Places of one grant. A run that needs more needs all of it.
const PLACES_MAX: usize = 16;

/// What was seen of the grants of one run.
#[derive(Debug, Default)]
pub(super) struct Seen {
    grants: BTreeMap<usize, OfGrant>,
    /// A name was looked up, under any grant.
    has_names: bool,
}

/// What was seen of one grant.
#[derive(Debug, Default)]
struct OfGrant {
    /// The methods and the events of each host and port.
    places: BTreeMap<(String, u16), (BTreeSet<String>, BTreeSet<Seq>)>,
    /// Events that say nothing of a place: a name that was looked up, a request that did not leave.
    others: BTreeSet<Seq>,
    /// Requests that were begun and of which nothing was seen yet.
    begun: u32,
}

/// A part of a grant, and the events that needed it.
pub(super) struct Needed {
    pub(super) grant: usize,
    /// As `--grant` takes it; `None` is all of the grant.
    pub(super) text: Option<String>,
    pub(super) events: BTreeSet<Seq>,
}

impl Seen {
    /// Takes note of an event that grant number `grant`, which is `net`, allowed; `None` stands for a request that is not kept.
    /// `false` if nothing can be said of it: then all of the grant is needed.
    pub(super) fn see(
        &mut self,
        (grant, net): (usize, &Net),
        (name, seq): (&str, Seq),
        request: Option<&Node>,
        answer: &Node,
    ) -> bool {
        self.has_names |= name.ends_with("resolve-addresses");
        let of = self.grants.entry(grant).or_default();
        let Some(request) = request else { return false };
        match net.kind {
            NetKind::Http => of.http(name, seq, request),
            NetKind::Tcp | NetKind::Udp => of.address(name, seq, request, answer),
            NetKind::TcpListen | NetKind::UdpListen | NetKind::Range => return false,
        }
        true
    }

    /// What was needed of each grant of `nets`, by number.
    pub(super) fn needed<'a>(self, nets: impl Fn(usize) -> Option<&'a Net>) -> Vec<Needed> {
        let has_names = self.has_names;
        self.grants.into_iter().flat_map(|(grant, of)| of.needed(grant, nets(grant), has_names)).collect()
    }
}

impl OfGrant {
    /// A request that is sent.
    fn http(&mut self, name: &str, seq: Seq, request: &Node) {
        let ends = name.contains("[end]") || name.ends_with("outgoing-body.finish");
        match sent_in(request) {
            Some((method, place)) => {
                self.begun = self.begun.saturating_sub(u32::from(ends));
                let (methods, events) = self.places.entry(place).or_default();
                methods.insert(method.to_owned());
                events.insert(seq);
            }
            // Its head is there, and what is sent comes with the end of its body.
            None => {
                self.begun += 1;
                self.others.insert(seq);
            }
        }
    }

    /// Whom a socket is connected to, sends to or hears from. An address is `["ADDRESS:PORT", scope]`.
    fn address(&mut self, name: &str, seq: Seq, request: &Node, answer: &Node) {
        let function = name.rsplit_once(['#', '.']).map_or(name, |(_, function)| function);
        let mut found = BTreeSet::new();
        match function {
            "start-connect" | "connect" | "stream" | "send" => addresses(request, &mut found),
            "receive" => addresses(answer, &mut found),
            _ => {}
        }
        if found.is_empty() {
            self.others.insert(seq);
        }
        for address in found {
            let place = (address.ip().to_string(), address.port());
            self.places.entry(place).or_default().1.insert(seq);
        }
    }

    fn needed(self, grant: usize, net: Option<&Net>, has_names: bool) -> Vec<Needed> {
        let all = |events| vec![Needed { grant, text: None, events }];
        let Some(net) = net.filter(|_| self.begun == 0 && !self.places.is_empty()) else {
            let events = self.places.into_values().flat_map(|(_, events)| events).chain(self.others);
            return all(events.collect());
        };
        let mut parts: BTreeMap<String, BTreeSet<Seq>> = BTreeMap::new();
        for ((host, port), (methods, events)) in &self.places {
            let Some(part) = part_of(net, (host, *port), methods, has_names) else {
                return all(events.clone());
            };
            parts.entry(part).or_default().extend(events);
        }
        if parts.len() > PLACES_MAX {
            return all(parts.into_values().flatten().collect());
        }
        parts.into_iter().map(|(text, events)| Needed { grant, text: Some(text), events }).collect()
    }
}

/// What of `net` allows one place; `None` if it says it in a way in which no part can be named.
fn part_of(
    net: &Net,
    (host, port): (&str, u16),
    methods: &BTreeSet<String>,
    has_names: bool,
) -> Option<String> {
    let used: HostPattern = bracketed(host).parse().ok()?;
    let hosts = match (net.kind, &net.hosts, &used) {
        (NetKind::Http, HostPattern::Any, HostPattern::Name(_)) => used,
        (NetKind::Http, HostPattern::Below(_) | HostPattern::Net(_), _) => used,
        // A name may have another address the next time.
        (_, HostPattern::Net(_), _) if !has_names => used,
        (_, hosts, _) => hosts.clone(),
    };
    // A grant has no other methods: then it stays one of those that it has.
    let can_be_named = |method: &String| method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    let methods =
        if methods.iter().all(can_be_named) { methods.iter().cloned().collect() } else { Vec::new() };
    let asked = Net { kind: net.kind, hosts, ports: vec![port], methods };
    net.meet(&asked).map(|part| part.text())
}

/// An address of six has brackets where a port may follow.
fn bracketed(host: &str) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

/// `[method, URL, …]`, wherever it is in `node`: the method, and the host and port.
fn sent_in(node: &Node) -> Option<(&str, (String, u16))> {
    let Node::List(items) = node else { return None };
    match items.as_slice() {
        [Node::Text(method), Node::Text(url), ..] if url.contains("://") => Some((method, place_of(url)?)),
        _ => items.iter().find_map(sent_in),
    }
}

/// The host and the port of `http[s]://HOST[:PORT]/…`.
fn place_of(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let otherwise = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, otherwise),
    };
    Some((host.to_ascii_lowercase(), port))
}

/// Every address in `node`.
fn addresses(node: &Node, to: &mut BTreeSet<SocketAddr>) {
    let Node::List(items) = node else { return };
    if let [Node::Text(address), Node::Int(_)] = items.as_slice()
        && let Ok(address) = address.parse()
    {
        to.insert(address);
    }
    items.iter().for_each(|item| addresses(item, to));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(grant: &str, events: &[(&str, Node)]) -> Vec<Option<String>> {
        let net = Net::parse(grant).unwrap().unwrap();
        let mut seen = Seen::default();
        for (seq, (name, request)) in (0..).zip(events) {
            assert!(seen.see((0, &net), (name, seq), Some(request), &Node::Null));
        }
        seen.needed(|_| Some(&net)).into_iter().map(|needed| needed.text).collect()
    }

    fn list(items: impl IntoIterator<Item = Node>) -> Node {
        Node::List(items.into_iter().collect())
    }

    fn sent(method: &str, url: &str) -> Node {
        list([Node::Int(1), list([Node::Text(method.into()), Node::Text(url.into()), list([])])])
    }

    fn to(address: &str) -> Node {
        list([Node::Int(1), Node::Int(2), list([Node::Text(address.into()), Node::Int(0)])])
    }

    const HANDLE: &str = "wasi:http/outgoing-handler#handle";
    const CONNECT: &str = "wasi:sockets/tcp#[method]tcp-socket.start-connect";

    #[test]
    fn requests_say_host_port_and_methods() {
        let events = [
            (HANDLE, sent("GET", "https://a.example/x?y=http://z/")),
            (HANDLE, sent("POST", "https://A.example:443/")),
            (HANDLE, sent("GET", "http://b.example:8080")),
        ];
        assert_eq!(
            texts("http:*:*", &events),
            [Some("http:GET,POST=a.example:443".into()), Some("http:GET=b.example:8080".into())]
        );
        assert_eq!(texts("http:a.example:443", &events[..1]), [Some("http:GET=a.example:443".into())]);
        let odd = [(HANDLE, sent("get", "http://b.example/"))];
        assert_eq!(
            texts("http:*", &odd),
            [Some("http:b.example:80".into())],
            "no grant can name that method"
        );
        let body = "wasi:http/types#[static]outgoing-body.finish";
        let later = [(HANDLE, list([Node::Int(1)])), (body, sent("POST", "http://b.example/"))];
        assert_eq!(texts("http:*", &later), [Some("http:POST=b.example:80".into())]);
        let six = [(HANDLE, sent("GET", "http://[::1]:81/"))];
        assert_eq!(texts("http:[::1]:*", &six), [Some("http:GET=[::1]:81".into())]);
        let begun = [("wasi:http/client#send", list([Node::Int(1)])), (HANDLE, sent("GET", "http://b/"))];
        assert_eq!(texts("http:*", &begun), [None], "what was begun may have gone anywhere");
    }

    #[test]
    fn addresses_are_parts_of_ranges_and_names_stay_names() {
        let events = [(CONNECT, to("10.0.0.7:5432")), (CONNECT, to("10.0.0.8:5432"))];
        let parts = ["tcp:10.0.0.7:5432", "tcp:10.0.0.8:5432"].map(|part| Some(part.to_owned()));
        assert_eq!(texts("tcp:10.0.0.0/8", &events), parts);
        assert_eq!(texts("tcp:db.example", &events), [Some("tcp:db.example:5432".into())]);
        let looked_up = [("wasi:sockets/ip-name-lookup#resolve-addresses", list([Node::Text("db".into())]))];
        let both = [&looked_up[..], &[(CONNECT, to("1.2.3.4:80"))]].concat();
        assert_eq!(texts("tcp:*", &both), [Some("tcp:*:80".into())]);
        assert_eq!(texts("tcp:*", &looked_up), [None]);
        assert_eq!(texts("tcp:1.0.0.0/8", &both), [Some("tcp:1.0.0.0/8:80".into())]);
        assert_eq!(
            texts("http:*:*", &[(HANDLE, sent("GET", "http://1.2.3.4/"))]),
            [Some("http:GET=*:80".into())]
        );
        let many: Vec<_> = (0..100).map(|n| (CONNECT, to(&format!("10.0.0.{n}:1")))).collect();
        assert_eq!(texts("tcp:10.0.0.0/8", &many), [None]);
    }
}
