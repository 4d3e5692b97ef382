package spool

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestMetaDefaults(t *testing.T) {
	want := Meta{VisibilityTimeout: 30 * time.Second, MaxMessageSize: 65536, Retention: 96 * time.Hour, MaxMessages: 100_000_000}
	if got := (Meta{}).withDefaults(); got != want {
		t.Errorf("withDefaults() = %+v, want %+v", got, want)
	}
	if err := want.validate(); err != nil {
		t.Errorf("validate of the defaults = %v, want nil", err)
	}
	full := Meta{1, 2, 3, 4 * time.Second, 5, 6, 7, &DeadLetter{"q", 8, 9}}
	if got := full.withDefaults(); got != full {
		t.Errorf("withDefaults() = %+v, want %+v", got, full)
	}
}

func TestMetaRanges(t *testing.T) {
	const ns, s, d = time.Nanosecond, time.Second, 24 * time.Hour
	dead := func(queue string, receives int, age time.Duration) func(*Meta) {
		return func(m *Meta) { m.DeadLetter = &DeadLetter{queue, receives, age} }
	}
	for _, c := range []struct {
		name string
		set  func(*Meta)
		bad  string // field of the error; "" is allowed
	}{
		{"visibility -1", func(m *Meta) { m.VisibilityTimeout = -1 }, "VisibilityTimeout"},
		{"visibility least", func(m *Meta) { m.VisibilityTimeout = ns }, ""},
		{"visibility most", func(m *Meta) { m.VisibilityTimeout = 365 * d }, ""},
		{"visibility most+1", func(m *Meta) { m.VisibilityTimeout = 365*d + ns }, "VisibilityTimeout"},
		{"visibility above retention", func(m *Meta) { m.VisibilityTimeout, m.Retention = 2*s, s }, ""},
		{"wait -1", func(m *Meta) { m.PollingWait = -1 }, "PollingWait"},
		{"wait 1", func(m *Meta) { m.PollingWait = ns }, ""},
		{"wait most", func(m *Meta) { m.PollingWait = d }, ""},
		{"wait most+1", func(m *Meta) { m.PollingWait = d + ns }, "PollingWait"},
		{"size -1", func(m *Meta) { m.MaxMessageSize = -1 }, "MaxMessageSize"},
		{"size least", func(m *Meta) { m.MaxMessageSize = 1 }, ""},
		{"size most", func(m *Meta) { m.MaxMessageSize = 16 << 20 }, ""},
		{"size most+1", func(m *Meta) { m.MaxMessageSize = 16<<20 + 1 }, "MaxMessageSize"},
		{"retention -1", func(m *Meta) { m.Retention = -1 }, "Retention"},
		{"retention least-1", func(m *Meta) { m.Retention = s - ns }, "Retention"},
		{"retention least", func(m *Meta) { m.Retention = s }, ""},
		{"retention most", func(m *Meta) { m.Retention = 3650 * d }, ""},
		{"retention most+1", func(m *Meta) { m.Retention = 3650*d + ns }, "Retention"},
		{"rewind -1", func(m *Meta) { m.Rewind = -1 }, "Rewind"},
		{"rewind least", func(m *Meta) { m.Rewind = ns }, ""},
		{"rewind = default retention", func(m *Meta) { m.Rewind = 4 * d }, ""},
		{"rewind > default retention", func(m *Meta) { m.Rewind = 4*d + ns }, "Rewind"},
		{"rewind = retention", func(m *Meta) { m.Rewind, m.Retention = s, s }, ""},
		{"rewind > retention", func(m *Meta) { m.Rewind, m.Retention = s+ns, s }, "Rewind"},
		{"rewind most", func(m *Meta) { m.Rewind, m.Retention = 3650*d, 3650*d }, ""},
		{"messages -1", func(m *Meta) { m.MaxMessages = -1 }, "MaxMessages"},
		{"messages least", func(m *Meta) { m.MaxMessages = 1 }, ""},
		{"messages most", func(m *Meta) { m.MaxMessages = 1e9 }, ""},
		{"messages most+1", func(m *Meta) { m.MaxMessages = 1e9 + 1 }, "MaxMessages"},
		{"delay -1", func(m *Meta) { m.Delay = -1 }, "Delay"},
		{"delay least", func(m *Meta) { m.Delay = ns }, ""},
		{"delay < retention", func(m *Meta) { m.Delay, m.Retention = s-ns, s }, ""},
		{"delay = retention", func(m *Meta) { m.Delay, m.Retention = s, s }, "Delay"},
		{"dead by count", dead("q", 1, 0), ""},
		{"dead by age", dead("q", 0, ns), ""},
		{"dead by both", dead("q", 1000, 4*d-ns), ""},
		{"dead by neither", dead("q", 0, 0), "DeadLetter"},
		{"dead count -1", dead("q", -1, 1), "DeadLetter.MaxReceives"},
		{"dead count most+1", dead("q", 1001, 0), "DeadLetter.MaxReceives"},
		{"dead age -1", dead("q", 1, -1), "DeadLetter.MaxAge"},
		{"dead age = retention", dead("q", 1, 4*d), "DeadLetter.MaxAge"},
		{"dead name", dead("", 1, 0), "DeadLetter.Queue"},
		{"dead name", dead("a b", 1, 0), "DeadLetter.Queue"},
	} {
		m := Meta{}
		c.set(&m)
		err := m.withDefaults().validate()
		if c.bad == "" {
			if err != nil {
				t.Errorf("%s: validate() = %v, want nil", c.name, err)
			}
			continue
		}
		var arg *ArgumentError
		if !errors.As(err, &arg) || arg.Name != "Meta."+c.bad || !errors.Is(err, ErrInvalidArgument) || arg.Limit == "" {
			t.Errorf("%s: validate() = %v, want an ArgumentError for Meta.%s", c.name, err, c.bad)
		}
	}
}

func TestQueueNames(t *testing.T) {
	for _, name := range []string{"a", "Z", "A-1_b", "a" + strings.Repeat("9", 63), "a-", "a_"} {
		if err := checkQueueName(name); err != nil {
			t.Errorf("checkQueueName(%q) = %v, want nil", name, err)
		}
	}
	for _, name := range []string{"", "1a", "-a", "_a", "a b", "a.b", "a/b", "é", "aé", "a\x00", "a\n", " a", "@a", "[a", "`a",
		"{a", "a@", "a[", "a`", "a{", "a:", "a" + strings.Repeat("9", 64), strings.Repeat("a", 1<<20)} {
		err := checkQueueName(name)
		if !errors.Is(err, ErrInvalidArgument) || len(err.Error()) > 400 {
			t.Errorf("checkQueueName(%.80q) = %.500v, want ErrInvalidArgument in a short text", name, err)
		}
	}
}

func TestMetaClone(t *testing.T) {
	m := Meta{DeadLetter: &DeadLetter{Queue: "q"}}
	c := m.clone()
	c.DeadLetter.Queue = "other"
	if m.DeadLetter.Queue != "q" {
		t.Errorf("clone shares its DeadLetter")
	}
	if (Meta{}).clone().DeadLetter != nil {
		t.Errorf("clone makes a DeadLetter")
	}
}

func TestMetaJSON(t *testing.T) {
	for _, c := range []struct {
		meta Meta
		want string
	}{
		{Meta{}, `{"visibilityTimeout":0,"pollingWaitSeconds":0,"maxMsgSize":0,"msgRetentionSeconds":0,"rewindSeconds":0,` +
			`"maxMsgHeapNum":0,"delaySeconds":0}`},
		{Meta{}.withDefaults(), `{"visibilityTimeout":30,"pollingWaitSeconds":0,"maxMsgSize":65536,` +
			`"msgRetentionSeconds":345600,"rewindSeconds":0,"maxMsgHeapNum":100000000,"delaySeconds":0}`},
		{Meta{VisibilityTimeout: 1500 * time.Millisecond, PollingWait: 1, Retention: maxRetention - 1, Rewind: -1,
			Delay: math.MinInt64, DeadLetter: &DeadLetter{"q", 3, 0}},
			`{"visibilityTimeout":1.5,"pollingWaitSeconds":0.000000001,"maxMsgSize":0,"msgRetentionSeconds":315359999.999999999,` +
				`"rewindSeconds":-0.000000001,"maxMsgHeapNum":0,"delaySeconds":-9223372036.854775808,` +
				`"deadLetterPolicy":{"deadLetterQueue":"q","policy":0,"maxReceiveCount":3,"maxTimeToLive":0}}`},
	} {
		got, err := json.Marshal(c.meta)
		if err != nil || string(got) != c.want {
			t.Errorf("Marshal(%+v) = %s, %v, want %s", c.meta, got, err, c.want)
		}
		var back Meta
		if err := json.Unmarshal(got, &back); err != nil || !reflect.DeepEqual(back, c.meta) {
			t.Errorf("Unmarshal(%s) = %+v, %v, want %+v", got, back, err, c.meta)
		}
	}
	for _, c := range []struct {
		dead DeadLetter
		want string
	}{
		{DeadLetter{"q", 3, 0}, `"policy":0,"maxReceiveCount":3,"maxTimeToLive":0`},
		{DeadLetter{"q", 0, time.Minute}, `"policy":1,"maxReceiveCount":0,"maxTimeToLive":60`},
		{DeadLetter{"q", 3, time.Minute}, `"policy":0,"maxReceiveCount":3,"maxTimeToLive":60`},
	} {
		if got, _ := json.Marshal(Meta{DeadLetter: &c.dead}); !strings.Contains(string(got), c.want) {
			t.Errorf("Marshal(%+v) = %s, want %s in it", c.dead, got, c.want)
		}
	}
}

func TestMetaUnmarshal(t *testing.T) {
	old := Meta{VisibilityTimeout: time.Second, MaxMessages: 7, DeadLetter: &DeadLetter{"q", 1, 2}}
	with := func(change func(*Meta)) Meta {
		m := old.clone()
		change(&m)
		return m
	}
	for _, c := range []struct {
		text string
		want Meta
	}{
		{`{}`, old},
		{`null`, old},
		{` { "visibilityTimeout" : 2 } `, with(func(m *Meta) { m.VisibilityTimeout = 2 * time.Second })},
		{`{"visibilityTimeout":null,"unknown":[{}],"VISIBILITYTIMEOUT":9}`, old},
		{`{"visibilityTimeout":15e-1}`, with(func(m *Meta) { m.VisibilityTimeout = 1500 * time.Millisecond })},
		{`{"visibilityTimeout":0.15E+2,"visibilityTimeout":3}`, with(func(m *Meta) { m.VisibilityTimeout = 3 * time.Second })},
		{`{"visibilityTimeout":0.30000000000000004}`, with(func(m *Meta) { m.VisibilityTimeout = 300 * time.Millisecond })},
		{`{"visibilityTimeout":1e-9}`, with(func(m *Meta) { m.VisibilityTimeout = 1 })},
		{`{"visibilityTimeout":1.0000000015}`, with(func(m *Meta) { m.VisibilityTimeout = time.Second + 2 })},
		{`{"visibilityTimeout":-1.0000000025}`, with(func(m *Meta) { m.VisibilityTimeout = -time.Second - 3 })},
		{`{"visibilityTimeout":5e-10}`, with(func(m *Meta) { m.VisibilityTimeout = 1 })},
		{`{"visibilityTimeout":4.99e-10}`, with(func(m *Meta) { m.VisibilityTimeout = 0 })},
		{`{"visibilityTimeout":1e-99999999999999999999}`, with(func(m *Meta) { m.VisibilityTimeout = 0 })},
		{`{"visibilityTimeout":0e99999999999999999999}`, with(func(m *Meta) { m.VisibilityTimeout = 0 })},
		{`{"maxMsgHeapNum":1e9}`, with(func(m *Meta) { m.MaxMessages = 1e9 })},
		{`{"maxMsgHeapNum":2.50e1}`, with(func(m *Meta) { m.MaxMessages = 25 })},
		{`{"maxMsgHeapNum":9223372036854775807}`, with(func(m *Meta) { m.MaxMessages = math.MaxInt64 })},
		{`{"maxMsgHeapNum":-9223372036854775808}`, with(func(m *Meta) { m.MaxMessages = math.MinInt64 })},
		{`{"deadLetterPolicy":null}`, with(func(m *Meta) { m.DeadLetter = nil })},
		{`{"deadLetterPolicy":{"deadLetterQueue":"\u0062","policy":1,"maxTimeToLive":0.5}}`,
			with(func(m *Meta) { m.DeadLetter = &DeadLetter{"b", 0, time.Second / 2} })},
		{`{"deadLetterPolicy":{"deadLetterQueue":"b","maxReceiveCount":4}}`,
			with(func(m *Meta) { m.DeadLetter = &DeadLetter{"b", 4, 0} })},
	} {
		got := old.clone()
		shared := got.DeadLetter
		if err := json.Unmarshal([]byte(c.text), &got); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("Unmarshal(%s) = %+v, %v, want %+v", c.text, got, err, c.want)
		}
		if *shared != *old.DeadLetter {
			t.Errorf("Unmarshal(%s) wrote into the old DeadLetter", c.text)
		}
	}
	for _, c := range []struct{ text, name string }{
		{`[]`, "Meta"},
		{`"x"`, "Meta"},
		{`{"visibilityTimeout":"30"}`, "Meta.visibilityTimeout"},
		{`{"pollingWaitSeconds":true}`, "Meta.pollingWaitSeconds"},
		{`{"rewindSeconds":[]}`, "Meta.rewindSeconds"},
		{`{"delaySeconds":{}}`, "Meta.delaySeconds"},
		{`{"msgRetentionSeconds":9223372036.854775808}`, "Meta.msgRetentionSeconds"},
		{`{"msgRetentionSeconds":-9223372036.854775809}`, "Meta.msgRetentionSeconds"},
		{`{"msgRetentionSeconds":1e99999999999999999999}`, "Meta.msgRetentionSeconds"},
		{`{"maxMsgSize":1.5}`, "Meta.maxMsgSize"},
		{`{"maxMsgSize":1e-1}`, "Meta.maxMsgSize"},
		{`{"maxMsgHeapNum":9223372036854775808}`, "Meta.maxMsgHeapNum"},
		{`{"maxMsgHeapNum":""}`, "Meta.maxMsgHeapNum"},
		{`{"deadLetterPolicy":"q"}`, "Meta.deadLetterPolicy"},
		{`{"deadLetterPolicy":{"deadLetterQueue":1}}`, "Meta.deadLetterPolicy.deadLetterQueue"},
		{`{"deadLetterPolicy":{"policy":2}}`, "Meta.deadLetterPolicy.policy"},
		{`{"deadLetterPolicy":{"maxReceiveCount":"3"}}`, "Meta.deadLetterPolicy.maxReceiveCount"},
		{`{"maxMsgSize":5,"deadLetterPolicy":{"maxTimeToLive":"3"}}`, "Meta.deadLetterPolicy.maxTimeToLive"},
	} {
		got := old.clone()
		err := json.Unmarshal([]byte(c.text), &got)
		var arg *ArgumentError
		if !errors.As(err, &arg) || arg.Name != c.name {
			t.Errorf("Unmarshal(%s) = %v, want an ArgumentError for %s", c.text, err, c.name)
		}
		if !reflect.DeepEqual(got, old) {
			t.Errorf("Unmarshal(%s) = %+v, want it unchanged", c.text, got)
		}
	}
}

func TestAttributesJSON(t *testing.T) {
	a := Attributes{
		Meta:   Meta{MaxMessages: 5, DeadLetter: &DeadLetter{"q", 1, 0}},
		Active: 1, Inactive: 2, Delayed: 3, Rewindable: 4,
		Oldest: time.Unix(1700000000, 999999999), NextDue: time.Unix(1700000001, 1),
		Sent: 10, Received: 11, Deleted: 12, CreatedAt: time.Unix(-1, 5), ModifiedAt: time.Unix(1600000000, 0),
	}
	text, err := json.Marshal(a)
	want := `{"visibilityTimeout":0,"pollingWaitSeconds":0,"maxMsgSize":0,"msgRetentionSeconds":0,"rewindSeconds":0,` +
		`"maxMsgHeapNum":5,"delaySeconds":0,` +
		`"deadLetterPolicy":{"deadLetterQueue":"q","policy":0,"maxReceiveCount":1,"maxTimeToLive":0},` +
		`"activeMsgNum":1,"inactiveMsgNum":2,"delayMsgNum":3,"rewindMsgNum":4,"minMsgTime":1700000000,` +
		`"nextDueTime":1700000001,"sentMsgNum":10,"receivedMsgNum":11,"deletedMsgNum":12,"createTime":-1,` +
		`"lastModifyTime":1600000000}`
	if err != nil || string(text) != want {
		t.Fatalf("Marshal = %s, %v, want %s", text, err, want)
	}
	var back Attributes
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	for _, at := range []*time.Time{&a.Oldest, &a.NextDue, &a.CreatedAt, &a.ModifiedAt} {
		*at = time.Unix(at.Unix(), 0)
	}
	if !reflect.DeepEqual(back, a) {
		t.Errorf("Unmarshal = %+v, want %+v", back, a)
	}

	if text, _ = json.Marshal(Attributes{}); !strings.Contains(string(text), `"minMsgTime":0,"nextDueTime":0`) {
		t.Errorf("Marshal(Attributes{}) = %s, want 0 for no time", text)
	}
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back.Oldest, time.Time{}) || back.Active != 0 {
		t.Errorf("Unmarshal = %+v, %v, want no Oldest and nothing Active", back, err)
	}
	var arg *ArgumentError
	if err := json.Unmarshal([]byte(`{"minMsgTime":1.5}`), &back); !errors.As(err, &arg) || arg.Name != "Attributes.minMsgTime" {
		t.Errorf("Unmarshal = %v, want an ArgumentError for Attributes.minMsgTime", err)
	}
}

func FuzzMetaRoundTrip(f *testing.F) {
	f.Add(int64(1), int64(-1), 5, int64(math.MaxInt64), int64(math.MinInt64), int64(9), int64(999999999), true, "q", 3, int64(7))
	f.Add(int64(maxRetention-1), int64(0), 0, int64(1e9), int64(1e10), int64(-9), int64(10), false, "", 0, int64(0))
	f.Fuzz(func(t *testing.T, v, p int64, size int, r, w, n, d int64, dead bool, queue string, receives int, age int64) {
		m := Meta{time.Duration(v), time.Duration(p), size, time.Duration(r), time.Duration(w), n, time.Duration(d), nil}
		if dead {
			m.DeadLetter = &DeadLetter{strings.ToValidUTF8(queue, "?"), receives, time.Duration(age)}
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatalf("Marshal(%+v) = %v", m, err)
		}
		var back Meta
		if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, m) {
			t.Fatalf("Unmarshal(%s) = %+v, %v, want %+v", text, back, err, m)
		}
	})
}

// Any text either fails, or gives a Meta that round-trips and a duration that is the text's number to the nanosecond.
func FuzzMetaUnmarshal(f *testing.F) {
	for _, s := range []string{`0`, `-0`, `1.5`, `1e3`, `-1e-3`, `0.9999999995`, `9223372036.8547758075`, `1e400`, `"x"`, `{}`, `-0.0000000005`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		text := []byte(`{"delaySeconds":` + value + `}`)
		var m, back Meta
		if json.Unmarshal(text, &m) != nil {
			return
		}
		again, err := json.Marshal(m)
		if err != nil || json.Unmarshal(again, &back) != nil || !reflect.DeepEqual(back, m) {
			t.Fatalf("%s became %+v, then %s, %+v", text, m, again, back)
		}
		if m == (Meta{Delay: m.Delay}) && len(value) < 40 && json.Valid([]byte(value)) {
			exact, ok := new(big.Rat).SetString(value)
			if !ok {
				return // null, or an exponent too large for big
			}
			off := exact.Mul(exact, big.NewRat(1e9, 1)).Sub(exact, new(big.Rat).SetInt64(int64(m.Delay)))
			if off.Abs(off).Cmp(big.NewRat(1, 2)) > 0 {
				t.Fatalf("%s became %d ns", value, m.Delay)
			}
		}
	})
}
