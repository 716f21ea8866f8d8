package admin

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/idl"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

const shopRoute = `
name: shop
match: [{method: /shop.Shop/*}]
mode: struct
schema: {name: shop}
struct:
  rules:
  - {on: request, method: /shop.Shop/Price, when: 'message.item == "beer"', action: reject, status: {code: PERMISSION_DENIED}}
  - {on: response, action: redact, fields: [item]}
  - {on: request, method: /shop.Shop/Watch, action: header, set: {x-item: message.item}}
backends: [{name: main, endpoints: [{address: "127.0.0.1:9003"}]}]
`

func TestSchemas_AreShownAndCheckRoutes(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	control := e.control()
	control.Schemas = e.source.Schemas
	c := startAPI(t, Config{Control: control})
	require.JSONEq(t, `{"schemas": []}`, c.do("GET", "/v1/schemas", "").body)

	path := filepath.Join(t.TempDir(), "shop.proto")
	require.NoError(t, os.WriteFile(path, idl.Shop, 0o600))
	s, err := schema.Load(t.Context(), []string{path}, nil)
	require.NoError(t, err)
	put, err := e.schemas.Put(t.Context(), "shop", s)
	require.NoError(t, err)
	eventually(t, "the schema is in force", func() bool {
		return len(e.source.Schemas()) == 1
	})
	require.JSONEq(t, `{"schemas": [{"name": "shop", "methods": ["/shop.Shop/Price", "/shop.Shop/Watch"], "revision": 2, "latest_revision": 2}]}`,
		c.do("GET", "/v1/schemas", "").body)
	require.EqualValues(t, 2, put.Revision)

	require.Equal(t, 201, c.do("PUT", "/v1/routes/shop", shopRoute).code)
	eventually(t, "the route is in force", func() bool { return len(e.resolver.Routes()) == 1 })
	require.JSONEq(t, `{
		"chosen": {"route": "shop", "priority": 0, "match": "/shop.Shop/*"}, "stronger": [], "backends": ["127.0.0.1:9003"],
		"mode": "struct", "schema": "shop",
		"rules": ["request: reject with PERMISSION_DENIED when message.item == \"beer\"", "response: redact item"],
		"target": {"backend": "main", "address": "127.0.0.1:9003"}
	}`, c.do("GET", "/v1/explain?"+url.Values{"method": {"/shop.Shop/Price"}}.Encode(), "").body)
	require.Contains(t, c.do("GET", "/v1/routes/shop", "").body, `"mode":"struct"`)
}

func TestTap_NeedsToBeProvided(t *testing.T) {
	c := startAPI(t, Config{Control: Control{Tap: func(spec.Pattern, int, string) (*handler.TapSession, error) { return nil, handler.ErrTapsOff }}})
	c.fails(501, reasonNotProvided, "GET", "/v1/tap?method=*", "")
	c.fails(400, reasonBadParameter, "GET", "/v1/tap?method=shop", "")
	c.fails(400, reasonBadParameter, "GET", "/v1/tap?method=*&rate=1001", "")
	c.fails(400, reasonBadParameter, "GET", "/v1/tap?method=*&count=0", "")
	c.fails(501, reasonNotProvided, "GET", "/v1/schemas", "")
}
