//! What a signature says about calls: what the caller passes, what the function receives, and what
//! the caller gets back.
//!
//! A parameter of type `T` is passed as `impl IntoArg<T>` and received as a `Held<T>`, which gives the
//! value away; one of type `&T` is passed as `impl IntoArg<T>` too, and lends it. So a borrowed
//! parameter copies nothing, whoever else reads the object.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{format_ident, quote, quote_spanned};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Error, FnArg, GenericArgument, Generics, LitInt, Pat, PatType, PathArguments, Result,
    ReturnType, Safety, Token, Type, TypeParamBound,
};

/// How many parameters `Arguments` is implemented for.
const PARAMS_MAX: usize = 12;
/// How many returns `Several` is implemented for.
const RETURNS_MAX: usize = 6;

/// One parameter after `self`.
pub struct Param {
    /// Its name on the remote side.
    name: Ident,
    /// The name of what arrives.
    held: Ident,
    /// What travels.
    owned: TokenStream,
    /// Whether the function only looks at it.
    is_borrowed: bool,
    span: Span,
}

/// What the caller gets for what the function returns.
pub struct Outcome {
    returned: Returned,
    /// Where the return type says `Result`, if it does.
    fallible: Option<Span>,
}

enum Returned {
    One(TokenStream, Span),
    Several(Vec<TokenStream>, Span),
    /// An iterator, whose items become objects as they come.
    Items {
        item: TokenStream,
        is_fallible: bool,
        span: Span,
    },
}

/// Refuses what can be called only from where it stands.
///
/// # Errors
/// At the part that is in the way.
pub fn check_callable(signature: &syn::Signature) -> Result<()> {
    let error = |span, text: &str| Err(Error::new(span, text));
    if let Safety::Unsafe(token) = &signature.safety {
        return error(
            token.span,
            "a remote function cannot be `unsafe`, since nobody stands beside it who sees to its \
             conditions; call this one from a safe one",
        );
    }
    if let Some(abi) = &signature.abi {
        return error(
            abi.span(),
            "a remote function has Rust's calling convention; call this one from one that has",
        );
    }
    if let Some(variadic) = &signature.variadic {
        return error(
            variadic.span(),
            "a remote function has a fixed number of parameters; take a `Vec`",
        );
    }
    check_lifetimes(&signature.generics)
}

fn check_lifetimes(generics: &Generics) -> Result<()> {
    let Some(lifetime) = generics.lifetimes().next() else { return Ok(()) };
    let text = format!(
        "a task may run where nothing of its caller is left to borrow from; leave `{}` out of the \
         parameters (`&T` lends what was passed for as long as the task runs), and return what \
         owns its data",
        lifetime.lifetime
    );
    Err(Error::new(lifetime.span(), text))
}

/// The parameters after `self`, if there is one; `this` stands for `Self`.
///
/// # Errors
/// At a parameter that cannot travel.
pub fn params<'a>(
    name: &Ident,
    inputs: impl IntoIterator<Item = &'a FnArg>,
    this: Option<&Type>,
) -> Result<Vec<Param>> {
    let typed = inputs.into_iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    let typed: Vec<_> = typed.collect();
    if let Some(beyond) = typed.get(PARAMS_MAX) {
        let text = format!(
            "`{name}` has {} parameters, and at most {PARAMS_MAX} can be passed to a task; put some \
             of them into a struct",
            typed.len()
        );
        return Err(Error::new(beyond.span(), text));
    }
    typed.into_iter().enumerate().map(|(index, typed)| param(index, typed, this)).collect()
}

fn param(index: usize, typed: &PatType, this: Option<&Type>) -> Result<Param> {
    let name = match &*typed.pat {
        Pat::Ident(pattern) => pattern.ident.clone(),
        _ => format_ident!("argument_{index}"),
    };
    let (owned, is_borrowed) = match peel(&typed.ty) {
        Type::Reference(reference) => {
            if let Some(mutability) = &reference.mutability {
                let text = "a task cannot change what its caller holds; take it by value and \
                            return the new one";
                return Err(Error::new(mutability.span, text));
            }
            if let Some(lifetime) = &reference.lifetime {
                let text = "what was passed is lent for as long as the task runs, and no longer; \
                            leave the lifetime out";
                return Err(Error::new(lifetime.span(), text));
            }
            (owned(&reference.elem), true)
        }
        Type::ImplTrait(some) => {
            let text = "a value that travels has a type with a name; write `<T: Value>` after the \
                        function's name and take a `T`";
            return Err(Error::new(some.span(), text));
        }
        ty => (quote!(#ty), false),
    };
    check_owned(owned.clone())?;
    let owned = replace_self(owned, this);
    let held = format_ident!("__held_{index}");
    Ok(Param { name, held, owned, is_borrowed, span: typed.ty.span() })
}

/// What travels for a `&T`.
fn owned(ty: &Type) -> TokenStream {
    match peel(ty) {
        Type::Slice(slice) => {
            let element = &slice.elem;
            quote!(::std::vec::Vec<#element>)
        }
        Type::Path(path) if path.path.is_ident("str") => quote!(::std::string::String),
        other => quote!(#other),
    }
}

impl Param {
    /// `name: impl IntoArg<T>`
    pub fn declaration(&self) -> TokenStream {
        let Param { name, owned, span, .. } = self;
        quote_spanned!(*span=> #name: impl ::raybolt::__private::IntoArg<#owned>)
    }

    /// Its name on the remote side.
    pub fn name(&self) -> &Ident {
        &self.name
    }

    /// What the remote side makes of what it was passed.
    pub fn argument(&self) -> TokenStream {
        let Param { name, owned, span, .. } = self;
        quote_spanned!(*span=> ::raybolt::__private::IntoArg::<#owned>::into_arg(#name))
    }

    /// The type of what arrives.
    pub fn held_type(&self) -> TokenStream {
        let Param { owned, span, .. } = self;
        quote_spanned!(*span=> ::raybolt::__private::Held<#owned>)
    }

    /// The name of what arrives.
    pub fn held(&self) -> &Ident {
        &self.held
    }

    /// What the function is called with.
    pub fn pass(&self) -> TokenStream {
        let held = &self.held;
        if self.is_borrowed { quote!(&*#held) } else { quote!(#held.into_owned()) }
    }
}

/// What the caller of a function that returns `output` gets.
///
/// # Errors
/// When the return type cannot travel, or does not have as many parts as `num_returns` says.
pub fn outcome(
    output: &ReturnType,
    num_returns: Option<&LitInt>,
    this: Option<&Type>,
) -> Result<Outcome> {
    let ReturnType::Type(_, ty) = output else {
        let span = output.span();
        let returned = Returned::One(quote!(()), span);
        return match num_returns {
            Some(count) if count.base10_digits() != "1" => Err(not_a_tuple(count)),
            _ => Ok(Outcome { returned, fallible: None }),
        };
    };
    let ty = peel(ty);
    match result_value(ty) {
        Some(value) => Ok(Outcome {
            returned: returned(&value, num_returns, this)?,
            fallible: Some(ty.span()),
        }),
        None => Ok(Outcome { returned: returned(ty, num_returns, this)?, fallible: None }),
    }
}

fn returned(ty: &Type, num_returns: Option<&LitInt>, this: Option<&Type>) -> Result<Returned> {
    let (ty, span) = (peel(ty), ty.span());
    if let Type::ImplTrait(some) = ty {
        return items(&some.bounds, span, this);
    }
    check_owned(quote!(#ty))?;
    let count = num_returns.map(|count| returns(count).map(|n| (n, count))).transpose()?;
    match (count, ty) {
        (None | Some((1, _)), _) => Ok(Returned::One(replace_self(quote!(#ty), this), span)),
        (Some((n, _)), Type::Tuple(tuple)) if tuple.elems.len() == n => {
            let parts = tuple.elems.iter().map(|part| replace_self(quote!(#part), this)).collect();
            Ok(Returned::Several(parts, span))
        }
        (Some((_, count)), _) => Err(not_a_tuple(count)),
    }
}

fn returns(count: &LitInt) -> Result<usize> {
    match count.base10_parse() {
        Ok(n) if (1..=RETURNS_MAX).contains(&n) => Ok(n),
        _ => {
            let text = format!(
                "`num_returns` must be from 1 to {RETURNS_MAX}; return a `Vec` or a stream of more"
            );
            Err(Error::new(count.span(), text))
        }
    }
}

fn not_a_tuple(count: &LitInt) -> Error {
    let text =
        format!("`num_returns = {count}` needs a return type that is a tuple with {count} parts");
    Error::new(count.span(), text)
}

/// The items of `impl Iterator<Item = T>`.
fn items(
    bounds: &Punctuated<TypeParamBound, Token![+]>,
    span: Span,
    this: Option<&Type>,
) -> Result<Returned> {
    let item = bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) => {
            let last = bound.path.segments.last().filter(|last| last.ident == "Iterator")?;
            let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
            arguments.args.iter().find_map(|argument| match argument {
                GenericArgument::AssocType(item) if item.ident == "Item" => Some(&item.ty),
                _ => None,
            })
        }
        _ => None,
    });
    let Some(item) = item else {
        let text = "a task returns a value of a type with a name, or `impl Iterator<Item = T>` for \
                    a stream of them";
        return Err(Error::new(span, text));
    };
    let fallible = result_value(peel(item));
    let is_fallible = fallible.is_some();
    let item = fallible.map_or_else(|| quote!(#item), |value| quote!(#value));
    check_owned(item.clone())?;
    Ok(Returned::Items { item: replace_self(item, this), is_fallible, span })
}

impl Outcome {
    /// Whether the function returns an iterator.
    pub fn is_stream(&self) -> bool {
        matches!(self.returned, Returned::Items { .. })
    }

    /// What the caller gets at once.
    pub fn refs(&self) -> TokenStream {
        match &self.returned {
            Returned::One(ty, span) => {
                quote_spanned!(*span=> ::raybolt::__private::ObjectRef<#ty>)
            }
            Returned::Several(parts, span) => {
                quote_spanned!(*span=> (#(::raybolt::__private::ObjectRef<#parts>,)*))
            }
            Returned::Items { item, span, .. } => {
                quote_spanned!(*span=> ::raybolt::__private::RefStream<#item>)
            }
        }
    }

    /// The `Output` that says so to the runtime.
    pub fn output(&self) -> TokenStream {
        match &self.returned {
            Returned::One(ty, span) => quote_spanned!(*span=> ::raybolt::__private::One<#ty>),
            Returned::Several(parts, span) => {
                quote_spanned!(*span=> ::raybolt::__private::Several<(#(#parts,)*)>)
            }
            Returned::Items { item, span, .. } => {
                quote_spanned!(*span=> ::raybolt::__private::Items<#item>)
            }
        }
    }

    /// The `Result<Output, Failure>` of a call of the function.
    pub fn finish(&self, call: &TokenStream) -> TokenStream {
        let wrap = match &self.returned {
            Returned::One(..) => quote!(::raybolt::__private::One),
            Returned::Several(..) => quote!(::raybolt::__private::Several),
            Returned::Items { .. } => unreachable!("a stream's items go into its sink"),
        };
        match self.fallible {
            None => quote!(::core::result::Result::Ok(#wrap(#call))),
            Some(span) => quote_spanned! {span=>
                match #call {
                    ::core::result::Result::Ok(__value) => ::core::result::Result::Ok(#wrap(__value)),
                    ::core::result::Result::Err(__error) => {
                        ::core::result::Result::Err(::raybolt::__private::Failure::new(__error))
                    }
                }
            },
        }
    }

    /// The `Result<(), Failure>` of putting the items of a call of the function into `__sink`.
    pub fn drain(&self, call: &TokenStream) -> TokenStream {
        let drain = match &self.returned {
            Returned::Items { is_fallible: true, .. } => quote!(try_drain),
            _ => quote!(drain),
        };
        match self.fallible {
            None => quote!(__sink.#drain(#call)),
            Some(span) => quote_spanned! {span=>
                match #call {
                    ::core::result::Result::Ok(__items) => __sink.#drain(__items),
                    ::core::result::Result::Err(__error) => {
                        ::core::result::Result::Err(::raybolt::__private::Failure::new(__error))
                    }
                }
            },
        }
    }
}

/// The `T` of a `Result<T, E>`, whatever module's.
pub fn result_value(ty: &Type) -> Option<Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return Some(syn::parse_quote!(())); // `std::fmt::Result`
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    })
}

/// A type without the parentheses and invisible groups around it.
pub fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Paren(inner) => peel(&inner.elem),
        Type::Group(inner) => peel(&inner.elem),
        ty => ty,
    }
}

/// Refuses types with borrows in them.
fn check_owned(ty: TokenStream) -> Result<()> {
    let mut tokens = ty.into_iter().peekable();
    let text = "a value that travels owns its data, since it may outlive its caller; write the \
                owned type (`String` for `&str`, `Vec<T>` for `&[T]`)";
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Group(group) => check_owned(group.stream())?,
            TokenTree::Punct(mark) if mark.as_char() == '&' => {
                return Err(Error::new(mark.span(), text));
            }
            TokenTree::Punct(mark) if mark.as_char() == '\'' => match tokens.peek() {
                Some(TokenTree::Ident(name)) if name == "static" => {}
                _ => return Err(Error::new(mark.span(), text)),
            },
            _ => {}
        }
    }
    Ok(())
}

/// `tokens` with `this` in place of `Self`.
fn replace_self(tokens: TokenStream, this: Option<&Type>) -> TokenStream {
    let Some(this) = this else { return tokens };
    let replaced = tokens.into_iter().flat_map(|token| match token {
        TokenTree::Ident(name) if name == "Self" => quote!(#this),
        TokenTree::Group(group) => {
            let inner = replace_self(group.stream(), Some(this));
            let mut new = Group::new(group.delimiter(), inner);
            new.set_span(group.span());
            TokenTree::Group(new).into()
        }
        token => token.into(),
    });
    let replaced: TokenStream = replaced.collect();
    Group::new(Delimiter::None, replaced).stream()
}
