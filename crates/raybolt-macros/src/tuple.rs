//! `#[derive(Tuple)]`: one line of each method per field.
//!
//! Calls carry the span of their field's type, so that a type that is no `Field` is underlined where the
//! user wrote it; `self` and arguments stay outside those spans, or a struct made by another macro
//! would not find them (hygiene).

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, LitStr, Path, Result};

/// The implementation of `Tuple` for a struct.
///
/// # Errors
/// When the item cannot be a tuple: at the part that is in the way.
pub fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let fields = named_fields(input)?;
    check_not_generic(input)?;
    let root = root(input)?;
    let name = &input.ident;
    let names = fields.iter().map(|field| member(field).unraw().to_string());
    let hashes = each(&fields, &root, "hash_into").into_iter().enumerate().map(|(index, call)| {
        let member = member(fields[index]);
        quote!(#index => #call(&self.#member, hasher),)
    });
    let into_values =
        each(&fields, &root, "into_value").into_iter().zip(&fields).map(|(call, f)| {
            let member = member(f);
            quote!(#call(self.#member))
        });
    let request_ids = each(&fields[..1], &root, "request_id");
    let first = member(fields[0]);
    let first_type = &fields[0].ty;
    let types: Vec<_> = fields.iter().map(|field| &field.ty).collect();
    let members: Vec<_> = fields.iter().map(|field| member(field)).collect();

    Ok(quote! {
        #[automatically_derived]
        impl #root::Tuple for #name {
            const FIELDS: &'static [&'static str] = &[#(#names),*];
            const CARRIES_REQUEST: bool = <#first_type as #root::Field>::IS_REQUEST;

            #[inline]
            fn hash_field<__H: ::core::hash::Hasher>(&self, index: usize, hasher: &mut __H) {
                match index {
                    #(#hashes)*
                    _ => {}
                }
            }

            #[inline]
            fn request_id(&self) -> ::core::option::Option<#root::RequestId> {
                #(#request_ids)*(&self.#first)
            }

            fn into_values(self) -> #root::Values {
                <#root::Values as ::core::iter::FromIterator<#root::Value>>::from_iter(
                    [#(#into_values),*],
                )
            }

            fn from_values(
                values: #root::Values,
            ) -> ::core::result::Result<Self, #root::TupleError> {
                let mut fields = values.into_fields(<Self as #root::Tuple>::FIELDS)?;
                ::core::result::Result::Ok(Self { #(#members: fields.next::<#types>()?),* })
            }

            fn encode(
                &self,
                encoder: &mut #root::Encoder,
            ) -> ::core::result::Result<(), #root::TupleError> {
                #(encoder.field::<#types>(&self.#members)?;)*
                ::core::result::Result::Ok(())
            }

            fn decode(
                decoder: &mut #root::Decoder<'_>,
            ) -> ::core::result::Result<Self, #root::TupleError> {
                ::core::result::Result::Ok(Self { #(#members: decoder.field::<#types>()?),* })
            }
        }
    })
}

/// `<Type as Field>::method` for each field, with the span of its type.
fn each(fields: &[&Field], root: &Path, method: &str) -> Vec<TokenStream> {
    let call = |field: &&Field| {
        let ty = &field.ty;
        let method = syn::Ident::new(method, proc_macro2::Span::call_site());
        quote_spanned!(ty.span()=> <#ty as #root::Field>::#method)
    };
    fields.iter().map(call).collect()
}

fn member(field: &Field) -> &syn::Ident {
    field.ident.as_ref().expect("fields were checked to be named")
}

/// The fields of a struct that has some, with names.
fn named_fields(input: &DeriveInput) -> Result<Vec<&Field>> {
    let name = &input.ident;
    let data = match &input.data {
        Data::Struct(data) => data,
        Data::Enum(data) => {
            let text = format!(
                "enum `{name}` cannot be a tuple, whose fields are the same for each of a stream; \
                 derive on a struct and make the enum a field"
            );
            return Err(Error::new(data.enum_token.span, text));
        }
        Data::Union(data) => {
            let text = format!("union `{name}` cannot be a tuple; derive on a struct");
            return Err(Error::new(data.union_token.span, text));
        }
    };
    match &data.fields {
        Fields::Named(fields) if !fields.named.is_empty() => Ok(fields.named.iter().collect()),
        Fields::Unnamed(fields) => {
            let text = format!(
                "the fields of `{name}` need names, since groupings name them: write \
                 `struct {name} {{ field: Type }}`"
            );
            Err(Error::new(fields.span(), text))
        }
        Fields::Named(_) | Fields::Unit => {
            let text = format!("`{name}` has no fields; a tuple has at least one");
            Err(Error::new(name.span(), text))
        }
    }
}

/// Streams are declared with one type each, so a generic one would have no name to be compared by.
fn check_not_generic(input: &DeriveInput) -> Result<()> {
    let generics = &input.generics;
    match (generics.lifetimes().next(), generics.params.first()) {
        (Some(lifetime), _) => {
            let text = format!(
                "a tuple cannot borrow, since it travels between threads and processes; make the \
                 fields of `{}` own their data",
                input.ident
            );
            Err(Error::new(lifetime.span(), text))
        }
        (None, Some(_)) => {
            let text = format!(
                "`{}` is generic; a stream carries one type, so derive on a struct for each",
                input.ident
            );
            Err(Error::new(generics.params.span(), text))
        }
        (None, None) => Ok(()),
    }
}

/// The module that the expansion's paths begin with.
fn root(input: &DeriveInput) -> Result<Path> {
    let mut root = None;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("tuple")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("unknown option of `tuple`; known is `crate = \"path\"`"));
            }
            root = Some(meta.value()?.parse::<LitStr>()?.parse()?);
            Ok(())
        })?;
    }
    match root {
        Some(root) => Ok(root),
        None => syn::parse_str("::raybolt::topology"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand_text(text: &str) -> Result<String> {
        let input = syn::parse_str(text).expect("the test's item is Rust");
        expand(&input).map(|tokens| tokens.to_string().replace(' ', ""))
    }

    fn error_of(text: &str) -> String {
        expand_text(text).expect_err("the item cannot be a tuple").to_string()
    }

    #[test]
    fn paths_begin_at_the_facade_or_where_the_attribute_says() {
        let facade = expand_text("struct Word { word: String }").unwrap();
        assert!(facade.contains("impl::raybolt::topology::TupleforWord{"), "{facade}");
        let other =
            expand_text(r#"#[tuple(crate = "mine")] struct Word { word: String }"#).unwrap();
        assert!(other.contains("implmine::TupleforWord{"), "{other}");
        assert!(!other.contains("raybolt"), "{other}");
    }

    #[test]
    fn raw_names_lose_their_mark_in_fields() {
        let text = expand_text("struct Item { r#type: u8, size: u64 }").unwrap();
        assert!(text.contains(r#"=&["type","size"];"#), "{text}");
        assert!(text.contains("&self.r#type"), "{text}");
    }

    #[test]
    fn an_enum_is_refused() {
        assert_eq!(
            error_of("enum Word { A, B }"),
            "enum `Word` cannot be a tuple, whose fields are the same for each of a stream; derive \
             on a struct and make the enum a field"
        );
    }

    #[test]
    fn a_union_is_refused() {
        assert_eq!(
            error_of("union Word { a: u8, b: i8 }"),
            "union `Word` cannot be a tuple; derive on a struct"
        );
    }

    #[test]
    fn fields_without_names_are_refused() {
        assert_eq!(
            error_of("struct Word(String);"),
            "the fields of `Word` need names, since groupings name them: write `struct Word { \
             field: Type }`"
        );
    }

    #[test]
    fn a_struct_without_fields_is_refused() {
        for text in ["struct Word;", "struct Word {}"] {
            assert_eq!(error_of(text), "`Word` has no fields; a tuple has at least one");
        }
    }

    #[test]
    fn generics_are_refused() {
        for text in ["struct Word<T> { word: T }", "struct Word<const N: usize> { word: [u8; N] }"]
        {
            assert_eq!(
                error_of(text),
                "`Word` is generic; a stream carries one type, so derive on a struct for each"
            );
        }
        assert_eq!(
            error_of("struct Word<'a> { word: &'a str }"),
            "a tuple cannot borrow, since it travels between threads and processes; make the \
             fields of `Word` own their data"
        );
    }

    #[test]
    fn an_unknown_option_names_the_known_one() {
        assert_eq!(
            error_of(r#"#[tuple(path = "mine")] struct Word { word: String }"#),
            "unknown option of `tuple`; known is `crate = \"path\"`"
        );
    }
}
