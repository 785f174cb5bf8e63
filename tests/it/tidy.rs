//! House rules as tests: layers, file sizes, words that panic, where WGSL and wasm may be named.
//!
//! Reads the sources as text: comments and strings are told apart from code, nothing more is parsed.
//! `cargo test --test it tidy -- --nocapture` also prints how many lines each layer has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The layer of every module of `src/`; imports point down only.
const LAYERS: &[(&str, usize)] = &[
    ("error", 0),
    ("dtype", 0),
    ("shape", 0),
    ("graph", 1),
    ("ops", 2),
    ("grad", 2),
    ("reference", 2),
    ("compile", 3),
    ("device", 4),
    ("params", 5),
    ("nn", 6),
    ("optim", 6),
    ("data", 6),
    ("io", 6),
    ("train", 7),
    ("from_pytorch", 7),
];
/// What siblings of one layer may use of each other, and why.
const SIBLINGS: &[(&str, &str, &str)] = &[
    ("reference", "ops::threefry", "a pure function on the host: the bits' one definition"),
    ("data", "io::", "files, gzip, JSON and hashes, which io knows without knowing datasets"),
];

/// Most lines of a file, and the files that may have more, with the reason.
const LINES_MAX: usize = 600;
const LONG: &[(&str, usize, &str)] = &[
    ("src/graph/scalar.rs", 900, "the scalar table: one place to look"),
    ("ARCHITECTURE.md", 250, "it must be read in one sitting"),
    ("STYLE.md", 150, "likewise"),
];

/// Verbs of tensors that iterators, slices, strings or locks have too: a call of one says nothing.
const AMBIGUOUS: &[&str] =
    &["all", "any", "flatten", "max", "min", "read", "repeat", "slice", "sort", "split", "sum", "t", "take", "to_vec"];

/// Calls that can panic.
const PANICS: &[&str] = &[
    "unwrap(",
    "expect(",
    "panic!",
    "unreachable!",
    "assert!",
    "assert_eq!",
    "assert_ne!",
    "debug_assert!",
    "debug_assert_eq!",
    "todo!",
    "unimplemented!",
];

/// Where strings may hold WGSL.
const WGSL_AT: &[&str] = &["src/graph/scalar.rs", "src/compile/wgsl/"];
const WGSL: &[&str] = &["@group(", "@compute", "@workgroup_size", "@builtin", "bitcast<", "workgroupBarrier"];

/// What only the device layer touches, and what of it other modules may.
const DEVICE_ONLY: &[&str] =
    &["target_arch", "wgpu::", "rayon::", "gemm::", "naga::", "std::thread", "std::fs", "Instant::", "SystemTime::"];
const MAY_TOUCH: &[(&str, &[&str])] = &[
    // The rows of the scalar table are compiled for wider vectors, too.
    ("graph", &["target_arch"]),
    // A page has no products on matrix units.
    ("compile", &["target_arch"]),
    // A page has no kernels of attention.
    ("ops", &["target_arch"]),
    ("io", &["std::fs"]),
    ("data", &["target_arch", "std::thread"]),
    // A page has nothing to tune with.
    ("lib", &["target_arch"]),
    // A browser has a part of it.
    ("train", &["target_arch", "std::fs", "std::thread"]),
];

/// A match that names so many primitives gives all of them a meaning.
const EXHAUSTIVE_MIN: usize = 10;

/// A source file.
struct File {
    /// The path from the repository's root, with `/`.
    path: String,
    text: String,
    /// The text with comments and the insides of strings blanked, and unit tests cut.
    code: String,
    /// Strings outside comments, with their lines.
    strings: Vec<(usize, String)>,
}

impl File {
    fn read(path: &Path, root: &Path) -> File {
        let text = std::fs::read_to_string(path).unwrap();
        let (code, strings) = split(&text);
        // A file of unit tests may do what tests do.
        let code = if path.ends_with("tests.rs") && path.starts_with(root.join("src")) { String::new() } else { code };
        let path = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        File { path, code: without_tests(code), text, strings }
    }

    /// The module of `src/` the file belongs to.
    fn module(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or("");
        inner.split('/').next().unwrap_or("").trim_end_matches(".rs")
    }

    /// Every line of code with its number.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(k, line)| (k + 1, line))
    }

    /// Whether a comment above line `n` contains `word`, with nothing but the beginning of the same
    /// statement and attributes between them.
    fn proved(&self, n: usize, word: &str) -> bool {
        let lines: Vec<&str> = self.text.lines().take(n - 1).map(str::trim).collect();
        let ends =
            |line: &str| !line.starts_with("//") && !line.starts_with("#[") && line.ends_with([';', '{', '}', ',']);
        lines.iter().rev().take_while(|line| !ends(line)).any(|line| line.starts_with("//") && line.contains(word))
    }

    /// Whether the comment on line `n`, or on the lines right above it, contains `word`.
    fn says(&self, n: usize, word: &str) -> bool {
        let lines: Vec<&str> = self.text.lines().collect();
        let comment = |line: &str| line.trim_start().starts_with("//");
        let above = lines[..n - 1].iter().rev().take_while(|line| comment(line));
        lines[n - 1].split_once("//").is_some_and(|(_, c)| c.contains(word))
            || above.into_iter().any(|c| c.contains(word))
    }
}

/// The text with comments and the insides of strings blanked, and the strings.
fn split(text: &str) -> (String, Vec<(usize, String)>) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut strings) = (String::new(), Vec::new());
    let at = |k: usize| chars.get(k).copied().unwrap_or('\0');
    let (mut k, mut line) = (0, 1);
    while k < chars.len() {
        let c = chars[k];
        let ident = k > 0 && (chars[k - 1].is_alphanumeric() || chars[k - 1] == '_');
        let hashes = (k + 1..).take_while(|&n| at(n) == '#').count();
        if c == '/' && at(k + 1) == '/' {
            while k < chars.len() && chars[k] != '\n' {
                k += 1;
            }
        } else if c == '\'' && (at(k + 1) == '\\' || at(k + 2) == '\'') {
            // A character; a quote that begins a lifetime falls through.
            code.push_str("' '");
            k += if at(k + 1) == '\\' { 3 } else { 2 };
            while at(k) != '\'' {
                k += 1;
            }
            k += 1;
        } else if c == '"' || (c == 'r' && !ident && at(k + 1 + hashes) == '"') {
            let raw = (c == 'r').then_some(hashes);
            let start = line;
            let mut string = String::new();
            k += raw.map_or(1, |n| n + 2);
            code.push('"');
            while k < chars.len() {
                let ends = match raw {
                    Some(n) => at(k) == '"' && (1..=n).all(|h| at(k + h) == '#'),
                    None => at(k) == '"',
                };
                if ends {
                    k += 1 + raw.unwrap_or(0);
                    break;
                }
                if at(k) == '\n' {
                    code.push('\n');
                    line += 1;
                }
                string.push(at(k));
                if raw.is_none() && at(k) == '\\' {
                    // What is escaped ends nothing.
                    if at(k + 1) == '\n' {
                        code.push('\n');
                        line += 1;
                    }
                    k += 1;
                    string.push(at(k));
                }
                k += 1;
            }
            code.push('"');
            strings.push((start, string));
        } else {
            line += usize::from(c == '\n');
            code.push(c);
            k += 1;
        }
    }
    (code, strings)
}

/// The code up to where unit tests begin; they stand last in a file.
fn without_tests(code: String) -> String {
    match code.find("#[cfg(test)]\nmod") {
        Some(at) if code[at..].find('{') < code[at..].find(';') => code[..at].to_string(),
        _ => code,
    }
}

/// The text of the block that opens at or after `from`, and where it ends.
fn block(code: &str, from: usize) -> Option<(&str, usize)> {
    let open = from + code[from..].find('{')?;
    let mut depth = 0;
    for (k, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&code[open + 1..open + k], open + k));
        }
    }
    None
}

/// Where `word` stands in `code` as a word of its own.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let alone = move |at: &usize| {
        let starts = !word.starts_with(char::is_alphanumeric) || !part(code[..*at].chars().next_back());
        let ends =
            !word.ends_with(|c: char| c.is_alphanumeric() || c == '_') || !part(code[at + word.len()..].chars().next());
        starts && ends
    };
    code.match_indices(word).map(|(at, _)| at).filter(alone)
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `folder` whose names end in `.ext`, in order.
fn below(folder: &str, ext: &str) -> Vec<PathBuf> {
    let mut open = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == ext) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<File> {
    below("src", "rs").iter().map(|path| File::read(path, &root())).collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

#[track_caller]
fn report(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}\n  {}", wrong.join("\n  "));
}

/// Names that `lib.rs` re-exports, with the modules they come from.
fn exports(lib: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for at in words(lib, "pub use").filter(|&at| !lib[..at].contains("pub mod prelude")) {
        let statement = lib[at + "pub use".len()..].split(';').next().unwrap_or("");
        let module = statement.trim().split("::").next().unwrap_or("").to_string();
        let names = statement.rsplit("::").next().unwrap_or("").trim_matches(['{', '}']);
        names.split(',').for_each(|name| drop(found.insert(name.trim().to_string(), module.clone())));
    }
    found
}

/// Every path from the crate's root that `code` names, with its line.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "crate::") {
        let rest = &code[at + "crate::".len()..];
        let path =
            |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect::<String>();
        match rest.starts_with('{') {
            true => {
                let group = block(rest, 0).map_or("", |(inner, _)| inner);
                found.extend(group.split(',').map(|item| (line_of(code, at), path(item.trim()))));
            }
            false => found.push((line_of(code, at), path(rest))),
        }
    }
    found
}

/// Verbs each module gives to `Tensor`: the name, and whether it is called on a tensor.
fn verbs(files: &[File]) -> BTreeMap<String, (String, bool)> {
    let mut found = BTreeMap::new();
    for file in files {
        for at in words(&file.code, "impl Tensor") {
            let Some((inner, _)) = block(&file.code, at) else { continue };
            let public =
                |at: usize| inner[..at].lines().last().is_some_and(|line| line.trim_start().starts_with("pub"));
            for start in words(inner, "fn").filter(|&at| public(at)) {
                let name: String =
                    inner[start + 2..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let arguments = inner[start..].split_once('(').map_or("", |(_, rest)| rest);
                let on_self = arguments.trim_start().trim_start_matches('&').starts_with("self");
                found.insert(name, (file.module().to_string(), on_self));
            }
        }
    }
    found.remove("");
    found
}

#[test]
fn dependencies_point_down() {
    let files = sources();
    let exports = exports(&files.iter().find(|file| file.path == "src/lib.rs").unwrap().code);
    let verbs = verbs(&files);
    assert!(verbs.len() > 100, "too few verbs were found: {}", verbs.len());
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.path != "src/lib.rs") {
        let (path, module) = (&file.path, file.module());
        let Some(own) = layer(module) else {
            wrong.push(format!("{path}: give the module {module} a layer"));
            continue;
        };
        let below = |other: &str| other == module || layer(other).is_some_and(|other| other < own);
        for (n, import) in imports(&file.code) {
            let first = import.split("::").next().unwrap_or("");
            let target = exports.get(first).map_or(first, String::as_str);
            let excused = SIBLINGS.iter().any(|(who, what, _)| *who == module && import.starts_with(what));
            if !below(target) && !excused {
                wrong.push(format!("{path}:{n} reaches up or sideways to {import}"));
            }
        }
        let depth = path.matches('/').count() - usize::from(path.ends_with("/mod.rs"));
        if file.code.contains(&"super::".repeat(depth)) {
            wrong.push(format!("{path} reaches the crate's root by `super`; write `crate::`"));
        }
        for (verb, (home, on_self)) in &verbs {
            let calls = [format!(".{verb}("), format!(".{verb}::<")];
            let dotted = *on_self && own > 0 && !AMBIGUOUS.contains(&verb.as_str());
            let calls = calls.iter().filter(|_| dotted).cloned().chain([format!("Tensor::{verb}(")]);
            for call in calls.filter(|_| !below(home)) {
                if let Some(at) = words(&file.code, &call).next() {
                    wrong.push(format!("{path}:{} calls `{call}`, a verb of {home}", line_of(&file.code, at)));
                }
            }
        }
    }
    report("dependencies point down (ARCHITECTURE.md, Layers):", &wrong);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    let folders = [("src", "rs"), ("tests", "rs"), ("examples", "rs"), ("benches", "rs"), ("shaders", "wgsl")];
    let papers = ["README", "ARCHITECTURE", "STYLE", "CONTRIBUTING"].map(|name| root().join(name).with_extension("md"));
    let files = folders.iter().flat_map(|(folder, ext)| below(folder, ext));
    for path in files.chain(papers) {
        let file = File::read(&path, &root());
        let limit = LONG.iter().find(|(path, ..)| *path == file.path).map_or(LINES_MAX, |(_, lines, _)| *lines);
        let n = file.text.lines().count();
        if n > limit {
            wrong.push(format!("{}: {n} lines, at most {limit}", file.path));
        }
        let comment = if file.path.ends_with(".rs") { "//!" } else { "//" };
        let starts = file.text.starts_with(comment) || file.text.starts_with("#![doc = include_str!");
        if !starts && !file.path.ends_with(".md") {
            wrong.push(format!("{}: does not start with a comment that says what it is", file.path));
        }
    }
    report("files are short and say what they are:", &wrong);
}

#[test]
fn nothing_panics() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (n, line) in file.lines() {
            // A method of one's own with such a name is not the one that panics.
            let line = line.replace(".expect()", "").replace("fn expect(", "");
            let word = PANICS.iter().find(|word| words(&line, word).next().is_some());
            if let Some(word) = word
                && !file.says(n, "cannot")
            {
                wrong.push(format!("{}:{n} has `{word}`, and no comment says why it cannot fire", file.path));
            }
        }
    }
    report("errors are values (law 7):", &wrong);
}

#[test]
fn primitives_have_no_wildcard() {
    let mut wrong = Vec::new();
    let mut exhaustive = 0;
    for file in sources() {
        for at in words(&file.code, "match") {
            let Some((inner, _)) = block(&file.code, at) else { continue };
            let arms = arms(inner);
            let named: BTreeSet<String> = arms.iter().flat_map(|arm| primitives(arm)).collect();
            if named.len() < EXHAUSTIVE_MIN {
                continue;
            }
            exhaustive += 1;
            if arms.iter().any(|arm| ["_", "(_, _)", "_ if"].iter().any(|w| arm.trim() == *w)) {
                let n = line_of(&file.code, at);
                wrong.push(format!("{}:{n} matches {} primitives and has a wildcard arm", file.path, named.len()));
            }
        }
    }
    assert!(exhaustive >= 5, "only {exhaustive} matches over all primitives were found");
    report("a match that gives every primitive a meaning has no wildcard arm (law 2):", &wrong);
}

/// The patterns of a match's arms.
fn arms(inner: &str) -> Vec<String> {
    let mut arms = vec![String::new()];
    let (mut depth, mut in_body) = (0usize, false);
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '=' if depth == 0 && !in_body && chars.peek() == Some(&'>') => {
                in_body = true;
                chars.next();
                continue;
            }
            _ => {}
        }
        // A body ends with a comma, or with its own closing brace.
        if in_body && depth == 0 && (c == ',' || c == '}') {
            in_body = false;
            arms.push(String::new());
        } else if !in_body && let Some(arm) = arms.last_mut() {
            arm.push(if c == ',' && depth == 0 { ' ' } else { c });
        }
    }
    arms
}

/// The variants of `Op` that a pattern names.
fn primitives(pattern: &str) -> Vec<String> {
    let name = |at: usize| pattern[at + 4..].chars().take_while(|c| c.is_alphanumeric()).collect();
    words(pattern, "Op::").map(name).collect()
}

#[test]
fn shader_text_and_platforms_keep_their_places() {
    let mut wrong = Vec::new();
    for file in sources() {
        let path = &file.path;
        if !WGSL_AT.iter().any(|place| path.starts_with(place)) {
            for (n, string) in &file.strings {
                if let Some(word) = WGSL.iter().find(|word| string.contains(**word)) {
                    wrong.push(format!("{path}:{n} has WGSL in a string: {word}"));
                }
            }
        }
        if words(&file.code, "std::env").next().is_some() {
            wrong.push(format!("{path} reads the environment, which may change no result"));
        }
        if file.module() != "device" {
            let may = MAY_TOUCH.iter().find(|(module, _)| *module == file.module()).map_or(&[][..], |(_, may)| may);
            for word in DEVICE_ONLY.iter().filter(|word| !may.contains(word)) {
                if let Some(at) = words(&file.code, word).next() {
                    wrong.push(format!(
                        "{path}:{} mentions {word}, which only the device layer may",
                        line_of(&file.code, at)
                    ));
                }
            }
        }
    }
    report("WGSL stands in the table, in compile/wgsl and in shaders/; platforms in device/:", &wrong);
}

#[test]
fn unsafe_is_proved_where_it_stands() {
    let mut wrong = Vec::new();
    for file in sources() {
        for at in words(&file.code, "unsafe") {
            let n = line_of(&file.code, at);
            let declares = file.code[at..].starts_with("unsafe fn");
            let word = if declares { "# Safety" } else { "SAFETY" };
            if !file.proved(n, word) {
                wrong.push(format!("{}:{n} is unsafe without `{word}`", file.path));
            }
        }
    }
    report("every unsafe step is proved where it stands:", &wrong);
}

/// Prints the map of the crate: lines of code, without comments, blank lines and unit tests.
#[test]
fn lines_per_layer() {
    let mut layers: BTreeMap<usize, (BTreeSet<String>, usize, usize)> = BTreeMap::new();
    let files = sources();
    for file in &files {
        let Some(layer) = layer(file.module()) else { continue };
        let (modules, count, lines) = layers.entry(layer).or_default();
        modules.insert(file.module().to_string());
        *count += 1;
        *lines += file.lines().filter(|(_, line)| !line.trim().is_empty()).count();
    }
    println!("layer  files  lines  modules");
    for (layer, (modules, count, lines)) in layers.iter().rev() {
        let modules: Vec<&str> = modules.iter().map(String::as_str).collect();
        println!("{layer:>5}  {count:>5}  {lines:>5}  {}", modules.join(" "));
    }
    let op = files.iter().find(|file| file.path == "src/graph/op.rs").unwrap();
    let variants = block(&op.code, op.code.find("pub enum Op").unwrap()).unwrap().0;
    let n = variants.lines().filter(|line| line.trim().starts_with(char::is_uppercase)).count();
    println!("primitives: {n}; scalar rows: {}", wgrad::graph::Scalar::ALL.len());
}
