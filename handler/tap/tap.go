// Package tap shows live messages of calls to people: framegate tap.
//
// Enter at Hub.Open, which somebody who watches calls, and Hub.Call, which every call asks. What is seen is copied,
// bounded and handed over without waiting: a watcher that is slow misses messages and is told how many.
package tap

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// Bounds of what taps cost.
const (
	MaxTaps         = 8        // open at once
	MaxMessageBytes = 64 << 10 // of one message that are copied
	queueLen        = 64       // messages that wait for a watcher
	DefaultRate     = 100      // messages a second that one tap shows
	MaxRate         = 1000
)

// Message is one message of a call, as it was forwarded.
type Message struct {
	Time      time.Time
	Call      *Call
	Direction spec.Direction
	Index     int64 // position in its stream, from 0
	Flag      byte  // 1: compressed with the encoding of the direction
	Encoding  string
	Length    int64  // of the payload
	Payload   []byte // its first MaxMessageBytes
}

// Call is what is known of the call of a message. It is not changed.
type Call struct {
	Target   cluster.Target
	Method   string
	Peer     string
	Subtype  string            // content-subtype: "", proto, json
	Metadata map[string]string // of the request
}

// Tap gets messages of the calls that one watcher wants.
type Tap struct {
	hub      *Hub
	pattern  spec.Pattern
	limit    *rate.Limiter
	messages chan Message
	missed   atomic.Int64
}

// Hub knows who watches. Calls ask it without a lock.
type Hub struct {
	taps atomic.Pointer[[]*Tap] // never changed, but replaced with mu held

	mu sync.Mutex
}

// ErrTooMany means that MaxTaps taps are open.
var ErrTooMany = errors.New("too many taps are open")

// Open starts to watch calls that begin from now on whose method the pattern matches, at most perSecond messages a
// second (1 to MaxRate). The caller closes the tap.
func (h *Hub) Open(pattern spec.Pattern, perSecond int) (*Tap, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	open := h.all()
	if len(open) >= MaxTaps {
		return nil, ErrTooMany
	}
	t := &Tap{hub: h, pattern: pattern, limit: rate.NewLimiter(rate.Limit(perSecond), perSecond), messages: make(chan Message, queueLen)}
	taps := append(slices.Clone(open), t)
	h.taps.Store(&taps)
	return t, nil
}

// all returns the open taps; none of a nil Hub.
func (h *Hub) all() []*Tap {
	if h == nil {
		return nil
	}
	if taps := h.taps.Load(); taps != nil {
		return *taps
	}
	return nil
}

// Messages gives what is seen. It is never closed.
func (t *Tap) Messages() <-chan Message { return t.messages }

// Missed returns how many messages were not shown since it was last asked: they came too fast.
func (t *Tap) Missed() int64 { return t.missed.Swap(0) }

// Close ends the tap. Calls under way may still fill its queue.
func (t *Tap) Close() {
	t.hub.mu.Lock()
	defer t.hub.mu.Unlock()
	taps := slices.DeleteFunc(slices.Clone(t.hub.all()), func(o *Tap) bool { return o == t })
	t.hub.taps.Store(&taps)
}

// Watch returns the taps that want a call of that method. It costs next to nothing while nobody watches.
func (h *Hub) Watch(method string) Taps {
	var on Taps
	for _, t := range h.all() {
		if t.pattern.Match(method) {
			on = append(on, t)
		}
	}
	return on
}

// Taps are those that want one call.
type Taps []*Tap

// frameWriter is what a direction of a call writes to.
type frameWriter interface {
	Piece(n int) []byte
	Write(p []byte) error
}

// Writer writes frames to another writer and shows the messages in them. It is used by one goroutine at a time.
type Writer struct {
	to        frameWriter
	taps      Taps
	call      *Call
	direction spec.Direction
	encoding  string

	prefix  [5]byte
	nprefix int   // bytes of it that are here
	left    int64 // bytes of the payload to come
	message Message
	wanted  []*Tap // that show the message under way
	index   int64
}

// Writer returns a writer in front of to, of whose messages the compressed ones are in encoding.
func (on Taps) Writer(to frameWriter, call *Call, d spec.Direction, encoding string) *Writer {
	return &Writer{to: to, taps: on, call: call, direction: d, encoding: encoding}
}

// Piece returns n bytes for Write.
func (w *Writer) Piece(n int) []byte { return w.to.Piece(n) }

// Write looks at p and hands it on.
func (w *Writer) Write(p []byte) error {
	w.look(p)
	return w.to.Write(p)
}

// look follows the frames in p, which may begin and end anywhere.
func (w *Writer) look(p []byte) {
	for len(p) > 0 {
		if w.left == 0 {
			n := copy(w.prefix[w.nprefix:], p)
			p = p[n:]
			if w.nprefix += n; w.nprefix < len(w.prefix) {
				return
			}
			w.begin()
			if w.left > 0 {
				continue
			}
			w.end()
			continue
		}
		n := min(w.left, int64(len(p)))
		if len(w.wanted) > 0 {
			room := MaxMessageBytes - len(w.message.Payload)
			w.message.Payload = append(w.message.Payload, p[:min(n, int64(room))]...)
		}
		p = p[n:]
		if w.left -= n; w.left == 0 {
			w.end()
		}
	}
}

// begin starts a message.
func (w *Writer) begin() {
	w.left = int64(binary.BigEndian.Uint32(w.prefix[1:]))
	w.wanted = w.wanted[:0]
	for _, t := range w.taps {
		if t.limit.Allow() {
			w.wanted = append(w.wanted, t)
		} else {
			t.missed.Add(1)
		}
	}
	w.message = Message{Direction: w.direction, Call: w.call, Index: w.index, Flag: w.prefix[0], Encoding: w.encoding, Length: w.left}
	w.index++
}

// end shows a message.
func (w *Writer) end() {
	w.nprefix = 0
	w.message.Time = time.Now()
	for _, t := range w.wanted {
		select {
		case t.messages <- w.message:
		default:
			t.missed.Add(1)
		}
	}
	w.message = Message{}
}
