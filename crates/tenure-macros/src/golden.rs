//! What attributes expand to, written down; `UPDATE_GOLDEN=1` writes it anew.

use proc_macro2::TokenStream;
use quote::quote;

fn is_golden(name: &str, expansion: TokenStream) {
    let file = syn::parse2(expansion).expect("the expansion is Rust");
    let now = prettyplease::unparse(&file);
    let path = format!("{}/tests/golden/{name}.rs", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &now).expect("it can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("a golden file");
    assert_eq!(golden, now, "{path} says otherwise; UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn a_function_with_its_manager_as_an_argument() {
    let options = quote!(key = "orders:{id}");
    let function = quote! {
        /// Pays.
        pub async fn pay(locks: &LockManager, id: u64) -> Result<Receipt, PayError> {
            charge(id).await
        }
    };
    is_golden("argument", crate::locked::expand(options, function));
}

#[test]
fn a_method_with_every_option() {
    let options = quote!(
        key = self.name(),
        ttl = "5m",
        wait = "forever",
        manager = self.locks,
        watch = lock,
        shared,
        priority = 3
    );
    let function = quote! {
        async fn read(&mut self, table: &str) -> tenure::Result<usize> {
            Ok(lock.fencing_token().get() as usize + table.len())
        }
    };
    let expansion = crate::locked::expand(options, function);
    is_golden("method", quote!(impl Index { #expansion }));
}

#[test]
fn a_function_without_a_manager_uses_the_global_one() {
    let function = quote! {
        async fn nightly() -> tenure::Result<()> {
            Ok(())
        }
    };
    is_golden("global", crate::locked::expand(quote!(key = "nightly", ttl = TTL), function));
}
