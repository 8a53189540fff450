//! Guests of WASI 0.2: what they call, and in which order if not in any.

use super::components::{self, CHAIN_MAX, Cooked, Fixed, imports};
use super::{Step, World};
use crate::mutate::Random;

/// Calls that chance hardly ever makes in this order and with these arguments: the world is such that they succeed, or
/// fail in a way of their own.
const RECIPES: [(World, &[Cooked]); 6] = [
    // A place at the end of all files, where nothing can be written.
    (
        World::Files,
        &[
            ("wasi:filesystem/preopens#get-directories", &[]),
            (
                "wasi:filesystem/types#[method]descriptor.open-at",
                &[(1, Fixed::Bits(0)), (2, Fixed::Text("new")), (3, Fixed::Bits(1)), (4, Fixed::Bits(2))],
            ),
            (
                "wasi:filesystem/types#[method]descriptor.write-via-stream",
                &[(1, Fixed::Long(i64::MAX as u64))],
            ),
            (
                "wasi:io/streams#[method]output-stream.blocking-write-and-flush",
                &[(1, Fixed::Text("a very long name"))],
            ),
            ("wasi:io/error#[method]error.to-debug-string", &[]),
            ("wasi:filesystem/types#filesystem-error-code", &[]),
        ],
    ),
    (
        World::Net,
        &[
            ("wasi:http/types#[constructor]outgoing-request", &[]),
            (
                "wasi:http/types#[method]outgoing-request.set-authority",
                &[(1, Fixed::Some("api.example.com"))],
            ),
            ("wasi:http/outgoing-handler#handle", &[(1, Fixed::None)]),
            ("wasi:http/types#[method]future-incoming-response.subscribe", &[]),
            ("wasi:http/types#[method]future-incoming-response.get", &[]),
            ("wasi:http/types#[method]incoming-response.status", &[]),
            ("wasi:http/types#[method]incoming-response.headers", &[]),
            ("wasi:http/types#[method]incoming-response.consume", &[]),
            ("wasi:http/types#[method]incoming-body.stream", &[]),
            ("wasi:io/streams#[method]input-stream.read", &[]),
        ],
    ),
    (
        World::Net,
        &[
            ("wasi:http/types#[constructor]outgoing-request", &[]),
            (
                "wasi:http/types#[method]outgoing-request.set-authority",
                &[(0, Fixed::Newest), (1, Fixed::Some("api.example.com"))],
            ),
            ("wasi:http/outgoing-handler#handle", &[(0, Fixed::Newest), (1, Fixed::None)]),
            ("wasi:http/types#[method]future-incoming-response.get", &[]),
            ("wasi:http/types#[method]incoming-response.consume", &[]),
            ("wasi:http/types#[static]incoming-body.finish", &[]),
            ("wasi:http/types#[method]future-trailers.subscribe", &[]),
            ("wasi:http/types#[method]future-trailers.get", &[]),
        ],
    ),
    (
        World::Net,
        &[
            ("wasi:keyvalue/store#open", &[(0, Fixed::Text("k"))]),
            ("wasi:keyvalue/store#[method]bucket.get", &[]),
            ("wasi:keyvalue/store#[method]bucket.list-keys", &[]),
        ],
    ),
    (
        World::Net,
        &[
            ("wasi:sockets/ip-name-lookup#resolve-addresses", &[(1, Fixed::Text("127.0.0.1"))]),
            ("wasi:sockets/ip-name-lookup#[method]resolve-address-stream.resolve-next-address", &[]),
        ],
    ),
    (
        World::Files,
        &[
            ("wasi:sockets/ip-name-lookup#resolve-addresses", &[(1, Fixed::Text("127.0.0.1"))]),
            ("wasi:sockets/ip-name-lookup#[method]resolve-address-stream.subscribe", &[]),
            ("wasi:sockets/ip-name-lookup#[method]resolve-address-stream.resolve-next-address", &[]),
        ],
    ),
];

/// A call of any function, or the end of a handle.
pub(super) fn call(world: World, random: &mut Random) -> Step {
    if random.below(24) == 0 {
        let all: Vec<&[Cooked]> =
            RECIPES.iter().filter(|(of, _)| *of == world).map(|(_, calls)| *calls).collect();
        return components::recipe(world, &all, random);
    }
    if random.below(9) == 0 {
        return components::drop_resource(world, random);
    }
    let n = components::any_function(world, random);
    let mut step = Step { code: String::new(), imports: Vec::new() };
    imports(world).call(n, &[], random, CHAIN_MAX, &mut step);
    step.code.push('\n');
    step
}
