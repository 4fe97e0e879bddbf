//! Numbers as people read them.

use std::fmt;

/// A time in milliseconds.
pub(super) struct Duration(pub(super) u64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000;
        match seconds {
            0 => write!(f, "{} ms", self.0),
            1..60 => write!(f, "{}.{} s", seconds, self.0 % 1_000 / 100),
            60..3_600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            _ => write!(f, "{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        }
    }
}

/// `1 call is`, `2 calls are`.
pub(super) fn plural(count: usize, is: &str, are: &str, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one} {is}") } else { format!("{count} {many} {are}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units_at_most() {
        let told = [(7, "7 ms"), (1_250, "1.2 s"), (61_000, "1 min 1 s"), (7_260_000, "2 h 1 min")];
        for (time, text) in told {
            assert_eq!(Duration(time).to_string(), text);
        }
    }
}
