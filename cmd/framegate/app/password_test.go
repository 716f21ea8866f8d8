package app

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Passwords in URLs, where they are taken and where they are mistakes, are in no error.
func TestRun_ErrorsHaveNoPasswordsOfURLs(t *testing.T) {
	t.Parallel()
	route := document(t, `{name: a, match: [{method: "*", authority: "http://u:s3cret@h"}], authority: "u:s3cret@h:1 ", backends: [{endpoints: [{address: "http://u:s3cret@h:1"}]}]}`)
	wrongShape := document(t, `{name: a, match: [{method: "*"}], backends: "http://u:s3cret@h:1"}`)
	for what, args := range map[string][]string{
		"etcd":              {"route", "list", "--etcd", "http://u:s3cret@127.0.0.1:1"},
		"etcd, no scheme":   {"service", "list", "--etcd", "u:s3cret@127.0.0.1:1"},
		"two etcds":         {"route", "list", "--etcd", "https://u:s3cret@127.0.0.1:1,http://u:s3cret@127.0.0.1:2"},
		"etcd of register":  {"service", "register", "--name", "a", "--address", "h:1", "--etcd", "http://u:s3cret@h:1"},
		"instance":          {"service", "register", "--name", "a", "--address", "http://u:s3cret@h:1"},
		"admin":             {"endpoint", "list", "--admin", "http://u:s3cret@127.0.0.1:1"},
		"admin, odd scheme": {"endpoint", "list", "--admin", "ftp://u:s3cret@127.0.0.1:1"},
		"admin, no URL":     {"endpoint", "list", "--admin", "http://u:s3c ret@%zz"},
		"tap":               {"tap", "*", "--admin", "http://u:s3cret@127.0.0.1:1"},
		"explain":           {"route", "explain", "/a.B/C", "--admin", "http://u:s3cret@127.0.0.1:1"},
		"bench":             {"bench", "--target", "http://u:s3cret@h:1"},
		"bench's baseline":  {"bench", "--target", "h:1", "--baseline", "u:s3cret@h:1"},
		"listen":            {"serve", "--listen", "http://u:s3cret@h:1"},
		"serve's admin":     {"serve", "--admin", "http://u:s3cret@h:1"},
		"serve's etcd":      {"serve", "--etcd", "http://u:s3cret@h:1"},
		"tracing":           {"serve", "--config", document(t, `tracing: {endpoint: "http://u:s3cret@h:4317"}`)},
		"a wrong type":      {"serve", "--config", document(t, `etcd: {endpoints: {a: "http://u:s3cret@h:1"}}`)},
		"a wrong scalar":    {"serve", "--config", document(t, `drain: {timeout: "http://u:s3cret@h:1"}`)},
		"embedded":          {"serve", "--config", document(t, `etcd: {embedded: {address: "http://u:s3cret@h:1"}}`)},
		"register":          {"serve", "--config", document(t, `register: {service: a, address: "http://u:s3cret@h:1"}`)},
		"a route":           {"route", "validate", "-f", route},
		"a wrong route":     {"route", "validate", "-f", wrongShape},
	} {
		var out bytes.Buffer
		require.NotZero(t, Run(context.Background(), args, strings.NewReader(""), &out, &out), what)
		require.NotContains(t, out.String(), "s3c", what)
		require.NotEmpty(t, out.String(), what)
	}
}
