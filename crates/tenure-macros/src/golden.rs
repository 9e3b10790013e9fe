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

#[test]
fn an_idempotent_function_with_its_scope() {
    let options = quote!(scope = "vector_rebuild", key = "rebuild:{namespace}");
    let function = quote! {
        async fn rebuild(locks: &LockManager, namespace: &str) -> Result<Stats, OnceError<Failed>> {
            index(namespace).await
        }
    };
    is_golden("idempotent", crate::idempotent::expand(options, function));
}

#[test]
fn an_idempotent_method_with_every_option() {
    let options = quote!(
        config = self.config,
        key = order.key(),
        ttl = "2h",
        in_progress_ttl = "1m",
        wait_timeout = "10s",
        executions = "at_most_once",
        failures = "keep",
        max_attempts = 3,
        fail_ttl = FAIL_TTL,
        fingerprint = order,
        force = again,
        manager = self.locks,
        attempt = attempt
    );
    let function = quote! {
        pub async fn pay(&self, order: Order, again: bool) -> Result<Receipt, OnceError<Failed>> {
            self.charge(order, attempt.fencing_token()).await
        }
    };
    let expansion = crate::idempotent::expand(options, function);
    is_golden("idempotent_method", quote!(impl Payments { #expansion }));
}
