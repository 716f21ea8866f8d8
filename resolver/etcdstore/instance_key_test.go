package etcdstore

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
)

func TestServiceKey_SplitsAtTheService(t *testing.T) {
	require.Equal(t, "kitex/registry-etcd/echo/127.0.0.1:9001", ServiceKey(DefaultServicePrefix, "echo", "127.0.0.1:9001"))
	for _, c := range []struct{ service, address string }{
		{"echo", "127.0.0.1:9001"}, {"a.b-c_D", "unix:/run/echo/e.sock"}, {"echo.Echo", "/run/echo.sock"}, {"服务", "[::1]:1"},
	} {
		service, address, ok := SplitServiceKey("/p", ServiceKey("/p", c.service, c.address))
		require.True(t, ok)
		require.Equal(t, c.service, service)
		require.Equal(t, c.address, address)
	}
	for _, key := range []string{"", "/p", "/p/", "/p/echo", "/p/echo/", "/p//h:1", "/px/echo/h:1", "/p/a b/h:1", "other/echo/h:1"} {
		_, _, ok := SplitServiceKey("/p", key)
		require.False(t, ok, key)
	}
}

func TestServiceNamesAndPrefixes(t *testing.T) {
	for _, bad := range []string{"", "a/b", "a b", "a\n", "\xff", strings.Repeat("x", 256)} {
		require.ErrorContains(t, spec.ValidServiceName(bad), "want 1 to 255 printable characters without spaces and slashes", bad)
	}
	require.NoError(t, spec.ValidServiceName("echo.v1_Echo-2"))
	for _, bad := range []string{"/", "a/", "a b", "a%", "a\x00"} {
		require.ErrorContains(t, ValidateServicePrefix(bad), "want a prefix such as kitex/registry-etcd", bad)
	}
	for _, good := range []string{DefaultServicePrefix, "/framegate/services", "x", ""} {
		require.NoError(t, ValidateServicePrefix(good))
	}
}

func TestIsForeign_TellsKeysByTheirEnd(t *testing.T) {
	for name, want := range map[string]bool{
		"echo/h:1": false, "echo/127.0.0.1:65535": false, "echo/[::1]:9001": false, "echo/::1:9001": false, "echo//run/e.sock": false,
		"echo/unix:/run/e.sock": false,
		"":                      true, "echo": true, "echo/": true, "/h:1": true, "a b/h:1": true, "framegate/routes/echo": true, "framegate/schemas/a:1": true,
		"a/b": true, "a/:1": true, "a/h:": true, "a/h:65536": true, "a/h:x": true, "a/b/c": true,
	} {
		require.Equal(t, want, IsForeign("", name), name)
		require.False(t, IsForeign("/p", name), "with a prefix all keys are ours: %s", name)
	}
}

// Whatever is the address of an instance can be read from its key.
func FuzzServiceKey(f *testing.F) {
	for _, address := range []string{"127.0.0.1:9001", "[::1]:1", "unix:/run/echo/e.sock", "echo.svc:80"} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if spec.ValidateAddress(address) != nil {
			return
		}
		key := ServiceKey(DefaultServicePrefix, "echo", address)
		service, got, ok := SplitServiceKey(DefaultServicePrefix, key)
		require.True(t, ok && service == "echo" && got == address, key)
	})
}
