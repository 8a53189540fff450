//! Grants of the network, from their text.
//!
//! ```text
//! tcp:HOST[:PORTS]            connect            tcp:listen=ADDRESS:PORT     accept connections
//! udp:HOST[:PORTS]            exchange datagrams udp:listen=ADDRESS:PORT     receive datagrams
//! http:[METHODS=]HOST[:PORTS] send requests; ports 80 and 443 if none are named
//! net:ADDRESS[/BITS]          addresses that are not public, and that granted names may resolve to
//! ```
//!
//! HOST is a name, `*.NAME`, an address, ADDRESS/BITS, or `*` for every public one; PORTS is a list, or `*`.

use vac_core::canon::Node;
use vac_core::fault::{Result, Usage, quote};
use vac_host::net::{HostPattern, NetGrant, NetKind};

/// A grant of the network, without its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Net {
    /// What may be done.
    pub kind: NetKind,
    /// With whom.
    pub hosts: HostPattern,
    /// On which ports, sorted; all if empty.
    pub ports: Vec<u16>,
    /// By which methods, sorted; all if empty.
    pub methods: Vec<String>,
}

/// The words of the kinds, as they are typed.
const KINDS: [(&str, NetKind); 6] = [
    ("tcp:listen=", NetKind::TcpListen),
    ("udp:listen=", NetKind::UdpListen),
    ("tcp:", NetKind::Tcp),
    ("udp:", NetKind::Udp),
    ("http:", NetKind::Http),
    ("net:", NetKind::Range),
];

const HTTP_PORTS: [u16; 2] = [80, 443];

impl Net {
    /// Reads a grant of the network; `None` if `text` begins like another kind.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let Some((rest, kind)) =
            KINDS.iter().find_map(|(word, kind)| Some((text.strip_prefix(word)?, *kind)))
        else {
            return Ok(None);
        };
        let (methods, place) = match (kind, rest.split_once('=')) {
            (NetKind::Http, Some((methods, place))) => (methods_of(methods, text)?, place),
            _ => (Vec::new(), rest),
        };
        let (host, ports) = split(place);
        let hosts: HostPattern = host.parse().map_err(|e: Usage| of_grant(text, e))?;
        let ports = match (ports, kind) {
            (None, NetKind::Http) => HTTP_PORTS.to_vec(),
            (None | Some("*"), _) => Vec::new(),
            (Some(ports), _) => ports_of(ports, text)?,
        };
        check(kind, &hosts, &ports, text)?;
        Ok(Some(Self { kind, hosts, ports, methods }))
    }

    /// The grant with its number.
    pub fn numbered(&self, grant: u32) -> NetGrant {
        let Self { kind, hosts, ports, methods } = self.clone();
        NetGrant { kind, hosts, ports, methods, grant }
    }

    fn word(&self) -> &'static str {
        let found = KINDS.iter().find(|(_, kind)| *kind == self.kind);
        found.map_or("", |(word, _)| word.trim_end_matches(['=', ':']))
    }

    /// What this grant gives of what is asked for: the same hosts or fewer, on ports and by methods that are both
    /// asked for and granted.
    pub fn meet(&self, asked: &Self) -> Option<Self> {
        if self.kind != asked.kind {
            return None;
        }
        let hosts = if covers(&self.hosts, &asked.hosts) {
            asked.hosts.clone()
        } else if covers(&asked.hosts, &self.hosts) {
            self.hosts.clone()
        } else {
            return None;
        };
        let ports = both(&self.ports, &asked.ports)?;
        let methods = both(&self.methods, &asked.methods)?;
        Some(Self { kind: self.kind, hosts, ports, methods })
    }

    /// The grant as `--grant` takes it. Two that give the same have the same text.
    pub fn text(&self) -> String {
        let word = KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(word, _)| word);
        let methods =
            if self.methods.is_empty() { String::new() } else { format!("{}=", self.methods.join(",")) };
        let ports = match (self.ports.is_empty(), self.kind) {
            (true, NetKind::Range) => String::new(),
            (true, _) => ":*".into(),
            (false, _) => format!(":{}", self.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")),
        };
        format!("{word}{methods}{}{ports}", self.hosts)
    }

    /// `[kind, hosts and ports, methods]`, in one spelling, whatever was typed.
    pub fn to_node(&self) -> Node {
        let list = |items: Vec<String>| if items.is_empty() { "*".to_owned() } else { items.join(",") };
        let ports = list(self.ports.iter().map(u16::to_string).collect());
        let rights = if self.kind == NetKind::Http { list(self.methods.clone()) } else { String::new() };
        let texts = [self.word().to_owned(), format!("{}:{ports}", self.hosts), rights];
        Node::List(texts.into_iter().map(Node::Text).collect())
    }
}

/// Whether every host of `inner` is one of `outer`. A name may resolve to any address, so that no range covers it.
fn covers(outer: &HostPattern, inner: &HostPattern) -> bool {
    match (outer, inner) {
        (HostPattern::Any, HostPattern::Net(_)) => false,
        (HostPattern::Any, _) => true,
        (HostPattern::Name(a), HostPattern::Name(b)) => a == b,
        (HostPattern::Below(end), HostPattern::Name(name)) => {
            name.len() > end.len() && name.ends_with(end.as_str())
        }
        (HostPattern::Below(a), HostPattern::Below(b)) => b.ends_with(a.as_str()),
        (HostPattern::Net(a), HostPattern::Net(b)) => a.contains(b),
        _ => false,
    }
}

/// What is in both lists, an empty one being everything; `None` if that is nothing.
fn both<T: Clone + PartialEq>(a: &[T], b: &[T]) -> Option<Vec<T>> {
    if a.is_empty() || b.is_empty() {
        return Some([a, b].concat());
    }
    let both: Vec<_> = a.iter().filter(|item| b.contains(item)).cloned().collect();
    (!both.is_empty()).then_some(both)
}

fn of_grant(text: &str, error: Usage) -> Usage {
    Usage { message: format!("`{}` is not a grant: {}", quote(text), error.message), ..error }
}

/// Host and ports. Brackets hold the colons of an IPv6 address; without them a text with several is one.
fn split(place: &str) -> (&str, Option<&str>) {
    match place.rsplit_once(':') {
        Some((host, ports)) if !host.contains(':') || host.ends_with(']') => (host, Some(ports)),
        _ => (place, None),
    }
}

fn ports_of(ports: &str, text: &str) -> Result<Vec<u16>> {
    let wrong = |port: &str| {
        Usage::new(format!("`{}` is not a grant: `{}` is no port", quote(text), quote(port)))
            .hint("expected a number from 1 to 65535, several with commas between, or `*`")
    };
    let parse = |port: &str| port.parse().ok().filter(|p| *p != 0).ok_or_else(|| wrong(port));
    let mut ports = ports.split(',').map(parse).collect::<std::result::Result<Vec<u16>, _>>()?;
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

fn methods_of(methods: &str, text: &str) -> Result<Vec<String>> {
    let is_method = |m: &str| !m.is_empty() && m.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
    if let Some(wrong) = methods.split(',').find(|m| !is_method(m)) {
        return Err(Usage::new(format!("`{}` is not a grant: `{}` is no method", quote(text), quote(wrong)))
            .hint("for example `http:GET,HEAD=example.com`")
            .into());
    }
    let mut methods: Vec<_> = methods.split(',').map(str::to_ascii_uppercase).collect();
    methods.sort();
    methods.dedup();
    Ok(methods)
}

fn check(kind: NetKind, hosts: &HostPattern, ports: &[u16], text: &str) -> Result<()> {
    let is_address = matches!(hosts, HostPattern::Net(_));
    let problem = match kind {
        NetKind::Range if !is_address => "expected an address or ADDRESS/BITS, for example `net:127.0.0.1`",
        NetKind::Range if !ports.is_empty() => "a range of addresses has no ports",
        NetKind::TcpListen | NetKind::UdpListen if !is_address && *hosts != HostPattern::Any => {
            "expected an address of this machine, for example `tcp:listen=127.0.0.1:8080`"
        }
        _ => return Ok(()),
    };
    Err(Usage::new(format!("`{}` is not a grant: {problem}", quote(text))).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let Node::List(items) = Net::parse(text).unwrap().unwrap().to_node() else { unreachable!() };
        items
            .iter()
            .map(|i| if let Node::Text(t) = i { t.as_str() } else { "?" })
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn grants_of_the_network_are_read_as_documented() {
        for (text, meant) in [
            ("tcp:db.example.com:5432", "tcp db.example.com:5432 "),
            ("tcp:*:443,80", "tcp *:80,443 "),
            ("tcp:[::1]:80", "tcp [::1]:80 "),
            ("tcp:::1", "tcp [::1]:* "),
            ("udp:10.0.0.0/8:53", "udp 10.0.0.0/8:53 "),
            ("tcp:listen=127.0.0.1:8080", "tcp:listen 127.0.0.1:8080 "),
            ("http:Example.COM", "http example.com:80,443 *"),
            ("http:post,GET=*.example.com:8443", "http *.example.com:8443 GET,POST"),
            ("http:example.com:*", "http example.com:* *"),
            ("net:127.0.0.0/8", "net 127.0.0.0/8:* "),
        ] {
            assert_eq!(shown(text), meant, "{text}");
        }
        assert!(Net::parse("dir:ro=tcp:").unwrap().is_none());
    }

    #[test]
    fn two_keys_meet_in_what_both_say() {
        let met = |granted: &str, asked: &str| {
            let (granted, asked) =
                (Net::parse(granted).unwrap().unwrap(), Net::parse(asked).unwrap().unwrap());
            granted.meet(&asked).map(|net| net.text())
        };
        for (granted, asked, both) in [
            ("http:*.example.com", "http:GET=api.example.com", Some("http:GET=api.example.com:80,443")),
            ("http:api.example.com", "http:*.example.com:443", Some("http:api.example.com:443")),
            ("tcp:10.0.0.0/8", "tcp:10.1.2.3:53", Some("tcp:10.1.2.3:53")),
            ("tcp:a:1", "tcp:a:2", None),
            ("tcp:a", "udp:a", None),
            ("http:GET=a", "http:POST=a", None),
            ("tcp:*", "tcp:127.0.0.1", None),
            ("net:127.0.0.0/8", "net:127.0.0.1", Some("net:127.0.0.1")),
        ] {
            assert_eq!(met(granted, asked).as_deref(), both, "{granted} and {asked}");
        }
    }

    #[test]
    fn what_is_no_grant_of_the_network_says_why() {
        for bad in [
            "tcp:",
            "tcp:a b",
            "tcp:x:0",
            "tcp:x:70000",
            "tcp:x:1,,2",
            "http:=x",
            "http:G T=x",
            "http:x:y",
            "net:example.com",
            "net:*",
            "net:1.2.3.4:80",
            "tcp:listen=example.com:80",
            "http:https://x",
            "tcp:x:",
        ] {
            assert!(Net::parse(bad).is_err(), "{bad}");
        }
    }
}
