package test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/testbed"
)

func TestHeaders_AreDeliveredBeforeAnyMessage(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		for name, fields := range map[string]testbed.Fields{
			"custom": testbed.NewFields("x-early", "1"),
			"plain":  nil,
		} {
			t.Run(name, func(t *testing.T) {
				p := newRawPair(t, to)
				cs, ss, _ := p.open(t, testbed.RequestFields())
				ss.SendHeaders(append(testbed.ResponseFields(), fields...))
				wantFields(t, cs.ReadHeaders(), fields) // the request has no message yet, nor has the response

				cs.SendEnd(testbed.Frame(text("request")))
				ss.WantMessage(string(text("request")))
				ss.Send(testbed.Frame(text("response")))
				cs.WantMessage(string(text("response")))
				ss.SendTrailers(testbed.StatusFields(0, ""))
				wantUpstream(t, cs.Outcome(), 0, "")
			})
		}
	})
}

func TestHeaders_AreDeliveredBeforeAnError(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		cs, ss, _ := p.open(t, testbed.RequestFields())
		ss.SendHeaders(testbed.ResponseFields("x-early", "1"))
		wantFields(t, cs.ReadHeaders(), testbed.NewFields("x-early", "1"))
		ss.SendTrailers(testbed.StatusFields(9, "not now", "x-late", "2"))
		o := cs.Outcome()
		wantUpstream(t, o, 9, "not now")
		require.False(t, o.TrailersOnly(), "trailers-only; got %s", o)
		require.Equal(t, []string{"2"}, o.Trailers.Values("x-late"))
		require.Empty(t, o.Trailers.Values("x-early"), "a header among the trailers")
		require.Empty(t, o.Headers.Values("x-late"), "a trailer among the headers")
	})
}

// Headers that carry nothing of their own are still headers.
func TestHeaders_PlainOnesBeforeAnErrorStayHeaders(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		cs, ss, _ := p.open(t, testbed.RequestFields())
		ss.SendHeaders(testbed.ResponseFields())
		ss.SendTrailers(testbed.StatusFields(9, "not now"))
		o := cs.Outcome()
		wantUpstream(t, o, 9, "not now")
		require.False(t, o.TrailersOnly(), "trailers-only; got %s", o)
	})
}

func TestHeaders_TrailersOnlyStaysTrailersOnly(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		for name, code := range map[string]int{"ok": 0, "error": 7} {
			t.Run(name, func(t *testing.T) {
				p := newRawPair(t, to)
				cs, ss, _ := p.open(t, testbed.RequestFields())
				ss.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(code, "only", "x-late", "2")...))
				o := cs.Outcome()
				wantUpstream(t, o, code, "only")
				require.True(t, o.TrailersOnly(), "trailers-only; got %s", o)
				require.Equal(t, []string{"2"}, o.Trailers.Values("x-late"))
				require.Equal(t, []string{"200"}, o.Trailers.Values(":status"))
				require.Equal(t, []string{"application/grpc"}, o.Trailers.Values("content-type"))
			})
		}
	})
}
