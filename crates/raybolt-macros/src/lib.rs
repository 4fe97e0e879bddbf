//! Procedural macros of raybolt.
//!
//! Users take them from `raybolt`, whose paths the expansions name. Each macro has its own file with
//! a function from syntax to syntax, which is tested there; this file only hands over.

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

mod tuple;

/// Makes a struct with named fields a tuple that streams carry: names, hashes and converts its fields.
///
/// Every field must be a `Field`; the common types are. A first field of type `RequestId` ties the
/// tuple to its request. The struct must be `Clone`, and must not be generic.
///
/// `#[tuple(crate = "path")]` on the struct replaces `::raybolt::topology`, the module whose items the
/// expansion names; for crates below `raybolt`, and for re-exports.
#[proc_macro_derive(Tuple, attributes(tuple))]
pub fn derive_tuple(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    tuple::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
