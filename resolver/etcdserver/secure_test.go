package etcdserver_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdserver"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testcert"
)

func TestConfig_BeyondLoopbackWantsTLSAndAUserOrInsecure(t *testing.T) {
	t.Parallel()
	const wants = ", want a loopback address, or cert_file beside etcd.username, or insecure: true"
	secure := etcdserver.Config{Dir: "d", CertFile: "c", KeyFile: "k", Username: "root", Password: "p"}
	tlsAlone, userAlone, insecure := secure, secure, etcdserver.Config{Dir: "d", Insecure: true}
	tlsAlone.Username, tlsAlone.Password = "", ""
	userAlone.CertFile, userAlone.KeyFile = "", ""
	for address, beyond := range map[string]bool{
		"": false, "127.0.0.1:2379": false, "127.8.8.8:0": false, "[::1]:2379": false, "localhost:2379": false, "[::ffff:127.0.0.1]:1": false,
		":2379": true, "0.0.0.0:2379": true, "[::]:2379": true, "192.0.2.1:2379": true, "[::ffff:192.0.2.1]:1": true, "[fe80::1]:1": true,
	} {
		for _, cfg := range []etcdserver.Config{secure, insecure} {
			cfg.Address = address
			require.NoError(t, cfg.Validate(), address)
		}
		for _, cfg := range []etcdserver.Config{{Dir: "d"}, tlsAlone, userAlone} {
			cfg.Address = address
			if beyond {
				require.EqualError(t, cfg.Validate(), `address: "`+address+`"`+wants)
			} else {
				require.NoError(t, cfg.Validate(), address)
			}
		}
	}
}

func TestConfig_NamesMistakesOfFiles(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]etcdserver.Config{
		`etcd cert_file: "c" with key_file "", want both files or none`:                           {Dir: "d", CertFile: "c"},
		`etcd cert_file: "" with key_file "k", want both files or none`:                           {Dir: "d", KeyFile: "k"},
		`etcd client_ca_file: "ca" without cert_file, want a certificate of the server too`:       {Dir: "d", ClientCAFile: "ca"},
		`etcd cert_file: "no" with key_file "nokey" and client_ca_file "", want PEM files: open `: {Dir: t.TempDir(), CertFile: "no", KeyFile: "nokey"},
	} {
		_, err := etcdserver.Start(t.Context(), cfg)
		require.ErrorContains(t, err, want)
	}
}

// everyPassword says whether all that may be tried is: under the race detector, a password takes a processor a second.
var everyPassword = race.Choose(true, false)

// patience is how long an answer may take on a busy machine, on which a password may take seconds.
const patience = 30 * time.Second

// get asks an etcd once.
func get(t *testing.T, cfg etcdclient.Config) error {
	t.Helper()
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, patience)
	cli, err := etcdclient.New(cfg)
	if err != nil {
		return err
	}
	defer cli.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = cli.Get(ctx, "k")
	return err
}

func TestStart_ServesAUserOverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testcert.NewAuthority(t, dir)
	cert, key := ca.Issue(t, dir, "server")
	cfg := etcdserver.Config{Dir: t.TempDir(), Address: ":0", CertFile: cert, KeyFile: key, Username: "gates", Password: "first"}
	s := start(t, cfg)
	good := etcdclient.Config{Endpoints: []string{"https://" + s.Endpoint()}, CAFile: ca.File, Username: "gates", Password: "first"}
	require.NoError(t, get(t, good))
	nobody, wrong, other := good, good, good
	nobody.Username, nobody.Password = "", ""
	wrong.Password = "second"
	other.Username = "guest"
	require.ErrorIs(t, get(t, nobody), rpctypes.ErrUserEmpty)
	if everyPassword {
		within := etcdclient.Config{Endpoints: []string{s.Endpoint()}, Username: "gates", Password: "first", Dial: s.Dial}
		require.NoError(t, get(t, within), "within the process there is no TLS")
		require.ErrorIs(t, get(t, wrong), rpctypes.ErrAuthFailed)
		require.ErrorIs(t, get(t, other), rpctypes.ErrAuthFailed)
		plain := good
		plain.Endpoints, plain.CAFile, plain.DialTimeout = []string{s.Endpoint()}, "", 2*time.Second
		require.Error(t, get(t, plain))
	}
	within := etcdclient.Config{Endpoints: []string{s.Endpoint()}, Dial: s.Dial}
	require.ErrorIs(t, get(t, within), rpctypes.ErrUserEmpty)
	require.NoError(t, s.Close())

	cfg.Password = "second" // as the configuration has it
	s = start(t, cfg)
	wrong.Endpoints, good.Endpoints = []string{"https://" + s.Endpoint()}, []string{"https://" + s.Endpoint()}
	require.NoError(t, get(t, wrong))
	if everyPassword {
		require.ErrorIs(t, get(t, good), rpctypes.ErrAuthFailed)
	}
	require.NoError(t, s.Close())

	cfg.Username, cfg.Password, cfg.Insecure = "", "", true
	_, err := etcdserver.Start(t.Context(), cfg)
	require.ErrorContains(t, err, "it has users, want etcd.username and etcd.password of one")

	if !everyPassword {
		return
	}
	cfg.Username, cfg.Password = "root", "third"
	s = start(t, cfg)
	root := etcdclient.Config{Endpoints: []string{"https://" + s.Endpoint()}, CAFile: ca.File, Username: "root", Password: "third"}
	require.NoError(t, get(t, root))
}

func TestStart_WantsClientCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testcert.NewAuthority(t, dir)
	cert, key := ca.Issue(t, dir, "server")
	s := start(t, etcdserver.Config{Dir: t.TempDir(), Address: anyPort, CertFile: cert, KeyFile: key, ClientCAFile: ca.File})
	clientCert, clientKey := ca.Issue(t, dir, "root") // its name gives no rights: the user does
	good := etcdclient.Config{Endpoints: []string{"https://" + s.Endpoint()}, CAFile: ca.File, CertFile: clientCert, KeyFile: clientKey}
	require.NoError(t, get(t, good))

	pem, err := os.ReadFile(ca.File)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	nc, err := tls.Dial("tcp", s.Endpoint(), &tls.Config{RootCAs: roots, NextProtos: []string{"h2"}})
	if err == nil { // with TLS 1.3 the client hears of it when it reads
		defer nc.Close()
		require.NoError(t, nc.SetDeadline(time.Now().Add(patience)))
		for err == nil {
			_, err = nc.Read(make([]byte, 1024))
		}
	}
	require.True(t, strings.Contains(err.Error(), "certificate required") || strings.Contains(err.Error(), "reset"), err)
}

// A user who is asked for a password is one on loopback too.
func TestStart_AUserOnLoopbackNeedsNoTLS(t *testing.T) {
	t.Parallel()
	s := start(t, etcdserver.Config{Dir: t.TempDir(), Address: anyPort, Username: "root", Password: "p"})
	require.NoError(t, get(t, etcdclient.Config{Endpoints: []string{s.Endpoint()}, Username: "root", Password: "p"}))
	require.ErrorIs(t, get(t, etcdclient.Config{Endpoints: []string{s.Endpoint()}}), rpctypes.ErrUserEmpty)
	// Watches and leases too, which a framegate that follows it and a service that registers need.
	cli, err := etcdclient.New(etcdclient.Config{Endpoints: []string{s.Endpoint()}, Username: "root", Password: "p"})
	require.NoError(t, err)
	defer cli.Close()
	events := cli.Watch(t.Context(), "k", clientv3.WithCreatedNotify())
	require.True(t, (<-events).Created)
	lease, err := cli.Grant(t.Context(), 10)
	require.NoError(t, err)
	_, err = cli.Put(t.Context(), "k", "v", clientv3.WithLease(lease.ID))
	require.NoError(t, err)
	require.Equal(t, "v", string((<-events).Events[0].Kv.Value))
}

// Who renames the user has taken the password away from the one before, but not from those that etcdctl made.
func TestStart_AUserOfAnotherNameTakesThePlaceOfTheOneBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	as := func(s *etcdserver.Server, name, password string) etcdclient.Config {
		return etcdclient.Config{Endpoints: []string{s.Endpoint()}, Username: name, Password: password}
	}
	begin := func(name, password string) *etcdserver.Server {
		return start(t, etcdserver.Config{Dir: dir, Address: anyPort, Username: name, Password: password})
	}
	s := begin("a", "one")
	cli, err := etcdclient.New(as(s, "a", "one"))
	require.NoError(t, err)
	_, err = cli.UserAdd(t.Context(), "operator", "o")
	require.NoError(t, err)
	_, err = cli.UserGrantRole(t.Context(), "operator", "root")
	require.NoError(t, err)
	require.NoError(t, cli.Close())
	names := []string{"b", "a", "root", "a"}
	if !everyPassword {
		names = names[:1]
	}
	for _, now := range names {
		require.NoError(t, s.Close())
		s = begin(now, "of "+now)
		require.NoError(t, get(t, as(s, now, "of "+now)))
		if everyPassword {
			require.NoError(t, get(t, as(s, "operator", "o")))
		}
		require.NoError(t, get(t, as(s, "root", "of "+now)), "who has the password of the user that there is")
		for _, gone := range []string{"a", "b"} {
			for _, password := range []string{"one", "of " + gone} {
				if gone != now {
					require.Error(t, get(t, as(s, gone, password)), "%s after %s", gone, now)
				}
			}
		}
	}
}

func TestStart_HasABoundOfConnections(t *testing.T) {
	t.Parallel()
	s := start(t, etcdserver.Config{Dir: t.TempDir(), Address: anyPort, MaxConnections: 4})
	refused := 0
	for range 12 {
		nc, err := net.Dial("tcp", s.Endpoint())
		if err == nil {
			defer nc.Close()
			require.NoError(t, nc.SetReadDeadline(time.Now().Add(patience)))
			_, err = nc.Read(make([]byte, 1)) // SETTINGS, or the reset
		}
		if err != nil {
			require.ErrorIs(t, err, syscall.ECONNRESET)
			refused++
		}
	}
	require.Equal(t, 8, refused)
	within := etcdclient.Config{Endpoints: []string{s.Endpoint()}, Dial: s.Dial}
	require.NoError(t, get(t, within), "the process itself has its own connection")
}
