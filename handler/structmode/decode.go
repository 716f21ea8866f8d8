package structmode

import (
	"errors"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/handler/structmode/rule"
)

// undecodableError says that a message cannot be decoded. as is the local error with which the call ends, unless the route
// says on_decode_error: pass.
type undecodableError struct{ as *local.Error }

func (e *undecodableError) Error() string { return e.as.Error() }

// decode decompresses a message and, if there are rules, decodes it. Before that it takes from the budget what this needs,
// and what later steps will need; when it must make room for other calls (budget.ErrYield), it begins again. The error is an
// *undecodableError, or as for TakeMessage.
func (d *direction) decode(flag byte, payload []byte) (plain []byte, m protoreflect.Message, err error) {
	came := d.share.Held()
	if flag == 0 && len(payload) <= smallMessage { // taken in one step, which costs less time
		if err := d.share.Ahead(smallGrowth*int64(len(payload)) + d.ahead(flag, payload)); err != nil {
			return nil, nil, local.RoomError(err, d.whose)
		}
	}
	d.share.MayYield(true)
	defer d.share.MayYield(false) // later steps cannot begin again
	for {
		plain, m, err = d.decodeOnce(flag, payload)
		if err == nil || !errors.Is(err, budget.ErrYield) {
			return plain, m, err
		}
		d.share.Release()
		d.share.Give(d.share.Held() - came)
		if err := d.share.Reserve(); err != nil {
			return nil, nil, local.RoomError(err, d.whose)
		}
	}
}

// decodeOnce does the work of decode once. It may also return budget.ErrYield.
func (d *direction) decodeOnce(flag byte, payload []byte) (plain []byte, m protoreflect.Message, err error) {
	plain = payload
	if flag == 1 {
		if plain, err = d.decompress(payload); err != nil {
			return nil, nil, err
		}
	}
	if d.rules != nil {
		m, err = d.codec.decode(plain, d.rules, &d.share)
	}
	if err == nil {
		err = d.share.Ahead(d.ahead(flag, plain))
	}
	switch {
	case err == nil:
		return plain, m, nil
	case errors.Is(err, budget.ErrYield):
		return nil, nil, err
	case interrupts(err):
		return nil, nil, local.RoomError(err, d.whose)
	case errors.Is(err, rule.ErrTooLarge):
		return nil, nil, frame.LocalError(frame.ErrTooLarge, "", d.whose)
	}
	return nil, nil, &undecodableError{d.decodeError(err)}
}

// A message of at most smallMessage bytes that is not compressed takes at most smallGrowth times its length when it is
// decoded.
const (
	smallMessage = rule.SmallBytes
	smallGrowth  = rule.SmallGrowth + 1
)

// ahead returns how much of the budget the steps after decoding may take for a message: the filter, encoding and
// compression. It is 0 if nothing can change the message.
func (d *direction) ahead(flag byte, plain []byte) (n int64) {
	if d.filter != nil {
		n = filterGrowth * int64(len(plain))
	}
	if d.filter == nil && !d.rules.Change() {
		return 0
	}
	n += d.codec.growth(plain)
	if flag == 1 {
		n += compress.EncodeBytes(int64(len(plain)))
	}
	return n
}

// decompress decompresses a message. The error is an *undecodableError, budget.ErrYield, or as for TakeMessage.
func (d *direction) decompress(payload []byte) ([]byte, error) {
	if d.encoding == "" || d.encoding == "identity" {
		return nil, &undecodableError{local.Errorf(codes.Internal, local.ReasonDecodeFailed, "%s: compressed without a grpc-encoding", d.whose)}
	}
	codec, ok := compress.Get(d.encoding)
	if !ok {
		return nil, &undecodableError{local.Errorf(codes.Unimplemented, local.ReasonDecodeFailed,
			"%s: grpc-encoding %q is not known", d.whose, local.Printable(d.encoding))}
	}
	plain, err := codec.Within(&d.share).Decompress(payload, d.maxBytes)
	switch {
	case err == nil:
		return plain, nil
	case errors.Is(err, budget.ErrYield):
		return nil, err
	case interrupts(err):
		return nil, local.RoomError(err, d.whose)
	case errors.Is(err, compress.ErrTooLarge):
		return nil, frame.LocalError(frame.ErrTooLarge, "", d.whose)
	}
	return nil, &undecodableError{d.decodeError(err)}
}

// interrupts reports whether err says that there is no room for the message, or that the call has ended: not that the
// message is malformed. err may be nil.
func interrupts(err error) bool {
	return err != nil && (errors.Is(err, budget.ErrOver) || errors.Is(err, budget.ErrNever) || errors.Is(err, budget.ErrEnded))
}

// decodeError returns the local error for a message that cannot be decoded because of err.
func (d *direction) decodeError(err error) *local.Error {
	if d == &d.of.response { // err may quote data that the client must not see
		return local.Errorf(codes.InvalidArgument, local.ReasonDecodeFailed, "%s: cannot be decoded", d.whose)
	}
	return local.Errorf(codes.InvalidArgument, local.ReasonDecodeFailed, "%s: cannot be decoded: %s", d.whose, local.Printable(err.Error()))
}

// undecodable returns the result of TakeMessage for a message that cannot be decoded: payload itself with on_decode_error:
// pass, else the error e.
func (d *direction) undecodable(payload []byte, e *local.Error) ([]byte, bool, error) {
	d.stats.DecodeErrors++
	if d.of.pass {
		return payload, true, nil
	}
	return nil, false, e
}
