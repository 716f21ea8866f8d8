package hostile

import (
	"slices"
	"testing"

	"github.com/framegate/framegate/test/testbed"
)

// Messages that are malformed by gRPC, in well-formed DATA, end their call with a status (gRPC over HTTP/2,
// "Length-Prefixed-Message").
func badMessages(t *testing.T, w *world, upstream *testbed.H2Server) {
	whole := testbed.Frame([]byte("hello"))
	for name, m := range inOrder(map[string]struct {
		data   []byte
		end    bool
		code   int
		reason string
	}{
		"a length of 0xffffffff":                 {testbed.Prefix(0, 1<<32-1), false, 8, "message_too_large"},
		"a length of 0xffffffff, and the end":    {testbed.Prefix(0, 1<<32-1), true, 8, "message_too_large"},
		"a length of 0xffffffff, compressed":     {testbed.Prefix(1, 1<<32-1), false, 8, "message_too_large"},
		"a length of 2^31":                       {testbed.Prefix(0, 1<<31), false, 8, "message_too_large"},
		"a length over the limit by one":         {testbed.Prefix(0, 64<<20+1), false, 8, "message_too_large"},
		"such a length behind a good message":    {slices.Concat(whole, testbed.Prefix(0, 1<<32-1)), false, 8, "message_too_large"},
		"a flag of 2":                            {testbed.Prefix(2, 5), false, 13, "bad_request_framing"},
		"a flag of 255":                          {testbed.Prefix(255, 0), false, 13, "bad_request_framing"},
		"a flag of 7 behind a good message":      {slices.Concat(whole, testbed.Prefix(7, 0)), false, 13, "bad_request_framing"},
		"a message cut behind its first byte":    {whole[:1], true, 13, "bad_request_framing"},
		"a message cut behind its prefix":        {whole[:5], true, 13, "bad_request_framing"},
		"a message cut before its last byte":     {whole[:9], true, 13, "bad_request_framing"},
		"a second message cut within its prefix": {slices.Concat(whole, []byte{0, 0}), true, 13, "bad_request_framing"},
	}) {
		w.attack(t, "message: "+name, func(t *testing.T) {
			c := testbed.DialH2(t, w.proxy.Addr)
			for i := range repeats {
				s := c.Open(t, rawRequest(ways[i%len(ways)]))
				up := upstream.Accept(t)
				if m.end {
					s.SendEnd(m.data)
				} else {
					s.Send(m.data)
				}
				wantLocal(t, s.Outcome(), m.code, m.reason)
				wantCancelled(t, up)
				wantGood(t, c)
			}
		})
	}
}
