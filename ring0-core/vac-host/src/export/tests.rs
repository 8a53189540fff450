//! Every form that a record has, as the canonical ABI has it in memory; and what no record has.

use vac_core::canon::{Reader, Writer, encode};
use vac_core::cid::Cid;
use vac_core::ledger::Head;
use wit_parser::Type;

use super::image::Image;
use super::lower::Lowering;
use super::world::{Kind, Needs};
use super::*;
use crate::wasi::addresses::At;
use crate::wasi::http_error::HttpError;
use crate::wasi::http_values::{Method, Scheme};
use crate::wire::Wire;

/// A component that imports HTTP, sockets, namespaces and configuration.
const PROBE: &[u8] = include_bytes!("../../../../ring1-kernels/prebuilt/probe.wasm");

fn needs() -> Needs {
    Needs::of(PROBE, "probe").unwrap()
}

/// The type with this name, of the interface whose name begins so.
fn ty(needs: &Needs, interface: &str, name: &str) -> Type {
    let found = needs.resolve.interfaces.iter().find(|(id, interface_)| {
        needs.resolve.id_of(*id).is_some_and(|id| id.starts_with(interface))
            && interface_.types.contains_key(name)
    });
    let (_, found) = found.unwrap_or_else(|| panic!("no `{interface}#{name}`"));
    Type::Id(found.types[name])
}

/// A value of that type in memory, and the image behind its addresses.
fn lowered(needs: &Needs, ty: &Type, form: &[u8]) -> (Vec<u8>, Image) {
    let (mut image, mut patches) = (Image::default(), Vec::new());
    let size = needs.sizes.size(ty).size_wasm32();
    let at = image.room(size, needs.sizes.align(ty).align_wasm32()).unwrap();
    let mut reader = Reader::new(form, "test");
    let mut lowering =
        Lowering { needs, image: &mut image, written: Written::ByTypes, patches: &mut patches };
    lowering.value(&mut reader, ty, at).unwrap();
    reader.finish().unwrap();
    let bytes = (0..size as u32).map(|offset| image.number(at + offset, 1) as u8).collect();
    (bytes, image)
}

fn form(value: &impl Wire) -> Vec<u8> {
    let mut to = Writer::default();
    value.put(&mut to);
    to.into_bytes()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[test]
fn methods_and_schemes_are_cases_or_words() {
    let needs = needs();
    let (method, scheme) = (ty(&needs, "wasi:http/types", "method"), ty(&needs, "wasi:http/types", "scheme"));
    for (value, case) in [(Method::Get, 0), (Method::Patch, 8)] {
        assert_eq!(lowered(&needs, &method, &form(&value)).0[0], case);
    }
    // Not `GET`: words are what they are.
    let (bytes, image) = lowered(&needs, &method, &form(&Method::Other("get".into())));
    assert_eq!((bytes[0], image.number(word(&bytes, 4), 3), word(&bytes, 8)), (9, 0x74_65_67, 3));
    for (value, case) in [(Scheme::Http, 0), (Scheme::Https, 1), (Scheme::Other("ftp".into()), 2)] {
        assert_eq!(lowered(&needs, &scheme, &form(&value)).0[0], case);
    }
}

#[test]
fn errors_of_http_are_cases_by_name() {
    let needs = needs();
    let code = ty(&needs, "wasi:http/types", "error-code");
    let size = |n| HttpError::HttpRequestBodySize(n);
    assert_eq!(lowered(&needs, &code, &form(&HttpError::LoopDetected)).0[0], 36);
    let (bytes, _) = lowered(&needs, &code, &form(&size(Some(7))));
    assert_eq!((bytes[0], bytes[8], bytes[16]), (17, 1, 7));
    let (bytes, image) = lowered(&needs, &code, &form(&HttpError::InternalError(Some("why".into()))));
    assert_eq!((bytes[0], bytes[8]), (38, 1));
    assert_eq!(image.number(word(&bytes, 12), word(&bytes, 16) as usize), 0x79_68_77);
}

#[test]
fn addresses_are_numbers_again() {
    let needs = needs();
    let at = ty(&needs, "wasi:sockets/network", "ip-socket-address");
    let v4 = At::from("1.2.3.4:258".parse::<std::net::SocketAddr>().unwrap());
    assert_eq!(lowered(&needs, &at, &form(&v4)).0[..10], [0, 0, 0, 0, 2, 1, 1, 2, 3, 4]);
    let v6 =
        At::from(std::net::SocketAddr::V6(std::net::SocketAddrV6::new("1:2::8".parse().unwrap(), 80, 9, 5)));
    let (bytes, _) = lowered(&needs, &at, &form(&v6));
    assert_eq!((bytes[0], bytes[4], word(&bytes, 8), word(&bytes, 28)), (1, 80, 9, 5));
    assert_eq!(bytes[12..28], [1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
}

/// A record may say anything: what does not fit is an error, and what fits makes a valid module.
#[test]
fn whatever_a_record_answers_is_refused_or_makes_a_valid_module() {
    let mut export = Export::new(PROBE.to_vec(), "probe", &[0; 32]).unwrap();
    let names: Vec<String> = export.needs.asked.iter().map(|asked| asked.name.clone()).collect();
    let (mut random, mut taken, mut refused) = (Entropy::new(&[1; 32]), 0, 0);
    for seq in 0..20_000 {
        let name = &names[random.secure.u64() as usize % names.len()];
        let (request, answer) = (canonical(&mut random, 0), canonical(&mut random, 0));
        let is_asked = random.secure.u64().is_multiple_of(4);
        let answer = Answer::Given(&answer);
        match export.event(&Event { seq, name, request: is_asked.then_some(&request), answer }) {
            Ok(()) => taken += 1,
            Err(vac_core::fault::Error::Corrupt(_)) => refused += 1,
            Err(error) => assert!(error.to_string().contains("splice"), "{error}"),
        }
    }
    assert!(taken > 500 && refused > 500, "{taken} taken, {refused} refused");
    let module = player::module(&export.needs, export.image, &export.rows).unwrap();
    wasmparser::validate(&module.finish()).unwrap();
}

/// A random canonical value, mostly of the kinds that answers are.
fn canonical(random: &mut Entropy, depth: u32) -> Vec<u8> {
    let mut to = Writer::default();
    let number = random.secure.u64();
    match number % if depth < 4 { 8 } else { 5 } {
        0 => to.uint(number >> 40 & 1),
        1 => to.uint(number >> (number >> 8 & 63)),
        2 => to.null(),
        3 => to.text(["GET", "http", "1.2.3.4:5", "::1", "other", "a b"][(number >> 20) as usize % 6]),
        4 => to.byte_string(&encode(&number)),
        _ => {
            let len = (number >> 20) as usize % 3;
            to.array(len);
            (0..len).for_each(|_| to.form(&canonical(random, depth + 1)));
        }
    }
    to.into_bytes()
}

#[test]
fn what_was_exported_is_named_in_a_section() {
    let (head, cid) = (Head::from_bytes([7; 32]), Cid::of_raw(b"program"));
    let said = section(&cid, &head);
    let mut to = Writer::default();
    to.map(&[("version", &1_u64), ("head", &[7_u8; 32]), ("program", &cid)]);
    assert_eq!(said, to.into_bytes());
}

#[test]
fn all_functions_of_the_program_are_there_and_drops_of_its_handles() {
    let needs = needs();
    let has = |name: &str| needs.numbers.contains_key(name);
    assert!(has("wasi:io/streams#[drop]input-stream") && has("wasi:http/outgoing-handler#handle"));
    assert!(needs.asked.iter().all(|asked| matches!(asked.kind, Kind::Call(_) | Kind::Drop(_))));
}
