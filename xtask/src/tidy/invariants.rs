//! Invariants have names, such as `ACK` and a number; a name that is cited is defined, once.
//!
//! A definition is the name in bold with its title, as a module's documentation gives it; any other
//! mention is a citation.

use std::collections::BTreeMap;

use super::{Finding, Source};

/// Words of the same shape that are none of ours.
const FOREIGN: [&str; 14] = [
    "UTF", "SHA", "ISO", "AVX", "RFC", "CC", "BSD", "MIT", "MPL", "STORM", "SSE", "RUSTSEC", "TLS",
    "CVE",
];

/// Checks all sources and Markdown files.
pub(super) fn check(sources: &[Source], findings: &mut Vec<Finding>) {
    let mut defined: BTreeMap<&str, &Source> = BTreeMap::new();
    let mut cited = Vec::new();
    for source in sources.iter().filter(|s| s.has_extension("rs") || s.has_extension("md")) {
        // This file's own examples.
        if source.path.ends_with("tidy/invariants.rs") {
            continue;
        }
        for (number, line) in source.lines() {
            for (name, is_definition) in names(line) {
                if !is_definition {
                    cited.push((name, source, number));
                } else if let Some(first) = defined.insert(name, source) {
                    let what = format!("{name} is defined in {} too", first.path);
                    findings.push(source.finding(number, what));
                }
            }
        }
    }
    for (name, source, number) in cited {
        if !defined.contains_key(name) {
            findings.push(source.finding(number, format!("{name} is cited but defined nowhere")));
        }
    }
}

/// The names in a line, and whether it defines them.
fn names(line: &str) -> impl Iterator<Item = (&str, bool)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    line.split(move |c| !is_part(c)).filter_map(move |word| {
        let (family, number) = word.split_once('-')?;
        let ours = family.len() >= 2
            && family.bytes().all(|byte| byte.is_ascii_uppercase())
            && !FOREIGN.contains(&family)
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit());
        ours.then(|| (word, line.contains(&format!("**{word} ("))))
    })
}

#[cfg(test)]
mod tests {
    use crate::tidy::tests::found;

    #[test]
    fn a_name_cited_but_not_defined_is_found() {
        let defined = ("a.md", "- **ACK-1 (folded once).** Always.\n");
        let cites = ("b.md", "By ACK-1 and ACK-2, in UTF-8, within 10 A-1 steps.\n");
        assert_eq!(found(&[defined, cites]), ["ACK-2 is cited but defined nowhere"]);
    }

    #[test]
    fn a_name_defined_twice_is_found() {
        let text = "**ACK-1 (a).** x";
        assert_eq!(found(&[("a.md", text), ("b.md", text)]), ["ACK-1 is defined in a.md too"]);
    }
}
