//! Who claims, as it is sent.

use std::sync::Arc;

use parking_lot::Mutex;
use tenure_core::Details;

/// Details as JSON, of which most claims of a manager have the same.
#[derive(Debug, Default)]
pub(crate) struct Written(Mutex<Option<(Arc<Details>, Arc<str>)>>);

impl Written {
    pub(crate) fn json(&self, details: &Arc<Details>) -> Arc<str> {
        let mut last = self.0.lock();
        if let Some((known, json)) = &*last
            && Arc::ptr_eq(known, details)
        {
            return json.clone();
        }
        let json: Arc<str> = serde_json::to_string(details).expect("details are JSON").into();
        *last = Some((details.clone(), json.clone()));
        json
    }
}
