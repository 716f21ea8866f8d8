package leg

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/resolver/spec"
)

// answer is an Answer that notes what it gets. Data waits for blocked, if that is not nil, or for the leg's end.
type answer struct {
	leg     *Leg
	blocked chan struct{}

	mu   sync.Mutex // guards what follows
	data []byte
	ends int
}

func (a *answer) Headers(string, metadata.MD) error { return nil }

func (a *answer) Data(p []byte) error {
	if a.blocked != nil {
		select {
		case <-a.blocked:
		case <-a.leg.Context().Done():
			return ErrEnded
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.data = append(a.data, p...)
	return nil
}

func (a *answer) End(*status.Status, metadata.MD) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ends++
}

func newLeg(t *testing.T, bounds spec.Queue, room Room) (*Leg, *answer) {
	a := new(answer)
	a.leg = New(t.Context(), Request{Method: "/a.B/C"}, bounds, room, a)
	t.Cleanup(func() { a.leg.Cancel(ErrEnded) })
	return a.leg, a
}

func message(n int) frame.Message { return frame.Message{Payload: bytes.Repeat([]byte{byte(n)}, n)} }

// The reads of a call see the frames of all messages one after the other, whatever the lengths of the reads.
func TestLeg_ReadsTheFramesOfItsMessages(t *testing.T) {
	for _, size := range []int{1, 3, 5, 7, 64, 1000} {
		l, _ := newLeg(t, spec.Queue{}, nil)
		var want []byte
		for _, m := range []frame.Message{message(0), {Flag: 1, Payload: []byte("zipped")}, message(1), message(300)} {
			require.True(t, l.Push(m))
			prefix := frame.PrefixOf(m)
			want = append(append(want, prefix[:]...), m.Payload...)
		}
		require.False(t, l.RequestEnded())
		l.HalfClose()
		require.True(t, l.RequestEnded())
		require.False(t, l.RequestEmpty())
		var got []byte
		for {
			p := make([]byte, size)
			n, err := l.Read(p)
			got = append(got, p[:n]...)
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				require.Equal(t, len(want)%size != 0, err == io.ErrUnexpectedEOF)
				break
			}
			require.NoError(t, err)
		}
		require.Equal(t, want, got)
		require.True(t, l.RequestEmpty())
	}
}

func TestLeg_BoundsItsQueue(t *testing.T) {
	l, _ := newLeg(t, spec.Queue{Messages: 3, Bytes: 1000}, nil)
	require.False(t, l.Push(message(1000)), "with its prefix it is over 1000 bytes")
	require.True(t, l.Push(message(900)))
	require.False(t, l.Push(message(100)))
	require.True(t, l.Push(message(1)))
	require.True(t, l.Push(message(1)))
	require.False(t, l.Push(message(0)), "a fourth message")
	messages, n, _ := l.Waiting()
	require.Equal(t, 3, messages)
	require.EqualValues(t, 917, n)
	_, err := io.ReadFull(readerOf(l), make([]byte, 905))
	require.NoError(t, err)
	require.True(t, l.Push(message(0)))
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func readerOf(l *Leg) io.Reader { return readerFunc(l.Read) }

// room is a Room of so many bytes.
type room struct {
	mu   sync.Mutex
	left int64
}

func (r *room) Take(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n > r.left {
		return false
	}
	r.left -= n
	return true
}

func (r *room) Give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left += n
}

func (r *room) free() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left
}

func TestLeg_SharesRoomWithOthersAndGivesItBack(t *testing.T) {
	shared := &room{left: 100}
	one, _ := newLeg(t, spec.Queue{}, shared)
	two, _ := newLeg(t, spec.Queue{}, shared)
	require.True(t, one.Push(message(60)))
	require.False(t, two.Push(message(60)))
	_, err := io.ReadFull(readerOf(one), make([]byte, 65))
	require.NoError(t, err)
	require.True(t, two.Push(message(60)))
	two.End(status.New(codes.OK, ""), nil)
	require.EqualValues(t, 100, shared.free())
	require.False(t, two.Push(message(1)))
	one.Push(message(10))
	one.Cancel(ErrEnded)
	require.Eventually(t, func() bool { return shared.free() == 100 }, 10*time.Second, time.Millisecond)
}

func TestLeg_PushWhenRoom(t *testing.T) {
	l, _ := newLeg(t, spec.Queue{Messages: 1}, nil)
	require.NoError(t, l.PushWhenRoom(message(3<<20), time.Time{}), "a long message is let in alone")
	require.ErrorIs(t, l.PushWhenRoom(message(1), time.Now().Add(time.Millisecond)), ErrFull)
	pushed := make(chan error, 1)
	go func() { pushed <- l.PushWhenRoom(message(1), time.Time{}) }()
	_, err := io.ReadFull(readerOf(l), make([]byte, 5+3<<20))
	require.NoError(t, err)
	require.NoError(t, <-pushed)
	go func() { pushed <- l.PushWhenRoom(message(1), time.Time{}) }()
	l.Cancel(ErrEnded)
	require.ErrorIs(t, <-pushed, ErrEnded)
}

// A read that waits fails with the cause of the leg's end.
func TestLeg_EndOfItsContextEndsReads(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	a := new(answer)
	a.leg = New(ctx, Request{}, spec.Queue{}, nil, a)
	read := make(chan error, 1)
	go func() {
		_, err := a.leg.Read(make([]byte, 1))
		read <- err
	}()
	cause := errors.New("enough")
	cancel(cause)
	require.ErrorIs(t, <-read, cause)
}

// The end of a call comes through while a goroutine waits in Data, and the answer is ended once.
func TestLeg_EndUnblocksTheAnswer(t *testing.T) {
	l, a := newLeg(t, spec.Queue{}, nil)
	a.blocked = make(chan struct{})
	wrote := make(chan error, 1)
	go func() { wrote <- l.Write([]byte("x")) }()
	l.End(status.New(codes.Canceled, ""), nil)
	l.End(status.New(codes.OK, ""), nil)
	require.ErrorIs(t, <-wrote, ErrEnded)
	require.Equal(t, 1, a.ends)
	require.ErrorIs(t, l.Write([]byte("y")), ErrEnded)
	require.ErrorIs(t, l.SendHeaders("", nil), ErrEnded)
}

func TestLeg_KnowsWhatTheEndpointOwes(t *testing.T) {
	l, _ := newLeg(t, spec.Queue{}, nil)
	_, owes := l.Owing()
	require.False(t, owes, "nothing was asked of it")
	require.True(t, l.Push(message(1)))
	first, owes := l.Owing()
	require.True(t, owes)
	_, err := io.ReadFull(readerOf(l), make([]byte, 6))
	require.NoError(t, err)
	_, owes = l.Owing()
	require.False(t, owes, "it took the message, and may wait for more")
	l.HalfClose()
	since, owes := l.Owing()
	require.True(t, owes, "it owes the end of its answer")
	require.False(t, since.Before(first))
	require.NoError(t, l.SendHeaders("", nil))
	later, _ := l.Owing()
	require.False(t, later.Before(since), "it has moved")
}
