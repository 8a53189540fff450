//! `vac seek`: a run as it was at one of its points.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use vac_core::fault::{Result, Usage, quote, quote_line};
use vac_engine::report::{self, EventInfo};
use vac_engine::seek::{self, Asked, Output, Point, Sought};
use vac_host::look::{GlobalLook, MemoryLook, Window};
use vac_host::{Lens, Look, NoConsole};

use super::log::{body_json, event_json};
use super::run::stream;
use crate::cli::{Global, Seek};
use crate::show::hex;
use crate::ui::{self, Progress};
use crate::{exit, host, limits, show};

/// Lines of output that are shown unless all are wanted.
const LINES_SHOWN: usize = 10;
/// Bytes of a request that are shown.
const REQUEST_SHOWN_CHARS: usize = 2000;
const BYTES_A_ROW: usize = 16;

pub(crate) fn seek(global: &Global, args: &Seek) -> Result<u8> {
    let home = super::home(global)?;
    let run = home.find_run(&args.run)?;
    let limits = limits::of_patience(&args.patience)?;
    let lens = Lens { window: args.memory, globals: args.globals };
    let progress = Progress::start(&format!("replaying {run}"), global.quiet || global.json);
    let outside = host::outside(|_| Arc::new(Mutex::new(NoConsole)), &limits);
    let sought = seek::seek(&home, run, point(args), lens, outside);
    progress.stop();
    let sought = sought?;
    if let Some(window) = args.memory {
        check_window(window, &sought)?;
    }
    if global.json {
        ui::print_json(&as_json(&sought, args, home.store()));
    } else {
        print(&sought, args, home.store());
    }
    Ok(exit::OK)
}

fn point(args: &Seek) -> Point {
    match (args.event, args.tick, args.time) {
        (Some(event), ..) => Point::Event(event),
        (None, Some(tick), _) => Point::Tick(tick),
        (None, None, time) => {
            let ns = time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            Point::Time(ns)
        }
    }
}

/// Bytes that are not there are a mistake of who asked for them.
fn check_window(window: Window, sought: &Sought) -> Result<()> {
    let Some(look) = &sought.look else {
        return Err(Usage::new("no kernel is running at this point, so there is no memory to show").into());
    };
    if look.window.is_some() {
        return Ok(());
    }
    let message = match (look.memories.get(window.memory), look.memories.len()) {
        (None, 0) => "this program has no memory".to_owned(),
        (None, n) => format!("there is no memory {}: there are 0 to {}", window.memory, n - 1),
        (Some(memory), _) => format!(
            "address {} is not in memory {}, which has {} bytes",
            window.address, window.memory, memory.len_bytes
        ),
    };
    Err(Usage::new(message).into())
}

fn print(sought: &Sought, args: &Seek, store: &vac_core::store::Store) {
    print_point(sought);
    match (&sought.asked, &sought.recorded) {
        (Some(asked), recorded) => print_call(asked, recorded.as_ref(), store),
        (None, _) if sought.is_end => ui::print("the run is over here\n"),
        (None, _) => print_between(sought),
    }
    if let Some(look) = &sought.look {
        print_look(look, args);
    }
    if !sought.same_engine {
        ui::note("recorded by another engine: ticks inside of kernels are those of this one");
    }
    print_output("stdout", &sought.stdout, args.stdout);
    if !sought.stderr.bytes.is_empty() {
        print_output("stderr", &sought.stderr, args.stdout);
    }
}

fn print_point(sought: &Sought) {
    let place = match (&sought.asked, sought.events.checked_sub(1)) {
        (Some(asked), _) => format!("event {}", asked.seq),
        (None, Some(last)) => format!("after event {last}"),
        (None, None) => "before any event".to_owned(),
    };
    let (tick, time) = (ui::count(sought.tick), ui::time(sought.time_ns));
    ui::print(format_args!("{} {}  tick {tick}  time {time}\n", ui::bold(place), sought.run));
    if let Some(running) = &sought.running {
        ui::print(format_args!("in      {}  {}\n", quote(&running.kernel), quote(&running.export)));
    }
}

fn print_call(asked: &Asked, recorded: Option<&EventInfo>, store: &vac_core::store::Store) {
    ui::print(format_args!("call    {}  {}\n", quote(&asked.name), asked.class.word()));
    let request = show::shorten(&report::show_bytes(&asked.request), REQUEST_SHOWN_CHARS);
    ui::print(format_args!("asks    {}\n", quote_line(&request)));
    let answer = match recorded.and_then(|event| event.answer.as_ref()) {
        None => "none is known: the record ends here".to_owned(),
        Some(Ok(body)) => report::show_kept(body, store),
        Some(Err(outcome)) => report::show_outcome(outcome),
    };
    ui::print(format_args!("answer  {}\n", quote_line(&show::shorten(&answer, REQUEST_SHOWN_CHARS))));
}

fn print_between(sought: &Sought) {
    let name = |event: &Option<EventInfo>| match event {
        Some(event) => format!("event {} ({})", event.seq, quote(&event.name)),
        None => "none".to_owned(),
    };
    ui::print(format_args!("after   {}\n", name(&sought.before)));
    ui::print(format_args!("before  {}\n", name(&sought.after)));
}

fn print_look(look: &Look, args: &Seek) {
    if let Some(why) = &look.failed {
        ui::note(format_args!("its memories cannot be shown: {}", quote_line(why)));
    }
    if !look.frames.is_empty() {
        ui::print(format_args!("\n{}", show::stack_table(&look.frames)));
    }
    let memories = look.memories.iter().zip(0_u64..).map(|(memory, index)| memory_row(memory, index));
    if !look.memories.is_empty() {
        let head = [">MEMORY", "NAME", "MODULE", ">BYTES", "BLAKE3"];
        ui::print(format_args!("\n{}", ui::table(&head, memories.collect())));
    }
    if args.globals {
        let rows = look.globals.iter().zip(0_u64..).map(|(global, index)| {
            let word = if global.is_mutable { "mutable" } else { "constant" };
            vec![index.to_string(), global.kind.to_owned(), word.to_owned(), global.value.clone()]
        });
        ui::print(format_args!("\n{}", ui::table(&[">GLOBAL", "TYPE", "", "VALUE"], rows.collect())));
    }
    if let (Some(window), Some(bytes)) = (args.memory, &look.window) {
        ui::print(format_args!("\n{}", hex_view(window.address, bytes)));
    }
}

fn memory_row(memory: &MemoryLook, index: u64) -> Vec<String> {
    let name = |name: &Option<String>| name.as_deref().map(quote).unwrap_or_default();
    vec![
        index.to_string(),
        name(&memory.export),
        name(&memory.module),
        ui::count(memory.len_bytes),
        hex(&memory.digest),
    ]
}

/// Sixteen bytes a row: address, bytes, and those that are plain text.
fn hex_view(address: u64, bytes: &[u8]) -> String {
    let row = |(at, row): (u64, &[u8])| {
        let digits: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let plain = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' };
        let text: String = row.iter().map(plain).collect();
        format!("{at:08x}  {:<47}  {text}\n", digits.join(" "))
    };
    let addresses = (0_u64..).map(|row| address.saturating_add(row.saturating_mul(BYTES_A_ROW as u64)));
    addresses.zip(bytes.chunks(BYTES_A_ROW)).map(row).collect()
}

fn print_output(name: &str, output: &Output, is_whole: bool) {
    let text = String::from_utf8_lossy(&output.bytes);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = if is_whole { 0 } else { lines.len().saturating_sub(LINES_SHOWN) };
    let of = match skipped {
        0 => String::new(),
        _ => format!(", the last {LINES_SHOWN} of {} lines", lines.len()),
    };
    let len = (output.bytes.len() as u64).saturating_add(output.dropped_bytes);
    ui::print(format_args!("\n{name} so far: {} bytes{of}\n", ui::count(len)));
    for line in lines.iter().skip(skipped) {
        ui::print(format_args!("  {}\n", quote_line(line)));
    }
    if output.dropped_bytes > 0 {
        ui::note(format_args!("the first {} bytes are not kept", ui::count(output.dropped_bytes)));
    }
    if output.unseen_bytes > 0 {
        let unseen = ui::count(output.unseen_bytes);
        ui::note(format_args!("{unseen} more bytes went there by `splice`: the record does not have them"));
    }
}

fn as_json(sought: &Sought, args: &Seek, store: &vac_core::store::Store) -> Value {
    let event = |event: &Option<EventInfo>| event.as_ref().map(|event| event_json(event, store));
    let look = sought.look.as_ref();
    json!({
        "run": sought.run.to_string(),
        "events": sought.events,
        "tick": sought.tick,
        "time_ns": sought.time_ns,
        "is_end": sought.is_end,
        "same_engine": sought.same_engine,
        "kernel": sought.running.as_ref().map(|running| &running.kernel),
        "export": sought.running.as_ref().map(|running| &running.export),
        "call": sought.asked.as_ref().map(|asked| call_json(asked, sought.recorded.as_ref(), store)),
        "before": event(&sought.before),
        "after": event(&sought.after),
        "stack": look.map(|look| show::stack_json(&look.frames)),
        "memories": look.map(|look| look.memories.iter().map(memory_json).collect::<Vec<_>>()),
        "globals": look.filter(|_| args.globals).map(|look| look.globals.iter().map(global_json).collect::<Vec<_>>()),
        "bytes": look.and_then(|look| look.window.as_ref()).map(|bytes| hex(bytes)),
        "stdout": stream(&sought.stdout.bytes),
        "stderr": stream(&sought.stderr.bytes),
        "stdout_dropped_bytes": sought.stdout.dropped_bytes,
        "stdout_unseen_bytes": sought.stdout.unseen_bytes,
        "from": sought.from.as_ref().map(show::snapshot_json),
    })
}

fn call_json(asked: &Asked, recorded: Option<&EventInfo>, store: &vac_core::store::Store) -> Value {
    let answer = match recorded.and_then(|event| event.answer.as_ref()) {
        None => Value::Null,
        Some(Ok(body)) => body_json(body, store),
        Some(Err(outcome)) => json!({ "ended": report::show_outcome(outcome) }),
    };
    let request = report::show_bytes(&asked.request);
    json!({
        "event": asked.seq,
        "parent": asked.parent,
        "function": asked.name,
        "class": asked.class.word(),
        "tick": asked.tick,
        "request": { "bytes": asked.request.len(), "shown": request },
        "answer": answer,
    })
}

fn memory_json(memory: &MemoryLook) -> Value {
    json!({
        "export": memory.export,
        "module": memory.module,
        "bytes": memory.len_bytes,
        "blake3": hex(&memory.digest),
    })
}

fn global_json(global: &GlobalLook) -> Value {
    json!({ "type": global.kind, "mutable": global.is_mutable, "value": global.value })
}

/// `[MEMORY:]ADDRESS[+LENGTH]`, each number decimal or, after `0x`, hexadecimal.
pub(crate) fn parse_window(text: &str) -> std::result::Result<Window, String> {
    const LENGTH: u64 = 64;
    let number = |text: &str| {
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map_err(|_| "expected [MEMORY:]ADDRESS[+LENGTH], for example 0:0x400+64".to_owned())
    };
    let (memory, rest) = text.split_once(':').unwrap_or(("0", text));
    let (address, len) = match rest.split_once('+') {
        Some((address, len)) => (number(address)?, number(len)?),
        None => (number(rest)?, LENGTH),
    };
    let most = vac_host::limits::LOOK_BYTES_MAX as u64;
    if len == 0 || len > most {
        return Err(format!("expected a length of 1 to {most}"));
    }
    let memory = usize::try_from(number(memory)?).unwrap_or(usize::MAX);
    Ok(Window { memory, address, len_bytes: len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_memory_an_address_and_a_length() {
        let window = |memory, address, len_bytes| Ok(Window { memory, address, len_bytes });
        assert_eq!(parse_window("16"), window(0, 16, 64));
        assert_eq!(parse_window("0x10+0x8"), window(0, 16, 8));
        assert_eq!(parse_window("2:1024+1"), window(2, 1024, 1));
        for bad in ["", ":", "+", "1+0", "x", "0x", "-1", "1:2:3", "1+2+3", "0+99999999"] {
            assert!(parse_window(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_are_shown_in_rows_with_their_text() {
        let shown = hex_view(0x1000, b"ABCDEFGHIJKLMNOP\0\x1b");
        let rows = "00001000  41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f 50  ABCDEFGHIJKLMNOP\n\
                    00001010  00 1b                                            ..\n";
        assert_eq!(shown, rows);
    }
}
