//! `#[locked]`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::{Expr, Result};

use crate::duration::{duration, patience};
use crate::function::{Function, name_for_the_body, or_untouched};
use crate::options::Options;
use crate::template::Key;

const OPTIONS: [&str; 7] = ["key", "ttl", "wait", "manager", "watch", "shared", "priority"];
/// As long as the program this attribute comes from had them.
const TTL: &str = "60s";
const WAIT: &str = "30s";

pub(crate) fn expand(options: TokenStream, function: TokenStream) -> TokenStream {
    or_untouched(function, |function| expansion(options, function))
}

fn expansion(options: TokenStream, function: TokenStream) -> Result<TokenStream> {
    let mut options = Options::parse(options, &OPTIONS)?;
    let function = Function::parse(function, "locked")?;
    let key = options.value("key")?.ok_or_else(|| {
        syn::Error::new(Span::call_site(), "which lock? `#[locked(key = \"orders:{id}\")]`")
    })?;
    let key = Key::of(key)?.joined();
    let ttl = duration(&options.value("ttl")?.unwrap_or_else(|| text(TTL)))?;
    let wait = patience(&options.value("wait")?.unwrap_or_else(|| text(WAIT)))?;
    let manager = function.manager(options.value("manager")?);
    let watch = name_for_the_body(options.value("watch")?)?;
    let shared = options.flag("shared")?.then(|| quote!(.shared()));
    let priority = options.value("priority")?.map(|points| quote!(.priority(#points)));

    let (output, body) = (&function.output, function.body());
    let request = Ident::new("__tenure_request", Span::mixed_site());
    Ok(function.with_body(&quote! {
        let #request = ::tenure::__macros::request(#manager, #key, #ttl, #wait, |#request| {
            #request #shared #priority
        });
        ::tenure::__macros::locked(
            #request,
            async move |#watch: ::tenure::LockWatch| -> #output #body,
        )
        .await
    }))
}

fn text(value: &str) -> Expr {
    let value = syn::LitStr::new(value, Span::call_site());
    syn::parse_quote!(#value)
}
