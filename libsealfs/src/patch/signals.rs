//! Signals while a call is ours. The entry blocks every asynchronous signal before it leaves the
//! caller's stack and restores the caller's mask after it is back there, so that no handler of the
//! program ever runs on our stack, and no handler can interrupt a holder of our locks. Calls that
//! wait interruptibly hand [`caller_mask`] to `ppoll` and its like.
