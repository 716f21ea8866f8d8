package testbed

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// Outcome is everything that a peer sent on a stream.
type Outcome struct {
	Headers  Fields // the first header block; nil when the response was trailers-only
	Body     []byte
	Trailers Fields // the header block that ended the stream
	Ended    bool   // END_STREAM came
	Reset    *http2.ErrCode
	Err      error // a malformed frame or a lost connection
	At       time.Time
}

func outcomeOf(events []Event, request bool) Outcome {
	var o Outcome
	for _, e := range events {
		if o.Ended {
			break // ignore RST_STREAM after the end, such as NO_ERROR after early trailers
		}
		switch e.Kind {
		case GotHeaders:
			if o.Headers == nil && (request || !e.End) {
				o.Headers = e.Fields
			} else {
				o.Trailers = e.Fields
			}
		case GotData:
			o.Body = append(o.Body, e.Data...)
		case GotReset:
			o.Reset = &e.Code
		case GotInvalid, GotLost:
			o.Err = e.Err
		}
		o.Ended = e.End
		o.At = e.At
	}
	return o
}

func (o Outcome) over() bool { return o.Ended || o.Reset != nil || o.Err != nil }

// TrailersOnly reports whether the response was a single header block.
func (o Outcome) TrailersOnly() bool { return o.Headers == nil && o.Trailers != nil }

// Code returns grpc-status, or -1 if it is absent or no number.
func (o Outcome) Code() int {
	n, err := strconv.Atoi(o.Trailers.Get("grpc-status"))
	if err != nil {
		return -1
	}
	return n
}

// Message returns grpc-message, decoded.
func (o Outcome) Message() string { return decodeGRPCMessage(o.Trailers.Get("grpc-message")) }

// Reason returns the trailer framegate-error, which only framegate's own statuses have.
func (o Outcome) Reason() string { return o.Trailers.Get("framegate-error") }

func (o Outcome) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "headers %v, %d bytes, trailers %v", o.Headers, len(o.Body), o.Trailers)
	if o.Reset != nil {
		fmt.Fprintf(&b, ", RST_STREAM %s", *o.Reset)
	}
	if o.Err != nil {
		fmt.Fprintf(&b, ", %v", o.Err)
	}
	if !o.Ended {
		b.WriteString(", no END_STREAM")
	}
	return b.String()
}
