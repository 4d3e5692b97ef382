package systems

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/mattn/go-sqlite3"
	_ "modernc.org/sqlite"

	"github.com/spoolmq/spool/bench/workload"
)

const sqliteSchema = `
CREATE TABLE IF NOT EXISTS messages (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	queue      INTEGER NOT NULL,
	sent_at    INTEGER NOT NULL,
	visible_at INTEGER NOT NULL,
	receives   INTEGER NOT NULL DEFAULT 0,
	body       BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_visible ON messages (queue, visible_at);`

const (
	sqliteLease = time.Hour
	sqlitePoll  = 5 * time.Millisecond
)

// mattn is a table in SQLite through cgo.
func mattn(durable bool) workload.System {
	return sqlite("sqlite-mattn", "sqlite3", "file:%s?_journal_mode=WAL&_synchronous=%s&_busy_timeout=10000&_txlock=immediate", durable)
}

// modernc is a table in SQLite translated to Go.
func modernc(durable bool) workload.System {
	return sqlite("sqlite-modernc", "sqlite",
		"file:%s?_pragma=journal_mode(WAL)&_pragma=synchronous(%s)&_pragma=busy_timeout(10000)&_txlock=immediate", durable)
}

func sqlite(name, driver, dsn string, durable bool) workload.System {
	mode := choose(durable, "FULL", "NORMAL")
	return workload.System{
		Name: name, Batch: bulk, Queues: true, Fresh: true,
		Config: "WAL, synchronous=" + mode + ", index on (queue, visible_at), prepared statements on one connection; " +
			"sends wake receivers in the process, which poll every 5 ms once something was delayed",
		Open: func(dir string) (workload.Store, error) {
			db, err := sql.Open(driver, fmt.Sprintf(dsn, filepath.Join(dir, "queue.db"), mode))
			if err != nil {
				return nil, err
			}
			db.SetMaxOpenConns(1)
			s := &sqliteStore{db: db, bells: map[int]*bell{}}
			if err := s.prepare(); err != nil {
				return nil, errors.Join(err, db.Close())
			}
			return s, nil
		},
	}
}

type sqliteStore struct {
	db                     *sql.DB
	insert, claim, destroy *sql.Stmt
	polls                  atomic.Bool

	mu    sync.Mutex
	bells map[int]*bell // guarded by mu: by queue
}

func (s *sqliteStore) end(queue int) sqliteEnd {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.bells[queue]
	if !ok {
		b = new(bell)
		s.bells[queue] = b
	}
	return sqliteEnd{s, queue, b}
}

func (s *sqliteStore) prepare() (err error) {
	if _, err = s.db.Exec(sqliteSchema); err != nil {
		return err
	}
	if s.insert, err = s.db.Prepare(`INSERT INTO messages (queue, sent_at, visible_at, body) VALUES (?, ?, ?, ?)`); err != nil {
		return err
	}
	if s.claim, err = s.db.Prepare(`UPDATE messages SET visible_at = ?, receives = receives + 1 WHERE id IN
		(SELECT id FROM messages WHERE queue = ? AND visible_at <= ? ORDER BY visible_at, id LIMIT ?) RETURNING id, sent_at, body`); err != nil {
		return err
	}
	s.destroy, err = s.db.Prepare(`DELETE FROM messages WHERE id = ?`)
	return err
}

func (s *sqliteStore) Waiting() (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.bells {
		n += b.waiting()
	}
	return n, nil
}

func (s *sqliteStore) Close() error {
	return errors.Join(s.insert.Close(), s.claim.Close(), s.destroy.Close(), s.db.Close())
}

func (s *sqliteStore) Producer(queue int) (workload.Producer, error) { return s.end(queue), nil }
func (s *sqliteStore) Consumer(queue int) (workload.Consumer, error) { return s.end(queue), nil }

type sqliteEnd struct {
	*sqliteStore
	queue int
	bell  *bell
}

func (sqliteEnd) Close() error { return nil }

func (s sqliteEnd) Send(ctx context.Context, bodies [][]byte) error {
	return s.send(ctx, bodies, nil)
}

func (s sqliteEnd) SendDelayed(ctx context.Context, bodies [][]byte, delays []time.Duration) error {
	s.polls.Store(true)
	return s.send(ctx, bodies, delays)
}

func (s sqliteEnd) send(ctx context.Context, bodies [][]byte, delays []time.Duration) error {
	now := time.Now()
	err := s.transact(ctx, len(bodies), s.insert, func(i int) []any {
		due := now
		if delays != nil {
			due = now.Add(delays[i])
		}
		return []any{s.queue, now.UnixNano(), due.UnixNano(), bodies[i]}
	})
	if err == nil {
		s.bell.ring(len(bodies))
	}
	return err
}

// transact executes a statement n times in one transaction, without one if n is 1.
func (s sqliteEnd) transact(ctx context.Context, n int, stmt *sql.Stmt, args func(i int) []any) error {
	if n == 1 {
		_, err := stmt.ExecContext(ctx, args(0)...)
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	own := tx.StmtContext(ctx, stmt)
	for i := range n {
		if _, err := own.ExecContext(ctx, args(i)...); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

func (s sqliteEnd) Receive(ctx context.Context, into []workload.Message) (int, error) {
	for ctx.Err() == nil {
		w := s.bell.join()
		n, err := s.take(into) // not under ctx: a claim that is cut off may have claimed
		if n > 0 || err != nil {
			s.bell.leave(w)
			return n, err
		}
		var poll <-chan time.Time
		if s.polls.Load() {
			poll = time.After(sqlitePoll)
		}
		select {
		case <-w:
			continue
		case <-poll:
		case <-ctx.Done():
		}
		s.bell.leave(w)
	}
	return 0, ctx.Err()
}

func (s sqliteEnd) take(into []workload.Message) (n int, err error) {
	now := time.Now()
	rows, err := s.claim.Query(now.Add(sqliteLease).UnixNano(), s.queue, now.UnixNano(), len(into))
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		var sent int64
		m := workload.Message{}
		if err := rows.Scan(&m.ID, &sent, &m.Body); err != nil {
			return n, err
		}
		m.SentAt = time.Unix(0, sent)
		into[n] = m
	}
	return n, rows.Err()
}

func (s sqliteEnd) Delete(ctx context.Context, ms []workload.Message) error {
	return s.transact(ctx, len(ms), s.destroy, func(i int) []any { return []any{ms[i].ID} })
}
