package spool_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spoolmq/spool"
)

var defaultMeta = spool.Meta{VisibilityTimeout: 30 * sec, MaxMessageSize: 65536, Retention: 96 * time.Hour, MaxMessages: 100_000_000}

func TestCase01ZeroMeta(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		time.Sleep(sec)
		q := s.create("q", spool.Meta{})
		created := time.Now()
		time.Sleep(sec)
		want := spool.Attributes{Meta: defaultMeta}
		got := q.attributes()
		wantAt(t, "CreatedAt", got.CreatedAt, created)
		wantAt(t, "ModifiedAt", got.ModifiedAt, created)
		got.CreatedAt, got.ModifiedAt = time.Time{}, time.Time{}
		if got != want {
			t.Errorf("Attributes = %+v, want %+v", got, want)
		}
		if q.Meta() != defaultMeta {
			t.Errorf("Meta = %+v, want %+v", q.Meta(), defaultMeta)
		}
		if q.Name() != "q" {
			t.Errorf("Name = %q, want q", q.Name())
		}
	})
}

func TestCase02NamesIgnoreCase(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		s.create("Abc", spool.Meta{MaxMessages: 7})
		for _, name := range []string{"abc", "ABC", "Abc"} {
			_, err := s.CreateQueue(bg, name, spool.Meta{})
			wantErr(t, "CreateQueue "+name, err, spool.ErrQueueExists)
			if spool.CodeOf(err) != 4460 {
				t.Errorf("CodeOf = %d, want 4460", spool.CodeOf(err))
			}
		}
		_, err := s.OpenQueue(bg, "abc", spool.Meta{})
		wantErr(t, "OpenQueue", err, spool.ErrQueueExists)
		_, err = s.Spool.Queue("abc")
		wantErr(t, "Queue", err, spool.ErrQueueNotFound)
		if spool.CodeOf(err) != 4440 {
			t.Errorf("CodeOf = %d, want 4440", spool.CodeOf(err))
		}
		wantErr(t, "DeleteQueue", s.DeleteQueue(bg, "abc"), spool.ErrQueueNotFound)
		q, err := s.OpenQueue(bg, "Abc", spool.Meta{MaxMessages: 9})
		if err != nil || q.Meta().MaxMessages != 7 {
			t.Errorf("OpenQueue = %v, want the queue with its own meta", err)
		}
		if err := s.DeleteQueue(bg, "Abc"); err != nil {
			t.Errorf("DeleteQueue = %v", err)
		}
		s.create("abc", spool.Meta{})
	})
}

func TestCase03Names(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		for _, name := range []string{"", "1a", "-a", "_a", "a" + strings.Repeat("b", 64), "a b", "ä", "aä", "日本", "a.b", "a/b", "../a", "a\x00"} {
			_, err := s.CreateQueue(bg, name, spool.Meta{})
			wantArgument(t, "CreateQueue "+name, err)
			_, err = s.OpenQueue(bg, name, spool.Meta{})
			wantArgument(t, "OpenQueue "+name, err)
			_, err = s.Spool.Queue(name)
			wantErr(t, "Queue "+name, err, spool.ErrQueueNotFound)
		}
		names := []string{"A-1_b", "a", "a" + strings.Repeat("b", 63), "con", "z-"}
		for i := range names {
			s.create(names[len(names)-1-i], spool.Meta{})
		}
		var got []string
		for _, q := range s.Queues() {
			got = append(got, q.Name())
		}
		if !reflect.DeepEqual(got, names) {
			t.Errorf("Queues = %v, want %v", got, names)
		}
	})
}

func TestCase04RewindWithinRetention(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		_, err := s.CreateQueue(bg, "q", spool.Meta{Retention: time.Hour, Rewind: time.Hour + 1})
		wantArgument(t, "CreateQueue", err)
		_, err = s.OpenQueue(bg, "q", spool.Meta{Retention: time.Hour, Rewind: time.Hour + 1})
		wantArgument(t, "OpenQueue", err)
		_, err = s.Spool.Queue("q")
		wantErr(t, "Queue", err, spool.ErrQueueNotFound)
		q := s.create("q", spool.Meta{Retention: time.Hour, Rewind: time.Hour})
		before := q.attributes()
		wantArgument(t, "SetMeta", q.SetMeta(bg, func(m *spool.Meta) { m.Retention = time.Minute; m.PollingWait = sec }))
		if got := q.attributes(); !reflect.DeepEqual(got, before) {
			t.Errorf("Attributes after a refused SetMeta = %+v, want %+v", got, before)
		}
		q.set(func(m *spool.Meta) { m.Retention, m.Rewind = time.Minute, time.Minute })
		if m := q.Meta(); m.Retention != time.Minute || m.Rewind != time.Minute {
			t.Errorf("Meta = %+v, want Retention and Rewind of 1m", m)
		}
	})
}

func TestCase05SetMetaOfOneField(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		s.create("dead", spool.Meta{})
		want := spool.Meta{VisibilityTimeout: 1, PollingWait: 2, MaxMessageSize: 3, Retention: sec + 4, Rewind: 5, MaxMessages: 6, Delay: 7}
		q := s.create("q", want)
		for _, change := range []func(*spool.Meta){
			func(m *spool.Meta) { m.VisibilityTimeout = 11 },
			func(m *spool.Meta) { m.PollingWait = 0 },
			func(m *spool.Meta) { m.MaxMessageSize = 13 },
			func(m *spool.Meta) { m.Retention = sec + 14 },
			func(m *spool.Meta) { m.Rewind = 0 },
			func(m *spool.Meta) { m.MaxMessages = 16 },
			func(m *spool.Meta) { m.Delay = 0 },
			func(m *spool.Meta) { m.DeadLetter = &spool.DeadLetter{Queue: "dead", MaxReceives: 2} },
			func(m *spool.Meta) { m.DeadLetter = nil },
		} {
			change(&want)
			q.set(change)
			if got := q.Meta(); !reflect.DeepEqual(got, want) {
				t.Errorf("Meta = %+v, want %+v", got, want)
			}
		}
		q.set(func(m *spool.Meta) { *m = spool.Meta{} })
		if got := q.Meta(); got != defaultMeta {
			t.Errorf("Meta after zero fields = %+v, want the defaults", got)
		}
	})
}

func TestCase06VisibilityChangedUnderALease(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{VisibilityTimeout: 10 * sec})
		start := time.Now()
		q.send("m")
		d := q.receive("m")
		q.set(func(m *spool.Meta) { m.VisibilityTimeout = 3 * sec })
		wantAt(t, "VisibleAt", d.VisibleAt, start.Add(10*sec))
		time.Sleep(10*sec - 1)
		q.none()
		time.Sleep(time.Nanosecond)
		wantAt(t, "VisibleAt", q.receive("m").VisibleAt, start.Add(13*sec))
		time.Sleep(3 * sec)
		q.receive("m")
	})
}

func TestCase07RetentionLowered(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Rewind: time.Hour})
		q.sendDelete("rewindable")
		q.send("inactive")
		inactive := q.receive("inactive")
		q.send("delayed", time.Hour)
		q.send("active")
		time.Sleep(5 * sec)
		q.send("young")
		young := time.Now()
		q.counts(2, 1, 1, 1)
		q.set(func(m *spool.Meta) { m.Retention, m.Rewind = 5*sec, 5*sec })
		q.counts(1, 0, 0, 0)
		a := q.attributes()
		wantAt(t, "Oldest", a.Oldest, young)
		if !a.NextDue.IsZero() {
			t.Errorf("NextDue = %v, want none", a.NextDue)
		}
		q.refused(inactive.Receipt, spool.Gone)
		q.set(func(m *spool.Meta) { m.Retention, m.Rewind = time.Hour, time.Hour })
		q.counts(1, 0, 0, 0)
		q.rewind(young.Add(-time.Minute), 0)
		q.receive("young")
		q.none()
	})
}

func TestRuleAttributesJSON(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		s.create("dead", spool.Meta{})
		q := s.create("q", spool.Meta{VisibilityTimeout: 1500 * msec, Rewind: time.Hour,
			DeadLetter: &spool.DeadLetter{Queue: "dead", MaxAge: 90 * sec}})
		start := time.Now().Unix()
		time.Sleep(1300 * msec)
		q.sendDelete("r")
		q.send("d", time.Minute)
		q.send("i")
		q.receive("i")
		q.send("a")
		text, err := json.Marshal(q.attributes())
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		at := float64(start)
		want := map[string]any{"visibilityTimeout": 1.5, "pollingWaitSeconds": 0.0, "maxMsgSize": 65536.0,
			"msgRetentionSeconds": 345600.0, "rewindSeconds": 3600.0, "maxMsgHeapNum": 1e8, "delaySeconds": 0.0,
			"deadLetterPolicy": map[string]any{"deadLetterQueue": "dead", "policy": 1.0, "maxReceiveCount": 0.0, "maxTimeToLive": 90.0},
			"activeMsgNum":     1.0, "inactiveMsgNum": 1.0, "delayMsgNum": 1.0, "rewindMsgNum": 1.0, "minMsgTime": at + 1,
			"nextDueTime": at + 2, "sentMsgNum": 4.0, "receivedMsgNum": 2.0, "deletedMsgNum": 1.0,
			"createTime": at, "lastModifyTime": at}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("Marshal = %s, want %v", text, want)
		}
		var back spool.Attributes
		if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back.Meta, q.Meta()) || back.Delayed != 1 {
			t.Errorf("Unmarshal = %+v, %v", back, err)
		}
		meta, err := json.Marshal(q.Meta())
		if err != nil || strings.Contains(string(meta), "activeMsgNum") {
			t.Errorf("Marshal(Meta) = %s, %v", meta, err)
		}
		q.set(func(m *spool.Meta) {
			err = json.Unmarshal([]byte(`{"pollingWaitSeconds":2.5,"deadLetterPolicy":null}`), m)
		})
		if m := q.Meta(); err != nil || m.PollingWait != 2500*msec || m.DeadLetter != nil || m.Rewind != time.Hour {
			t.Errorf("Meta after a JSON patch = %+v, %v", m, err)
		}
	})
}

// Counters: exact, disjoint, and right after a deadline though nothing ran.
func TestCase39CountersAtDeadlines(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{VisibilityTimeout: 10 * sec, Retention: time.Minute, Rewind: 30 * sec})
		start := time.Now()
		q.sendDelete("r")
		q.send("d", 20*sec)
		q.send("i")
		q.receive("i")
		q.send("a")
		due := func(want time.Duration) {
			t.Helper()
			wantAt(t, "NextDue", q.attributes().NextDue, start.Add(want))
		}
		q.counts(1, 1, 1, 1)
		due(10 * sec)
		time.Sleep(10*sec - 1)
		q.counts(1, 1, 1, 1)
		time.Sleep(time.Nanosecond)
		q.counts(2, 0, 1, 1)
		due(20 * sec)
		time.Sleep(10 * sec)
		q.counts(3, 0, 0, 1)
		time.Sleep(10*sec - 1)
		q.counts(3, 0, 0, 1)
		time.Sleep(time.Nanosecond)
		q.counts(3, 0, 0, 0)
		time.Sleep(30*sec - 1)
		q.counts(3, 0, 0, 0)
		wantAt(t, "Oldest", q.attributes().Oldest, start)
		time.Sleep(time.Nanosecond)
		q.counts(0, 0, 0, 0)
		a := q.attributes()
		if !a.Oldest.IsZero() || !a.NextDue.IsZero() || a.Sent != 4 || a.Received != 2 || a.Deleted != 1 {
			t.Errorf("Attributes = %+v, want Sent 4, Received 2, Deleted 1, no Oldest and no NextDue", a)
		}
	})
}

func TestRuleMetaRangesAtCreation(t *testing.T) {
	s := inMemory(t)
	for name, m := range map[string]spool.Meta{
		"visibility": {VisibilityTimeout: 365*24*time.Hour + 1}, "negative": {VisibilityTimeout: -1},
		"wait": {PollingWait: 24*time.Hour + 1}, "size": {MaxMessageSize: 16<<20 + 1}, "retention": {Retention: sec - 1},
		"long": {Retention: 3650*24*time.Hour + 1}, "messages": {MaxMessages: 1e9 + 1}, "delay": {Delay: 96 * time.Hour},
	} {
		_, err := s.CreateQueue(bg, "q", m)
		wantArgument(t, "CreateQueue with "+name, err)
	}
	q := s.create("q", spool.Meta{})
	for _, change := range []func(*spool.Meta){
		func(m *spool.Meta) { m.MaxMessages = -1 },
		func(m *spool.Meta) { m.Delay = m.Retention },
	} {
		wantArgument(t, "SetMeta", q.SetMeta(bg, change))
	}
	if _, err := s.Spool.Queue("other"); !errors.Is(err, spool.ErrQueueNotFound) {
		t.Errorf("Queue = %v, want ErrQueueNotFound", err)
	}
}

// What the contract counts for messages may be more than they take in the log: then nothing is dead, and not less than that.
func TestRuleStatsOfSmallMessages(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		batch := make([]spool.Message, spool.MaxBatch)
		for i := range batch {
			batch[i].Body = []byte("m")
		}
		if _, err := s.create("q", spool.Meta{}).SendBatch(bg, batch); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); st.LiveBytes != spool.MaxBatch*(64+1) || st.LogBytes >= st.LiveBytes || st.DeadBytes != 0 {
			t.Errorf("Stats = %d bytes of log, %d live, %d dead, want more live than there are, and none dead", st.LogBytes, st.LiveBytes, st.DeadBytes)
		}
	})
}

// Rule: Stats adds up what all queues hold, and tells what falls due first.
func TestRuleStats(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		if st := s.Stats(); st.Queues != 0 || st.Messages != 0 || st.Waiting != 0 || !st.NextDue.IsZero() || st.Segments != 1 || st.LogBytes != 0 {
			t.Errorf("Stats of an empty spool = %+v", st)
		}
		names := []string{"a", "b", "c"}
		var queues []*caseQueue
		for i, name := range names {
			q := s.create(name, spool.Meta{Rewind: time.Hour})
			queues = append(queues, q)
			q.sendDelete("1234567890")
			q.send("12345", time.Duration(2+(i+1)%3)*sec) // b's is the latest, c's the first
			for range i + 1 {
				q.send("123")
			}
		}
		live := int64(3*(64+10) + 3*(64+5) + 6*(64+3))
		st := s.Stats()
		if st.Queues != 3 || st.Messages != 9 || st.Rewindable != 3 || st.LiveBytes != live {
			t.Errorf("Stats = %d queues, %d messages, %d rewindable, %d live bytes, want 3, 9, 3, %d",
				st.Queues, st.Messages, st.Rewindable, st.LiveBytes, live)
		}
		for range 20 { // the queues come in another order each time
			wantAt(t, "NextDue", s.Stats().NextDue, time.Now().Add(2*sec))
		}
		if st.LogBytes < live || st.DiskBytes < st.LogBytes || st.DeadBytes != st.LogBytes-live || st.MemoryBytes <= 0 {
			t.Errorf("Stats = %d bytes of log, %d on disk, %d dead, %d in memory; %d are live", st.LogBytes, st.DiskBytes, st.DeadBytes, st.MemoryBytes, live)
		}
		// One call at a time: each is a record in a frame of its own, as are the queues.
		if want := int64(3 + 3*3 + 3 + 6); st.Records != want || st.Commits != want || st.RecordsCommit != 1 {
			t.Errorf("Stats = %d records in %d frames, %g each, want %d", st.Records, st.Commits, st.RecordsCommit, want)
		}
		if ids, err := queues[0].SendBatch(bg, []spool.Message{{Body: []byte("x")}, {Body: []byte("y")}, {Body: []byte("z")}}); err != nil || len(ids) != 3 {
			t.Fatal(err)
		}
		if after := s.Stats(); after.Records != st.Records+3 || after.Commits != st.Commits+1 || after.RecordsCommit <= 1 || after.Messages != 12 {
			t.Errorf("Stats after a batch of 3 = %+v", after)
		}
		for _, q := range queues {
			if err := q.Purge(bg); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(bg)
		for i, q := range queues {
			for range i + 1 {
				q.waiting(ctx, 1, spool.Wait(time.Hour))
			}
		}
		if st := s.Stats(); st.Waiting != 6 || st.Messages != 0 || st.Rewindable != 0 || st.LiveBytes != 0 || !st.NextDue.IsZero() {
			t.Errorf("Stats with 6 receivers at 3 empty queues = %+v", st)
		}
		cancel()
		synctest.Wait()
		if st := s.Stats(); st.Waiting != 0 {
			t.Errorf("Stats = %d receivers wait, want none", st.Waiting)
		}
	})
}
