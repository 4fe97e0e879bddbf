//! Relative links in Markdown lead somewhere: to a file, and to a heading of it if they name one.

use std::collections::BTreeSet;

use super::{Finding, Source};

/// Checks all Markdown files.
pub(super) fn check(sources: &[Source], findings: &mut Vec<Finding>) {
    let root = crate::root();
    for source in sources.iter().filter(|source| source.has_extension("md")) {
        for (number, line) in prose(source) {
            for link in links(line) {
                let (file, heading) = link.split_once('#').unwrap_or((link, ""));
                let path = resolve(&source.path, file);
                let target = sources.iter().find(|target| target.path == path);
                if target.is_none() && !root.join(&path).exists() {
                    findings.push(source.finding(number, format!("dead link `{link}`")));
                } else if let Some(target) = target
                    && target.has_extension("md")
                    && !heading.is_empty()
                    && !headings(target).contains(heading)
                {
                    findings.push(source.finding(number, format!("no such heading `{link}`")));
                }
            }
        }
    }
}

/// The lines outside code blocks.
fn prose(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    source.lines().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// The relative targets of a line's inline links.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', ' ']).next().unwrap_or("");
        let elsewhere = target.contains("://") || target.starts_with("mailto:");
        (!elsewhere && !target.is_empty()).then_some(target)
    })
}

/// `file`, as seen from the folder of `from`, from the root.
fn resolve(from: &str, file: &str) -> String {
    if file.is_empty() {
        return from.to_owned();
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchors that a Markdown renderer makes of the headings.
fn headings(source: &Source) -> BTreeSet<String> {
    prose(source)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::tidy::tests::found;

    #[test]
    fn dead_links_are_found_and_living_ones_not() {
        let text = "[a](b.md) [b](b.md#two-words) [c](#here) [d](../Cargo.toml)\n# Here\n\
                    [e](gone.md) [f](b.md#three) [g](https://example.org/x) `[h](code)`\n";
        let other = ("docs/b.md", "# Two words!\n");
        let expected = ["dead link `gone.md`", "no such heading `b.md#three`", "dead link `code`"];
        let mut have = found(&[("docs/a.md", text), other]);
        have.sort();
        let mut expected = expected.map(str::to_owned);
        expected.sort();
        assert_eq!(have, expected);
    }

    #[test]
    fn code_blocks_hold_no_links() {
        assert_eq!(found(&[("a.md", "```\n[a](gone.md)\n```\n")]), [""; 0]);
    }
}
