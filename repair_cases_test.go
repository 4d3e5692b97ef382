package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool/store"
)

// repairOne makes a spool of one queue with n messages, of 100 bytes each, and closes it.
func repairOne(t *testing.T, n int) (dir string, ids []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "spool")
	s := shelfOpen(t, dir)
	q, err := s.CreateQueue(context.Background(), "orders", Meta{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		id, err := q.Send(context.Background(), Message{Body: fmt.Appendf(nil, "message %02d %s", i, strings.Repeat("x", 89))})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, ids
}

// repairEdit changes a file.
func repairEdit(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, f(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func repairSegment(t *testing.T, dir, text string) string {
	t.Helper()
	for name, b := range repairFiles(t, filepath.Join(dir, "log")) {
		if bytes.Contains(b, []byte(text)) {
			return filepath.Join(dir, "log", name)
		}
	}
	t.Fatalf("no segment holds %q", text)
	return ""
}

// One flipped bit in a body takes one message, and that one is named; all others are what they were.
func TestRepairBody(t *testing.T) {
	dir, ids := repairOne(t, 30)
	path := repairSegment(t, dir, "message 07")
	repairEdit(t, path, func(b []byte) []byte { b[bytes.Index(b, []byte("message 07"))+20] ^= 4; return b })
	found, err := Verify(context.Background(), dir)
	if err != nil || found.DamageCount != 1 || found.Damages[0].File != path {
		t.Fatalf("Verify = %+v, %v", found, err)
	}
	if bad := (*CorruptError)(nil); !errors.Is(found.Err(), ErrCorrupt) || !errors.As(found.Err(), &bad) || bad.Offset != found.Damages[0].Offset {
		t.Errorf("Err = %v", found.Err())
	}
	to := filepath.Join(t.TempDir(), "repaired")
	r, err := Repair(context.Background(), dir, to)
	if err != nil || r.LostCount != 1 || r.Lost[0].ID != ids[7] || r.Lost[0].Queue != "orders" {
		t.Fatalf("Repair = %+v, %v; want %s lost", r, err, ids[7])
	}
	s := shelfOpen(t, to)
	got, err := shelfQueue(t, s, "orders").ReceiveBatch(context.Background(), 100)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, d := range got {
		have = append(have, d.ID)
	}
	if want := slices.Delete(slices.Clone(ids), 7, 8); !slices.Equal(have, want) {
		t.Errorf("messages %v, want %v", have, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A deleted message whose body has rotted is lost to nobody.
func TestRepairDeletedBody(t *testing.T) {
	dir, _ := repairOne(t, 3)
	s := shelfOpen(t, dir)
	shelfDelete(t, s, "orders", 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	repairEdit(t, repairSegment(t, dir, "message 00"), func(b []byte) []byte { b[bytes.Index(b, []byte("message 00"))] ^= 4; return b })
	r, err := Repair(context.Background(), dir, filepath.Join(t.TempDir(), "repaired"))
	if err != nil || r.DamageCount != 1 || r.LostCount != 0 || r.Queues[0].Active != 2 {
		t.Errorf("Repair = %+v, %v", r, err)
	}
}

// Receipts of before a repair are good after it, and none is given out twice; without KEY they are not.
func TestRepairReceipts(t *testing.T) {
	for _, keyed := range []bool{true, false} {
		dir, _ := repairOne(t, 3)
		s := shelfOpen(t, dir)
		d, err := shelfQueue(t, s, "orders").Receive(context.Background(), Visibility(time.Hour))
		if err = errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
		if !keyed {
			repairEdit(t, filepath.Join(dir, "KEY"), func(b []byte) []byte { b[40] ^= 1; return b })
		}
		repairEdit(t, filepath.Join(dir, "MARK"), func(b []byte) []byte { return b[:10] })
		if err := os.Remove(filepath.Join(dir, "FORMAT")); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "repaired")
		if _, err := Repair(context.Background(), dir, to); err != nil {
			t.Fatal(err)
		}
		epoch := s.epoch
		s = shelfOpen(t, to)
		if s.epoch <= epoch {
			t.Errorf("epoch %d after %d", s.epoch, epoch)
		}
		err = shelfQueue(t, s, "orders").Delete(context.Background(), d.Receipt)
		if bad := (*ReceiptError)(nil); keyed && err != nil || !keyed && (!errors.As(err, &bad) || bad.Reason != Malformed) {
			t.Errorf("with key %t: Delete = %v", keyed, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Into its own directory: the repaired spool is there, the damaged one beside it as it was, and nothing else.
func TestRepairInPlace(t *testing.T) {
	dir, _ := repairOne(t, 5)
	for n := range 2 {
		text := fmt.Sprintf("message %02d", n)
		repairEdit(t, repairSegment(t, dir, text), func(b []byte) []byte { b[bytes.Index(b, []byte(text))] ^= 4; return b })
		was := repairSum(t, dir)
		r, err := Repair(context.Background(), dir, dir+"/.")
		if err != nil || r.Kept != fmt.Sprintf("%s.damaged-%d", dir, n+1) || repairSum(t, r.Kept) != was {
			t.Fatalf("Repair = %+v, %v", r, err)
		}
		if found, err := Verify(context.Background(), dir); err != nil || !found.OK() {
			t.Errorf("Verify = %+v, %v", found, err)
		}
		names, err := os.ReadDir(filepath.Dir(dir))
		if err != nil || len(names) != n+2 {
			t.Errorf("%v, %v", names, err)
		}
	}
}

// Where two names cannot be exchanged the original is renamed first. What is in the way of its new name stays.
func TestRepairWithoutExchange(t *testing.T) {
	dir, _ := repairOne(t, 2)
	tmp := dir + ".repairing-1"
	if err := errors.Join(os.Mkdir(tmp, 0o700), os.Mkdir(dir+".damaged-1", 0o700)); err != nil {
		t.Fatal(err)
	}
	was := repairSum(t, dir)
	p, err := newPlacement(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	p.exchange = func(_, _ string) error { return errors.ErrUnsupported }
	kept, err := p.place(tmp)
	if err != nil || kept != dir+".damaged-2" || repairSum(t, kept) != was || len(repairFiles(t, dir)) != 0 {
		t.Errorf("place = %q, %v", kept, err)
	}
}

// What a crash has torn off the end is no damage, and Verify leaves it where it is.
func TestVerifyTorn(t *testing.T) {
	work, copied := filepath.Join(t.TempDir(), "spool"), filepath.Join(t.TempDir(), "copied")
	s := shelfOpen(t, work)
	q, err := s.CreateQueue(context.Background(), "orders", Meta{})
	for i := range 5 {
		if err == nil {
			_, err = q.Send(context.Background(), Message{Body: fmt.Appendf(nil, "message %02d", i)})
		}
	}
	if err = errors.Join(err, os.CopyFS(copied, os.DirFS(work)), s.Close()); err != nil {
		t.Fatal(err)
	}
	repairEdit(t, filepath.Join(copied, "STAGE"), func(b []byte) []byte { b[bytes.Index(b, []byte("message 04"))] ^= 4; return b })
	was := repairSum(t, copied)
	if r, err := Verify(context.Background(), copied); err != nil || !r.OK() || r.Queues[0].Active != 4 || repairSum(t, copied) != was {
		t.Errorf("Verify = %+v, %v", r, err)
	}
}

// What was staged when the process was killed is whole, whatever has rotted in the message before it.
func TestRepairStagedBehindRot(t *testing.T) {
	ctx, work := context.Background(), filepath.Join(t.TempDir(), "spool")
	s := shelfOpen(t, work)
	q, err := s.CreateQueue(ctx, "orders", Meta{})
	if err != nil {
		t.Fatal(err)
	}
	large := bytes.Repeat([]byte("x"), 8000) // too large to be staged
	_, err = q.Send(ctx, Message{Body: large})
	if err = errors.Join(err, s.Sync(ctx), s.disk.Mark(s.now(), false)); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := q.Send(ctx, Message{Body: fmt.Appendf(nil, "message %02d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for what, at := range map[string]int{"body": 4000, "head": -3, "frame header": -70} {
		dir := filepath.Join(t.TempDir(), "copied")
		if err := os.CopyFS(dir, os.DirFS(work)); err != nil {
			t.Fatal(err)
		}
		segments, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range segments {
			repairEdit(t, path, func(b []byte) []byte {
				if i := bytes.Index(b, large); i >= 0 {
					b[i+at] ^= 1
				}
				return b
			})
		}
		if r, err := Verify(ctx, dir); err != nil || r.OK() {
			t.Errorf("%s: Verify = %+v, %v", what, r, err)
		}
		repairTold(t, dir, func(r Report, s *Spool) {
			got, err := shelfQueue(t, s, "orders").ReceiveBatch(ctx, MaxBatch)
			if err != nil {
				t.Fatal(err)
			}
			small := 0
			for _, d := range got {
				if bytes.HasPrefix(d.Body, []byte("message ")) {
					small++
				}
			}
			if small != 5 {
				t.Errorf("%s: %d messages that were staged, want 5: %+v", what, small, r)
			}
		})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// What a creation has left that was cut short is no damage: nothing was ever in it, and Open makes it anew. Until it has the
// name that makes it one, it is no spool either.
func TestVerifyUnfinished(t *testing.T) {
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "spool")
	images := map[string]string{}
	s, err := Open(dir, withStep(func(name string) {
		if strings.HasPrefix(name, "create:") {
			images[name] = filepath.Join(t.TempDir(), "image")
			if err := os.CopyFS(images[name], os.DirFS(dir)); err != nil {
				t.Error(err)
			}
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, image := range images {
		was := repairSum(t, image)
		r, err := Verify(ctx, image)
		if named := name == "create:sync"; named && (err != nil || !r.OK()) || !named && !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: Verify = %+v, %v", name, r, err)
		}
		if _, err := Repair(ctx, image, filepath.Join(t.TempDir(), "repaired")); name != "create:sync" && !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: Repair = %v", name, err)
		}
		if repairSum(t, image) != was {
			t.Errorf("%s: Verify or Repair has changed the directory", name)
		}
		if s, err = Open(image); err != nil {
			t.Errorf("%s: Open = %v", name, err)
		} else if err := s.Close(); err != nil {
			t.Error(err)
		}
		if r, err := Verify(ctx, image); err != nil || !r.OK() {
			t.Errorf("%s: Verify after Open = %+v, %v", name, r, err)
		}
	}
	if len(images) != 6 {
		t.Errorf("%d steps of a creation, want 6", len(images))
	}
}

// What a crash has torn off the end is no damage to Repair either: what stands in the frame that was being written, and what was
// there before it, is not looked at. A message that was deleted long ago does not come back from there.
func TestRepairTorn(t *testing.T) {
	ctx := context.Background()
	work, copied, repaired := filepath.Join(t.TempDir(), "spool"), filepath.Join(t.TempDir(), "copied"), filepath.Join(t.TempDir(), "repaired")
	s, err := Open(work, WithoutPaging, WithDurability(Written), WithSizes(64<<10, 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	takeKeeper(s) // what it has made durable is not torn
	q, err := s.CreateQueue(ctx, "orders", Meta{})
	for _, body := range []string{"message 00", "message 01", "torn " + strings.Repeat("z", 30<<10)} {
		if err == nil {
			_, err = q.Send(ctx, Message{Body: []byte(body)})
		}
		if err == nil && body == "message 00" {
			var d *Delivery
			if d, err = q.Receive(ctx); err == nil {
				err = d.Delete(ctx)
			}
		}
	}
	if err = errors.Join(err, os.CopyFS(copied, os.DirFS(work)), s.Close()); err != nil {
		t.Fatal(err)
	}
	repairEdit(t, repairSegment(t, copied, "message 00"), func(b []byte) []byte {
		frame := b[:bytes.Index(b, []byte("message 00"))]
		record := b[bytes.LastIndex(frame, binary.LittleEndian.AppendUint32(nil, store.FrameMagic))+store.FrameHeaderSize:]
		_, rest, err := store.NextRecord(record)
		if err != nil {
			t.Fatal(err)
		}
		tail := b[bytes.Index(b, []byte("torn "))+10<<10:]
		tail = tail[:bytes.IndexByte(tail, 0)]
		n := copy(tail, record[:len(record)-len(rest)]) // what a segment that is used again has there
		clear(tail[n:])
		return b
	})
	if r, err := Repair(ctx, copied, repaired); err != nil || !r.OK() || r.LostCount > 0 {
		t.Errorf("Repair = %+v, %v", r, err)
	}
	if got := repairBodies(t, repaired, "orders"); fmt.Sprint(got) != "[message 01]" {
		t.Errorf("the repaired spool has %q, want message 01", got)
	}
}

// What a repair may not be given.
func TestRepairArguments(t *testing.T) {
	dir, _ := repairOne(t, 2)
	ctx, empty := context.Background(), t.TempDir()
	full := filepath.Join(t.TempDir(), "full")
	if err := errors.Join(os.Mkdir(full, 0o700), os.WriteFile(filepath.Join(full, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	was := repairSum(t, dir)
	for _, x := range [][2]string{{"", empty}, {dir, ""}, {empty, dir}, {dir, full}, {dir, filepath.Join(dir, "in")},
		{filepath.Join(dir, "nothing"), empty}, {dir, filepath.Join(dir, "log")}} {
		if _, err := Repair(ctx, x[0], x[1]); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("Repair(%q, %q) = %v", x[0], x[1], err)
		}
	}
	if _, err := Repair(ctx, dir, empty, nil); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("Repair with a nil option = %v", err)
	}
	ended, end := context.WithCancel(ctx)
	calls := 0
	_, err := Repair(ended, dir, empty, WithProgress(func(done, total int64) {
		if calls++; done > total || total <= 0 {
			t.Errorf("%d of %d bytes", done, total)
		}
		end()
	}))
	if !errors.Is(err, context.Canceled) || calls == 0 {
		t.Errorf("Repair with a context that ends = %v after %d calls", err, calls)
	}
	if names, err := os.ReadDir(empty); err != nil || len(names) > 0 {
		t.Errorf("%v, %v left in the target", names, err)
	}
	if beside, err := filepath.Glob(empty + "*"); err != nil || len(beside) != 1 {
		t.Errorf("%v, %v left beside the target", beside, err)
	}
	s := shelfOpen(t, dir)
	if _, err := Verify(ctx, dir); !errors.Is(err, ErrLocked) {
		t.Errorf("Verify of an open spool = %v", err)
	}
	if _, err := Repair(ctx, dir, empty); !errors.Is(err, ErrLocked) {
		t.Errorf("Repair of an open spool = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := Repair(ctx, dir, empty); err != nil || !r.OK() || repairSum(t, dir) == was {
		t.Errorf("Repair into an empty directory = %+v, %v", r, err)
	}
}

// Messages with sequences that no log holds do not take memory for all that would lie between.
func TestRepairFar(t *testing.T) {
	dir, _ := repairOne(t, 2)
	s := shelfOpen(t, dir)
	r := sendRecord{queue: 1, seq: 1 << 62, at: s.now(), epoch: 1}
	var e encoder
	r.encode(&e)
	s.commit.Begin()
	pos := s.commit.Add(recordSend, e, store.BodySum([]byte("far")), nil, []byte("far"))
	s.commit.End(0)
	if err := errors.Join(s.commit.Wait(pos, s.level), s.Close()); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(dir); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Open = %v, want ErrCorrupt", err)
		if err == nil {
			s.Close()
		}
	}
	found, err := Verify(context.Background(), dir)
	if err != nil || found.OK() || found.Queues[0].Active != 2 {
		t.Errorf("Verify = %+v, %v", found, err)
	}
	fixed, err := Repair(context.Background(), dir, filepath.Join(t.TempDir(), "repaired"))
	if err != nil || fixed.OK() || fixed.Queues[0].Active != 2 {
		t.Errorf("Repair = %+v, %v", fixed, err)
	}
}

// A log that has lost what it says of its queues gets that from the index; without one the messages are still there.
func TestRepairNames(t *testing.T) {
	for _, indexed := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "spool")
		s := shelfStart(t, dir)
		shelfGoOn(t, s)
		s.keeper.checkpoint()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if !indexed {
			if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(filepath.Join(dir, "log", "0000000000000001.seg")); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "repaired")
		r, err := Repair(context.Background(), dir, to)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		n := int64(0)
		for _, q := range r.Queues {
			names = append(names, q.Name)
			n += q.Active + q.Inactive + q.Delayed + q.Rewindable
		}
		if named := slices.Contains(names, "orders") && slices.Contains(names, "idle"); n == 0 || indexed != named {
			t.Errorf("index %t: %d messages in %v, %v", indexed, n, names, r.Notes)
		}
		repairLook(t, to)
	}
}

// A file of the log that is missing is a damage of its own, and takes nothing with it but what was in it. A header that is
// lost takes nothing.
func TestRepairSegments(t *testing.T) {
	const n = 400
	dir, _ := repairOne(t, n)
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || len(segments) < 4 {
		t.Fatal(segments, err)
	}
	for i, path := range segments {
		in := 0 // messages in the segment
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if in = bytes.Count(b, []byte("message ")); in == 0 || i == 0 {
			continue // without the first one the queue's name is lost, see TestRepairNames
		}
		last := i+1 == len(segments) || bytes.Count(b, []byte("message 399")) > 0
		for _, how := range []string{"missing", "header"} {
			hurt := filepath.Join(t.TempDir(), "spool")
			if err := os.CopyFS(hurt, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			victim := filepath.Join(hurt, "log", filepath.Base(path))
			want, text := int64(n), "segment header"
			if how == "missing" {
				if want, text = int64(n-in), "are in no file"; last {
					text = "was durable to"
				}
				if err := os.Remove(victim); err != nil {
					t.Fatal(err)
				}
			} else {
				text = "magic"
				repairEdit(t, victim, func(b []byte) []byte { clear(b[:4096]); return b })
			}
			r, err := Repair(context.Background(), hurt, filepath.Join(t.TempDir(), "repaired"))
			if err != nil || len(r.Queues) != 1 || r.Queues[0].Active != want {
				t.Errorf("segment %d, %s: Repair = %+v, %v; want %d messages", i, how, r, err, want)
			}
			if !slices.ContainsFunc(r.Damages, func(d Damage) bool { return strings.Contains(d.Reason, text) }) {
				t.Errorf("segment %d, %s: damages %+v, want one with %q", i, how, r.Damages, text)
			}
		}
	}
}

// Of a log that was closed both slots of MARK tell how it ended, so one that cannot be read is damage.
func TestVerifyMarkOfAClosedLog(t *testing.T) {
	for slot := range 2 {
		dir, _ := repairOne(t, 3)
		repairEdit(t, filepath.Join(dir, "MARK"), func(b []byte) []byte { b[slot*4096+20] ^= 1; return b })
		if r, err := Verify(context.Background(), dir); err != nil || r.DamageCount != 1 {
			t.Errorf("slot %d: Verify = %+v, %v; want one damage", slot, r, err)
		}
	}
}
