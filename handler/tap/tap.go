// Package tap copies messages of live calls for framegate tap.
//
// Enter at Hub.Open, which a client of framegate tap calls, and at Hub.Match, which every call asks for the taps that want its
// messages; then Writer, which copies them. Copies are bounded and never hold up a call: a tap whose client is slow misses
// messages, and counts them.
package tap

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// Bounds of what taps cost.
const (
	MaxTaps         = 8        // taps that are open at once
	MaxMessageBytes = 64 << 10 // bytes that are copied of one message
	queueLen        = 64       // messages that wait for a tap's client
	DefaultRate     = 100      // messages a second that one tap copies
	MaxRate         = 1000
)

// Message is a copy of one message of a call, as it was forwarded.
type Message struct {
	Time      time.Time
	Call      *Call
	Direction spec.Direction
	Index     int64 // position in its stream, from 0
	Flag      byte  // the compressed flag: 1 if Payload is compressed with Encoding
	Encoding  string
	Length    int64  // of the payload
	Payload   []byte // its first MaxMessageBytes
}

// Call describes the call of a message. It is immutable.
type Call struct {
	Target   cluster.Target
	Method   string
	Peer     string
	Subtype  string            // content-subtype: "", proto, json
	Metadata map[string]string // of the request
}

// Tap receives copies of messages of the calls whose method its pattern matches. It is safe for concurrent use.
type Tap struct {
	hub      *Hub
	pattern  spec.Pattern
	limit    *rate.Limiter
	messages chan Message
	missed   atomic.Int64 // messages over the limit, or for which messages had no room
}

// Hub has the open taps. Calls read it without a lock. It is safe for concurrent use.
type Hub struct {
	taps atomic.Pointer[[]*Tap] // an immutable slice, replaced with mu held

	mu sync.Mutex // serializes Open and Tap.Close
}

// ErrTooMany means that MaxTaps taps are open.
var ErrTooMany = errors.New("too many taps are open")

// Open returns a tap on the calls that begin from now on and whose method the pattern matches, for at most perSecond
// messages a second (1 to MaxRate). It fails with ErrTooMany. The caller closes the tap.
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

// all returns the open taps. A nil Hub has none.
func (h *Hub) all() []*Tap {
	if h == nil {
		return nil
	}
	if taps := h.taps.Load(); taps != nil {
		return *taps
	}
	return nil
}

// Messages returns the channel of the copies. It is never closed.
func (t *Tap) Messages() <-chan Message { return t.messages }

// Missed returns how many messages were not copied since the last call of Missed, because they came too fast.
func (t *Tap) Missed() int64 { return t.missed.Swap(0) }

// Close removes the tap from its hub. Calls under way may still send copies to Messages.
func (t *Tap) Close() {
	t.hub.mu.Lock()
	defer t.hub.mu.Unlock()
	taps := slices.DeleteFunc(slices.Clone(t.hub.all()), func(o *Tap) bool { return o == t })
	t.hub.taps.Store(&taps)
}

// Match returns the taps whose pattern matches the method of a call. It costs one atomic load while no tap is open. h may be
// nil.
func (h *Hub) Match(method string) Taps {
	var matching Taps
	for _, t := range h.all() {
		if t.pattern.Match(method) {
			matching = append(matching, t)
		}
	}
	return matching
}

// Taps are the taps on one call.
type Taps []*Tap

// Writer forwards frames to another writer, and copies the messages in them to taps. It is used by one goroutine at a time.
type Writer struct {
	to        frame.Writer
	taps      Taps
	call      *Call
	direction spec.Direction
	encoding  string

	split   frame.Splitter
	message Message // the copy of the current message
	wanted  []*Tap  // the taps whose limit allows the current message
	index   int64   // of the next message
}

// Writer returns a Writer that forwards to to. encoding is the grpc-encoding of the direction.
func (taps Taps) Writer(to frame.Writer, call *Call, d spec.Direction, encoding string) *Writer {
	return &Writer{to: to, taps: taps, call: call, direction: d, encoding: encoding}
}

// Piece returns n bytes for Write.
func (w *Writer) Piece(n int) []byte { return w.to.Piece(n) }

// Write copies what taps want of p, and forwards p.
func (w *Writer) Write(p []byte) error {
	w.split.Split(p, (*parts)(w))
	return w.to.Write(p)
}

// parts is a Writer as frame.Parts, which callers of the Writer do not see.
type parts Writer

// Begin implements frame.Parts: it starts the copy of a message.
func (w *parts) Begin(flag byte, length int64) {
	w.wanted = w.wanted[:0]
	for _, t := range w.taps {
		if t.limit.Allow() {
			w.wanted = append(w.wanted, t)
		} else {
			t.missed.Add(1)
		}
	}
	w.message = Message{Direction: w.direction, Call: w.call, Index: w.index, Flag: flag, Encoding: w.encoding, Length: length}
	w.index++
}

// Part implements frame.Parts: it copies bytes of the message, up to MaxMessageBytes.
func (w *parts) Part(p []byte) {
	if len(w.wanted) > 0 {
		room := MaxMessageBytes - len(w.message.Payload)
		w.message.Payload = append(w.message.Payload, p[:min(len(p), room)]...)
	}
}

// End implements frame.Parts: it sends the copy of the message to the taps that want it.
func (w *parts) End() {
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
