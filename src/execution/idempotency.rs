//! Requests that name themselves: the same key with the same request gives the same execution, for a day, however often
//! and however fast it is sent, and whether the server was restarted in between.

/// A key of the caller's choice, and the SHA-256 of the request that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller's word.
    pub key: String,
    /// Tells another request under the same key.
    pub request: [u8; 32],
}
