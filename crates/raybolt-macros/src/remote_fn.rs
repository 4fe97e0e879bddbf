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

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(settings: &str, item: &str) -> String {
        let settings = settings.parse().expect("the test's settings are tokens");
        let item = syn::parse_str(item).expect("the test's item is Rust");
        expand(settings, &item).expect_err("the function cannot be a task").to_string()
    }

    #[test]
    fn what_only_its_place_can_call_is_refused() {
        assert_eq!(
            error_of("", "unsafe fn f() {}"),
            "a remote function cannot be `unsafe`, since nobody stands beside it who sees to its \
             conditions; call this one from a safe one"
        );
        assert_eq!(
            error_of("", r#"extern "C" fn f() {}"#),
            "a remote function has Rust's calling convention; call this one from one that has"
        );
        assert_eq!(
            error_of("", "fn f(&self) {}"),
            "a remote function has no `self`; put `#[remote]` on the whole `impl` to make its type \
             an actor"
        );
    }

    #[test]
    fn parameters_own_their_data_or_lend_it_for_the_call() {
        assert_eq!(
            error_of("", "fn f<'a>(x: &'a str) {}"),
            "a task may run where nothing of its caller is left to borrow from; leave `'a` out of \
             the parameters (`&T` lends what was passed for as long as the task runs), and return \
             what owns its data"
        );
        assert_eq!(
            error_of("", "fn f(x: &'static str) {}"),
            "what was passed is lent for as long as the task runs, and no longer; leave the \
             lifetime out"
        );
        assert_eq!(
            error_of("", "fn f(x: &mut u64) {}"),
            "a task cannot change what its caller holds; take it by value and return the new one"
        );
        assert_eq!(
            error_of("", "fn f(x: impl Into<u64>) {}"),
            "a value that travels has a type with a name; write `<T: Value>` after the function's \
             name and take a `T`"
        );
        let owned = "a value that travels owns its data, since it may outlive its caller; write \
                     the owned type (`String` for `&str`, `Vec<T>` for `&[T]`)";
        for item in [
            "fn f(x: Vec<&str>) {}",
            "fn f(x: &&str) {}",
            "fn f() -> &u64 {}",
            "fn f(x: Cow<'_, str>) {}",
        ] {
            assert_eq!(error_of("", item), owned, "{item}");
        }
        assert!(
            expand(
                TokenStream::new(),
                &syn::parse_quote!(
                    fn f(x: Cow<'static, str>) {}
                )
            )
            .is_ok()
        );
    }

    #[test]
    fn more_than_twelve_parameters_are_refused() {
        let params: Vec<_> = (0..13).map(|index| format!("p{index}: u8")).collect();
        assert_eq!(
            error_of("", &format!("fn f({}) {{}}", params.join(", "))),
            "`f` has 13 parameters, and at most 12 can be passed to a task; put some of them into \
             a struct"
        );
    }

    #[test]
    fn several_returns_are_a_tuple_of_as_many() {
        let text = "`num_returns = 3` needs a return type that is a tuple with 3 parts";
        for item in ["fn f() {}", "fn f() -> u64 {}", "fn f() -> Result<(u8, u8), String> {}"] {
            assert_eq!(error_of("num_returns = 3", item), text, "{item}");
        }
        let text = "`num_returns` must be from 1 to 6; return a `Vec` or a stream of more";
        for settings in ["num_returns = 0", "num_returns = 7"] {
            assert_eq!(error_of(settings, "fn f() -> (u8, u8) {}"), text, "{settings}");
        }
    }

    #[test]
    fn what_is_returned_has_a_name_or_is_a_stream() {
        let text = "a task returns a value of a type with a name, or `impl Iterator<Item = T>` for \
                    a stream of them";
        for item in ["fn f() -> impl Display {}", "fn f() -> impl Iterator {}"] {
            assert_eq!(error_of("", item), text, "{item}");
        }
        assert_eq!(
            error_of("", "async fn f() -> impl Iterator<Item = u8> {}"),
            "a function that returns an iterator cannot be `async`; a full stream waits without a \
             CPU anyway"
        );
    }

    #[test]
    fn an_unknown_option_names_the_nearest_and_all() {
        assert_eq!(
            error_of("num_cpu = 1", "fn f() {}"),
            "unknown option `num_cpu` of `remote`; did you mean `num_cpus`? (known: `num_cpus`, \
             `num_gpus`, `memory`, `resources`, `max_retries`, `name`, `num_returns`)"
        );
        assert_eq!(error_of("name = 3", "fn f() {}"), "a text in quotes is expected here");
        assert_eq!(error_of("num_returns = x", "fn f() {}"), "a whole number is expected here");
    }
}
