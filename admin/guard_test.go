package admin

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidateAddress_WantsLoopbackOrAToken(t *testing.T) {
	const wants = ", want a loopback address or admin.token set"
	for address, want := range map[string]string{
		"127.0.0.1:8889":          "",
		"127.8.8.8:0":             "",
		"[::1]:8889":              "",
		"[::ffff:127.0.0.1]:8889": "",
		"localhost:8889":          "",
		"0.0.0.0:8889":            `admin.address: "0.0.0.0:8889"` + wants,
		"[::]:8889":               `admin.address: "[::]:8889"` + wants,
		":8889":                   `admin.address: ":8889"` + wants,
		"192.0.2.1:8889":          `admin.address: "192.0.2.1:8889"` + wants,
		"name.invalid:8889":       `admin.address: "name.invalid:8889"` + wants + ": lookup name.invalid",
		"here":                    `admin.address: "here", want host:port`,
		"127.0.0.1:http":          `admin.address: "127.0.0.1:http", want host:port`,
		"127.0.0.1:65536":         `admin.address: "127.0.0.1:65536", want host:port`,
	} {
		err := ValidateAddress(address, "")
		if want == "" {
			require.NoError(t, err, address)
			continue
		}
		require.ErrorContains(t, err, want, address)
		_, listened := Listen(address, "")
		require.ErrorContains(t, listened, want, address)
	}
	for _, address := range []string{"0.0.0.0:8889", ":8889", "name.invalid:8889"} {
		require.NoError(t, ValidateAddress(address, "secret"))
	}
	require.EqualError(t, ValidateAddress("here", "a b"), "admin.token: want printable ASCII characters without spaces\nadmin.address: \"here\", want host:port or none")
}

func TestValidateAddress_NameOfThisMachineElsewhere(t *testing.T) {
	name := nameOfAnotherInterface(t)
	err := ValidateAddress(net.JoinHostPort(name, "8889"), "")
	require.ErrorContains(t, err, "want a loopback address or admin.token set")
}

// nameOfAnotherInterface returns an address of this machine that is not loopback, or one that stands for all.
func nameOfAnotherInterface(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	return "0.0.0.0"
}

func TestGuard_Token(t *testing.T) {
	c := startAPIAt(t, "0.0.0.0:0", Config{Token: "s3cret", Pprof: true})
	for _, path := range []string{"/healthz", "/readyz"} {
		require.Equal(t, 200, c.do("GET", path, "").code, path)
	}
	for _, path := range []string{"/", "/other", "/metrics", "/v1/routes", "/v1/openapi.json", "/debug/pprof/", "/healthz/../v1/routes", "//v1/routes"} {
		for _, given := range []string{"", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "s3cret"} {
			a := c.do("GET", path, "", header("Authorization", given))
			require.Equal(t, 401, a.code, "%s %q", path, given)
			require.Equal(t, `Bearer realm="framegate admin"`, a.header.Get("WWW-Authenticate"))
		}
	}
	c.fails(401, reasonUnauthorized, "PUT", "/v1/routes/echo", "{}")
	for _, given := range []string{"Bearer s3cret", "bearer s3cret"} {
		require.Equal(t, 200, c.do("GET", "/v1/openapi.json", "", header("Authorization", given), host("admin.example.com")).code)
	}
}

func TestGuard_WithoutATokenNoOtherSite(t *testing.T) {
	c := startAPI(t, Config{})
	_, port, err := net.SplitHostPort(c.server.Addr().String())
	require.NoError(t, err)
	for _, good := range []string{"127.0.0.1:" + port, "127.0.0.1", "[::1]:" + port, "[::1]", "localhost:" + port, "LOCALHOST", "10.0.0.1"} {
		require.Equal(t, 200, c.do("GET", "/v1/openapi.json", "", host(good)).code, good)
	}
	for _, bad := range []string{"evil.example", "evil.example:" + port, "localhost.evil.example", "127.0.0.1.nip.io:" + port, "[evil]", "0.0.0.0:" + port} {
		require.Contains(t, c.fails(403, reasonHostNotAllowed, "GET", "/v1/openapi.json", "", host(bad)), "want an IP address or localhost, or admin.token set")
		require.Equal(t, 200, c.do("GET", "/healthz", "", host(bad)).code, "a probe by another name")
	}
	for _, good := range []string{"same-origin", "none"} {
		require.Equal(t, 200, c.do("GET", "/v1/openapi.json", "", header("Sec-Fetch-Site", good)).code, good)
	}
	c.fails(403, reasonCrossSite, "GET", "/v1/openapi.json", "", header("Sec-Fetch-Site", "cross-site"))
	c.fails(403, reasonCrossSite, "PUT", "/v1/routes/echo", "{}", header("Sec-Fetch-Site", "cross-site"))
	c.fails(403, reasonCrossSite, "PUT", "/v1/routes/echo", "{}", header("Sec-Fetch-Site", "same-site"))
	c.fails(403, reasonCrossSite, "DELETE", "/v1/routes/echo", "", header("Origin", "http://evil.example"))
	c.fails(501, reasonNoEtcd, "DELETE", "/v1/routes/echo", "", header("Origin", "http://"+c.server.Addr().String()))
}
