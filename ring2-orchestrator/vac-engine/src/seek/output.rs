//! What a run printed, read from its events: a replay itself prints nowhere.

use std::collections::{BTreeSet, VecDeque};

use vac_core::canon::{self, Node};

use super::OUTPUT_MAX_BYTES;

/// Standard output and error until now.
#[derive(Debug, Default, Clone)]
pub(crate) struct Printed {
    pub(crate) stdout: Kept,
    pub(crate) stderr: Kept,
}

/// The last bytes of a stream.
#[derive(Debug, Default, Clone)]
pub(crate) struct Kept {
    bytes: VecDeque<u8>,
    /// Bytes before these that are not kept.
    pub(crate) dropped_bytes: u64,
    /// Bytes that went straight from one stream to this one: an event has their number only.
    pub(crate) unseen_bytes: u64,
}

impl Kept {
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let over = self.bytes.len().saturating_sub(OUTPUT_MAX_BYTES);
        self.bytes.drain(..over);
        self.dropped_bytes = self.dropped_bytes.saturating_add(over as u64);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes.into()
    }
}

/// Which handles of a kernel are its standard streams.
#[derive(Debug, Default)]
pub(crate) struct Console {
    stdout: BTreeSet<i128>,
    stderr: BTreeSet<i128>,
}

/// `print` of a script.
pub(crate) const PRINT_EVENT: &str = "vac:script/print";
const STREAMS: &str = "wasi:io/streams#";

/// Whether an event of this name may say something about the standard streams.
pub(crate) fn is_of_output(name: &str) -> bool {
    ["wasi:cli/stdout#", "wasi:cli/stderr#", STREAMS].iter().any(|start| name.starts_with(start))
        && !name.contains("input-stream")
}

impl Console {
    /// Notes what an event of its kernel says about the standard streams.
    pub(crate) fn note(&mut self, name: &str, request: &[u8], answer: &[u8], printed: &mut Printed) {
        let value = |bytes: &[u8]| canon::decode::<Node>(bytes, "an event").ok();
        match name {
            "wasi:cli/stdout#get-stdout" => self.stdout.extend(value(answer).as_ref().and_then(int)),
            "wasi:cli/stderr#get-stderr" => self.stderr.extend(value(answer).as_ref().and_then(int)),
            "wasi:cli/stdout#[write]write-via-stream" if is_ok(answer) => {
                printed.stdout.extend(&written(request).unwrap_or_default());
            }
            "wasi:cli/stderr#[write]write-via-stream" if is_ok(answer) => {
                printed.stderr.extend(&written(request).unwrap_or_default());
            }
            _ => {
                if let Some(function) = name.strip_prefix(STREAMS) {
                    self.stream(function, request, answer, printed);
                }
            }
        }
    }

    fn stream(&mut self, function: &str, request: &[u8], answer: &[u8], printed: &mut Printed) {
        let Some(handle) = first(request) else { return };
        if function == "[drop]output-stream" {
            self.stdout.remove(&handle);
            self.stderr.remove(&handle);
            return;
        }
        let to = match (self.stdout.contains(&handle), self.stderr.contains(&handle)) {
            (true, _) => &mut printed.stdout,
            (_, true) => &mut printed.stderr,
            _ => return,
        };
        if !is_ok(answer) {
            return;
        }
        match function.strip_prefix("[method]output-stream.").unwrap_or_default() {
            "write" | "blocking-write-and-flush" => to.extend(&written(request).unwrap_or_default()),
            "write-zeroes" | "blocking-write-zeroes-and-flush" => {
                // The wall lets no longer one through.
                let len = second(request).as_ref().and_then(int).unwrap_or_default();
                to.extend(&vec![0; usize::try_from(len).unwrap_or_default().min(OUTPUT_MAX_BYTES)]);
            }
            "splice" | "blocking-splice" => {
                let len = second(answer).as_ref().and_then(int).unwrap_or_default();
                to.unseen_bytes = to.unseen_bytes.saturating_add(u64::try_from(len).unwrap_or_default());
            }
            _ => {}
        }
    }
}

/// What `print` of a script wrote.
pub(crate) fn printed_line(request: &[u8]) -> Option<Vec<u8>> {
    match canon::decode::<Node>(request, "a line").ok()? {
        Node::Text(text) => Some(format!("{text}\n").into_bytes()),
        _ => None,
    }
}

fn int(node: &Node) -> Option<i128> {
    if let Node::Int(int) = node { Some(*int) } else { None }
}

fn items(bytes: &[u8]) -> Option<Vec<Node>> {
    match canon::decode::<Node>(bytes, "an event").ok()? {
        Node::List(items) => Some(items),
        _ => None,
    }
}

fn first(bytes: &[u8]) -> Option<i128> {
    items(bytes)?.first().and_then(int)
}

fn second(bytes: &[u8]) -> Option<Node> {
    items(bytes)?.into_iter().nth(1)
}

/// The bytes of `[handle, bytes]`.
fn written(request: &[u8]) -> Option<Vec<u8>> {
    match second(request)? {
        Node::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// Whether an answer is `[0, value]`: the canonical form of a result that is no error.
fn is_ok(answer: &[u8]) -> bool {
    first(answer) == Some(0)
}

#[cfg(test)]
mod tests {
    use vac_core::canon::encode;

    use super::*;

    fn list(items: &[Node]) -> Vec<u8> {
        encode(&Node::List(items.to_vec()))
    }

    #[test]
    fn only_what_was_written_to_a_standard_stream_is_printed() {
        let (mut console, mut printed) = (Console::default(), Printed::default());
        let (ok, failed) = (list(&[Node::Int(0), Node::Null]), list(&[Node::Int(1), Node::Null]));
        let write = |handle: i128, text: &str| list(&[Node::Int(handle), Node::Bytes(text.into())]);
        let name = "wasi:io/streams#[method]output-stream.write";
        console.note("wasi:cli/stdout#get-stdout", &list(&[]), &encode(&Node::Int(7)), &mut printed);
        console.note("wasi:cli/stderr#get-stderr", &list(&[]), &encode(&Node::Int(8)), &mut printed);
        console.note(name, &write(7, "a"), &ok, &mut printed);
        console.note(name, &write(7, "not written"), &failed, &mut printed);
        console.note(name, &write(9, "a file"), &ok, &mut printed);
        console.note(name, &write(8, "e"), &ok, &mut printed);
        console.note("wasi:io/streams#[drop]output-stream", &list(&[Node::Int(7)]), &[], &mut printed);
        console.note(name, &write(7, "a file again"), &ok, &mut printed);
        console.note("wasi:cli/stdout#[write]write-via-stream", &write(1, "b"), &ok, &mut printed);
        assert_eq!(printed.stdout.clone().into_bytes(), b"ab");
        assert_eq!(printed.stderr.clone().into_bytes(), b"e");
        // Bytes of a hostile ledger are nothing that was printed.
        for bad in [&[][..], &[0xff], &[0x82, 0x07]] {
            console.note(name, bad, bad, &mut printed);
            console.note("wasi:cli/stdout#get-stdout", bad, bad, &mut printed);
        }
        assert_eq!(printed.stdout.into_bytes(), b"ab");
    }

    #[test]
    fn the_end_of_long_output_is_kept() {
        let mut kept = Kept::default();
        kept.extend(&vec![b'x'; OUTPUT_MAX_BYTES]);
        kept.extend(b"end");
        assert_eq!(kept.dropped_bytes, 3);
        assert!(kept.into_bytes().ends_with(b"xend"));
    }
}
