//! Kernel `probe`: uses the network, namespaces, configuration and logging of WASI 0.2 as tests ask it to.

#[allow(missing_docs, reason = "generated; the documentation is in the WIT")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit/probe", world: "vac:probe/probe", generate_all });
}

use std::fmt::Debug;

use bindings::wasi::clocks::monotonic_clock::subscribe_duration;
use bindings::wasi::http::outgoing_handler;
use bindings::wasi::http::types::{Fields, IncomingBody, Method, OutgoingBody, OutgoingRequest, Scheme};
use bindings::wasi::io::poll::poll;
use bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};
use bindings::wasi::keyvalue::store::{Bucket, open};
use bindings::wasi::keyvalue::{self};
use bindings::wasi::logging::logging::{Level, log};
use bindings::wasi::sockets::instance_network::instance_network;
use bindings::wasi::sockets::ip_name_lookup::resolve_addresses;
use bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use bindings::wasi::sockets::tcp::{ShutdownType, TcpSocket};
use bindings::wasi::sockets::tcp_create_socket::create_tcp_socket;
use bindings::wasi::sockets::udp::OutgoingDatagram;
use bindings::wasi::sockets::udp_create_socket::create_udp_socket;
use bindings::{Request, Response};

struct Probe;

type Ip = (u8, u8, u8, u8);

fn text(error: impl Debug) -> String {
    format!("{error:?}")
}

fn at(address: Ip, port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address })
}

fn method(word: &str) -> Method {
    match word {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        other => Method::Other(other.to_owned()),
    }
}

fn write_all(to: &OutputStream, bytes: &[u8]) -> Result<(), String> {
    bytes.chunks(4096).try_for_each(|chunk| to.blocking_write_and_flush(chunk).map_err(text))
}

fn read_all(from: &InputStream) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    loop {
        match from.blocking_read(1 << 16) {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(StreamError::Closed) => return Ok(all),
            Err(error) => return Err(text(error)),
        }
    }
}

/// Writes the body, with a trailer of the name that a header `trailer` announces.
fn write_body(body: OutgoingBody, request: &Request) -> Result<(), String> {
    let stream = body.write().map_err(text)?;
    write_all(&stream, request.body.as_deref().unwrap_or_default().as_bytes())?;
    drop(stream);
    let announced = request.headers.iter().find(|(name, _)| name == "trailer");
    let trailers = announced.map(|(_, name)| Fields::from_list(&[(name.clone(), b"the end".to_vec())]));
    OutgoingBody::finish(body, trailers.transpose().map_err(text)?).map_err(text)
}

/// Ends a body and gives its trailers.
fn trailers_of(body: IncomingBody) -> Result<Vec<(String, Vec<u8>)>, String> {
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    let trailers = trailers.get().ok_or("not ready")?.map_err(text)?.map_err(text)?;
    Ok(trailers.map_or_else(Vec::new, |fields| fields.entries()))
}

fn connect(ip: Ip, port: u16) -> Result<(TcpSocket, InputStream, OutputStream), String> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(text)?;
    socket.start_connect(&instance_network(), at(ip, port)).map_err(text)?;
    loop {
        match socket.finish_connect() {
            Ok((input, output)) => return Ok((socket, input, output)),
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            Err(error) => return Err(text(error)),
        }
    }
}

fn bucket(name: &str) -> Result<Bucket, String> {
    open(name).map_err(text)
}

impl bindings::Guest for Probe {
    fn send(request: Request) -> Result<Response, String> {
        let headers = request.headers.iter().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
        let headers: Vec<_> = headers.collect();
        let outgoing = OutgoingRequest::new(Fields::from_list(&headers).map_err(text)?);
        let scheme = if request.is_https { Scheme::Https } else { Scheme::Http };
        outgoing.set_method(&method(&request.method)).map_err(text)?;
        outgoing.set_scheme(Some(&scheme)).map_err(text)?;
        outgoing.set_authority(Some(&request.authority)).map_err(text)?;
        outgoing.set_path_with_query(Some(&request.path)).map_err(text)?;
        let mut body = match &request.body {
            Some(_) => Some(outgoing.body().map_err(text)?),
            None => None,
        };
        if request.is_body_first
            && let Some(body) = body.take()
        {
            write_body(body, &request)?;
        }
        let future = outgoing_handler::handle(outgoing, None).map_err(text)?;
        if let Some(body) = body.take() {
            // It is sent whole, so there is no answer before.
            if future.subscribe().ready() || future.get().is_some() {
                return Err("answered before it was sent".to_owned());
            }
            write_body(body, &request)?;
        }
        future.subscribe().block();
        let response = future.get().ok_or("not ready")?.map_err(text)?.map_err(text)?;
        let (status, headers) = (response.status(), response.headers().entries());
        let incoming = response.consume().map_err(text)?;
        let stream = incoming.stream().map_err(text)?;
        let body = read_all(&stream)?;
        drop(stream);
        let trailers = trailers_of(incoming)?;
        let lossy = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let headers = headers.into_iter().chain(trailers).map(|(k, v)| (k, lossy(v))).collect();
        Ok(Response { status, headers, body: lossy(body) })
    }

    fn resolve(name: String) -> Result<Vec<String>, String> {
        let stream = resolve_addresses(&instance_network(), &name).map_err(text)?;
        let mut found = Vec::new();
        while let Some(ip) = stream.resolve_next_address().map_err(text)? {
            found.push(text(ip));
        }
        Ok(found)
    }

    fn tcp(ip: Ip, port: u16, said: String) -> Result<String, String> {
        let (socket, input, output) = connect(ip, port)?;
        write_all(&output, said.as_bytes())?;
        socket.shutdown(ShutdownType::Send).map_err(text)?;
        read_all(&input).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn echo_once(port: u16) -> Result<String, String> {
        let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(text)?;
        socket.start_bind(&instance_network(), at((127, 0, 0, 1), port)).map_err(text)?;
        socket.finish_bind().map_err(text)?;
        socket.start_listen().map_err(text)?;
        socket.finish_listen().map_err(text)?;
        socket.subscribe().block();
        let (_connection, input, output) = socket.accept().map_err(text)?;
        let heard = read_all(&input)?;
        write_all(&output, &heard)?;
        Ok(String::from_utf8_lossy(&heard).into_owned())
    }

    fn udp(ip: Ip, port: u16, said: String) -> Result<String, String> {
        let socket = create_udp_socket(IpAddressFamily::Ipv4).map_err(text)?;
        socket.start_bind(&instance_network(), at((0, 0, 0, 0), 0)).map_err(text)?;
        socket.finish_bind().map_err(text)?;
        let (input, output) = socket.stream(Some(at(ip, port))).map_err(text)?;
        output.check_send().map_err(text)?;
        let datagram = OutgoingDatagram { data: said.into_bytes(), remote_address: None };
        output.send(&[datagram]).map_err(text)?;
        input.subscribe().block();
        let heard = input.receive(1).map_err(text)?;
        let heard = heard.into_iter().next().ok_or("nothing came")?;
        Ok(String::from_utf8_lossy(&heard.data).into_owned())
    }

    fn tcp_wait(ip: Ip, port: u16, limit_ns: u64) -> Result<bool, String> {
        let (_socket, input, _output) = connect(ip, port)?;
        let (ready, late) = (input.subscribe(), subscribe_duration(limit_ns));
        Ok(poll(&[&ready, &late]).contains(&0))
    }

    fn kv_set(name: String, pairs: Vec<(String, String)>) -> Result<(), String> {
        let bucket = bucket(&name)?;
        pairs.iter().try_for_each(|(key, value)| bucket.set(key, value.as_bytes()).map_err(text))
    }

    fn kv_get(name: String, key: String) -> Result<Option<String>, String> {
        let got = bucket(&name)?.get(&key).map_err(text)?;
        Ok(got.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn kv_keys(name: String) -> Result<Vec<String>, String> {
        Ok(bucket(&name)?.list_keys(None).map_err(text)?.keys)
    }

    fn kv_many(name: String, key: String, count: u32) -> Result<u32, String> {
        let keys = vec![key; count as usize];
        let got = keyvalue::batch::get_many(&bucket(&name)?, &keys).map_err(text)?;
        Ok(got.iter().flatten().count() as u32)
    }

    fn kv_add(name: String, key: String, delta: u64) -> Result<u64, String> {
        keyvalue::atomics::increment(&bucket(&name)?, &key, delta).map_err(text)
    }

    fn config() -> Vec<(String, String)> {
        bindings::wasi::config::store::get_all().unwrap_or_default()
    }

    fn log(context: String, message: String) {
        log(Level::Warn, &context, &message);
    }
}

bindings::export!(Probe with_types_in bindings);
