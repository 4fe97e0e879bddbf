//! Every source file is part of a program: some `mod` names it.

use super::{Finding, Source};

/// Checks the files below the `src` folders; those in `tests`, `examples` and `benches` are programs
/// of their own.
pub(super) fn check(sources: &[Source], findings: &mut Vec<Finding>) {
    for source in sources.iter().filter(|source| source.has_extension("rs")) {
        let Some((package, inside)) = source.path.split_once("src/") else { continue };
        if matches!(inside, "lib.rs" | "main.rs" | "build.rs") || inside.starts_with("bin/") {
            continue;
        }
        let parents = parents(package, inside);
        let named = sources
            .iter()
            .filter(|parent| parents.contains(&parent.path))
            .any(|parent| names(&parent.text, stem(inside)) || points(&parent.text, inside));
        if !named && !is_program(sources, package, inside) {
            findings.push(source.finding(1, "no `mod` names this file"));
        }
    }
}

/// Whether the package's manifest names the file as the root of a program.
fn is_program(sources: &[Source], package: &str, inside: &str) -> bool {
    let manifest = format!("{package}Cargo.toml");
    let path = format!("\"src/{inside}\"");
    sources.iter().any(|source| source.path == manifest && source.text.contains(&path))
}

/// The name that a `mod` gives the file: its own, or its folder's for `mod.rs`.
fn stem(inside: &str) -> &str {
    let path = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    path.rsplit('/').next().unwrap_or(path)
}

/// The files that may hold the `mod`.
fn parents(package: &str, inside: &str) -> Vec<String> {
    let path = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    match path.rsplit_once('/') {
        None => ["lib.rs", "main.rs"].map(|root| format!("{package}src/{root}")).into(),
        Some((folder, _)) => {
            [format!("{package}src/{folder}.rs"), format!("{package}src/{folder}/mod.rs")].into()
        }
    }
}

/// Whether a `#[path]` names the file.
fn points(text: &str, inside: &str) -> bool {
    let file = inside.rsplit('/').next().unwrap_or(inside);
    text.contains(&format!("#[path = \"{file}\"]"))
}

fn names(text: &str, stem: &str) -> bool {
    text.lines().any(|line| {
        let words = line.trim().trim_end_matches(';');
        line.trim().ends_with(';')
            && (words == format!("mod {stem}") || words.ends_with(&format!(" mod {stem}")))
    })
}

#[cfg(test)]
mod tests {
    use crate::tidy::tests::found;

    #[test]
    fn a_file_that_no_mod_names_is_found() {
        let files = [
            ("crates/x/src/lib.rs", "pub mod a;\nmod b;\n"),
            ("crates/x/src/a.rs", "pub(crate) mod c;\n"),
            ("crates/x/src/a/c.rs", ""),
            ("crates/x/src/b/mod.rs", ""),
        ];
        assert_eq!(found(&files), [""; 0]);
        let elsewhere = [
            ("crates/x/src/lib.rs", "#[path = \"b.rs\"]\nmod hidden;\n"),
            ("crates/x/src/b.rs", ""),
        ];
        assert_eq!(found(&elsewhere), [""; 0]);
        let dead = [("crates/x/src/lib.rs", "mod ab;\n"), ("crates/x/src/b.rs", "")];
        assert_eq!(found(&dead), ["no `mod` names this file"]);
    }
}
