package mirrors

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/idl"
	"github.com/framegate/framegate/test/testbed"
)

// shop is a backend of shop.Shop/Price.
type shop struct {
	addr  string
	items chan string // of each request
}

// newShop starts a shop in which everything costs as many cents as its name has letters. Its answers have field 9, which the
// schema does not know, with that text, unless it is empty.
func newShop(t testing.TB, unknown string) *shop {
	return startShop(t, unknown, func(item string) uint64 { return uint64(len(item)) })
}

// newShopPricing starts a shop with prices of its own.
func newShopPricing(t testing.TB, price func(item string) uint64) *shop {
	return startShop(t, "", price)
}

func startShop(t testing.TB, unknown string, price func(item string) uint64) *shop {
	s := &shop{items: make(chan string, 100)}
	s.addr = testbed.NewRaw(t, func(stream grpcStream) error {
		m, err := testbed.Recv(stream)
		if err != nil {
			return err
		}
		_, n := protowire.ConsumeBytes(m[1:])
		item := m[2 : n+1]
		s.items <- string(item)
		reply := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), item)
		reply = protowire.AppendVarint(protowire.AppendTag(reply, 2, protowire.VarintType), price(string(item)))
		if unknown != "" {
			reply = protowire.AppendString(protowire.AppendTag(reply, 9, protowire.BytesType), unknown)
		}
		return testbed.Send(stream, reply)
	})
	return s
}

// shopRoute is a routes document with the shop's schema, which it writes to a file.
func shopRoute(t testing.TB, backend, keys string) string {
	file := filepath.Join(t.TempDir(), "shop.proto")
	require.NoError(t, os.WriteFile(file, idl.Shop, 0o600))
	return fmt.Sprintf("name: shop\nmatch: [{method: /shop.Shop/*}]\nschema: {files: [%q]}\nbackends: [{endpoints: [{address: %q}]}]\n%s", file, backend, keys)
}

// buy asks for the price of an item.
func buy(t testing.TB, p *testbed.Proxy, item, tenant string) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(within(t), "x-tenant", tenant)
	request := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), item)
	var reply []byte
	require.NoError(t, testbed.DialGRPC(t, p.Addr).Invoke(ctx, "/shop.Shop/Price", &request, &reply))
}
