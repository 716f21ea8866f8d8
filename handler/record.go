package handler

import (
	"net"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// Record describes one call. It is valid until the method of an observer that gets it returns: the observer copies what it keeps. Text
// from the client (Method, and what the methods of Record return) may be as long as the listener's max_header_bytes allows and may hold
// any bytes.
type Record struct {
	// Known when the call starts.
	Start    time.Time // when the call's headers had come
	Listener string
	Method   string // in full: /pkg.Service/Method
	Pattern  string // the method of the match entry that the call met: one of those that routes name, so their number is bounded; empty without a route
	Route    string // empty if no route matched
	Backend  string // may be empty: backends need no name
	Target   string // of one part of a call with a fan-out: the target's name; empty for a call as a whole
	Endpoint string // the endpoint's address, when the call has ended that of the last attempt; empty if no endpoint may be used

	// Known when the call has ended.
	Code      codes.Code    // that the client was sent; an upstream may send any number
	Reason    local.Reason  // of a local error; empty for an upstream's status
	Duration  time.Duration // from Start until no goroutine worked for the call any more
	FirstByte time.Duration // from Start until the upstream's answer began, with headers or trailers; 0 if it never did

	Asked, Answered int // of a call with a fan-out: targets, and how many of them ended with OK

	Limit    string // the key of the limit that a call of ReasonOverloaded was over; empty for others
	Attempts Attempts

	// Messages that were begun, and bytes of gRPC frames that were forwarded: payloads as compressed by the peer, and 5 bytes
	// of prefix for each message. A message that was refused for its size is not counted, and a request that was sent to
	// several attempts is counted once.
	RequestMessages, RequestBytes   int64
	ResponseMessages, ResponseBytes int64

	Struct *structmode.Stats // of a call in struct mode; nil otherwise

	fields    spec.Fields // of the request; nil for none
	authority string
	client    net.Addr
}

// Attempts counts the attempts of a call at endpoints beyond the first, by the reason for which they were made. An attempt for
// which no endpoint was left counts too. One that follows an attempt whose endpoint is left alone for a while after a failure
// (pool.DialError.InBackoff) does not count.
type Attempts struct {
	Transparent int // the endpoint certainly did not process the attempt before: it could not be reached, refused the stream, or sent a GOAWAY
	Retries     int // the route's retry
	Hedges      int // the route's hedge

	OverBudget bool // a retry or a hedge was not made, because the route had as many under way as its budget allows
}

// Further returns how many attempts there were beyond the first.
func (a Attempts) Further() int { return a.Transparent + a.Retries + a.Hedges }

// resolved sets where the call goes.
func (r *Record) resolved(t *cluster.Target) {
	r.Pattern, r.Route, r.Backend, r.Endpoint = t.Pattern, t.Route, t.Backend, t.Address
}

// Values returns a copy that an observer may keep. It refers to nothing of the request, so that Header and the other methods
// that read the request return nothing.
func (r *Record) Values() Record {
	v := *r
	v.fields, v.authority, v.client = nil, "", nil
	return v
}

// Header returns the first value of a header of the request, by its name in lower case; empty if there is none.
func (r *Record) Header(name string) string {
	if v := r.Headers(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Headers returns every value of a header of the request, by its name in lower case. The caller must not change them.
func (r *Record) Headers(name string) []string {
	if r.fields == nil {
		return nil
	}
	return r.fields.Values(name)
}

// Authority returns the request's :authority, or else its host (RFC 9113 §8.3.1).
func (r *Record) Authority() string { return r.authority }

// UserAgent returns the client's user-agent.
func (r *Record) UserAgent() string { return r.Header("user-agent") }

// RequestID returns the client's x-request-id.
func (r *Record) RequestID() string { return r.Header("x-request-id") }

// Peer returns the address that the client's connection comes from.
func (r *Record) Peer() string { return addressText(r.client) }

// addressText returns an address as text, or "" for nil.
func addressText(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}
