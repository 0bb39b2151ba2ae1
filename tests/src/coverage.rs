//! What a run has met: counters that must not stay at zero.

/// Makes a `Coverage` of these counters.
macro_rules! counters {
    ($($name:ident: $what:literal,)*) => {
        /// What was met, and how often. A run that met nothing of one kind has proved nothing of it.
        #[derive(Debug, Clone, Default)]
        pub struct Coverage {
            $(pub $name: u64,)*
        }

        impl Coverage {
            pub fn add(&mut self, other: &Coverage) {
                $(self.$name += other.$name;)*
            }

            /// What each is, and how often it was met.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$(($what, self.$name),)*]
            }
        }
    };
}

pub(crate) use counters;
