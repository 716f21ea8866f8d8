package rule

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/resolver"
)

// manyPieces is a schema whose messages are small on the wire and large in memory.
const manyPieces = `syntax = "proto3"; package p;
message M { repeated M inner = 1; repeated int32 numbers = 2; map<int32, M> map = 3; repeated string texts = 4; string text = 5; }
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
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := rules.Decode(data)
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, ErrTooLarge, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), name)
	}
	text := protowire.AppendString(protowire.AppendTag(nil, 5, protowire.BytesType), string(bytes.Repeat([]byte{'x'}, size)))
	_, err := rules.Decode(text)
	require.NoError(t, err, "one long text")
	_, err = rules.Decode(bytes.Repeat([]byte{0x0a, 0}, 100_000))
	require.NoError(t, err, "many messages that fit")
}

func piecesRules(t *testing.T) *Rules {
	t.Helper()
	p, err := Compile(&resolver.Route{Match: []resolver.Match{{Method: "*"}}}, filesOf(t, map[string]string{"p.proto": manyPieces}))
	require.NoError(t, err)
	return p.Method("/p.S/Do").Request
}
