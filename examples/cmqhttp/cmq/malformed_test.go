package cmq_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/examples/cmqhttp/cmq"
)

func TestMalformed(t *testing.T) {
	s := serve(t, cmq.Options{})
	many := strings.Repeat("x=1&", 300)
	for _, m := range []struct {
		name, raw string
		message   string
	}{
		{"method", "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "(10410)"},
		{"empty", post("h", "/", ""), "(10390)missing parameter SecretId"},
		{"not a form", post("h", "/", "{\"a\":%zz}"), "(10420)"},
		{"no name", post("h", "/", "=1"), "(10420)"},
		{"twice", post("h", "/", "a=1&%61=2"), "(10310)parameter a is given twice"},
		{"many", post("h", "/", distinct(300)), "(10420)"},
		{"many, the same", post("h", "/", many), "(10310)"},
		{"GET without a query", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "(10400)"},
		{"length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n", "(10420)the request is larger"},
		{"chunks", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("100000\r\n"+strings.Repeat("x", 1<<20)+"\r\n", 4) + "0\r\n\r\n", "(10420)the request is larger"},
		{"long name", post("h", "/", strings.Repeat("x", 1<<20)+"=1&"+strings.Repeat("x", 1<<20)+"=1"), "(10310)parameter " + strings.Repeat("x", 64) + "… is given twice"},
	} {
		t.Run(m.name, func(t *testing.T) {
			c := s.dial(t)
			sent := make(chan struct{})
			go func() { // a server that answers early need not take all of it
				io.WriteString(c, m.raw)
				close(sent)
			}()
			answered(c, 4000, m.message)
			c.Close()
			<-sent
		})
	}
	if c := s.dial(t); c != nil { // and goes on
		c.ok("ListQueue")
	}
}

func distinct(n int) string {
	v := url.Values{}
	for i := range n {
		v.Set(fmt.Sprint(i), "x")
	}
	return v.Encode()
}

// The largest request there is: 1 MiB of text that is percent-encoded as a whole.
func TestLargestRequest(t *testing.T) {
	s := serve(t, cmq.Options{})
	s.queue(t, "q", spool.Meta{MaxMessageSize: 1 << 20})
	args := []string{"queueName", "q"}
	text := strings.Repeat("你", (1<<16)/3) + "~"
	for i := range 16 {
		args = append(args, fmt.Sprintf("msgBody.%d", i+1), text)
	}
	c := s.dial(t)
	c.ok("BatchSendMessage", args...)
	for _, m := range c.ok("BatchReceiveMessage", "queueName", "q", "numOfMsg", "16").Objects("msgInfoList") {
		if m.Text("msgBody") != text {
			t.Fatal("another body came back")
		}
	}
}

// Clients that send the beginning of a request and no more are given up; others are served meanwhile.
func TestSlowClients(t *testing.T) {
	const slow = 100
	s := serve(t, cmq.Options{})
	s.handler.SetTimeouts(500*time.Millisecond, time.Minute)
	s.queue(t, "q", spool.Meta{})
	var gone sync.WaitGroup
	for range slow {
		c := s.dial(t)
		raw := s.Request("SendMessage", "queueName", "q", "msgBody", "never sent")
		c.Write(raw[:len(raw)-1])
		gone.Go(func() {
			a, err := c.Answer()
			if err != nil || a.Code != 4000 || !strings.HasPrefix(a.Message, "(10420)") {
				t.Errorf("%s, %v, want 4000 (10420)", a.Raw, err)
			}
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection is still open: %v", err)
			}
		})
	}
	c := s.dial(t)
	c.ok("SendMessage", "queueName", "q", "msgBody", "x")
	c.ok("ReceiveMessage", "queueName", "q")
	gone.Wait()
	c.refused(7000, "", "ReceiveMessage", "queueName", "q") // the deadline for a body is not one for the connection
}

// A body may arrive one byte at a time, and a wait may be longer than a body may take.
func TestTricklingClient(t *testing.T) {
	s := serve(t, cmq.Options{})
	s.handler.SetTimeouts(2*time.Second, time.Minute)
	s.queue(t, "q", spool.Meta{})
	c := s.dial(t)
	c.Conn.Conn.(*net.TCPConn).SetNoDelay(true)
	for _, b := range s.Request("ReceiveMessage", "queueName", "q", "pollingWaitSeconds", "3") {
		c.Write([]byte{b})
	}
	answered(c, 7000, "(10200)no message")
}

// The log says who asked for what, and neither what was in it nor what would let the reader ask for more.
func TestLog(t *testing.T) {
	var text bytes.Buffer
	s := serve(t, cmq.Options{Logger: slog.New(slog.NewTextHandler(&text, nil))})
	s.queue(t, "q", spool.Meta{})
	c := s.dial(t)
	c.ok("SendMessage", "queueName", "q", "msgBody", "confidential")
	handle := c.ok("ReceiveMessage", "queueName", "q").Text("receiptHandle")
	c.ok("DeleteMessage", "queueName", "q", "receiptHandle", handle)
	c.refused(4440, "", "ClearQueue", "queueName", strings.Repeat("x", 1<<20)+"\nlevel=ERROR")
	c.Close()
	s.http.Shutdown(t.Context())
	got := text.String()
	for _, secret := range []string{"confidential", handle, testKey, "Signature", "\nlevel="} {
		if strings.Contains(got, secret) {
			t.Errorf("the log has %q: %.2000s", secret, got)
		}
	}
	for _, want := range []string{"action=SendMessage queue=q code=0", "secretId=AKIDtest", "delivered=1", "code=4440 module=10100"} {
		if !strings.Contains(got, want) {
			t.Errorf("the log lacks %q: %.2000s", want, got)
		}
	}
	if lines := strings.Count(got, "\n"); lines != 4 || len(got) > 4000 {
		t.Errorf("the log has %d lines and %d bytes, want 4 and less than 4000", lines, len(got))
	}
}
