package hpack

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	xhpack "golang.org/x/net/http2/hpack"
)

// Lists that come again and again are decoded as what they are, whatever enters and leaves the table between them, and however the peer
// sizes it.
func TestEncoder_ListsThatComeAgain(t *testing.T) {
	var fields []*Field
	for i := range 60 {
		fields = append(fields, NewField("name-"+strconv.Itoa(i), strings.Repeat("v", i), i%20 == 0))
	}
	fields = append(fields, NewField(":method", "POST", false), NewField("grpc-timeout", "1S", false))
	var lists [][]*Field
	for range 12 {
		var list []*Field
		for range 1 + rand.IntN(6) {
			list = append(list, fields[rand.IntN(len(fields))])
		}
		lists = append(lists, list)
	}
	e := NewEncoder()
	var got []string
	d := xhpack.NewDecoder(4096, func(f xhpack.HeaderField) { got = append(got, f.Name+"="+f.Value) })
	d.SetAllowedMaxDynamicTableSize(4096)
	kept := 0
	for range 20_000 {
		switch rand.IntN(500) {
		case 0:
			e.SetMaxTableSize(uint32(rand.IntN(600)))
		case 1:
			e.SetMaxTableSize(4096)
		case 2:
			e.Shrink()
		}
		list := lists[min(rand.IntN(len(lists)), rand.IntN(len(lists)))]
		if e.recent != nil && e.recent.find(list, e.epoch) != nil {
			kept++
		}
		var want []string
		for _, f := range list {
			want = append(want, f.Name+"="+f.Value)
		}
		got = nil
		_, err := d.Write(e.Append(nil, list))
		require.NoError(t, err)
		require.NoError(t, d.Close())
		require.Equal(t, want, got)
	}
	require.Greater(t, kept, 2000)
}
