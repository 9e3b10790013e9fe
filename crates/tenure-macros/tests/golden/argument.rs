/// Pays.
pub async fn pay(locks: &LockManager, id: u64) -> Result<Receipt, PayError> {
    let __tenure_request = ::tenure::__macros::request(
        ::tenure::__macros::named(&locks),
        ::std::format!("orders:{}", id),
        ::core::time::Duration::from_millis(60000u64),
        ::core::option::Option::Some(::core::time::Duration::from_millis(30000u64)),
        |__tenure_request| { __tenure_request },
    );
    ::tenure::__macros::locked(
            __tenure_request,
            async move |_: ::tenure::LockWatch| -> Result<Receipt, PayError> {
                charge(id).await
            },
        )
        .await
}
