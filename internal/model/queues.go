package model

import (
	"slices"
	"strings"
	"time"
)

// This file makes, changes and deletes queues.

// Queue finds a queue by its exact name.
func (s *Spool) Queue(name string) *Queue {
	for _, q := range s.Queues {
		if q.Name == name {
			return q
		}
	}
	return nil
}

// Taken says whether a queue has the name, in whatever case.
func (s *Spool) Taken(name string) bool {
	return slices.ContainsFunc(s.Queues, func(q *Queue) bool { return strings.EqualFold(q.Name, name) })
}

// Create makes a queue.
func (s *Spool) Create(name string, meta Meta, now Span) (*Queue, string) {
	if !validName(name) {
		return nil, ErrInvalidArgument
	}
	meta = withDefaults(meta)
	if fail := s.valid(name, meta); fail != OK {
		return nil, fail
	}
	if s.Taken(name) {
		return nil, ErrQueueExists
	}
	q := &Queue{Name: name, Meta: meta, Created: now, Modified: now, s: s}
	s.Queues = append(s.Queues, q)
	return q, OK
}

// Drop deletes a queue.
func (s *Spool) Drop(name string) string {
	q := s.Queue(name)
	if q == nil {
		return ErrQueueNotFound
	}
	for _, o := range s.Queues {
		if o.Meta.DeadLetter != nil && o.Meta.DeadLetter.Queue == name {
			return ErrInvalidArgument
		}
	}
	q.Dropped = true
	for _, m := range q.Messages {
		m.State = Gone
	}
	s.Queues = slices.DeleteFunc(s.Queues, func(o *Queue) bool { return o == q })
	return OK
}

// SetMeta changes a queue. Dead-letter moves that follow from it are in Arrivals.
func (q *Queue) SetMeta(meta Meta, now Span) string {
	meta = withDefaults(meta)
	if fail := q.s.valid(q.Name, meta); fail != OK {
		return fail
	}
	q.Meta, q.Modified = meta, now
	q.s.Advance(q.s.clock)
	return OK
}

func withDefaults(m Meta) Meta {
	if m.Visibility == 0 {
		m.Visibility = 30 * time.Second
	}
	if m.MaxSize == 0 {
		m.MaxSize = 64 << 10
	}
	if m.Retention == 0 {
		m.Retention = 4 * day
	}
	if m.MaxMessages == 0 {
		m.MaxMessages = 100_000_000
	}
	return m
}

const day = 24 * time.Hour

func (s *Spool) valid(name string, m Meta) string {
	ok := m.Visibility > 0 && m.Visibility <= 365*day &&
		m.PollingWait >= 0 && m.PollingWait <= day &&
		m.MaxSize >= 1 && m.MaxSize <= 16<<20 &&
		m.Retention >= time.Second && m.Retention <= 3650*day &&
		m.Rewind >= 0 && m.Rewind <= m.Retention &&
		m.MaxMessages >= 1 && m.MaxMessages <= 1_000_000_000 &&
		m.Delay >= 0 && m.Delay < m.Retention
	if dl := m.DeadLetter; ok && dl != nil {
		target := s.Queue(dl.Queue)
		ok = dl.Queue != name && target != nil && target.Meta.DeadLetter == nil &&
			dl.MaxReceives >= 0 && dl.MaxReceives <= 1000 && dl.MaxAge >= 0 && dl.MaxAge < m.Retention &&
			(dl.MaxReceives > 0 || dl.MaxAge > 0)
		for _, o := range s.Queues { // no nesting: a target has no rule of its own
			ok = ok && (o.Meta.DeadLetter == nil || o.Meta.DeadLetter.Queue != name)
		}
	}
	if !ok {
		return ErrInvalidArgument
	}
	return OK
}

func validName(name string) bool {
	for i, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || !('0' <= c && c <= '9' || c == '_' || c == '-')) {
			return false
		}
	}
	return 1 <= len(name) && len(name) <= 64
}
