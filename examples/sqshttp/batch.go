package main

const (
	maxEntries = 10
	maxEntryID = 80 // characters
)

// batchID names an entry of a batch within its request.
type batchID struct{ Id string }

func (b batchID) entryID() string { return b.Id }

type batchOut[T any] struct {
	Successful []T           `json:",omitempty"`
	Failed     []failedEntry `json:",omitempty"`
}

type failedEntry struct {
	Id, Code, Message string
	SenderFault       bool
}

// fail adds an entry's own failure: those of the others are not touched by it.
func (b *batchOut[T]) fail(id string, err error) {
	e := translate(err)
	b.Failed = append(b.Failed, failedEntry{id, e.old(), e.text, e.senderFault()})
}

// checkBatch is what is wrong with a batch as a whole.
func checkBatch[E interface{ entryID() string }](entries []E) error {
	switch n := len(entries); {
	case n == 0:
		return refuse("EmptyBatchRequest", "the batch has no entry")
	case n > maxEntries:
		return refuse("TooManyEntriesInBatchRequest", "the batch has %d entries, limit %d", n, maxEntries)
	}
	seen := map[string]bool{}
	for _, e := range entries {
		id := e.entryID()
		if !validEntryID(id) {
			return refuse("InvalidBatchEntryId", "the Id %q is not 1 to %d letters, digits, '-' and '_'", clip(id), maxEntryID)
		}
		if seen[id] {
			return refuse("BatchEntryIdsNotDistinct", "the Id %s is there twice", id)
		}
		seen[id] = true
	}
	return nil
}

func validEntryID(id string) bool {
	if len(id) == 0 || len(id) > maxEntryID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
