package structmode

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/handler/structmode/rule"
)

// Structure is the step in the middle of a call in struct mode: each message is decoded, meets the rules of the route
// and the filter of the method, and is encoded again if they changed it. What they did not change is forwarded byte for
// byte.
type Structure struct {
	pass     bool // what cannot be decoded is forwarded as it came
	deferred bool // the first message that is forwarded decides where the call goes
	request  direction
	response direction

	mode      *Mode
	ctx       context.Context // of the call
	transport grpc.ServerTransport
	evict     func()
	call      rule.Call
	room      budget.Call
	work      work

	prev, next *Structure // of those of its connection; guarded by the registry

	// Decided by the first message of the request that is forwarded.
	backend string // empty for the balancer's choice
	headers []rule.Header
}

// direction is one direction of a call in struct mode. It is used by one goroutine at a time.
type direction struct {
	of       *Structure
	whose    string // "request" or "response", for people
	rules    *rule.Rules
	codec    messageCodec
	filter   messageFilter // nil for none
	encoding string        // grpc-encoding of compressed messages
	single   bool          // there is one message in this direction
	maxBytes int64         // of a decoded message; 0 means no limit

	share budget.Share // what its message takes of the budget

	index   int64 // of the next message
	decided bool  // a message was forwarded: what decides about the call has been decided
	result  rule.Result
	stats   Stats
}

// Stats says what struct mode did in a call.
type Stats struct {
	Hits         [rule.NumActions]int64 // rules that fired, by action
	DecodeErrors int64                  // messages that could not be decoded
	DecodeTime   time.Duration          // spent on decoding, rules and encoding
}

// Stats returns what was done in both directions, which have ended.
func (s *Structure) Stats() *Stats {
	sum := s.request.stats
	for i, n := range s.response.stats.Hits {
		sum.Hits[i] += n
	}
	sum.DecodeErrors += s.response.stats.DecodeErrors
	sum.DecodeTime += s.response.stats.DecodeTime
	return &sum
}

// TakeMessage returns what is to be forwarded of a message: its flag stays. forward is false if nothing is. payload is not
// changed. The error is a *localError, which ends the call, or says that the call has ended.
func (d *direction) TakeMessage(flag byte, payload []byte) (out []byte, forward bool, err error) {
	if !d.of.work.begin() {
		return nil, false, frame.ErrEnded
	}
	defer d.of.work.end()
	d.of.room.Begin()
	defer d.of.room.End()
	began := time.Now()
	defer func() { d.stats.DecodeTime += time.Since(began) }()
	out, forward, err = d.through(flag, payload)
	d.index++
	if forward && !d.decided {
		d.decide()
	}
	return out, forward, err
}

// decide keeps what the message that is the first to be forwarded decides about the call. Later ones decide nothing.
func (d *direction) decide() {
	d.decided = true
	d.rules = d.rules.Rest()
	if d == &d.of.request {
		d.of.backend, d.of.headers = d.result.Backend, slices.Clone(d.result.Headers)
	}
}

// through is TakeMessage without what is done around it.
func (d *direction) through(flag byte, payload []byte) (out []byte, forward bool, err error) {
	plain, m, err := d.decode(flag, payload)
	if err != nil {
		if bad := (*undecodableError)(nil); errors.As(err, &bad) {
			d.result = rule.Result{} // which was of the message before
			return d.undecodable(payload, bad.as)
		}
		return nil, false, err
	}
	changed, filterable := false, plain
	if m != nil {
		err = d.rules.Apply(&d.of.call, m, rule.Frame{Index: d.index, Bytes: len(plain)}, &d.result)
		for i, n := range d.result.Hits {
			d.stats.Hits[i] += int64(n)
		}
		if err != nil {
			if ended := d.share.Err(); ended != nil {
				return nil, false, ended
			}
			return nil, false, d.ruleError(err)
		}
		switch v := d.result.Verdict; {
		case v == rule.Reject, v == rule.Drop && d.single:
			return nil, false, d.rejected()
		case v == rule.Drop:
			return nil, false, nil
		}
		if changed = d.result.Changed; changed || d.filter != nil {
			// A filter gets what rules and endpoints see: generated code of Kitex does not read all that may be on the wire,
			// such as a message in two parts.
			filterable, err = d.codec.encode(m, plain, &d.share)
			if interrupts(err) {
				return nil, false, local.RoomError(err, d.whose)
			}
			if err != nil { // it would be wrong to pass what the rules changed
				d.stats.DecodeErrors++
				return nil, false, d.decodeError(err)
			}
		}
		if changed {
			plain = filterable
		}
	}
	if d.filter != nil {
		if err := d.share.Take(filterGrowth * int64(len(filterable))); err != nil {
			return nil, false, local.RoomError(err, d.whose)
		}
		filtered, verdict := d.filter(d.of.ctx, filterable)
		switch {
		case verdict != nil && verdict.Reason == local.ReasonDecodeFailed && !changed:
			return d.undecodable(payload, verdict)
		case verdict != nil:
			return nil, false, verdict
		case filtered == nil && d.single:
			return nil, false, local.Errorf(codes.FailedPrecondition, local.ReasonRejected, "%s: dropped by a filter", d.whose)
		case filtered == nil:
			return nil, false, nil
		}
		if !sameBytes(filterable, filtered) {
			changed, plain = true, filtered
		}
	}
	if !changed {
		return payload, true, nil
	}
	if d.maxBytes > 0 && int64(len(plain)) > d.maxBytes {
		return nil, false, frame.LocalError(frame.ErrTooLarge, "", d.whose)
	}
	if flag == 1 {
		codec, _ := compress.Get(d.encoding) // which decode has found
		plain, err = codec.Within(&d.share).Compress(nil, plain)
		if interrupts(err) {
			return nil, false, local.RoomError(err, d.whose)
		}
		if err != nil {
			return nil, false, local.Errorf(codes.Internal, local.ReasonInternal, "%s: %v", d.whose, err)
		}
	}
	return plain, true, nil
}

// filterGrowth is how much memory a filter may take, in terms of the message's encoding: a generated message, its encoding
// before and after, and what comes of them.
const filterGrowth = 8

// sameBytes reports whether b is a itself, not only equal to it.
func sameBytes(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// ruleError is the local error of a rule that could not be evaluated.
func (d *direction) ruleError(err error) *local.Error {
	var failed *rule.EvalError
	if d == &d.of.response && errors.As(err, &failed) {
		return local.Errorf(codes.Internal, local.ReasonRuleFailed, "%s: %s cannot be evaluated", d.whose, failed.Key)
	}
	return local.Errorf(codes.Internal, local.ReasonRuleFailed, "%s: %v", d.whose, err)
}

// rejected is the local error of the rule that fired.
func (d *direction) rejected() *local.Error {
	msg := d.result.Message
	if msg == "" {
		msg = d.whose + " refused by a rule"
	}
	return local.Errorf(codes.Code(d.result.Code), local.ReasonRejected, "%s", msg)
}

// MetadataOf returns the request's metadata as rules see it. Binary values are base64, as on the wire.
func MetadataOf(md metadata.MD) map[string]string {
	all := make(map[string]string, len(md))
	for name, values := range md {
		if strings.HasPrefix(name, "grpc-") { // framegate's own to write
			continue
		}
		if strings.HasSuffix(name, "-bin") {
			encoded := make([]string, len(values))
			for i, v := range values {
				encoded[i] = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			values = encoded
		}
		all[name] = strings.Join(values, ",")
	}
	return all
}
