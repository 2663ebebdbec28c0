//! Generates the code of the derive.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, Ident, Result, Type};

use crate::attributes::{FieldAttributes, MessageAttributes};

/// A field of the struct, with its attribute.
struct Member<'a> {
    name: &'a Ident,
    ty: &'a Type,
    attributes: FieldAttributes,
    /// `Struct.field`, for errors.
    path: String,
}

impl Member<'_> {
    /// The variable for the decoded value; with a prefix, so that a field called `version` does not hide the version.
    fn local(&self) -> Ident {
        format_ident!("field_{}", self.name)
    }

    /// The field's value if the peer sends none.
    fn default(&self) -> TokenStream {
        let ty = self.ty;
        self.attributes.default.as_ref().map_or_else(|| quote!(<#ty as Default>::default()), |expr| quote!(#expr))
    }

    /// Whether `version` has the field.
    fn is_present(&self) -> TokenStream {
        between(self.attributes.since, self.attributes.until)
    }

    /// Whether `version` has it among the plain fields.
    fn is_plain(&self) -> TokenStream {
        match self.attributes.tag {
            Some((_, from)) if from <= self.attributes.since => quote!(false),
            Some((_, from)) => between(self.attributes.since, from - 1),
            None => self.is_present(),
        }
    }

    /// Whether `version` has it among the tagged fields.
    fn is_tagged(&self) -> TokenStream {
        self.attributes.tag.map_or_else(|| quote!(false), |(_, from)| between(from, self.attributes.until))
    }

    /// The context in which the field's value is written and read.
    fn context(&self) -> TokenStream {
        let nullable = self.attributes.nullable.map_or_else(|| quote!(false), |(first, last)| between(first, last));
        quote!(context.with_nullable(#nullable))
    }
}

/// A condition that `version` is in this range; comparisons that are always true are left out.
fn between(first: i16, last: i16) -> TokenStream {
    match (first, last) {
        (..=0, i16::MAX) => quote!(true),
        (_, i16::MAX) => quote!((version >= #first)),
        (..=0, _) => quote!((version <= #last)),
        _ => quote!((version >= #first && version <= #last)),
    }
}

/// All code for one struct.
pub(crate) fn message(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "Message can be derived for a struct only"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(&input.ident, "Message can be derived for a struct with named fields only"));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "a message cannot be generic"));
    }
    let mut members = Vec::new();
    for field in &fields.named {
        let Some(name) = &field.ident else { continue };
        let path = format!("{}.{name}", input.ident);
        members.push(Member { name, ty: &field.ty, attributes: FieldAttributes::parse(field)?, path });
    }
    members_have_distinct_tags(&members)?;
    let parts = [
        default_impl(&input.ident, &members),
        field_impl(&input.ident, &members),
        MessageAttributes::parse(&input.attrs)?
            .map(|message| message_impl(&input.ident, &message, &members))
            .unwrap_or_default(),
    ];
    Ok(parts.into_iter().collect())
}

fn members_have_distinct_tags(members: &[Member]) -> Result<()> {
    for (index, member) in members.iter().enumerate() {
        let tag = member.attributes.tag.map(|(tag, _)| tag);
        if tag.is_some() && members.iter().take(index).any(|other| other.attributes.tag.map(|(tag, _)| tag) == tag) {
            return Err(Error::new_spanned(member.name, "another field has this tag"));
        }
    }
    Ok(())
}

fn default_impl(name: &Ident, members: &[Member]) -> TokenStream {
    let fields = members.iter().map(|member| {
        let (name, default) = (member.name, member.default());
        quote!(#name: #default)
    });
    quote! {
        #[automatically_derived]
        impl Default for #name {
            fn default() -> Self {
                Self { #(#fields),* }
            }
        }
    }
}

fn field_impl(name: &Ident, members: &[Member]) -> TokenStream {
    let (write, read, schema) = (write(members), read(members), schema(members));
    let sizes = members.iter().map(|member| {
        let (ty, is_plain, context) = (member.ty, member.is_plain(), member.context());
        quote! {
            if #is_plain {
                size = size.saturating_add(<#ty as Field>::min_size(#context));
            }
        }
    });
    let name_text = name.to_string();
    quote! {
        #[automatically_derived]
        #[allow(clippy::all, clippy::pedantic, unused_parens, unused_variables)]
        const _: () = {
            use crate::wire::message::{Context, Field, Nullable};
            use crate::wire::primitives::{DecodeError, Decoder, EncodeError, Encoder};
            use crate::wire::schema::{FieldSchema, FieldType, Schema};

            impl Field for #name {
                fn write(&self, encoder: &mut Encoder, context: Context) -> Result<(), EncodeError> {
                    let version = context.version;
                    #write
                }

                fn read(decoder: &mut Decoder, context: Context) -> Result<Self, DecodeError> {
                    let version = context.version;
                    #read
                }

                fn min_size(context: Context) -> usize {
                    let version = context.version;
                    let mut size = usize::from(context.flexible);
                    #(#sizes)*
                    size
                }

                fn field_type() -> FieldType {
                    let default = Self::default();
                    FieldType::Struct(Schema { name: #name_text, fields: vec![#(#schema),*] })
                }
            }

            impl Nullable for #name {
                fn write_option(value: Option<&Self>, encoder: &mut Encoder, context: Context) -> Result<(), EncodeError> {
                    encoder.put_optional_struct(value, context)
                }

                fn read_option(decoder: &mut Decoder, context: Context) -> Result<Option<Self>, DecodeError> {
                    decoder.optional_struct(context)
                }
            }
        };
    }
}

/// Writes the plain fields in order, then the number of tagged fields that differ from their defaults, then those by
/// tag.
fn write(members: &[Member]) -> TokenStream {
    let plain = members.iter().map(|member| {
        let Member { name, path, .. } = member;
        let (is_plain, is_present, context, default) =
            (member.is_plain(), member.is_present(), member.context(), member.default());
        let otherwise = if member.attributes.ignorable {
            quote!()
        } else {
            quote! {
                if !#is_present && self.#name != #default {
                    return Err(EncodeError::absent(#path));
                }
            }
        };
        quote! {
            if #is_plain {
                self.#name.write(encoder, #context).map_err(|error| error.in_field(#path))?;
            } else {
                #otherwise
            }
        }
    });
    let mut tagged: Vec<_> = members.iter().filter_map(|member| Some((member.attributes.tag?.0, member))).collect();
    tagged.sort_by_key(|(tag, _)| *tag);
    let is_sent = tagged.iter().map(|(tag, member)| {
        let (name, is_tagged, default) = (member.name, member.is_tagged(), member.default());
        let variable = format_ident!("tag_{tag}");
        quote!(let #variable = #is_tagged && self.#name != #default;)
    });
    let variables: Vec<_> = tagged.iter().map(|(tag, _)| format_ident!("tag_{tag}")).collect();
    let puts = tagged.iter().zip(&variables).map(|((tag, member), variable)| {
        let Member { name, path, .. } = member;
        let context = member.context();
        quote! {
            if #variable {
                encoder.put_tagged(#tag, |encoder| self.#name.write(encoder, #context))
                    .map_err(|error| error.in_field(#path))?;
            }
        }
    });
    quote! {
        #(#plain)*
        if context.flexible {
            #(#is_sent)*
            encoder.put_unsigned_varint(0 #(+ u32::from(#variables))*);
            #(#puts)*
        }
        Ok(())
    }
}

/// Reads the plain fields in order, then the tagged ones; fields that the version lacks get their defaults.
fn read(members: &[Member]) -> TokenStream {
    let plain = members.iter().map(|member| {
        let Member { ty, path, .. } = member;
        let (is_plain, context, default) = (member.is_plain(), member.context(), member.default());
        let mutable = member.attributes.tag.map(|_| quote!(mut));
        let local = member.local();
        quote! {
            let #mutable #local = if #is_plain {
                <#ty as Field>::read(decoder, #context).map_err(|error| error.in_field(#path))?
            } else {
                #default
            };
        }
    });
    let tagged = members.iter().filter_map(|member| {
        let (tag, _) = member.attributes.tag?;
        let Member { ty, path, .. } = member;
        let (local, is_tagged, context) = (member.local(), member.is_tagged(), member.context());
        Some(quote! {
            #tag if #is_tagged => {
                #local = <#ty as Field>::read(decoder, #context).map_err(|error| error.in_field(#path))?;
                Ok(true)
            }
        })
    });
    let fields = members.iter().map(|member| {
        let (name, local) = (member.name, member.local());
        quote!(#name: #local)
    });
    quote! {
        #(#plain)*
        if context.flexible {
            decoder.tagged_fields(|tag, decoder| match tag {
                #(#tagged)*
                _ => Ok(false),
            })?;
        }
        Ok(Self { #(#fields),* })
    }
}

fn schema(members: &[Member]) -> Vec<TokenStream> {
    let describe = |member: &Member| {
        let Member { name, ty, attributes, .. } = member;
        let name_text = name.to_string();
        let FieldAttributes { since, until, ignorable, .. } = attributes;
        let option = |versions: Option<TokenStream>| versions.map_or_else(|| quote!(None), |some| quote!(Some(#some)));
        let nullable = option(attributes.nullable.map(|(first, last)| quote!((#first, #last))));
        let tag = option(attributes.tag.map(|(tag, from)| quote!((#tag, #from))));
        quote! {
            FieldSchema {
                name: #name_text,
                field_type: <#ty as Field>::field_type(),
                versions: (#since, #until),
                nullable: #nullable,
                tag: #tag,
                default: format!("{:?}", default.#name),
                ignorable: #ignorable,
            }
        }
    };
    members.iter().map(describe).collect()
}

fn message_impl(name: &Ident, attributes: &MessageAttributes, members: &[Member]) -> TokenStream {
    let MessageAttributes { min_version, max_version, flexible, request } = attributes;
    let name_text = name.to_string();
    let request = request.as_ref().map(|(key, response)| {
        quote! {
            #[automatically_derived]
            impl crate::wire::message::Request for #name {
                const KEY: crate::wire::api::ApiKey = crate::wire::api::ApiKey::#key;
                type Response = #response;
            }
        }
    });
    let throttle = members.iter().any(|member| member.name == "throttle_time_ms").then(|| {
        quote! {
            fn throttle_time_ms(&self) -> i32 {
                self.throttle_time_ms
            }
        }
    });
    quote! {
        #[automatically_derived]
        impl crate::wire::message::Message for #name {
            const NAME: &'static str = #name_text;
            const MIN_VERSION: i16 = #min_version;
            const MAX_VERSION: i16 = #max_version;
            const FLEXIBLE_SINCE: i16 = #flexible;
            #throttle
        }
        #request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn refusal(input: &DeriveInput) -> String {
        message(input).unwrap_err().to_string()
    }

    #[test]
    fn a_contradiction_is_a_compile_error_that_says_what_is_wrong() {
        let with = |field: syn::Field| refusal(&parse_quote!(struct M { #field }));
        assert_eq!(with(parse_quote!(#[kafka(since = 3, until = 2)] a: i32)), "`until` is before `since`");
        assert_eq!(with(parse_quote!(#[kafka(tagged = 2)] a: i32)), "`tagged` needs `tag`");
        assert_eq!(
            with(parse_quote!(#[kafka(nullable_until = 2)] a: Option<String>)),
            "`nullable_until` needs `nullable`"
        );
        assert!(with(parse_quote!(#[kafka(sinc = 2)] a: i32)).starts_with("a field takes `since`"));
        assert!(with(parse_quote!(#[kafka(since = 70000)] a: i32)).contains("too large"));
        let twice = parse_quote!(
            struct M {
                #[kafka(tag = 0)]
                a: i32,
                #[kafka(tag = 0)]
                b: i32,
            }
        );
        assert_eq!(refusal(&twice), "another field has this tag");
    }

    #[test]
    fn a_message_needs_versions_and_a_request_its_response() {
        assert!(
            refusal(&parse_quote!(
                #[kafka(flexible = 1)]
                struct M {
                    a: i32,
                }
            ))
            .contains("needs `versions")
        );
        assert!(
            refusal(&parse_quote!(
                #[kafka(versions = "3")]
                struct M {
                    a: i32,
                }
            ))
            .contains("\"FIRST-LAST\"")
        );
        let alone = parse_quote!(
            #[kafka(versions = "0-1", request = "Fetch")]
            struct M {
                a: i32,
            }
        );
        assert_eq!(refusal(&alone), "`request` and `response` go together");
    }

    #[test]
    fn only_a_struct_with_named_fields_is_a_message() {
        assert!(
            refusal(&parse_quote!(
                enum M {
                    A,
                }
            ))
            .contains("struct only")
        );
        assert!(
            refusal(&parse_quote!(
                struct M(i32);
            ))
            .contains("named fields only")
        );
        assert!(
            refusal(&parse_quote!(
                struct M<T> {
                    a: T,
                }
            ))
            .contains("generic")
        );
    }
}
