//! Keys as templates: text with expressions in braces.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Expr, ExprLit, Lit, LitStr, Result};

/// A key, as it was written.
pub(crate) enum Key {
    /// Text and expressions in turn.
    Template(Vec<Piece>),
    /// Anything that is not a string literal.
    Expression(Expr),
}

pub(crate) enum Piece {
    Text(String),
    Value(Expr),
}

impl Key {
    pub(crate) fn of(value: Expr) -> Result<Self> {
        match value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => pieces(&text).map(Self::Template),
            value => Ok(Self::Expression(value)),
        }
    }

    /// The key as one string.
    pub(crate) fn joined(&self) -> TokenStream {
        match self {
            Self::Expression(value) => value.to_token_stream(),
            Self::Template(pieces) => {
                let format: String = pieces.iter().map(Piece::as_format).collect();
                let values = pieces.iter().filter_map(Piece::value);
                quote!(::std::format!(#format, #(#values),*))
            }
        }
    }
}

impl Key {
    /// The key as parts that are kept apart whatever the values are.
    pub(crate) fn parts(&self) -> TokenStream {
        match self {
            Self::Expression(value) => value.to_token_stream(),
            Self::Template(pieces) => {
                let mut parts = pieces.iter().map(|piece| match piece {
                    Piece::Text(text) => text.to_token_stream(),
                    Piece::Value(value) => quote!(&#value),
                });
                let first = parts.next();
                quote!(::tenure::__macros::Key::new(#first)#(.part(#parts))*)
            }
        }
    }
}

impl Piece {
    fn as_format(&self) -> String {
        match self {
            Self::Text(text) => text.replace('{', "{{").replace('}', "}}"),
            Self::Value(_) => "{}".to_owned(),
        }
    }

    fn value(&self) -> Option<&Expr> {
        match self {
            Self::Text(_) => None,
            Self::Value(value) => Some(value),
        }
    }
}

fn pieces(template: &LitStr) -> Result<Vec<Piece>> {
    let refused = |what: &str| Err(syn::Error::new(template.span(), what));
    let source = template.value();
    let (mut pieces, mut text) = (Vec::new(), String::new());
    let mut rest = source.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.peek() == Some(&c) => {
                text.push(c);
                rest.next();
            }
            '}' => return refused("a `}` without its `{`; a brace of the key itself is doubled"),
            '{' => {
                let mut depth = 1;
                let mut value = String::new();
                for c in rest.by_ref() {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    if depth == 0 {
                        break;
                    }
                    value.push(c);
                }
                if depth != 0 {
                    return refused("a `{` without its `}`; a brace of the key itself is doubled");
                }
                if value.trim().is_empty() {
                    return refused("empty braces; name an argument, as in `{table}`");
                }
                let value = LitStr::new(&value, template.span()).parse::<Expr>()?;
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Value(value));
            }
            c => text.push(c),
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    if pieces.is_empty() {
        return refused("a key is not empty");
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn joined(template: &str) -> Result<String> {
        Ok(Key::of(parse_quote!(#template))?.joined().to_string())
    }

    #[test]
    fn a_template_is_text_and_expressions() {
        for (template, format) in [
            ("plain", quote!(::std::format!("plain",))),
            ("{table}", quote!(::std::format!("{}", table))),
            ("a:{table}:{self.id}", quote!(::std::format!("a:{}:{}", table, self.id))),
            ("{{x}}{y}", quote!(::std::format!("{{x}}{}", y))),
            ("{items.len()}", quote!(::std::format!("{}", items.len()))),
            ("{ { 1 + 2 } }", quote!(::std::format!("{}", { 1 + 2 }))),
        ] {
            assert_eq!(format.to_string(), joined(template).unwrap(), "{template}");
        }
    }

    #[test]
    fn broken_templates_are_refused() {
        for template in ["", "{", "}", "a{b", "a}b", "{}", "{ }", "{a b}"] {
            assert!(joined(template).is_err(), "{template}");
        }
    }
}
