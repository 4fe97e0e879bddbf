//! A list per row, all lists in one array ("compressed sparse rows").

/// For each row a list of numbers: who follows a user, or who tweeted a key.
///
/// Row `r` is `values[starts[r]..starts[r + 1]]`, so a graph of a million edges is one array of
/// four megabytes, and the followers of a user lie side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    starts: Box<[usize]>,
    values: Box<[u32]>,
}

impl Csr {
    /// Sorts (row, value) pairs into `rows` lists; within a list the order of the pairs is kept.
    ///
    /// # Panics
    /// If a pair names a row that is not below `rows`.
    pub fn from_pairs(rows: usize, pairs: &[(u32, u32)]) -> Csr {
        // A counting sort: count, turn counts into starts, then put each value at its row's cursor.
        let mut starts = vec![0_usize; rows + 1];
        for &(row, _) in pairs {
            starts[row as usize + 1] += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let mut cursors = starts.clone();
        let mut values = vec![0; pairs.len()];
        for &(row, value) in pairs {
            let cursor = &mut cursors[row as usize];
            values[*cursor] = value;
            *cursor += 1;
        }
        Csr { starts: starts.into(), values: values.into() }
    }

    /// The list of `row`.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline]
    pub fn row(&self, row: u32) -> &[u32] {
        let row = row as usize;
        &self.values[self.starts[row]..self.starts[row + 1]]
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// How many values all rows have together.
    pub fn values(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_the_order_of_its_pairs() {
        let csr = Csr::from_pairs(4, &[(2, 9), (0, 7), (2, 8), (2, 9)]);
        assert_eq!(csr.row(0), [7]);
        assert_eq!(csr.row(1), [0; 0]);
        assert_eq!(csr.row(2), [9, 8, 9]);
        assert_eq!(csr.row(3), [0; 0]);
        assert_eq!((csr.rows(), csr.values()), (4, 4));
    }

    #[test]
    fn no_rows_are_no_rows() {
        assert_eq!(Csr::from_pairs(0, &[]).rows(), 0);
    }
}
