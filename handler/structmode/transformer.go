package structmode

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/handler/structmode/rule"
)

// Transformer is the step in the middle of a call in struct mode: it decodes each message, applies the rules of the route
// and the filter of the method, and encodes the message again if they changed it. A message that they did not change is
// forwarded byte for byte.
type Transformer struct {
	pass     bool // messages that cannot be decoded are forwarded as they came
	deferred bool // the first message of the request that is forwarded decides where the call goes
	request  direction
	response direction

	mode  *Mode
	ctx   context.Context // of the call
	conn  any             // the client's connection: stream.Downstream.Conn
	evict func()
	call  rule.Call
	room  budget.Call
	work  work

	prev, next *Transformer // in the registry's list of its connection; guarded by the registry

	// Set when the first message of the request is forwarded; see Decision.
	backend string // empty if the balancer chooses
	headers []rule.Header
}

// direction is one direction of a call in struct mode. It is used by one goroutine at a time.
type direction struct {
	of       *Transformer
	whose    string // "request" or "response", for error messages
	rules    *rule.Rules
	codec    messageCodec
	filter   messageFilter // nil for none
	encoding string        // grpc-encoding of compressed messages
	single   bool          // there is one message in this direction: it is not streaming
	maxBytes int64         // bound of a decompressed message; 0 means no limit

	share budget.Share // what the current message takes of the budget

	index   int64       // of the next message
	decided bool        // a message was forwarded; see decide
	result  rule.Result // of the current message
	stats   Stats
}

// Stats are the counts of struct mode in one call.
type Stats struct {
	Hits         [rule.NumActions]int64 // how often rules fired, by action
	DecodeErrors int64                  // messages that could not be decoded
	DecodeTime   time.Duration          // spent on decoding, rules, filters and encoding
}

// Stats returns the counts of both directions, which must have ended.
func (t *Transformer) Stats() *Stats {
	sum := t.request.stats
	for i, n := range t.response.stats.Hits {
		sum.Hits[i] += n
	}
	sum.DecodeErrors += t.response.stats.DecodeErrors
	sum.DecodeTime += t.response.stats.DecodeTime
	return &sum
}

// TakeMessage implements frame.Taker: it returns the payload to forward with the same flag, which may be payload itself, or
// forward false if a rule or a filter dropped the message. It does not change payload. The error is a *local.Error, which is
// to end the call, or says that the call has ended.
func (d *direction) TakeMessage(flag byte, payload []byte) (out []byte, forward bool, err error) {
	if !d.of.work.begin() {
		return nil, false, frame.ErrEnded
	}
	defer d.of.work.end()
	d.of.room.Begin()
	defer d.of.room.End()
	began := time.Now()
	defer func() { d.stats.DecodeTime += time.Since(began) }()
	out, forward, err = d.transform(flag, payload)
	d.index++
	if forward && !d.decided {
		d.decide()
	}
	return out, forward, err
}

// decide is called for the first message that is forwarded. In the request direction it keeps the backend and the headers
// that the rules chose for that message. Route and header rules do not apply to later messages.
func (d *direction) decide() {
	d.decided = true
	d.rules = d.rules.Rest()
	if d == &d.of.request {
		d.of.backend, d.of.headers = d.result.Backend, slices.Clone(d.result.Headers)
	}
}

// transform decodes a message, applies the rules and the filter, and encodes it again if they changed it. It returns what
// TakeMessage returns.
func (d *direction) transform(flag byte, payload []byte) (out []byte, forward bool, err error) {
	plain, m, err := d.decode(flag, payload)
	if err != nil {
		if bad := (*undecodableError)(nil); errors.As(err, &bad) {
			d.result = rule.Result{} // it still is that of the message before
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
			// A filter gets the message encoded again even if no rule changed it, because Kitex's generated code does not
			// read all that rules and endpoints see, such as a field that was sent in two parts.
			filterable, err = d.codec.encode(m, plain, &d.share)
			if interrupts(err) {
				return nil, false, local.RoomError(err, d.whose)
			}
			if err != nil { // not passed on by on_decode_error: pass: it would go on without the changes of the rules
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
		codec, _ := compress.Get(d.encoding) // exists: decode has decompressed with it
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

// filterGrowth is how much memory a filter takes, as a multiple of the message's encoded length: the generated message, its
// encoding before and after the filter, and garbage.
const filterGrowth = 8

// sameBytes reports whether a and b are the same slice, not only equal ones.
func sameBytes(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// ruleError returns the local error for a rule that could not be evaluated. In the response direction it does not quote the
// cause, which may hold data that the client must not see.
func (d *direction) ruleError(err error) *local.Error {
	var failed *rule.EvalError
	if d == &d.of.response && errors.As(err, &failed) {
		return local.Errorf(codes.Internal, local.ReasonRuleFailed, "%s: %s cannot be evaluated", d.whose, failed.Key)
	}
	return local.Errorf(codes.Internal, local.ReasonRuleFailed, "%s: %v", d.whose, err)
}

// rejected returns the local error of a message that a rule rejected, or dropped where there is only one message.
func (d *direction) rejected() *local.Error {
	msg := d.result.Message
	if msg == "" {
		msg = d.whose + " refused by a rule"
	}
	return local.Errorf(codes.Code(d.result.Code), local.ReasonRejected, "%s", msg)
}

// MetadataOf returns the request's metadata as rules see it: several values of a name joined by commas, those of -bin names as
// base64, and without names that begin with grpc-.
func MetadataOf(md metadata.MD) map[string]string {
	all := make(map[string]string, len(md))
	for name, values := range md {
		if strings.HasPrefix(name, "grpc-") { // reserved for gRPC
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
