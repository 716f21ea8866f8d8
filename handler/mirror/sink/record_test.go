package sink

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
)

// wanted has the fields of a record as a reader decodes them.
type wanted struct {
	ID, Route, Method, Direction string
	Time                         time.Time
	Timestamp                    *time.Time `json:"@timestamp"`
	Metadata                     map[string]string
	Payload                      []byte
	Message                      json.RawMessage
}

func decode(t testing.TB, record []byte) wanted {
	t.Helper()
	var w wanted
	d := json.NewDecoder(bytes.NewReader(record))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&w), "%q", record)
	require.False(t, d.More())
	return w
}

// bytesOf undoes appendText.
func bytesOf(t testing.TB, s string) string {
	t.Helper()
	b := make([]byte, 0, len(s))
	for _, r := range s {
		require.Less(t, r, rune(256))
		b = append(b, byte(r))
	}
	return string(b)
}

func TestRecord_IsAsDocumented(t *testing.T) {
	t.Parallel()
	e := &Event{
		ID: "7", Route: "echo", Method: "/echo.Echo/Unary", Direction: spec.OnResponse,
		Time: time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.FixedZone("", 3600)),
		Metadata: map[string][]string{
			"x-tenant": {"gold", "ring"}, "authorization": {"Bearer secret"}, "cookie": {"a", "b"}, "trace-bin": {"\x00\xff", "a"},
			"empty": {}, "odd": {"\"\\\n\x7f\x80\xe9"},
		},
		Payload: []byte("\x00\xffhello"),
		Message: func() json.RawMessage { return json.RawMessage("{\n  \"a\": [1, \"\\n\"]\r\n}") },
	}
	require.Equal(t, `{"id":"7","route":"echo","method":"/echo.Echo/Unary","direction":"response","time":"2026-03-04T04:06:07.123456789Z",`+
		`"metadata":{"authorization":"[REDACTED]","cookie":"[REDACTED]","empty":"","odd":"\"\\\u000a\u007f\u0080é","trace-bin":"AP8=, YQ==","x-tenant":"gold, ring"},`+
		`"payload":"AP9oZWxsbw==","message":{"a":[1,"\n"]}}`, string(newEncoder(nil).append(nil, e)))

	n := newEncoder([]string{})
	n.timestamp = true
	got := decode(t, n.append(nil, e))
	require.True(t, got.Timestamp.Equal(e.Time))
	require.Equal(t, "a, b", got.Metadata["cookie"], "nothing is redacted if the list is empty")
}

func TestRecord_HidesOnlyWhatTheDocumentNames(t *testing.T) {
	t.Parallel()
	e := &Event{Metadata: map[string][]string{"authorization": {"1"}, "cookie": {"2"}, "x-key": {"3", "4"}, "x-bin": {"5"}}}
	for _, c := range []struct {
		redact []string
		want   map[string]string
	}{
		{nil, map[string]string{"authorization": spec.Redacted, "cookie": spec.Redacted, "x-key": "3, 4", "x-bin": "NQ=="}},
		{[]string{}, map[string]string{"authorization": "1", "cookie": "2", "x-key": "3, 4", "x-bin": "NQ=="}},
		{[]string{"x-key", "x-bin"}, map[string]string{"authorization": "1", "cookie": "2", "x-key": spec.Redacted, "x-bin": spec.Redacted}},
	} {
		require.Equal(t, c.want, decode(t, newEncoder(c.redact).append(nil, e)).Metadata)
	}
}

func TestRecord_HasAMessageOnlyIfThereIsOne(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{`{"a":1}`: `{"a":1}`, `null`: `null`, "": "", `{"a":`: "", "1\n2": ""} {
		e := &Event{Message: func() json.RawMessage { return json.RawMessage(text) }}
		record := newEncoder(nil).append(nil, e)
		require.True(t, json.Valid(record), "%q", record)
		require.NotContains(t, string(record), "\n")
		_, got, _ := strings.Cut(strings.TrimSuffix(string(record), "}"), `,"message":`)
		require.Equal(t, want, got)
	}
	e := &Event{Message: func() json.RawMessage { return nil }}
	require.NotContains(t, string(newEncoder(nil).append(nil, e)), "message")
}

// A reader gets back any bytes, which are read as documented.
func FuzzRecord(f *testing.F) {
	f.Add("id", "/a.B/C", "x-name", "value", "other", []byte("payload"), `{"a":1}`)
	f.Add("\x00", "\"\\", "n-bin", "\xff\xfe", "", []byte{0xff, 0}, "")
	f.Add("é", "\u2028", "a", "\xed\xa0\x80\r\n", "\x7f\x80\x9f\xa0", []byte(nil), "[\n1,\r\"\\u2028\"]")
	f.Fuzz(func(t *testing.T, id, method, name, first, second string, payload []byte, message string) {
		e := &Event{
			ID: id, Route: "r", Method: method, Direction: spec.OnRequest, Time: time.Unix(1, 2),
			Metadata: map[string][]string{name: {first, second}, name + "-bin": {second}},
			Payload:  payload,
			Message:  func() json.RawMessage { return json.RawMessage(message) },
		}
		record := newEncoder([]string{}).append(nil, e)
		require.True(t, utf8.Valid(record))
		require.Equal(t, -1, bytes.IndexFunc(record, func(r rune) bool { return r == '\n' || r == '\r' }), "one line: %q", record)
		got := decode(t, record)
		require.Equal(t, []string{id, method, "r", "request"},
			[]string{bytesOf(t, got.ID), bytesOf(t, got.Method), got.Route, got.Direction})
		require.True(t, got.Time.Equal(e.Time))
		require.Equal(t, string(payload), string(got.Payload))
		require.Len(t, got.Metadata, 2)
		for key, v := range got.Metadata {
			key, values := bytesOf(t, key), []string{bytesOf(t, v)}
			if !strings.HasSuffix(key, "-bin") {
				require.Equal(t, first+", "+second, values[0])
				continue
			}
			values = strings.Split(v, ", ")
			for i := range values {
				b, err := base64.StdEncoding.DecodeString(values[i])
				require.NoError(t, err)
				values[i] = string(b)
			}
			require.Equal(t, e.Metadata[key], values)
		}
		if !json.Valid([]byte(message)) || !utf8.ValidString(message) {
			require.Nil(t, got.Message)
			return
		}
		require.JSONEq(t, message, string(got.Message))
	})
}

// Metadata of a call is the same for each of its messages, and there are many.
func TestRecord_CostsNoAllocations(t *testing.T) {
	n, e := newEncoder(nil), ordinary()
	b := n.append(nil, e)
	require.Zero(t, testing.AllocsPerRun(100, func() { b = n.append(b[:0], e) }))
}

// ordinary returns an event of 100 bytes with the metadata of an ordinary call.
func ordinary() *Event {
	return &Event{
		ID: "5f0c1d2e3a4b", Route: "echo", Method: "/echo.Echo/Unary", Direction: spec.OnRequest, Time: time.Now(),
		Metadata: map[string][]string{
			"user-agent": {"grpc-go/1.85.0"}, "x-request-id": {"5f0c1d2e3a4b"}, "authorization": {"Bearer secret"},
			"x-tenant": {"gold"}, "grpc-trace-bin": {"\x00\x01\x02\xff"},
		},
		Payload: []byte(strings.Repeat("x", 100)),
	}
}

func BenchmarkRecord(b *testing.B) {
	n, e := newEncoder(nil), ordinary()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = n.append(buf[:0], e)
	}
}
