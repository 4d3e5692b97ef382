package cmq

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// What parse accepts is what net/url makes of it, without a name that is there twice; and nothing that is made from
// it panics or answers an error that is none of the API's.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "&&", "=", "a", "a=", "a=1&a=2", "a=%", "a=%41+b", "%41=1&A=2", "a;b=1", "msgBody.10=j&msgBody.2=b&msgBody.1=a",
		"msgBody.0=a", "msgBody.=a", "msgBody.01=a", "msgBody.-1=a", "msgBody.1=a&msgBody.3=b", "numOfMsg=9223372036854775808",
		"numOfMsg=-1", "msgBody=%ff", "deadLetterPolicy={", `deadLetterPolicy={"deadLetterQueue":"a","policy":1,"maxTimeToLive":300}`,
		strings.Repeat("a&", 300), strings.Repeat("x", 70) + "=1", "delaySeconds=3601",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parse(text)
		want, other := url.ParseQuery(text)
		if err != nil {
			if e := (*apiError)(nil); !errors.As(err, &e) {
				t.Fatalf("parse(%q) = %v, want an apiError", text, err)
			}
			return
		}
		if len(p) > maxParams {
			t.Fatalf("parse(%q) has %d parameters", text, len(p))
		}
		if other == nil {
			got := url.Values{}
			for name, value := range p {
				got.Set(name, value)
			}
			if !maps.EqualFunc(got, want, slices.Equal) {
				t.Fatalf("parse(%q) = %v, want %v", text, got, want)
			}
		}
		checkReaders(t, p)
	})
}

func checkReaders(t *testing.T, p params) {
	c := &call{params: p}
	for _, name := range []string{"msgBody", "receiptHandle"} {
		values, err := p.list(name)
		if err == nil && (len(values) < 1 || len(values) > maxBatch) {
			t.Fatalf("list(%s) of %v has %d values", name, p, len(values))
		}
		for i := range values {
			first := 1
			if _, ok := p[name+".0"]; ok {
				first = 0
			}
			if at := name + "." + []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"}[first+i]; p[at] != values[i] {
				t.Fatalf("value %d of %s is %q, want that of %s", i, name, values[i], at)
			}
		}
		if ms, err := c.messages(values); err == nil && len(ms) != len(values) {
			t.Fatalf("%d messages of %d bodies", len(ms), len(values))
		}
	}
	if n, given, err := p.number("numOfMsg", 1, maxBatch); err == nil && given && (n < 1 || n > maxBatch) {
		t.Fatalf("numOfMsg is %d", n)
	}
	if change, err := c.patch(); err == nil && change == nil {
		t.Fatal("no error, and no change")
	}
	signed(&call{params: p, method: "POST"}, "key", "signature")
}
