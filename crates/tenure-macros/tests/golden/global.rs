async fn nightly() -> tenure::Result<()> {
    let __tenure_request = ::tenure::__macros::request(
        ::tenure::global(),
        ::std::format!("nightly",),
        TTL,
        ::core::option::Option::Some(::core::time::Duration::from_millis(30000u64)),
        |__tenure_request| { __tenure_request },
    );
    ::tenure::__macros::locked(
            __tenure_request,
            async move |_: ::tenure::LockWatch| -> tenure::Result<()> { Ok(()) },
        )
        .await
}
