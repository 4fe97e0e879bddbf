//! What a topology may be told when it is submitted.

use std::time::Duration;

/// How long a tuple's tree may take, unless the configuration says otherwise: Storm's default.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How many tuples may wait in front of an instance, unless the configuration says otherwise.
pub const QUEUE_TUPLES_MAX: usize = 8_192;

/// What a topology may be told when it is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A spout instance is not asked for more while this many of its followed tuples are pending.
    pub max_spout_pending: Option<usize>,
    /// After this time a followed tuple whose tree is not done has failed.
    pub message_timeout: Duration,
    /// No component gets more instances than this.
    pub max_task_parallelism: Option<usize>,
    /// How many tuples may wait in front of an instance before its producers have to wait.
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
