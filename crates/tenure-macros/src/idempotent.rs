//! `#[idempotent]`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{Expr, Result};

use crate::duration::{duration, literal};
use crate::function::{Function, name_for_the_body, or_untouched};
use crate::options::Options;
use crate::template::Key;

const OPTIONS: [&str; 14] = [
    "key",
    "scope",
    "config",
    "ttl",
    "in_progress_ttl",
    "wait_timeout",
    "executions",
    "failures",
    "max_attempts",
    "fail_ttl",
    "fingerprint",
    "force",
    "manager",
    "attempt",
];

pub(crate) fn expand(options: TokenStream, function: TokenStream) -> TokenStream {
    or_untouched(function, |function| expansion(options, function))
}

fn expansion(options: TokenStream, function: TokenStream) -> Result<TokenStream> {
    let mut options = Options::parse(options, &OPTIONS)?;
    let function = Function::parse(function, "idempotent")?;
    let key = options.value("key")?.ok_or_else(|| {
        let help = "which call? `#[idempotent(scope = \"vector_rebuild\", key = \"{namespace}\")]`";
        syn::Error::new(Span::call_site(), help)
    })?;
    let key = Key::of(key)?.parts();
    let config = config(&mut options)?;
    let fingerprint = match options.value("fingerprint")? {
        Some(request) => quote!(::tenure::__macros::Fingerprint::of_json(&#request)),
        None => quote!(::core::result::Result::Ok(::tenure::__macros::Fingerprint::NONE)),
    };
    let force = options.value("force")?.map_or_else(|| quote!(false), ToTokens::into_token_stream);
    let manager = function.manager(options.value("manager")?);
    let attempt = name_for_the_body(options.value("attempt")?)?;

    let (output, body) = (&function.output, function.body());
    let call = Ident::new("__tenure_call", Span::mixed_site());
    Ok(function.with_body(&quote! {
        let #call = ::tenure::__macros::call(#manager, #config, #key, #fingerprint, #force);
        ::tenure::__macros::idempotent(
            #call,
            async move |#attempt: ::tenure::__macros::Attempt|
                -> <#output as ::tenure::__macros::Kept>::Body #body,
        )
        .await
    }))
}

/// A config, or the defaults of a scope; and what is said beside it.
fn config(options: &mut Options) -> Result<TokenStream> {
    let config = match (options.value("config")?, options.value("scope")?) {
        (Some(config), None) => quote!(::core::clone::Clone::clone(&#config)),
        (None, Some(scope)) => quote!(::tenure::__macros::IdempotencyConfig::new(#scope)),
        (Some(_), Some(scope)) => {
            return Err(syn::Error::new_spanned(scope, "the scope is the config's"));
        }
        (None, None) => {
            let help = "which scope do its keys belong to? `scope = \"vector_rebuild\"`";
            return Err(syn::Error::new(Span::call_site(), help));
        }
    };
    let mut more = TokenStream::new();
    for name in ["ttl", "in_progress_ttl", "wait_timeout", "fail_ttl"] {
        if let Some(time) = options.value(name)? {
            let (method, time) = (format_ident!("{name}"), duration(&time)?);
            more.extend(quote!(.#method(#time)));
        }
    }
    if let Some(policy) = options.value("executions")? {
        let words = [("at_least_once", "AtLeastOnce"), ("at_most_once", "AtMostOnce")];
        let policy = policy_of("Executions", &words, policy)?;
        more.extend(quote!(.executions(#policy)));
    }
    if let Some(policy) = options.value("failures")? {
        let policy = policy_of("Failures", &[("retry", "Retry"), ("keep", "Keep")], policy)?;
        more.extend(quote!(.failures(#policy)));
    }
    if let Some(attempts) = options.value("max_attempts")? {
        more.extend(quote!(.max_attempts(#attempts)));
    }
    Ok(quote!(#config #more))
}

/// A policy by its word, or an expression.
fn policy_of(policies: &str, words: &[(&str, &str)], value: Expr) -> Result<TokenStream> {
    let Some(text) = literal(&value) else {
        return Ok(value.into_token_stream());
    };
    let known = words.iter().find(|(word, _)| *word == text.value());
    let Some((_, variant)) = known else {
        let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        return Err(syn::Error::new(text.span(), format!("there are {}", words.join(" and "))));
    };
    let (policies, variant) = (format_ident!("{policies}"), format_ident!("{variant}"));
    Ok(quote!(::tenure::__macros::#policies::#variant))
}
