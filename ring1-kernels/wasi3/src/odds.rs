//! Random numbers, and ways to end.

use crate::bindings::wasi::cli::{environment, exit};
use crate::bindings::wasi::clocks::monotonic_clock::wait_for;
use crate::bindings::wasi::random::{insecure, insecure_seed, random};
use crate::bindings::wasi::sockets::ip_name_lookup::{self, resolve_addresses};
use crate::bindings::wasi::sockets::types::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket,
};
use crate::bindings::wit_stream;
use crate::case::{same, say, wrong};

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

/// Nothing of the network can be had: sockets are made, and nothing can be done with them.
pub(crate) async fn sockets() {
    match TcpSocket::create(IpAddressFamily::Ipv4) {
        Ok(socket) => use_tcp(&socket).await,
        Err(code) => wrong(&format!("no tcp: {code:?}")).await,
    }
    match UdpSocket::create(IpAddressFamily::Ipv4) {
        Ok(socket) => use_udp(&socket).await,
        Err(code) => wrong(&format!("no udp: {code:?}")).await,
    }
    let names = resolve_addresses("example.com".to_owned()).await;
    same("a name", names, Err(ip_name_lookup::ErrorCode::AccessDenied)).await;
    say("refused").await;
}

const NOWHERE: IpSocketAddress =
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port: 1, address: (192, 0, 2, 1) });

const DENIED: Result<(), ErrorCode> = Err(ErrorCode::AccessDenied);
const EARLY: Result<(), ErrorCode> = Err(ErrorCode::InvalidState);

async fn use_tcp(socket: &TcpSocket) {
    let (data, ended) = socket.receive();
    same("receive", ended.await, EARLY).await;
    same("send", socket.send(data).await, EARLY).await;
    same("bind", socket.bind(NOWHERE), DENIED).await;
    same("listen", socket.listen().map(drop), DENIED).await;
    same("connect", socket.connect(NOWHERE).await, DENIED).await;
    same("address", socket.get_local_address().map(drop), EARLY).await;
    same("peer", socket.get_remote_address().map(drop), EARLY).await;
    same("listening", socket.get_is_listening(), false).await;
    same("family", socket.get_address_family(), IpAddressFamily::Ipv4).await;
    same("hops", (socket.set_hop_limit(9), socket.get_hop_limit()), (Ok(()), Ok(9))).await;
    same("hops", socket.set_hop_limit(0), Err(ErrorCode::InvalidArgument)).await;
    same("keep", (socket.set_keep_alive_enabled(true), socket.get_keep_alive_enabled()), (Ok(()), Ok(true)))
        .await;
}

async fn use_udp(socket: &UdpSocket) {
    same("receive", socket.receive().await.map(drop), EARLY).await;
    same("disconnect", socket.disconnect(), EARLY).await;
    same("bind", socket.bind(NOWHERE), DENIED).await;
    same("connect", socket.connect(NOWHERE), DENIED).await;
    same("send", socket.send(vec![1], Some(NOWHERE)).await, DENIED).await;
    let none = socket.send(vec![1], None).await;
    same("to nobody", none, Err(ErrorCode::InvalidArgument)).await;
    let long = socket.send(vec![0; 65_536], Some(NOWHERE)).await;
    same("too long", long, Err(ErrorCode::DatagramTooLarge)).await;
}
