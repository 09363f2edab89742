//! Enums whose variants have a code in the log and a name in requests.

/// Defines an enum with the codes that the log contains and with the names that S3 uses. A code is part of the file
/// format: never change one, and never give the code of a removed variant to another.
macro_rules! coded_enum {
    ($(#[$doc:meta])* $type:ident { $($(#[$each:meta])* $variant:ident = $code:literal, $name:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub(crate) enum $type {
            $($(#[$each])* $variant = $code,)*
        }

        impl $type {
            /// Returns the name in S3 requests and in seed files.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Parses a name.
            pub(crate) fn parse(name: &str) -> Option<Self> {
                [$(Self::$variant),*].into_iter().find(|it| it.as_str() == name)
            }

            /// Returns the code in the log.
            pub(crate) fn code(self) -> u8 {
                self as u8
            }

            /// Returns the variant with this code in the log.
            pub(crate) fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use coded_enum;
