//! The checkers: each keeps a model of its own, fed by what the world knows to be true, and compares
//! what the machines decide. They stand outside: no machine knows of them, and they ask a machine only
//! what a user could.

pub(crate) mod answers;
pub(crate) mod arena;
pub(crate) mod bundles;
pub(crate) mod completion;
pub(crate) mod holds;
pub(crate) mod lives;
pub(crate) mod resources;
pub(crate) mod roots;
pub(crate) mod streams;
pub(crate) mod tasks;
