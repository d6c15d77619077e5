//! The mistakes that a suite must catch, as a list: one line for each, with the promise meant to.

/// An enum of mistakes, each with the promise that must catch it, from one list; `ALL` of them,
/// and the `name` of each in the words of a test.
///
/// ```
/// testkit::mistakes! {
///     /// A mistake.
///     pub enum Bug {
///         ReadsThenWrites => never_oversells,
///     }
/// }
/// assert_eq!(Bug::ALL, [(Bug::ReadsThenWrites, "never_oversells")]);
/// assert_eq!(Bug::ReadsThenWrites.name(), "reads_then_writes");
/// ```
#[macro_export]
macro_rules! mistakes {
    (
        $(#[$document:meta])*
        $visible:vis enum $name:ident { $($mistake:ident => $caught_by:ident),* $(,)? }
    ) => {
        $(#[$document])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "a mistake is its own description")]
        $visible enum $name { $($mistake),* }

        impl $name {
            /// Every mistake and the promise that must catch it.
            $visible const ALL: &'static [(Self, &'static str)] =
                &[$((Self::$mistake, stringify!($caught_by))),*];

            /// In the words of a test: `reads_then_writes`.
            $visible fn name(self) -> String {
                $crate::mistakes::snake_case(match self {
                    $(Self::$mistake => stringify!($mistake)),*
                })
            }
        }
    };
}

/// `ReadsThenWrites` as `reads_then_writes`.
pub fn snake_case(words: &str) -> String {
    let mut name = String::new();
    for letter in words.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}
