package relay

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/relay/h2/hpack"
)

// newFullEngine returns an engine whose listener has max_calls.
func newFullEngine(tb testing.TB, batch int) *engine {
	x := newEngine(tb, batch, 100)
	x.open()
	x.proxy.SetMaxCalls(map[string]int{"main": 1})
	return x
}

// A call that is refused because there are too many costs little.
func TestRefused_Allocates(t *testing.T) {
	x := newFullEngine(t, 10)
	for range 100 { // what is kept is there then
		x.refused()
	}
	require.Zero(t, testing.AllocsPerRun(100, x.refused))
}

// The fields of local errors are kept for the next time, but not those of any number of errors, nor long ones.
func TestLocalFields_AreKept(t *testing.T) {
	s := newFullEngine(t, 1).shard
	s.lock()
	defer s.unlock()
	again := s.localFields(local.ErrOverloaded)
	require.Same(t, again[0], s.localFields(local.ErrOverloaded)[0])
	for i := range 3 * maxLocal {
		for _, text := range []string{fmt.Sprintf("no %d", i), fmt.Sprintf("%0*d", maxLocalMessage+1, i)} {
			e := local.Errorf(codes.NotFound, local.ReasonNoRoute, "%s", text)
			require.Equal(t, "framegate: "+text, s.localFields(e)[3].Value)
			require.Equal(t, "5", s.localFields(e)[2].Value)
		}
	}
	require.LessOrEqual(t, len(s.local), maxLocal)
	for e := range s.local {
		require.LessOrEqual(t, len(e.Message), maxLocalMessage)
	}
	require.Equal(t, []string{":status", "content-type", "grpc-status", "grpc-message"}, names(again[:4]))
	require.ElementsMatch(t, []string{local.ReasonTrailer, local.PushbackTrailer}, names(again[4:]))
}

func names(fields []*hpack.Field) (all []string) {
	for _, f := range fields {
		all = append(all, f.Name)
	}
	return all
}
