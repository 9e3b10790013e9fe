//! Times as people write them.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, Lit, LitStr, Result};

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The expression of a time: a literal such as `"60s"` is read now, anything else is taken as a
/// `Duration`.
pub(crate) fn duration(value: &Expr) -> Result<TokenStream> {
    match literal(value) {
        Some(text) => {
            let millis = millis(text)?;
            let span = text.span();
            Ok(quote_spanned!(span=> ::core::time::Duration::from_millis(#millis)))
        }
        None => match value {
            Expr::Lit(other) => {
                Err(syn::Error::new(other.span(), "a time has a unit: \"60s\", \"500ms\", \"5m\""))
            }
            value => Ok(value.to_token_stream()),
        },
    }
}

/// As [`duration`]; `"forever"` is none.
pub(crate) fn patience(value: &Expr) -> Result<TokenStream> {
    if literal(value).is_some_and(|text| text.value() == "forever") {
        return Ok(quote!(::core::option::Option::None));
    }
    let time = duration(value)?;
    Ok(quote!(::core::option::Option::Some(#time)))
}

/// The text of a string literal.
pub(crate) fn literal(value: &Expr) -> Option<&LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
        _ => None,
    }
}

fn millis(text: &LitStr) -> Result<u64> {
    let value = text.value();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim());
    number
        .parse::<u64>()
        .ok()
        .zip(unit)
        .and_then(|(number, (_, millis))| number.checked_mul(*millis))
        .ok_or_else(|| {
            syn::Error::new(
                text.span(),
                "not a time; write \"500ms\", \"60s\", \"5m\", \"1h\" or \"1d\"",
            )
        })
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, millis) in
            [("0s", 0), ("500ms", 500), ("60s", 60_000), ("5 m", 300_000), ("2h", 7_200_000)]
        {
            let read = duration(&parse_quote!(#text)).unwrap().to_string();
            let wanted = quote!(::core::time::Duration::from_millis(#millis)).to_string();
            assert_eq!(wanted.replace("i32", "u64"), read, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in
            ["", "60", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(duration(&parse_quote!(#text)).is_err(), "{text}");
        }
        assert!(duration(&parse_quote!(60)).is_err());
    }
}
