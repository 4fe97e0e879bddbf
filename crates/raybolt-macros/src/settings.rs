//! What stands in the parentheses of our attributes.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, Lit, LitInt, LitStr, Meta, Result, Token};

/// What `#[remote(..)]` on a function, or `#[method(..)]`, may say.
#[derive(Default)]
pub struct FunctionSettings {
    /// The name for messages, instead of the function's own.
    pub name: Option<LitStr>,
    /// How many objects a call returns.
    pub num_returns: Option<LitInt>,
    /// Calls of the builder, with a dot before each.
    pub defaults: TokenStream,
}

/// What `#[remote(..)]` on an `impl` may say.
#[derive(Default)]
pub struct ActorSettings {
    /// Names and limits.
    pub groups: Vec<(Ident, Expr)>,
    /// Calls of the builder, with a dot before each.
    pub defaults: TokenStream,
}

/// What `#[method(..)]` may say.
#[derive(Default)]
pub struct MethodSettings {
    /// The group it belongs to.
    pub concurrency_group: Option<LitStr>,
    /// How many objects a call returns.
    pub num_returns: Option<LitInt>,
}

/// Reads the settings of a function.
///
/// # Errors
/// At a setting that is unknown or has no fitting value.
pub fn of_function(tokens: TokenStream) -> Result<FunctionSettings> {
    const KNOWN: [&str; 7] =
        ["num_cpus", "num_gpus", "memory", "resources", "max_retries", "name", "num_returns"];
    let mut settings = FunctionSettings::default();
    for meta in metas(tokens)? {
        let call = match word(&meta)?.as_str() {
            "name" => {
                settings.name = Some(text(&meta)?);
                continue;
            }
            "num_returns" => {
                settings.num_returns = Some(count(&meta)?);
                continue;
            }
            "max_retries" => {
                let value = value(&meta)?;
                quote!(.max_retries(#value))
            }
            "num_cpus" | "num_gpus" | "memory" | "resources" => amounts(&meta)?,
            unknown => return Err(unknown_word("remote", unknown, meta.path().span(), &KNOWN)),
        };
        settings.defaults.extend(call);
    }
    Ok(settings)
}

/// Reads the settings of an actor.
///
/// # Errors
/// At a setting that is unknown or has no fitting value.
pub fn of_actor(tokens: TokenStream) -> Result<ActorSettings> {
    const KNOWN: [&str; 9] = [
        "num_cpus",
        "num_gpus",
        "memory",
        "resources",
        "max_concurrency",
        "max_pending_calls",
        "max_restarts",
        "max_task_retries",
        "concurrency_groups",
    ];
    let mut settings = ActorSettings::default();
    for meta in metas(tokens)? {
        let call = match word(&meta)?.as_str() {
            "concurrency_groups" => {
                settings.groups = pairs(&meta)?;
                continue;
            }
            "max_concurrency" => {
                let value = value(&meta)?;
                quote!(.max_concurrency(#value))
            }
            "max_pending_calls" => {
                let value = value(&meta)?;
                quote!(.max_pending_calls(#value))
            }
            "max_restarts" => {
                let value = value(&meta)?;
                quote!(.max_restarts(#value))
            }
            "max_task_retries" => {
                let value = value(&meta)?;
                quote!(.max_task_retries(#value))
            }
            "num_cpus" | "num_gpus" | "memory" | "resources" => amounts(&meta)?,
            unknown => return Err(unknown_word("remote", unknown, meta.path().span(), &KNOWN)),
        };
        settings.defaults.extend(call);
    }
    Ok(settings)
}

/// Reads the settings of a method.
///
/// # Errors
/// At a setting that is unknown or has no fitting value.
pub fn of_method(attribute: &syn::Attribute) -> Result<MethodSettings> {
    const KNOWN: [&str; 2] = ["concurrency_group", "num_returns"];
    let mut settings = MethodSettings::default();
    let Meta::List(list) = &attribute.meta else { return Ok(settings) };
    for meta in metas(list.tokens.clone())? {
        match word(&meta)?.as_str() {
            "concurrency_group" => settings.concurrency_group = Some(text(&meta)?),
            "num_returns" => settings.num_returns = Some(count(&meta)?),
            unknown => return Err(unknown_word("method", unknown, meta.path().span(), &KNOWN)),
        }
    }
    Ok(settings)
}

/// Reads the settings of a session, as calls of its builder.
///
/// # Errors
/// At a setting that is unknown or has no fitting value.
pub fn of_main(tokens: TokenStream) -> Result<TokenStream> {
    const KNOWN: [&str; 5] = ["num_cpus", "num_gpus", "memory", "resources", "worker_threads"];
    let mut defaults = TokenStream::new();
    for meta in metas(tokens)? {
        defaults.extend(match word(&meta)?.as_str() {
            "num_cpus" | "memory" | "resources" => amounts(&meta)?,
            "num_gpus" => {
                let value = value(&meta)?;
                quote!(.num_gpus(#value))
            }
            "worker_threads" => {
                let value = value(&meta)?;
                quote!(.worker_threads(#value))
            }
            unknown => return Err(unknown_word("main", unknown, meta.path().span(), &KNOWN)),
        });
    }
    Ok(defaults)
}

/// An error about a word, with the nearest known one and all of them.
fn unknown_word(attribute: &str, word: &str, span: Span, known: &[&str]) -> Error {
    let hint = hint(word, known);
    let known = known.map_ticked();
    Error::new(span, format!("unknown option `{word}` of `{attribute}`{hint} (known: {known})"))
}

/// ``; did you mean `x`?`` if one is near.
pub fn hint(word: &str, known: &[&str]) -> String {
    let allowed = (word.chars().count() / 3).max(1);
    let distances =
        known.iter().map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate));
    let nearest = distances.filter(|(distance, _)| *distance <= allowed).min();
    nearest.map(|(_, nearest)| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

/// Names as an error lists them.
pub trait MapTicked {
    /// Each between ticks, with commas.
    fn map_ticked(&self) -> String;
}

impl MapTicked for [&str] {
    fn map_ticked(&self) -> String {
        self.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }
}

fn metas(tokens: TokenStream) -> Result<Punctuated<Meta, Token![,]>> {
    Punctuated::parse_terminated.parse2(tokens)
}

fn word(meta: &Meta) -> Result<String> {
    meta.path().require_ident().map(ToString::to_string)
}

fn value(meta: &Meta) -> Result<&Expr> {
    meta.require_name_value().map(|pair| &pair.value)
}

fn text(meta: &Meta) -> Result<LitStr> {
    match value(meta)? {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Ok(text.clone()),
            other => Err(Error::new(other.span(), "a text in quotes is expected here")),
        },
        other => Err(Error::new(other.span(), "a text in quotes is expected here")),
    }
}

fn count(meta: &Meta) -> Result<LitInt> {
    match value(meta)? {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(count) => Ok(count.clone()),
            other => Err(Error::new(other.span(), "a whole number is expected here")),
        },
        other => Err(Error::new(other.span(), "a whole number is expected here")),
    }
}

/// `name(a = 1, b = 2)`
fn pairs(meta: &Meta) -> Result<Vec<(Ident, Expr)>> {
    let list = meta.require_list()?;
    let pairs = metas(list.tokens.clone())?;
    pairs
        .iter()
        .map(|pair| Ok((pair.path().require_ident()?.clone(), value(pair)?.clone())))
        .collect()
}

/// Calls of a builder for resources.
fn amounts(meta: &Meta) -> Result<TokenStream> {
    let calls = match word(meta)?.as_str() {
        "resources" => pairs(meta)?
            .into_iter()
            .map(|(name, amount)| {
                let name = name.to_string();
                quote!(.resource(#name, (#amount) as f64))
            })
            .collect(),
        "memory" => {
            let bytes = value(meta)?;
            quote!(.memory((#bytes) as usize))
        }
        _ => {
            let (method, amount) = (meta.path().to_token_stream(), value(meta)?);
            quote!(.#method((#amount) as f64))
        }
    };
    Ok(calls)
}
