//! Random numbers, and ways to end.

use crate::bindings::wasi::cli::{environment, exit};
use crate::bindings::wasi::clocks::monotonic_clock::wait_for;
use crate::bindings::wasi::random::{insecure, insecure_seed, random};
use crate::bindings::wasi::sockets::ip_name_lookup::{self, resolve_addresses};
use crate::bindings::wasi::sockets::types::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket,
};
use crate::bindings::wit_stream;
use crate::case::{same, say};

pub(crate) async fn random() {
    let bytes = random::get_random_bytes(16);
    same("length", bytes.len(), 16).await;
    same("one seed", insecure_seed::get_insecure_seed() == insecure_seed::get_insecure_seed(), true).await;
    same("at most what is asked for", random::get_random_bytes(u64::MAX).is_empty(), false).await;
    same("none", insecure::get_insecure_random_bytes(0).len(), 0).await;
    let numbers = (random::get_random_u64(), insecure::get_insecure_random_u64());
    say(&format!("{bytes:?} {numbers:?} {:?}", insecure_seed::get_insecure_seed())).await;
}

/// Ends with the status that the second argument names.
pub(crate) fn exit() {
    let status = environment::get_arguments().get(2).and_then(|text| text.parse().ok());
    exit::exit_with_code(status.unwrap_or(99));
}

/// Waits for itself.
pub(crate) async fn stuck() {
    let (to, mut from) = wit_stream::new::<u8>();
    let _ = from.read(Vec::with_capacity(1)).await;
    drop(to);
}

/// Waits again and again.
pub(crate) async fn forever() {
    loop {
        wait_for(1).await;
    }
}

/// Makes streams and keeps them.
pub(crate) fn hoard() {
    let mut kept = Vec::new();
    loop {
        kept.push(wit_stream::new::<u8>());
    }
}

/// Nothing of the network can be had.
pub(crate) async fn sockets() {
    for family in [IpAddressFamily::Ipv4, IpAddressFamily::Ipv6] {
        match TcpSocket::create(family) {
            Ok(socket) => use_tcp(&socket).await,
            Err(code) => same("tcp", code, ErrorCode::AccessDenied).await,
        }
        match UdpSocket::create(family) {
            Ok(socket) => use_udp(&socket).await,
            Err(code) => same("udp", code, ErrorCode::AccessDenied).await,
        }
    }
    let names = resolve_addresses("example.com".to_owned()).await;
    same("a name", names, Err(ip_name_lookup::ErrorCode::AccessDenied)).await;
    say("refused").await;
}

const NOWHERE: IpSocketAddress =
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port: 1, address: (192, 0, 2, 1) });

/// Here so that its functions are imported.
async fn use_tcp(socket: &TcpSocket) {
    let (data, ended) = socket.receive();
    let sent = socket.send(data);
    let bound = socket.bind(NOWHERE).is_ok() && socket.listen().is_ok();
    let known = socket.get_local_address().is_ok() && socket.get_is_listening();
    let is_over = socket.connect(NOWHERE).await.is_ok() && ended.await.is_ok() && sent.await.is_ok();
    same("a socket that cannot be", bound || known || is_over, false).await;
}

/// As above.
async fn use_udp(socket: &UdpSocket) {
    let bound = socket.bind(NOWHERE).is_ok() && socket.disconnect().is_ok();
    let sent = socket.send(vec![1], Some(NOWHERE)).await.is_ok() && socket.receive().await.is_ok();
    same("a socket that cannot be", bound || sent, false).await;
}
