//! The function under an attribute.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, FnArg, ImplItemFn, Pat, Result, ReturnType, Type};

/// An async function, or method, with a body and a return type that can be written down again.
pub(crate) struct Function {
    /// A method is parsed as what a function is, too.
    item: ImplItemFn,
    pub(crate) output: Type,
}

impl Function {
    /// # Errors
    /// Functions that cannot run under a lock, with what to do instead.
    pub(crate) fn parse(tokens: TokenStream, attribute: &str) -> Result<Self> {
        let item: ImplItemFn = syn::parse2(tokens)?;
        if item.sig.asyncness.is_none() {
            return Err(syn::Error::new(
                item.sig.fn_token.span(),
                format!(
                    "#[{attribute}] stands on an `async fn`; in blocking code use `tenure::blocking`"
                ),
            ));
        }
        let output = match &item.sig.output {
            ReturnType::Type(_, output) => (**output).clone(),
            ReturnType::Default => {
                return Err(syn::Error::new(
                    item.sig.ident.span(),
                    "the lock may not be had, or be lost: return a `Result` whose error can be made \
                     from `tenure::Error`",
                ));
            }
        };
        if let Some(opaque) = opaque(&output) {
            return Err(syn::Error::new(
                opaque,
                "name the type: the body's outcome has to be typed",
            ));
        }
        Ok(Self { item, output })
    }

    /// The expression of the manager: the one that was named, else the argument that is one, else
    /// the global one; a `Result`.
    pub(crate) fn manager(&self, named: Option<Expr>) -> TokenStream {
        match named.map(|manager| manager.to_token_stream()).or_else(|| self.manager_argument()) {
            Some(manager) => quote_spanned!(manager.span()=> ::tenure::__macros::named(&#manager)),
            None => quote!(::tenure::global()),
        }
    }

    fn manager_argument(&self) -> Option<TokenStream> {
        self.item.sig.inputs.iter().find_map(|argument| {
            let FnArg::Typed(argument) = argument else { return None };
            let Pat::Ident(name) = &*argument.pat else { return None };
            is_manager(&argument.ty).then(|| name.ident.to_token_stream())
        })
    }

    /// What the body is.
    pub(crate) fn body(&self) -> &syn::Block {
        &self.item.block
    }

    /// The function with another body.
    pub(crate) fn with_body(&self, body: &TokenStream) -> TokenStream {
        let ImplItemFn { attrs, vis, defaultness, sig, .. } = &self.item;
        quote!(#(#attrs)* #vis #defaultness #sig { #body })
    }
}

/// Expands a function; with an error it stays as it is beside it, so that the rest of the crate
/// still compiles.
pub(crate) fn or_untouched(
    function: TokenStream,
    expand: impl FnOnce(TokenStream) -> Result<TokenStream>,
) -> TokenStream {
    expand(function.clone())
        .unwrap_or_else(|error| [error.into_compile_error(), function].into_iter().collect())
}

/// The name under which the body finds something, if it wants it.
pub(crate) fn name_for_the_body(named: Option<Expr>) -> Result<TokenStream> {
    match named {
        None => Ok(quote!(_)),
        Some(Expr::Path(path)) if path.path.get_ident().is_some() => Ok(path.to_token_stream()),
        Some(other) => {
            Err(syn::Error::new_spanned(other, "a name for the body to use, as in `watch = lock`"))
        }
    }
}

fn is_manager(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => is_manager(&reference.elem),
        Type::Path(path) => {
            path.path.segments.last().is_some_and(|last| last.ident == "LockManager")
        }
        _ => false,
    }
}

fn opaque(ty: &Type) -> Option<proc_macro2::Span> {
    struct Finder(Option<proc_macro2::Span>);
    impl<'ast> syn::visit::Visit<'ast> for Finder {
        fn visit_type_impl_trait(&mut self, ty: &'ast syn::TypeImplTrait) {
            self.0.get_or_insert(ty.span());
        }
    }
    let mut finder = Finder(None);
    syn::visit::Visit::visit_type(&mut finder, ty);
    finder.0
}
