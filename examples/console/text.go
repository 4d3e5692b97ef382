package console

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const day = 24 * time.Hour

// formatDuration is what parseDuration reads: "4d", "1d12h", "90s" as "1m30s".
func formatDuration(d time.Duration) string {
	days, rest := d/day, d%day
	text := rest.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	switch {
	case days == 0:
		return text
	case rest == 0:
		text = ""
	}
	return strconv.FormatInt(int64(days), 10) + "d" + text
}

var errDuration = errors.New("is not a duration like 30s, 1h30m or 4d")

// parseDuration reads Go's durations with days in front of them, and whole seconds without a unit. Nothing is 0.
func parseDuration(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, nil
	}
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second, nil
	}
	total := time.Duration(0)
	if days, rest, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, errDuration
		}
		total, text = time.Duration(n)*day, rest
		if text == "" {
			return total, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 && total > 0 || d > 1<<62-total {
		return 0, errDuration
	}
	return total + d, nil
}

func utc(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return roughly(time.Since(t))
}

func ahead(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return roughly(time.Until(t))
}

// roughly shows the two largest units of a duration.
func roughly(d time.Duration) string {
	d = max(0, d)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/day, d%day/time.Hour)
}

func rateText(r float64, known bool) string {
	switch {
	case !known:
		return "–"
	case r == 0:
		return "0"
	case r < 10:
		return strconv.FormatFloat(r, 'f', 1, 64)
	}
	return countText(int64(r))
}

// countText groups digits by three.
func countText(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

const headBytes = 240

// A head is the beginning of a body, safe to show.
type head struct {
	Text   string
	Binary bool // Text is a hexadecimal dump
	More   int  // bytes that are not shown
}

// headOf shows text as text, with a mark for each character that cannot be seen, and anything else as a dump.
func headOf(body []byte) head {
	cut := min(len(body), headBytes)
	for back := 0; back < utf8.UTFMax && cut > 0 && cut < len(body) && !utf8.RuneStart(body[cut]); back++ {
		cut--
	}
	if shown := body[:cut]; utf8.Valid(shown) {
		text := strings.Map(func(r rune) rune {
			if r == '\n' || r == '\t' || unicode.IsPrint(r) {
				return r
			}
			return '�'
		}, string(shown))
		return head{Text: text, More: len(body) - cut}
	}
	cut = min(len(body), headBytes/2)
	return head{Text: strings.TrimSuffix(hex.Dump(body[:cut]), "\n"), Binary: true, More: len(body) - cut}
}
