package test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/test/testbed"
)

// bodyFields describe the body that they come with: its length (RFC 9110 §8.6) and digests of it (RFC 9530, RFC 3230 and
// RFC 1864).
var bodyFields = testbed.NewFields(
	"content-length", "12",
	"content-digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
	"repr-digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
	"digest", "sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=",
	"content-md5", "sQqNsWTgdUEFt6mb5y4/5Q==",
)

// What describes a body is not true of what struct mode makes of it. Frame mode keeps both, but for the length of an answer,
// which it may have to cut.
func TestBodyFields_AreKeptWithTheirBodyOnly(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		cs, ss, request := p.open(t, append(testbed.RequestFields("x-kept", "1"), bodyFields...))
		cs.SendEnd(testbed.Frame(text("hello")))
		ss.WantMessage(string(text("hello")))
		ss.SendHeaders(append(testbed.ResponseFields("x-kept", "1"), bodyFields...))
		ss.Send(testbed.Frame(text("hello")))
		ss.SendTrailers(append(testbed.StatusFields(0, "", "x-kept", "1"), bodyFields[1:]...)) // as RFC 9530 §2 has them too
		o := cs.Outcome()
		wantUpstream(t, o, 0, "")
		for where, got := range map[string]testbed.Fields{"request": request, "headers": o.Headers, "trailers": o.Trailers} {
			require.Equal(t, []string{"1"}, got.Values("x-kept"), where)
			for _, f := range bodyFields {
				if strings.HasSuffix(t.Name(), "/struct") {
					require.Empty(t, got.Values(f.Name), "%s: %s", where, f.Name)
				} else if f.Name == "content-length" && (where == "trailers" || where == "headers" && strings.HasSuffix(t.Name(), "/proxied")) {
					require.Empty(t, got.Values(f.Name), where)
				} else {
					require.Equal(t, []string{f.Value}, got.Values(f.Name), "%s: %s", where, f.Name)
				}
			}
		}
	})
}

// A client that checks content-length hears the status of an answer that framegate had to cut.
func TestBodyFields_StrictClientHearsTheStatusOfAnAnswerThatIsCut(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		server := testbed.NewH2Server(t)
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		transport := &http.Transport{Protocols: &protocols}
		t.Cleanup(transport.CloseIdleConnections)
		req, err := http.NewRequestWithContext(patient(t), http.MethodPost, "http://"+to(t, server.Addr)+testbed.Method, bytes.NewReader(testbed.Frame(text("a"))))
		require.NoError(t, err)
		req.Header.Set("content-type", "application/grpc")
		req.Header.Set("te", "trailers")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			ss := server.Accept(t)
			ss.ReadHeaders()
			ss.SendHeaders(testbed.ResponseFields("content-length", "100"))
			ss.Send(testbed.Frame(text("b")))
			ss.Send([]byte{7, 0, 0, 0, 1}) // no flag that there is
		}()
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, testbed.Frame(text("b")), body)
		require.Equal(t, "13", resp.Trailer.Get("grpc-status"))
		require.Equal(t, "bad_response_framing", resp.Trailer.Get("framegate-error"))
		<-ended
	})
}

// Peers that check content-length, as Go's net/http does on both sides, take what struct mode has changed, whatever it did.
func TestBodyFields_StrictPeersTakeWhatIsChanged(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.Header().Set("content-type", "application/grpc")
		w.Header().Set("trailer", "grpc-status, grpc-message")
		if r.Header.Get("grpc-encoding") != "" {
			w.Header().Set("grpc-encoding", r.Header.Get("grpc-encoding"))
		}
		if err != nil {
			w.Header().Set("grpc-status", "2")
			w.Header().Set("grpc-message", err.Error())
			return
		}
		w.Header().Set("content-length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
		w.Header().Set("grpc-status", "0")
	}))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server.Config.Protocols = &protocols
	server.Start()
	t.Cleanup(server.Close)
	transport := &http.Transport{Protocols: &protocols}
	t.Cleanup(transport.CloseIdleConnections)

	gzip, ok := compress.Get("gzip")
	require.True(t, ok)
	compressed := func(s string) []byte {
		b, err := gzip.Compress(nil, text(s))
		require.NoError(t, err)
		return testbed.Message{Flag: 1, Payload: b}.Bytes()
	}
	plain := func(messages ...string) (body []byte) {
		for _, m := range messages {
			body = append(body, testbed.Frame(text(m))...)
		}
		return body
	}
	for name, c := range map[string]struct {
		rules, method, encoding string
		send                    []byte
		want                    []string
	}{
		"request longer":     {rules: `{on: request, action: set, fields: {message: '"a longer " + message.message'}}`, send: plain("one"), want: []string{"a longer one"}},
		"request shorter":    {rules: `{on: request, action: set, fields: {message: '"s"'}}`, send: plain("one"), want: []string{"s"}},
		"request cleared":    {rules: `{on: request, action: clear, fields: [message]}`, send: plain("one"), want: []string{""}},
		"answer longer":      {rules: `{on: response, action: redact, fields: [message]}`, send: plain("one"), want: []string{"[REDACTED]"}},
		"answer shorter":     {rules: `{on: response, action: clear, fields: [message]}`, send: plain("one"), want: []string{""}},
		"request in part":    {rules: `{on: request, when: message.message == "spam", action: drop}`, method: "Chat", send: plain("one", "spam", "two"), want: []string{"one", "two"}},
		"answer in part":     {rules: `{on: response, when: message.message == "spam", action: drop}`, method: "Chat", send: plain("one", "spam", "two"), want: []string{"one", "two"}},
		"compressed again":   {rules: `{on: request, action: set, fields: {message: 'message.message + "!"'}}`, encoding: "gzip", send: compressed("one"), want: []string{"one!"}},
		"nothing is changed": {rules: `{on: request, when: "index < 0", action: reject}`, send: plain("one"), want: []string{"one"}},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := testbed.NewProxy(t, testbed.RuledRouteTo(server.Listener.Addr().String(), []string{testbed.EchoProto(t)}, "["+c.rules+"]"))
			method := c.method
			if method == "" {
				method = "Say"
			}
			req, err := http.NewRequestWithContext(patient(t), http.MethodPost, "http://"+proxy.Addr+"/echo.Echo/"+method, bytes.NewReader(c.send))
			require.NoError(t, err)
			req.Header.Set("content-type", "application/grpc")
			req.Header.Set("te", "trailers")
			if c.encoding != "" {
				req.Header.Set("grpc-encoding", c.encoding)
			}
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, "0", resp.Trailer.Get("grpc-status"), "%s %s", resp.Trailer.Get("grpc-message"), resp.Header)
			messages, err := testbed.Messages(body)
			require.NoError(t, err)
			var got []string
			for _, m := range messages {
				payload := m.Payload
				if m.Flag == 1 {
					payload, err = gzip.Decompress(payload, 1<<10)
					require.NoError(t, err)
				}
				got = append(got, string(payload))
			}
			want := make([]string, len(c.want))
			for i, m := range c.want {
				if m != "" {
					want[i] = string(text(m))
				}
			}
			require.Equal(t, want, got)
		})
	}
}
