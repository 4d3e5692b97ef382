package seglog

// Kill points. Options.Step is called with these names, before the action that each names has begun; tests end the
// process or the simulated machine there.
const (
	stepCreateKey     = "create:key"     // the directory and LOCK exist
	stepCreateMark    = "create:mark"    // KEY is durable
	stepCreateSegment = "create:segment" // MARK is durable
	stepCreateFormat  = "create:format"  // the first segment is in use
	stepCreateRename  = "create:rename"  // FORMAT.tmp is durable
	stepCreateSync    = "create:sync"    // FORMAT has its name

	stepAppendStage = "append:stage" // a small frame is about to be staged
	stepAppendWrite = "append:write" // a frame is in the ring
	stepAppendPiece = "append:piece" // part of a frame larger than the ring is written
	stepAppendDone  = "append:done"  // a frame is written, or staged

	stepFlushWrite = "flush:write" // what is staged is about to be written
	stepFlushDone  = "flush:done"  // it is written

	stepSyncOlder   = "sync:older"   // two segments are unsynced
	stepSyncCurrent = "sync:current" // all but the last segment is synced
	stepSyncDone    = "sync:done"    // everything is synced, nobody knows yet

	stepRollSync   = "roll:sync"   // a third segment would become unsynced
	stepRollHeader = "roll:header" // the next segment is about to get its header
	stepRollSwitch = "roll:switch" // its header is written
	stepRollDone   = "roll:done"   // it is the one that is written

	stepPrepareAllocate = "prepare:allocate" // a file exists under a passing name
	stepPrepareSync     = "prepare:sync"     // it has its space and header
	stepPrepareRename   = "prepare:rename"   // they are durable
	stepPrepareDone     = "prepare:done"     // it has its name

	stepMarkWrite = "mark:write" // the older slot is about to be overwritten
	stepMarkDone  = "mark:done"  // the new slot is durable

	stepDropMark    = "drop:mark"    // nothing has changed
	stepDropFiles   = "drop:files"   // the new start is durable
	stepDropRecycle = "drop:recycle" // a file is about to become a spare
	stepDropRemove  = "drop:remove"  // a file is about to be removed

	stepRecoverRemove = "recover:remove" // the end has been found
	stepRecoverStage  = "recover:stage"  // later files are gone
	stepRecoverZero   = "recover:zero"   // what was staged is in its segment
	stepRecoverSync   = "recover:sync"   // what lay behind the end reads as zeros
	stepRecoverMark   = "recover:mark"   // everything up to the end is durable
	stepRecoverDone   = "recover:done"   // the epoch is raised
)

// Steps returns the names with which Options.Step can be called.
func Steps() []string {
	return []string{
		stepCreateKey, stepCreateMark, stepCreateSegment, stepCreateFormat, stepCreateRename, stepCreateSync,
		stepAppendStage, stepAppendWrite, stepAppendPiece, stepAppendDone,
		stepFlushWrite, stepFlushDone,
		stepSyncOlder, stepSyncCurrent, stepSyncDone,
		stepRollSync, stepRollHeader, stepRollSwitch, stepRollDone,
		stepPrepareAllocate, stepPrepareSync, stepPrepareRename, stepPrepareDone,
		stepMarkWrite, stepMarkDone,
		stepDropMark, stepDropFiles, stepDropRecycle, stepDropRemove,
		stepRecoverRemove, stepRecoverStage, stepRecoverZero, stepRecoverSync, stepRecoverMark, stepRecoverDone,
	}
}

func (o *Options) step(name string) {
	if o.Step != nil {
		o.Step(name)
	}
}
