//! Procedural macros of raybolt.
//!
//! Users take them from `raybolt`, whose paths the expansions name. Each macro has its own file with
//! a function from syntax to syntax, which is tested there; this file only hands over.

use proc_macro::TokenStream;
use quote::{ToTokens, quote};
use syn::{DeriveInput, Error, Item, ItemFn, parse_macro_input};

mod main_attr;
mod remote_fn;
mod remote_impl;
mod settings;
mod signature;
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
    tuple::expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Lets a function run as a task, or a type live as an actor; see `raybolt::remote`.
#[proc_macro_attribute]
pub fn remote(settings: TokenStream, item: TokenStream) -> TokenStream {
    let settings = settings.into();
    match parse_macro_input!(item as Item) {
        Item::Fn(item) => {
            remote_fn::expand(settings, &item).unwrap_or_else(|error| beside(error, &item))
        }
        Item::Impl(item) => remote_impl::expand(settings, &item)
            .unwrap_or_else(|error| beside(error, remote_impl::kept(&item))),
        other => {
            let text = "`#[remote]` goes on a function, which becomes a task, or on an `impl`, \
                        whose type becomes an actor";
            beside(Error::new_spanned(&other, text), &other)
        }
    }
    .into()
}

/// Runs a session around the body of `main`; see `raybolt::main`.
#[proc_macro_attribute]
pub fn main(settings: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as ItemFn);
    main_attr::expand(settings.into(), &item).unwrap_or_else(|error| beside(error, &item)).into()
}

/// The error, and the item as it was: what else uses it shall not be an error too.
fn beside(error: Error, item: impl ToTokens) -> proc_macro2::TokenStream {
    let error = error.into_compile_error();
    quote!(#item #error)
}
