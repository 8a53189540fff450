//! Against a server that speaks S3, and one that lies.

#[path = "../../../tests/tests/s3_server.rs"]
mod s3_server;

use std::sync::Arc;

use s3_server::{BUCKET, KEY, Liar, serve};
use vac_core::cid::Cid;
use vac_core::fault::Error;
use vac_core::memory::Tier;
use vac_tier::{ObjectTier, RealTime, S3, Settings, folder, memory, s3};

fn bucket(endpoint: String) -> S3 {
    let [region, bucket, key_id, secret] = ["us-east-1", BUCKET, KEY.0, KEY.1].map(str::to_owned);
    S3 { endpoint: Some(endpoint), region, bucket, key_id, secret, token: None }
}

fn settings() -> Settings {
    let wait = std::time::Duration::from_millis(1);
    Settings { part_bytes: 64 << 10, attempts_max: 3, wait, ..Settings::default() }
}

fn keeps_what_is_put(tier: &ObjectTier) {
    let objects: Vec<(Cid, Vec<u8>)> = (1..20_u32)
        .map(|n| (0..n * 12_000).map(|i| (i * n / 5) as u8).collect::<Vec<u8>>())
        .map(|bytes| (Cid::of_raw(&bytes), bytes))
        .collect();
    assert_eq!(tier.get(&objects[0].0, 1 << 20).unwrap(), None);
    for round in 0..2 {
        tier.put_many(&objects)
            .into_iter()
            .for_each(|put| put.unwrap_or_else(|why| panic!("{round}: {why}")));
    }
    let wanted: Vec<(Cid, usize)> = objects.iter().map(|(cid, _)| (*cid, 1 << 20)).collect();
    for (got, (_, bytes)) in tier.get_many(&wanted).into_iter().zip(&objects) {
        assert!(got.unwrap().as_ref() == Some(bytes));
    }
    let empty = Cid::of_raw(b"");
    assert_eq!(tier.get(&empty, 1 << 20).unwrap(), None);
    tier.put(&empty, b"").unwrap();
    assert_eq!(tier.get(&empty, 1 << 20).unwrap(), Some(Vec::new()));
    let (cid, bytes) = &objects[3];
    let long = tier.get(cid, bytes.len() - 1);
    assert!(matches!(long, Err(Error::Corrupt(_))), "too long is refused: {long:?}");
    let mut to = vec![0; bytes.len()];
    assert!(tier.read_into(cid, &mut to).unwrap() && to == *bytes);
    tier.replace(cid, bytes).unwrap();
    assert!(tier.cost() > 0);
}

#[test]
fn memory_and_folders_keep_what_is_put() {
    let dir = tempfile::tempdir().unwrap();
    for store in [memory(), folder(dir.path()).unwrap()] {
        keeps_what_is_put(&ObjectTier::new(store, settings(), Arc::new(RealTime::new())).unwrap());
    }
    assert!(folder(&dir.path().join("not there")).is_err());
}

#[test]
fn s3_keeps_what_is_put_and_rot_in_it_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let endpoint = server.endpoint.clone();
    // The server closes a connection on which it answers before it has read the request's body, as to a put of what is there;
    // until the client has seen that, each may cost whoever comes next an attempt.
    let patient = || Settings { attempts_max: 6, wait: std::time::Duration::from_millis(20), ..settings() };
    let open = |at: &S3| ObjectTier::new(s3(at).unwrap(), patient(), Arc::new(RealTime::new())).unwrap();
    let tier = open(&bucket(endpoint.clone()));
    keeps_what_is_put(&tier);

    let bytes = vec![9; 100_000];
    let cid = Cid::of_raw(&bytes);
    tier.put(&cid, &bytes).unwrap();
    let file = find(dir.path(), &cid.to_string()).unwrap();
    let mut rotten = bytes.clone();
    rotten[70_000] ^= 1;
    std::fs::write(&file, &rotten).unwrap();
    assert!(matches!(tier.get(&cid, 1 << 20), Err(Error::Corrupt(_))));
    tier.replace(&cid, &bytes).unwrap();
    assert_eq!(tier.get(&cid, 1 << 20).unwrap(), Some(bytes));
    tier.reach().unwrap();
    let lens = tier.lens(&[cid, Cid::of_raw(b"never put")]);
    assert_eq!(lens.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [Some(100_000), None]);

    let stranger = open(&S3 { secret: "another".to_owned(), ..bucket(endpoint) });
    let why = stranger.get(&cid, 1 << 20).unwrap_err().to_string();
    assert!(!why.contains("another") && why.contains("after 1 attempt:"), "{why}");
    assert_eq!(stranger.requests().attempts, 1, "what is forbidden is not asked again");
}

/// Another server of S3, where there is one: of `moto`, from the Python registry.
#[test]
fn a_second_server_keeps_what_is_put() {
    let Some(server) = Moto::start() else {
        // Nothing to compare, and it is said.
        eprintln!("not tested: there is no `moto_server` in PATH");
        return;
    };
    let at = bucket(server.endpoint());
    let tier = ObjectTier::new(s3(&at).unwrap(), settings(), Arc::new(RealTime::new())).unwrap();
    keeps_what_is_put(&tier);
    tier.reach().unwrap();
    let bytes = vec![9; 100_000];
    let lens = tier.lens(&[Cid::of_raw(&bytes), Cid::of_raw(b"")]);
    assert_eq!(lens.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [None, Some(0)]);
}

/// A `moto_server`, which ends with this.
struct Moto {
    child: std::process::Child,
    at: std::net::SocketAddr,
}

impl Moto {
    fn start() -> Option<Self> {
        use std::process::{Command, Stdio};
        // It does not say which port it has, so it is told one that was free a moment ago.
        let at = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", &at.port().to_string()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let mut server = Self { child, at };
        for _ in 0..600 {
            std::thread::sleep(std::time::Duration::from_millis(100));
            if server.make_bucket().is_ok() {
                return Some(server);
            }
            // A name in PATH that leads nowhere is no server.
            if server.child.try_wait().unwrap().is_some() {
                return None;
            }
        }
        panic!("moto_server does not answer at {at}");
    }

    fn make_bucket(&self) -> std::io::Result<()> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.at)?;
        write!(
            stream,
            "PUT /{BUCKET} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.at
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(())
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.at)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server says is in errors; what it repeats of the key is not.
#[test]
fn a_server_that_repeats_the_key_is_not_repeated() {
    let liar = Liar::new(|head| {
        let key = "lent-token-of-the-key";
        let said = format!("<Error><Message>{key} {}</Message></Error>", head.contains(key));
        format!("HTTP/1.1 418 No\r\nContent-Length: {}\r\n\r\n{said}", said.len()).into_bytes()
    });
    let token = "lent-token-of-the-key".to_owned();
    let at = S3 { token: Some(token.clone()), ..bucket(liar.endpoint.clone()) };
    let tier = ObjectTier::new(s3(&at).unwrap(), settings(), Arc::new(RealTime::new())).unwrap();
    let tier = tier.hiding([at.key_id, at.secret, token]);
    let why = tier.get(&Cid::of_raw(b"x"), 10).unwrap_err().to_string();
    assert!(!why.contains("lent-token") && why.contains("(hidden) true"), "{why}");
    assert!(why.contains("after 3 attempts") && liar.asked() == 3, "{why}");
}

/// The client library makes room for as many bytes as an error says that it has.
#[test]
fn the_length_of_an_answer_is_not_believed() {
    for status in ["500 No", "200 OK", "404 Not Found", "403 Forbidden"] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 900000000000000\r\n\r\nx").into_bytes();
        let liar = Liar::new(move |_| answer.clone());
        let tier = ObjectTier::new(
            s3(&bucket(liar.endpoint.clone())).unwrap(),
            settings(),
            Arc::new(RealTime::new()),
        );
        let tier = tier.unwrap();
        assert!(tier.get(&Cid::of_raw(b"x"), 10).is_err(), "{status}");
        assert!(tier.put(&Cid::of_raw(b"x"), b"x").is_err() || status.starts_with("200"), "{status}");
        assert!(tier.reach().is_err(), "{status}");
    }
}

/// Redirections would lead a signed request elsewhere.
#[test]
fn nobody_is_sent_elsewhere() {
    let other = Liar::new(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx".to_vec());
    let to = other.endpoint.clone();
    let liar = Liar::new(move |_| {
        format!("HTTP/1.1 307 There\r\nLocation: {to}/x\r\nContent-Length: 0\r\n\r\n").into_bytes()
    });
    let tier =
        ObjectTier::new(s3(&bucket(liar.endpoint.clone())).unwrap(), settings(), Arc::new(RealTime::new()));
    let tier = tier.unwrap();
    assert!(tier.get(&Cid::of_raw(b"x"), 10).is_err());
    assert!(liar.asked() > 0 && other.asked() == 0);
}

/// The file in or below `dir` whose name has `part`.
fn find(dir: &std::path::Path, part: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, part) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|name| name == part) {
            return Some(path);
        }
    }
    None
}
