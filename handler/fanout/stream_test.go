package fanout

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/fanout/wire"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// script is what a fuzzer makes a call do.
type script struct{ rest []byte }

func (s *script) byte() byte {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b
}

func (s *script) flag() bool { return s.byte()&1 == 1 }

func (s *script) bytes(n int) []byte {
	n = min(n, len(s.rest))
	b := s.rest[:n:n]
	s.rest = s.rest[n:]
	return b
}

// player is what one target does.
type player struct {
	early    bool // answers before it has read the request
	headers  bool
	messages []frame.Message
	torn     int // bytes of the last frame that it leaves out
	piece    int // how long its writes are
	code     codes.Code
}

func (s *script) player() player {
	p := player{early: s.flag(), headers: s.flag(), code: codes.Code(s.byte() % 4), piece: 1 + int(s.byte()), torn: int(s.byte() % 16)}
	if p.torn > 5 {
		p.torn = 0
	}
	for range s.byte() % 4 {
		p.messages = append(p.messages, frame.Message{Flag: s.byte() % 8 / 7, Payload: s.bytes(int(s.byte()))})
	}
	return p
}

// play takes the leg to its end, as a call at an endpoint does.
func (p player) play(l *leg.Leg) {
	read := func() {
		for {
			if _, err := l.Read(make([]byte, 1)); err != nil {
				return
			}
		}
	}
	if !p.early {
		read()
	}
	if p.headers {
		_ = l.SendHeaders("", metadata.MD{"x-a": {"1"}}) // fails if the leg has ended
	}
	var all []byte
	for _, m := range p.messages {
		prefix := frame.PrefixOf(m)
		all = append(append(all, prefix[:]...), m.Payload...)
	}
	all = all[:max(0, len(all)-p.torn)]
	for part := range slices.Chunk(all, p.piece) {
		if l.Write(append(l.Piece(len(part))[:0], part...)) != nil {
			break
		}
	}
	if p.early {
		read()
	}
	l.End(status.New(p.code, "said so"), metadata.MD{"x-b": {"2"}})
}

// FuzzStream: whatever targets answer, and however it is joined, the call ends, its answer is whole frames with messages that can be
// parsed, each reply that can be joined is in the answer, and nothing is left behind.
func FuzzStream(f *testing.F) {
	ok := []byte{0, 1, 0, 200, 0, 1, 0, 7, 0x0a, 5, 0x0a, 3, 'b', 'a', 'r'}
	for mode := range byte(4) {
		for unary := range byte(2) {
			f.Add(slices.Concat([]byte{mode, unary, 1, 0, 1, 2, 3}, ok, ok, ok))
			f.Add(slices.Concat([]byte{mode, unary, 0, 1, 3, 2, 1}, ok, []byte{1, 0, 2, 0, 3, 0}, ok))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &script{in}
		cfg := Config{
			Mode:   []spec.FanoutMode{spec.FanoutAggregate, spec.FanoutEnvelope, spec.FanoutFirst, spec.FanoutQuorum}[s.byte()%4],
			Unary:  s.flag(),
			Fields: wire.Fields{Messages: 1, Metadata: 99, Node: 1, Error: 2, Status: 3},
			Order:  []spec.FanoutOrder{spec.OrderArrival, spec.OrderTargets}[s.byte()%2],
			Queue:  spec.Queue{Messages: 1 + int(s.byte()%4), Bytes: 64}, SlowTarget: []spec.SlowTarget{spec.SlowTargetWait, spec.SlowTargetDrop}[s.byte()%2],
			MinSuccess: int(s.byte() % 3), MaxBytes: 1 << 16, Budget: budget.New(1 << 20),
		}
		players := map[string]player{}
		for i := range 1 + s.byte()%5 {
			name := string(rune('a' + i))
			players[name] = s.player()
			cfg.Targets = append(cfg.Targets, Target{Name: name, To: new(cluster.Target)})
		}
		cfg.Quorum = 1 + int(s.byte())%len(cfg.Targets)
		cfg.Serve = func(l *leg.Leg, name string, _ *cluster.Target) { players[name].play(l) }
		requests := s.byte() % 4

		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cfg.Client = leg.New(ctx, leg.Request{Method: "/a.B/C"}, spec.Queue{}, nil, nil)
		stream := Open(ctx, cfg, &transport.Header{Metadata: metadata.MD{"x": {"y"}}})
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for n := range requests {
				m := frame.Message{Payload: bytes.Repeat([]byte{n}, int(n)*20)}
				prefix := frame.PrefixOf(m)
				if stream.Write(append(prefix[:], m.Payload...)) != nil {
					return
				}
			}
			_ = stream.CloseSend() // fails if the stream has ended
		}()
		answer, err := readAll(stream)
		require.NoError(t, ctx.Err(), "the call hangs")
		require.NoError(t, err)
		<-stream.Done()
		st := stream.Status()
		stream.Close()
		<-sent
		require.Zero(t, cfg.Budget.Stats().Used)
		check(t, cfg, players, answer, st)
	})
}

// readAll reads an answer to its end, and returns its messages.
func readAll(s *Stream) (all []frame.Message, err error) {
	if _, err := s.Header(); err != nil {
		return nil, err
	}
	for {
		var prefix [frame.PrefixLen]byte
		if _, err := s.Read(prefix[:]); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		m := frame.Message{Flag: prefix[0], Payload: make([]byte, binary.BigEndian.Uint32(prefix[1:]))}
		if len(m.Payload) > 0 {
			if _, err := s.Read(m.Payload); err != nil {
				return nil, err
			}
		}
		all = append(all, m)
		runtime.Gosched()
	}
}

// check requires that the answer has what the targets have sent, as far as the mode says.
func check(t *testing.T, cfg Config, players map[string]player, answer []frame.Message, st *status.Status) {
	t.Helper()
	if cfg.Unary {
		require.LessOrEqual(t, len(answer), 1)
		require.Equal(t, st.Code() == codes.OK, len(answer) == 1, "%v", st)
	}
	if cfg.Mode != spec.FanoutAggregate && cfg.Mode != spec.FanoutEnvelope {
		return
	}
	var joined []byte
	for _, m := range answer {
		require.Zero(t, m.Flag)
		if cfg.Mode == spec.FanoutEnvelope || cfg.Unary {
			for rest := m.Payload; len(rest) > 0; {
				num, typ, n := protowire.ConsumeTag(rest)
				require.Positive(t, n, "%x", m.Payload)
				require.Equal(t, protowire.Number(1), num)
				require.Equal(t, protowire.BytesType, typ)
				size := protowire.ConsumeFieldValue(num, typ, rest[n:])
				require.Positive(t, size, "%x", m.Payload)
				rest = rest[n+size:]
			}
		}
		joined = append(joined, m.Payload...)
	}
	if st.Code() != codes.OK {
		return
	}
	for _, p := range players {
		if p.code != codes.OK || p.torn > 0 || cfg.Unary && len(p.messages) != 1 || slices.ContainsFunc(p.messages, func(m frame.Message) bool { return m.Flag != 0 }) {
			continue
		}
		for _, m := range p.messages {
			if cfg.Mode == spec.FanoutAggregate && !cfg.Unary && wire.Whole(m.Payload) != nil {
				break // the target has failed
			}
			for _, element := range elements(cfg, m.Payload) {
				require.Contains(t, string(joined), string(element))
			}
		}
	}
}

// elements returns the parts of a message that the answer has as they are.
func elements(cfg Config, message []byte) (all [][]byte) {
	if cfg.Mode == spec.FanoutEnvelope || !cfg.Unary {
		return [][]byte{message}
	}
	for rest := message; len(rest) > 0; {
		num, typ, n := protowire.ConsumeTag(rest)
		if n < 0 || num != 1 || typ != protowire.BytesType {
			return nil // it cannot be joined
		}
		b, size := protowire.ConsumeBytes(rest[n:])
		if size < 0 || wire.Whole(b) != nil {
			return nil
		}
		all = append(all, b)
		rest = rest[n+size:]
	}
	return all
}
