package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spoolmq/spool"
)

// FuzzRequest feeds requests to every operation. Whatever comes, the reply is JSON, and no client can make the server fail.
func FuzzRequest(f *testing.F) {
	for name := range operations {
		f.Add(name, `{}`, "", "")
	}
	for _, seed := range []struct{ name, body string }{
		{"SendMessage", `{"QueueUrl":"q","MessageBody":"x","DelaySeconds":0,"MessageAttributes":{"a.b":{"DataType":"Number.int","StringValue":"1"},"c":{"DataType":"Binary","BinaryValue":"AAE="}},"MessageSystemAttributes":{"AWSTraceHeader":{"DataType":"String","StringValue":"x"}},"MessageGroupId":"g"}`},
		{"SendMessageBatch", `{"QueueUrl":"http://x/0/q","Entries":[{"Id":"1","MessageBody":"x"},{"Id":"2","MessageBody":""}]}`},
		{"ReceiveMessage", `{"QueueUrl":"q","MaxNumberOfMessages":10,"WaitTimeSeconds":0,"VisibilityTimeout":0,"AttributeNames":["All"],"MessageAttributeNames":["a.*",".*"]}`},
		{"CreateQueue", `{"QueueName":"r","Attributes":{"RedrivePolicy":"{\"deadLetterTargetArn\":\"arn:aws:sqs:x:0:q\",\"maxReceiveCount\":\"5\"}","DelaySeconds":"5"}}`},
		{"DeleteMessageBatch", `{"QueueUrl":"q","Entries":[{"Id":"a","ReceiptHandle":"AgAAAAAAAAAAAAAAAQAAAAABAAAAAAAA6_FnescjCQxrqsekW4kK9A"}]}`},
		{"ChangeMessageVisibility", `{"QueueUrl":"q","ReceiptHandle":"x","VisibilityTimeout":43200}`},
		{"ListQueues", `{"MaxResults":1,"NextToken":"cQ","QueueNamePrefix":"q"}`},
		{"RewindQueue", `{"QueueUrl":"q","Timestamp":1700000000.5}`},
		{"GetQueueAttributes", `{"QueueUrl":"q","AttributeNames":["All","QueueArn"]}`},
	} {
		f.Add(seed.name, seed.body, "AWS4-HMAC-SHA256 Credential=k/20260101/eu-west-1/sqs/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature="+strings.Repeat("0", 64), "20260101T000000Z")
	}
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, name, body, authorization, date string) {
		s, err := spool.OpenMemory()
		check(t, err)
		defer s.Close()
		q, err := s.CreateQueue(t.Context(), "q", spool.Meta{Rewind: time.Hour})
		check(t, err)
		_, err = q.Send(t.Context(), spool.Message{Body: []byte{0xff}, Attributes: map[string]string{"a": "\xff", "a:type": "x"}})
		check(t, err)
		for _, keys := range []keyring{nil, {"k": "secret"}} {
			ctx, stop := context.WithCancel(t.Context())
			sqs := NewServer(s, keys, log)
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(body))
			r.Header.Set("X-Amz-Target", targetPrefix+name)
			r.Header.Set("Authorization", authorization)
			r.Header.Set("X-Amz-Date", date)
			alarm := time.AfterFunc(20*time.Millisecond, sqs.Drain) // the end of every poll
			sqs.ServeHTTP(w, r)
			alarm.Stop()
			stop()
			if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s %q is answered with %d %q", name, body, w.Code, w.Body)
			}
			if keys != nil && w.Code == http.StatusOK {
				t.Errorf("%s %q was let in with %q", name, body, authorization)
			}
		}
	})
}
