//! Small made-up sources with mutants in them.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use crate::mutants::list::{Function, Mutant, Place, Span};
use crate::mutants::weave::{Woven, code_only, weave};

/// Where a piece of a text is that occurs in it once.
fn span(text: &str, piece: &str) -> Span {
    assert_eq!(text.matches(piece).count(), 1, "{piece}");
    let start = text.find(piece).expect("it is there");
    let place = |at: usize| {
        let before = &text[..at];
        let line = before.rsplit('\n').next().unwrap_or_default();
        Place {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
        }
    };
    Span {
        start: place(start),
        end: place(start + piece.len()),
    }
}

/// A mutant that replaces the marked part of a line, `before[what]after`, in a function.
fn mutant(text: &str, id: u32, function: &str, marked: &str, replacement: &str) -> Mutant {
    let (before, rest) = marked.split_once('⟦').expect("a mark");
    let (what, after) = rest.split_once('⟧').expect("another one");
    let whole = span(text, &format!("{before}{what}{after}"));
    let column = whole.start.column + before.chars().count();
    let line = whole.start.line;
    let lines = what.matches('\n').count();
    assert_eq!(lines, 0, "a mutant of one line");
    let end = column + what.chars().count();
    Mutant {
        id,
        name: format!("a.rs:{line}:{column}: {replacement}"),
        lasting_name: format!("a.rs: {replacement}"),
        file: "a.rs".into(),
        span: Span {
            start: Place { line, column },
            end: Place { line, column: end },
        },
        replacement: replacement.into(),
        is_body: false,
        function: Some(Function {
            span: span(text, function),
            return_type: String::new(),
        }),
    }
}

fn woven(text: &str, mutants: &[Mutant], broken: &[u32]) -> Woven {
    let mutants: Vec<&Mutant> = mutants.iter().collect();
    let broken: HashSet<u32> = broken.iter().copied().collect();
    weave(text, &mutants, &broken, "active").expect("it can be woven")
}

const SUM: &str = "fn sum(a: u8) -> u8 {\n    a + 1\n}";

#[test]
fn a_function_stands_once_for_each_mutant_and_once_as_it_is() {
    let text = format!("use a;\n{SUM}\nfn other() {{}}\n");
    let two = [
        mutant(&text, 7, SUM, "a ⟦+⟧ 1", "-"),
        mutant(&text, 9, SUM, "    ⟦a + 1⟧", "0"),
    ];
    let woven = woven(&text, &two, &[]);
    assert_eq!(
        woven.text,
        "use a;\nfn sum(a: u8) -> u8 { match active(7) {\n\
         7 => {\n    a  -  1\n}\n\
         9 => {\n     0 \n}\n\
         _ => {\n    a + 1\n}\n} }\nfn other() {}\n"
    );
    assert!(woven.left_out.is_empty());
}

#[test]
fn each_mutant_is_found_again_by_the_lines_of_its_body() {
    let text = format!("use a;\n{SUM}\nfn next(b: u8) -> u8 {{ b * 3 }}\n");
    let next = "fn next(b: u8) -> u8 { b * 3 }";
    let two = [
        mutant(&text, 1, SUM, "a ⟦+⟧ 1", "-"),
        mutant(&text, 2, SUM, "a ⟦+⟧ 1", "^"),
        mutant(&text, 3, next, "b ⟦*⟧ 3", "|"),
    ];
    let woven = woven(&text, &two, &[]);
    let lines: Vec<&str> = woven.text.lines().collect();
    for (arm, sign) in woven.arms.iter().zip([" - ", " ^ ", " | "]) {
        let body = lines[arm.first - 1..arm.last].join("\n");
        assert!(body.starts_with(&format!("{} => {{", arm.id)), "{body}");
        assert!(body.ends_with('}') && body.contains(sign), "{body}");
    }
    assert_eq!(woven.arms.len(), 3);
}

#[test]
fn a_mutant_that_does_not_build_is_not_woven() {
    let two = [
        mutant(SUM, 1, SUM, "a ⟦+⟧ 1", "-"),
        mutant(SUM, 2, SUM, "a ⟦+⟧ 1", "*"),
    ];
    let woven = woven(SUM, &two, &[1]);
    let ids: Vec<u32> = woven.arms.iter().map(|arm| arm.id).collect();
    assert_eq!(ids, [2]);
    assert!(!woven.text.contains("1 => "), "{}", woven.text);
}

#[test]
fn what_the_compiler_has_to_know_is_left_out() {
    let text = "const A: u8 = 1 + 2;\n/// Adds.\npub const fn b() -> u8 { 3 + 4 }\n\
                fn c() -> impl Fn() -> u8 { || 5 + 6 }\n";
    let constant = Mutant {
        function: None,
        ..mutant(text, 1, "1 + 2", "1 ⟦+⟧ 2", "-")
    };
    let function = "/// Adds.\npub const fn b() -> u8 { 3 + 4 }";
    let returning = "fn c() -> impl Fn() -> u8 { || 5 + 6 }";
    let opaque = Mutant {
        function: Some(Function {
            span: span(text, returning),
            return_type: "-> impl Fn() -> u8".into(),
        }),
        ..mutant(text, 3, returning, "5 ⟦+⟧ 6", "-")
    };
    let three = [constant, mutant(text, 2, function, "3 ⟦+⟧ 4", "-"), opaque];
    let mut woven = woven(text, &three, &[]);
    woven.left_out.sort_unstable();
    assert_eq!(
        woven.left_out,
        [
            (1, "in a constant"),
            (2, "a const function"),
            (3, "returns impl Trait"),
        ]
    );
    assert_eq!((woven.text.as_str(), woven.arms.len()), (text, 0));
}

#[test]
fn words_and_braces_outside_of_code_count_for_nothing() {
    let text = "/// A const fn { ( of impl.\n#[doc = \"{(\"]\nfn é<'a>(b: &'a [u8; { 2 }]) -> char \
                /* { */ { 'ß'; '{' }";
    let one = [mutant(text, 1, text, "⟦'{'⟧ }", "'}'")];
    let woven = woven(text, &one, &[]);
    assert_eq!(woven.left_out, []);
    assert!(
        woven.text.contains("1 => { 'ß';  '}'  }\n"),
        "{}",
        woven.text
    );
    let text = "a r#\"{\"\"# '\\'' \"\\\"{\" 'b { // {\n}";
    let code = code_only(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(
        code.split_whitespace().collect::<Vec<_>>(),
        ["a", "'b", "{", "}"]
    );
}

/// A program whose functions are changed in every way; it prints what they return.
const PROGRAM: &str = "mod mutants;
fn outer(a: u32) -> u32 {
    fn inner(b: u32) -> u32 {
        b * 3
    }
    inner(a) + 1
}
fn is_large(a: u32) -> bool {
    !(a < 10)
}
fn name<'a>(a: &'a str, given: Option<&'a str>) -> &'a str {
    match given {
        Some(given) if given.len() > 2 => given,
        _ => a,
    }
}
fn main() {
    outer(4);
    println!(\"{} {} {}\", outer(5), is_large(10), name(\"nobody\", Some(\"me\")));
}
";

#[test]
fn a_number_chooses_a_mutant_of_a_program_that_is_built_once() {
    let piece = |from: &str, to: &str| {
        let start = PROGRAM.find(from).expect("it begins");
        let end = PROGRAM[start..].find(to).expect("it ends");
        &PROGRAM[start..start + end + to.len()]
    };
    let (outer, inner) = (piece("fn outer", "\n}"), piece("fn inner", "    }"));
    let (large, name) = (piece("fn is_large", "\n}"), piece("fn name", "\n}"));
    let mutants = [
        mutant(PROGRAM, 1, inner, "b ⟦*⟧ 3", "+"),
        mutant(PROGRAM, 2, outer, "inner(a) ⟦+⟧ 1", "-"),
        mutant(PROGRAM, 3, inner, "        ⟦b * 3⟧", "0"),
        mutant(PROGRAM, 4, large, "⟦!⟧(a", ""),
        mutant(PROGRAM, 5, name, "if ⟦given.len() > 2⟧ =>", "true"),
        mutant(PROGRAM, 6, large, "⟦!(a < 10)⟧", "Box::new(7)"),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    let all: Vec<&Mutant> = mutants.iter().collect();
    let woven =
        weave(PROGRAM, &all, &[6].into(), "crate::mutants::active_in").expect("it is woven");
    let main = directory.path().join("main.rs");
    fs::write(&main, woven.text).expect("a file");
    let functions_of = woven.functions;
    let switch = directory.path().join("mutants.rs");
    fs::write(switch, include_str!("../switch.rs")).expect("a file");
    let program = directory.path().join("program");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "--cap-lints", "allow", "-o"]);
    let built = rustc.arg(&program).arg(&main).output().expect("it starts");
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{errors}");
    let says = |id: &str| {
        let output = Command::new(&program).env("RBD_MUTANT", id).output();
        let output = output.expect("it runs").stdout;
        String::from_utf8_lossy(&output).trim().to_owned()
    };
    assert_eq!(says("0"), "16 true nobody");
    assert_eq!(says("1"), "9 true nobody");
    assert_eq!(says("2"), "14 true nobody");
    assert_eq!(says("3"), "1 true nobody");
    assert_eq!(says("4"), "16 false nobody");
    assert_eq!(says("5"), "16 true me");
    assert_eq!(says("6"), says("0"));
    let notes = directory.path().join("notes");
    let run = Command::new(&program)
        .env("RBD_MUTANT_NOTES", &notes)
        .output();
    let output = run.expect("it runs").stdout;
    assert_eq!(String::from_utf8_lossy(&output), "16 true nobody\n");
    let notes = fs::read_to_string(notes).expect("there are notes");
    assert_eq!(notes, "1\n4\n5\n");
    let functions = [(1, 1), (2, 1), (3, 1), (4, 4), (5, 5), (6, 4)];
    assert_eq!(functions_of, functions.into());
}
