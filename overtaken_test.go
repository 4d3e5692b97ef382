package spool_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/memkv"
	"github.com/spoolmq/spool/store/memlog"
)

// What a call has seen, and what somebody else was to do for it, while it let others have a lock or waited.

// TestDelayBesideTheCleaner: a delay that begins while the cleaner wants a block ends for who waits, though nobody calls then.
func TestDelayBesideTheCleaner(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var q *caseQueue
		sent := false
		step := func(name string) {
			if name == "written" && q != nil && !sent && q.Wanted() > 0 {
				sent = true
				q.send("x", 10*sec)
			}
		}
		log := memlog.New(memlog.Options{SegmentSize: 512 << 10})
		s, err := spool.OpenOn(log, dir, func() (store.Index, error) { return memkv.New(), nil }, spool.WithPaging(0, 1<<40), spool.WithSteps(step))
		if err != nil {
			t.Fatal(err)
		}
		c := newCaseSpool(t, s)
		q = c.create("q", spool.Meta{})
		ms := make([]spool.Message, 1024)
		for i := range ms {
			ms[i] = spool.Message{Body: make([]byte, 100), Delay: 90 * time.Hour}
		}
		for range 8 {
			if _, err := q.SendBatch(bg, ms); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * sec)
		if n := q.BlocksAway(); n != 8 {
			t.Fatalf("%d blocks away", n)
		}
		from := time.Now()
		got := make(chan error, 1)
		go func() { _, err := q.Receive(bg, spool.Wait(time.Hour)); got <- err }()
		synctest.Wait()
		if err := s.Clean(); err != nil {
			t.Fatal(err)
		}
		if !sent {
			t.Fatal("the cleaner has wanted no block")
		}
		err = <-got
		if waited := time.Since(from); err != nil || waited > 11*sec {
			t.Errorf("Receive = %v after %v, want a message after 10 s", err, waited)
		}
	})
}

// TestPeekOfWhatGoes: a Peek whose message goes before it is read returns the next one, which was there all the time.
func TestPeekOfWhatGoes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &readLog{Log: memlog.New(memlog.Options{SegmentSize: 4096})}
		s, err := spool.OpenOn(log, dir, nil, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		c := newCaseSpool(t, s)
		q := c.create("q", spool.Meta{MaxMessageSize: 1 << 20})
		q.send("first")
		q.send(string(make([]byte, 8192)))
		q.send("third")
		time.Sleep(2 * sec)
		log.read = func() error {
			log.read = nil
			ds, err := q.ReceiveBatch(bg, 1)
			if err != nil || ds[0].Delete(bg) != nil {
				t.Error(err)
			}
			start := log.Start()
			if err := s.Clean(); err != nil {
				t.Error(err)
			}
			if log.Start() == start {
				t.Error("nothing was dropped")
			}
			return nil
		}
		ds, err := q.Peek(bg, 1)
		if err != nil || len(ds) != 1 {
			t.Errorf("Peek = %d messages, %v, want the second one", len(ds), err)
		}
		ds, err = q.Peek(bg, 2)
		if err != nil || len(ds) != 2 {
			t.Errorf("Peek = %d messages, %v, want both", len(ds), err)
		}
	})
}

// TestRottenInABatchOfAQueueThatEnds: what is intact of a batch is handed over, whatever becomes of passing the other over.
func TestRottenInABatchOfAQueueThatEnds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &readLog{Log: memlog.New(memlog.Options{})}
		ends, err := spool.OpenOn(log, dir, nil, spool.WithoutPaging)
		if err != nil {
			t.Fatal(err)
		}
		c := newCaseSpool(t, ends)
		q := c.create("q", spool.Meta{})
		for _, b := range []string{"a", "b", "c"} {
			q.send(b)
		}
		n := 0
		log.read = func() error {
			switch n++; n {
			case 1: // all of them at once
				return errRotten
			case 2: // the first message
				if err := ends.DeleteQueue(bg, "q"); err != nil {
					t.Error(err)
				}
				return errRotten
			}
			return nil
		}
		ds, err := q.ReceiveBatch(bg, 3)
		if err != nil || len(ds) != 2 {
			t.Errorf("ReceiveBatch = %d messages, %v, want the two intact ones", len(ds), err)
		}
	})
}

// A growLog has a large Grow wait.
type growLog struct {
	*memlog.Log
	grow chan struct{}
}

func (l *growLog) Grow(n int64) error {
	if n > 1<<20 {
		<-l.grow
	}
	return l.Log.Grow(n)
}

// TestSendBesideANewFeeder: a send that began before the queue became a dead-letter queue and stores its message later comes
// behind the dead letters that were due by then.
func TestSendBesideANewFeeder(t *testing.T) {
	for _, early := range []bool{true, false} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			log := &growLog{memlog.New(memlog.Options{}), make(chan struct{})}
			s, err := spool.OpenOn(log, dir, func() (store.Index, error) { return memkv.New(), nil }, spool.WithoutPaging)
			if err != nil {
				t.Fatal(err)
			}
			c := newCaseSpool(t, s)
			dead := c.create("dead", spool.Meta{MaxMessageSize: 4 << 20})
			done := make(chan error, 1)
			begin := func() {
				go func() {
					_, err := dead.Send(bg, spool.Message{Body: make([]byte, 3<<20)})
					done <- err
				}()
				synctest.Wait()
			}
			if early {
				begin()
			}
			q := c.create("q", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "dead", MaxAge: sec}})
			q.send("letter")
			q.Oversleep()
			if !early {
				begin()
			}
			time.Sleep(2 * sec)
			close(log.grow)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			ds, err := dead.ReceiveBatch(bg, 2)
			if err != nil || len(ds) != 2 {
				t.Fatal(len(ds), err)
			}
			if ds[0].DeadLetter == nil {
				t.Errorf("early %t: the message sent at %v comes before the dead letter, whose EnqueuedAt is %v", early, ds[0].EnqueuedAt, ds[1].EnqueuedAt)
			}
		})
	}
}
