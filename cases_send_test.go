package spool_test

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

func TestCase08Bodies(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{MaxMessageSize: 300})
		for _, body := range [][]byte{nil, {}} {
			_, err := q.Send(bg, spool.Message{Body: body})
			wantArgument(t, "Send of nothing", err)
		}
		secret := strings.Repeat("€", 100)
		_, err := q.Send(bg, spool.Message{Body: []byte(secret + "!")})
		wantErr(t, "Send of 301 bytes", err, spool.ErrMessageTooLarge)
		if spool.CodeOf(err) != 4400 || strings.Contains(err.Error(), "€") {
			t.Errorf("Send = %v, code %d, want 4400 without the body", err, spool.CodeOf(err))
		}
		_, err = q.Send(bg, spool.Message{Body: []byte(secret), Attributes: map[string]string{"": "€"}})
		if wantArgument(t, "Send", err); strings.Contains(err.Error(), "€") {
			t.Errorf("Send = %v, want no attribute's value in it", err)
		}
		q.counts(0, 0, 0, 0)
		if sent := q.attributes().Sent; sent != 0 {
			t.Errorf("Sent = %d, want 0", sent)
		}
		q.send(secret)
		q.receive(secret)
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		q.send(string(all))
		q.receive(string(all))
		q.send("\x00")
		q.set(func(m *spool.Meta) { m.MaxMessageSize = 1 })
		q.send("y")
		q.receive("\x00")
		q.receive("y")
		_, err = q.Send(bg, spool.Message{Body: []byte("zz")})
		wantErr(t, "Send", err, spool.ErrMessageTooLarge)
	})
}

func TestCase08LargestBodies(t *testing.T) {
	s := inMemory(t)
	q := s.create("small", spool.Meta{})
	_, err := q.Send(bg, spool.Message{Body: make([]byte, 65537)})
	wantErr(t, "Send of 64 KiB + 1", err, spool.ErrMessageTooLarge)
	q.send(strings.Repeat("x", 65536))
	q = s.create("large", spool.Meta{MaxMessageSize: 16 << 20})
	body := bytes.Repeat([]byte("0123456789abcde\n"), 1<<20)
	// MaxBatchBytes does not bound Send.
	if _, err := q.Send(bg, spool.Message{Body: body, Attributes: map[string]string{"k": strings.Repeat("v", 65535)}}); err != nil {
		t.Fatalf("Send of 16 MiB = %v", err)
	}
	_, err = q.Send(bg, spool.Message{Body: append(body, 'x')})
	wantErr(t, "Send of 16 MiB + 1", err, spool.ErrMessageTooLarge)
	d := q.receive(string(body))
	if len(d.Attributes["k"]) != 65535 {
		t.Errorf("Attributes = %d bytes, want 65535", len(d.Attributes["k"]))
	}
}

func TestCase09SlicesAreCopied(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		body, attributes := []byte("body"), map[string]string{"k": "v"}
		if _, err := q.Send(bg, spool.Message{Body: body, Attributes: attributes}); err != nil {
			t.Fatal(err)
		}
		batch := []spool.Message{{Body: []byte("other")}}
		if _, err := q.SendBatch(bg, batch); err != nil {
			t.Fatal(err)
		}
		body[0], attributes["k"], batch[0].Body[0] = 'X', "X", 'X'
		for range 3 {
			ds, err := q.ReceiveBatch(bg, 2)
			if err != nil || len(ds) != 2 || string(ds[0].Body) != "body" || ds[0].Attributes["k"] != "v" || string(ds[1].Body) != "other" {
				t.Fatalf("ReceiveBatch = %q, %v, want body and other as they were sent", bodiesOf(ds), err)
			}
			peeked, _ := q.Peek(bg, 2)
			for _, d := range append(ds, peeked...) {
				d.Body = append(d.Body[:0], "overwritten"[:len(d.Body)]...)
				if d.Attributes != nil {
					d.Attributes["k"] = "overwritten"
				}
			}
			for _, d := range ds {
				if err := d.Release(bg, 0); err != nil {
					t.Fatal(err)
				}
			}
			peeked, err = q.Peek(bg, 2)
			if err != nil || len(peeked) != 2 || string(peeked[0].Body) != "body" {
				t.Fatalf("Peek = %q, %v, want body and other", bodiesOf(peeked), err)
			}
			peeked[0].Body[0], peeked[1].Body[0] = 'X', 'X'
		}
	})
}

func TestCase10MaxMessages(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{MaxMessages: 3, Rewind: time.Hour})
		full := func() {
			t.Helper()
			_, err := q.Send(bg, spool.Message{Body: []byte("x")})
			wantErr(t, "Send to a full queue", err, spool.ErrQueueFull)
			_, err = q.SendBatch(bg, []spool.Message{{Body: []byte("x")}})
			if wantErr(t, "SendBatch to a full queue", err, spool.ErrQueueFull); spool.CodeOf(err) != 4410 {
				t.Errorf("CodeOf = %d, want 4410", spool.CodeOf(err))
			}
		}
		q.send("a")
		d := q.receive("a")
		q.send("b", time.Hour)
		q.send("c")
		q.counts(1, 1, 1, 0)
		full()
		q.delete(d)
		q.counts(1, 0, 1, 1)
		q.send("d")
		full()
		q.rewind(d.EnqueuedAt, 1) // never refused
		q.counts(3, 0, 1, 0)
		full()
		q.delete(q.receive("a"))
		full()
		q.delete(q.receive("c"))
		q.send("e")
		full()
		if err := q.Purge(bg); err != nil {
			t.Fatal(err)
		}
		q.send("f")
	})
}

func TestCase11BatchAllOrNothing(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{MaxMessages: 3, MaxMessageSize: 10, Retention: time.Hour})
		good := spool.Message{Body: []byte("good")}
		many := map[string]string{}
		for i := range 65 {
			many[fmt.Sprint(i)] = ""
		}
		for name, c := range map[string]struct {
			batch []spool.Message
			want  error
		}{
			"none":                  {nil, spool.ErrInvalidArgument},
			"none of it":            {[]spool.Message{}, spool.ErrInvalidArgument},
			"too many":              {make([]spool.Message, spool.MaxBatch+1), spool.ErrInvalidArgument},
			"an empty body":         {[]spool.Message{good, {}, good}, spool.ErrInvalidArgument},
			"a large body":          {[]spool.Message{good, good, {Body: make([]byte, 11)}}, spool.ErrMessageTooLarge},
			"a long delay":          {[]spool.Message{good, {Body: []byte("x"), Delay: time.Hour}}, spool.ErrInvalidArgument},
			"a negative delay":      {[]spool.Message{good, {Body: []byte("x"), Delay: -2}}, spool.ErrInvalidArgument},
			"an empty key":          {[]spool.Message{good, {Body: []byte("x"), Attributes: map[string]string{"": ""}}}, spool.ErrInvalidArgument},
			"too many attributes":   {[]spool.Message{good, {Body: []byte("x"), Attributes: many}}, spool.ErrInvalidArgument},
			"room for fewer":        {[]spool.Message{good, good, good, good}, spool.ErrQueueFull},
			"too long an attribute": {[]spool.Message{{Body: []byte("x"), Attributes: map[string]string{"k": strings.Repeat("v", 65536)}}}, spool.ErrInvalidArgument},
		} {
			ids, err := q.SendBatch(bg, c.batch)
			wantErr(t, "SendBatch of "+name, err, c.want)
			if len(ids) != 0 {
				t.Errorf("SendBatch of %s = %q, want no ids", name, ids)
			}
		}
		q.counts(0, 0, 0, 0)
		q.send("x")
		_, err := q.SendBatch(bg, []spool.Message{good, good, good})
		wantErr(t, "SendBatch of 3 into room for 2", err, spool.ErrQueueFull)
		q.counts(1, 0, 0, 0)
		if ids, err := q.SendBatch(bg, []spool.Message{good, good}); err != nil || len(ids) != 2 || ids[0] == ids[1] {
			t.Errorf("SendBatch = %q, %v, want two ids", ids, err)
		}
		q.counts(3, 0, 0, 0)
	})
}

func TestCase11BatchBytes(t *testing.T) {
	s := inMemory(t)
	q := s.create("q", spool.Meta{MaxMessageSize: 16 << 20})
	half := spool.Message{Body: make([]byte, 8<<20)}
	for _, over := range []spool.Message{
		{Body: make([]byte, 8<<20+1)},
		{Body: half.Body, Attributes: map[string]string{"k": ""}},
		{Body: half.Body[1:], Attributes: map[string]string{"k": "v"}},
	} {
		_, err := q.SendBatch(bg, []spool.Message{half, over})
		if wantErr(t, "SendBatch above MaxBatchBytes", err, spool.ErrBatchTooLarge); spool.CodeOf(err) != 4470 {
			t.Errorf("CodeOf = %d, want 4470", spool.CodeOf(err))
		}
	}
	q.counts(0, 0, 0, 0)
	if _, err := q.SendBatch(bg, []spool.Message{half, half}); err != nil {
		t.Errorf("SendBatch of MaxBatchBytes = %v", err)
	}
	q.counts(2, 0, 0, 0)
}

// Ids are in input order, and the batch is received in it; two sends of one body are two messages.
func TestRuleBatchOrder(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{})
		batch := make([]spool.Message, spool.MaxBatch)
		for i := range batch {
			batch[i].Body = []byte("same")
		}
		ids, err := q.SendBatch(bg, batch)
		if err != nil || len(ids) != spool.MaxBatch {
			t.Fatalf("SendBatch = %d ids, %v", len(ids), err)
		}
		last := q.send("same")
		ds, err := q.ReceiveBatch(bg, spool.MaxBatch)
		if err != nil || len(ds) != spool.MaxBatch {
			t.Fatalf("ReceiveBatch = %d, %v", len(ds), err)
		}
		seen, receipts := map[string]bool{last: true}, map[string]bool{}
		for i, d := range ds {
			if d.ID != ids[i] || seen[d.ID] || receipts[d.Receipt] {
				t.Fatalf("ReceiveBatch[%d] = %s, want %s, with an id and a receipt of its own", i, d.ID, ids[i])
			}
			if i > 0 && d.EnqueuedAt.Before(ds[i-1].EnqueuedAt) {
				t.Fatalf("EnqueuedAt[%d] = %v, before that of the one sent earlier", i, d.EnqueuedAt)
			}
			seen[d.ID], receipts[d.Receipt] = true, true
		}
		if d := q.receive("same"); d.ID != last {
			t.Errorf("Receive = %s, want %s", d.ID, last)
		}
	})
}

func TestRuleAttributesOfAMessage(t *testing.T) {
	onEach(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{MaxMessageSize: 1})
		most := map[string]string{"\xff\x00": "\xfe\n"}
		for len(most) < 63 {
			most[fmt.Sprintf("%08d", len(most))] = ""
		}
		size := 0
		for k, v := range most {
			size += len(k) + len(v)
		}
		most["rest"] = strings.Repeat("v", 65536-size-4)
		for _, attributes := range []map[string]string{nil, {}, {"k": ""}, most} {
			if _, err := q.Send(bg, spool.Message{Body: []byte("b"), Attributes: attributes}); err != nil {
				t.Fatalf("Send = %v", err)
			}
			d := q.receive("b")
			if len(d.Attributes) != len(attributes) || len(attributes) > 0 && !reflect.DeepEqual(d.Attributes, attributes) {
				t.Errorf("Attributes = %.200q, want %.200q", d.Attributes, attributes)
			}
			q.delete(d)
		}
		more := maps.Clone(most)
		delete(more, "00000005")
		more["rest"] += "123456789"
		for name, attributes := range map[string]map[string]string{
			"64 KiB + 1": more,
			"65 of them": func() map[string]string {
				m := maps.Clone(most)
				m["rest"], m["65"] = "", ""
				return m
			}(),
			"an empty key": {"": "v"},
		} {
			_, err := q.Send(bg, spool.Message{Body: []byte("b"), Attributes: attributes})
			wantArgument(t, "Send with "+name, err)
		}
		q.counts(0, 0, 0, 0)
	})
}

func TestRuleDelayLimits(t *testing.T) {
	inBubble(t, func(t *testing.T, s *caseSpool) {
		q := s.create("q", spool.Meta{Delay: 10 * sec, Retention: time.Minute})
		for _, delay := range []time.Duration{time.Minute, time.Minute + 1, -2, -time.Hour} {
			_, err := q.Send(bg, spool.Message{Body: []byte("x"), Delay: delay})
			wantArgument(t, fmt.Sprint("Send with a delay of ", delay), err)
		}
		q.counts(0, 0, 0, 0)
		q.send("now", spool.NoDelay)
		q.send("queue's", 0)
		q.send("own", 1)
		q.send("long", time.Minute-1)
		q.counts(1, 0, 3, 0)
		time.Sleep(time.Nanosecond)
		q.counts(2, 0, 2, 0)
		time.Sleep(10*sec - 2)
		q.counts(2, 0, 2, 0)
		time.Sleep(time.Nanosecond)
		q.counts(3, 0, 1, 0)
		time.Sleep(50*sec - 1)
		q.counts(4, 0, 0, 0) // "long" comes due one nanosecond before the end of its life
		time.Sleep(time.Nanosecond)
		q.counts(0, 0, 0, 0)
	})
}
