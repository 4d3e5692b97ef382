package store_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memlog"
)

// A slowLog has its first write wait, and looks whether its caller has its slice back by then.
type slowLog struct {
	*memlog.Log
	begun, rest chan struct{}
	returned    *atomic.Bool
	tb          testing.TB
}

func (l *slowLog) Append(p store.Payload) (store.Position, error) {
	close(l.begun)
	<-l.rest
	if l.returned.Load() {
		l.tb.Error("the caller of Wait has its slice back, and it is still to be written")
	}
	return l.Log.Append(p)
}

// TestFailBesideAWrite: a call whose frame is being written when the committer is stopped from outside answers when the write is over.
func TestFailBesideAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var returned atomic.Bool
		l := &slowLog{Log: memlog.New(memlog.Options{}), begun: make(chan struct{}), rest: make(chan struct{}), returned: &returned, tb: t}
		c := store.NewCommitter(l, store.CommitterOptions{Level: store.AtWritten, Reveal: func([]store.Hidden) {}, Dirty: func() {}, Failed: func(error) {}})
		add := func(body []byte) store.Position {
			need := int64(store.RecordSize(1, len(body)))
			if err := c.Admit(need); err != nil {
				t.Fatal(err)
			}
			c.Begin()
			pos := c.Add(1, []byte{1}, store.BodySum(body), body)
			c.End(need)
			return pos
		}
		first := add([]byte("x"))
		second := add(make([]byte, 4096)) // by reference
		go c.Wait(first, store.AtWritten)
		<-l.begun
		c.Fail(errors.New("the index is broken"))
		go func() {
			if err := c.Wait(second, store.AtWritten); err == nil { // it comes to it now
				t.Error("Wait = nil after Fail")
			}
			returned.Store(true)
		}()
		synctest.Wait()
		close(l.rest)
		synctest.Wait()
	})
}
