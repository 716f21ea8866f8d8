package relay

import (
	"fmt"
	"testing"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/relay/h2/hpack"
)

// The fields of local errors are kept for the next time, but not those of any number of errors, nor long ones.
func TestLocalErrors_AreKept(t *testing.T) {
	kept := localErrors{}
	again := kept.fields(local.ErrOverloaded)
	require.Same(t, again[0], kept.fields(local.ErrOverloaded)[0])
	for i := range 3 * maxLocal {
		for _, text := range []string{fmt.Sprintf("no %d", i), fmt.Sprintf("%0*d", maxLocalMessage+1, i)} {
			e := local.Errorf(codes.NotFound, local.ReasonNoRoute, "%s", text)
			require.Equal(t, "framegate: "+text, kept.fields(e)[3].Value)
			require.Equal(t, "5", kept.fields(e)[2].Value)
		}
	}
	require.LessOrEqual(t, len(kept), maxLocal)
	for e := range kept {
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
