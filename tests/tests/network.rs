//! The network, namespaces, configuration, logging and secrets, through kernel `probe`. Servers are on
//! loopback, which is a private network: it needs grants that say so.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::support::{Ran, Sandbox, repository, run, text};

const VALUE: &str = "hunter2-hunter2-hunter2";

pub(crate) fn probe() -> String {
    repository().join("ring1-kernels/prebuilt/probe.wasm").display().to_string()
}

/// Calls the probe with options before the call.
fn call(sandbox: &Sandbox, call: &str, options: &[&str]) -> Ran {
    sandbox.vac(&[&["--json", "call", &probe(), call], options].concat())
}

/// The result, and what was denied.
fn result(ran: &Ran) -> (String, Vec<String>) {
    let json = ran.json();
    let denied = json["denied"].as_array().unwrap().iter().map(|d| d.as_str().unwrap().to_owned());
    (json["result"].as_str().unwrap_or_default().to_owned(), denied.collect())
}

/// Replays the last run and verifies it, when whoever answered it is gone.
fn replays(sandbox: &Sandbox) {
    let replayed = sandbox.json(&["replay", "last"]);
    assert_eq!(replayed["equal"], Value::Bool(true), "{replayed}");
    sandbox.vac(&["verify", "last"]).ok();
}

/// A server that answers `answers` connections with what `answer` makes of the request, and gives the requests.
pub(crate) fn server(
    answers: usize,
    answer: impl Fn(&str) -> String + Send + 'static,
) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        (0..answers)
            .map(|_| {
                let (mut stream, _) = listener.accept().unwrap();
                let request = read_request(&mut stream);
                stream.write_all(answer(&request).as_bytes()).unwrap();
                request
            })
            .collect()
    });
    (port, served)
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..n]);
        let so_far = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = so_far.split_once("\r\n\r\n") {
            let len = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse().ok());
            let is_over = match len {
                Some(len) => body.len() >= len,
                None if head.contains("trailer: ") => body.ends_with("the end\r\n\r\n"),
                None => !head.contains("transfer-encoding: chunked") || body.ends_with("0\r\n\r\n"),
            };
            if is_over || n == 0 {
                return String::from_utf8(bytes).unwrap();
            }
        }
    }
}

pub(crate) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nx-kind: test\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn request(method: &str, authority: &str, headers: &str, body: &str) -> String {
    format!(
        "send({{method: \"{method}\", is-https: false, authority: \"{authority}\", path: \"/p?q=1\", \
         headers: [{headers}], body: {body}, is-body-first: false}})"
    )
}

#[test]
fn nothing_of_the_network_is_reached_without_a_grant() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sandbox = Sandbox::new();
    let cases = [
        (
            request("GET", &format!("127.0.0.1:{port}"), "", "none"),
            "HttpRequestDenied",
            format!("http:GET=127.0.0.1:{port}"),
        ),
        (format!("tcp((127, 0, 0, 1), {port}, \"x\")"), "access-denied", format!("tcp:127.0.0.1:{port}")),
        (format!("udp((127, 0, 0, 1), {port}, \"x\")"), "access-denied", "udp:listen=0.0.0.0:0".into()),
        (format!("echo-once({port})"), "access-denied", format!("tcp:listen=127.0.0.1:{port}")),
        ("resolve(\"localhost\")".into(), "access-denied", "tcp:localhost".into()),
        ("kv-get(\"b\", \"k\")".into(), "NoSuchStore", "kv:rw=b".into()),
    ];
    for (typed, word, grant) in cases {
        let (result, denied) = result(&call(&sandbox, &typed, &[]).ok());
        assert!(result.starts_with("err(") && result.contains(word), "{typed}: {result}");
        assert_eq!(denied, [grant], "{typed}");
        let log = sandbox.json(&["log", "last", "--denied"]);
        assert_eq!(log["events"].as_array().unwrap().len(), 1, "{log}");
        replays(&sandbox);
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody connected");
}

#[test]
fn a_granted_request_is_sent_recorded_and_replayed() {
    let sandbox = Sandbox::new();
    for (is_first, method) in [("true", "POST"), ("false", "PATCH")] {
        let (port, served) = server(1, |_| ok("hello"));
        let grant = format!("http:127.0.0.1:{port}");
        let typed = request(method, &format!("127.0.0.1:{port}"), "(\"x-a\", \"b\")", "some(\"the body\")")
            .replace("is-body-first: false", &format!("is-body-first: {is_first}"));
        let (result, denied) = result(&call(&sandbox, &typed, &["--grant", &grant]).ok());
        assert!(result.contains("status: 200") && result.contains("body: \"hello\""), "{result}");
        assert_eq!(denied, [""; 0]);
        let sent = served.join().unwrap().remove(0);
        assert!(sent.starts_with(&format!("{method} /p?q=1 HTTP/1.1\r\n")), "{sent}");
        assert!(sent.ends_with("the body") && sent.to_ascii_lowercase().contains("x-a: b\r\n"), "{sent}");
        // What was sent stands in the log in full, not as the numbers of handles.
        let log = sandbox.json(&["log", "last", "--class", "effect"]).to_string();
        assert!(log.contains(&format!("http://127.0.0.1:{port}/p?q=1")), "{log}");
        replays(&sandbox);
    }
}

/// Both ways; and they are in the record.
#[test]
fn trailers_are_sent_and_come() {
    let sandbox = Sandbox::new();
    for is_first in ["true", "false"] {
        let (port, served) = server(1, |_| {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
             5\r\nhello\r\n0\r\nx-sum: 12ab\r\n\r\n"
                .to_owned()
        });
        let typed = request("PUT", &format!("127.0.0.1:{port}"), "(\"trailer\", \"x-end\")", "some(\"abc\")")
            .replace("is-body-first: false", &format!("is-body-first: {is_first}"));
        let grant = format!("http:127.0.0.1:{port}");
        let (result, _) = result(&call(&sandbox, &typed, &["--grant", &grant]).ok());
        assert!(result.contains("(\"x-sum\", \"12ab\")") && result.contains("body: \"hello\""), "{result}");
        let sent = served.join().unwrap().remove(0);
        assert!(sent.to_ascii_lowercase().ends_with("0\r\nx-end: the end\r\n\r\n"), "{sent}");
        let log = sandbox.json(&["log", "last", "--class", "effect"]).to_string();
        assert!(log.contains("x-end"), "{log}");
        replays(&sandbox);
    }
}

/// A certificate for `name`, signed by an authority of its own, whose certificate goes to a file.
fn authority(sandbox: &Sandbox, name: &str) -> rustls::ServerConfig {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let (key, own_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    sandbox.write("authority.pem", pem(authority.der()));
    let issuer = Issuer::new(params, key);
    let own = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&own_key, &issuer).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(own_key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    config.with_single_cert(vec![own.der().clone()], key.into()).unwrap()
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64(der))
}

/// HTTPS, to a server whose authority the operator trusts, and to one that nobody does.
#[test]
fn a_request_over_tls_goes_to_whom_the_machine_trusts_and_to_nobody_else() {
    let sandbox = Sandbox::new();
    let ask = |trusted: bool, name: &str| {
        let config = std::sync::Arc::new(authority(&sandbox, "localhost"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let tls = rustls::ServerConnection::new(config).unwrap();
            let mut tls = rustls::StreamOwned::new(tls, stream);
            let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
            while !request.ends_with(b"\r\n\r\n") {
                match tls.read(&mut buffer) {
                    Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
                    _ => return String::new(),
                }
            }
            let _ = tls.write_all(ok("over tls").as_bytes());
            tls.conn.send_close_notify();
            let _ = tls.flush();
            String::from_utf8(request).unwrap()
        });
        let typed = request("GET", &format!("{name}:{port}"), "(\"x-key\", \"@KEY\")", "none")
            .replace("is-https: false", "is-https: true");
        let args = ["--json", "call", &probe(), &typed, "--grant", "net:127.0.0.0/8", "--grant", "net:::1"];
        let grant = format!("http:{name}:{port}");
        let mut vac = sandbox.command(&[&args[..], &["--grant", &grant]].concat());
        if trusted {
            vac.env("SSL_CERT_FILE", sandbox.path("authority.pem"));
        }
        let out = vac.output().unwrap();
        let out = String::from_utf8(out.stdout).unwrap();
        // Nobody may be waiting any more.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        (out, served.join().unwrap())
    };
    let (out, asked) = ask(true, "localhost");
    assert!(out.contains("over tls") && asked.starts_with("GET /p?q=1 HTTP/1.1\r\n"), "{out} {asked}");
    replays(&sandbox);
    let (out, asked) = ask(false, "localhost");
    assert!(out.contains("TlsCertificateError") && asked.is_empty(), "{out} {asked}");
    replays(&sandbox);
    // The certificate is another's.
    let (out, asked) = ask(true, "127.0.0.1");
    assert!(out.contains("TlsCertificateError") && asked.is_empty(), "{out} {asked}");
    replays(&sandbox);
}

/// The guest's own mistake, which was mended in silence.
#[test]
fn a_length_that_is_not_that_of_the_body_is_refused() {
    let sandbox = Sandbox::new();
    for is_first in ["true", "false"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let headers = "(\"content-length\", \"4\")";
        let typed = request("PUT", &format!("127.0.0.1:{port}"), headers, "some(\"abc\")")
            .replace("is-body-first: false", &format!("is-body-first: {is_first}"));
        let grant = format!("http:127.0.0.1:{port}");
        let (result, _) = result(&call(&sandbox, &typed, &["--grant", &grant]).ok());
        assert!(result.starts_with("err(") && result.contains("HttpRequestBodySize"), "{result}");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "somebody connected");
        replays(&sandbox);
    }
}

#[test]
fn a_name_that_leads_into_a_private_network_is_refused_until_that_is_granted() {
    let sandbox = Sandbox::new();
    let (port, served) = server(1, |_| ok("in"));
    let typed = request("GET", &format!("localhost:{port}"), "", "none");
    let by_name = format!("http:localhost:{port}");
    let (refused, denied) = result(&call(&sandbox, &typed, &["--grant", &by_name]).ok());
    assert!(refused.contains("DestinationIpProhibited"), "{refused}");
    assert!(denied[0].starts_with("net:"), "{denied:?}");
    replays(&sandbox);
    let options = ["--grant", &by_name, "--grant", "net:127.0.0.0/8", "--grant", "net:::1"];
    let (allowed, _) = result(&call(&sandbox, &typed, &options).ok());
    assert!(allowed.contains("body: \"in\""), "{allowed}");
    served.join().unwrap();
    let resolved = |options: &[&str]| result(&call(&sandbox, "resolve(\"localhost\")", options).ok());
    assert!(resolved(&["--grant", "tcp:localhost"]).0.contains("access-denied"));
    assert!(resolved(&["--grant", "tcp:localhost", "--grant", "net:127.0.0.1"]).0.contains("127"));
    replays(&sandbox);
}

#[test]
fn a_redirect_is_an_answer_and_following_it_is_checked_again() {
    let secret = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let inner = secret.local_addr().unwrap().port();
    let (port, served) = server(1, move |_| {
        format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{inner}/\r\ncontent-length: 0\r\n\r\n")
    });
    let sandbox = Sandbox::new();
    let grant = format!("http:127.0.0.1:{port}");
    let typed = request("GET", &format!("127.0.0.1:{port}"), "", "none");
    let (answer, _) = result(&call(&sandbox, &typed, &["--grant", &grant]).ok());
    assert!(answer.contains("status: 302"), "{answer}");
    let typed = request("GET", &format!("127.0.0.1:{inner}"), "", "none");
    let (answer, _) = result(&call(&sandbox, &typed, &["--grant", &grant]).ok());
    assert!(answer.contains("HttpRequestDenied"), "{answer}");
    served.join().unwrap();
    secret.set_nonblocking(true).unwrap();
    assert!(secret.accept().is_err(), "the redirect was followed");
}

#[test]
fn a_method_or_port_that_is_not_granted_is_refused() {
    let sandbox = Sandbox::new();
    let typed = request("POST", "127.0.0.1:9", "", "none");
    let (answer, denied) = result(&call(&sandbox, &typed, &["--grant", "http:GET=127.0.0.1:9"]).ok());
    assert!(answer.contains("HttpRequestDenied"), "{answer}");
    assert_eq!(denied, ["http:POST=127.0.0.1:9"]);
    let (answer, _) = result(&call(&sandbox, &typed, &["--grant", "http:127.0.0.1"]).ok());
    assert!(answer.contains("HttpRequestDenied"), "{answer}");
}

#[test]
fn headers_that_would_forge_a_request_are_refused() {
    let sandbox = Sandbox::new();
    for header in [
        "(\"x\", \"a\\r\\nhost: evil\")",
        "(\"host\", \"evil\")",
        "(\"a b\", \"c\")",
        "(\"transfer-encoding\", \"x\")",
    ] {
        let typed = request("GET", "127.0.0.1:9", header, "none");
        let (answer, _) = result(&call(&sandbox, &typed, &["--grant", "http:*:*"]).ok());
        assert!(answer.contains("HeaderError"), "{header}: {answer}");
    }
    for authority in ["user@127.0.0.1:9", "127.0.0.1:9/x", "a b", "127.0.0.1:99999"] {
        let (answer, _) = result(&call(&sandbox, &request("GET", authority, "", "none"), &[]).ok());
        assert!(answer.starts_with("err("), "{authority}: {answer}");
    }
}

/// Every byte that VAC wrote: its home, and what it printed.
pub(crate) fn written(sandbox: &Sandbox, ran: &[&Ran]) -> Vec<u8> {
    let files = sandbox.home_files("").into_iter().flat_map(|file| std::fs::read(file).unwrap());
    files
        .chain(ran.iter().flat_map(|ran| [ran.stdout.clone(), ran.stderr.clone().into_bytes()].concat()))
        .collect()
}

#[test]
fn a_secret_reaches_its_host_and_nothing_that_is_written() {
    let sandbox = Sandbox::new();
    let (port, served) = server(2, |request| ok(&format!("you sent {request}")));
    let host = format!("127.0.0.1:{port}");
    let with_secret = |options: &[&str], typed: &str| {
        let mut command = sandbox.command(&[&["--json", "call", &probe(), typed], options].concat());
        command.env("TOKEN", VALUE);
        run(command)
    };
    let shown = with_secret(&["--secret", "KEY=env:TOKEN"], "config()").ok();
    let (config, _) = result(&shown);
    let placeholder = config.split('"').nth(3).unwrap().to_owned();
    assert!(placeholder.starts_with("vac-secret-"), "{config}");

    let header = format!("(\"authorization\", \"Bearer {placeholder}\")");
    let typed = request("POST", &host, &header, &format!("some(\"body {placeholder}\")"));
    let grant = format!("http:{host}");
    let sent = with_secret(&["--grant", &grant, "--secret", "KEY=env:TOKEN@127.0.0.1"], &typed).ok();
    let (answer, _) = result(&sent);
    assert!(
        answer.contains(&format!("Bearer {placeholder}")),
        "the answer repeats the placeholder: {answer}"
    );
    replays(&sandbox);

    // To another host than its own it goes as the placeholder.
    let other = with_secret(&["--grant", &grant, "--secret", "KEY=env:TOKEN@example.com"], &typed).ok();
    // A mistake in the option itself.
    let wrong = with_secret(&["--secret", &format!("KEY={VALUE}")], "config()");
    let requests = served.join().unwrap();
    assert!(
        requests[0].contains(&format!("Bearer {VALUE}")) && requests[0].ends_with(&format!("body {VALUE}"))
    );
    assert!(requests[1].contains(&placeholder) && !requests[1].contains(VALUE));
    let log = sandbox.vac(&["log", "last"]).ok();
    let all = written(&sandbox, &[&shown, &sent, &other, &wrong, &log]);
    // The command line of the mistake is the operator's own and in no file.
    assert!(!all.windows(VALUE.len()).any(|w| w == VALUE.as_bytes()), "the secret was written");
}

/// Base64 as `base64` writes it, so that what is tested is not what tests.
fn base64(bytes: impl AsRef<[u8]>) -> String {
    let mut command = std::process::Command::new("base64");
    let mut child = command
        .arg("-w0")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes.as_ref()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// Story: a placeholder inside of basic authentication went out as it was, and a server that repeated what it
/// heard in base64 or as a URL has it gave the value away.
#[test]
fn a_secret_in_basic_authentication_reaches_its_host_and_no_form_of_it_is_written() {
    let value = "hunter2 & \"hunter2\" + hunter2";
    let encoded = "hunter2%20%26%20%22hunter2%22%20%2B%20hunter2";
    let hex: String = value.bytes().map(|b| format!("{b:02x}")).collect();
    let basic = base64(format!("user:{value}"));
    let reflected = [
        format!("Basic {basic}"),
        base64(value),
        base64(format!("x{value}y")),
        base64(format!("xy{value}")).replace('+', "-").replace('/', "_"),
        encoded.to_owned(),
        encoded.replace("%2B", "%2b"),
        hex.clone(),
        value.replace('"', "\\\""),
    ];
    let sandbox = Sandbox::new();
    let (port, served) = {
        let body = reflected.join("\n");
        server(1, move |_| ok(&body))
    };
    let with_secret = |options: &[&str], typed: &str| {
        let mut command = sandbox.command(&[&["--json", "call", &probe(), typed], options].concat());
        command.env("TOKEN", value);
        run(command)
    };
    let (config, _) = result(&with_secret(&["--secret", "KEY=env:TOKEN"], "config()").ok());
    let placeholder = config.split('"').nth(3).unwrap().to_owned();
    let header = format!("(\"authorization\", \"Basic {}\")", base64(format!("user:{placeholder}")));
    let typed = request("GET", &format!("127.0.0.1:{port}"), &header, "none")
        .replace("/p?q=1", &format!("/p?key={placeholder}"));
    let sent =
        with_secret(&["--grant", &format!("http:127.0.0.1:{port}"), "--secret", "KEY=env:TOKEN"], &typed)
            .ok();
    let heard = served.join().unwrap().remove(0);
    assert!(heard.contains(&format!("Basic {basic}")), "{heard}");
    assert!(heard.starts_with(&format!("GET /p?key={encoded} HTTP")), "{heard}");
    assert_eq!(result(&sent).0.matches(&placeholder).count(), reflected.len(), "{}", result(&sent).0);
    replays(&sandbox);
    let log = sandbox.vac(&["log", "last"]).ok();
    let all = written(&sandbox, &[&sent, &log]);
    let lower = String::from_utf8_lossy(&all).to_ascii_lowercase();
    // Of base64 what does not depend on what stands around it.
    let inside = [&basic[8..40], &base64(value)[..32], &base64(format!("x{value}y"))[4..36]];
    for form in [value, encoded, &hex].into_iter().chain(inside) {
        assert!(!lower.contains(&form.to_ascii_lowercase()), "`{form}` was written");
    }
}

#[test]
fn tcp_and_udp_are_recorded_and_replayed() {
    let sandbox = Sandbox::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        stream.write_all(heard.to_uppercase().as_bytes()).unwrap();
    });
    let typed = format!("tcp((127, 0, 0, 1), {port}, \"over the wire\")");
    let (answer, _) = result(&call(&sandbox, &typed, &["--grant", &format!("tcp:127.0.0.1:{port}")]).ok());
    assert_eq!(answer, "ok(\"OVER THE WIRE\")");
    served.join().unwrap();
    replays(&sandbox);

    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        let mut buffer = [0; 64];
        let (n, from) = socket.recv_from(&mut buffer).unwrap();
        buffer[..n].make_ascii_uppercase();
        socket.send_to(&buffer[..n], from).unwrap();
    });
    let typed = format!("udp((127, 0, 0, 1), {port}, \"datagram\")");
    let (answer, _) = result(&call(&sandbox, &typed, &["--grant", &format!("udp:127.0.0.1:{port}")]).ok());
    assert_eq!(answer, "ok(\"DATAGRAM\")");
    served.join().unwrap();
    replays(&sandbox);
}

#[test]
fn a_guest_may_serve_where_that_is_granted() {
    let sandbox = Sandbox::new();
    // A port that was free a moment ago.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let client = std::thread::spawn(move || {
        let mut stream = loop {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                Ok(stream) => break stream,
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        };
        stream.write_all(b"knock").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        heard
    });
    let grant = format!("tcp:listen=127.0.0.1:{port}");
    let (answer, _) = result(&call(&sandbox, &format!("echo-once({port})"), &["--grant", &grant]).ok());
    assert_eq!(answer, "ok(\"knock\")");
    assert_eq!(client.join().unwrap(), "knock");
    replays(&sandbox);
}

#[test]
fn waiting_for_the_network_ends_by_the_guests_limit_or_the_operators() {
    let sandbox = Sandbox::new();
    // It accepts and never says anything.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let grant = format!("tcp:127.0.0.1:{port}");
    let typed = |limit: &str| format!("tcp-wait((127, 0, 0, 1), {port}, {limit})");
    let (answer, _) = result(&call(&sandbox, &typed("30000000"), &["--grant", &grant]).ok());
    assert_eq!(answer, "ok(false)");
    replays(&sandbox);
    let ended = call(&sandbox, &typed("1000000000000"), &["--grant", &grant, "--time", "300ms"]);
    assert_eq!(ended.code(), 4, "{ended:?}");
    replays(&sandbox);
}

#[test]
fn a_namespace_outlives_a_run_and_obeys_its_grant() {
    let sandbox = Sandbox::new();
    let typed = |options: &[&str], typed: &str| result(&call(&sandbox, typed, options).ok());
    let rw = ["--grant", "kv:rw=notes::mine"];
    let pairs = "kv-set(\"mine\", [(\"b\", \"2\"), (\"a\", \"1\"), (\"c\", \"3\")])";
    assert_eq!(typed(&rw, pairs).0, "ok");
    replays(&sandbox);
    let ro = ["--grant", "kv:ro=notes"];
    assert_eq!(typed(&ro, "kv-keys(\"notes\")").0, "ok([\"a\", \"b\", \"c\"])");
    assert_eq!(typed(&ro, "kv-get(\"notes\", \"b\")").0, "ok(some(\"2\"))");
    let (refused, denied) = typed(&ro, "kv-add(\"notes\", \"b\", 5)");
    assert!(refused.contains("AccessDenied"), "{refused}");
    assert_eq!(denied, ["kv:rw=notes"]);
    assert_eq!(typed(&["--grant", "kv:rw=notes"], "kv-add(\"notes\", \"b\", 5)").0, "ok(7)");
    replays(&sandbox);
    assert!(typed(&ro, "kv-get(\"mine\", \"b\")").0.contains("NoSuchStore"));
    sandbox.vac(&["call", &probe(), "config()", "--grant", "kv:rw=../x"]).fails(2, &["../x"]);
}

#[test]
fn configuration_and_logging() {
    let sandbox = Sandbox::new();
    let (config, _) = result(&call(&sandbox, "config()", &["--config", "b=2", "--config", "a=1"]).ok());
    assert_eq!(config, "[(\"a\", \"1\"), (\"b\", \"2\")]");
    replays(&sandbox);
    let logged = call(&sandbox, "log(\"part\", \"red \\u{1b}[31m and\\nmore\")", &[]).ok();
    assert_eq!(text(&logged.json(), "stderr"), "warn: part: red \\u{1b}[31m and\\u{a}more\n");
    // Most loggers end a message like a line.
    let ended = call(&sandbox, "log(\"part\", \"a line\\n\")", &[]).ok();
    assert_eq!(text(&ended.json(), "stderr"), "warn: part: a line\n");
    replays(&sandbox);
}

/// A connection ends with its grant: what comes after that does not reach the guest.
#[test]
fn a_grant_of_the_network_can_be_taken_back() {
    let sandbox = Sandbox::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let grant = format!("tcp:127.0.0.1:{port}");
    let typed = format!("tcp((127, 0, 0, 1), {port}, \"x\")");
    let mut command = sandbox.command(&["--json", "call", &probe(), &typed, "--grant", &grant]);
    let running = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"before ").unwrap();
    // The first group of the ledger, which says what can be taken back, is durable a moment later.
    let revoked = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        sandbox.vac(&["revoke", "last", "0"]).code() == 0
    });
    assert!(revoked);
    std::thread::sleep(std::time::Duration::from_millis(300));
    // The read that waits meanwhile gets this; the next one is the first to know.
    stream.write_all(b"under way ").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let _ = stream.write_all(b"after");
    let ended = running.wait_with_output().unwrap();
    let out = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{out}");
    assert!(out.contains("before ") && !out.contains("after"), "{out}");
    assert_eq!(sandbox.json(&["log", "last", "--name", "vac:run/revoke"])["found"], 1);
    replays(&sandbox);
}

#[test]
fn asking_for_one_value_very_often_is_an_error() {
    let sandbox = Sandbox::new();
    let value = "v".repeat(100_000);
    let rw = ["--grant", "kv:rw=big"];
    call(&sandbox, &format!("kv-set(\"big\", [(\"k\", \"{value}\")])"), &rw).ok();
    let (few, _) = result(&call(&sandbox, "kv-many(\"big\", \"k\", 3)", &rw).ok());
    assert_eq!(few, "ok(3)");
    let (many, _) = result(&call(&sandbox, "kv-many(\"big\", \"k\", 1000)", &rw).ok());
    assert!(many.contains("file too large"), "{many}");
    replays(&sandbox);
}

/// Lists all keys of a namespace, a part at a time, with the cursor that each part gives; then from far
/// beyond the end. Gives how many there were, and how many parts.
const LISTS: &str = r#"(component
    (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
      (export "bucket" (type $b (sub resource)))
      (type $e0 (variant (case "no-such-store") (case "access-denied") (case "other" string)))
      (export "error" (type $e (eq $e0)))
      (type $k0 (record (field "keys" (list string)) (field "cursor" (option u64))))
      (export "key-response" (type $k (eq $k0)))
      (export "open" (func (param "identifier" string) (result (result (own $b) (error $e)))))
      (export "[method]bucket.list-keys" (func (param "self" (borrow $b)) (param "cursor" (option u64))
        (result (result $k (error $e)))))))
    (core module $libc
      (memory (export "memory") 64)
      (global $top (mut i32) (i32.const 4096))
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
        (global.set $top (i32.add (local.get $at) (local.get 3)))
        (local.get $at)))
    (core instance $libc (instantiate $libc))
    (alias core export $libc "memory" (core memory $memory))
    (alias core export $libc "realloc" (core func $realloc))
    (core func $open (canon lower (func $store "open") (memory $memory) (realloc $realloc)))
    (core func $list (canon lower (func $store "[method]bucket.list-keys") (memory $memory) (realloc $realloc)))
    (core module $m
      (import "libc" "memory" (memory 1))
      (import "" "open" (func $open (param i32 i32 i32)))
      (import "" "list" (func $list (param i32 i32 i64 i32)))
      (data (i32.const 16) "many")
      (func (export "f") (result i32) (local $b i32) (local $keys i32) (local $parts i32) (local $has i32) (local $next i64)
        (call $open (i32.const 16) (i32.const 4) (i32.const 64))
        (if (i32.load8_u (i32.const 64)) (then unreachable))
        (local.set $b (i32.load (i32.const 68)))
        (loop $again
          (call $list (local.get $b) (local.get $has) (local.get $next) (i32.const 128))
          (if (i32.load8_u (i32.const 128)) (then unreachable))
          (local.set $keys (i32.add (local.get $keys) (i32.load (i32.const 140))))
          (local.set $parts (i32.add (local.get $parts) (i32.const 1)))
          (local.set $has (i32.load8_u (i32.const 144)))
          (local.set $next (i64.load (i32.const 152)))
          (br_if $again (local.get $has)))
        (call $list (local.get $b) (i32.const 1) (i64.const -1) (i32.const 128))
        (if (i32.or (i32.load8_u (i32.const 128)) (i32.load (i32.const 140))) (then unreachable))
        (call $list (local.get $b) (i32.const 1) (i64.const 5) (i32.const 128))
        (if (i32.ne (i32.load (i32.const 140)) (i32.const 1024)) (then unreachable))
        (i32.add (i32.mul (local.get $parts) (i32.const 10000)) (local.get $keys))))
    (core instance $i (instantiate $m (with "libc" (instance $libc))
      (with "" (instance (export "open" (func $open)) (export "list" (func $list))))))
    (func (export "f") (result u32) (canon lift (core func $i "f"))))"#;

/// Story: every part of a listing read all keys.
#[test]
fn a_long_listing_comes_in_parts() {
    let sandbox = Sandbox::new();
    let pairs: Vec<String> = (0..1100).map(|i| format!("(\"key-{i}\", \"v\")")).collect();
    let rw = ["--grant", "kv:rw=many"];
    call(&sandbox, &format!("kv-set(\"many\", [{}])", pairs.join(", ")), &rw).ok();
    sandbox.write("lists.wasm", wat::parse_str(LISTS).unwrap());
    let listed = sandbox.json(&["call", "lists.wasm", "f()", "--grant", "kv:ro=many"]);
    assert_eq!(text(&listed, "result"), "21100");
    replays(&sandbox);
}
