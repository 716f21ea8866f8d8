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

// undecodableError says that a message cannot be decoded, and as what its call would end for that.
type undecodableError struct{ as *local.Error }

func (e *undecodableError) Error() string { return e.as.Error() }

// decode returns a message decompressed and, if there are rules, decoded. It takes of the budget what that needs, and what
// is done with the message afterwards, and begins again when others are before. The error is an *undecodableError or as for
// take.
func (d *direction) decode(flag byte, payload []byte) (plain []byte, m protoreflect.Message, err error) {
	came := d.share.Held()
	if flag == 0 && len(payload) <= smallMessage { // all at once, which costs less
		if err := d.share.Ahead(smallGrowth*int64(len(payload)) + d.ahead(flag, payload)); err != nil {
			return nil, nil, local.RoomError(err, d.whose)
		}
	}
	d.share.MayYield(true)
	defer d.share.MayYield(false) // it would be too late to begin again
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

// A message of at most smallMessage bytes, uncompressed, takes at most smallGrowth times its bytes when it is decoded.
const (
	smallMessage = rule.SmallBytes
	smallGrowth  = rule.SmallGrowth + 1
)

// ahead returns what may be needed of the budget to change a message, beside what is decoded of it.
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

// decompress returns what is in a compressed message.
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

// interrupts reports whether err, which may be nil, says nothing of the message: there is no room for it, or the call has
// ended.
func interrupts(err error) bool {
	return err != nil && (errors.Is(err, budget.ErrOver) || errors.Is(err, budget.ErrNever) || errors.Is(err, budget.ErrEnded))
}

func (d *direction) decodeError(err error) *local.Error {
	if d == &d.of.response { // the reason may quote what the client must not see
		return local.Errorf(codes.InvalidArgument, local.ReasonDecodeFailed, "%s: cannot be decoded", d.whose)
	}
	return local.Errorf(codes.InvalidArgument, local.ReasonDecodeFailed, "%s: cannot be decoded: %s", d.whose, local.Printable(err.Error()))
}

// undecodable decides about a message that cannot be decoded.
func (d *direction) undecodable(payload []byte, e *local.Error) ([]byte, bool, error) {
	d.stats.DecodeErrors++
	if d.of.pass {
		return payload, true, nil
	}
	return nil, false, e
}
