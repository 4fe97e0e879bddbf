//! A message with its body, and the bytes of both.
//!
//! # Protocol
//! The content of a frame is the message in postcard's format, followed by the body: the raw bytes of
//! the values that the message names by [`Span`]s. Values are thus neither copied through a second
//! buffer by the sender nor by the receiver, which cuts them out of the frame.
//!
//! ```text
//! | length | PushTasks { args: [0..3], [3..8] } | v v v | w w w w w |
//! ```
//!
//! # Invariants
//! - **ENV-1 (tiled).** The spans of a message lie in the body one after the other, in the order in
//!   which the message names them, without gaps, and cover it. So there is one encoding of a
//!   message, no byte is smuggled past, and no span points outside.
//! - **ENV-2 (no panic).** Whatever the bytes are, [`Envelope::decode`] answers.

use bytes::Bytes;

use crate::frame::{self, TooLong};
use crate::message::{Message, Span};

/// A message and the values that travel with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What is said.
    pub message: Message,
    /// The values it names, one after the other.
    pub body: Bytes,
}

/// Bytes that are not an envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The message itself cannot be read.
    #[error("{bytes} bytes do not begin with a message: {cause}")]
    Malformed {
        /// How many bytes there were.
        bytes: usize,
        /// What the decoder said.
        cause: postcard::Error,
    },
    /// A span is not where the previous one ended.
    #[error("a value begins at byte {start} of the body, where {expected} was expected")]
    Misplaced {
        /// Where the message says that it begins.
        start: u32,
        /// Where the value before it ends.
        expected: usize,
    },
    /// The spans do not add up to the body.
    #[error("the message names {named} bytes of values, the body has {body}")]
    BodyLength {
        /// How many the spans have together.
        named: usize,
        /// How many there are.
        body: usize,
    },
}

impl Envelope {
    /// An envelope with no values in it.
    pub fn new(message: Message) -> Self {
        Envelope { message, body: Bytes::new() }
    }

    /// Appends the envelope to `stream` as one frame of at most `max_bytes`.
    pub fn append(&self, stream: &mut Vec<u8>, max_bytes: usize) -> Result<(), TooLong> {
        let head = postcard::to_allocvec(&self.message)
            .expect("messages have no parts that refuse to be written");
        frame::append(stream, &[&head, &self.body], max_bytes)
    }

    /// The content of a frame.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(&self.message, Vec::new())
            .map(|mut bytes: Vec<u8>| {
                bytes.extend_from_slice(&self.body);
                bytes
            })
            .expect("messages have no parts that refuse to be written")
    }

    /// Reads the content of a frame; the body shares its memory.
    pub fn decode(content: Bytes) -> Result<Self, EnvelopeError> {
        let (message, body_bytes) = match postcard::take_from_bytes::<Message>(&content) {
            Ok((message, body)) => (message, body.len()),
            Err(cause) => return Err(EnvelopeError::Malformed { bytes: content.len(), cause }),
        };
        check_tiled(&message, body_bytes)?;
        let body = content.slice(content.len() - body_bytes..);
        Ok(Envelope { message, body })
    }

    /// The bytes of a value that this envelope's message names.
    ///
    /// # Panics
    /// If the span is another message's: those of this one are known to lie within (ENV-1).
    pub fn value(&self, span: Span) -> Bytes {
        self.body.slice(span.start as usize..span.start as usize + span.bytes as usize)
    }
}

/// ENV-1.
fn check_tiled(message: &Message, body: usize) -> Result<(), EnvelopeError> {
    let mut end = 0_usize;
    for span in message.spans() {
        if span.start as usize != end {
            return Err(EnvelopeError::Misplaced { start: span.start, expected: end });
        }
        end = end.saturating_add(span.bytes as usize);
    }
    if end == body { Ok(()) } else { Err(EnvelopeError::BodyLength { named: end, body }) }
}

/// Collects the values of a message while it is built.
///
/// ```
/// use raybolt_wire::envelope::BodyBuilder;
///
/// let mut body = BodyBuilder::default();
/// let first = body.push(b"abc").expect("far below 4 GiB");
/// assert_eq!((first.start, first.bytes), (0, 3));
/// ```
#[derive(Debug, Default)]
pub struct BodyBuilder(Vec<u8>);

impl BodyBuilder {
    /// Appends a value and says where it lies; `None` if the body would exceed 4 GiB.
    pub fn push(&mut self, value: &[u8]) -> Option<Span> {
        let start = u32::try_from(self.0.len()).ok()?;
        let bytes = u32::try_from(value.len()).ok()?;
        start.checked_add(bytes)?;
        self.0.extend_from_slice(value);
        Some(Span { start, bytes })
    }

    /// The body, for an [`Envelope`].
    pub fn finish(self) -> Bytes {
        self.0.into()
    }
}
