//! Enums that list all their variants.

/// Defines an enum without data and its constant `ALL`, which lists every variant in the order of declaration. Both
/// come from one list, so `ALL` is always complete, and `variant as usize` is an index into it.
#[macro_export]
macro_rules! enum_with_all {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident,)+ }) => {
        $(#[$meta])*
        $vis enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// All variants, in the order of declaration.
            $vis const ALL: [Self; [$(stringify!($variant)),+].len()] = [$(Self::$variant),+];
        }
    };
}
