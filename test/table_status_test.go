package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/test/testbed"
)

// responseShapes are the places in a response where a status can come.
var responseShapes = map[string]func(ss *testbed.H2Stream, status testbed.Fields){
	"trailers only": func(ss *testbed.H2Stream, status testbed.Fields) {
		ss.SendTrailers(append(testbed.ResponseFields(), status...))
	},
	"after headers": func(ss *testbed.H2Stream, status testbed.Fields) {
		ss.SendHeaders(testbed.ResponseFields())
		ss.SendTrailers(status)
	},
	"after a message": func(ss *testbed.H2Stream, status testbed.Fields) {
		ss.SendHeaders(testbed.ResponseFields())
		ss.Send(testbed.Frame(text("a message")))
		ss.SendTrailers(status)
	},
}

// answer makes one call on p, answers it with the status in the shape, and returns what the client got.
func (p rawPair) answer(t testing.TB, shape string, status testbed.Fields) testbed.Outcome {
	t.Helper()
	cs, ss, _ := p.open(t, testbed.RequestFields())
	cs.SendEnd(testbed.Frame(text("request")))
	ss.WantMessage(string(text("request")))
	ss.WantEnd()
	responseShapes[shape](ss, status)
	return cs.Outcome()
}

func TestStatus_CodeIsUnchanged(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for shape := range responseShapes {
			for _, code := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 99, 1 << 30} {
				t.Run(fmt.Sprintf("%s/%d", shape, code), func(t *testing.T) {
					message := fmt.Sprintf("status %d", code)
					o := p.answer(t, shape, testbed.StatusFields(code, message))
					wantUpstream(t, o, code, message)
					require.Empty(t, o.Trailers.Values("biz-status"), "biz-status")
				})
			}
		}
	})
}

func TestStatus_MessageIsUnchanged(t *testing.T) {
	t.Parallel()
	messages := []struct{ name, encoded, want string }{
		{"empty", "", ""},
		{"ascii", "a plain message", "a plain message"},
		{"percent", "50%25 of 100%25", "50% of 100%"},
		{"unicode", "%E2%98%BA and %F0%9F%98%88", "☺ and 😈"},
		{"lower-case hex", "%e2%98%ba", "☺"},
		{"white space", "%09%0Atwo%0D%0Alines ", "\t\ntwo\r\nlines "},
		{"bad percent-encoding", "100% %zz %4", "100% %zz %4"},
		{"long", strings.Repeat("long %C3%A4 ", 300), strings.Repeat("long ä ", 300)},
		{"like framegate's own", "framegate: not really", "framegate: not really"},
	}
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for shape := range responseShapes {
			for _, m := range messages {
				t.Run(shape+"/"+m.name, func(t *testing.T) {
					wantUpstream(t, p.answer(t, shape, testbed.StatusFields(2, m.encoded)), 2, m.want)
				})
			}
			t.Run(shape+"/absent", func(t *testing.T) {
				wantUpstream(t, p.answer(t, shape, testbed.NewFields("grpc-status", "2")), 2, "")
			})
			t.Run(shape+"/with OK", func(t *testing.T) {
				wantUpstream(t, p.answer(t, shape, testbed.StatusFields(0, "well done")), 0, "well done")
			})
		}
	})
}

// detailsWithUnknownField is a google.rpc.Status of code 9 and message "m" with two details and a field that nobody
// knows.
func detailsWithUnknownField() string {
	detail := func(typeURL, value string) string { return field(1, typeURL) + field(2, value) }
	return "\x08\x09" + field(2, "m") +
		field(3, detail("type.googleapis.com/google.protobuf.StringValue", field(1, "first"))) +
		field(3, detail("type.googleapis.com/nobody.Knows", "\x00\xff\x80")) +
		field(15, "unknown")
}

// field is a protobuf field of wire type 2 and less than 128 bytes.
func field(number int, value string) string {
	return string([]byte{byte(number<<3 | 2), byte(len(value))}) + value
}

func TestStatus_DetailsAreUnchanged(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for shape := range responseShapes {
			t.Run(shape, func(t *testing.T) {
				want := detailsWithUnknownField()
				o := p.answer(t, shape, testbed.StatusFields(9, "m", "grpc-status-details-bin", encode(want)))
				wantUpstream(t, o, 9, "m")
				require.Equal(t, []string{want}, o.Trailers.Binary("grpc-status-details-bin"))
			})
		}
	})
}

// The same seen through a library: what a grpc-go server returns is what a grpc-go client gets.
func TestStatus_SameThroughGRPCGo(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		for code := codes.Code(0); code <= 17; code++ {
			if code == 17 {
				code = 99
			}
			t.Run(code.String(), func(t *testing.T) {
				want := status.New(code, "100% of ☺ failed")
				cc := goPair(t, to, func(grpc.ServerStream) error { return want.Err() })
				stream := call(t, cc)
				require.NoError(t, stream.CloseSend())
				_, err := receiveAll(stream)
				if code == codes.OK {
					require.NoError(t, err)
					return
				}
				require.Equal(t, want.String(), status.Convert(err).String())
				require.Empty(t, stream.Trailer().Get("framegate-error"), "framegate-error")
				require.Empty(t, stream.Trailer().Get("biz-status"), "biz-status")
			})
		}
	})
}

// Kitex servers say business errors in trailers of their own, for Kitex clients.
func TestStatus_BusinessErrorPasses(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for shape := range responseShapes {
			t.Run(shape, func(t *testing.T) {
				o := p.answer(t, shape, testbed.StatusFields(13, "not found", "biz-status", "404", "biz-extra", `{"item":"ä"}`))
				wantUpstream(t, o, 13, "not found")
				require.Equal(t, []string{"404"}, o.Trailers.Values("biz-status"))
				require.Len(t, o.Trailers.Values("biz-extra"), 1, "biz-extra fields")
				require.JSONEq(t, `{"item":"ä"}`, o.Trailers.Get("biz-extra"))
			})
		}
		t.Run("without extra", func(t *testing.T) {
			o := p.answer(t, "trailers only", testbed.StatusFields(13, "not found", "biz-status", "-7"))
			wantUpstream(t, o, 13, "not found")
			require.Equal(t, []string{"-7"}, o.Trailers.Values("biz-status"))
			require.Empty(t, o.Trailers.Values("biz-extra"), "biz-extra")
		})
	})
}
