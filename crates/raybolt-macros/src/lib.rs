//! Procedural macros of raybolt.
