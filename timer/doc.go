// Package timer owns a hierarchical timing wheel: it keeps identifiers until their instants have come. It knows both as
// integers only; it knows no clock, no lock and no goroutine. Its owner says what time it is.
//
// The scheme is the hierarchical wheel of G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987
// (their scheme 7), with three differences.
//
// An instant is read as a number in base 64. A timer lies on the level of the highest digit in which its instant differs
// from the wheel's present, in the slot of that digit. So nothing wraps around, the earliest timer is always in the first
// occupied slot of the lowest occupied level, and two bit scans find it: time over which nothing is due costs nothing.
//
// The lowest level has slots of one nanosecond, so instants are exact without looking through a slot again and again.
// That costs no more moves than a coarse tick would: a slot whose end has come is handed out as it is, and only the slot
// that holds the present is sorted onto finer levels.
//
// Emptying a slot is interruptible: the slot becomes the draining list, and each call of [Wheel.Advance] takes a bounded
// number of timers from it. However many timers share a slot, no call takes long.
package timer
