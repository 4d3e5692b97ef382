package timer

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
)

// A model is what a wheel must be: a plain list of what is pending.
type model struct {
	now     int64
	pending []entry // in the order of handles handed out
	ids     uint64
}

type entry struct {
	h  Handle
	id uint64
	at int64
}

func (m *model) earliest() (at int64, ok bool) {
	for _, e := range m.pending {
		if !ok || e.at < at {
			at, ok = e.at, true
		}
	}
	return at, ok
}

func (m *model) due(now int64) int {
	n := 0
	for _, e := range m.pending {
		if e.at <= now {
			n++
		}
	}
	return n
}

// A driver performs the same operations on a wheel and on a model. Operations are read from bytes, so random tests and fuzz
// tests share it.
type driver struct {
	testing.TB
	data []byte
	w    Wheel
	m    model
	step int
}

// byte returns the next choice, 0 at the end.
func (d *driver) byte() byte {
	if len(d.data) == 0 {
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return b
}

// span returns a duration of any magnitude from a nanosecond to centuries.
func (d *driver) span() int64 {
	var b [8]byte
	for i := range b[:3] {
		b[7-i] = d.byte()
	}
	return int64(binary.BigEndian.Uint64(b[:]) >> (1 + d.byte()%63))
}

// instant returns one near the present, on a boundary of slots, of another timer, or at an end of time.
func (d *driver) instant() int64 {
	switch kind := d.byte() % 16; kind {
	case 0:
		return d.m.now - d.span()
	case 1:
		return d.m.now
	case 2:
		return (d.m.now+d.span())&^(1<<(d.byte()%60)-1) - int64(d.byte()%2)
	case 3:
		return math.MaxInt64 - int64(d.byte()%3)
	case 4:
		return math.MinInt64 + int64(d.byte()%3)
	case 5, 6, 7:
		if n := len(d.m.pending); n > 0 {
			return d.m.pending[int(d.byte())%n].at + int64(d.byte()%3) - 1
		}
	}
	return d.m.now + d.span()
}

func (d *driver) run() {
	for len(d.data) > 0 {
		d.step++
		switch op := d.byte() % 16; op {
		default:
			d.schedule(d.instant())
		case 8, 9, 10:
			d.cancel()
		case 11, 12:
			d.advance(d.m.now+d.span()>>20, int(d.byte()))
		case 13:
			d.advance(d.instant(), int(d.byte()%8))
		case 14:
			if at, ok := d.w.Wake(); ok {
				d.advance(at, 1+int(d.byte()))
			}
		case 15:
			d.rare()
		}
		d.verify()
	}
}

func (d *driver) schedule(at int64) Handle {
	if len(d.m.pending) >= 300 {
		return 0
	}
	d.m.ids++
	h := d.w.Schedule(at, d.m.ids)
	if i := slices.IndexFunc(d.m.pending, func(e entry) bool { return e.h == h }); i >= 0 || h == 0 {
		d.Fatalf("step %d: Schedule(%d) = %d, which is none or taken", d.step, at, h)
	}
	d.m.pending = append(d.m.pending, entry{h, d.m.ids, at})
	return h
}

func (d *driver) cancel() {
	if len(d.m.pending) == 0 {
		if d.w.Cancel(Handle(d.byte()), uint64(d.byte())) {
			d.Fatalf("step %d: Cancel of nothing = true", d.step)
		}
		return
	}
	i := int(d.byte()) % len(d.m.pending)
	e := d.m.pending[i]
	if at := d.w.At(e.h); at != e.at {
		d.Fatalf("step %d: At(%d) = %d, want %d", d.step, e.h, at, e.at)
	}
	if d.w.Cancel(e.h, e.id+1) {
		d.Fatalf("step %d: Cancel(%d) with another id = true", d.step, e.h)
	}
	if !d.w.Cancel(e.h, e.id) || d.w.Cancel(e.h, e.id) {
		d.Fatalf("step %d: Cancel(%d) twice, want true and false", d.step, e.h)
	}
	d.m.pending = slices.Delete(d.m.pending, i, i+1)
}

// advance calls Advance once, which may leave work over, and schedules from within.
func (d *driver) advance(now int64, limit int) {
	d.m.now = max(d.m.now, now)
	n, again := 0, int(d.byte()%4)
	more := d.w.Advance(now, limit, func(id uint64, at int64) {
		n++
		i := slices.IndexFunc(d.m.pending, func(e entry) bool { return e.id == id })
		if i < 0 || d.m.pending[i].at != at || at > d.m.now {
			d.Fatalf("step %d: Advance(%d) handed out %d at %d", d.step, now, id, at)
		}
		if d.w.Cancel(d.m.pending[i].h, id) {
			d.Fatalf("step %d: %d is pending after it was handed out", d.step, id)
		}
		d.m.pending = slices.Delete(d.m.pending, i, i+1)
		if again > 0 {
			again--
			d.schedule(d.instant())
		}
		d.check()
	})
	if n > max(limit, 1) {
		d.Fatalf("step %d: Advance(%d, %d) handed out %d", d.step, now, limit, n)
	}
	if left := d.m.due(now); !more && left > 0 {
		d.Fatalf("step %d: Advance(%d) = false, %d due are left", d.step, now, left)
	}
}

func (d *driver) rare() {
	switch d.byte() % 4 {
	case 0: // everything up to a moment
		now := d.instant()
		if now > math.MaxInt64/2 {
			return
		}
		for range 10 * 300 {
			before := len(d.m.pending)
			d.advance(now, 300)
			if d.m.due(now) == 0 && len(d.m.pending) <= before {
				break
			}
		}
	case 1:
		for len(d.m.pending) > 0 {
			d.cancel()
		}
	case 2:
		d.w.Trim()
	case 3: // a storm: many timers of one instant
		at := d.instant()
		for range d.byte() {
			d.schedule(at)
		}
	}
}

func (d *driver) check() {
	if err := d.w.check(); err != nil {
		d.Fatalf("step %d: %v", d.step, err)
	}
}

func (d *driver) verify() {
	d.check()
	if got := d.w.Len(); got != len(d.m.pending) {
		d.Fatalf("step %d: Len() = %d, want %d", d.step, got, len(d.m.pending))
	}
	want, some := d.m.earliest()
	wake, ok := d.w.Wake()
	if ok != some || ok && wake > want {
		d.Fatalf("step %d: Wake() = %d, %v, want at most %d, %v", d.step, wake, ok, want, some)
	}
	if d.step%3 != 0 {
		return // so that the earliest instant is often not known
	}
	if next, ok := d.w.Next(); ok != some || ok && next != want {
		d.Fatalf("step %d: Next() = %d, %v, want %d, %v", d.step, next, ok, want, some)
	}
	d.check()
}

func TestModel(t *testing.T) {
	r := random(t)
	rounds := 150
	if testing.Short() {
		rounds = 30
	}
	for range rounds {
		data := make([]byte, 1+r.IntN(4000))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		d := driver{TB: t, data: data}
		if r.IntN(2) == 0 {
			d.m.now = 1_800_000_000_000_000_000
			d.advance(d.m.now, 0)
		} else {
			d.m.now = math.MinInt64 / 2 // the wheel's own present is the beginning of time
		}
		d.run()
	}
}

func FuzzWheel(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x08\x01\x02\x03\x04\x0b\x09\x09\x09\x09\x09\x0e\x0e\x0e\x0e\x0e\x0e"))
	f.Add([]byte{15, 3, 9, 1, 2, 3, 40, 255, 14, 3, 14, 3, 8, 1, 13, 1, 15, 1, 15, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		d := driver{TB: t, data: data[:min(len(data), 4000)]}
		d.run()
	})
}
