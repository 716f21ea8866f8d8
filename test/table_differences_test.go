package test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/testbed"
)

// What frame mode on Kitex's transport cannot carry. Each of these is a difference from a direct
// call. They are tested so that a change of them is noticed: when the relay carries one, its test moves to the table.
func TestDifferences(t *testing.T) {
	t.Parallel()
	p := newRawPair(t, proxied)

	t.Run("user-agent is Kitex's", func(t *testing.T) {
		_, _, request := p.open(t, testbed.RequestFields("user-agent", "some-client/1.0"))
		require.Len(t, request.Values("user-agent"), 1, "user-agent fields")
		require.Regexp(t, "^kitex/", request.Get("user-agent"))
	})

	t.Run("via has an entry more", func(t *testing.T) {
		_, _, request := p.open(t, testbed.RequestFields())
		require.Equal(t, []string{"2 framegate"}, request.Values("via"))
	})

	t.Run("response content-type is the request's", func(t *testing.T) {
		cs, ss, _ := p.open(t, testbed.RequestFields())
		ss.SendHeaders(testbed.ResponseFields().Replace("content-type", "application/grpc+proto"))
		ss.SendTrailers(testbed.StatusFields(0, ""))
		require.Equal(t, []string{"application/grpc"}, cs.Outcome().Headers.Values("content-type"))
	})

	t.Run("upstream's grpc-accept-encoding is dropped", func(t *testing.T) {
		cs, ss, _ := p.open(t, testbed.RequestFields())
		ss.SendHeaders(testbed.ResponseFields("grpc-accept-encoding", "gzip"))
		ss.SendTrailers(testbed.StatusFields(0, ""))
		require.Empty(t, cs.Outcome().Headers.Values("grpc-accept-encoding"))
	})

	t.Run("grpc-status-details-bin without details is dropped", func(t *testing.T) {
		o := p.answer(t, "after headers", testbed.StatusFields(9, "m", "grpc-status-details-bin", encode("\x08\x09"+field(2, "m"))))
		wantUpstream(t, o, 9, "m")
		require.Empty(t, o.Trailers.Values("grpc-status-details-bin"))
	})

	t.Run("a response's unregistered compression is dropped", func(t *testing.T) {
		cs, ss, _ := p.open(t, testbed.RequestFields())
		ss.SendHeaders(testbed.ResponseFields("grpc-encoding", "nobody-registered"))
		ss.SendTrailers(testbed.StatusFields(0, ""))
		require.Empty(t, cs.Outcome().Headers.Values("grpc-encoding"))
	})
}

// The same for fields of other names: Kitex's decodeState (http_util.go) parses these fields and keeps only its
// own reading of them, so that a handler cannot put them back.
func TestDifferences_OfOddButLegalFields(t *testing.T) {
	t.Parallel()
	p := newRawPair(t, proxied)

	t.Run("the message is that of grpc-status-details-bin", func(t *testing.T) {
		o := p.answer(t, "after headers", testbed.StatusFields(9, "nine", "grpc-status-details-bin", encode(detailsWithUnknownField())))
		wantUpstream(t, o, 9, "m")
	})

	t.Run("a status with a biz-status that is no number is unknown", func(t *testing.T) {
		o := p.answer(t, "after headers", testbed.StatusFields(5, "five", "biz-status", "some word"))
		wantUpstream(t, o, 2, "five")
	})

	t.Run("biz-status is dropped but from trailers", func(t *testing.T) {
		cs, ss, request := p.open(t, testbed.RequestFields("biz-status", "1"))
		require.Empty(t, request.Values("biz-status"), "at the upstream")
		ss.SendHeaders(testbed.ResponseFields("biz-status", "1"))
		ss.SendTrailers(testbed.StatusFields(0, ""))
		require.Empty(t, cs.Outcome().Headers.Values("biz-status"), "at the client")
	})

	t.Run("binary values joined with a comma are dropped", func(t *testing.T) {
		_, _, request := p.open(t, testbed.RequestFields("x-some-bin", encode("\x00")+","+encode("\xff")))
		require.Empty(t, request.Values("x-some-bin"))
	})

	t.Run("grpc-message-type is dropped", func(t *testing.T) {
		_, _, request := p.open(t, testbed.RequestFields("grpc-message-type", "a.B"))
		require.Empty(t, request.Values("grpc-message-type"))
	})

	t.Run("only the last grpc-accept-encoding is kept", func(t *testing.T) {
		_, _, request := p.open(t, testbed.RequestFields("grpc-accept-encoding", "gzip", "grpc-accept-encoding", "zstd"))
		require.Equal(t, []string{"zstd"}, request.Values("grpc-accept-encoding"))
	})

	t.Run("content-type's parameter becomes its subtype", func(t *testing.T) {
		_, _, request := p.open(t, testbed.RequestFields().Replace("content-type", "application/grpc;proto"))
		require.Equal(t, []string{"application/grpc+proto"}, request.Values("content-type"))
	})
}
