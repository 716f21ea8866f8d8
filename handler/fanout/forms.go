package fanout

import (
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/fanout/wire"
	"github.com/framegate/framegate/handler/local"
)

// aggregate is the form of services that are built for it: each element of a reply, or each message of a stream, says who it is of.
type aggregate struct{ fields wire.Fields }

// part implements form.
func (a aggregate) part(answer []byte, t *target) ([]byte, *local.Error) {
	origin := a.fields.Origin(t.origin())
	if t.status.Code() != codes.OK {
		return a.fields.Alone(answer, origin), nil
	}
	joined, err := a.fields.Join(answer, t.reply.Payload, origin)
	if err != nil {
		return answer, errShape(err)
	}
	return joined, nil
}

func errShape(err error) *local.Error {
	return local.Errorf(codes.Internal, local.ReasonBadResponseFraming, "response: %v", err)
}

// message implements form.
func (a aggregate) message(t *target, payload []byte) ([]byte, error) {
	if err := wire.Whole(payload); err != nil {
		return nil, errShape(err)
	}
	origin := a.fields.Origin(wire.Origin{Node: t.Name})
	return append(payload[:len(payload):len(payload)], origin...), nil
}

// failure implements form.
func (a aggregate) failure(t *target) []byte {
	return a.fields.Origin(t.origin())
}

// envelope is the form of services that know nothing of it: framegate.v1.FanoutReply.
type envelope struct{}

// part implements form.
func (envelope) part(answer []byte, t *target) ([]byte, *local.Error) {
	r := result(t)
	if r.Code == 0 {
		r.Payload = t.reply.Payload
	}
	return wire.AppendResult(answer, r), nil
}

// result returns the result of a target that has ended, without its message.
func result(t *target) wire.Result {
	return wire.Result{Node: t.Name, Code: uint32(t.status.Code()), Message: t.status.Message(), Headers: t.headers, Trailers: t.trailer}
}

// message implements form.
func (envelope) message(t *target, payload []byte) ([]byte, error) {
	r := wire.Result{Node: t.Name, Payload: payload}
	if t.messages == 1 {
		r.Headers = t.headers
	}
	return wire.AppendResult(nil, r), nil
}

// failure implements form.
func (envelope) failure(t *target) []byte { return wire.AppendResult(nil, result(t)) }
