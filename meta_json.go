package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Format: Meta and Attributes are JSON objects with CMQ's names. The tables below are encoder and decoder in one: a
// *time.Duration is a number of seconds, exact to the nanosecond; a *time.Time is Unix seconds rounded down, 0 for none;
// integers are integers; **DeadLetter is an object, or absent.

type jsonField struct {
	name string
	at   any // pointer to the field
}

func (m *Meta) jsonFields() []jsonField {
	return []jsonField{
		{"visibilityTimeout", &m.VisibilityTimeout},
		{"pollingWaitSeconds", &m.PollingWait},
		{"maxMsgSize", &m.MaxMessageSize},
		{"msgRetentionSeconds", &m.Retention},
		{"rewindSeconds", &m.Rewind},
		{"maxMsgHeapNum", &m.MaxMessages},
		{"delaySeconds", &m.Delay},
		{"deadLetterPolicy", &m.DeadLetter},
	}
}

func (a *Attributes) jsonFields() []jsonField {
	return append(a.Meta.jsonFields(), []jsonField{
		{"activeMsgNum", &a.Active},
		{"inactiveMsgNum", &a.Inactive},
		{"delayMsgNum", &a.Delayed},
		{"rewindMsgNum", &a.Rewindable},
		{"minMsgTime", &a.Oldest},
		{"nextDueTime", &a.NextDue},
		{"sentMsgNum", &a.Sent},
		{"receivedMsgNum", &a.Received},
		{"deletedMsgNum", &a.Deleted},
		{"createTime", &a.CreatedAt},
		{"lastModifyTime", &a.ModifiedAt},
	}...)
}

// CMQ's policies: which of the two limits of a deadLetterPolicy is meant.
const (
	policyByReceives = 0 // and by age, if maxTimeToLive is set too
	policyByAge      = 1
)

// jsonFields has policy beside the fields: it is told by them, so a decoder only checks it.
func (d *DeadLetter) jsonFields(policy *int) []jsonField {
	return []jsonField{
		{"deadLetterQueue", &d.Queue},
		{"policy", policy},
		{"maxReceiveCount", &d.MaxReceives},
		{"maxTimeToLive", &d.MaxAge},
	}
}

// MarshalJSON writes CMQ's names; see [Meta].
func (m Meta) MarshalJSON() ([]byte, error) { return appendObject(nil, m.jsonFields()), nil }

// UnmarshalJSON reads what MarshalJSON writes. Unknown members are ignored, absent ones leave their field alone. A
// wrong one is an [*ArgumentError] that names it, and m is unchanged.
func (m *Meta) UnmarshalJSON(text []byte) error {
	read := *m
	if err := readObject("Meta", text, read.jsonFields()); err != nil {
		return err
	}
	*m = read
	return nil
}

// MarshalJSON writes one object with the members of Meta and the counters.
func (a Attributes) MarshalJSON() ([]byte, error) { return appendObject(nil, a.jsonFields()), nil }

// UnmarshalJSON reads what MarshalJSON writes, as that of [Meta] does.
func (a *Attributes) UnmarshalJSON(text []byte) error {
	read := *a
	if err := readObject("Attributes", text, read.jsonFields()); err != nil {
		return err
	}
	*a = read
	return nil
}

func appendObject(b []byte, fields []jsonField) []byte {
	b = append(b, '{')
	for _, f := range fields {
		if d, ok := f.at.(**DeadLetter); ok && *d == nil {
			continue
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, f.name...)
		b = append(b, '"', ':')
		b = appendValue(b, f.at)
	}
	return append(b, '}')
}

func appendValue(b []byte, at any) []byte {
	switch at := at.(type) {
	case *time.Duration:
		return appendSeconds(b, *at)
	case *time.Time:
		if at.IsZero() {
			return append(b, '0')
		}
		return strconv.AppendInt(b, at.Unix(), 10)
	case *int:
		return strconv.AppendInt(b, int64(*at), 10)
	case *int64:
		return strconv.AppendInt(b, *at, 10)
	case *string:
		text, _ := json.Marshal(*at) // a string always marshals
		return append(b, text...)
	case **DeadLetter:
		d, policy := **at, policyByReceives
		if d.MaxReceives == 0 && d.MaxAge != 0 {
			policy = policyByAge
		}
		return appendObject(b, d.jsonFields(&policy))
	}
	panic(fmt.Sprintf("spool: no JSON for %T", at))
}

func readObject(path string, text []byte, fields []jsonField) error {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return badArgument(path, string(text), "a JSON object")
	}
	for _, f := range fields {
		if member, ok := members[f.name]; ok {
			if err := readValue(path+"."+f.name, member, f.at); err != nil {
				return err
			}
		}
	}
	return nil
}

func readValue(path string, text []byte, at any) error {
	if bytes.Equal(text, []byte("null")) {
		if d, ok := at.(**DeadLetter); ok {
			*d = nil
		}
		return nil
	}
	ok, want := false, "an integer"
	switch at := at.(type) {
	case *time.Duration:
		var n int64
		n, ok = parseDecimal(string(text), 9)
		*at, want = time.Duration(n), "a number of seconds within ±9223372036"
	case *time.Time:
		var n int64
		n, ok = parseInteger(string(text))
		if *at = (time.Time{}); n != 0 {
			*at = time.Unix(n, 0)
		}
	case *int:
		var n int64
		n, ok = parseInteger(string(text))
		*at, ok = int(n), ok && int64(int(n)) == n
	case *int64:
		*at, ok = parseInteger(string(text))
	case *string:
		ok, want = json.Unmarshal(text, at) == nil, "a string"
	case **DeadLetter:
		read, policy := new(DeadLetter), policyByReceives
		if err := readObject(path, text, read.jsonFields(&policy)); err != nil {
			return err
		}
		if policy != policyByReceives && policy != policyByAge {
			return badArgument(path+".policy", policy, "0 or 1")
		}
		*at, ok = read, true
	default:
		panic(fmt.Sprintf("spool: no JSON for %T", at))
	}
	if !ok {
		return badArgument(path, string(text), want)
	}
	return nil
}

// appendSeconds writes a duration as a decimal number of seconds without loss; float64 would lose nanoseconds.
func appendSeconds(b []byte, d time.Duration) []byte {
	ns := uint64(d)
	if d < 0 {
		b, ns = append(b, '-'), -ns
	}
	b = strconv.AppendUint(b, ns/1e9, 10)
	if rest := ns % 1e9; rest != 0 {
		b = fmt.Appendf(b, ".%09d", rest)
		b = bytes.TrimRight(b, "0")
	}
	return b
}

// parseInteger returns the JSON number of text if it is an integer of 64 bits, however it is written.
func parseInteger(text string) (int64, bool) {
	if num, ok := splitNumber(text); !ok || num.exponent < 0 {
		return 0, false
	}
	return parseDecimal(text, 0)
}

// parseDecimal returns the JSON number of text times 10^scale by decimal arithmetic, rounded to the nearest integer, and
// away from zero when it lies between two. It is false for what is no number or beyond 64 bits. Its work is bounded by
// the length of text, whatever the exponent.
func parseDecimal(text string, scale int64) (int64, bool) {
	num, ok := splitNumber(text)
	if !ok || num.digits == "" {
		return 0, ok
	}
	digits, up := num.digits, false
	switch point := int64(len(digits)) + num.exponent + scale; { // digits before the point
	case point > 19:
		return 0, false // 2^63 has 19 digits
	case point < 0:
		return 0, true
	case point < int64(len(digits)):
		digits, up = digits[:point], digits[point] >= '5'
	default:
		digits += strings.Repeat("0", int(point)-len(digits))
	}
	n, _ := strconv.ParseUint("0"+digits, 10, 64) // at most 19 digits: no overflow
	if up {
		n++
	}
	if num.negative {
		return int64(-n), n <= 1<<63
	}
	return int64(n), n <= math.MaxInt64
}

// A number is ± digits × 10^exponent, without zeros at either end of the digits. Zero has no digits and exponent 0.
type number struct {
	negative bool
	digits   string
	exponent int64
}

// splitNumber is false for a JSON value that is no number.
func splitNumber(text string) (num number, ok bool) {
	if text == "" || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return number{}, false
	}
	text, num.negative = strings.CutPrefix(text, "-")
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		exponent, err := strconv.ParseInt(text[i+1:], 10, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return number{}, false
		}
		// Bound: beyond 2^40 either way all exponents are alike, since no text has as many digits.
		num.exponent = min(max(exponent, -1<<40), 1<<40)
		text = text[:i]
	}
	whole, fraction, _ := strings.Cut(text, ".")
	all := strings.TrimLeft(whole+fraction, "0")
	num.digits = strings.TrimRight(all, "0")
	if num.digits == "" {
		return number{}, true
	}
	num.exponent += int64(len(all) - len(num.digits) - len(fraction))
	return num, true
}
