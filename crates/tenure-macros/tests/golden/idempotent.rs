async fn rebuild(
    locks: &LockManager,
    namespace: &str,
) -> Result<Stats, OnceError<Failed>> {
    let __tenure_call = ::tenure::__macros::call(
        ::tenure::__macros::named(&locks),
        ::tenure::__macros::IdempotencyConfig::new("vector_rebuild"),
        ::tenure::__macros::Key::new("rebuild:").part(&namespace),
        ::core::result::Result::Ok(::tenure::__macros::Fingerprint::NONE),
        false,
    );
    ::tenure::__macros::idempotent(
            __tenure_call,
            async move |
                _: ::tenure::__macros::Attempt,
            | -> <Result<Stats, OnceError<Failed>> as ::tenure::__macros::Kept>::Body {
                index(namespace).await
            },
        )
        .await
}
