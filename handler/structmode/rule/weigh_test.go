package rule

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/resolver/spec"
)

// manyPieces is a schema whose messages are small on the wire and large in memory.
const manyPieces = `syntax = "proto2"; package p;
message M { extensions 100 to 200; repeated M inner = 1; repeated int32 numbers = 2 [packed = true]; map<int32, M> map = 3; repeated string texts = 4; optional string text = 5; }
extend M { repeated M more = 100; }
service S { rpc Do(M) returns (M); }`

func TestDecode_RefusesWhatWouldTakeTooMuchMemory(t *testing.T) {
	rules := piecesRules(t)
	const size = 32 << 20
	packed := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), bytes.Repeat([]byte{1}, size))
	nested := bytes.Repeat([]byte{0x0a, 0}, size/2)
	for name, data := range map[string][]byte{
		"messages":       nested,
		"in a message":   protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), nested),
		"map's entries":  bytes.Repeat([]byte{0x1a, 0}, size/2),
		"packed numbers": packed,
		"texts":          bytes.Repeat([]byte{0x22, 0}, size/2),
		"extensions":     bytes.Repeat([]byte{0xa2, 0x06, 0}, size/3),
		"small":          bytes.Repeat([]byte{0x0a, 0}, 1<<20),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := rules.Decode(data, nil)
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, ErrTooLarge, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2*size), name) // 100 times that is what the message would take
	}
	text := protowire.AppendString(protowire.AppendTag(nil, 5, protowire.BytesType), string(bytes.Repeat([]byte{'x'}, size)))
	_, err := rules.Decode(text, nil)
	require.NoError(t, err, "one long text")
	_, err = rules.Decode(bytes.Repeat([]byte{0x0a, 0}, 30_000), nil)
	require.NoError(t, err, "many messages that fit")
}

func piecesRules(t *testing.T) *Rules {
	t.Helper()
	p, err := Compile(&spec.Route{Match: []spec.Match{{Method: "*"}}}, filesOf(t, map[string]string{"p.proto": manyPieces}))
	require.NoError(t, err)
	return p.Method("/p.S/Do").Request
}

func TestWeighJSON_RefusesWhatWouldTakeTooMuchMemory(t *testing.T) {
	many := func(s string, n int) []byte { return []byte("{\"inner\":[" + strings.Repeat(s+",", n) + "{}]}") }
	require.ErrorIs(t, jsonWeightError(many("{}", 1<<20)), ErrTooLarge)
	require.ErrorIs(t, jsonWeightError(many("1", 7<<20)), ErrTooLarge)
	require.NoError(t, jsonWeightError(many("{}", 10_000)))
	require.NoError(t, jsonWeightError([]byte(`{"text":"`+strings.Repeat(`{\"[,`, 1<<20)+`"}`)), "in a text they are text")
}

func TestRules_RefuseTimesThatAreOutOfRange(t *testing.T) {
	files := filesOf(t, map[string]string{"p.proto": `syntax = "proto3"; package p;
import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto";
message M { google.protobuf.Timestamp at = 1; google.protobuf.Duration wait = 2; repeated int32 numbers = 3; }
service S { rpc Do(M) returns (M); }`})
	for when, data := range map[string][]byte{
		`message.at > timestamp("2030-01-01T00:00:00Z")`: protowire.AppendBytes([]byte{0x0a}, protowire.AppendVarint([]byte{8}, 1<<63-1)),
		`message.wait > duration("1h")`:                  protowire.AppendBytes([]byte{0x12}, append(protowire.AppendVarint([]byte{8}, 9223372036), protowire.AppendVarint([]byte{16}, 1<<31-1)...)),
		`7 in message.numbers`:                           protowire.AppendBytes([]byte{0x1a}, make([]byte, 1<<20)),
	} {
		p, err := Compile(&spec.Route{
			Match: []spec.Match{{Method: "*"}}, Struct: &spec.Struct{Rules: []spec.Rule{{On: spec.OnRequest, When: when, Action: spec.ActionReject}}},
		}, files)
		require.NoError(t, err)
		rules := p.Method("/p.S/Do").Request
		m, err := rules.Decode(data, nil)
		require.NoError(t, err)
		require.Error(t, rules.Apply(&Call{}, m, Frame{}, &Result{}), when)
	}
}

func jsonWeightError(data []byte) error {
	_, err := WeighJSON(data)
	return err
}
