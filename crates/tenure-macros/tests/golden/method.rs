impl Index {
    async fn read(&mut self, table: &str) -> tenure::Result<usize> {
        let __tenure_request = ::tenure::__macros::request(
            ::tenure::__macros::named(&self.locks),
            self.name(),
            ::core::time::Duration::from_millis(300000u64),
            ::core::option::Option::None,
            |__tenure_request| { __tenure_request.shared().priority(3) },
        );
        ::tenure::__macros::locked(
                __tenure_request,
                async move |lock: ::tenure::LockWatch| -> tenure::Result<usize> {
                    Ok(lock.fencing_token().get() as usize + table.len())
                },
            )
            .await
    }
}
