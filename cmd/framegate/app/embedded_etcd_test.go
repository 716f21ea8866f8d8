package app

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testcert"
)

func TestServe_RefusesAnEmbeddedEtcdThatAnybodyCouldWrite(t *testing.T) {
	t.Parallel()
	const want = `etcd.embedded.address: "0.0.0.0:2379", want a loopback address, or cert_file beside etcd.username, or insecure: true`
	for _, embedded := range []string{
		"embedded: {address: 0.0.0.0:2379}",
		"embedded: {address: 0.0.0.0:2379, cert_file: cert.pem, key_file: key.pem}",
		"username: root, password: p, embedded: {address: 0.0.0.0:2379}",
	} {
		_, stderr, code := runHere(t, "serve", "--config", writeFile(t, "etcd: {"+embedded+"}"))
		require.Equal(t, 2, code)
		require.Contains(t, stderr, want)
	}
	_, stderr, code := runHere(t, "serve", "--config", writeFile(t, "etcd: {username: root, ca_file: ca.pem}"))
	require.Equal(t, 2, code)
	require.Contains(t, stderr, `etcd.username: "root" without a password, want both or none`)
	require.Contains(t, stderr, `etcd.ca_file: "ca.pem", want it with the endpoints of an etcd elsewhere`)
}

// An embedded etcd beyond loopback, with TLS and a user, serves the gateway itself, other gateways and every command.
func TestServe_EmbeddedEtcdWithTLSAndAUserServesOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testcert.NewAuthority(t, dir)
	cert, key := ca.Issue(t, dir, "server")
	clientCert, clientKey := ca.Issue(t, dir, "client")
	one, two, admin := loopback.Address(t), loopback.Address(t), loopback.Address(t)
	first := startServer(t, "--config", writeFile(t, fmt.Sprintf(`
listeners: [{name: main, address: %q}]
admin: {address: %q}
register: {service: gates}
etcd:
  username: root
  password: s3cret
  dial_timeout: 1m
  embedded: {dir: %q, address: ":0", cert_file: %q, key_file: %q, client_ca_file: %q}
`, one, admin, filepath.Join(dir, "data"), cert, key, ca.File)))
	require.Eventually(t, func() bool { return checkHealth(one) == nil }, processLimit, 5*time.Millisecond, first.log)
	listening := regexp.MustCompile(`msg="embedded etcd" address=(https://127\.0\.0\.1:\d+) `).FindStringSubmatch(first.log())
	require.Len(t, listening, 2, first.log())
	endpoint := listening[1]
	gateways := []string{one}
	if race.Choose(true, false) { // with the detector, each password takes a processor a second
		startServer(t, "--config", writeFile(t, fmt.Sprintf(`
listeners: [{name: main, address: %q}]
admin: {address: none}
etcd: {endpoints: [%q], dial_timeout: 1m, username: root, password: s3cret, ca_file: %q, cert_file: %q, key_file: %q, snapshot: ""}
`, two, endpoint, ca.File, clientCert, clientKey)))
		gateways = append(gateways, two)
	}

	etcd := []string{"--etcd", endpoint, "--etcd-cacert", ca.File, "--etcd-cert", clientCert, "--etcd-key", clientKey, "--timeout", "1m"}
	route := writeFile(t, "name: all\nmatch: [{method: '*'}]\nbackends: [{endpoints: [{address: '"+startSink(t)+"'}]}]\n")
	_, stderr, code := runFramegate(t, "", append([]string{"route", "put", "-f", route}, etcd...)...)
	require.NotZero(t, code, "without the user")
	require.Contains(t, stderr, "user name is empty")
	asUser := func(args ...string) (stdout, stderr string, code int) {
		cmd := framegate(t, append(append(args, etcd...), "--etcd-user", "root")...)
		cmd.Env = append(cmd.Env, etcdPasswordEnv+"=s3cret")
		return runProcess(t, cmd, "")
	}
	_, stderr, code = asUser("route", "put", "-f", route)
	require.Zero(t, code, stderr)
	for _, addr := range gateways {
		require.Eventually(t, func() bool { return callSink(addr) == nil }, processLimit, 20*time.Millisecond, "%s: %s", addr, first.log())
	}
	require.Eventually(t, func() bool {
		out, _, code := asUser("service", "list")
		return code == 0 && strings.Contains(out, "gates")
	}, processLimit, 100*time.Millisecond, "it registers itself")
}
