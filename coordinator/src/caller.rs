//! Who asked for what is being done: set where a call comes in, read where its commands are proposed. Between the two
//! lie the handlers, which need not know.

use qanat_coordinator_core::audit::Caller;

tokio::task_local! {
    static CALLER: Caller;
}

/// The caller of the present call. None for what the coordinator does by itself.
pub fn current() -> Option<Caller> {
    CALLER.try_with(Clone::clone).ok()
}

/// Does something for a caller, in this thread.
pub fn with<T>(caller: Option<Caller>, work: impl FnOnce() -> T) -> T {
    match caller {
        Some(caller) => CALLER.sync_scope(caller, work),
        None => work(),
    }
}

/// Does something for a caller, in this task.
pub async fn scope<F: Future>(caller: Caller, work: F) -> F::Output {
    CALLER.scope(caller, work).await
}
