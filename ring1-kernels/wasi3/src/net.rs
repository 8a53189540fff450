//! The network where it is granted: what comes back is said, so that the test and a replay can compare it.

use crate::bindings::wasi::cli::environment;
use crate::bindings::wasi::clocks::monotonic_clock::wait_for;
use crate::bindings::wasi::http::client;
use crate::bindings::wasi::http::types::{ErrorCode as HttpError, Fields, Method, Request, Response, Scheme};
use crate::bindings::wasi::sockets::ip_name_lookup::resolve_addresses;
use crate::bindings::wasi::sockets::types::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket,
};
use crate::bindings::{wit_future, wit_stream};
use crate::case::{both, first, same, say};

const MS: u64 = 1_000_000;

/// The argument with this number, after the name of the case.
fn arg(number: usize) -> String {
    environment::get_arguments().get(number + 1).cloned().unwrap_or_default()
}

/// Port `port` of this host.
fn here(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) })
}

/// The port that an argument names.
fn port() -> u16 {
    arg(1).parse().unwrap_or_default()
}

fn port_of(address: Result<IpSocketAddress, ErrorCode>) -> u16 {
    match address {
        Ok(IpSocketAddress::Ipv4(at)) => at.port,
        _ => 0,
    }
}

async fn write(socket: &TcpSocket, text: &str) -> Result<(), ErrorCode> {
    let (mut to, from) = wit_stream::new();
    let sent = socket.send(from);
    let put = async {
        to.write_all(text.as_bytes().to_vec()).await;
        drop(to);
    };
    both(sent, put).await.0
}

/// Sends to a server and says what it answers, until it closes.
pub(crate) async fn tcp() {
    let Ok(socket) = TcpSocket::create(IpAddressFamily::Ipv4) else { return say("no socket").await };
    if let Err(code) = socket.connect(here(port())).await {
        return say(&format!("connect {code:?}")).await;
    }
    let (from, ended) = socket.receive();
    let (sent, answer) = both(write(&socket, "ping"), async { from.collect().await }).await;
    say(&format!("sent {sent:?}, got {:?}, end {:?}", String::from_utf8(answer), ended.await)).await;
    same("once", socket.receive().1.await, Err(ErrorCode::InvalidState)).await;
}

/// A server and its client at once: what each waits for is what the other does later.
pub(crate) async fn pair() {
    let Ok(listener) = TcpSocket::create(IpAddressFamily::Ipv4) else { return say("no socket").await };
    if let Err(code) = listener.bind(here(0)) {
        return say(&format!("bind {code:?}")).await;
    }
    let Ok(mut connections) = listener.listen() else { return say("no listening").await };
    let at = port_of(listener.get_local_address());
    let serve = async {
        let Some(connection) = connections.next().await else { return 0 };
        let (from, _) = connection.receive();
        let got = from.collect().await;
        same("echo", write(&connection, &String::from_utf8_lossy(&got)).await, Ok(())).await;
        got.len()
    };
    let ask = async {
        let Ok(socket) = TcpSocket::create(IpAddressFamily::Ipv4) else { return Vec::new() };
        wait_for(5 * MS).await;
        same("connect", socket.connect(here(at)).await, Ok(())).await;
        let (from, _) = socket.receive();
        wait_for(5 * MS).await;
        same("written", write(&socket, "round").await, Ok(())).await;
        from.collect().await
    };
    let (served, got) = both(serve, ask).await;
    // Nobody comes any more, so that the wait is over first.
    let is_over = first(wait_for(20 * MS), async { drop(connections.next().await) }).await;
    say(&format!("served {served}, got {:?}, over {is_over}", String::from_utf8(got))).await;
}

/// What is set while a socket listens is what later connections have; a read of nothing waits until there is something; and
/// when all is closed the port can be had again, though the connection was closed from this side.
pub(crate) async fn listens() {
    let Ok(listener) = TcpSocket::create(IpAddressFamily::Ipv4) else { return say("no socket").await };
    same("bind", listener.bind(here(0)), Ok(())).await;
    let Ok(mut connections) = listener.listen() else { return say("no listening").await };
    same("set", listener.set_hop_limit(7), Ok(())).await;
    let at = port_of(listener.get_local_address());
    let Ok(client) = TcpSocket::create(IpAddressFamily::Ipv4) else { return say("no socket").await };
    let (connected, connection) = both(client.connect(here(at)), connections.next()).await;
    same("connect", connected, Ok(())).await;
    let Some(connection) = connection else { return say("no connection").await };
    same("hops", connection.get_hop_limit(), Ok(7)).await;
    let (mut from, _) = connection.receive();
    let is_early = first(wait_for(20 * MS), async { drop(from.read(Vec::new()).await) }).await;
    same("nothing has come", is_early, true).await;
    let ready = async { first(wait_for(10_000 * MS), async { drop(from.read(Vec::new()).await) }).await };
    let (is_late, sent) = both(ready, write(&client, "ping")).await;
    same("something has come", (is_late, sent), (false, Ok(()))).await;
    same("it", from.collect().await, b"ping".to_vec()).await;
    same("answer", write(&connection, "pong").await, Ok(())).await;
    drop((connection, connections, listener));
    same("answered", client.receive().0.collect().await, b"pong".to_vec()).await;
    drop(client);
    let Ok(again) = TcpSocket::create(IpAddressFamily::Ipv4) else { return say("no socket").await };
    same("bind again", again.bind(here(at)), Ok(())).await;
    say("all is as it should be").await;
}

/// Exchanges datagrams with a peer.
pub(crate) async fn udp() {
    let Ok(socket) = UdpSocket::create(IpAddressFamily::Ipv4) else { return say("no socket").await };
    if let Err(code) = socket.send(b"ping".to_vec(), Some(here(port()))).await {
        return say(&format!("send {code:?}")).await;
    }
    let answer =
        socket.receive().await.map(|(data, from)| (String::from_utf8(data), port_of(Ok(from)) == port()));
    say(&format!("got {answer:?}")).await;
}

/// Looks a name up.
pub(crate) async fn names() {
    say(&format!("{:?}", resolve_addresses(arg(1)).await)).await;
}

/// Sends as often as it is told, and says each time how that went; takes a line of input in between.
pub(crate) async fn again() {
    let Ok(socket) = UdpSocket::create(IpAddressFamily::Ipv4) else { return say("no socket").await };
    for _ in 0..2 {
        let sent = socket.send(b"ping".to_vec(), Some(here(port()))).await;
        say(&format!("sent {sent:?}")).await;
        crate::stdio::line().await;
    }
}

/// A request with a body and trailers: method, authority, path and body are arguments.
pub(crate) async fn fetch() {
    let (method, authority, path, body) = (arg(1), arg(2), arg(3), arg(4));
    let headers = Fields::new();
    same("header", headers.append("x-kernel", b"wasi3"), Ok(())).await;
    let (mut to, contents) = wit_stream::new();
    let (trailers_to, trailers) = wit_future::new(|| Ok(None));
    let has_body = !body.is_empty();
    let (request, sent) = Request::new(headers, has_body.then_some(contents), trailers, None);
    let is_set = request.set_method(&Method::Other(method)).is_ok()
        && request.set_scheme(Some(&Scheme::Http)).is_ok()
        && request.set_authority(Some(&authority)).is_ok()
        && request.set_path_with_query(Some(&path)).is_ok();
    same("a request", is_set, true).await;
    let write = async {
        to.write_all(body.into_bytes()).await;
        drop(to);
        let fields = Fields::new();
        same("trailer", fields.append("x-sum", b"1"), Ok(())).await;
        let _ = trailers_to.write(Ok(has_body.then_some(fields))).await;
    };
    let (answer, ()) = both(client::send(request), write).await;
    match answer {
        Ok(response) => said(response).await,
        Err(code) => say(&format!("failed {code:?}")).await,
    }
    say(&format!("sent {:?}", sent.await)).await;
}

async fn said(response: Response) {
    let status = response.get_status_code();
    let kept = response.get_headers().get("x-kept");
    let (_, done) = wit_future::new(|| Ok(()));
    let (contents, trailers) = Response::consume_body(response, done);
    let body = String::from_utf8(contents.collect().await);
    let trailers: Result<_, HttpError> = trailers.await.map(|fields| fields.map(|fields| fields.copy_all()));
    let kept: Vec<_> = kept.iter().map(|value| String::from_utf8_lossy(value)).collect();
    say(&format!("status {status} {kept:?} {body:?} {trailers:?}")).await;
}

/// Answers a request from outside: what came, and how many came before.
pub(crate) async fn answer(request: Request) -> Result<Response, HttpError> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let (method, path) = (request.get_method(), request.get_path_with_query().unwrap_or_default());
    if path == "/fall" {
        return Err(HttpError::LoopDetected);
    }
    let (_, done) = wit_future::new(|| Ok(()));
    let (contents, trailers) = Request::consume_body(request, done);
    let body = contents.collect().await;
    let trailers = trailers.await?.map(|fields| fields.copy_all().len());
    let is_empty = matches!(method, Method::Head) && path == "/long";
    let text = format!("{count} {method:?} {path} {} {trailers:?}", String::from_utf8_lossy(&body));
    let headers = Fields::new();
    let _ = headers.append("content-type", b"text/plain");
    // What another method would have been answered, or so it says.
    if path == "/long" {
        let _ = headers.append("content-length", b"1000");
    }
    let (mut to, contents) = wit_stream::new();
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    wit_bindgen::spawn_local(async move {
        to.write_all(if is_empty { Vec::new() } else { text.into_bytes() }).await;
    });
    let (response, _) = Response::new(headers, Some(contents), no_trailers);
    let _ = response.set_status_code(if path == "/" { 200 } else { 404 });
    Ok(response)
}
