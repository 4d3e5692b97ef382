package console

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "0s": 0, " 90 ": 90 * time.Second, "1m30s": 90 * time.Second, "4d": 4 * day, "1d12h": 36 * time.Hour, "1.5s": 1500 * time.Millisecond,
		"3650d": 3650 * day, "-1s": -time.Second,
	} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("parseDuration(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "1", "d", "1d1", "-1d", "1d-1h", "99999d", "1h1d", "1.5d", "9999999h", "12345678901234567890"} {
		if got, err := parseDuration(text); err == nil && text != "1" {
			t.Errorf("parseDuration(%q) = %v, want an error", text, got)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 10_000 {
		d := time.Duration(rng.Int64N(int64(3650 * day)))
		for _, unit := range []time.Duration{1, time.Millisecond, time.Second, time.Minute, time.Hour, day} {
			d := d.Truncate(unit)
			text := formatDuration(d)
			if got, err := parseDuration(text); err != nil || got != d || strings.HasSuffix(text, "m0s") || strings.HasSuffix(text, "h0m") {
				t.Fatalf("%d ns is %q, which is %v, %v", d, text, got, err)
			}
		}
	}
}

func TestTexts(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1 000", 1234567: "1 234 567", -1234: "-1 234", -123: "-123"} {
		if got := strings.ReplaceAll(countText(n), "\u202f", " "); got != want {
			t.Errorf("countText(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-time.Hour: "0 s", 59 * time.Second: "59 s", 61 * time.Second: "1 min 1 s", 25 * time.Hour: "1 d 1 h", 90 * time.Minute: "1 h 30 min"} {
		if got := roughly(d); got != want {
			t.Errorf("roughly(%v) = %q, want %q", d, got, want)
		}
	}
	if ago(time.Time{}) != "–" || ahead(time.Time{}) != "–" || utc(time.Time{}) != "–" {
		t.Error("no time is shown as one")
	}
}

// A head is short, and text that can be shown, whatever the body is.
func FuzzHead(f *testing.F) {
	f.Add([]byte("text"))
	f.Add([]byte("\x00\xff"))
	f.Add([]byte(strings.Repeat("€", 200)))
	f.Add(append([]byte(strings.Repeat("a", headBytes-1)), "\xf0\x9f\x98\x80"...))
	f.Fuzz(func(t *testing.T, body []byte) {
		h := headOf(body)
		if !utf8.ValidString(h.Text) || len(h.Text) > 3*headBytes+1000 || h.More < 0 || h.More > len(body) {
			t.Fatalf("headOf(%q) = %+v", body, h)
		}
		if len(body) <= headBytes && utf8.Valid(body) && (h.Binary || h.More != 0) {
			t.Fatalf("headOf(%q) = %+v, want all of it as text", body, h)
		}
	})
}
