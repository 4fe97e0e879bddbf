//! A node's objects: an arena of shared memory that its processes map, and files for what does not fit.
//!
//! # Words
//! The *arena* is one stretch of memory without a name in any file system. The process that has the store
//! writes objects there; another process is lent a *slab*, in which it writes many of its own without
//! asking again. Whoever reads an object *pins* it, and reads it where it lies: nothing is copied.
//! What is stored where, and what goes to disk, is decided by
//! [`raybolt_core::calls::objects`]; this crate has the memory and the files.
//!
//! ```text
//!   the process that has the store            a worker
//!   Store::create -> Writer -> seal           ArenaView::slab -> Slab -> Part
//!   Store::pin -> Mapped                      ArenaView::mapped -> Mapped
//!        |    \                                    |  (read-only, but for its slabs)
//!      files   +----------- the arena -------------+
//! ```
//!
//! # The promise between processes
//! No type can say what another process does with memory that both map. The arena is sound because all who
//! open it keep to this, and only processes of one session can open it:
//! - **STORE-1 (written once).** A region is written only by whom it was admitted or lent to, and not after
//!   it was sealed.
//! - **STORE-2 (read while pinned).** A region is read only while its reader has a pin on it, or has it to
//!   write.
//! - **STORE-3 (readers cannot write).** A reader's map is of a file that was opened for reading: the
//!   system stops a stray write. A worker's map for writing gives out nothing but parts of its slabs.
//! - **STORE-4 (no short reads).** The arena is sealed against shrinking, so what is mapped is there.
//!
//! # Waiting
//! A thread that needs room or an object from disk waits for it, and performs itself what has to be done
//! for it; there is no thread of the store's own, so an idle store costs nothing. The lock is held for
//! decisions, never across a copy or a file. Work on files that was decided on is done by those who wait:
//! - **STORE-5 (no work left).** Nobody leaves a wait while work on files is left that nobody does.
//!
//! It does not know who owns an object, what is in it, or how a message travels.

mod arena;
mod copy;
mod disk;
mod error;
mod map;
mod mapped;
mod store;
mod wait;

pub use arena::{Arena, ArenaView, Part, Slab};
pub use copy::copy;
pub use disk::{Disk, SpillDir};
pub use error::{PinError, PutError};
pub use mapped::{Mapped, WeakMapped};
pub use raybolt_core::calls::objects::{
    ALIGN, FileId, Holder, Holders, Key, ObjectReport, Region, SealError, Standing, Ticket, Usage,
    WaitReport, Whereabouts,
};
pub use store::{Lent, Options, PinFor, Store, TryLend, Writer};
