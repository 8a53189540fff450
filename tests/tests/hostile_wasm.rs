//! Programs that are cut, changed or made to harm: an error that says so, or a run like any other.

use std::fs::File;

use crate::support::{Numbers, Ran, Sandbox, repository};

/// What a command may end with, whatever its program is: all went well, or one of VAC's own codes.
fn assert_in_order(ran: &Ran, what: &str) {
    assert!([0, 1, 2, 3, 4, 6].contains(&ran.code()), "{what}: {ran:?}");
    if ran.code() != 0 {
        let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "{what}: {}", ran.stderr);
        assert!(lines[0].len() < 2000 && !lines[0].contains('\u{1b}'), "{what}: {}", lines[0]);
    }
}

fn prebuilt(name: &str) -> Vec<u8> {
    std::fs::read(repository().join(format!("ring1-kernels/prebuilt/{name}.wasm"))).unwrap()
}

#[test]
fn a_program_that_is_cut_is_an_integrity_error() {
    let sandbox = Sandbox::new();
    let whole = prebuilt("series");
    let lens = (0..12).chain((12..whole.len()).step_by(whole.len() / 40)).chain([whole.len() - 1]);
    for len in lens {
        sandbox.write("cut.wasm", &whole[..len]);
        let ran = sandbox.vac(&["inspect", "cut.wasm"]);
        assert_in_order(&ran, &format!("{len} bytes"));
        // Eight bytes are a whole, empty component; less is no WebAssembly; more ends too early.
        match len {
            0..4 => drop(ran.fails(2, &["not WebAssembly"])),
            8 => drop(ran.ok()),
            _ => drop(ran.fails(6, &["cut.wasm", "corrupt"])),
        }
    }
}

#[test]
fn a_program_that_is_too_large_is_not_read() {
    let sandbox = Sandbox::new();
    let path = sandbox.write("large.wasm", b"\0asm\x0d\0\x01\0");
    File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    for command in [&["run", "large.wasm"][..], &["inspect", "large.wasm"], &["call", "large.wasm", "f()"]] {
        sandbox.vac(command).fails(4, &["large.wasm", "1099511627776 bytes", "limit"]);
    }
}

/// Three hundred programs, each a valid one with a few bytes changed, added or taken away.
#[test]
fn a_program_that_was_changed_anywhere_is_never_a_panic() {
    let sandbox = Sandbox::new();
    let originals = [prebuilt("series"), small_component(), small_module()];
    for seed in 0..300_u64 {
        let mut numbers = Numbers(seed);
        let mut program = originals[(seed % 3) as usize].clone();
        for _ in 0..=numbers.below(4) {
            change(&mut program, &mut numbers);
        }
        let name = format!("{}.wasm", seed % 8);
        sandbox.write(&name, &program);
        let limits = ["--ticks", "1000000", "--memory", "64MiB"];
        let ran = match seed % 4 {
            0 => sandbox.vac(&["inspect", &name]),
            1 => sandbox.vac(&[&["run", &name], &limits[..]].concat()),
            2 => sandbox.vac(&[&["call", &name, "f(1)"], &limits[..]].concat()),
            _ => sandbox.vac(&[&["call", &name, "monthly(\"x\")"], &limits[..]].concat()),
        };
        assert_in_order(&ran, &format!("seed {seed}"));
    }
    sandbox.vac(&["verify", "--all"]).ok();
}

fn change(program: &mut Vec<u8>, numbers: &mut Numbers) {
    let at = numbers.below(program.len());
    match numbers.below(6) {
        0 => program[at] = numbers.next() as u8,
        1 | 2 => program[at] ^= 1 << numbers.below(8),
        3 => program.insert(at, numbers.next() as u8),
        4 => drop(program.remove(at)),
        _ => {
            let end = (at + numbers.below(32)).min(program.len());
            let part = program[at..end].to_vec();
            program.splice(at..at, part);
        }
    }
}

fn small_component() -> Vec<u8> {
    let text = r#"(component
        (core module $m (memory (export "memory") 1)
          (func (export "f") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))
        (core instance $i (instantiate $m))
        (func (export "f") (param "x" u32) (result u32) (canon lift (core func $i "f"))))"#;
    wat::parse_str(text).unwrap()
}

fn small_module() -> Vec<u8> {
    crate::guest::Guest::new().say("hello\n").random().exit(3).wasm()
}

#[test]
fn a_program_with_hostile_names_does_not_reach_the_terminal() {
    let sandbox = Sandbox::new();
    let hostile = r#"(module (import "\1b[2J" "\e2\80\aeevil" (func)) (memory (export "memory") 1) (func (export "_start")))"#;
    sandbox.write("names.wasm", wat::parse_str(hostile).unwrap());
    for command in [["run", "names.wasm"], ["inspect", "names.wasm"]] {
        let ran = sandbox.vac(&command);
        let all = format!("{}{}", ran.out(), ran.stderr);
        assert!(!all.contains('\u{1b}') && !all.contains('\u{202e}'), "{all:?}");
    }
}

/// Sizes that a few bytes can claim and no machine should try to give.
#[test]
fn a_program_that_claims_much_gets_an_error() {
    let sandbox = Sandbox::new();
    let many = |n: usize, text: &str| text.repeat(n);
    let programs = [
        (
            "functions",
            format!(
                "(module (memory (export \"memory\") 1) {} (func (export \"_start\")))",
                many(20_000, "(func)")
            ),
        ),
        ("memory", "(module (memory (export \"memory\") 65536) (func (export \"_start\")))".into()),
        (
            "nesting",
            format!(
                "(module (memory (export \"memory\") 1) (func (export \"_start\") {} {}))",
                many(20_000, "block "),
                many(20_000, "end ")
            ),
        ),
        (
            "locals",
            format!(
                "(module (memory (export \"memory\") 1) (func (export \"_start\") (local {})))",
                many(49_000, "i64 ")
            ),
        ),
        ("components", format!("{}{}", many(90, "(component "), many(90, ")"))),
    ];
    for (name, text) in programs {
        sandbox.write(name, wat::parse_str(&text).unwrap());
        let ran = sandbox.vac(&["run", name, "--memory", "64MiB", "--time", "20s"]);
        assert_in_order(&ran, name);
    }
    // A section that says it has four thousand million entries.
    let mut lie = b"\0asm\x01\0\0\0".to_vec();
    lie.extend([3, 6, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
    sandbox.write("lie.wasm", lie);
    sandbox.vac(&["run", "lie.wasm"]).fails(6, &["lie.wasm"]);
}

/// What the engine keeps of an instance is in no quota of the guest.
#[test]
fn globals_of_many_instances_are_bounded() {
    let sandbox = Sandbox::new();
    let many = |item: &str| item.repeat(100_000);
    for module in [
        many("(global (mut i32) (i32.const 0))"),
        many("(tag)"),
        format!("(func $f) (elem func {})", many("$f ")),
    ] {
        let instances = "(core instance (instantiate $m))".repeat(900);
        let component = format!(
            "(component (core module $m {module}) {instances} (core module $f (func (export \"f\"))) \
             (core instance $f (instantiate $f)) (func (export \"f\") (canon lift (core func $f \"f\"))))"
        );
        sandbox.write("many.wasm", wat::parse_str(component).unwrap());
        sandbox.vac(&["call", "many.wasm", "f()"]).fails(4, &["instance"]);
    }
}

/// Small programs of which the loading process made gigabytes of text.
#[test]
fn imports_and_types_take_no_more_text_than_is_shown() {
    let sandbox = Sandbox::new();
    let params = "i32 ".repeat(1000);
    let imports = "(import \"\" \"\" (func (type 0)))".repeat(20_000);
    let module = format!("(module (type (func (param {params}) (result {params}))) {imports})");
    sandbox.write("imports.wasm", wat::parse_str(module).unwrap());
    sandbox.vac(&["run", "imports.wasm"]).fails(6, &["at most 10000 imports"]);
    let mut types = format!("(type $t0 (record (field \"{}\" u8)))", "a".repeat(50_000));
    for i in 1..18 {
        types += &format!("(type $t{i} (tuple $t{} $t{}))", i - 1, i - 1);
    }
    // As an import it has no code of its own.
    let component = format!(
        "(component (import \"i\" (instance $i {types} (export \"t\" (type (eq $t17))) \
           (export \"f\" (func (param \"x\" $t17))))))"
    );
    sandbox.write("types.wasm", wat::parse_str(component).unwrap());
    let ran = sandbox.vac(&["inspect", "types.wasm"]);
    assert_in_order(&ran, "types with endless text");
    assert!(ran.stdout.len() + ran.stderr.len() < 1 << 20, "{} bytes", ran.stdout.len());
}
