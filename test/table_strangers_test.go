package test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// strangers are what clients that do not speak gRPC send.
var strangers = map[string][]byte{
	"HTTP/1.1 GET":          []byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"),
	"HTTP/1.1 POST":         []byte("POST /test.Raw/Call HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nabc"),
	"HTTP/1.1 upgrade":      []byte("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"),
	"TLS":                   append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, pattern(507, 1)...),
	"zeros":                 make([]byte, 1000),
	"noise":                 pattern(10000, 77),
	"preface, then noise":   append([]byte(http2.ClientPreface), pattern(10000, 77)...),
	"preface, then HTTP":    []byte(http2.ClientPreface + "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"),
	"frame over the limit":  append([]byte(http2.ClientPreface), 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1),
	"preface of an other":   []byte("PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n followed by more"),
	"Thrift":                []byte("\x00\x00\x00\x10\x80\x01\x00\x01\x00\x00\x00\x04call\x00\x00\x00\x01\x00"),
	"length of two GiB":     append([]byte{0x7f, 0xff, 0xff, 0xff}, pattern(100, 3)...),
	"TTHeader magic number": append([]byte{0, 0, 0, 0x20, 0x10, 0x00}, make([]byte, 60)...),
}

// A stranger is closed or answered; the others notice nothing.
func TestStrangers_AreClosedOrAnswered(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr))
	for name, hello := range strangers {
		t.Run(name, func(t *testing.T) {
			nc := dialTCP(t, proxy.Addr)
			_, err := nc.Write(hello)
			require.NoError(t, err)
			require.NoError(t, nc.SetReadDeadline(time.Now().Add(testbed.Patience)))
			n, err := io.Copy(io.Discard, nc)
			if errors.Is(err, os.ErrDeadlineExceeded) && n == 0 {
				t.Errorf("got neither an answer nor an end in %s", testbed.Patience)
			}
			wantStillServing(t, proxy.Addr, server)
		})
	}
}

// Those who leave or stop in the middle disturb nobody.
func TestStrangers_WhoSayTooLittle(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr))
	for name, hello := range map[string]string{
		"nothing":             "",
		"one byte":            "P",
		"half a preface":      http2.ClientPreface[:12],
		"preface":             http2.ClientPreface,
		"half a frame header": http2.ClientPreface + "\x00\x00",
		"half a line":         "GET / HT",
	} {
		t.Run(name, func(t *testing.T) {
			stays := dialTCP(t, proxy.Addr)
			leaves := dialTCP(t, proxy.Addr)
			for _, nc := range []net.Conn{stays, leaves} {
				_, err := nc.Write([]byte(hello))
				require.NoError(t, err)
			}
			require.NoError(t, leaves.Close())
			wantStillServing(t, proxy.Addr, server)
		})
	}
}

// HTTP/2 that is not gRPC gets an end, with or without words.
func TestStrangers_HTTP2RequestsThatAreNotGRPC(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr))
	for name, fields := range map[string]testbed.Fields{
		"GET":                   testbed.NewFields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"),
		"POST of a form":        testbed.RequestFields().Replace("content-type", "application/x-www-form-urlencoded"),
		"path without a method": testbed.RequestFields().Replace(":path", "/nothing"),
		"empty path":            testbed.RequestFields().Replace(":path", ""),
		"bad grpc-timeout":      testbed.RequestFields("grpc-timeout", "soon"),
	} {
		t.Run(name, func(t *testing.T) {
			cs := testbed.DialH2(t, proxy.Addr).OpenEnd(t, fields)
			if o := cs.Outcome(); o.Ended && o.Code() == 0 {
				t.Errorf("got status OK, want an error; %s", o)
			}
			wantStillServing(t, proxy.Addr, server)
		})
	}
}

func dialTCP(t testing.TB, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	return nc
}

// wantStillServing makes one good call on a new connection.
func wantStillServing(t testing.TB, addr string, server *testbed.H2Server) {
	t.Helper()
	p := rawPair{client: testbed.DialH2(t, addr), server: server}
	cs, ss, _ := p.open(t, testbed.RequestFields())
	cs.SendEnd(testbed.Frame([]byte("request")))
	ss.WantMessage("request")
	ss.SendHeaders(testbed.ResponseFields())
	ss.Send(testbed.Frame([]byte("response")))
	ss.SendTrailers(testbed.StatusFields(0, ""))
	o := cs.Outcome()
	wantUpstream(t, o, 0, "")
	require.True(t, bytes.Equal(testbed.Frame([]byte("response")), o.Body), "body of a good call; got %s", o)
}
