//! What an owner tells those who watch it. Nothing here changes anything.

use super::{Attempt, ObjectKey, Owner, Progress, State, Status, Target, TaskKey};

/// A task that has not ended.
#[derive(Debug)]
pub struct TaskView<'a, J> {
    /// Which one.
    pub key: TaskKey,
    /// How far it is; calls are never said to run, which their actor's queue knows.
    pub progress: Progress,
    /// Where it runs.
    pub target: Target,
    /// How often it was lent to a worker.
    pub attempts: Attempt,
    /// The objects it takes.
    pub needs: &'a [ObjectKey],
    /// The objects it makes.
    pub returns: &'a [ObjectKey],
    /// What it would run; a worker or its actor's queue may have it.
    pub job: Option<&'a J>,
}

/// An object that has not been freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectView {
    /// Which one.
    pub key: ObjectKey,
    /// Whether its value is there; `None` while it is not, false if its task failed.
    pub is_ready: Option<bool>,
    /// Whether the owner's process has handles to it.
    pub has_handle: bool,
    /// Unfinished tasks that take it.
    pub uses: u32,
    /// Handles of other processes.
    pub borrows: u32,
    /// The task that makes it, while that has not ended.
    pub producer: Option<TaskKey>,
}

/// How many tasks there are, by what they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tasks that wait for arguments, and a few that are just being failed.
    pub waiting: usize,
    /// Tasks that could run.
    pub queued: usize,
    /// Tasks that a worker has.
    pub running: usize,
    /// Calls of actors, whatever they do.
    pub calls: usize,
}

impl<J> Owner<J> {
    /// The task of this key, if it has not ended.
    pub fn task(&self, key: TaskKey) -> Option<TaskView<'_, J>> {
        self.tasks.get(key).map(|task| view(key, task))
    }

    /// All tasks that have not ended, in no order that means anything.
    pub fn tasks(&self) -> impl Iterator<Item = TaskView<'_, J>> {
        self.tasks.iter().map(|(key, task)| view(key, task))
    }

    /// The object of this key, if it has not been freed.
    pub fn object(&self, key: ObjectKey) -> Option<ObjectView> {
        self.objects.get(key).map(|object| self.object_view(key, object))
    }

    /// All objects that have not been freed, in no order that means anything.
    pub fn objects(&self) -> impl Iterator<Item = ObjectView> {
        self.objects.iter().map(|(key, object)| self.object_view(key, object))
    }

    /// How many tasks there are, by what they do; does not look at each of them.
    pub fn tally(&self) -> Tally {
        let queued = self.queued.iter().sum();
        let (running, calls) = (self.lent, self.calls);
        let waiting = self.tasks.len().saturating_sub(queued + running + calls);
        Tally { waiting, queued, running, calls }
    }

    fn object_view(&self, key: ObjectKey, object: &super::Object) -> ObjectView {
        ObjectView {
            key,
            is_ready: match object.status {
                Status::Pending => None,
                Status::Ready => Some(true),
                Status::Failed => Some(false),
            },
            has_handle: object.handles > 0,
            uses: object.uses,
            borrows: object.borrows,
            producer: Some(object.producer).filter(|task| self.tasks.contains_key(*task)),
        }
    }
}

fn view<J>(key: TaskKey, task: &super::Task<J>) -> TaskView<'_, J> {
    TaskView {
        key,
        progress: progress(&task.state),
        target: task.target,
        attempts: task.attempt,
        needs: &task.needs,
        returns: task.returns.as_slice(),
        job: match &task.state {
            State::Waiting(_, job) => job.as_ref(),
            State::Queued(job) => Some(job),
            State::Lent | State::Failing => None,
        },
    }
}

pub(super) fn progress<J>(state: &State<J>) -> Progress {
    match state {
        State::Waiting(0, _) | State::Queued(_) | State::Failing => Progress::Queued,
        State::Waiting(needs, _) => Progress::Waiting(*needs),
        State::Lent => Progress::Running,
    }
}
