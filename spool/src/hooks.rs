//! `SpoolHooks`: what an application is told, and may change or refuse, at the spool's own moments.

use std::fmt::Debug;

use crate::context::Context;
use crate::envelope::Envelope;
use crate::error::{Result, SpoolError};
use crate::id::MessageId;
use crate::message::Message;

/// The metadata of a message that is about to be written: Momentum's `pre_swap_out_meta`.
#[derive(Debug)]
pub struct MetaEdit<'a> {
    /// The message.
    pub id: MessageId,
    /// Its envelope.
    pub envelope: &'a mut Envelope,
    /// The connection's context and the message's own.
    pub contexts: &'a mut [Context; 2],
}

/// How reading a message's metadata went: Momentum's `post_swap_in_meta`.
#[derive(Debug)]
pub enum LoadOutcome<'a> {
    /// It is there.
    Loaded(&'a Message),
    /// It could not be read.
    Failed(MessageId, &'a SpoolError),
}

/// How the import of one message ended: Momentum's `log_spool_import`.
#[derive(Debug)]
pub struct ImportEvent<'a> {
    /// Its id where it came from, where it had one.
    pub from: Option<MessageId>,
    /// What it is called there: an id, or a file and an offset.
    pub name: &'a str,
    /// Its id in this spool, or what failed.
    pub result: std::result::Result<MessageId, &'a SpoolError>,
}

/// Called at the spool's moments, in the thread that does the work, hooks in the order in which they were given. Every
/// default does nothing. An error from a hook that returns one stops what was under way, and nothing of it is written.
pub trait SpoolHooks: Debug + Send + Sync {
    /// Once for each message, before it is written for the first time (`validate_data_spool_each_rcpt`).
    ///
    /// # Errors
    /// Why the message is refused: the whole batch is, then.
    fn on_recipient(&self, _message: &Message) -> std::result::Result<(), String> {
        Ok(())
    }

    /// Before a batch is written (`swap_out_multi`): all messages that will be accepted together.
    ///
    /// # Errors
    /// Why the batch is refused.
    fn before_accept(&self, _batch: &[Message]) -> std::result::Result<(), String> {
        Ok(())
    }

    /// The last change to metadata before it is written (`pre_swap_out_meta`).
    ///
    /// # Errors
    /// Why it is not to be written.
    fn before_update(&self, _edit: &mut MetaEdit<'_>) -> std::result::Result<(), String> {
        Ok(())
    }

    /// After metadata was read, or could not be (`post_swap_in_meta`).
    ///
    /// # Errors
    /// Why the message is not to be had, though it could be read.
    fn after_load(&self, _outcome: &LoadOutcome<'_>) -> std::result::Result<(), String> {
        Ok(())
    }

    /// After each message of an import (`log_spool_import`).
    fn on_import(&self, _event: &ImportEvent<'_>) {}

    /// A record of a message was found damaged: after it was set aside. It is called while the message is being read: do
    /// not ask the spool, or a handle, for that message here.
    fn on_corrupt(&self, _id: MessageId, _error: &SpoolError) {}
}

/// Asks every hook in turn; the first that refuses ends it.
pub(crate) fn ask(
    name: &'static str,
    hooks: &[std::sync::Arc<dyn SpoolHooks>],
    mut call: impl FnMut(&dyn SpoolHooks) -> std::result::Result<(), String>,
) -> Result<()> {
    hooks.iter().try_for_each(|hook| call(&**hook)).map_err(|why| SpoolError::Refused { hook: name, why })
}
