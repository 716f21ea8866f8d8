package conf

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// vary gives every value below v another one.
func vary(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			vary(v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Struct {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			return
		}
		for i := range v.Len() {
			vary(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"k": "v"}))
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Float64:
		v.SetFloat(v.Float() + 0.25)
	case reflect.Uint32, reflect.Uint64, reflect.Uint:
		v.SetUint(v.Uint() + 1)
	default:
		v.SetInt(v.Int() + 1)
	}
}

func keys(all []Difference) (names []string) {
	for _, d := range all {
		names = append(names, index.ReplaceAllString(d.Key, "[]"))
	}
	slices.Sort(names)
	return names
}

func TestReload_TakesWhatMayChangeAndNamesTheRest(t *testing.T) {
	c, next := Default(), Default()
	vary(reflect.ValueOf(next).Elem())
	next.Listeners[0].Name = c.Listeners[0].Name
	before := Default()
	got, changed, fixed, err := c.Reload(next)
	require.NoError(t, err)
	require.Equal(t, before, c, "is as it was")

	want := Default()
	want.Listeners[0].MaxConnections, want.Listeners[0].MaxCalls = next.Listeners[0].MaxConnections, next.Listeners[0].MaxCalls
	want.Admin.Token, want.Routes, want.Limits.MaxMessageBytes, want.Drain = next.Admin.Token, next.Routes, next.Limits.MaxMessageBytes, next.Drain
	want.Limits.MaxHealthWatches, want.Mirrors = next.Limits.MaxHealthWatches, next.Mirrors
	want.Log, want.AccessLog, want.Services.Allow = next.Log, next.AccessLog, next.Services.Allow
	require.Equal(t, want, got)
	require.ElementsMatch(t, changeable, keys(changed))
	for _, key := range []string{"listeners[].address", "admin.address", "etcd.endpoints", "etcd.password", "upstream.connections.max", "compression", "register.tags", "tracing.sample"} {
		require.Contains(t, keys(fixed), key)
	}
	for _, d := range slices.Concat(changed, fixed) {
		if strings.HasSuffix(d.Key, "token") || strings.HasSuffix(d.Key, "password") {
			require.Equal(t, []string{"", "(hidden)"}, []string{d.InForce, d.Read}, d.Key)
		}
	}
	_, changed, fixed, err = c.Reload(Default())
	require.NoError(t, err)
	require.Empty(t, changed)
	require.Empty(t, fixed)
}

func TestReload_ASecretThatChangesIsNamedAndNotShown(t *testing.T) {
	c, next := Default(), Default()
	c.Admin.Token, next.Admin.Token = "old-secret", "new-secret"
	c.Etcd.Password, next.Etcd.Password = "old-secret", "new-secret"
	got, changed, fixed, err := c.Reload(next)
	require.NoError(t, err)
	require.Equal(t, []Difference{{"admin.token", "(hidden)", "(hidden)"}}, changed)
	require.Equal(t, []Difference{{"etcd.password", "(hidden)", "(hidden)"}}, fixed)
	require.Equal(t, "new-secret", got.Admin.Token)
	require.Equal(t, "old-secret", got.Etcd.Password)
}

// A file that is being written, or was cut, opens nothing that is closed.
func TestReload_TakesNoGuardAway(t *testing.T) {
	const file = "admin:\n  token: secret\nroutes:\n  file: routes.yaml\nservices:\n  allow: [10.0.0.0/8]\n"
	c, err := Parse([]byte(file))
	require.NoError(t, err)
	lines := strings.SplitAfter(file, "\n")
	for n := range len(lines) - 1 { // the last is empty
		cut, err := Parse([]byte(strings.Join(lines[:n], "")))
		require.NoError(t, err)
		_, _, _, err = c.Reload(cut)
		require.ErrorContains(t, err, "services.allow: back to its default, want a value, or a restart to take it away", "%d lines", n)
		require.Equal(t, n < 2, strings.Contains(err.Error(), "admin.token: "), "%d lines", n)
		require.Equal(t, n < 4, strings.Contains(err.Error(), "routes.file: "), "%d lines", n)
		require.NotContains(t, err.Error(), "secret")
	}
	path := filepath.Join(t.TempDir(), "framegate.yaml")
	for _, nothing := range []string{"", "\n\n", "# a comment", "null", "---", "--- ~", "{}", "---\n# nothing\n..."} {
		require.NoError(t, os.WriteFile(path, []byte(nothing), 0o600))
		_, err := LoadAgain(path)
		require.ErrorContains(t, err, path+": it says nothing, want a configuration", "%q", nothing)
	}
	require.NoError(t, os.WriteFile(path, []byte("log: {level: warn}"), 0o600))
	got, err := LoadAgain(path)
	require.NoError(t, err)
	require.Equal(t, "warn", got.Log.Level)
}

func TestReload_ListenersGoByTheirNames(t *testing.T) {
	c, err := Parse([]byte(`listeners: [{name: a, address: "127.0.0.1:1"}, {name: b, address: "127.0.0.1:2"}]`))
	require.NoError(t, err)
	next, err := Parse([]byte(`{drain: {timeout: 1m}, listeners: [{name: b, address: "127.0.0.1:2", max_calls: 7}, {name: c, address: "127.0.0.1:3"}, {name: a, address: "127.0.0.1:4"}]}`))
	require.NoError(t, err)
	got, changed, fixed, err := c.Reload(next)
	require.NoError(t, err)
	require.Equal(t, []Difference{{"listeners[1].max_calls", "0", "7"}, {"drain.timeout", "30s", "1m0s"}}, changed)
	require.Equal(t, []Difference{{"listeners", "a, b", "a, b, c"}, {"listeners[0].address", "127.0.0.1:1", "127.0.0.1:4"}}, fixed)
	require.Equal(t, 7, got.Listeners[1].MaxCalls)
	require.Zero(t, c.Listeners[1].MaxCalls)
	require.Equal(t, time.Minute, got.Drain.Timeout)
	require.Len(t, got.Listeners, 2)
}

func TestReload_KeysAreNamedInTheReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for _, key := range changeable {
		require.True(t, strings.Contains(string(readme), "`"+key+"`"), key)
	}
}
