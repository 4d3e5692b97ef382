// Package seglog is the log of a spool on local files: the implementation of [store.Log] that survives power loss.
//
// It owns a directory and everything in it but the index. It does not know what a record means.
//
//	FORMAT          version and spool id as text. Written last, by rename: a directory without it is no spool yet
//	KEY             spool id and the secret from which receipts are sealed
//	MARK            two slots written alternately: epoch, log start, durable position, time, clean flag
//	LOCK            held by the process that has the spool open, with its pid as text
//	STAGE           small frames on their way to a segment, mapped into memory; zeros behind a clean close
//	log/*.seg       segments; a file keeps its name from its first use to its end, whatever it holds
//	log/*.tmp       a segment that is not fully allocated yet
//	index, index.ok the caller's
//
// A segment is a header page and the frames from its base position on. Byte p of the stream stands at file offset
// 4096 + base mod 4096 + (p - base), so offsets and positions are equal modulo a page, positions run on without a gap
// from one segment to the next, and pages are written whole, straight from the ring. A segment is fully allocated before
// its first frame: running out of space shows when space is taken (Grow), never when a frame is written.
//
// What is on stable storage after a power loss is any subset of the sectors written since the last sync. Assumed of the
// disk: a sector of 512 bytes is written whole or not at all, and what a sync has covered stays.
//
// # Locks
//
//	space.mu      held while files are made or given up     Grow, the goroutine, Close
//	syncing.mu    held over every fdatasync of frames       Sync, a second roll, Drop, Close
//	marking.mu    held over every write of MARK             Mark, Drop, Close
//	stage.mu      held while frames are staged or written   Append, Sync, reads of what is staged
//	segs.mu       the list of segments; memory only         all
//	ring.mu       the window of the newest bytes            Append, ReadRecord
//
// They are taken in this order; segs.mu and ring.mu are never held together or over I/O.
package seglog
