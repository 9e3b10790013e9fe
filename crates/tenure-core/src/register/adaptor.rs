/// The adaptor.
#[derive(Debug)]
pub struct RegisterBackend;
