package test

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/test/testbed"
)

// messageSizes stand around the limits on the way: the prefix, the HTTP/2 frame, framegate's pieces, the window.
var messageSizes = []int{0, 2, 5, 16379, 16384, 16385, 32763, 32768, 32769, 65535, 65536, 1 << 20}

// pattern returns size bytes that differ with their place and with seed. Unless size is 1 they are a message in the wire
// format of Protocol Buffers: one field of bytes, with a length that is longer written than it need be.
func pattern(size, seed int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + seed)
	}
	if size > 1 {
		testbed.MakeField(b)
	}
	return b
}

// receiveAll reads a stream to its end.
func receiveAll(stream interface{ RecvMsg(m any) error }) (all [][]byte, err error) {
	for {
		m, err := testbed.Recv(stream)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
}

func wantMessages(t testing.TB, got, want [][]byte) {
	t.Helper()
	require.Len(t, got, len(want), "messages")
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("message %d: got %d bytes %.20q, want %d bytes %.20q", i, len(got[i]), got[i], len(want[i]), want[i])
		}
	}
}

func TestCalls_UnaryKeepsBytes(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		cc := goPair(t, to, func(stream grpc.ServerStream) error {
			m, err := testbed.Recv(stream)
			if err != nil {
				return err
			}
			return testbed.Send(stream, append(text("re:"), m...))
		})
		for _, size := range messageSizes {
			t.Run(fmt.Sprint(size), func(t *testing.T) {
				request := pattern(size, size)
				reply, err := testbed.Unary(patient(t), cc, request)
				require.NoError(t, err)
				wantMessages(t, [][]byte{reply}, [][]byte{append(text("re:"), request...)})
			})
		}
	})
}

func TestCalls_ClientStreamKeepsOrderAndBytes(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		got := make(chan [][]byte, 1)
		cc := goPair(t, to, func(stream grpc.ServerStream) error {
			all, err := receiveAll(stream)
			got <- all
			if err != nil {
				return err
			}
			return testbed.Send(stream, text("thanks"))
		})
		stream := call(t, cc)
		var sent [][]byte
		for i, size := range messageSizes {
			sent = append(sent, pattern(size, i))
			require.NoError(t, testbed.Send(stream, sent[i]))
		}
		require.NoError(t, stream.CloseSend())
		replies, err := receiveAll(stream)
		require.NoError(t, err)
		wantMessages(t, testbed.Await(t, got, "the messages at the server"), sent)
		wantMessages(t, replies, [][]byte{text("thanks")})
	})
}

func TestCalls_ServerStreamKeepsOrderAndBytes(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		var sent [][]byte
		for i, size := range messageSizes {
			sent = append(sent, pattern(size, i))
		}
		cc := goPair(t, to, func(stream grpc.ServerStream) error {
			if _, err := testbed.Recv(stream); err != nil {
				return err
			}
			for _, m := range sent {
				if err := testbed.Send(stream, m); err != nil {
					return err
				}
			}
			return nil
		})
		stream := call(t, cc)
		require.NoError(t, testbed.Send(stream, text("go")))
		require.NoError(t, stream.CloseSend())
		replies, err := receiveAll(stream)
		require.NoError(t, err)
		wantMessages(t, replies, sent)
	})
}

// Both sides send at once and neither waits for the other.
func TestCalls_BidiDirectionsAreIndependent(t *testing.T) {
	t.Parallel()
	const each = 200
	eachPath(t, func(t *testing.T, to via) {
		atServer := make(chan [][]byte, 1)
		cc := goPair(t, to, func(stream grpc.ServerStream) error {
			sent := make(chan error, 1)
			go func() { sent <- sendMany(stream, each, 1) }()
			all, err := receiveAll(stream)
			atServer <- all
			if err := <-sent; err != nil {
				return err
			}
			return err
		})
		stream := call(t, cc)
		sent := make(chan error, 1)
		go func() {
			err := sendMany(stream, each, 2)
			stream.CloseSend()
			sent <- err
		}()
		atClient, err := receiveAll(stream)
		require.NoError(t, err)
		require.NoError(t, testbed.Await(t, sent, "the client's messages sent"))
		wantMessages(t, testbed.Await(t, atServer, "the messages at the server"), manyMessages(each, 2))
		wantMessages(t, atClient, manyMessages(each, 1))
	})
}

func manyMessages(n, seed int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = pattern(i*97%5000, i+seed)
	}
	return all
}

func sendMany(stream interface{ SendMsg(m any) error }, n, seed int) error {
	for _, m := range manyMessages(n, seed) {
		if err := testbed.Send(stream, m); err != nil {
			return err
		}
	}
	return nil
}

func TestCalls_ZeroMessages(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		for name, want := range map[string]error{"ok": nil, "error": status.Error(codes.NotFound, "nothing here")} {
			t.Run(name, func(t *testing.T) {
				cc := goPair(t, to, func(stream grpc.ServerStream) error {
					if m, err := testbed.Recv(stream); err != io.EOF {
						return status.Errorf(codes.Internal, "got message %q, %v, want EOF", m, err)
					}
					return want
				})
				stream := call(t, cc)
				require.NoError(t, stream.CloseSend())
				replies, err := receiveAll(stream)
				require.Equal(t, status.Convert(want).String(), status.Convert(err).String())
				require.Empty(t, replies)
			})
		}
	})
}

// A request that is HEADERS with END_STREAM, without any DATA, is a request of no message.
func TestCalls_HeadersWithEndStreamAreARequestOfNoMessage(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		cs := p.client.OpenEnd(t, testbed.RequestFields())
		ss := p.server.Accept(t)
		ss.ReadHeaders()
		ss.WantEnd()
		ss.SendHeaders(testbed.ResponseFields())
		ss.Send(testbed.Frame(text("still here")))
		ss.SendTrailers(testbed.StatusFields(0, ""))
		o := cs.Outcome()
		wantUpstream(t, o, 0, "")
		require.Equal(t, testbed.Frame(text("still here")), o.Body)
	})
}

// The client goes on sending after the server has ended the call: it learns of the end, and nothing hangs.
func TestCalls_ServerEndsFirst(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		for _, code := range []codes.Code{codes.OK, codes.AlreadyExists} {
			t.Run(code.String(), func(t *testing.T) {
				cc := goPair(t, to, func(stream grpc.ServerStream) error {
					if _, err := testbed.Recv(stream); err != nil {
						return err
					}
					if err := testbed.Send(stream, text("enough")); err != nil {
						return err
					}
					return status.Error(code, "done with you")
				})
				stream := call(t, cc)
				require.NoError(t, testbed.Send(stream, text("one")))
				replies, err := receiveAll(stream)
				require.Equal(t, code, status.Code(err), "status; %v", err)
				wantMessages(t, replies, [][]byte{text("enough")})
				require.Equal(t, io.EOF, testbed.Send(stream, text("two")), "a message after the end")
			})
		}
	})
}

// A server that ends the call while it owes the client nothing may ask it to stop with RST_STREAM(NO_ERROR), RFC 9113
// §8.1; or not: framegate must not wait for either.
func TestCalls_ServerEndsFirstOnTheWire(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		cs, ss, _ := p.open(t, testbed.RequestFields())
		cs.Send(testbed.Frame(text("one")))
		ss.WantMessage(string(text("one")))
		ss.SendHeaders(testbed.ResponseFields())
		ss.SendTrailers(testbed.StatusFields(0, ""))
		wantUpstream(t, cs.Outcome(), 0, "")
	})
}

func TestCalls_ServerGoesOnAfterClientHalfCloses(t *testing.T) {
	t.Parallel()
	const replies = 20
	eachPath(t, func(t *testing.T, to via) {
		closed := make(chan struct{})
		cc := goPair(t, to, func(stream grpc.ServerStream) error {
			if _, err := receiveAll(stream); err != nil {
				return err
			}
			close(closed)
			return sendMany(stream, replies, 3)
		})
		stream := call(t, cc)
		require.NoError(t, testbed.Send(stream, text("one")))
		require.NoError(t, stream.CloseSend())
		testbed.Await(t, closed, "the half-close at the server")
		got, err := receiveAll(stream)
		require.NoError(t, err)
		wantMessages(t, got, manyMessages(replies, 3))
	})
}

// An endpoint may be a Unix socket.
func TestCalls_ToAUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "backend.sock")
	testbed.NewRawAt(t, "unix", path, echoAll)
	cc := testbed.DialGRPC(t, testbed.NewProxy(t, testbed.RouteTo("unix:"+path)).Addr)
	require.NoError(t, pingPong(call(t, cc), 1, 3))
}

// Calls that share a connection keep their messages apart.
func TestCalls_ConcurrentStreamsDoNotMix(t *testing.T) {
	t.Parallel()
	const streams, rounds = 50, 10
	eachPath(t, func(t *testing.T, to via) {
		cc := goPair(t, to, echoAll)
		var wg sync.WaitGroup
		errs := make(chan error, streams)
		for id := range streams {
			stream := call(t, cc)
			wg.Go(func() { errs <- pingPong(stream, id, rounds) })
		}
		wg.Wait()
		for range streams {
			require.NoError(t, <-errs)
		}
	})
}

// echoAll answers each message with itself.
func echoAll(stream grpc.ServerStream) error {
	for {
		m, err := testbed.Recv(stream)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := testbed.Send(stream, m); err != nil {
			return err
		}
	}
}

// pingPong exchanges messages that only this id sends, and ends the call.
func pingPong(stream grpc.ClientStream, id, rounds int) error {
	for i := range rounds {
		want := pattern(100+id, id*rounds+i)
		if err := testbed.Send(stream, want); err != nil {
			return err
		}
		got, err := testbed.Recv(stream)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("stream %d, round %d: got %.20q, want %.20q", id, i, got, want)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if m, err := testbed.Recv(stream); err != io.EOF {
		return fmt.Errorf("stream %d: got %.20q, %v, want EOF", id, m, err)
	}
	return nil
}
