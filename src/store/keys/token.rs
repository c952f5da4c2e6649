//! The text of a key: `exb_`, its public id, `_`, and the secret.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// How every key begins, so that scanners find one that was leaked.
pub const PREFIX: &str = "exb_";
/// Bytes of the public id, which is written in hexadecimal.
const ID: usize = 6;
/// Bytes of the secret: 256 bits.
const SECRET: usize = 32;
/// Bytes of its SHA-256.
pub(super) const DIGEST: usize = 32;

/// A key as its owner has it. Never printed by `Debug`, for it has none.
pub(super) struct Token {
    pub(super) id: String,
    secret: [u8; SECRET],
}

impl Token {
    /// A fresh one.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let (mut id, mut secret) = ([0; ID], [0; SECRET]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { id, secret })
    }

    /// Reads the exact spelling that [`Token::to_text`] gives and no other.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if id.len() != 2 * ID || !id.bytes().all(hex) {
            return None;
        }
        let secret = BASE64_URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
        Some(Self { id: id.to_owned(), secret })
    }

    pub(super) fn to_text(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, BASE64_URL_SAFE_NO_PAD.encode(self.secret))
    }

    /// What is stored. A slow hash is for passwords, which can be guessed; this can't.
    pub(super) fn digest(&self) -> [u8; DIGEST] {
        Sha256::digest(self.secret).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_from_its_own_text() {
        let token = Token::random().unwrap();
        let text = token.to_text();
        assert_eq!(text.len(), PREFIX.len() + 2 * ID + 1 + 43);
        let read = Token::parse(&text).unwrap();
        assert!(read.id == token.id && read.digest() == token.digest());
        assert_ne!(Token::random().unwrap().to_text(), text);
    }

    #[test]
    fn other_texts_are_none() {
        let secret = "A".repeat(43);
        assert!(Token::parse(&format!("exb_0123456789ab_{secret}")).is_some());
        for bad in [
            String::new(),
            secret.clone(),
            format!("exb_0123456789AB_{secret}"),
            format!("exb_0123456789a_{secret}"),
            format!("exb_0123456789ab{secret}"),
            format!("exb_0123456789ab_{secret}="),
            format!("exb_0123456789ab_{secret}A"),
            format!("EXB_0123456789ab_{secret}"),
            format!(" exb_0123456789ab_{secret}"),
            // Bits that are left over must be zero: one key has one text.
            format!("exb_0123456789ab_{}B", "A".repeat(42)),
        ] {
            assert!(Token::parse(&bad).is_none(), "{bad:?}");
        }
    }
}
