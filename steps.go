package spool

import (
	"slices"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/seglog"
)

// Kill points. Tests end the process when one of these is reached, or one of store.Steps or seglog.Steps, and look at what
// the next Open finds. What that is, is told where the step is.
const (
	stepCleanWritten      = "clean:written"      // COPYs are in the log, the queue has the old places
	stepCleanEvicted      = "clean:evicted"      // blocks were put out of memory
	stepCleanCopied       = "clean:copied"       // everything live of the first segment is copied
	stepCleanSynced       = "clean:synced"       // durably
	stepCleanCheckpointed = "clean:checkpointed" // a checkpoint lies behind the segment
	stepCleanRetold       = "clean:retold"       // so does what tells of each queue, durably
	stepCleanDropped      = "clean:dropped"      // the log begins behind the segment

	stepCheckpointBegun    = "checkpoint:begun"    // it is known where replay will begin
	stepCheckpointBlocks   = "checkpoint:blocks"   // some blocks of a queue are in the batch, or in the index
	stepCheckpointQueue    = "checkpoint:queue"    // so are all of them, and the queue
	stepCheckpointListed   = "checkpoint:listed"   // so are all queues, and the list of them
	stepCheckpointFlushed  = "checkpoint:flushed"  // all of that is in the index
	stepCheckpointLog      = "checkpoint:log"      // the log is synced to behind what it tells of
	stepCheckpointIndex    = "checkpoint:index"    // the index is synced
	stepCheckpointRecord   = "checkpoint:record"   // the checkpoint's own record is in the index
	stepCheckpointRecorded = "checkpoint:recorded" // durably
	stepCheckpointStands   = "checkpoint:stands"   // it counts, in memory too
	stepCheckpointSwept    = "checkpoint:swept"    // what it made superfluous is gone
	stepCheckpointFinished = "checkpoint:finished" // and nothing else is left

	stepIndexRefused    = "index:refused"    // the index cannot be believed, and is as it was
	stepIndexDistrusted = "index:distrusted" // its marker is gone, durably
	stepReplaySpilled   = "replay:spilled"   // blocks that the replay has met are in the index, and not in memory
	stepIndexReplayed   = "index:replayed"   // the log is in memory, or what does not fit in the index
	stepIndexRemoved    = "index:removed"    // the old index is gone
	stepIndexMade       = "index:made"       // there is an empty one, without a marker
	stepIndexBelieved   = "index:believed"   // it has a checkpoint, and its marker, durably

	stepMoveRead     = "move:read"     // a dead letter is read and has its room
	stepMoveRecorded = "move:recorded" // DEADLETTER is in the open frame; it is hidden in the target, counted in the source
	stepMoveMade     = "move:made"     // it is gone from the source
	stepMoveDone     = "move:done"     // it has reached the spool's level, nobody knows

	stepCreateAdmitted = "queue:admitted" // a queue that is to be made has its room
	stepCreateRecorded = "queue:recorded" // QUEUE is in the open frame
	stepCreatePlaced   = "queue:placed"   // others can find it
	stepCreateDone     = "queue:done"     // it has reached the spool's level, nobody knows

	stepDeleteAdmitted = "delete:admitted" // a queue that is to be deleted has the room for that
	stepDeleteRecorded = "delete:recorded" // QUEUE is in the open frame
	stepDeleteRemoved  = "delete:removed"  // nobody finds it
	stepDeleteDone     = "delete:done"     // it has reached the spool's level, nobody knows

	stepRepairMade   = "repair:made"   // there is a directory under a passing name
	stepRepairBegun  = "repair:begun"  // it holds an empty spool
	stepRepairCopied = "repair:copied" // all that could be read is in it
	stepRepairMarked = "repair:marked" // durably, and it is marked as closed
	stepRepairDone   = "repair:done"   // its epoch is above all others
	stepRepairTraded = "repair:traded" // it has the name of the original, which has the passing one
	stepRepairAside  = "repair:aside"  // the original has a name aside, and nobody has its own
	stepRepairPlaced = "repair:placed" // it has its name, and the original one aside
)

// steps returns all names, those of the packages below included.
func steps() []string {
	return slices.Concat(store.Steps(), seglog.Steps(), []string{
		stepCleanWritten, stepCleanEvicted, stepCleanCopied, stepCleanSynced, stepCleanCheckpointed, stepCleanRetold, stepCleanDropped,
		stepCheckpointBegun, stepCheckpointBlocks, stepCheckpointQueue, stepCheckpointListed, stepCheckpointFlushed, stepCheckpointLog,
		stepCheckpointIndex, stepCheckpointRecord, stepCheckpointRecorded, stepCheckpointStands, stepCheckpointSwept, stepCheckpointFinished,
		stepIndexRefused, stepIndexDistrusted, stepReplaySpilled, stepIndexReplayed, stepIndexRemoved, stepIndexMade, stepIndexBelieved,
		stepMoveRead, stepMoveRecorded, stepMoveMade, stepMoveDone,
		stepCreateAdmitted, stepCreateRecorded, stepCreatePlaced, stepCreateDone,
		stepDeleteAdmitted, stepDeleteRecorded, stepDeleteRemoved, stepDeleteDone,
		stepRepairMade, stepRepairBegun, stepRepairCopied, stepRepairMarked, stepRepairDone, stepRepairTraded, stepRepairAside, stepRepairPlaced,
	})
}

// A stepper is called at each kill point. It is nil but in tests.
type stepper func(name string)

func (f stepper) at(name string) {
	if f != nil {
		f(name)
	}
}
