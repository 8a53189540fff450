//! How much of a run is kept. Whatever it is, grants, quotas and determinism are the same.
//!
//! | mode | ledger | bodies of what was read or changed outside, if they are too long for their event |
//! |---|---|---|
//! | full | yes | in the store |
//! | digest | yes | their digests only: a replay needs them from elsewhere, and says where it lacks one |
//! | off | no | no |

use vac_core::canon::Node;
use vac_core::ledger::{Class, Header};

/// What is kept of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recording {
    /// All that a replay needs.
    #[default]
    Full,
    /// The ledger, without long bodies of what was read or changed outside.
    Digest,
    /// Nothing.
    Off,
}

/// The field of a header that says so. It is left out of a run that is recorded in full.
const FIELD: &str = "record";

impl Recording {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Full, Self::Digest, Self::Off];

    /// The word that an operator types, and a header has.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Digest => "digest",
            Self::Off => "off",
        }
    }

    /// The mode that `header` names; `None` if it names none that there is.
    pub fn of(header: &Header) -> Option<Self> {
        match header.get(FIELD) {
            None => Some(Self::Full),
            Some(Node::Text(word)) if word == Self::Digest.word() => Some(Self::Digest),
            Some(_) => None,
        }
    }

    /// What a header says of it, if anything.
    pub(crate) fn field(self) -> Option<(String, Node)> {
        (self == Self::Digest).then(|| (FIELD.to_owned(), Node::Text(self.word().to_owned())))
    }

    /// Whether a long body of an event of this class goes into the store.
    pub(crate) fn keeps(self, class: Class) -> bool {
        match self {
            Self::Full => true,
            Self::Digest => !matches!(class, Class::Read | Class::Effect),
            Self::Off => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_names_only_what_is_not_full() {
        for mode in [Recording::Full, Recording::Digest] {
            let header = Header::new(mode.field().into_iter().collect());
            assert_eq!(header.fields.is_empty(), mode == Recording::Full);
            assert_eq!(Recording::of(&header), Some(mode));
        }
        for wrong in [Node::Text("off".into()), Node::Text("full".into()), Node::Int(1)] {
            assert_eq!(Recording::of(&Header::new(vec![(FIELD.into(), wrong)])), None);
        }
    }
}
