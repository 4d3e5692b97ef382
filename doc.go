// Package spool is an embeddable, durable message queue: a directory of queues with long polling, visibility
// timeouts, receipts, delays, dead letters, and rewind of what was deleted. It is a library; there is no server.
//
//	s, err := spool.Open(dir)
//	q, err := s.OpenQueue(ctx, "jobs", spool.Meta{})
//	id, err := q.Send(ctx, spool.Message{Body: body})
//	d, err := q.Receive(ctx, spool.Wait(20*time.Second))
//	err = d.Delete(ctx)
//
// This page is the contract. docs/guide.md in the repository teaches it in five chapters.
//
// # The life of a message
//
//	        Send(delay > 0)                delay over
//	Send ──────────────────► Delayed ───────────────────┐
//	  │                                                 ▼
//	  └─────────────────────────────────────────────► Active ◄────────────────────────┐
//	                                                    │ Receive                     │ lease over, Release,
//	                                                    ▼                             │ ChangeVisibility(0)
//	                                                 Inactive ────────────────────────┘
//	                                                    │ Delete, before the lease is over
//	                       Meta.Rewind = 0: gone        ▼
//	                                                Rewindable ── Rewind(to ≤ EnqueuedAt) ──► Active
//
//	Delayed, Active, Inactive ── age ≥ Meta.Retention ──► gone
//	Rewindable                ── age ≥ Meta.Rewind    ──► gone
//	MaxReceives or MaxAge of Meta.DeadLetter          ──► Active in the dead-letter queue
//
// Every stored message is in exactly one of the four states. [Queue.Attributes] counts them: the counters are exact
// and one consistent snapshot. Age is counted from the send in every state, and nothing renews it.
//
// A receive leases a message to its receiver until [Delivery.VisibleAt] and gives out a receipt. Only the latest
// receipt of a message works, and only before that instant: afterwards [Queue.Delete] answers [ErrInvalidReceipt]
// with the reason, and the message is Active again. [Delivery.Extend] prolongs the lease and keeps the receipt.
// [Delivery.Release] ends it: the message is Active at once, or Delayed first.
//
// [Queue.Rewind] makes every Rewindable message Active again that was sent at or after an instant, in one step. The
// instant is compared with [Delivery.EnqueuedAt], not with the time of the deletion: after a backlog, messages that
// were handled an hour ago may have been sent long before.
//
// # What is guaranteed
//
//   - A nil error from Send or SendBatch means that the messages are stored at the spool's durability and can be
//     received. A batch is stored as a whole or not at all, across a crash too.
//   - At least once: a message that was sent is delivered until it is deleted, expires, is purged, or moves to a
//     dead-letter queue.
//   - While a lease lasts nobody else gets the message. Nothing is delivered before its delay or its lease is over.
//   - A deleted message is not delivered again unless it is rewound. A deletion that was answered with nil is not
//     undone by a crash, at the level of the spool's durability.
//   - Receive takes the oldest Active message, by time of send, always: what comes back after a lease, a delay or a
//     rewind comes back in its place. One producer and one consumer without lapses see strict first in, first out.
//   - A receive that waits is woken by a send, by a delay or a lease that ends, by a release, a rewind and a dead
//     letter. Those who wait are served in the order in which they came. With Wait(0) a message is returned whenever
//     one is Active: there are no false empty answers.
//   - Handing a message over and leasing it are one step. A context that ends, or Close, strands no message.
//   - Receipts cannot be guessed or forged. Leases, receive counts and receipts survive a clean Close and the death
//     of the process alike.
//   - Every error of this package answers errors.Is with one of the Err variables. A context's error is returned as
//     it is.
//   - Damage on disk is found by checksums and reported as [ErrCorrupt] with its place. Nothing that cannot be read
//     is deleted. [Verify] looks for damage everywhere, and [Repair] recovers what is whole.
//
// # What is not guaranteed
//
//   - Exactly once. A message comes again when a lease ends too early, when the process dies between the work and
//     Delete, after a rewind, and when a producer sends again because it did not see the answer. Its ID is the same
//     at each delivery (though not for a second send): consumers keep it together with what they did.
//   - Order across consumers. Two consumers work at their own speed, and a message whose lease ended is delivered
//     after younger ones that were taken meanwhile.
//   - Anything across queues or with another database. Moving a message is a send and a delete, and a crash between
//     them leaves it in both. (A dead-letter move is done by spool, in one step: the message is in exactly one
//     queue.)
//   - Delivery past the retention. A message that nobody received in time is gone.
//   - After [ErrStoreFailed], an I/O error, the outcome of the call is unknown and the spool refuses all further
//     calls. Close it and open it again: what is on disk then counts.
//
// # Durability
//
// [Fsync], the default: nil means that a send, a delete, a rewind, a change of settings survives power loss. Calls
// that run at the same time share one fsync, so many producers cost little more than one.
//
// [Written]: nil means that it survives the death of the process (kill -9), and it is fsynced in the background at
// least once a second. A power loss takes at most the last second, and what is left is a prefix: nothing is missing
// before something that is there. [Spool.Sync] waits until everything acknowledged so far is on stable storage.
//
// Receives, extensions and releases are written before they are answered, at either level, and fsynced later. So a
// power loss may undo the latest ones: the message is then visible again, or at the deadline it had before, with a
// lower count, and its receipt is Expired. [WithDurableReceives] has them fsynced before they are answered, at either
// level; take it when a message that brings down the whole machine must be counted each time.
//
// spool relies on a disk that keeps what it said it has synced, and that writes a sector of 512 bytes whole. After a
// crash what lies behind the last position known to be durable is dropped if it is torn; damage anywhere else is
// ErrCorrupt. An fsync that fails is not tried again.
//
// When the disk is full, sends answer [ErrNoSpace] and have stored nothing, as do CreateQueue and SetMeta. Receives,
// deletes, releases, rewinds and purges go on from a reserve of up to 16 MB that is taken while there is space; when
// it is used up they answer ErrNoSpace too, and nothing is lost. Space that comes back, by deletions or otherwise,
// heals it without a restart. That deletions bring it back behind messages that stay takes up to 36 MB more, which are set
// aside likewise; each is at most a sixteenth of the disk.
//
// # Time
//
// Intervals are half open: visible when now ≥ VisibleAt, a receipt is valid when now < VisibleAt, expired when now ≥
// EnqueuedAt + Retention. The clock of a spool starts, at Open, at the wall clock or at the latest instant it has
// recorded, whichever is later, and then runs with the monotonic clock: a wall clock that jumps while the spool is
// open changes nothing. Time that passed while it was closed counts. EnqueuedAt never decreases along a queue.
// Nothing depends on a background sweep having run: every call takes what has fallen due into account first, but for
// [Spool.Stats], whose figures may be a moment late.
//
// Inside a testing/synctest bubble [OpenMemory] uses the bubble's clock: a day of delays passes in no time.
//
// # Concurrency
//
// All methods of [Spool] and [Queue] may be called from any number of goroutines. The methods of a [Delivery] may
// too, but reading its VisibleAt while another goroutine extends or releases it is a race. Slices given to spool are
// not kept, slices got from it belong to the caller. A context that has ended before a call means that nothing
// happens; one that ends during a call ends the waiting, not a change that is being stored.
//
// A directory is open in one process at a time; another one gets [ErrLocked], which names the holder. The lock ends
// with the process: there is no stale lock file. An empty queue that nobody uses has no goroutine, timer or open
// file of its own and takes less than 512 bytes: ten thousand are fine.
//
// [Spool.Close] wakes those who wait with [ErrClosed], lets calls under way finish, and leaves no goroutine behind.
//
// # Memory and disk
//
// Bodies are kept on disk; only the newest are also in memory. Of each 1,024 messages the state (up to 16 bytes for one
// that is Active and was never received, up to 80 for one that was or that is Rewindable, up to 130 while it is leased
// or delayed) is in memory as long as [WithMemoryBudget] allows. Then what was not used lately is put out to the index,
// and read back when it is needed: a receive, a deletion or the end of a lease reads it for all 1,024. What stays is
// about 200 bytes for each 1,024 messages. When messages change faster than the index can take it, calls wait. Three
// eighths of the budget at most are used for this, and about half as much more while calls read: Go's garbage collector
// lets the heap grow to twice of what lives, and there are buffers. A batch of messages that lie among many others is
// received, looked at or deleted in portions, so that this holds for it too, and an Open that reads the log puts out what
// does not fit. The index, which is made by the first checkpoint, uses Badger, whose memory comes on top: less than 64 MB.
//
// Without room for the index (128 MB free) nothing can be put out: then memory grows with what is live. A spool made by
// [OpenMemory] keeps everything in memory.
//
// The log consists of segments of up to 32 MB. A segment at the front of the log in which nothing is live any more
// is used again or removed. When the log holds much more than what is live, what still lives in its first segment is
// copied to its end in the background: a message that stays for long pins nothing. The aim is that the disk holds at
// most 1.3 times what is live and 192 MB, half a minute after the last change for every 2 GB that are live; sends wait
// while there is twice as much garbage as that. [Spool.Stats] tells how much is live and how much is on disk.
//
// Limits: a body has 1 byte to 16 MiB (64 KiB unless Meta.MaxMessageSize says otherwise), attributes 64 KiB for a
// message, a batch [MaxBatch] messages and [MaxBatchBytes] bytes, a queue a thousand million messages (100 million
// unless Meta.MaxMessages says otherwise). Delays, leases and retention can be years.
//
// # Backup and file systems
//
// To back up, call Close and copy the directory. A copy of a directory that is open is not supported and may not
// open. Neither are network file systems (NFS, SMB) supported: their locks and their fsync do not promise what spool
// relies on.
//
// The directory belongs to spool. Every open spool needs its own, and a directory that holds something else is
// refused.
//
// # Platforms
//
// spool is tested on Linux (amd64). It is built and vetted for Linux on arm64 and 386, for macOS and for Windows,
// and uses the means of those systems to reach stable storage (F_FULLFSYNC, FlushFileBuffers), but it has not been
// tested there.
package spool
