//! Promises: a manifest that is read is read back from what is written of it; what comes of it is within both
//! keys; and no error shows a control character of it.

use vac_engine::grants::Grant;
use vac_engine::manifest::{Ask, Manifest, agree, write};

/// What an operator might grant.
const GRANTED: &[&str] =
    &["dir:ro=.", "dir:rw=data", "file:rw=out", "dir:ro=/srv", "env:LANG", "stdin", "dir:rw=.."];

/// Reads `data` as a manifest.
pub fn target(data: &[u8]) {
    let manifest = match Manifest::parse(data, "data") {
        Ok(manifest) => manifest,
        Err(error) => {
            let shown = format!("{error} {error:?}");
            assert!(!error.to_string().contains(char::is_control), "{shown:?}");
            return;
        }
    };
    let again = write(&[], &manifest.asks);
    let read = Manifest::parse(again.as_bytes(), "again").expect("what is written is read");
    assert_eq!(texts(&read.asks), texts(&manifest.asks));
    let granted: Vec<_> =
        GRANTED.iter().map(|text| Grant::parse(text, &|_| Some(String::new())).expect("a grant")).collect();
    for met in agree(&manifest.asks, &granted) {
        for got in &met.gets {
            let whole = Ask::parse(&got.text(), "x", false).expect("what is given can be asked for");
            let gives = |grant: &Grant| grant.meet(&whole).is_some_and(|again| again.text() == got.text());
            assert!(gives(&met.ask.wants), "{} is more than {}", got.text(), met.ask.text());
            assert!(granted.iter().any(gives), "{} was not granted", got.text());
        }
    }
}

fn texts(asks: &[Ask]) -> Vec<(String, &str, bool)> {
    asks.iter().map(|ask| (ask.text(), ask.why.as_str(), ask.optional)).collect()
}

/// Manifests, and what is nearly one.
pub fn seeds() -> Vec<Vec<u8>> {
    let ask = |grant: &str| format!("[[ask]]\ngrant = \"{grant}\"\nwhy = \"x\"\n");
    let all =
        ["dir:ro=.", "dir:rw=data/sub", "file:rw=out", "env:LANG", "stdin", "file:ro=/srv/x", "dir:ro=../up"];
    let mut seeds = vec![format!("version = 1\n{}optional = true\n", all.map(ask).concat()).into_bytes()];
    seeds.push(b"version = 1\nask = [{ grant = 'file:ro=a/b', why = \"\\u001b\" }]\n".to_vec());
    seeds.push(b"version = 1\n[[ask]]\ngrnt = 'x'\n".to_vec());
    seeds
}
