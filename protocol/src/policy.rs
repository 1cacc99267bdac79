//! What a node may decide by itself when its data and a peer's must not simply be joined, in DRBD's
//! words.
//!
//! Only the vocabulary: the engine applies the policies. Those that let the data change under a
//! running Primary (`violently…`) have no place here, so nothing can be told to do that.

#[cfg(test)]
mod tests;

/// Whose changes are given up in a split brain while neither node is Primary (`after-sb-0pri`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum WithoutPrimary {
    /// A person decides.
    #[default]
    Disconnect,
    /// Those of the node that was not Primary when the split began.
    DiscardYoungerPrimary,
    /// Those of the node that was Primary when the split began.
    DiscardOlderPrimary,
    /// Those of the node that has none; if both have some, a person decides.
    DiscardZeroChanges,
    /// Those of the node that has fewer.
    DiscardLeastChanges,
    /// This node's.
    DiscardLocal,
    /// The peer's.
    DiscardRemote,
}

/// The same while one node is Primary (`after-sb-1pri`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum WithOnePrimary {
    /// A person decides.
    #[default]
    Disconnect,
    /// What `after-sb-0pri` says, if that is the Secondary; else a person decides.
    Consensus,
    /// The Secondary's.
    DiscardSecondary,
    /// What `after-sb-0pri` says; if that is the Primary, its handler is called instead.
    CallPrimaryLost,
}

/// The same while both nodes are Primary (`after-sb-2pri`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum WithTwoPrimaries {
    /// A person decides.
    #[default]
    Disconnect,
    /// The handler of the node that `after-sb-0pri` says is called.
    CallPrimaryLost,
}

/// What happens when a Primary would have to be overwritten although there is no split brain
/// (`rr-conflict`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum ResyncConflict {
    /// The connection is refused.
    #[default]
    Disconnect,
    /// It is refused, and the Primary's handler is called.
    CallPrimaryLost,
    /// It is tried again as after a lost link.
    RetryConnect,
}

/// Everything that may end a split brain without a person. Part of the greeting, since both nodes
/// must come to the same result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SplitPolicies {
    /// `after-sb-0pri`
    pub without_primary: WithoutPrimary,
    /// `after-sb-1pri`
    pub with_one_primary: WithOnePrimary,
    /// `after-sb-2pri`
    pub with_two_primaries: WithTwoPrimaries,
    /// `always-asbp`: also when the two share only an older generation, so that everything has to
    /// be copied.
    pub always: bool,
}

impl SplitPolicies {
    /// The same policies as they read on the other node.
    #[must_use]
    pub fn seen_from_peer(self) -> Self {
        let without_primary = match self.without_primary {
            WithoutPrimary::DiscardLocal => WithoutPrimary::DiscardRemote,
            WithoutPrimary::DiscardRemote => WithoutPrimary::DiscardLocal,
            same => same,
        };
        Self {
            without_primary,
            ..self
        }
    }

    /// Whether every split brain waits for a person.
    #[must_use]
    pub fn is_default(self) -> bool {
        self == Self::default()
    }
}

macro_rules! words {
    ($type:ident: $($variant:ident = $number:literal $word:literal),+ $(,)?) => {
        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The policy with this number, or `None` for a number nobody has assigned.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.number() == number)
            }

            /// The number under which it crosses the wire.
            #[must_use]
            pub fn number(self) -> u8 {
                match self {
                    $(Self::$variant => $number,)+
                }
            }

            /// The word in a configuration.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The policy this word stands for in a configuration.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.word() == word)
            }
        }
    };
}

words!(WithoutPrimary:
    Disconnect = 0 "disconnect",
    DiscardYoungerPrimary = 1 "discard-younger-primary",
    DiscardOlderPrimary = 2 "discard-older-primary",
    DiscardZeroChanges = 3 "discard-zero-changes",
    DiscardLeastChanges = 4 "discard-least-changes",
    DiscardLocal = 5 "discard-local",
    DiscardRemote = 6 "discard-remote");
words!(WithOnePrimary:
    Disconnect = 0 "disconnect",
    Consensus = 1 "consensus",
    DiscardSecondary = 2 "discard-secondary",
    CallPrimaryLost = 3 "call-pri-lost-after-sb");
words!(WithTwoPrimaries:
    Disconnect = 0 "disconnect",
    CallPrimaryLost = 1 "call-pri-lost-after-sb");
words!(ResyncConflict:
    Disconnect = 0 "disconnect",
    CallPrimaryLost = 1 "call-pri-lost",
    RetryConnect = 2 "retry-connect");
