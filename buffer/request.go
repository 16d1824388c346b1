package buffer

import (
	"github.com/dgraph-io/badger/v4"
)

// requestClass says what a request may do when space is short.
type requestClass uint8

const (
	// classCommit makes the store grow: refused under the reserve.
	classCommit requestClass = iota
	// classSettle moves cursors: refused under the floor only.
	classSettle
	// classDelete makes space: refused under the floor only, and kept apart from
	// commits since it is large.
	classDelete
)

// entryOverhead is what Badger's transaction adds to each key and value when it
// measures itself.
const entryOverhead = 12

// request is what one caller wants made durable. All of it goes into one
// transaction. Requests are reused, with their memory.
type request struct {
	class   requestClass
	entries []badger.Entry
	deletes [][]byte
	arena   []byte
	size    int64
	done    chan error
	// apply, if set, runs under Buffer.mu once the request is durable.
	apply func()

	// unreadable is set where dead letters no longer count which nothing can read,
	// and so nothing can delete.
	unreadable *deadChange

	// What a Commit changes.
	stream   *stream
	head     position
	events   *chunk
	kinds    []int
	times    []int64
	recorded int64
	// growSide is the most that what is kept beside events and states grows by;
	// what it really is the committer measures.
	grow, growState, growSide int64
	stateSize                 int64
}

// limits is how much one transaction takes.
type limits struct{ size, count int64 }

// keptArena bounds the memory that a reused request keeps.
const keptArena = 64 << 10

func (r *request) reset() {
	arena, entries, deletes := r.arena[:0], r.entries, r.deletes
	if cap(arena) > keptArena {
		arena, entries, deletes = nil, nil, nil
	}
	clear(entries)
	clear(deletes)
	*r = request{
		arena: arena, entries: entries[:0], deletes: deletes[:0], done: r.done,
		head: r.head, kinds: r.kinds[:0], times: r.times[:0],
	}
}

func (r *request) count() int64 { return int64(len(r.entries) + len(r.deletes)) }

func (r *request) tooBig(l limits) bool { return r.size > l.size || r.count() > l.count }

// begin returns the arena to append a key to. keyDone takes the key, valueDone
// the value that was appended behind it. Growing the arena leaves earlier keys
// and values valid where they are.
func (r *request) begin() []byte { return r.arena }

func (r *request) keyDone(grown []byte) []byte {
	key := grown[len(r.arena):len(grown):len(grown)]
	r.arena = grown
	return key
}

func (r *request) valueDone(key, grown []byte) {
	value := grown[len(r.arena):len(grown):len(grown)]
	r.arena = grown
	r.entries = append(r.entries, badger.Entry{Key: key, Value: value})
	r.size += int64(len(key)+len(value)) + entryOverhead
}

// put adds an entry whose value encode appends.
func (r *request) put(key []byte, encode func(dst, key []byte) []byte) {
	key = r.keyDone(append(r.begin(), key...))
	r.valueDone(key, encode(r.arena, key))
}

func (r *request) delete(key []byte) {
	r.deletes = append(r.deletes, key)
	r.size += int64(len(key)) + entryOverhead
}

// lastSize is what the entry added last takes in the store.
func (r *request) lastSize() int {
	e := &r.entries[len(r.entries)-1]
	return len(e.Key) + len(e.Value)
}
