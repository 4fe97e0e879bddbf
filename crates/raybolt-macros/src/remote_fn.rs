//! `#[remote]` on a function: leaves it as it is, and adds a struct of the same name whose associated
//! functions call it as a task.
//!
//! A function lives among the values, a struct with braces among the types only: `square(3)` and
//! `square::remote(3)` do not meet, at the top of a module as well as within another function.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::{Error, FnArg, ItemFn, Result};

use crate::settings;
use crate::signature;

/// The function and its remote side.
///
/// # Errors
/// When it cannot be a task: at the part that is in the way.
pub fn expand(settings: TokenStream, item: &ItemFn) -> Result<TokenStream> {
    let settings = settings::of_function(settings)?;
    let signature = &item.sig;
    signature::check_callable(signature)?;
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first() {
        let text = "a remote function has no `self`; put `#[remote]` on the whole `impl` to make \
                    its type an actor";
        return Err(Error::new_spanned(receiver, text));
    }
    let name = &signature.ident;
    let params = signature::params(name, &signature.inputs, None)?;
    let outcome = signature::outcome(&signature.output, settings.num_returns.as_ref(), None)?;

    let (generics, type_generics, bounds) = signature.generics.split_for_impl();
    let turbofish = type_generics.as_turbofish();
    let visibility = &item.vis;
    let cfgs: Vec<_> = item.attrs.iter().filter(|a| a.path().is_ident("cfg")).collect();
    let options = format_ident!("{}_options", name.unraw());
    let shown = settings.name.map_or_else(|| name.unraw().to_string(), |name| name.value());
    let is_async = signature.asyncness.is_some();
    let (refs, output) = (outcome.refs(), outcome.output());
    let declarations: Vec<_> = params.iter().map(signature::Param::declaration).collect();
    let arguments: Vec<_> = params.iter().map(signature::Param::argument).collect();
    let names = params.iter().map(signature::Param::name);
    let held_types = params.iter().map(signature::Param::held_type);
    let held = params.iter().map(signature::Param::held);
    let passed = params.iter().map(signature::Param::pass);
    let defaults = &settings.defaults;

    let call = quote!(#name #turbofish(#(#passed),*));
    let body = if outcome.is_stream() {
        if let Some(token) = &signature.asyncness {
            let text = "a function that returns an iterator cannot be `async`; a full stream waits \
                        without a CPU anyway";
            return Err(Error::new_spanned(token, text));
        }
        let drain = outcome.drain(&call);
        quote! {
            ::raybolt::__private::Step::into(move |__task, __cells| {
                let mut __sink = ::raybolt::__private::Sink::new(__task, __cells);
                let (#(#held,)*) = __held;
                #drain
            })
        }
    } else if is_async {
        let finish = outcome.finish(&quote!(#call.await));
        quote! {
            ::raybolt::__private::Step::later(async move {
                let (#(#held,)*) = __held;
                #finish
            })
        }
    } else {
        let finish = outcome.finish(&call);
        quote! {
            let (#(#held,)*) = __held;
            ::raybolt::__private::Step::done(#finish)
        }
    };
    let title = format!("The remote side of [`{name}`](fn@{name}): calls it as a task.");
    let remote = format!("Calls [`{name}`](fn@{name}) as a task; returns at once.");
    let with = format!("Calls [`{name}`](fn@{name}) as a task with other options than the usual.");

    Ok(quote! {
        #item

        #(#cfgs)*
        #[doc = #title]
        #[allow(non_camel_case_types, dead_code, reason = "named like the function it stands beside")]
        #visibility struct #name {}

        #(#cfgs)*
        const _: () = {
            static __FUNCTION: ::raybolt::__private::Function =
                ::raybolt::__private::Function::new(#shown, #is_async);

            ::raybolt::__task_options! { #options }

            fn __run #generics (
                __held: (#(#held_types,)*),
            ) -> ::raybolt::__private::Step<#output> #bounds {
                #body
            }

            #[allow(dead_code, clippy::too_many_arguments, reason = "made for every function alike")]
            impl #name {
                #[doc = #remote]
                pub fn remote #generics (#(#declarations),*) -> #refs #bounds {
                    Self::options().remote #turbofish (#(#names),*)
                }

                #[doc = #with]
                pub fn options() -> #options {
                    #options::new(::raybolt::__private::TaskOptions::default() #defaults)
                }
            }

            #[allow(dead_code, clippy::too_many_arguments, reason = "made for every function alike")]
            impl #options {
                #[doc = #remote]
                pub fn remote #generics (self, #(#declarations),*) -> #refs #bounds {
                    ::raybolt::__private::submit::<_, #output>(
                        &__FUNCTION,
                        self.into_inner(),
                        (#(#arguments,)*),
                        __run #turbofish,
                    )
                }
            }
        };
    })
}
