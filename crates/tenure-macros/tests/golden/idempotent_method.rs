impl Payments {
    pub async fn pay(
        &self,
        order: Order,
        again: bool,
    ) -> Result<Receipt, OnceError<Failed>> {
        let __tenure_call = ::tenure::__macros::call(
            ::tenure::__macros::named(&self.locks),
            ::core::clone::Clone::clone(&self.config)
                .ttl(::core::time::Duration::from_millis(7200000u64))
                .in_progress_ttl(::core::time::Duration::from_millis(60000u64))
                .wait_timeout(::core::time::Duration::from_millis(10000u64))
                .fail_ttl(FAIL_TTL)
                .executions(::tenure::__macros::Executions::AtMostOnce)
                .failures(::tenure::__macros::Failures::Keep)
                .max_attempts(3),
            order.key(),
            ::tenure::__macros::Fingerprint::of_json(&order),
            again,
        );
        ::tenure::__macros::idempotent(
                __tenure_call,
                async move |
                    attempt: ::tenure::__macros::Attempt,
                | -> <Result<
                    Receipt,
                    OnceError<Failed>,
                > as ::tenure::__macros::Kept>::Body {
                    self.charge(order, attempt.fencing_token()).await
                },
            )
            .await
    }
}
