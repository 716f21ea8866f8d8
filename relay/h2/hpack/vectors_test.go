package hpack

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const unlimited = 1<<32 - 1

type pair struct{ name, value string }

func pairs(fields []*Field) (out []pair) {
	for _, f := range fields {
		out = append(out, pair{f.Name, f.Value})
	}
	return out
}

func bytesOf(t testing.TB, dump string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(dump, " ", ""))
	require.NoError(t, err)
	return b
}

// step is one header block of RFC 7541 appendix C, and the table after it.
type step struct {
	block     string
	fields    []pair
	table     []pair // newest first
	tableSize uint32
}

var (
	requests = [][]pair{
		{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "www.example.com"}},
		{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "www.example.com"}, {"cache-control", "no-cache"}},
		{{":method", "GET"}, {":scheme", "https"}, {":path", "/index.html"}, {":authority", "www.example.com"}, {"custom-key", "custom-value"}},
	}
	requestTables = [][]pair{
		{{":authority", "www.example.com"}},
		{{"cache-control", "no-cache"}, {":authority", "www.example.com"}},
		{{"custom-key", "custom-value"}, {"cache-control", "no-cache"}, {":authority", "www.example.com"}},
	}
	requestSizes = []uint32{57, 110, 164}

	setCookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
	responses = [][]pair{
		{{":status", "302"}, {"cache-control", "private"}, {"date", "Mon, 21 Oct 2013 20:13:21 GMT"}, {"location", "https://www.example.com"}},
		{{":status", "307"}, {"cache-control", "private"}, {"date", "Mon, 21 Oct 2013 20:13:21 GMT"}, {"location", "https://www.example.com"}},
		{{":status", "200"}, {"cache-control", "private"}, {"date", "Mon, 21 Oct 2013 20:13:22 GMT"}, {"location", "https://www.example.com"},
			{"content-encoding", "gzip"}, {"set-cookie", setCookie}},
	}
	responseTables = [][]pair{
		{{"location", "https://www.example.com"}, {"date", "Mon, 21 Oct 2013 20:13:21 GMT"}, {"cache-control", "private"}, {":status", "302"}},
		{{":status", "307"}, {"location", "https://www.example.com"}, {"date", "Mon, 21 Oct 2013 20:13:21 GMT"}, {"cache-control", "private"}},
		{{"set-cookie", setCookie}, {"content-encoding", "gzip"}, {"date", "Mon, 21 Oct 2013 20:13:22 GMT"}},
	}
	responseSizes = []uint32{222, 222, 215}
)

func steps(fields, tables [][]pair, sizes []uint32, blocks ...string) (out []step) {
	for i, block := range blocks {
		out = append(out, step{block, fields[i], tables[i], sizes[i]})
	}
	return out
}

// vectors are the blocks of RFC 7541 appendix C.
var vectors = []struct {
	name      string
	tableSize uint32
	huffman   bool
	steps     []step
}{
	{"C.2.1", 4096, false, []step{{"400a637573746f6d2d6b65790d637573746f6d2d686561646572",
		[]pair{{"custom-key", "custom-header"}}, []pair{{"custom-key", "custom-header"}}, 55}}},
	{"C.2.4", 4096, false, []step{{"82", []pair{{":method", "GET"}}, nil, 0}}},
	{"C.3", 4096, false, steps(requests, requestTables, requestSizes,
		"828684410f7777772e6578616d706c652e636f6d",
		"828684be58086e6f2d6361636865",
		"828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565")},
	{"C.4", 4096, true, steps(requests, requestTables, requestSizes,
		"828684418cf1e3c2e5f23a6ba0ab90f4ff",
		"828684be5886a8eb10649cbf",
		"828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")},
	{"C.5", 256, false, steps(responses, responseTables, responseSizes,
		"4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
		"4803333037c1c0bf",
		"88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31")},
	{"C.6", 256, true, steps(responses, responseTables, responseSizes,
		"488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
		"4883640effc1c0bf",
		"88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007")},
}

func tablePairs(t *table) (out []pair) {
	for i := range t.n {
		f := t.at(i)
		out = append(out, pair{f.Name, f.Value})
	}
	return out
}

func TestDecoder_ReadsTheVectorsOfRFC7541(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			d := NewDecoder(NewInterner(1024, 1024), v.tableSize)
			for i, s := range v.steps {
				fields, err := d.Decode(nil, bytesOf(t, s.block), unlimited)
				require.NoError(t, err, "block %d", i)
				require.Equal(t, s.fields, pairs(fields), "block %d", i)
				require.Equal(t, s.table, tablePairs(&d.table), "table after block %d", i)
				require.Equal(t, s.tableSize, d.table.size, "table after block %d", i)
			}
		})
	}
}

// The vectors put each field into the table at first sight and evict as often as need be. The Encoder waits for the second sight
// and seldom evicts: so it is told that it has seen the field, and has not evicted of late, before each.
func TestEncoder_WritesTheVectorsOfRFC7541(t *testing.T) {
	for _, v := range vectors {
		if v.huffman {
			continue // Nothing is Huffman coded.
		}
		t.Run(v.name, func(t *testing.T) {
			in := NewInterner(1024, 1024)
			e := NewEncoder()
			e.SetMaxTableSize(v.tableSize)
			e.Append(nil, nil) // the table size update, which the vectors leave out
			for i, s := range v.steps {
				var block []byte
				for _, p := range s.fields {
					f := in.Field(p.name, p.value, false)
					e.again(f.hash)
					e.wait = 0
					block = e.Append(block, []*Field{f})
				}
				require.Equal(t, hex.EncodeToString(bytesOf(t, s.block)), hex.EncodeToString(block), "block %d", i)
				require.Equal(t, s.table, tablePairs(&e.table), "table after block %d", i)
				require.Equal(t, s.tableSize, e.table.size, "table after block %d", i)
			}
		})
	}
}

func TestCodec_LiteralsThatTouchNoTable(t *testing.T) {
	for _, c := range []struct {
		name, block string
		field       pair
		sensitive   bool
	}{
		{"C.2.2", "040c2f73616d706c652f70617468", pair{":path", "/sample/path"}, false},
		{"C.2.3", "100870617373776f726406736563726574", pair{"password", "secret"}, true},
		{"index of two bytes", "0f110474657374", pair{"cookie", "test"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := NewInterner(1024, 1024)
			d := NewDecoder(in, 4096)
			fields, err := d.Decode(nil, bytesOf(t, c.block), unlimited)
			require.NoError(t, err)
			require.Equal(t, []pair{c.field}, pairs(fields))
			require.Equal(t, c.sensitive, fields[0].Sensitive)
			require.Zero(t, d.table.n)
			e := NewEncoder()
			for range 3 { // a sensitive one is not indexed at the second sight either
				block := e.Append(nil, fields)
				if c.sensitive {
					require.Equal(t, c.block, hex.EncodeToString(block))
				}
			}
			require.Equal(t, c.block, hex.EncodeToString(NewEncoder().Append(nil, fields)))
		})
	}
}
