//! Who waits for the store, and who has its room.

use raybolt_core::calls::objects::{Holder, Usage, Whereabouts};
use raybolt_core::ids::ProcessId;

use super::{Cause, HOLDERS_MAX, Walk};
use crate::awaited::What;
use crate::ids::Id;

/// The driver, as a reader of its store.
const DRIVER: ProcessId = ProcessId(0);

impl Walk<'_> {
    /// Says what `who` waits for in the store, and who has the room.
    pub(super) fn full_store(
        &mut self,
        what: &What,
        who: &str,
        since: &str,
        id: Option<Id>,
        depth: usize,
    ) {
        let waits = match what {
            What::Room { needed } => format!("waits for room of {needed} bytes in the store"),
            What::Disk { bytes } => {
                format!("waits for an object of {bytes} bytes that lies on disk")
            }
            What::Lending { bytes } => format!(
                "waits to lend {bytes} bytes to a worker, until less than half of the store is being read"
            ),
            What::Object(_) | What::Some { .. } | What::Item(_) | What::Reader(_) => return,
        };
        let Some(store) = self.store.take() else {
            // Room came between one look and the other.
            return self.step(depth, Cause::Store, id, format!("{who} {waits}{since}"));
        };
        let text = format!("{who} {waits}{since}: {}", taken(&store.usage));
        self.step(depth, Cause::Store, id, text);
        for holder in store.objects.iter().take(HOLDERS_MAX) {
            self.room_holder(holder, depth + 1);
        }
        for (process, bytes) in store.slabs.iter().take(HOLDERS_MAX) {
            let text = format!("worker-{process} has {bytes} bytes to write its values to");
            self.step(depth + 1, Cause::Holder, None, text);
        }
        self.store = Some(store);
    }

    fn room_holder(&mut self, holder: &Holder, depth: usize) {
        let object = self.node.and_then(|node| node.shelf.object_at(holder.object.key));
        let id = object.map(Id::object);
        let name = id.map_or_else(|| "a value on its way".to_owned(), |id| id.to_string());
        let readers: Vec<_> = holder.readers.iter().map(|process| reader(*process)).collect();
        let state = match (holder.object.whereabouts, holder.object.is_released) {
            (Whereabouts::Spilling, _) => "on its way to disk".to_owned(),
            (Whereabouts::Restoring, _) => "on its way from disk".to_owned(),
            _ if readers.is_empty() => "read by nobody: it can be spilled".to_owned(),
            (_, true) => format!("read by {}, with no reference left", readers.join(", ")),
            (_, false) => format!("read by {}", readers.join(", ")),
        };
        let text = format!("{name} has {} bytes, {state}", holder.object.bytes);
        self.step(depth, Cause::Holder, id, text);
    }
}

fn reader(process: ProcessId) -> String {
    if process == DRIVER { "the driver".into() } else { format!("worker-{process}") }
}

fn taken(usage: &Usage) -> String {
    let Usage {
        capacity_bytes,
        used_bytes,
        object_bytes,
        pinned_bytes,
        writing_bytes,
        slab_bytes,
        spilled_bytes,
        ..
    } = *usage;
    let kept = object_bytes.saturating_sub(pinned_bytes);
    format!(
        "{used_bytes} of {capacity_bytes} bytes are taken: {pinned_bytes} are being read, {kept} could be spilled, {writing_bytes} are being written, {slab_bytes} are lent to workers; {spilled_bytes} lie on disk (drop what was read of it, or raise `object_store_memory`)"
    )
}
