//! What stands in an attribute's parentheses: `name = value`, or a name alone.

use proc_macro2::{Ident, TokenStream};
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Expr, Result, Token};

/// The options of one attribute, each taken at most once.
pub(crate) struct Options(Vec<(Ident, Option<Expr>)>);

struct Pair(Ident, Option<Expr>);

impl Parse for Pair {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.parse()?;
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Self(name, value))
    }
}

impl Options {
    /// # Errors
    /// Options that are not known, or said twice.
    pub(crate) fn parse(tokens: TokenStream, known: &[&str]) -> Result<Self> {
        let pairs = Punctuated::<Pair, Token![,]>::parse_terminated.parse2(tokens)?;
        let mut options: Vec<(Ident, Option<Expr>)> = Vec::new();
        for Pair(name, value) in pairs {
            if !known.contains(&name.to_string().as_str()) {
                let known = known.join("`, `");
                let message = format!("no such option; there are `{known}`");
                return Err(syn::Error::new(name.span(), message));
            }
            if options.iter().any(|(other, _)| *other == name) {
                return Err(syn::Error::new(name.span(), "this option is said twice"));
            }
            options.push((name, value));
        }
        Ok(Self(options))
    }

    /// The value of an option.
    ///
    /// # Errors
    /// If it stands there without one.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<Expr>> {
        match self.take(name) {
            None => Ok(None),
            Some((_, Some(value))) => Ok(Some(value)),
            Some((name, None)) => {
                Err(syn::Error::new(name.span(), format!("it has a value: `{name} = …`")))
            }
        }
    }

    /// Whether an option stands there; it has no value.
    ///
    /// # Errors
    /// If it has.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool> {
        match self.take(name) {
            None => Ok(false),
            Some((_, None)) => Ok(true),
            Some((name, Some(_))) => {
                Err(syn::Error::new(name.span(), format!("it stands alone: `{name}`")))
            }
        }
    }

    fn take(&mut self, name: &str) -> Option<(Ident, Option<Expr>)> {
        let at = self.0.iter().position(|(option, _)| option == name)?;
        Some(self.0.remove(at))
    }
}
