package pool

import (
	"errors"
	"fmt"
)

// ErrClosed says that the Pool is closed: no call can be made.
var ErrClosed = errors.New("pool: closed")

// DialError says that no connection to an endpoint could be made, or that none had room, in ConnectTimeout. The call
// was not sent: another endpoint may be tried.
type DialError struct {
	Address string
	Err     error
}

func (e *DialError) Error() string { return fmt.Sprintf("connect to %s: %v", e.Address, e.Err) }
func (e *DialError) Unwrap() error { return e.Err }

// Causes in a DialError that are not an error of a dial.
var (
	errNoSlot       = errors.New("the endpoint's limit on concurrent streams is reached") // there are connections
	errNoConnection = errors.New("no connection in time")
	errGoneAtOnce   = errors.New("the endpoint ends each connection at once")
)

// HeaderError says that the call's headers are more than the endpoint takes (its MAX_HEADER_LIST_SIZE). The call was
// not sent; another connection would not help.
type HeaderError struct{ Err error }

func (e *HeaderError) Error() string { return e.Err.Error() }
func (e *HeaderError) Unwrap() error { return e.Err }
