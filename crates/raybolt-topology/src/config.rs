//! What a topology may be told when it is submitted.

use std::time::Duration;

/// How long a tuple's tree may take, unless the configuration says otherwise: Storm's default.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// A tuple's tree gets this long at least; less would be replayed without end.
pub(crate) const MESSAGE_TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// How many tuples may wait in front of an instance, unless the configuration says otherwise.
pub const QUEUE_TUPLES_MAX: usize = 8_192;

/// What a topology may be told when it is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A spout instance is not asked for more while this many of its followed tuples are pending (0 counts as 1).
    pub max_spout_pending: Option<usize>,
    /// After this time a followed tuple whose tree is not done has failed. At least a millisecond.
    pub message_timeout: Duration,
    /// No component gets more instances than this.
    pub max_task_parallelism: Option<usize>,
    /// How many tuples may wait in front of an instance before its producers have to wait. At least 1.
    pub queue_tuples_max: usize,
    /// Whether spouts emit at once; otherwise they wait for `activate`.
    pub active: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_spout_pending: None,
            message_timeout: MESSAGE_TIMEOUT,
            max_task_parallelism: None,
            queue_tuples_max: QUEUE_TUPLES_MAX,
            active: true,
        }
    }
}
