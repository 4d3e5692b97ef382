package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spoolmq/spool"
)

// account is who owns all queues.
const account = "000000000000"

const (
	maxListed   = 1000 // queues in one reply
	maxNameText = 512  // bytes of a QueueUrl, beyond which it is none
)

// baseURL is what the URLs of queues begin with: they lead back to where the client has found us.
func baseURL(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host + "/" + account + "/"
}

func (c *call) urlOf(name string) string { return c.base + name }

func (c *call) arnOf(name string) string {
	return "arn:aws:sqs:" + c.region + ":" + account + ":" + name
}

// nameOfARN is the queue that an ARN names: its region and its account do not count, its form does.
func nameOfARN(arn string) (name string, ok bool) {
	parts := strings.Split(arn, ":")
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != service || parts[5] == "" {
		return "", false
	}
	return parts[5], true
}

// queueRef is in every request that is about one queue.
type queueRef struct{ QueueUrl string }

// queue finds the queue by the last part of its URL. SDKs that post to the URL of the queue have it in the path too.
func (c *call) queue(ref queueRef) (*spool.Queue, error) {
	text := ref.QueueUrl
	if text == "" {
		text = strings.TrimPrefix(c.path, "/")
	}
	if text == "" {
		return nil, refuse("MissingParameter", "QueueUrl is missing")
	}
	u, err := url.Parse(text)
	if err != nil || len(text) > maxNameText {
		return nil, refuse("InvalidAddress", "QueueUrl is not a URL")
	}
	return c.named(u.Path[strings.LastIndex(u.Path, "/")+1:])
}

func (c *call) named(name string) (*spool.Queue, error) {
	q, err := c.spool.Queue(name)
	if errors.Is(err, spool.ErrQueueNotFound) {
		return nil, refuse("QueueDoesNotExist", "the queue %q does not exist", clip(name))
	}
	return q, err
}

type queueURL struct{ QueueUrl string }

type empty struct{}

type createQueueIn struct {
	QueueName  string
	Attributes map[string]string
	Tags       map[string]string
}

// createQueue answers the queue that is there already when it has the attributes that are asked for.
func (c *call) createQueue(in *createQueueIn) (*queueURL, error) {
	if in.QueueName == "" {
		return nil, refuse("MissingParameter", "QueueName is missing")
	}
	if strings.HasSuffix(in.QueueName, ".fifo") {
		return nil, refuse("UnsupportedOperation", "FIFO queues are not served")
	}
	if len(in.Tags) > 0 {
		return nil, refuse("UnsupportedOperation", "tags are not stored")
	}
	change, err := parseAttributes(in.Attributes)
	if err != nil {
		return nil, err
	}
	meta := spool.Meta{MaxMessageSize: maxMessageBytes}
	change(&meta)
	q, err := c.spool.CreateQueue(c.ctx, in.QueueName, meta)
	if errors.Is(err, spool.ErrQueueExists) {
		q, err = c.sameQueue(in.QueueName, change)
	}
	if err != nil {
		return nil, attributeError(err)
	}
	return &queueURL{c.urlOf(q.Name())}, nil
}

// sameQueue finds the queue if change changes nothing of it.
func (c *call) sameQueue(name string, change func(*spool.Meta)) (*spool.Queue, error) {
	q, err := c.spool.Queue(name)
	if err != nil {
		return nil, refuse("QueueNameExists", "there is a queue of this name in other capitals")
	}
	has, want := q.Meta(), q.Meta()
	if change(&want); !reflect.DeepEqual(has, want) {
		return nil, refuse("QueueNameExists", "the queue %s exists with other attributes", name)
	}
	return q, nil
}

type getQueueURLIn struct{ QueueName string }

func (c *call) getQueueURL(in *getQueueURLIn) (*queueURL, error) {
	if in.QueueName == "" {
		return nil, refuse("MissingParameter", "QueueName is missing")
	}
	q, err := c.named(in.QueueName)
	if err != nil {
		return nil, err
	}
	return &queueURL{c.urlOf(q.Name())}, nil
}

// A page is the part of a list that is asked for.
type page struct {
	MaxResults *int
	NextToken  string
}

// cut returns the URLs of a page of names, which are sorted, and the token of the next page. A token holds the last name
// of its page: queues that come and go meanwhile move nothing.
func (c *call) cut(names []string, p page) (urls []string, next string, err error) {
	most := maxListed
	if p.MaxResults != nil {
		if most = *p.MaxResults; most < 1 || most > maxListed {
			return nil, "", refuse("InvalidParameterValue", "MaxResults is %d, want 1 to %d", most, maxListed)
		}
	}
	if p.NextToken != "" {
		last, err := base64.RawURLEncoding.DecodeString(p.NextToken)
		if err != nil {
			return nil, "", refuse("InvalidParameterValue", "NextToken is not one of ours")
		}
		i, found := slices.BinarySearch(names, string(last))
		if found {
			i++
		}
		names = names[i:]
	}
	if len(names) > most {
		names = names[:most]
		if p.MaxResults != nil { // as in SQS, who names no limit gets no token
			next = base64.RawURLEncoding.EncodeToString([]byte(names[most-1]))
		}
	}
	urls = make([]string, len(names))
	for i, name := range names {
		urls[i] = c.urlOf(name)
	}
	return urls, next, nil
}

type listQueuesIn struct {
	page
	QueueNamePrefix string
}

type listQueuesOut struct {
	QueueUrls []string `json:",omitempty"`
	NextToken string   `json:",omitempty"`
}

func (c *call) listQueues(in *listQueuesIn) (out listQueuesOut, err error) {
	var names []string
	for _, q := range c.spool.Queues() {
		if strings.HasPrefix(q.Name(), in.QueueNamePrefix) {
			names = append(names, q.Name())
		}
	}
	out.QueueUrls, out.NextToken, err = c.cut(names, in.page)
	return out, err
}

type listSourcesIn struct {
	queueRef
	page
}

type listSourcesOut struct {
	QueueUrls []string `json:"queueUrls"`
	NextToken string   `json:",omitempty"`
}

func (c *call) listDeadLetterSourceQueues(in *listSourcesIn) (out listSourcesOut, err error) {
	target, err := c.queue(in.queueRef)
	if err != nil {
		return out, err
	}
	var names []string
	for _, q := range c.spool.Queues() {
		if d := q.Meta().DeadLetter; d != nil && d.Queue == target.Name() {
			names = append(names, q.Name())
		}
	}
	out.QueueUrls, out.NextToken, err = c.cut(names, in.page)
	return out, err
}

func (c *call) purgeQueue(in *queueRef) (*empty, error) {
	q, err := c.queue(*in)
	if err != nil {
		return nil, err
	}
	return &empty{}, q.Purge(c.ctx)
}

func (c *call) deleteQueue(in *queueRef) (*empty, error) {
	q, err := c.queue(*in)
	if err != nil {
		return nil, err
	}
	err = c.spool.DeleteQueue(c.ctx, q.Name())
	if errors.Is(err, spool.ErrInvalidArgument) {
		return nil, refuse("UnsupportedOperation", "the queue is the dead-letter queue of another one: %v", err)
	}
	return &empty{}, err
}

type rewindQueueIn struct {
	queueRef
	Timestamp json.Number // seconds since 1970, with a fraction as the case may be
}

type rewindQueueOut struct{ RestoredMessages int64 }

// rewindQueue brings deleted messages back that were sent at Timestamp or later.
func (c *call) rewindQueue(in *rewindQueueIn) (*rewindQueueOut, error) {
	q, err := c.queue(in.queueRef)
	if err != nil {
		return nil, err
	}
	to, err := parseTimestamp(in.Timestamp)
	if err != nil {
		return nil, err
	}
	n, err := q.Rewind(c.ctx, to)
	return &rewindQueueOut{n}, err
}

// parseTimestamp reads seconds exactly: a float64 would be off by a hundred nanoseconds.
func parseTimestamp(n json.Number) (time.Time, error) {
	const longest = 32 // characters: no exponent, nothing to compute for long
	text := n.String()
	if text == "" {
		return time.Time{}, refuse("MissingParameter", "Timestamp is missing")
	}
	r := new(big.Rat)
	if len(text) > longest || strings.Trim(text, "-.0123456789") != "" {
		r = nil
	} else if _, ok := r.SetString(text); !ok {
		r = nil
	}
	if r == nil {
		return time.Time{}, refuse("InvalidParameterValue", "Timestamp is not a number of seconds")
	}
	r.Mul(r, big.NewRat(int64(time.Second), 1))
	ns := new(big.Int).Quo(r.Num(), r.Denom())
	if !ns.IsInt64() {
		return time.Time{}, refuse("InvalidParameterValue", "Timestamp is out of range")
	}
	return time.Unix(0, ns.Int64()), nil
}
