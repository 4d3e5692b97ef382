package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/spoolmq/spool"
)

func Example() {
	s, err := spool.OpenMemory()
	fatal(err)
	defer s.Close()
	server := httptest.NewServer(NewServer(s, nil, slog.New(slog.DiscardHandler)))
	defer server.Close()
	endpoint := server.URL

	ctx := context.Background()
	client := sqs.New(sqs.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(endpoint), // http://127.0.0.1:9324
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "me", SecretAccessKey: "secret"}, nil
		}),
	})
	jobs, err := client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("jobs")})
	fatal(err)
	_, err = client.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: jobs.QueueUrl, MessageBody: aws.String("hello")})
	fatal(err)
	out, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: jobs.QueueUrl, WaitTimeSeconds: 20})
	fatal(err)
	for _, m := range out.Messages {
		fmt.Println(*m.Body)
		_, err := client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: jobs.QueueUrl, ReceiptHandle: m.ReceiptHandle})
		fatal(err)
	}
	// Output: hello
}

func fatal(err error) {
	if err != nil {
		panic(err)
	}
}

// rewindQueue brings the deleted messages of a queue back that were sent at to or later, and returns how many.
func rewindQueue(ctx context.Context, endpoint string, key aws.Credentials, queueURL string, to time.Time) (int64, error) {
	body := fmt.Appendf(nil, `{"QueueUrl":%q,"Timestamp":%d.%09d}`, queueURL, to.Unix(), to.Nanosecond())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", "AmazonSQS.RewindQueue")
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(ctx, key, req, hex.EncodeToString(sum[:]), "sqs", "us-east-1", time.Now())
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", res.Status, text)
	}
	var out struct{ RestoredMessages int64 }
	err = json.Unmarshal(text, &out)
	return out.RestoredMessages, err
}
