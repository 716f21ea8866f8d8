package pool

import (
	"errors"
	"fmt"
)

// ErrClosed says that the Pool is closed. No call can be made.
var ErrClosed = errors.New("pool: closed")

// DialError says that no connection to an endpoint could be made, or that the endpoint takes no streams on its connections.
// The call was not sent, so another endpoint may be tried.
type DialError struct {
	Address   string
	Err       error
	InBackoff bool // there was no dial for this call: Err is that of an earlier dial, after which the endpoint backs off (Config.Backoff)
}

func (e *DialError) Error() string { return fmt.Sprintf("connect to %s: %v", e.Address, e.Err) }
func (e *DialError) Unwrap() error { return e.Err }

// Causes in a DialError other than an error of a dial.
var (
	errNoConnection = errors.New("no connection in time")
	errGoneAtOnce   = errors.New("the endpoint ends each connection at once")
	errNoStreams    = errors.New("the endpoint takes no streams (its MAX_CONCURRENT_STREAMS is 0)")
)

// FullError says that all connections to an endpoint have as many streams as they may, and that the call must not wait for a
// stream, or got none in time. The call was not sent, so another endpoint may be tried.
type FullError struct {
	Address     string
	Connections int // of the endpoint
	Err         error
}

func (e *FullError) Error() string {
	return fmt.Sprintf("%s is full with %d connections: %v", e.Address, e.Connections, e.Err)
}
func (e *FullError) Unwrap() error { return e.Err }

// Causes in a FullError.
var (
	errNoStream   = errors.New("no stream is free")          // policy.WhenFullFail
	errNoStreamIn = errors.New("no stream was free in time") // of a call without a deadline
	errMayNotWait = errors.New("no more calls may wait")     // OpenOptions.Wait said so
)
