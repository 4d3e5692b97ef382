package memkv

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/spoolmq/spool/store"
	"github.com/spoolmq/spool/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIndex(t *testing.T) {
	storetest.TestIndex(t, storetest.IndexHarness{
		Open:   func(testing.TB) (store.Index, func() store.Index) { return New(), nil },
		MaxKey: MaxKey, MaxValue: MaxValue,
	})
}

// TestSim runs the suite on a Sim; reopening it is a crash after a sync.
func TestSim(t *testing.T) {
	storetest.TestIndex(t, storetest.IndexHarness{
		Open: func(t testing.TB) (store.Index, func() store.Index) {
			s := NewSim()
			return s, func() store.Index {
				if err := s.Sync(); err != nil {
					t.Fatalf("Sync: %v", err)
				}
				s = s.Crash(0)
				return s
			}
		},
		MaxKey: MaxKey, MaxValue: MaxValue,
	})
}

func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ix := New()
		go func() {
			time.Sleep(time.Hour)
			if err := ix.Apply([]store.Change{set("a", "1")}); err != nil {
				t.Errorf("Apply: %v", err)
			}
		}()
		time.Sleep(2 * time.Hour)
		if got, err := ix.Get([]byte("a")); err != nil || string(got) != "1" {
			t.Errorf("Get(a) = %q, %v, want 1", got, err)
		}
	})
}

func TestClone(t *testing.T) {
	a := New()
	must(t, a.Apply([]store.Change{set("a", "1"), set("b", "1")}))
	b := a.Clone()
	must(t, a.Apply([]store.Change{set("a", "2")}))
	must(t, b.Apply([]store.Change{{Key: []byte("b")}}))
	if got, want := content(t, a), (map[string]string{"a": "2", "b": "1"}); !maps.Equal(got, want) {
		t.Errorf("original = %v, want %v", got, want)
	}
	if got, want := content(t, b), (map[string]string{"a": "1"}); !maps.Equal(got, want) {
		t.Errorf("clone = %v, want %v", got, want)
	}
}

// TestCrash compares every crash at the end of a random run with a map to which the same changes were made.
func TestCrash(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := NewSim()
		synced := map[string]string{}
		var unsynced []store.Change
		for range rapid.IntRange(0, 20).Draw(rt, "steps") {
			if rapid.IntRange(0, 4).Draw(rt, "sync") == 0 {
				must(rt, s.Sync())
				change(synced, unsynced)
				unsynced = nil
				continue
			}
			batch := drawBatch(rt)
			must(rt, s.Apply(batch))
			unsynced = append(unsynced, batch...)
		}
		if got := s.Unsynced(); got != len(unsynced) {
			rt.Fatalf("Unsynced() = %d, want %d", got, len(unsynced))
		}
		for keep := len(unsynced) + 1; keep >= -1; keep-- { // a later crash must not see an earlier one
			want := maps.Clone(synced)
			change(want, unsynced[:min(max(keep, 0), len(unsynced))])
			if got := content(rt, s.Crash(keep)); !maps.Equal(got, want) {
				rt.Fatalf("Crash(%d) = %v, want %v", keep, got, want)
			}
		}
		want := maps.Clone(synced)
		change(want, unsynced)
		for name, got := range map[string]*Sim{"Clone()": s.Clone(), "Clone().Crash(all)": s.Clone().Crash(len(unsynced))} {
			if got := content(rt, got); !maps.Equal(got, want) {
				rt.Fatalf("%s = %v, want %v", name, got, want)
			}
		}
	})
}

func TestFaults(t *testing.T) {
	boom := errors.New("boom")
	calls := []struct {
		op   Op
		call func(*Sim) error
	}{
		{OpApply, func(s *Sim) error { return s.Apply([]store.Change{set("b", "2")}) }},
		{OpSync, (*Sim).Sync},
		{OpGet, func(s *Sim) error { _, err := s.Get([]byte("a")); return err }},
		{OpScan, func(s *Sim) error { _, err := s.Scan(nil, nil, 1); return err }},
	}
	for _, c := range calls {
		t.Run(fmt.Sprint(c.op), func(t *testing.T) {
			s := NewSim()
			must(t, s.Apply([]store.Change{set("a", "1")}))
			s.Fail(c.op, 2, boom)
			for i, want := range []error{nil, boom, nil} {
				if err := c.call(s); !errors.Is(err, want) {
					t.Errorf("call %d = %v, want %v", i+1, err, want)
				}
			}
			s.Fail(c.op, 1, boom)
			s.Fail(c.op, 1, nil)
			must(t, c.call(s))
		})
	}
}

// TestFailedCallsDoNothing: a batch that failed is not there, and a sync that failed did not make anything durable.
func TestFailedCallsDoNothing(t *testing.T) {
	boom := errors.New("boom")
	s := NewSim()
	s.Fail(OpApply, 1, boom)
	if err := s.Apply([]store.Change{set("a", "1")}); !errors.Is(err, boom) {
		t.Fatalf("Apply = %v, want %v", err, boom)
	}
	if got := content(t, s); len(got) != 0 || s.Unsynced() != 0 {
		t.Errorf("after a failed Apply: %v, %d unsynced, want nothing", got, s.Unsynced())
	}
	must(t, s.Apply([]store.Change{set("a", "1")}))
	s.Fail(OpSync, 1, boom)
	if err := s.Sync(); !errors.Is(err, boom) {
		t.Fatalf("Sync = %v, want %v", err, boom)
	}
	if got := content(t, s.Crash(0)); len(got) != 0 {
		t.Errorf("crash after a failed Sync left %v, want nothing", got)
	}
}

func TestClosed(t *testing.T) {
	for name, ix := range map[string]store.Index{"Index": New(), "Sim": NewSim()} {
		must(t, ix.Close())
		_, get := ix.Get([]byte("a"))
		_, scan := ix.Scan(nil, nil, 1)
		for call, err := range map[string]error{
			"Apply": ix.Apply(nil), "Sync": ix.Sync(), "Get": get, "Scan": scan, "Close": ix.Close(),
		} {
			if !errors.Is(err, store.ErrClosed) {
				t.Errorf("%s: %s after Close = %v, want %v", name, call, err, store.ErrClosed)
			}
		}
	}
}

func set(key, value string) store.Change { return store.Change{Key: []byte(key), Value: []byte(value)} }

func drawBatch(t *rapid.T) []store.Change {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) store.Change {
		c := store.Change{Key: []byte{rapid.ByteRange('a', 'e').Draw(t, "key")}}
		if rapid.Bool().Draw(t, "set") {
			c.Value = []byte{rapid.Byte().Draw(t, "value")}
		}
		return c
	}), 1, 4).Draw(t, "batch")
}

func change(m map[string]string, batch []store.Change) {
	for _, c := range batch {
		if c.Value == nil {
			delete(m, string(c.Key))
		} else {
			m[string(c.Key)] = string(c.Value)
		}
	}
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func content(t fataler, ix store.Index) map[string]string {
	t.Helper()
	entries, err := ix.Scan(nil, nil, 1000)
	must(t, err)
	m := map[string]string{}
	for _, e := range entries {
		m[string(e.Key)] = string(e.Value)
	}
	return m
}
