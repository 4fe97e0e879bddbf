//! What we compare with: limits of the machine, peers, and plain programs. None of them knows raybolt.

pub mod condvar;
pub mod kameo_actor;
pub mod reach;
pub mod socket;
pub mod timely_words;
pub mod tokio_tasks;
