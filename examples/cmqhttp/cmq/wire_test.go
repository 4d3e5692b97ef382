package cmq_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/examples/cmqhttp/cmq"
	"github.com/spoolmq/spool/examples/cmqhttp/internal/wire"
)

// always accepts requests that were recorded long ago.
const always = 200 * 365 * 24 * time.Hour

// vectors are requests with their right signatures, computed by hand from the text that is signed.
var vectors = []struct{ name, params, signature string }{
	{"sha1", "Action=SendMessage&Nonce=42&RequestClient=x&SecretId=AKIDtest&SignatureMethod=HmacSHA1&Timestamp=1700000000&delaySeconds=0&msgBody=hello wörld & a=b+c&queueName=q-1",
		"3fHcAlFK0FYAb31Ye6tXeaqMujE="},
	{"sha256", "Action=SendMessage&Nonce=42&RequestClient=x&SecretId=AKIDtest&SignatureMethod=HmacSHA256&Timestamp=1700000000&delaySeconds=0&msgBody=hello wörld & a=b+c&queueName=q-1",
		"T2fZjfzfafBemZxMAHmGrvn4+JM7/eMzQE+P1rkRgTc="},
	{"order of text, not of numbers", "Action=BatchSendMessage&Nonce=42&SecretId=AKIDtest&SignatureMethod=HmacSHA1&Timestamp=1700000000&delaySeconds=0&msgBody.1=a&msgBody.10=j&msgBody.2=b&queueName=q-1",
		"4Wsf/ioEo8emxE6mGOlObkDhqYo="},
	{"@ signed", "Action=SendMessage&Nonce=42&SecretId=AKIDtest&SignatureMethod=HmacSHA1&Timestamp=1700000000&delaySeconds=0&msgBody=@file&queueName=q-1",
		"5NnHmSRgq1FQlVp14EY4O6YpVck="},
	{"@ left out", "Action=SendMessage&Nonce=42&SecretId=AKIDtest&SignatureMethod=HmacSHA1&Timestamp=1700000000&delaySeconds=0&msgBody=@file&queueName=q-1",
		"PuK4cpLuwEkXbT66IEBD+YBMRhg="},
}

// wireForm is the body of a vector's request: the value that has an & in it is the only one.
func wireForm(params, signature string) string {
	params = strings.ReplaceAll(params, "hello wörld & a=b+c", url.QueryEscape("hello wörld & a=b+c"))
	return params + "&Signature=" + url.QueryEscape(signature)
}

func post(host, path, form string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", path, host, len(form), form)
}

// answerTo sends bytes over a connection of their own and returns the answer.
func answerTo(t *testing.T, s *server, raw string) wire.Answer {
	t.Helper()
	c := s.dial(t)
	defer c.Close()
	if _, err := c.Write([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	a, err := c.Answer()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSignatureVectors(t *testing.T) {
	s := serve(t, cmq.Options{Window: always})
	q := s.queue(t, "q-1", spool.Meta{})
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			a := answerTo(t, s, post("127.0.0.1:8080", "/v2/index.php", wireForm(v.params, v.signature)))
			want := 0
			if strings.Contains(v.params, "BatchSendMessage") {
				want = 4000 // 1, 2 and 10 are not consecutive
			}
			if a.Status != 200 || a.Code != want {
				t.Errorf("%s, want code %d", a.Raw, want)
			}
			for what, raw := range map[string]string{
				"host":      post("127.0.0.1:8081", "/v2/index.php", wireForm(v.params, v.signature)),
				"path":      post("127.0.0.1:8080", "/v2/index.php/", wireForm(v.params, v.signature)),
				"parameter": post("127.0.0.1:8080", "/v2/index.php", wireForm(v.params+"&more=1", v.signature)),
				"value":     post("127.0.0.1:8080", "/v2/index.php", wireForm(strings.Replace(v.params, "q-1", "q-2", 1), v.signature)),
				"signature": post("127.0.0.1:8080", "/v2/index.php", wireForm(v.params, strings.ToUpper(v.signature))),
				"method":    "GET /v2/index.php?" + wireForm(v.params, v.signature) + " HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n",
			} {
				if a := answerTo(t, s, strings.ReplaceAll(raw, " wörld", "")); a.Code != 4100 || !strings.HasPrefix(a.Message, "(10030)") {
					t.Errorf("other %s: %s, want 4100 (10030)", what, a.Raw)
				}
			}
		})
	}
	if got := attributes(t, q).Sent; got != 4 {
		t.Errorf("%d messages were sent, want 4", got)
	}
}

// The second signature of a body that starts with @ is for a body in a POST only.
func TestAtSign(t *testing.T) {
	s := serve(t, cmq.Options{})
	s.queue(t, "q", spool.Meta{})
	c := s.dial(t)
	for _, whole := range []bool{false, true} {
		s.WholeAt = whole
		c.ok("SendMessage", "queueName", "q", "msgBody", "@one")
		c.ok("BatchSendMessage", "queueName", "q", "msgBody.1", "@two", "msgBody.2", "three")
	}
	s.WholeAt = false
	c.refused(4100, "(10030)", "SendMessage", "queueName", "q", "msgBody", "x", "other", "@y")
	s.GET = true // where even the Python SDK signs all
	c.ok("SendMessage", "queueName", "q", "msgBody", "@one")
	c.Close()

	pairs := [][2]string{{"Action", "SendMessage"}, {"Nonce", "1"}, {"SecretId", testID}, {"Timestamp", fmt.Sprint(time.Now().Unix())}, {"queueName", "q"}}
	form := "msgBody=%40one&Signature=" + url.QueryEscape(wire.Sign("GET", "h", "/", pairs, testKey, false, true))
	for _, p := range pairs {
		form += "&" + p[0] + "=" + p[1]
	}
	if a := answerTo(t, s, "GET /?"+form+" HTTP/1.1\r\nHost: h\r\n\r\n"); a.Code != 4100 {
		t.Errorf("a GET whose body is not signed: %s", a.Raw)
	}
}

func TestWhoAndWhen(t *testing.T) {
	s := serve(t, cmq.Options{})
	c := s.dial(t)
	s.ID, s.Key = "other", "key"
	c.ok("ListQueue")
	s.Key = "kez"
	c.refused(4100, "(10030)", "ListQueue")
	s.ID = "AKIDnobody"
	c.refused(4100, "(10270)", "ListQueue")

	for _, v := range vectors { // all are of 2023
		a := answerTo(t, s, post("127.0.0.1:8080", "/v2/index.php", wireForm(v.params, v.signature)))
		c.check(a, 4100, "(10030)authentication failed: Timestamp")
	}
	for _, missing := range []string{"SecretId", "Signature", "Timestamp", "Nonce"} {
		form := strings.Replace(wireForm(vectors[0].params, vectors[0].signature), missing+"=", "x=", 1)
		c.check(answerTo(t, s, post("h", "/", form)), 4000, "(10390)missing parameter "+missing)
		c.check(answerTo(t, s, "GET /?"+form+" HTTP/1.1\r\nHost: h\r\n\r\n"), 4000, "(10400)missing parameter "+missing)
	}
}

// What the Python SDK sent, byte by byte, for a queue of its own: create, send, 12 in a batch, a body and a batch with
// an @, a GET, a delay, three receives with and without a wait, attributes, list, delete.
func TestRecordedRequests(t *testing.T) {
	text, err := os.ReadFile("testdata/python-sdk.http")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, cmq.Options{Window: always})
	c := s.dial(t)
	if _, err := c.Write(text); err != nil { // one after the other, without waiting for answers
		t.Fatal(err)
	}
	next := func() wire.Answer {
		a, err := c.Answer()
		if err != nil {
			t.Fatal(err)
		}
		c.check(a, 0, "")
		return a
	}
	if next().Text("queueId") == "" || next().Text("msgId") == "" {
		t.Error("an id is empty")
	}
	if got := len(next().Objects("msgList")); got != 12 {
		t.Errorf("%d of 12 were sent", got)
	}
	for range 4 {
		next()
	}
	if got := next().Text("msgBody"); got != "I am test message, 100% + ünïcode & 你好" {
		t.Errorf("the first message is %q", got)
	}
	var bodies []string
	for _, m := range append(next().Objects("msgInfoList"), next().Objects("msgInfoList")...) {
		bodies = append(bodies, m.Text("msgBody"))
	}
	if got, want := strings.Join(bodies, " "), "m1 m2 m3 m4 m5 m6 m7 m8 m9 m10 m11 m12 @file @first second by GET"; got != want {
		t.Errorf("received %s, want %s", got, want)
	}
	if a := next(); a.Int("delayMsgNum") != 1 || a.Int("inactiveMsgNum") != 17 || a.Int("activeMsgNum") != 0 {
		t.Errorf("%s, want 1 delayed and 17 inactive messages", a.Raw)
	}
	if a := next(); a.Int("totalCount") != 1 || a.Objects("queueList")[0].Text("queueName") != "MySampleQueue" {
		t.Errorf("%s, want one queue", a.Raw)
	}
	next()
	if got := len(s.spool.Queues()); got != 0 {
		t.Errorf("%d queues are left", got)
	}
}

// The recording is what it is said to be.
func TestRecording(t *testing.T) {
	text, err := os.ReadFile("testdata/python-sdk.http")
	if err != nil {
		t.Fatal(err)
	}
	r, gets := bufio.NewReader(bytes.NewReader(text)), 0
	for n := 0; ; n++ {
		req, err := http.ReadRequest(r)
		if err != nil {
			if n != 13 || gets != 1 {
				t.Errorf("%d requests, %d of them GET, want 13 and 1: %v", n, gets, err)
			}
			return
		}
		if req.Method == "GET" {
			gets++
		}
		if _, typed := req.Header["Content-Type"]; typed {
			t.Errorf("request %d has a Content-Type", n)
		}
		if _, err := bytes.NewBuffer(nil).ReadFrom(req.Body); err != nil {
			t.Fatal(err)
		}
	}
}
