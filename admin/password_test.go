package admin

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/etcdclient"
)

// Neither answers to bad documents nor the state of those in etcd have passwords of URLs in them.
func TestRoutes_ErrorsHaveNoPasswordsOfURLs(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	c := startAPI(t, Config{Control: e.control()})
	cli, err := etcdclient.New(etcdclient.Config{Endpoints: []string{e.server.Endpoint()}})
	require.NoError(t, err)
	defer cli.Close()
	for _, doc := range []string{
		`{name: echo, match: [{method: "*"}], backends: [{endpoints: [{address: "http://u:s3cret@h:1"}]}]}`,
		`{name: echo, match: [{method: "*"}], backends: "http://u:s3cret@h:1"}`,
		`{name: echo, match: [{method: "*"}], authority: "http://u:s3cret@h ", backends: [{endpoints: [{address: "h:1"}]}]}`,
	} {
		a := c.do("PUT", "/v1/routes/echo", doc)
		require.Equal(t, 400, a.code, doc)
		require.NotContains(t, a.body, "s3cret")
		_, err := cli.Put(t.Context(), "/framegate/routes/echo", doc)
		require.NoError(t, err)
		var last answer
		eventually(t, "it is rejected", func() bool {
			last = c.do("GET", "/v1/routes", "")
			return last.code == 200 && strings.Contains(last.body, `"error"`)
		})
		require.NotContains(t, last.body, "s3cret")
	}
	a := c.do("PUT", instancePath("echo", "u:s3cret@h:1"), "")
	require.Equal(t, 400, a.code)
	require.NotContains(t, a.body, "s3cret")
}
