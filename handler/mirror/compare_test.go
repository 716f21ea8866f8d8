package mirror

import (
	"bytes"
	"testing"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/handler/structmode/rule"
	"github.com/framegate/framegate/resolver/spec"
)

// newTestMirror returns a mirror that compares, whose queue has room for 4 messages and 1000 bytes, in a registry with room for maxBytes.
func newTestMirror(t *testing.T, maxBytes int64) *Mirror {
	r := NewRegistry(Config{MaxBytes: maxBytes})
	t.Cleanup(r.Close)
	doc := &spec.Mirror{Name: "m", Queue: spec.Queue{Messages: 4, Bytes: 1000}, Compare: &spec.Compare{}}
	m := &Mirror{state: newState(key{route: "r", name: "m"}), doc: doc, registry: r}
	m.differences.keep(doc.Compare.Kept())
	return m
}

func testCall() *Call {
	return &Call{Method: "/a.B/C", MaxBytes: 1 << 20, Schema: func() *rule.Compiled { return nil }, Peer: func() string { return "" }}
}

// send gives a side the frames of messages with so many bytes each.
func send(t *testing.T, to leg.Answer, lengths ...int) {
	t.Helper()
	for _, n := range lengths {
		m := frame.Message{Payload: bytes.Repeat([]byte("x"), n)}
		prefix := frame.PrefixOf(m)
		require.NoError(t, to.Data(append(prefix[:], m.Payload...)))
	}
}

// What only one of two answers has sent is held within the bounds of the mirror's queue, in number, in bytes, and together with all
// others; and nothing is held when it is over.
func TestComparison_BoundsWhatItHolds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		room    int64
		lengths []int
		want    Result
	}{
		"as many messages as there may be": {1 << 20, []int{0, 0, 0, 0}, Same},
		"one more":                         {1 << 20, []int{0, 0, 0, 0, 0}, Incomplete},
		"as many bytes as there may be":    {1 << 20, []int{495, 495}, Same},
		"one byte more":                    {1 << 20, []int{495, 496}, Incomplete},
		"no room with others":              {100, []int{50, 50}, Incomplete},
		"a message that is too long":       {1 << 20, []int{2000}, Incomplete},
	} {
		for _, first := range []string{"client", "mirror"} {
			t.Run(name+", "+first+" first", func(t *testing.T) {
				t.Parallel()
				m := newTestMirror(t, c.room)
				one := newComparison(m, testCall())
				sides := []leg.Answer{&one.client, &one.mirrors}
				if first == "mirror" {
					sides[0], sides[1] = sides[1], sides[0]
				}
				for _, s := range sides {
					send(t, s, c.lengths...)
					s.End(status.New(0, ""), nil)
				}
				m.registry.work.Wait()
				require.Equal(t, map[Result]int64{c.want: 1}, m.Status().Compared)
				require.Zero(t, m.registry.bytes.Load())
			})
		}
	}
}

// Answers that keep pace are compared however long they are.
func TestComparison_OfLongAnswersThatKeepPace(t *testing.T) {
	t.Parallel()
	m := newTestMirror(t, 1<<20)
	one := newComparison(m, testCall())
	for range 1000 {
		send(t, &one.client, 300)
		send(t, &one.mirrors, 300)
	}
	send(t, &one.mirrors, 1)
	one.client.End(status.New(0, ""), nil)
	one.mirrors.End(status.New(0, ""), nil)
	m.registry.work.Wait()
	require.Equal(t, map[Result]int64{Different: 1}, m.Status().Compared)
	require.Equal(t, DiffersMessages, m.Differences()[0].What)
	require.Zero(t, m.registry.bytes.Load())
}
