package chaos

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	pingInterval = 400 * time.Millisecond
	reopenAfter  = 50 * time.Millisecond

	// The numbers (IDKey) of streams begin above those of unary calls.
	firstStreamID  = 1 << 40
	idsPerPinger   = 1 << 20
	maxPingSilence = 2 * time.Second
)

// StreamResult has the results of a pinger.
type StreamResult struct {
	Opened         int
	Pongs          int // correct answers
	Breaks         []Break
	LongestSilence time.Duration // between a ping and its answer, or the end of the load
}

// Break is an end of a stream before the end of the load.
type Break struct {
	At time.Time
	outcome
}

// pinger sends pings on a stream, each after the answer to the one before, and opens a new stream whenever one breaks.
type pinger struct {
	index  int
	cc     *grpc.ClientConn
	result StreamResult // owned by run
}

// run pings until ctx ends.
func (p *pinger) run(ctx context.Context) {
	for ctx.Err() == nil {
		trailer, err := p.keepOpen(ctx)
		if ctx.Err() != nil {
			return
		}
		p.result.Breaks = append(p.result.Breaks, Break{At: time.Now(), outcome: outcomeOf(err, trailer)})
		_ = wait(ctx, reopenAfter)
	}
}

// keepOpen opens a stream and pings on it until it breaks or ctx ends. It returns the stream's trailers and error.
func (p *pinger) keepOpen(parent context.Context) (metadata.MD, error) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	id := firstStreamID + uint64(p.index)*idsPerPinger + uint64(p.result.Opened)
	p.result.Opened++
	ctx = metadata.AppendToOutgoingContext(ctx, IDKey, strconv.FormatUint(id, 10))
	stream, err := p.cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, BidiMethod)
	if err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		if err := p.ping(stream, n); err != nil {
			return stream.Trailer(), err
		}
		if err := wait(ctx, pingInterval); err != nil {
			return nil, err
		}
	}
}

func (p *pinger) ping(stream grpc.ClientStream, n int) error {
	text := fmt.Appendf(nil, "ping %d of stream %d", n, p.index)
	sent := time.Now()
	defer func() { p.result.LongestSilence = max(p.result.LongestSilence, time.Since(sent)) }()
	_ = stream.SendMsg(wrapperspb.Bytes(text)) // if the stream is over, RecvMsg returns the reason
	reply := new(wrapperspb.BytesValue)
	if err := stream.RecvMsg(reply); err != nil {
		return err
	}
	if !bytes.Equal(reply.Value, text) {
		return status.Errorf(codes.DataLoss, "chaos: got %q, want %q", reply.Value, text)
	}
	p.result.Pongs++
	return nil
}
