package cmq

import (
	"net/url"
	"strconv"
	"strings"
)

// Bounds of a request. The largest legal one is a batch of 1 MiB of text whose every byte is percent-encoded, which
// makes three of one.
const (
	maxBatch      = 16
	maxBatchBytes = 1 << 20
	maxRequest    = 3*maxBatchBytes + 64<<10
	maxParams     = 256
)

// params are the parameters of a request, by name, decoded.
type params map[string]string

// parse reads a form-encoded text, whatever the header says that it is. It refuses what would mean two things to two
// readers: a name that comes twice would be signed once and used once.
func parse(text string) (params, error) {
	p := params{}
	for pair := range strings.SplitSeq(text, "&") {
		if pair == "" {
			continue
		}
		if len(p) == maxParams {
			return nil, fail(4000, 10420, "more than %d parameters", maxParams)
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		if err != nil || name == "" {
			return nil, fail(4000, 10420, "the parameters are not form-encoded")
		}
		if _, twice := p[name]; twice {
			return nil, fail(4000, 10310, "parameter %s is given twice", shown(name))
		}
		p[name] = value
	}
	return p, nil
}

// text returns a parameter that must be there; it may be empty.
func (p params) text(name string) (string, error) {
	value, ok := p[name]
	if !ok {
		return "", fail(4000, 10390, "missing parameter %s", name)
	}
	return value, nil
}

// number returns a parameter that must be an integer in [least, most]. ok is false when it is absent.
func (p params) number(name string, least, most int64) (n int64, ok bool, err error) {
	value, ok := p[name]
	if !ok {
		return 0, false, nil
	}
	n, err = strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, true, fail(4000, 10360, "parameter %s is not an integer", name)
	}
	if n < least || n > most {
		return 0, true, fail(4000, 10350, "parameter %s is %d, out of [%d, %d]", name, n, least, most)
	}
	return n, true, nil
}

// list returns the values of name.N in the order of N, which counts up from 0 or from 1.
func (p params) list(name string) ([]string, error) {
	byIndex := map[string]string{}
	for key, value := range p {
		if index, ok := strings.CutPrefix(key, name+"."); ok {
			byIndex[index] = value
		}
	}
	if len(byIndex) == 0 || len(byIndex) > maxBatch {
		return nil, fail(4000, 10370, "%d values of %s.N, allowed are 1 to %d", len(byIndex), name, maxBatch)
	}
	first := 1
	if _, ok := byIndex["0"]; ok {
		first = 0
	}
	values := make([]string, len(byIndex))
	for i := range values {
		value, ok := byIndex[strconv.Itoa(first+i)]
		if !ok {
			return nil, fail(4000, 10380, "the indexes of %s.N are not consecutive from 0 or 1", name)
		}
		values[i] = value
	}
	return values, nil
}

// shown is a text of a client's as a message or a log line has it. Bound: what a client sends may be megabytes.
func shown(text string) string {
	const most = 64
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "?") + "…"
	}
	return strings.ToValidUTF8(text, "?")
}
