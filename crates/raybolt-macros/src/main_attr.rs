//! `#[raybolt::main]`: starts a session, then runs the function's body.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, ItemFn, Result};

use crate::settings;

/// The function, with a session around its body.
///
/// # Errors
/// When it takes arguments, or a setting is unknown.
pub fn expand(settings: TokenStream, item: &ItemFn) -> Result<TokenStream> {
    let settings = settings::of_main(settings)?;
    let ItemFn { attrs, vis, sig, block, .. } = item;
    if let Some(input) = sig.inputs.first() {
        return Err(Error::new_spanned(input, "the main function takes no arguments"));
    }
    let (name, output, asyncness) = (&sig.ident, &sig.output, &sig.asyncness);
    let run = match asyncness {
        Some(_) => quote!(|__session| __session.block_on(__body())),
        None => quote!(|_| __body()),
    };
    Ok(quote! {
        #(#attrs)*
        #vis fn #name() #output {
            #asyncness fn __body() #output #block
            ::raybolt::__private::main(::raybolt::Builder::new() #settings, #run)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_unknown_settings_are_refused() {
        let item = syn::parse_quote!(
            fn main(x: u8) {}
        );
        let error = expand(TokenStream::new(), &item).unwrap_err();
        assert_eq!(error.to_string(), "the main function takes no arguments");
        let item = syn::parse_quote!(
            fn main() {}
        );
        let error = expand(quote!(threads = 2), &item).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown option `threads` of `main` (known: `num_cpus`, `num_gpus`, `memory`, `resources`, \
             `worker_threads`)"
        );
    }
}
