//! Gaps: what the commands say and do about messages that cannot be delivered.

use jlog::{Gap, GapKind};

use crate::console::Console;

/// Says what cannot be delivered.
pub(crate) fn say(console: &Console, gap: &Gap) {
    console.say(format!("gap: {gap}"));
}

/// Whether the loss was decided on before: by who repaired the log, by its retention, or by who
/// gave its space back. It is told of, and passed; it
/// is no problem of the log as it is now.
pub(crate) fn is_settled(gap: &Gap) -> bool {
    matches!(gap.kind, GapKind::Repaired | GapKind::Dropped | GapKind::Reclaimed)
}
