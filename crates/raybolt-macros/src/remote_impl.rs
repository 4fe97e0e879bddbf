//! `#[remote]` on an `impl`: leaves it as it is, and makes its type an actor with a typed handle.
//!
//! For `impl Counter` with `pub fn new(start: u64) -> Self` and `pub fn add(&mut self, x: u64) -> u64`
//! come `Counter::remote(start)`, `Counter::options()` and `Counter::find(name)`, and a
//! `CounterHandle` whose `add(x)` returns an `ObjectRef<u64>`. What is not `pub` stays in the actor.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, ImplItem, ImplItemFn, ItemImpl, PathArguments, ReceiverKind, Result,
    ReturnType, Type, Visibility,
};

use crate::settings::{self, ActorSettings, MapTicked};
use crate::signature::{self, Param};

/// What the macro adds to the type or its handle; a method of that name would stand in its way.
const OF_TYPE: [&str; 3] = ["remote", "options", "find"];
const OF_HANDLE: [&str; 2] = ["kill", "with"];

/// The type that becomes an actor.
struct Class<'a> {
    this: &'a Type,
    name: &'a Ident,
    settings: ActorSettings,
}

/// The implementation and its remote side.
///
/// # Errors
/// When the type cannot be an actor: at the part that is in the way.
pub fn expand(settings: TokenStream, item: &ItemImpl) -> Result<TokenStream> {
    let settings = settings::of_actor(settings)?;
    let class = Class { this: &item.self_ty, name: class_name(item)?, settings };
    let functions = || {
        item.items.iter().filter_map(|item| match item {
            ImplItem::Fn(function) => Some(function),
            _ => None,
        })
    };
    for function in functions() {
        check_name(function)?;
    }
    let new = functions().find(|function| function.sig.ident == "new").ok_or_else(|| {
        let text = format!(
            "an actor needs a constructor: `pub fn new(..) -> Self`, or one that returns \
             `Result<Self, E>`; `{}` has none in this `impl`",
            class.name
        );
        Error::new(item.self_ty.span(), text)
    })?;
    let calls = functions().filter(|function| is_call(function));
    let calls: Vec<_> = calls.map(|function| class.call(function)).collect::<Result<_>>()?;
    let is_async = functions().any(|f| is_call(f) && f.sig.asyncness.is_some());

    let constructor = class.constructor(new, is_async)?;
    let handle = class.handle(&new.vis, &calls);
    let kept = kept(item);
    Ok(quote! {
        #kept
        #handle
        #constructor
    })
}

/// The implementation as it was, without our attributes.
pub fn kept(item: &ItemImpl) -> ItemImpl {
    let mut kept = item.clone();
    for item in &mut kept.items {
        if let ImplItem::Fn(function) = item {
            function.attrs.retain(|attribute| !is_method(attribute));
        }
    }
    kept
}

fn class_name(item: &ItemImpl) -> Result<&Ident> {
    if let Some((path, _)) = &item.trait_ {
        let text = "`#[remote]` goes on an `impl` of the type itself; calls of a trait's methods can \
                    be made from methods there";
        return Err(Error::new_spanned(path, text));
    }
    let generic = |tokens: &dyn quote::ToTokens| {
        let text = "an actor's type cannot be generic, since its handle names one type; write an \
                    `impl` for each that is needed, with a struct of its own";
        Err(Error::new_spanned(tokens, text))
    };
    if !item.generics.params.is_empty() {
        return generic(&item.generics.params);
    }
    match signature::peel(&item.self_ty) {
        Type::Path(path) if path.qself.is_none() => {
            let last = path.path.segments.last().expect("a path has a segment");
            match &last.arguments {
                PathArguments::None => Ok(&last.ident),
                arguments => generic(arguments),
            }
        }
        other => Err(Error::new_spanned(other, "an actor is a struct or an enum with a name")),
    }
}

fn check_name(function: &ImplItemFn) -> Result<()> {
    let name = &function.sig.ident;
    let taken = OF_TYPE.iter().any(|taken| name == taken)
        || is_call(function) && OF_HANDLE.iter().any(|taken| name == taken);
    if taken {
        let text = format!("`#[remote]` adds a `{name}` itself; choose another name");
        return Err(Error::new(name.span(), text));
    }
    Ok(())
}

/// Whether the handle has it too.
fn is_call(function: &ImplItemFn) -> bool {
    let is_private = matches!(function.vis, Visibility::Inherited);
    !is_private && function.sig.receiver().is_some()
}

fn is_method(attribute: &Attribute) -> bool {
    attribute.path().is_ident("method")
}

impl Class<'_> {
    fn handle_name(&self) -> Ident {
        format_ident!("{}Handle", self.name.unraw())
    }

    /// The functions that make an actor.
    fn constructor(&self, new: &ImplItemFn, is_async: bool) -> Result<TokenStream> {
        let Class { this, name, settings } = self;
        let signature = &new.sig;
        signature::check_callable(signature)?;
        if let Some(token) = &signature.asyncness {
            let text = "a constructor cannot be `async`, since no call comes before its end; begin \
                        what takes time in a method";
            return Err(Error::new_spanned(token, text));
        }
        if let Some(receiver) = signature.receiver() {
            let text = "a constructor has no `self`; it returns it";
            return Err(Error::new_spanned(receiver, text));
        }
        let is_fallible = self.returns_self(&signature.output)?;
        let params = signature::params(&signature.ident, &signature.inputs, Some(this))?;
        let (generics, type_generics, bounds) = signature.generics.split_for_impl();
        let turbofish = type_generics.as_turbofish();
        let declarations: Vec<_> = params.iter().map(Param::declaration).collect();
        let arguments = params.iter().map(Param::argument);
        let names = params.iter().map(Param::name);
        let held_types = params.iter().map(Param::held_type);
        let held = params.iter().map(Param::held);
        let passed = params.iter().map(Param::pass);
        let call = quote!(<#this>::new #turbofish(#(#passed),*));
        let call = if is_fallible {
            quote!(#call.map_err(::raybolt::__private::Failure::new))
        } else {
            quote!(::core::result::Result::Ok(#call))
        };
        let shown = name.unraw().to_string();
        let handle = self.handle_name();
        let options = format_ident!("__{}Options", name.unraw());
        let groups = settings.groups.iter().map(|(name, limit)| {
            let name = name.to_string();
            quote!((#name, #limit))
        });
        let (defaults, visibility) = (&settings.defaults, &new.vis);

        Ok(quote! {
            const _: () = {
                static __CLASS: ::raybolt::__private::ActorClass =
                    ::raybolt::__private::ActorClass {
                        name: #shown,
                        is_async: #is_async,
                        groups: &[#(#groups),*],
                    };

                ::raybolt::__actor_options! { #options }

                #[allow(dead_code, clippy::too_many_arguments, reason = "made for every actor alike")]
                impl #this {
                    /// Makes an actor; returns at once. What goes wrong is found by its first call.
                    #visibility fn remote #generics (#(#declarations),*) -> #handle #bounds {
                        Self::options().remote #turbofish (#(#names),*)
                    }

                    /// Makes an actor with other options than the usual.
                    #visibility fn options() -> #options {
                        #options::new(::raybolt::__private::ActorOptions::default() #defaults)
                    }

                    /// Finds an actor by the name it was made with.
                    ///
                    /// # Errors
                    /// When no actor has this name, or one of another type.
                    #visibility fn find(name: &str) -> ::raybolt::Result<#handle> {
                        ::raybolt::__private::find(&__CLASS, name).map(#handle::__of)
                    }
                }

                #[allow(dead_code, clippy::too_many_arguments, reason = "made for every actor alike")]
                impl #options {
                    /// Makes an actor; returns at once. What goes wrong is found by its first call.
                    pub fn remote #generics (self, #(#declarations),*) -> #handle #bounds {
                        fn __new #generics (
                            __held: (#(#held_types,)*),
                        ) -> ::core::result::Result<#this, ::raybolt::__private::Failure> #bounds {
                            let (#(#held,)*) = __held;
                            #call
                        }
                        #handle::__of(::raybolt::__private::create(
                            &__CLASS,
                            self.into_inner(),
                            (#(#arguments,)*),
                            __new #turbofish,
                        ))
                    }
                }
            };
        })
    }

    /// Whether the constructor may fail.
    fn returns_self(&self, output: &ReturnType) -> Result<bool> {
        let is_self = |ty: &Type| {
            let Type::Path(path) = signature::peel(ty) else { return false };
            path.path.is_ident("Self") || path.path.is_ident(self.name)
        };
        if let ReturnType::Type(_, ty) = output {
            let ty = signature::peel(ty);
            if is_self(ty) {
                return Ok(false);
            }
            if signature::result_value(ty).is_some_and(|value| is_self(&value)) {
                return Ok(true);
            }
        }
        let text = format!(
            "the constructor of an actor returns `Self` or `Result<Self, E>`, here with `{}` for \
             `Self`",
            self.name
        );
        Err(Error::new(output.span(), text))
    }

    /// The handle and its calls.
    fn handle(&self, visibility: &Visibility, calls: &[TokenStream]) -> TokenStream {
        let Class { this, name, .. } = self;
        let handle = self.handle_name();
        let shown = handle.to_string();
        let title = format!(
            "A handle to a [`{name}`] that lives as an actor; clones name the same one. When the \
             last one goes, the actor ends after the calls it has."
        );
        quote! {
            #[doc = #title]
            #visibility struct #handle {
                handle: ::raybolt::__private::ActorHandle<#this>,
                options: ::raybolt::__private::CallOptions,
            }

            #[allow(dead_code, clippy::too_many_arguments, reason = "made for every actor alike")]
            impl #handle {
                #(#calls)*

                /// The same actor, called with these options.
                #visibility fn with(&self, options: ::raybolt::__private::CallOptions) -> Self {
                    Self { handle: self.handle.clone(), options }
                }

                /// Ends the actor now: the call that runs is asked to stop, those that wait fail.
                #visibility fn kill(&self) {
                    self.handle.kill();
                }

                #[doc(hidden)]
                fn __of(handle: ::raybolt::__private::ActorHandle<#this>) -> Self {
                    Self { handle, options: ::core::default::Default::default() }
                }
            }

            const _: () = {
                impl ::core::clone::Clone for #handle {
                    fn clone(&self) -> Self {
                        Self { handle: self.handle.clone(), options: self.options.clone() }
                    }
                }

                impl ::core::fmt::Debug for #handle {
                    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                        f.debug_tuple(#shown).field(&self.handle.name()).finish()
                    }
                }

                impl ::core::convert::AsRef<::raybolt::__private::ActorHandle<#this>> for #handle {
                    fn as_ref(&self) -> &::raybolt::__private::ActorHandle<#this> {
                        &self.handle
                    }
                }

                impl ::raybolt::__private::serde::Serialize for #handle {
                    fn serialize<__S: ::raybolt::__private::serde::Serializer>(
                        &self,
                        serializer: __S,
                    ) -> ::core::result::Result<__S::Ok, __S::Error> {
                        ::raybolt::__private::serde::Serialize::serialize(&self.handle, serializer)
                    }
                }

                impl<'de> ::raybolt::__private::serde::Deserialize<'de> for #handle {
                    fn deserialize<__D: ::raybolt::__private::serde::Deserializer<'de>>(
                        deserializer: __D,
                    ) -> ::core::result::Result<Self, __D::Error> {
                        ::raybolt::__private::serde::Deserialize::deserialize(deserializer)
                            .map(Self::__of)
                    }
                }
            };
        }
    }

    /// A method of the handle.
    fn call(&self, function: &ImplItemFn) -> Result<TokenStream> {
        let this = self.this;
        let ImplItemFn { attrs, vis, sig, .. } = function;
        signature::check_callable(sig)?;
        let settings = match attrs.iter().find(|attribute| is_method(attribute)) {
            Some(attribute) => settings::of_method(attribute)?,
            None => settings::MethodSettings::default(),
        };
        let group = match &settings.concurrency_group {
            Some(group) => self.group(group)?,
            None => 0,
        };
        let is_exclusive = is_exclusive(sig)?;
        let is_async = sig.asyncness.is_some();
        let name = &sig.ident;
        let params = signature::params(name, &sig.inputs, Some(this))?;
        let outcome = signature::outcome(&sig.output, settings.num_returns.as_ref(), Some(this))?;
        let (generics, type_generics, bounds) = sig.generics.split_for_impl();
        let turbofish = type_generics.as_turbofish();
        let mut run_generics = sig.generics.clone();
        run_generics.params.insert(0, syn::parse_quote!('__actor));
        let (run_generics, ..) = run_generics.split_for_impl();
        let declarations = params.iter().map(Param::declaration);
        let arguments = params.iter().map(Param::argument);
        let held_types = params.iter().map(Param::held_type);
        let held = params.iter().map(Param::held);
        let passed = params.iter().map(Param::pass);
        let (refs, output) = (outcome.refs(), outcome.output());
        let shown = format!("{}::{}", self.name.unraw(), name.unraw());
        let shared = attrs.iter().filter(|a| a.path().is_ident("cfg") || a.path().is_ident("doc"));
        let title = (!attrs.iter().any(|attribute| attribute.path().is_ident("doc")))
            .then(|| format!("Calls [`{shown}`]; returns at once."))
            .map(|title| quote!(#[doc = #title]));

        let call = quote!(<#this>::#name #turbofish(__this, #(#passed),*));
        let result = quote!(::core::result::Result<#output, ::raybolt::__private::Failure>);
        let held = quote!(let (#(#held,)*) = __held;);
        let receiver = if is_exclusive { quote!(&'__actor mut) } else { quote!(&'__actor) };
        let held_types = quote!((#(#held_types,)*));
        let (run, body) = if outcome.is_stream() {
            if let Some(token) = &sig.asyncness {
                let text = "a method that returns an iterator cannot be `async`; a full stream \
                            waits without a CPU anyway";
                return Err(Error::new_spanned(token, text));
            }
            let drain = outcome.drain(&call);
            let body = if is_exclusive { quote!(ExclusiveInto) } else { quote!(SharedInto) };
            let run = quote! {
                fn __run #run_generics (
                    __this: #receiver #this,
                    __held: #held_types,
                    __task: &str,
                    __cells: &<#output as ::raybolt::__private::Output>::Cells,
                ) -> #result #bounds {
                    let mut __sink = ::raybolt::__private::Sink::new(__task, __cells);
                    #held
                    #drain
                }
            };
            (run, body)
        } else if is_async {
            let finish = outcome.finish(&quote!(#call.await));
            let body = if is_exclusive { quote!(AsyncExclusive) } else { quote!(AsyncShared) };
            let run = quote! {
                fn __run #run_generics (
                    __this: #receiver #this,
                    __held: #held_types,
                ) -> ::raybolt::__private::MethodFuture<'__actor, #output> #bounds {
                    ::std::boxed::Box::pin(async move {
                        #held
                        #finish
                    })
                }
            };
            (run, body)
        } else {
            let finish = outcome.finish(&call);
            let body = if is_exclusive { quote!(Exclusive) } else { quote!(Shared) };
            let run = quote! {
                fn __run #run_generics (__this: #receiver #this, __held: #held_types) -> #result #bounds {
                    #held
                    #finish
                }
            };
            (run, body)
        };
        Ok(quote! {
            #title
            #(#shared)*
            #vis fn #name #generics (&self, #(#declarations),*) -> #refs #bounds {
                #run
                self.handle.call::<_, #output>(
                    ::raybolt::__private::Method {
                        name: #shown,
                        group: #group,
                        body: ::raybolt::__private::Body::#body(__run #turbofish),
                    },
                    self.options.clone(),
                    (#(#arguments,)*),
                )
            }
        })
    }

    /// The index of a concurrency group; the default one has 0.
    fn group(&self, group: &syn::LitStr) -> Result<usize> {
        let name = group.value();
        let known: Vec<String> =
            self.settings.groups.iter().map(|(name, _)| name.to_string()).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        if let Some(index) = known.iter().position(|known| *known == name) {
            return Ok(index + 1);
        }
        let known_groups = match known.as_slice() {
            [] => "declare it: `#[remote(concurrency_groups(name = limit))]`".to_owned(),
            known => format!("known: {}", known.map_ticked()),
        };
        let hint = settings::hint(&name, &known);
        let text = format!("unknown concurrency group `{name}`{hint} ({known_groups})");
        Err(Error::new(group.span(), text))
    }
}

/// Whether the method takes `&mut self`.
fn is_exclusive(signature: &syn::Signature) -> Result<bool> {
    let receiver = signature.receiver().expect("calls were chosen by their `self`");
    match &receiver.kind {
        ReceiverKind::Reference(_, None, mutability) => Ok(mutability.is_some()),
        ReceiverKind::Reference(_, Some(lifetime), _) => {
            let text = "an actor's method borrows its state for one call; leave the lifetime out";
            Err(Error::new(lifetime.span(), text))
        }
        _ => {
            let text = "an actor's state stays in the actor; take `&self` or `&mut self`, or make \
                        the method private";
            Err(Error::new_spanned(receiver, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(settings: &str, item: &str) -> String {
        let settings = settings.parse().expect("the test's settings are tokens");
        let item = syn::parse_str(item).expect("the test's item is Rust");
        expand(settings, &item).expect_err("the type cannot be an actor").to_string()
    }

    /// The error of one more method beside the constructor.
    fn error_of_method(settings: &str, method: &str) -> String {
        error_of(settings, &format!("impl A {{ pub fn new() -> Self {{}} {method} }}"))
    }

    #[test]
    fn an_actor_is_a_type_with_a_name() {
        let generic = "an actor's type cannot be generic, since its handle names one type; write an \
                       `impl` for each that is needed, with a struct of its own";
        assert_eq!(error_of("", "impl<T> A<T> {}"), generic);
        assert_eq!(error_of("", "impl A<u8> {}"), generic);
        assert_eq!(
            error_of("", "impl Clone for A {}"),
            "`#[remote]` goes on an `impl` of the type itself; calls of a trait's methods can be \
             made from methods there"
        );
        assert_eq!(error_of("", "impl (u8, u8) {}"), "an actor is a struct or an enum with a name");
    }

    #[test]
    fn an_actor_has_a_constructor() {
        assert_eq!(
            error_of("", "impl A { pub fn add(&mut self) {} }"),
            "an actor needs a constructor: `pub fn new(..) -> Self`, or one that returns \
             `Result<Self, E>`; `A` has none in this `impl`"
        );
        for output in ["", "-> Option<Self>", "-> Arc<A>", "-> Result<u8, E>"] {
            assert_eq!(
                error_of("", &format!("impl A {{ pub fn new() {output} {{}} }}")),
                "the constructor of an actor returns `Self` or `Result<Self, E>`, here with `A` for \
                 `Self`"
            );
        }
        assert_eq!(
            error_of("", "impl A { pub async fn new() -> Self {} }"),
            "a constructor cannot be `async`, since no call comes before its end; begin what takes \
             time in a method"
        );
        assert_eq!(
            error_of("", "impl A { pub fn new(&self) -> Self {} }"),
            "a constructor has no `self`; it returns it"
        );
    }

    #[test]
    fn methods_borrow_the_state() {
        let text = "an actor's state stays in the actor; take `&self` or `&mut self`, or make the \
                    method private";
        assert_eq!(error_of_method("", "pub fn end(self) {}"), text);
        assert_eq!(error_of_method("", "pub fn end(self: Arc<Self>) {}"), text);
        assert_eq!(
            error_of_method("", "pub fn f(&'static self) {}"),
            "an actor's method borrows its state for one call; leave the lifetime out"
        );
        assert!(error_of_method("", "pub fn f(&self, x: &mut u8) {}").starts_with("a task cannot"));
        assert_eq!(
            error_of_method("", "pub async fn f(&self) -> impl Iterator<Item = u8> {}"),
            "a method that returns an iterator cannot be `async`; a full stream waits without a CPU \
             anyway"
        );
    }

    #[test]
    fn names_that_the_macro_adds_are_taken() {
        for name in ["remote", "options", "find"] {
            let text = format!("`#[remote]` adds a `{name}` itself; choose another name");
            assert_eq!(error_of_method("", &format!("fn {name}() {{}}")), text);
        }
        for name in ["kill", "with"] {
            let text = format!("`#[remote]` adds a `{name}` itself; choose another name");
            assert_eq!(error_of_method("", &format!("pub fn {name}(&self) {{}}")), text);
        }
    }

    #[test]
    fn a_group_is_declared() {
        let method = r#"#[method(concurrency_group = "oi")] pub fn f(&self) {}"#;
        assert_eq!(
            error_of_method("concurrency_groups(io = 2, compute = 4)", method),
            "unknown concurrency group `oi`; did you mean `io`? (known: `io`, `compute`)"
        );
        assert_eq!(
            error_of_method("", method),
            "unknown concurrency group `oi` (declare it: `#[remote(concurrency_groups(name = \
             limit))]`)"
        );
    }

    #[test]
    fn unknown_options_name_the_nearest_and_all() {
        assert_eq!(
            error_of("max_concurency = 2", "impl A {}"),
            "unknown option `max_concurency` of `remote`; did you mean `max_concurrency`? (known: \
             `num_cpus`, `num_gpus`, `memory`, `resources`, `max_concurrency`, `max_pending_calls`, `max_restarts`, \
             `max_task_retries`, `concurrency_groups`)"
        );
        assert_eq!(
            error_of_method("", "#[method(group = 2)] pub fn f(&self) {}"),
            "unknown option `group` of `method` (known: `concurrency_group`, `num_returns`)"
        );
    }
}
