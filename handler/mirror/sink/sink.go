// Package sink delivers messages of calls to a topic of Kafka or an index of Elasticsearch, away from the calls' path.
//
// Enter at Sink; then queue.go (what waits, and its bounds), kafka.go and elastic.go (the two kinds), record.go (what is
// delivered: the JSON of a message) and state.go (whether the server can be reached, for people).
package sink

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/framegate/framegate/resolver/spec"
)

// Event is one message of a call.
type Event struct {
	ID        string // of the call
	Route     string
	Method    string
	Direction spec.Direction
	Time      time.Time
	Metadata  map[string][]string // of the request; names in lower case; shared, never changed
	Payload   []byte              // decompressed or as it came; shared, never changed

	// Message decodes Payload with the schema of the route. It is nil without a schema and may return nil. A goroutine of the
	// sink calls it, more than once if a record has to be sent again.
	Message func() json.RawMessage
}

// Sink takes events and delivers them, each at least once if its server takes it. Order is kept as long as nothing has to be
// sent again.
//
// What is temporary is tried again, after pauses of up to maxPause, for as long as it takes: a server that cannot be reached,
// refuses who framegate is, has no such topic or index, or is overloaded. Nothing that was accepted is dropped for that: new
// events are, when the queue is full.
type Sink interface {
	// Offer takes e, unless there is no room for it: then it is dropped and counted. It never blocks. e must not be changed
	// any more.
	Offer(e *Event) bool

	// Stats returns what the sink has done since it was made.
	Stats() Stats

	// Close refuses further events, delivers those that wait until ctx ends, and drops what is left then. When it returns, the
	// sink has no goroutines any more. It may be called more than once, and at the same time.
	Close(ctx context.Context)
}

// Config is what both kinds of sinks need beside their document.
type Config struct {
	Name  string     // of the mirror, for the log
	Queue spec.Queue // bounds what is not delivered yet, wherever it is, see Stats.WaitingBytes

	// Log gets a line for each change of the state, unless there are many, and at most once a minute one that a sink is still
	// down or that its server refuses records; nil for none.
	Log *slog.Logger
}

// Stats is what a sink has done.
type Stats struct {
	State string // StateNew, StateUp or StateDown
	Error string // why it is down; "" otherwise

	Delivered      int64 // events that the server has
	DeliveredBytes int64 // their payloads

	Dropped map[string]int64 // events that will not be delivered, by reason

	Waiting int // events that are neither delivered nor dropped

	// WaitingBytes is the memory that they take: payload and metadata, or the record that is made of them. Offer keeps it
	// below the queue's bound. The records of those that are being sent, which are larger than what they are made of, may
	// exceed it by half and one record.
	WaitingBytes int64

	Lag time.Duration // since the oldest of them was offered; 0 if there is none
}

// The values of Stats.State.
const (
	StateNew  = "new"  // nothing was tried yet
	StateUp   = "up"   // the server took or answered the last that was tried
	StateDown = "down" // the last attempt to connect or to deliver failed
)

// The reasons of Stats.Dropped.
const (
	ReasonQueueFull = "queue_full" // there was no room
	ReasonTooLarge  = "too_large"  // for the queue, or for the server
	ReasonRejected  = "rejected"   // the server refuses the record for good
	ReasonFailed    = "failed"     // the server failed at this record maxTries times, and not at others
	ReasonClosed    = "closed"     // the sink was closed before
)

// maxTries is how often a record is sent for which the server gives an error that does not say why, while it takes others. An
// error that is known to be temporary does not count.
const maxTries = 8
