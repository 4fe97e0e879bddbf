//! The nearest known name, for errors about a name that nobody knows.

use std::fmt;

/// The name among `known` that `name` was probably meant to be.
///
/// Ties go to the name that comes first. Names that share too little with `name` are not offered: a
/// wrong hint costs more than none.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What to say after the naming of an unknown name: the nearest one and all that are known.
///
/// Displays as ``; did you mean `split`? (known: `split`, `words`)``. At most twenty are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    nearest: Option<String>,
    known: Vec<String>,
}

/// How many known names an error lists before it only counts the rest.
const LISTED_MAX: usize = 20;

impl Hint {
    /// The hint for `name` where `known` would have been valid.
    pub fn new<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
        let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        Self { nearest, known }
    }

    /// The name that was probably meant.
    pub fn nearest(&self) -> Option<&str> {
        self.nearest.as_deref()
    }

    /// The names that would have been valid.
    pub fn known(&self) -> &[String] {
        &self.known
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        if self.known.is_empty() {
            return f.write_str(" (none is known)");
        }
        f.write_str(" (known: ")?;
        for (position, name) in self.known.iter().take(LISTED_MAX).enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}`{name}`")?;
        }
        match self.known.len().saturating_sub(LISTED_MAX) {
            0 => f.write_str(")"),
            more => write!(f, " and {more} more)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_letter_finds_its_name() {
        assert_eq!(nearest("spilt", ["words", "split", "count"]), Some("split"));
    }

    #[test]
    fn a_name_that_shares_nothing_is_not_offered() {
        assert_eq!(nearest("abc", ["words", "split"]), None);
        assert_eq!(nearest("", ["words"]), None);
    }

    #[test]
    fn a_hint_names_the_nearest_and_the_known_ones() {
        let hint = Hint::new("spilt", ["words", "split"]);
        assert_eq!(hint.to_string(), "; did you mean `split`? (known: `words`, `split`)");
        assert_eq!(Hint::new("x", []).to_string(), " (none is known)");
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let names: Vec<String> = (0..23).map(|number| format!("name{number:02}")).collect();
        let text = Hint::new("other", names.iter().map(String::as_str)).to_string();
        assert!(text.ends_with("`name19` and 3 more)"), "{text}");
    }
}
