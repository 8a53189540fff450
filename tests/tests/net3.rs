//! The network of WASI 0.3, through kernel `wasi3`: granted, refused, recorded, and replayed when whoever answered
//! is gone. Servers are on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::network::{ok, server, written};
use crate::support::{Ran, Sandbox, repository, text};

pub(crate) fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("k.wasm", std::fs::read(repository().join("ring1-kernels/prebuilt/wasi3.wasm")).unwrap());
    sandbox
}

fn typed<'a>(grants: &[&'a str], args: &[&'a str]) -> Vec<&'a str> {
    let grants = grants.iter().flat_map(|grant| ["--grant", grant]);
    ["run", "k.wasm"].into_iter().chain(grants).chain(["--"]).chain(args.iter().copied()).collect()
}

fn case(sandbox: &Sandbox, grants: &[&str], args: &[&str]) -> Ran {
    sandbox.vac(&typed(grants, args))
}

fn replays(sandbox: &Sandbox) {
    let replayed = sandbox.json(&["replay", "last"]);
    assert_eq!(replayed["equal"], Value::Bool(true), "{replayed}");
    sandbox.vac(&["verify", "last"]).ok();
}

/// What was refused in the last run.
fn denied(sandbox: &Sandbox) -> Vec<String> {
    let log = sandbox.json(&["log", "last", "--denied"]);
    log["events"].as_array().unwrap().iter().map(|event| text(event, "denied").to_owned()).collect()
}

/// A port of this host and whoever listens on it.
pub(crate) fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

#[test]
fn a_connection_is_made_where_it_is_granted_and_replayed_without_its_peer() {
    let (listener, port) = listener();
    let sandbox = sandbox();
    let refused = case(&sandbox, &[], &["tcp", &port]).ok();
    assert_eq!(refused.out(), "connect ErrorCode::AccessDenied\n");
    assert_eq!(denied(&sandbox), [format!("tcp:127.0.0.1:{port}")]);
    replays(&sandbox);
    // A name or every public host is not this one.
    for other in ["tcp:*", "tcp:localhost", "tcp:127.0.0.1:1", "udp:127.0.0.1"] {
        let refused = case(&sandbox, &[other], &["tcp", &port]).ok();
        assert_eq!(refused.out(), "connect ErrorCode::AccessDenied\n", "{other}");
    }
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        stream.write_all(heard.to_uppercase().as_bytes()).unwrap();
    });
    let ran = case(&sandbox, &[&format!("tcp:127.0.0.1:{port}")], &["tcp", &port]).ok();
    assert_eq!(ran.out(), "sent Ok(()), got Ok(\"PING\"), end Ok(())\n", "{}", ran.stderr);
    served.join().unwrap();
    replays(&sandbox);
    // Nobody listens any more.
    let ran = case(&sandbox, &["tcp:127.0.0.1"], &["tcp", &port]).ok();
    assert_eq!(ran.out(), "connect ErrorCode::ConnectionRefused\n");
    replays(&sandbox);
}

/// Each of the two waits for what the other does later; a wait for an instant goes on beside them.
#[test]
fn a_guest_that_is_its_own_peer_waits_for_both_and_for_time() {
    let sandbox = sandbox();
    let grants = ["tcp:listen=127.0.0.1", "tcp:127.0.0.1"];
    let ran = case(&sandbox, &grants, &["pair"]).ok();
    assert_eq!(ran.out(), "served 5, got Ok(\"round\"), over true\n", "{}", ran.stderr);
    replays(&sandbox);
    let refused = case(&sandbox, &["tcp:127.0.0.1"], &["pair"]).ok();
    assert_eq!(refused.out(), "bind ErrorCode::AccessDenied\n");
    assert_eq!(denied(&sandbox), ["tcp:listen=127.0.0.1:0"]);
}

#[test]
fn a_socket_that_listens_gives_its_options_and_its_port() {
    let sandbox = sandbox();
    let ran = case(&sandbox, &["tcp:listen=127.0.0.1", "tcp:127.0.0.1"], &["listens"]).ok();
    assert_eq!(ran.out(), "all is as it should be\n", "{}", ran.stderr);
    replays(&sandbox);
}

#[test]
fn datagrams_and_names_are_recorded_and_replayed() {
    let sandbox = sandbox();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let refused = case(&sandbox, &["tcp:127.0.0.1"], &["udp", &port]).ok();
    assert_eq!(refused.out(), "send ErrorCode::AccessDenied\n");
    assert_eq!(denied(&sandbox), [format!("udp:127.0.0.1:{port}")]);
    let served = std::thread::spawn(move || {
        let mut buffer = [0; 64];
        let (n, from) = socket.recv_from(&mut buffer).unwrap();
        // Somebody else's is no answer.
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        other.send_to(b"forged", from).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        buffer[..n].make_ascii_uppercase();
        socket.send_to(&buffer[..n], from).unwrap();
    });
    let ran = case(&sandbox, &[&format!("udp:127.0.0.1:{port}")], &["udp", &port]).ok();
    assert_eq!(ran.out(), "got Ok((Ok(\"PING\"), true))\n", "{}", ran.stderr);
    served.join().unwrap();
    replays(&sandbox);

    let ran = case(&sandbox, &["tcp:localhost", "net:127.0.0.1"], &["names", "localhost"]).ok();
    assert!(ran.out().contains("IpAddress::Ipv4((127, 0, 0, 1))"), "{}", ran.out());
    replays(&sandbox);
    for grants in [&["tcp:localhost"][..], &["tcp:example.com"], &[]] {
        let ran = case(&sandbox, grants, &["names", "localhost"]).ok();
        assert_eq!(ran.out(), "Err(ErrorCode::AccessDenied)\n", "{grants:?}");
    }
}

#[test]
fn a_grant_that_is_taken_back_while_it_runs_is_an_error_that_the_guest_sees() {
    let sandbox = sandbox();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let grant = format!("udp:127.0.0.1:{port}");
    let mut command = sandbox.command(&typed(&[&grant, "stdin"], &["again", &port]));
    let mut run =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(run.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "sent Ok(())\n");
    // The ledger says a moment later what can be taken back.
    let revoked = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        sandbox.vac(&["revoke", "last", "0"]).code() == 0
    });
    assert!(revoked);
    std::thread::sleep(Duration::from_millis(300));
    run.stdin.take().unwrap().write_all(b"\n\n").unwrap();
    line.clear();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "sent Err(ErrorCode::AccessDenied)\n");
    assert!(run.wait().unwrap().success());
    replays(&sandbox);
}

/// Answers one request that has trailers, with some of its own; the request as it came.
fn with_trailers(listener: TcpListener) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while !bytes.ends_with(b"x-sum: 1\r\n\r\n") {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..n]);
    }
    let head = "HTTP/1.1 100 \r\n\r\nHTTP/1.1 201 X\r\nx-kept: a\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"2\r\nhe\r\n3;x\r\nllo\r\n0\r\nx-end: z\r\n\r\n").unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_request_goes_out_whole_with_its_trailers_and_its_response_is_replayed() {
    let (listener, port) = listener();
    let sandbox = sandbox();
    let authority = format!("127.0.0.1:{port}");
    let fetch = ["fetch", "POST", &authority, "/p?q=1", "the body"];
    let refused = case(&sandbox, &["http:*:*", "http:GET=127.0.0.1:*"], &fetch).ok();
    let code = "ErrorCode::HttpRequestDenied";
    assert_eq!(refused.out(), format!("failed {code}\nsent Err({code})\n"));
    assert_eq!(denied(&sandbox), [format!("http:POST={authority}")]);
    replays(&sandbox);

    let served = std::thread::spawn(move || with_trailers(listener));
    let ran = case(&sandbox, &[&format!("http:POST=127.0.0.1:{port}")], &fetch).ok();
    let trailers = "Ok(Some([(\"x-end\", [122])]))";
    let expected = format!("status 201 [\"a\"] Ok(\"hello\") {trailers}\nsent Ok(())\n");
    assert_eq!(ran.out(), expected, "{}", ran.stderr);
    let sent = served.join().unwrap();
    assert!(sent.starts_with(&format!("POST /p?q=1 HTTP/1.1\r\nhost: {authority}\r\n")), "{sent}");
    assert!(
        sent.contains("x-kernel: wasi3\r\n") && sent.contains("transfer-encoding: chunked\r\n"),
        "{sent}"
    );
    assert!(sent.ends_with("\r\n\r\n8\r\nthe body\r\n0\r\nx-sum: 1\r\n\r\n"), "{sent}");
    let log = sandbox.json(&["log", "last", "--class", "effect"]).to_string();
    assert!(log.contains(&format!("http://{authority}/p?q=1")), "{log}");
    replays(&sandbox);

    // Nobody listens any more.
    let ran = case(&sandbox, &["http:127.0.0.1:*"], &fetch).ok();
    let code = "ErrorCode::ConnectionRefused";
    assert_eq!(ran.out(), format!("failed {code}\nsent Err({code})\n"));
    replays(&sandbox);
}

/// In a program of WASI 0.3, from a file, in a path; the server repeats what it heard.
#[test]
fn a_secret_of_a_file_reaches_its_host_and_nothing_that_is_written() {
    const VALUE: &str = "hunter2-and-some-more";
    let sandbox = sandbox();
    sandbox.write("token", format!("{VALUE}\n"));
    let options = |host: &str, port: u16| {
        vec![
            "--grant".to_owned(),
            format!("http:127.0.0.1:{port}"),
            "--secret".to_owned(),
            format!("KEY=file:token@{host}"),
        ]
    };
    let run_with = |options: &[String], args: &[&str]| {
        let options = options.iter().map(String::as_str);
        let typed: Vec<&str> =
            ["run", "k.wasm"].into_iter().chain(options).chain(["--"]).chain(args.iter().copied()).collect();
        sandbox.vac(&typed).ok()
    };
    let (port, served) = server(2, |request| ok(&format!("you sent {request}")));
    let told = run_with(&options("127.0.0.1", port), &["hello"]);
    let (at, end) = (told.out().find("vac-secret-").unwrap(), |text: &str| text.find('"').unwrap());
    let placeholder = told.out()[at..].to_owned();
    let placeholder = &placeholder[..end(&placeholder)];
    let (authority, path) = (format!("127.0.0.1:{port}"), format!("/p?key={placeholder}"));
    let fetch = ["fetch", "GET", &authority, &path];
    let sent = run_with(&options("127.0.0.1", port), &fetch);
    assert!(sent.out().contains(&format!("/p?key={placeholder}")), "{}", sent.out());
    replays(&sandbox);
    let log = sandbox.vac(&["log", "last"]).ok();
    // Another host than its own gets the placeholder.
    let other = run_with(&options("example.com", port), &fetch);
    let requests = served.join().unwrap();
    assert!(requests[0].starts_with(&format!("GET /p?key={VALUE} ")), "{}", requests[0]);
    assert!(requests[1].contains(placeholder) && !requests[1].contains(VALUE));
    let all = written(&sandbox, &[&told, &sent, &log, &other]);
    assert!(!all.windows(VALUE.len()).any(|part| part == VALUE.as_bytes()), "the secret was written");
}

#[test]
fn a_redirect_is_an_answer_and_a_name_opens_no_private_address() {
    let sandbox = sandbox();
    let (port, served) =
        server(2, |_| "HTTP/1.1 302 X\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n".into());
    let authority = format!("127.0.0.1:{port}");
    let ran = case(&sandbox, &["http:127.0.0.1:*"], &["fetch", "GET", &authority, "/"]).ok();
    assert_eq!(ran.out(), "status 302 [] Ok(\"\") Ok(None)\nsent Ok(())\n");
    replays(&sandbox);
    let by_name = format!("localhost:{port}");
    let fetch = ["fetch", "GET", &by_name, "/"];
    let ran = case(&sandbox, &["http:localhost:*"], &fetch).ok();
    assert!(ran.out().starts_with("failed ErrorCode::DestinationIpProhibited\n"), "{}", ran.out());
    assert!(denied(&sandbox)[0].starts_with("net:"), "{:?}", denied(&sandbox));
    replays(&sandbox);
    let ran = case(&sandbox, &["http:localhost:*", "net:127.0.0.1"], &fetch).ok();
    assert!(ran.out().starts_with("status 302"), "{}", ran.out());
    served.join().unwrap();
    // What is no HTTP is no response.
    let (port, served) =
        server(1, |_| ok("x").replace("content-length: 1", "content-length: 1\r\ncontent-length: 2"));
    let ran =
        case(&sandbox, &["http:127.0.0.1:*"], &["fetch", "GET", &format!("127.0.0.1:{port}"), "/"]).ok();
    assert!(ran.out().starts_with("failed ErrorCode::HttpProtocolError\n"), "{}", ran.out());
    served.join().unwrap();
    replays(&sandbox);
}

/// A process that does not outlive its test, also if that fails.
pub(crate) struct Serving(Child);

impl std::ops::Deref for Serving {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Serving {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A service that was started, and where.
pub(crate) fn serving(sandbox: &Sandbox, options: &[&str]) -> (Serving, SocketAddr) {
    let args = [&["--quiet", "serve", "k.wasm", "--addr", "127.0.0.1:0"], options].concat();
    let mut child = Serving(sandbox.command(&args).stderr(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    let at = line.trim().strip_prefix("Serving HTTP on http://").unwrap_or_else(|| panic!("{line}"));
    let at = at.parse().unwrap();
    (child, at)
}

/// What the service answers to these bytes.
pub(crate) fn ask(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub(crate) fn interrupt(child: &mut Child) -> Option<i32> {
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    child.wait().unwrap().code()
}

#[test]
fn a_service_answers_until_an_interrupt_and_its_run_is_replayed() {
    let sandbox = sandbox();
    let (mut child, at) = serving(&sandbox, &[]);
    let answer = ask(at, "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 200 \r\n") && answer.contains("content-type: text/plain\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n0 Method::Get /  None"), "{answer}");
    let chunked =
        "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n";
    let answer = ask(at, chunked);
    assert!(answer.starts_with("HTTP/1.1 404 \r\n"), "{answer}");
    assert!(answer.ends_with("1 Method::Post /a abc Some(1)"), "{answer}");
    assert!(ask(at, "GET /fall HTTP/1.1\r\nhost: h\r\n\r\n").starts_with("HTTP/1.1 500 \r\n"));
    let head = ask(at, "HEAD / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert!(head.contains("content-length: ") && head.ends_with("\r\n\r\n"), "{head}");
    // A length belongs to the body; only of an answer to `HEAD`, which has none, it is what the guest says.
    let head = ask(at, "HEAD /long HTTP/1.1\r\nhost: h\r\n\r\n");
    assert!(head.contains("\r\ncontent-length: 1000\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(head.matches("content-length").count(), 1, "{head}");
    assert!(ask(at, "GET /long HTTP/1.1\r\nhost: h\r\n\r\n").starts_with("HTTP/1.1 500 \r\n"));
    // What is no request, or two, never reaches the guest.
    for bad in [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET http:///a HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET ftp://h/ HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET a HTTP/1.1\r\nhost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 99999999999\r\n\r\n",
    ] {
        let answer = ask(at, bad);
        assert!(answer.starts_with("HTTP/1.1 4"), "{bad}: {answer}");
    }
    assert_eq!(ask(at, "GET / HTTP"), "", "nothing whole came");
    assert!(ask(at, "GET / HTTP/1.1\r\n\r\n").contains("6 Method::Get"), "the guest saw no other");
    assert_eq!(interrupt(&mut child), Some(0));
    let log = sandbox.json(&["log", "last", "--name", "wasi:http/handler#[reply]handle"]);
    assert_eq!(log["found"], 7, "{log}");
    replays(&sandbox);
}

#[test]
fn a_service_has_what_is_granted_and_only_a_service_can_be_served() {
    let sandbox = sandbox();
    let (mut child, at) = serving(&sandbox, &["--limit", "calls=40"]);
    // It ends in the midst of an answer, and whoever asked gets none.
    while !ask(at, "GET / HTTP/1.1\r\nhost: h\r\n\r\n").is_empty() {}
    assert_eq!(child.wait().unwrap().code(), Some(4));
    replays(&sandbox);
    let shown = sandbox.vac(&["inspect", "k.wasm"]).ok().out();
    assert!(shown.contains("serve  vac serve k.wasm\n"), "{shown}");
    let command = repository().join("ring1-kernels/prebuilt/probe.wasm").display().to_string();
    sandbox.vac(&["serve", &command]).fails(2, &["is no service", "wasi:http/handler"]);
    let (_taken, port) = listener();
    sandbox.vac(&["serve", "k.wasm", "--addr", &format!("127.0.0.1:{port}")]).fails(1, &["listen on"]);
}
