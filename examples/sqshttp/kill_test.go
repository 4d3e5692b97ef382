package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// A child is the server in a process of its own.
type child struct {
	cmd  *exec.Cmd
	url  string
	done chan struct{} // closed when all it wrote has been read
}

var addressLine = regexp.MustCompile(`msg=listening addr=(\S+)`)

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-dir", dir, "-listen", "127.0.0.1:0", "-keys", goodKey.AccessKeyID+":"+goodKey.SecretAccessKey)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	stderr, err := cmd.StderrPipe()
	check(t, err)
	check(t, cmd.Start())
	c := &child{cmd: cmd, done: make(chan struct{})}
	t.Cleanup(func() { c.end(os.Kill) })
	address := make(chan string, 1)
	go func() {
		defer close(c.done)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if m := addressLine.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
				break
			}
		}
		_, _ = io.Copy(io.Discard, stderr)
	}()
	c.url = "http://" + arrives(t, address, "address of the server")
	return c
}

// end sends the child a signal, and returns how it ended.
func (c *child) end(signal os.Signal) error {
	_ = c.cmd.Process.Signal(signal)
	<-c.done
	return c.cmd.Wait()
}

// A ledger is what clients know of the messages they sent and deleted.
type ledger struct {
	mu      sync.Mutex
	tried   map[string]bool // guarded by mu; sends
	sent    map[string]bool // guarded by mu; sends that were answered
	erasing map[string]bool // guarded by mu; deletions
	erased  map[string]bool // guarded by mu; deletions that were answered
	enough  chan struct{}   // closed at goal
	goal    int             // guarded by mu; answers that are still to come
}

func newLedger() *ledger {
	return &ledger{tried: map[string]bool{}, sent: map[string]bool{}, erasing: map[string]bool{}, erased: map[string]bool{}}
}

// await makes enough close after n more answers.
func (l *ledger) await(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.goal, l.enough = n, make(chan struct{})
}

func (l *ledger) note(set map[string]bool, body string, answer bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	set[body] = true
	if answer {
		if l.goal--; l.goal == 0 {
			close(l.enough)
		}
	}
}

// produce sends one message after the other until the server is gone.
func (l *ledger) produce(ctx context.Context, c *sqs.Client, queue *string, prefix string) {
	for i := 0; ; i++ {
		body := fmt.Sprintf("%s-%d", prefix, i)
		l.note(l.tried, body, false)
		if _, err := c.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: queue, MessageBody: &body}); err != nil {
			return
		}
		l.note(l.sent, body, true)
	}
}

// consume receives and deletes until the server is gone, or nothing came for wait seconds.
func (l *ledger) consume(ctx context.Context, c *sqs.Client, queue *string, wait int32) error {
	for {
		out, err := c.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: queue, MaxNumberOfMessages: 10, WaitTimeSeconds: wait})
		if err != nil || len(out.Messages) == 0 {
			return err
		}
		var entries []types.DeleteMessageBatchRequestEntry
		for i, m := range out.Messages {
			l.mu.Lock()
			again := l.erased[*m.Body]
			l.mu.Unlock()
			if again {
				return fmt.Errorf("%s came again after its deletion was answered", *m.Body)
			}
			l.note(l.erasing, *m.Body, false)
			entries = append(entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)), ReceiptHandle: m.ReceiptHandle})
		}
		done, err := c.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: queue, Entries: entries})
		if err != nil {
			return err
		}
		for _, e := range done.Successful {
			var i int
			_, _ = fmt.Sscan(*e.Id, &i)
			l.note(l.erased, *out.Messages[i].Body, true)
		}
	}
}

// The server is killed in the middle of traffic, again and again. What a client was told to be stored is there; what it was
// told to be deleted is not.
func TestKill(t *testing.T) {
	cycles := 4
	if testing.Short() {
		cycles = 2
	}
	dir := t.TempDir()
	l := newLedger()
	for cycle := range cycles {
		server := startChild(t, dir)
		client := newClient(t, server.url, goodKey)
		queue, err := client.CreateQueue(t.Context(), &sqs.CreateQueueInput{
			QueueName: aws.String("jobs"), Attributes: map[string]string{"VisibilityTimeout": "1"},
		})
		check(t, err)
		l.await(500)
		var wg sync.WaitGroup
		wrong := make(chan error, 2)
		for p := range 4 {
			wg.Go(func() { l.produce(t.Context(), client, queue.QueueUrl, fmt.Sprintf("%d-%d", cycle, p)) })
		}
		for range 2 {
			wg.Go(func() {
				if err := l.consume(t.Context(), client, queue.QueueUrl, 20); err != nil && codeOf(err) == "" && !isNetwork(err) {
					wrong <- err
				}
			})
		}
		arrives(t, l.enough, "end of 500 answers")
		_ = server.end(os.Kill)
		wg.Wait()
		close(wrong)
		for err := range wrong {
			t.Error(err)
		}
	}

	server := startChild(t, dir)
	client := newClient(t, server.url, goodKey)
	left := newLedger()
	left.erased = maps.Clone(l.erased)
	check(t, left.consume(t.Context(), client, aws.String(server.url+"/000000000000/jobs"), 3)) // longer than a lease
	for body := range l.sent {
		if !l.erasing[body] && !left.erasing[body] {
			t.Errorf("%s was stored and is lost", body)
		}
	}
	for body := range left.erasing {
		if !l.tried[body] {
			t.Errorf("%s was never sent", body)
		}
	}
	t.Logf("%d kills: %d of %d sends and %d of %d deletions were answered, %d messages were left",
		cycles, len(l.sent), len(l.tried), len(l.erased), len(l.erasing), len(left.erasing))
	if err := server.end(os.Interrupt); err != nil {
		t.Errorf("after an interrupt the server ended with %v", err)
	}
}
