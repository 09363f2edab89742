//! Enums that know all of their variants.

/// Defines an enum without data, and `ALL`: every variant, in the order of declaration. Both come from one list, so that
/// no variant can be missing in `ALL`, and `variant as usize` is its place there.
macro_rules! enum_with_all {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident,)+ }) => {
        $(#[$meta])*
        $vis enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every variant, in the order of declaration.
            $vis const ALL: [Self; [$(stringify!($variant)),+].len()] = [$(Self::$variant),+];
        }
    };
}

pub(crate) use enum_with_all;
