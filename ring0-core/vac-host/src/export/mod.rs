//! A run as one component: the program, joined with a player that answers all of its imports from the record.
//!
//! What the program printed is printed again, and it exits as it did; nothing else is done. The player is
//! generated: [`world`] says what it must be, [`lower`] puts each answer into memory as the canonical ABI has it,
//! [`player`] writes the code that gives them out in order. Of a run of typed calls, a [`driver`] makes them.
//!
//! Invariant: the component is a function of its program and of its record; nothing of the host is in it.

use std::collections::BTreeMap;

use vac_core::canon::{Reader, Writer, encode};
use vac_core::cid::Cid;
use vac_core::fault::{Corrupt, Result, quote, quote_line};
use vac_core::ledger::{Body, Head};
use wasm_encoder::{ComponentSection, CustomSection};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Type;

use crate::entropy::Entropy;
use crate::limits::{EXPORT_EVENTS_MAX, WRITE_MAX_BYTES};
use crate::wasi::logging;
use driver::Driver;
use image::Image;
use lower::{Lowering, Patch, Written};
use player::{Row, Then};
use world::{Kind, Needs, refused, unusable};

mod driver;
mod image;
mod join;
mod lower;
mod player;
mod world;

#[cfg(test)]
mod tests;

/// The custom section that says what was exported.
pub const SECTION: &str = "vac:replay";
/// Version of what is in it.
const SECTION_VERSION: u64 = 1;

/// Functions whose request is more than their arguments.
const DETAILED: [&str; 3] = [
    "vac:memory/shards#open",
    "wasi:http/outgoing-handler#handle",
    "wasi:http/types#[static]outgoing-body.finish",
];

/// One event of a record.
#[derive(Debug)]
pub struct Event<'a> {
    /// Its number.
    pub seq: u64,
    /// The function.
    pub name: &'a str,
    /// The canonical form of the arguments, if the record has it.
    pub request: Option<&'a [u8]>,
    /// What came back.
    pub answer: Answer<'a>,
}

/// How an event ended.
#[derive(Debug)]
pub enum Answer<'a> {
    /// With this canonical form of a result.
    Given(&'a [u8]),
    /// With what is computed from the seed, which must be what this names.
    Computed(&'a Body),
    /// It ended the program.
    Stopped(&'a str),
}

/// Makes a component of a run, event by event.
pub struct Export {
    component: Vec<u8>,
    place: String,
    needs: Needs,
    image: Image,
    rows: Vec<Row>,
    driver: Option<Driver>,
    entropy: Entropy,
    /// Handles of the standard output and error.
    printing: BTreeMap<u64, Then>,
    /// Where requests are, and answers without handles, by function and bytes: most come more than once.
    requests: BTreeMap<(u32, Vec<u8>), u32>,
    answers: BTreeMap<(u32, Vec<u8>), u64>,
}

impl Export {
    /// An export of a run of `component`, whose entropy came from `seed`. `place` is what messages call it.
    pub fn new(component: Vec<u8>, place: &str, seed: &[u8; 32]) -> Result<Self> {
        let needs = Needs::of(&component, place)?;
        Ok(Self {
            component,
            place: place.to_owned(),
            needs,
            image: Image::default(),
            rows: Vec::new(),
            driver: None,
            entropy: Entropy::new(seed),
            printing: BTreeMap::new(),
            requests: BTreeMap::new(),
            answers: BTreeMap::new(),
        })
    }

    /// An export of a run of typed calls.
    pub fn of_calls(component: Vec<u8>, place: &str, seed: &[u8; 32]) -> Result<Self> {
        let driver = Some(Driver::new(&component, place)?);
        Ok(Self { driver, ..Self::new(component, place, seed)? })
    }

    /// Adds the next call, of what a person calls `export` and the component `inner`, by the recorded request and
    /// response; one without a response ended the run.
    pub fn call(&mut self, export: &str, inner: &str, request: &[u8], response: Option<&[u8]>) -> Result<()> {
        let Some(driver) = &mut self.driver else {
            let got = format!("a call of `{}`", quote(export));
            return Err(Corrupt::new("record", "the run of a command", "no typed call", got).into());
        };
        let results = response.map(driver::results_of).transpose()?;
        driver.call((export, inner), driver::args_of(request)?, results)
    }

    /// Adds the next event.
    pub fn event(&mut self, event: &Event<'_>) -> Result<()> {
        if self.rows.len() >= EXPORT_EVENTS_MAX {
            return Err(refused(&self.place, &format!("its run has more than {EXPORT_EVENTS_MAX} events")));
        }
        let Some(number) = self.needs.numbers.get(event.name).copied() else {
            let got = format!("`{}`", quote(event.name));
            return Err(Corrupt::new("record", "an event", "a function that the program imports", got).into());
        };
        let computed;
        let answer = match event.answer {
            Answer::Given(bytes) => Some(bytes),
            Answer::Computed(body) => {
                computed = self.computed(event, body)?;
                Some(computed.as_slice())
            }
            Answer::Stopped(_) => None,
        };
        let mut row = Row { function: number, seq: event.seq, ..Row::default() };
        if let Some(request) = event.request {
            row.request = self.request(number, request)?;
        }
        match (answer, &event.answer) {
            (Some(answer), _) => {
                self.answer(number, answer, &mut row)?;
                self.also(event, answer, &mut row)?;
            }
            (None, Answer::Stopped(why)) => self.stop(why, &mut row)?,
            (None, _) => {}
        }
        self.rows.push(row);
        Ok(())
    }

    /// The component. `cut` says why the record has no end, and is printed where the run gets there; `printed` is
    /// what was printed of typed calls.
    pub fn finish(
        mut self,
        program: &Cid,
        head: &Head,
        cut: Option<&str>,
        printed: &[u8],
    ) -> Result<Vec<u8>> {
        let seq = self.rows.last().map_or(0, |row| row.seq + 1);
        let mut end = Row { function: self.needs.asked.len() as u32, seq, ..Row::default() };
        if let Some(why) = cut {
            self.stop(why, &mut end)?;
        }
        self.rows.push(end);
        let module = player::module(&self.needs, self.image, &self.rows)?.finish();
        let player = encoded(module, &self.needs, &self.place)?;
        let driver = match self.driver {
            Some(driver) => {
                let (module, needs) = driver.module(printed)?;
                Some(encoded(module, &needs, &self.place)?)
            }
            None => None,
        };
        let mut joined = join::join(&self.component, player, driver, &self.place)?;
        let said = section(program, head);
        CustomSection { name: SECTION.into(), data: said.into() }.append_to_component(&mut joined);
        wasmparser::Validator::new().validate_all(&joined).map_err(|e| unusable(&self.place, &e))?;
        match join::foreign_import(&joined).map_err(|e| unusable(&self.place, &e))? {
            Some(name) => {
                Err(refused(&self.place, &format!("nothing answers its import `{}`", quote(&name))))
            }
            None => Ok(joined),
        }
    }

    /// The canonical form of what an event of entropy gave.
    fn computed(&mut self, event: &Event<'_>, body: &Body) -> Result<Vec<u8>> {
        let len = match (event.request, event.name.contains("bytes")) {
            (Some(request), true) => arguments(request, event.name, |r| r.uint())?,
            _ => 0,
        };
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(crate::limits::RANDOM_MAX_BYTES);
        let Entropy { secure, insecure, insecure_seed, .. } = &mut self.entropy;
        let bytes = match event.name {
            "wasi:random/random#get-random-bytes" => encode(&secure.bytes(len)),
            "wasi:random/random#get-random-u64" => encode(&secure.u64()),
            "wasi:random/insecure#get-insecure-random-bytes" => encode(&insecure.bytes(len)),
            "wasi:random/insecure#get-insecure-random-u64" => encode(&insecure.u64()),
            "wasi:random/insecure-seed#insecure-seed" => encode(&(insecure_seed.u64(), insecure_seed.u64())),
            other => {
                let got = format!("`{}`", quote(other));
                return Err(Corrupt::new("record", "a computed event", "a function of entropy", got).into());
            }
        };
        if !body.names(&bytes) {
            let place = format!("event {}", event.seq);
            return Err(Corrupt::new("record", place, "what its seed gives", "something else").into());
        }
        Ok(bytes)
    }

    /// Where the arguments are that a call must have; 0 if none can be compared.
    fn request(&mut self, number: u32, request: &[u8]) -> Result<u32> {
        let Some(asked) = self.needs.asked.get(number as usize) else { return Ok(0) };
        if DETAILED.contains(&asked.name.as_str()) {
            return Ok(0);
        }
        let types: Vec<Type> = match &asked.kind {
            Kind::Drop(_) => vec![Type::U32],
            Kind::Call(function) => function.params.iter().map(|param| param.ty).collect(),
        };
        if !types.iter().any(|ty| player::is_compared(&self.needs, ty))
            || is_indirect(&self.needs, &asked.kind)
        {
            return Ok(0);
        }
        let key = (number, request.to_vec());
        if let Some(at) = self.requests.get(&key) {
            return Ok(*at);
        }
        let layout = self.needs.sizes.params(&types);
        let at = self.image.room(layout.size.size_wasm32(), layout.align.align_wasm32())?;
        let mut reader = Reader::new(request, &asked.name);
        reader.array_of(types.len())?;
        let mut patches = Vec::new();
        let mut lowering = Lowering {
            needs: &self.needs,
            image: &mut self.image,
            written: Written::ByTypes,
            patches: &mut patches,
        };
        for (offset, ty) in self.needs.sizes.field_offsets(&types) {
            match player::is_compared(&self.needs, ty) {
                true => lowering.value(&mut reader, ty, at.saturating_add(offset.size_wasm32() as u32))?,
                false => reader.skip()?,
            }
        }
        reader.finish()?;
        self.requests.insert(key, at);
        Ok(at)
    }

    /// What a call gives back.
    fn answer(&mut self, number: u32, answer: &[u8], row: &mut Row) -> Result<()> {
        let Some(asked) = self.needs.asked.get(number as usize) else { return Ok(()) };
        let mut reader = Reader::new(answer, &asked.name);
        let result = match &asked.kind {
            Kind::Call(function) => function.result.as_ref(),
            Kind::Drop(_) => None,
        };
        let Some(ty) = result else {
            reader.array_of(0)?;
            return Ok(reader.finish()?);
        };
        let key = (number, answer.to_vec());
        if let Some(known) = self.answers.get(&key) {
            row.answer = *known;
            return Ok(());
        }
        let size = self.needs.sizes.size(ty).size_wasm32();
        let at = self.image.room(size, self.needs.sizes.align(ty).align_wasm32())?;
        let mut patches = Vec::new();
        let mut lowering = Lowering {
            needs: &self.needs,
            image: &mut self.image,
            written: Written::ByTypes,
            patches: &mut patches,
        };
        lowering.value(&mut reader, ty, at)?;
        reader.finish()?;
        let is_direct = !has_pointer(&self.needs, &asked.kind);
        row.answer = if is_direct { self.image.number(at, size) } else { u64::from(at) };
        match patches.is_empty() {
            true => drop(self.answers.insert(key, row.answer)),
            false => row.patches = self.patches(&patches, is_direct)?,
        }
        Ok(())
    }

    /// Lists handles that are to be made. One that is the answer itself goes to address 0.
    fn patches(&mut self, patches: &[Patch], is_direct: bool) -> Result<(u32, u32)> {
        let list = self.image.room(patches.len().saturating_mul(player::PATCH_BYTES as usize), 4)?;
        for (patch, to) in patches.iter().zip((list..).step_by(player::PATCH_BYTES as usize)) {
            self.image.put_u32(to, if is_direct { 0 } else { patch.at });
            self.image.put_u32(to + 4, patch.resource);
            self.image.put_u32(to + 8, patch.rep);
        }
        Ok((list, patches.len() as u32))
    }

    /// What an event does besides giving an answer: it prints, or it exits.
    fn also(&mut self, event: &Event<'_>, answer: &[u8], row: &mut Row) -> Result<()> {
        let Some(request) = event.request else { return Ok(()) };
        match event.name {
            "wasi:cli/stdout#get-stdout" => self.opened(answer, Then::Stdout),
            "wasi:cli/stderr#get-stderr" => self.opened(answer, Then::Stderr),
            "wasi:io/streams#[drop]output-stream" => {
                let handle = arguments(request, event.name, |r| r.uint())?;
                self.printing.remove(&handle);
                Ok(())
            }
            "wasi:cli/exit#exit" => {
                let case = arguments(request, event.name, |r| {
                    r.array_of(2)?;
                    let case = r.uint()?;
                    r.skip().map(|()| case)
                })?;
                (row.then, row.answer) = (Then::Exit, u64::from(case != 0));
                Ok(())
            }
            "wasi:cli/exit#exit-with-code" | "vac:wasi01/exit#exit" => {
                let status = arguments(request, event.name, |r| r.uint())?;
                // A process has no greater one.
                (row.then, row.answer) = (Then::Exit, u64::from(u8::try_from(status).unwrap_or(1)));
                Ok(())
            }
            "wasi:logging/logging#log" => {
                self.prints(Then::Stderr, logging::line_of(request)?.as_bytes(), row)
            }
            name => match name.strip_prefix("wasi:io/streams#[method]output-stream.") {
                Some(method) if is_ok(answer)? => self.written(method, event, row),
                _ => Ok(()),
            },
        }
    }

    fn opened(&mut self, answer: &[u8], then: Then) -> Result<()> {
        let mut reader = Reader::new(answer, "a handle of a stream");
        self.printing.insert(reader.uint()?, then);
        Ok(())
    }

    /// Prints what was written to the standard output or error.
    fn written(&mut self, method: &str, event: &Event<'_>, row: &mut Row) -> Result<()> {
        let Some(request) = event.request else { return Ok(()) };
        let mut reader = Reader::new(request, event.name);
        reader.array()?;
        let Some(then) = self.printing.get(&reader.uint()?).copied() else { return Ok(()) };
        match method {
            "write" | "blocking-write-and-flush" => self.prints(then, reader.byte_string()?, row),
            "write-zeroes" | "blocking-write-zeroes-and-flush" => {
                let len = usize::try_from(reader.uint()?).unwrap_or(usize::MAX);
                self.prints(then, &vec![0; len.min(WRITE_MAX_BYTES)], row)
            }
            "splice" | "blocking-splice" => {
                let why = format!("it prints by `{}`, whose bytes are not in the record", event.name);
                Err(refused(&self.place, &why))
            }
            _ => Ok(()),
        }
    }

    fn prints(&mut self, then: Then, bytes: &[u8], row: &mut Row) -> Result<()> {
        row.then = then;
        row.printed = (self.image.keep(bytes)?, bytes.len() as u32);
        Ok(())
    }

    fn stop(&mut self, why: &str, row: &mut Row) -> Result<()> {
        self.prints(Then::Stop, format!("error: {}\n", quote_line(why)).as_bytes(), row)
    }
}

/// A core module as the component that its world says.
fn encoded(mut module: Vec<u8>, needs: &Needs, place: &str) -> Result<Vec<u8>> {
    let failed = |why: &dyn std::fmt::Display| unusable(place, why);
    embed_component_metadata(&mut module, &needs.resolve, needs.world, StringEncoding::UTF8)
        .map_err(|e| failed(&e))?;
    let encoder = ComponentEncoder::default().module(&module).map_err(|e| failed(&e))?;
    // What is printed to must stay apart from what the program imports in another version.
    encoder.merge_imports_based_on_semver(false).validate(true).encode().map_err(|e| failed(&e))
}

/// What the custom section says: `{version, head, program}`.
fn section(program: &Cid, head: &Head) -> Vec<u8> {
    let mut to = Writer::default();
    to.map(&[("version", &SECTION_VERSION), ("head", head.as_bytes()), ("program", program)]);
    to.into_bytes()
}

/// The first argument of a request.
fn arguments<T>(
    request: &[u8],
    name: &str,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Corrupt>,
) -> Result<T> {
    let mut reader = Reader::new(request, name);
    reader.array_of(1)?;
    let argument = read(&mut reader)?;
    reader.finish()?;
    Ok(argument)
}

/// Whether an answer is `ok`.
fn is_ok(answer: &[u8]) -> Result<bool> {
    let mut reader = Reader::new(answer, "an answer of a stream");
    if reader.array()? != 2 {
        return Ok(false);
    }
    Ok(reader.uint()? == 0)
}

/// Whether a function gives back an address.
fn has_pointer(needs: &Needs, kind: &Kind) -> bool {
    signature(needs, kind).is_some_and(|signature| signature.retptr)
}

/// Whether a function gets the address of its arguments.
fn is_indirect(needs: &Needs, kind: &Kind) -> bool {
    signature(needs, kind).is_some_and(|signature| signature.indirect_params)
}

fn signature(needs: &Needs, kind: &Kind) -> Option<wit_parser::abi::WasmSignature> {
    match kind {
        Kind::Call(function) => {
            Some(needs.resolve.wasm_signature(wit_parser::abi::AbiVariant::GuestExport, function))
        }
        Kind::Drop(_) => None,
    }
}
