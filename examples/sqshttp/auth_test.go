package main

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

var wrongKey = aws.Credentials{AccessKeyID: goodKey.AccessKeyID, SecretAccessKey: "a guess"}

func withKeys(o *siteOptions) {
	o.keys = keyring{"OTHER": "another secret", goodKey.AccessKeyID: goodKey.SecretAccessKey}
}

// The SDK's own client is let in, with a session token too; one with another secret is not.
func TestSigned(t *testing.T) {
	s := newSite(t, withKeys, nil)
	jobs := s.create("jobs", nil)
	s.send(jobs, "x")
	temporary := goodKey
	temporary.SessionToken = "session"
	c := newClient(t, s.url, temporary)
	if _, err := c.PurgeQueue(t.Context(), &sqs.PurgeQueueInput{QueueUrl: jobs}); err != nil {
		t.Errorf("with a session token: %v", err)
	}
	for key, want := range map[aws.Credentials]string{
		wrongKey: "SignatureDoesNotMatch",
		{AccessKeyID: "NOBODY", SecretAccessKey: goodKey.SecretAccessKey}: "InvalidClientTokenId",
		{AccessKeyID: "OTHER", SecretAccessKey: goodKey.SecretAccessKey}:  "SignatureDoesNotMatch",
	} {
		_, err := newClient(t, s.url, key).ListQueues(t.Context(), &sqs.ListQueuesInput{})
		if codeOf(err) != want || statusOf(err) != 403 {
			t.Errorf("as %s with %q: %v, want %s", key.AccessKeyID, key.SecretAccessKey, err, want)
		}
	}
	anonymous := sqs.New(sqs.Options{Region: "eu-west-1", BaseEndpoint: &s.url, Credentials: aws.AnonymousCredentials{}}, noRetry)
	_, err := anonymous.ListQueues(t.Context(), &sqs.ListQueuesInput{})
	if !is[*types.InvalidSecurity](err) && !strings.Contains(err.Error(), "credentials") {
		t.Errorf("without credentials: %v, want InvalidSecurity", err)
	}
}

const (
	listBody  = `{"QueueNamePrefix":"a"}`
	otherBody = `{"QueueNamePrefix":"b"}`
)

// signed returns a request as the SDKs' signer signs it, and what change did to it afterwards.
func signed(t *testing.T, s *site, at time.Time, service string, sent string, change func(*http.Request)) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url, strings.NewReader(sent))
	check(t, err)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("X-Amz-Target", "AmazonSQS.ListQueues")
	check(t, v4.NewSigner().SignHTTP(t.Context(), goodKey, r, hashOf(listBody), service, "eu-west-1", at))
	if change != nil {
		change(r)
	}
	return r
}

func TestSignature(t *testing.T) {
	s := newSite(t, withKeys, nil)
	now := time.Now()
	edit := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		}
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for name, tt := range map[string]struct {
		req  *http.Request
		want string // a shape; "" = let in
	}{
		"as it was signed":       {signed(t, s, now, "sqs", listBody, nil), ""},
		"14 minutes old":         {signed(t, s, now.Add(-14*time.Minute), "sqs", listBody, nil), ""},
		"14 minutes ahead":       {signed(t, s, now.Add(14*time.Minute), "sqs", listBody, nil), ""},
		"16 minutes old":         {signed(t, s, now.Add(-16*time.Minute), "sqs", listBody, nil), "RequestExpired"},
		"16 minutes ahead":       {signed(t, s, now.Add(16*time.Minute), "sqs", listBody, nil), "RequestExpired"},
		"another body":           {signed(t, s, now, "sqs", otherBody, nil), "SignatureDoesNotMatch"},
		"another body, its hash": {signed(t, s, now, "sqs", otherBody, header("X-Amz-Content-Sha256", hashOf(listBody))), "SignatureDoesNotMatch"},
		"an unsigned payload":    {signed(t, s, now, "sqs", otherBody, header("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")), "SignatureDoesNotMatch"},
		"another operation":      {signed(t, s, now, "sqs", listBody, header("X-Amz-Target", "AmazonSQS.DeleteQueue")), "SignatureDoesNotMatch"},
		"another date":           {signed(t, s, now.Add(-time.Hour), "sqs", listBody, header("X-Amz-Date", now.UTC().Format(dateFormat))), "SignatureDoesNotMatch"},
		"a date that is none":    {signed(t, s, now, "sqs", listBody, header("X-Amz-Date", "today")), "SignatureDoesNotMatch"},
		"another path":           {signed(t, s, now, "sqs", listBody, func(r *http.Request) { r.URL.Path = "/000000000000/jobs" }), "SignatureDoesNotMatch"},
		"another query":          {signed(t, s, now, "sqs", listBody, func(r *http.Request) { r.URL.RawQuery = "a=b" }), "SignatureDoesNotMatch"},
		"another host":           {signed(t, s, now, "sqs", listBody, func(r *http.Request) { r.Host = "example.org" }), "SignatureDoesNotMatch"},
		"another service":        {signed(t, s, now, "s3", listBody, nil), "SignatureDoesNotMatch"},
		"another region":         {signed(t, s, now, "sqs", listBody, edit("eu-west-1", "us-west-1")), "SignatureDoesNotMatch"},
		"another key":            {signed(t, s, now, "sqs", listBody, edit(goodKey.AccessKeyID, "OTHER")), "SignatureDoesNotMatch"},
		"target taken away":      {signed(t, s, now, "sqs", listBody, edit(";x-amz-target", "")), "SignatureDoesNotMatch"},
		"target never signed":    {targetNotSigned(t, s, now), "SignatureDoesNotMatch"},
		"an empty signature":     {signed(t, s, now, "sqs", listBody, func(r *http.Request) { cutAfter(r, "Signature=") }), "InvalidSecurity"},
		"a short signature":      {signed(t, s, now, "sqs", listBody, func(r *http.Request) { cutAfter(r, "Signature=abcdef"[:10]) }), "InvalidSecurity"},
		"a zero signature": {signed(t, s, now, "sqs", listBody, func(r *http.Request) {
			cutAfter(r, "Signature=")
			r.Header.Set("Authorization", r.Header.Get("Authorization")+strings.Repeat("0", 64))
		}), "SignatureDoesNotMatch"},
		"a bad region":     {signed(t, s, now, "sqs", listBody, edit("eu-west-1", "EU WEST")), "InvalidSecurity"},
		"another scheme":   {signed(t, s, now, "sqs", listBody, header("Authorization", "Basic bWU6c2VjcmV0")), "InvalidSecurity"},
		"no authorization": {signed(t, s, now, "sqs", listBody, func(r *http.Request) { r.Header.Del("Authorization") }), "InvalidSecurity"},
	} {
		status, text := s.do(tt.req)
		if tt.want == "" && status != http.StatusOK || tt.want != "" && (status/100 != 4 || !strings.Contains(text, "#"+tt.want+`"`)) {
			t.Errorf("%s: %d %s, want %q", name, status, text, tt.want)
		}
	}
	if log := s.log.String(); strings.Contains(log, goodKey.SecretAccessKey) || !strings.Contains(log, "key="+goodKey.AccessKeyID) {
		t.Errorf("the log has the secret or lacks the key:\n%s", log)
	}
}

// targetNotSigned is a request with a good signature that says nothing of what is to be done.
func targetNotSigned(t *testing.T, s *site, at time.Time) *http.Request {
	r := signed(t, s, at, "sqs", listBody, nil)
	target := r.Header.Get("X-Amz-Target")
	r.Header.Del("X-Amz-Target")
	check(t, v4.NewSigner().SignHTTP(t.Context(), goodKey, r, hashOf(listBody), "sqs", "eu-west-1", at))
	r.Header.Set("X-Amz-Target", target)
	return r
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func cutAfter(r *http.Request, mark string) {
	text := r.Header.Get("Authorization")
	r.Header.Set("Authorization", text[:strings.Index(text, mark)+len(mark)])
}
