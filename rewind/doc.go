// Package rewind owns what makes rewinding a queue one step, however many messages it brings back: an [Index] that finds
// the block at which an instant begins and counts what is deleted from there on, and a [History] of rewinds and drops that
// blocks are brought up to date with later, each when it is next touched.
//
// It knows blocks and instants only: no message, no clock, no lock. Nothing in it is safe for concurrent use: the owner's
// lock guards it. Instants are ns since the epoch.
package rewind
