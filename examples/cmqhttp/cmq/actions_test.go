package cmq_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool"
	"github.com/spoolmq/spool/examples/cmqhttp/cmq"
)

// The five chapters of the guide, as an SDK asks for them: create, produce, consume, rewind, delay.
func TestFiveChapters(t *testing.T) {
	for _, get := range []bool{false, true} {
		t.Run(map[bool]string{false: "POST", true: "GET"}[get], func(t *testing.T) {
			s := serve(t, cmq.Options{})
			s.GET, s.SHA256 = get, get
			chapters(s.dial(t))
		})
	}
}

func chapters(c *conn) {
	t := c.t
	began := time.Now().Unix()
	c.ok("CreateQueue", "queueName", "jobs", "visibilityTimeout", "10", "maxMsgSize", "65536", "pollingWaitSeconds", "10")

	c.ok("SendMessage", "queueName", "jobs", "msgBody", "first", "delaySeconds", "0")
	sent := c.ok("BatchSendMessage", "queueName", "jobs", "msgBody.1", "a", "msgBody.2", "b & ü", "msgBody.3", "<c>", "delaySeconds", "0")
	if n := len(sent.Objects("msgList")); n != 3 {
		t.Fatalf("%s, want 3 ids", sent.Raw)
	}

	one := c.ok("ReceiveMessage", "queueName", "jobs", "UserpollingWaitSeconds", "3", "pollingWaitSeconds", "3")
	if one.Text("msgBody") != "first" || one.Int("dequeueCount") != 1 || one.Int("enqueueTime") < began ||
		one.Int("firstDequeueTime") < one.Int("enqueueTime") || one.Int("nextVisibleTime") < began+10 {
		t.Fatalf("received %s", one.Raw)
	}
	three := c.ok("BatchReceiveMessage", "queueName", "jobs", "numOfMsg", "3", "pollingWaitSeconds", "3").Objects("msgInfoList")
	if len(three) != 3 || three[1].Text("msgBody") != "b & ü" || three[2].Text("msgBody") != "<c>" || three[0].Text("msgId") != sent.Objects("msgList")[0].Text("msgId") {
		t.Fatalf("received %v", three)
	}
	c.ok("SetQueueAttributes", "queueName", "jobs", "rewindSeconds", "43200")
	c.ok("DeleteMessage", "queueName", "jobs", "receiptHandle", one.Text("receiptHandle"))
	c.ok("BatchDeleteMessage", "queueName", "jobs", "receiptHandle.1", three[0].Text("receiptHandle"), "receiptHandle.2", three[1].Text("receiptHandle"))
	c.refused(4430, "(10260)", "DeleteMessage", "queueName", "jobs", "receiptHandle", one.Text("receiptHandle"))
	c.refused(7000, "(10200)no message", "ReceiveMessage", "queueName", "jobs", "pollingWaitSeconds", "0")

	c.ok("RewindQueue", "queueName", "jobs", "startConsumeTime", strconv.FormatInt(began, 10))
	again := c.ok("BatchReceiveMessage", "queueName", "jobs", "numOfMsg", "16").Objects("msgInfoList")
	if len(again) != 3 || again[0].Text("msgBody") != "first" || again[0].Int("dequeueCount") != 1 {
		t.Fatalf("after the rewind: %v", again)
	}

	c.ok("SendMessage", "queueName", "jobs", "msgBody", "later", "delaySeconds", "600")
	a := c.ok("GetQueueAttributes", "queueName", "jobs")
	for name, want := range map[string]int64{
		"delayMsgNum": 1, "inactiveMsgNum": 4, "activeMsgNum": 0, "rewindMsgNum": 0, "rewindmsgNum": 0,
		"visibilityTimeout": 10, "maxMsgSize": 65536, "pollingWaitSeconds": 10, "rewindSeconds": 43200,
		"msgRetentionSeconds": 345600, "maxMsgHeapNum": 100_000_000,
	} {
		if got := a.Int(name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	for _, name := range []string{"createTime", "lastModifyTime", "minMsgTime"} {
		if got := a.Int(name); got < began || got > time.Now().Unix() {
			t.Errorf("%s is %d, want the Unix seconds of now", name, got)
		}
	}

	c.ok("ClearQueue", "queueName", "jobs")
	if a := c.ok("GetQueueAttributes", "queueName", "jobs"); a.Int("delayMsgNum")+a.Int("inactiveMsgNum") != 0 || a.Int("minMsgTime") != 0 {
		t.Errorf("cleared: %s", a.Raw)
	}
	c.ok("DeleteQueue", "queueName", "jobs")
	c.refused(4440, "(10100)queue is not existed, or deleted", "GetQueueAttributes", "queueName", "jobs")
}

// A client that keeps whole seconds asks for up to a second before the earliest instant; two are too many.
func TestRewindToTheEdge(t *testing.T) {
	s := serve(t, cmq.Options{})
	s.queue(t, "q", spool.Meta{Rewind: time.Minute})
	c := s.dial(t)
	at := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
	c.ok("RewindQueue", "queueName", "q", "startConsumeTime", at(-time.Minute))
	c.ok("RewindQueue", "queueName", "q", "startConsumeTime", at(0))
	c.refused(4000, "(10680)", "RewindQueue", "queueName", "q", "startConsumeTime", at(-time.Minute-2*time.Second))
	c.refused(4000, "(10680)", "RewindQueue", "queueName", "q", "startConsumeTime", at(2*time.Second))
	s.queue(t, "off", spool.Meta{})
	c.refused(6050, "(10670)", "RewindQueue", "queueName", "off", "startConsumeTime", at(0))
}

func TestRefused(t *testing.T) {
	s := serve(t, cmq.Options{})
	s.queue(t, "q", spool.Meta{})
	s.queue(t, "full", spool.Meta{MaxMessages: 1})
	s.queue(t, "dead", spool.Meta{})
	s.queue(t, "source", spool.Meta{DeadLetter: &spool.DeadLetter{Queue: "dead", MaxReceives: 3}})
	s.queue(t, "brief", spool.Meta{Retention: time.Minute})
	c := s.dial(t)
	c.ok("SendMessage", "queueName", "full", "msgBody", "x")
	batch := func(n int) []string {
		args := []string{"queueName", "q"}
		for i := range n {
			args = append(args, fmt.Sprintf("msgBody.%d", i), strings.Repeat("x", 65536))
		}
		return args
	}
	for _, r := range []struct {
		code    int
		message string
		action  string
		args    []string
	}{
		{4000, "(10280)", "sendMessage", nil},
		{4000, "(10280)", "QueryQueueRoute", nil},
		{4000, "(10390)missing parameter queueName", "SendMessage", []string{"msgBody", "x"}},
		{4000, "(10390)missing parameter msgBody", "SendMessage", []string{"queueName", "q"}},
		{4000, "(10120)", "SendMessage", []string{"queueName", "q", "msgBody", ""}},
		{4000, "(10360)", "SendMessage", []string{"queueName", "q", "msgBody", "\xff"}},
		{4000, "(10692)", "SendMessage", []string{"queueName", "q", "msgBody", "x", "delaySeconds", "3601"}},
		{4000, "(10692)", "SendMessage", []string{"queueName", "q", "msgBody", "x", "delaySeconds", "-1"}},
		{4000, "(10360)", "SendMessage", []string{"queueName", "q", "msgBody", "x", "delaySeconds", "1.5"}},
		{4000, "(10692)", "SendMessage", []string{"queueName", "brief", "msgBody", "x", "delaySeconds", "60"}},
		{4400, "(10230)", "SendMessage", []string{"queueName", "q", "msgBody", strings.Repeat("x", 65537)}},
		{4410, "(10240)", "SendMessage", []string{"queueName", "full", "msgBody", "x"}},
		{4440, "(10100)", "SendMessage", []string{"queueName", "Q", "msgBody", "x"}},
		{4000, "(10370)", "BatchSendMessage", []string{"queueName", "q"}},
		{4000, "(10370)", "BatchSendMessage", batch(17)},
		{4000, "(10380)", "BatchSendMessage", []string{"queueName", "q", "msgBody.2", "x", "msgBody.3", "y"}},
		{4000, "(10380)", "BatchSendMessage", []string{"queueName", "q", "msgBody.1", "x", "msgBody.01", "y"}},
		{4470, "(10300)", "BatchSendMessage", append(batch(15), "msgBody.15", strings.Repeat("x", 65537))},
		{4000, "(10360)", "ReceiveMessage", []string{"queueName", "q", "pollingWaitSeconds", "x"}},
		{4000, "(10350)", "ReceiveMessage", []string{"queueName", "q", "pollingWaitSeconds", "31"}},
		{4000, "(10350)", "ReceiveMessage", []string{"queueName", "q", "pollingWaitSeconds", "30000"}},
		{4000, "(10390)", "BatchReceiveMessage", []string{"queueName", "q"}},
		{4000, "(10350)", "BatchReceiveMessage", []string{"queueName", "q", "numOfMsg", "17"}},
		{4000, "(10350)", "BatchReceiveMessage", []string{"queueName", "q", "numOfMsg", "0"}},
		{7000, "(10200)no message", "BatchReceiveMessage", []string{"queueName", "q", "numOfMsg", "1"}},
		{4000, "(10390)", "DeleteMessage", []string{"queueName", "q"}},
		{4000, "(10470)", "DeleteMessage", []string{"queueName", "q", "receiptHandle", "nonsense"}},
		{4000, "(10370)", "BatchDeleteMessage", []string{"queueName", "q"}},
		{6020, "(10290)", "BatchDeleteMessage", []string{"queueName", "q", "receiptHandle.0", "nonsense"}},
		{4460, "(4460)", "CreateQueue", []string{"queueName", "Q"}},
		{4000, "(10020)", "CreateQueue", []string{"queueName", "1q"}},
		{4000, "(10020)", "CreateQueue", []string{"queueName", strings.Repeat("q", 1<<20)}},
		{4000, "(10350)", "CreateQueue", []string{"queueName", "n", "visibilityTimeout", "0"}},
		{4000, "(10350)", "CreateQueue", []string{"queueName", "n", "visibilityTimeout", "43201"}},
		{4000, "(10350)", "CreateQueue", []string{"queueName", "n", "maxMsgHeapNum", "999999"}},
		{4000, "(10350)", "CreateQueue", []string{"queueName", "n", "maxMsgSize", "1023"}},
		{4000, "(10350)", "CreateQueue", []string{"queueName", "n", "msgRetentionSeconds", "59"}},
		{4000, "(10350)", "CreateQueue", []string{"queueName", "n", "pollingWaitSeconds", "31"}},
		{4000, "(10700)", "CreateQueue", []string{"queueName", "n", "msgRetentionSeconds", "60", "rewindSeconds", "61"}},
		{4000, "(10700)", "SetQueueAttributes", []string{"queueName", "q", "rewindSeconds", "345601"}},
		{4000, "(10360)", "CreateQueue", []string{"queueName", "n", "deadLetterPolicy", "x"}},
		{4000, "(10760)", "CreateQueue", []string{"queueName", "n", "deadLetterPolicy", `{"policy":0,"maxReceiveCount":3}`}},
		{4000, "(10770)", "CreateQueue", []string{"queueName", "n", "deadLetterPolicy", `{"deadLetterQueue":"dead","policy":2}`}},
		{4000, "(10350)", "CreateQueue", []string{"queueName", "n", "deadLetterPolicy", `{"deadLetterQueue":"dead","policy":0}`}},
		{4000, "(10350)", "CreateQueue", []string{"queueName", "n", "deadLetterPolicy", `{"deadLetterQueue":"dead","policy":1,"maxTimeToLive":299}`}},
		{4000, "(10730)", "CreateQueue", []string{"queueName", "n", "deadLetterPolicy", `{"deadLetterQueue":"none","policy":0,"maxReceiveCount":3}`}},
		{4000, "(10740)", "CreateQueue", []string{"queueName", "n", "deadLetterPolicy", `{"deadLetterQueue":"source","policy":0,"maxReceiveCount":3}`}},
		{4000, "(10750)", "DeleteQueue", []string{"queueName", "dead"}},
		{4000, "(10390)", "RewindQueue", []string{"queueName", "q"}},
		{4000, "(10350)", "ListQueue", []string{"limit", "51"}},
	} {
		t.Run(strings.Join([]string{r.action, r.message}, " "), func(t *testing.T) {
			(&conn{c.Conn, t}).refused(r.code, r.message, r.action, r.args...)
		})
	}
	if n := len(s.spool.Queues()); n != 5 {
		t.Errorf("there are %d queues, want the 5 from before", n)
	}
}

func TestDeadLetterPolicy(t *testing.T) {
	s := serve(t, cmq.Options{})
	dead := s.queue(t, "dead", spool.Meta{})
	c := s.dial(t)
	c.ok("CreateQueue", "queueName", "q", "deadLetterPolicy", `{"deadLetterQueue":"dead","policy":1,"maxReceiveCount":9,"maxTimeToLive":300}`)
	if got, want := c.ok("GetQueueAttributes", "queueName", "q").Text("deadLetterPolicy"),
		`{"deadLetterQueue":"dead","policy":1,"maxReceiveCount":0,"maxTimeToLive":300}`; got != want {
		t.Errorf("deadLetterPolicy is %s, want %s", got, want)
	}
	c.ok("SetQueueAttributes", "queueName", "q", "visibilityTimeout", "1", "deadLetterPolicy", `{"deadLetterQueue":"dead","policy":0,"maxReceiveCount":1}`)
	c.ok("SendMessage", "queueName", "q", "msgBody", "x")
	c.ok("ReceiveMessage", "queueName", "q")
	if got := c.ok("ReceiveMessage", "queueName", "dead", "pollingWaitSeconds", "5").Text("msgBody"); got != "x" {
		t.Errorf("the dead letter is %q", got)
	}
	c.ok("UnbindDeadLetterQueue", "queueName", "q")
	c.ok("DeleteQueue", "queueName", "dead")
	if _, err := dead.Attributes(t.Context()); !errors.Is(err, spool.ErrQueueNotFound) {
		t.Error("the queue is still there")
	}
}

func TestBatchDeleteInPart(t *testing.T) {
	s := serve(t, cmq.Options{})
	s.queue(t, "q", spool.Meta{})
	c := s.dial(t)
	c.ok("SendMessage", "queueName", "q", "msgBody", "x")
	handle := c.ok("ReceiveMessage", "queueName", "q").Text("receiptHandle")
	a := c.refused(6010, "(10150)", "BatchDeleteMessage", "queueName", "q", "receiptHandle.0", handle, "receiptHandle.1", handle, "receiptHandle.2", "x")
	list := a.Objects("errorList")
	if len(list) != 2 || list[0].Int("code") != 4430 || list[0].Text("receiptHandle") != handle || list[1].Int("code") != 4000 || list[1].Text("message") == "" {
		t.Errorf("errorList of %s", a.Raw)
	}
}

func TestListQueue(t *testing.T) {
	s := serve(t, cmq.Options{})
	for i := range 60 {
		s.queue(t, fmt.Sprintf("q-%02d", i), spool.Meta{})
	}
	c := s.dial(t)
	for _, l := range []struct {
		args         []string
		total, count int
		first        string
	}{
		{nil, 60, 20, "q-00"},
		{[]string{"limit", "50", "offset", "20"}, 60, 40, "q-20"},
		{[]string{"offset", "60"}, 60, 0, ""},
		{[]string{"searchWord", "-3", "limit", "3"}, 10, 3, "q-30"},
		{[]string{"searchWord", "%"}, 0, 0, ""},
	} {
		a := c.ok("ListQueue", l.args...)
		list := a.Objects("queueList")
		if a.Int("totalCount") != int64(l.total) || len(list) != l.count || l.count > 0 && (list[0].Text("queueName") != l.first || list[0].Text("queueId") == "") {
			t.Errorf("%v: %s", l.args, a.Raw)
		}
	}
}

// A queue that a Go program has made may hold what CMQ's queues cannot, and be set to it.
func TestQueuesOfPrograms(t *testing.T) {
	s := serve(t, cmq.Options{})
	q := s.queue(t, "q", spool.Meta{VisibilityTimeout: 1500 * time.Millisecond, PollingWait: time.Hour, Delay: time.Minute})
	c := s.dial(t)
	if got := c.ok("GetQueueAttributes", "queueName", "q").Int("visibilityTimeout"); got != 2 {
		t.Errorf("visibilityTimeout is %d, want 2", got)
	}
	if _, err := q.Send(t.Context(), spool.Message{Body: []byte("\xff\x00"), Delay: spool.NoDelay}); err != nil {
		t.Fatal(err)
	}
	a := c.ok("ReceiveMessage", "queueName", "q")
	if a.Text("msgBody") != "/wA=" || a.Text("msgBodyEncoding") != "base64" {
		t.Errorf("received %s", a.Raw)
	}
	c.ok("SendMessage", "queueName", "q", "msgBody", "as the queue says")
	c.ok("SendMessage", "queueName", "q", "msgBody", "at once", "delaySeconds", "0")
	if a := attributes(t, q); a.Delayed != 1 || a.Active != 1 {
		t.Errorf("%d delayed and %d active, want 1 and 1", a.Delayed, a.Active)
	}
}

func TestNew(t *testing.T) {
	for _, keys := range []map[string]string{nil, {"": "x"}, {"id": ""}} {
		if _, err := cmq.New(nil, cmq.Options{Keys: keys}); err == nil {
			t.Errorf("keys %v are accepted", keys)
		}
	}
}
