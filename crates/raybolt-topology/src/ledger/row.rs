//! Many tuples at once: counted in a register, written down when the row ends.

use raybolt_core::ids::RequestId;

use super::{Kind, Ledger};

/// Counts what is sent for the same request in a row, in a register instead of in the ledger.
///
/// It is written down when the row ends, also by a panic: until then the tuple that it is sent for
/// is not settled (LEDGER-1).
pub(crate) struct Row<'l> {
    pub(crate) ledger: &'l mut Ledger,
    slot: usize,
    request: Option<RequestId>,
    count: u32,
}

impl<'l> Row<'l> {
    pub(crate) fn new(ledger: &'l mut Ledger, slot: usize) -> Self {
        Row { ledger, slot, request: None, count: 0 }
    }

    /// A tuple of this request, if of one, is sent.
    #[inline]
    pub(crate) fn add(&mut self, request: Option<RequestId>) {
        if request != self.request {
            self.close();
            self.request = request;
        }
        self.count += 1;
    }

    fn close(&mut self) {
        let count = std::mem::take(&mut self.count);
        if let Some(request) = self.request
            && count > 0
        {
            self.ledger.turn_run(request, Kind::Work);
            self.ledger.run.sent[self.slot].count += count;
        }
        self.ledger.counters.emitted += u64::from(count);
    }
}

impl Drop for Row<'_> {
    fn drop(&mut self) {
        self.close();
    }
}
